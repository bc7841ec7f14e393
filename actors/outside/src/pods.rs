//! Probe pods: on which nodes, what they ask, how they are spelled, and what they left.
//!
//! Each is the pod of a Job of its own. The Job has a deadline, after which its pod is killed, and a time to live, after which
//! the control plane removes both: that is what an interruption leaves, and for how long.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nameward_cluster::names::IGNORE;
use nameward_cluster::wire::{Job, NodeWithAddresses, ProbePod};
use nameward_messages::targets::{DnsPod, DnsService, Transport};
use nameward_messages::{NodeName, ObjectKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::asking::{Answer, Answers, Plan};

/// Nodes that are chosen when none is named.
pub const CHOSEN: usize = 3;
/// Most nodes that may be named.
pub const MOST: usize = 16;
/// CoreDNS pods that a probe pod asks.
const ASKED_PODS: usize = 10;
/// Seconds until the control plane kills a probe pod: an image may have to be pulled.
pub const DEADLINE_S: u32 = 90;
/// Seconds after its end until the control plane removes it.
pub const TIME_TO_LIVE_S: u32 = 60;
/// The image of this very version, as the chart names it.
pub const IMAGE: &str = concat!("ghcr.io/nameward/nameward:", env!("CARGO_PKG_VERSION"));

/// `app.kubernetes.io/name` of a probe's Job and pod.
pub const NAME: &str = "nameward-probe";
/// Label: who started it, as a digest. Leftovers are looked for by it.
pub const ORIGIN: &str = "nameward.dev/origin";
/// Label: by which run.
pub const RUN: &str = "nameward.dev/run";
/// Label: which of the run's probes.
pub const INDEX: &str = "nameward.dev/probe";

/// A node that was named cannot be probed from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// There is none of this name.
    #[error("there is no node {name}; there are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The first few that are there.
        known: String,
    },
    /// It is not ready, so that no pod would start there.
    #[error("node {0} is not ready: no pod would start there")]
    NotReady(String),
    /// Too many are named.
    #[error("{0} nodes are named; at most {MOST} are probed at once")]
    TooMany(usize),
    /// No node is ready.
    #[error("no node is ready")]
    None,
}

/// The nodes to probe from: those that were named, else one with a CoreDNS pod and others without, [`CHOSEN`] at most.
///
/// # Errors
/// A named one is not there or not ready, or none is.
pub fn choose(nodes: &[NodeWithAddresses], dns: &[DnsPod], named: &[String]) -> Result<Vec<NodeName>, ChooseError> {
    if named.len() > MOST {
        return Err(ChooseError::TooMany(named.len()));
    }
    let name = |node: &NodeWithAddresses| NodeName(node.metadata.name.clone());
    let mut chosen = Vec::new();
    for wanted in named {
        let Some(node) = nodes.iter().find(|node| node.metadata.name == *wanted) else {
            let known: Vec<&str> = nodes.iter().take(8).map(|node| node.metadata.name.as_str()).collect();
            return Err(ChooseError::Unknown { name: wanted.clone(), known: known.join(", ") });
        };
        if !node.ready() {
            return Err(ChooseError::NotReady(wanted.clone()));
        }
        if !chosen.contains(&name(node)) {
            chosen.push(name(node));
        }
    }
    if !named.is_empty() {
        return Ok(chosen);
    }
    let hosts = |node: &NodeWithAddresses| dns.iter().any(|pod| pod.node.as_ref() == Some(&name(node)));
    let mut ready: Vec<&NodeWithAddresses> = nodes.iter().filter(|n| n.ready() && !n.spec.unschedulable).collect();
    ready.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let (with, without): (Vec<_>, Vec<_>) = ready.into_iter().partition(|node| hosts(node));
    let (mut with, mut without) = (with.into_iter(), without.into_iter());
    // One that has CoreDNS beside it, then those that must cross the network, then whatever is left.
    chosen.extend(with.next().map(name));
    chosen.extend(without.by_ref().take(CHOSEN - chosen.len()).map(name));
    chosen.extend(with.take(CHOSEN - chosen.len()).map(name));
    if chosen.is_empty() { Err(ChooseError::None) } else { Ok(chosen) }
}

/// What one ask of a probe pod's plan is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// The Service or the pod, for people.
    pub target: String,
    /// Where to.
    pub to: SocketAddr,
    /// How.
    pub transport: Transport,
    /// Which of the plan's questions.
    pub question: u8,
}

/// Fills a plan with what a pod must be able to reach: the Service by each cluster address, and every CoreDNS pod.
#[must_use]
pub fn aims(plan: &mut Plan, service: &DnsService, pods: &[DnsPod]) -> Vec<Aim> {
    let mut targets: Vec<(String, IpAddr, Option<u16>, Option<u16>)> = Vec::new();
    let (udp, tcp) = (service.udp_port.as_ref().map(|p| p.port), service.tcp_port.as_ref().map(|p| p.port));
    targets.extend(service.cluster_ips.iter().map(|ip| (format!("service {}", service.key.name), *ip, udp, tcp)));
    let asked = pods.iter().filter(|pod| pod.ready && !pod.terminating).take(ASKED_PODS);
    targets.extend(asked.filter_map(|pod| {
        pod.ips.first().map(|ip| (format!("pod {}", pod.key.name), *ip, pod.udp_port, pod.tcp_port))
    }));
    let mut all = Vec::new();
    for (target, ip, udp, tcp) in targets {
        for (transport, port) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
            let Some(port) = port else { continue };
            let (to, before) = (SocketAddr::new(ip, port), plan.asks.len());
            if !plan.add(to, transport) {
                return all;
            }
            let added = plan.asks.iter().skip(before);
            all.extend(added.map(|(_, _, question)| Aim {
                target: target.clone(),
                to,
                transport,
                question: *question,
            }));
        }
    }
    all
}

/// One run of probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where Jobs are made.
    pub namespace: String,
    /// The image.
    pub image: String,
    /// Who starts them: [`origin`].
    pub origin: String,
    /// This run's own number, random.
    pub id: String,
}

/// Stands for a machine and a user without telling either: a label's value.
#[must_use]
pub fn origin(machine: &str, user: &str) -> String {
    let digest = Sha256::digest(format!("nameward origin\n{machine}\n{user}").as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Run {
    /// Selects this run's pods.
    #[must_use]
    pub fn selector(&self) -> String {
        format!("app.kubernetes.io/name={NAME},{ORIGIN}={},{RUN}={}", self.origin, self.id)
    }

    /// Selects everything of this origin.
    #[must_use]
    pub fn selector_of_origin(&self) -> String {
        format!("app.kubernetes.io/name={NAME},{ORIGIN}={}", self.origin)
    }

    /// The Job with this number.
    #[must_use]
    pub fn key(&self, index: usize) -> ObjectKey {
        ObjectKey::new(self.namespace.clone(), format!("{NAME}-{}-{index}", self.id))
    }

    fn labels(&self, index: usize) -> Value {
        json!({
            "app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": "nameward",
            ORIGIN: self.origin, RUN: self.id, INDEX: index.to_string(),
        })
    }

    /// The Job that probes from one node.
    #[must_use]
    pub fn job(&self, index: usize, node: &NodeName, plan: &Plan) -> Value {
        let key = self.key(index);
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": self.labels(index)},
            "spec": {
                "completions": 1, "parallelism": 1, "backoffLimit": 0,
                "activeDeadlineSeconds": DEADLINE_S, "ttlSecondsAfterFinished": TIME_TO_LIVE_S,
                "template": {"metadata": self.template_metadata(index), "spec": self.pod_spec(node, plan)},
            },
        })
    }

    /// The Job's pod alone: to hear what forbids it.
    #[must_use]
    pub fn pod(&self, index: usize, node: &NodeName, plan: &Plan) -> Value {
        let mut metadata = self.template_metadata(index);
        metadata["generateName"] = json!(format!("{}-", self.key(index).name));
        metadata["namespace"] = json!(self.namespace);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.pod_spec(node, plan)})
    }

    fn template_metadata(&self, index: usize) -> Value {
        // An agent of the node need not find out about it what it finds out itself.
        json!({"labels": self.labels(index), "annotations": {IGNORE: "true"}})
    }

    fn pod_spec(&self, node: &NodeName, plan: &Plan) -> Value {
        json!({
            // Bound to its node without the scheduler, and whatever taints it: what is sick is what is asked about.
            "nodeName": node.as_str(),
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": DEADLINE_S,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "probe", "image": self.image, "imagePullPolicy": "IfNotPresent",
                "args": ["ask", plan.spelled()],
                "terminationMessagePath": TERMINATION_LOG, "terminationMessagePolicy": "File",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {
                    "requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "1Mi"},
                    "limits": {"cpu": "500m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
                },
            }],
        })
    }
}

/// Where a container leaves its last words: Kubernetes' default.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// How a probe pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It has not ended; what it waits for, if it says so.
    Waits(String),
    /// It has answered.
    Answered(Vec<Answer>),
    /// It has ended without an answer; why.
    Failed(String),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits(why) if why.is_empty() => f.write_str("has not answered yet"),
            Self::Waits(why) => write!(f, "waits: {why}"),
            Self::Answered(answers) => write!(f, "answered {} questions", answers.len()),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Which of a run's probes a pod is.
#[must_use]
pub fn index_of(pod: &ProbePod) -> Option<usize> {
    pod.metadata.labels.get(INDEX)?.parse().ok()
}

/// Reads how a probe pod stands. `asks`: how many answers are right.
#[must_use]
pub fn read(pod: &ProbePod, asks: usize) -> Probe {
    let status = &pod.status;
    let container = status.container_statuses.first();
    let ended = container.and_then(|c| c.state.terminated.as_ref());
    if let Some(answers) = ended.and_then(|end| Answers::parse(&end.message, asks)) {
        return Probe::Answered(answers);
    }
    let waiting = container.and_then(|c| c.state.waiting.as_ref());
    match (ended, status.phase.as_str()) {
        (_, "Failed") if !status.reason.is_empty() => {
            Probe::Failed(line(&format!("{} {}", status.reason, status.message)))
        }
        (Some(end), _) => {
            let words = format!("{} (exit {}) {}", end.reason, end.exit_code, end.message);
            Probe::Failed(line(&words))
        }
        (None, "Failed" | "Succeeded") => Probe::Failed("it ended without a word".to_owned()),
        // What will not change by itself is not waited for.
        (None, _) => match waiting {
            Some(waiting) if FINAL.contains(&waiting.reason.as_str()) => {
                Probe::Failed(line(&format!("{} {}", waiting.reason, waiting.message)))
            }
            Some(waiting) => Probe::Waits(line(&format!("{} {}", waiting.reason, waiting.message))),
            None => Probe::Waits(String::new()),
        },
    }
}

/// Reasons to wait that do not pass: the image cannot be had, or the container cannot be made of it.
const FINAL: [&str; 6] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// One line for people: no control characters, 300 characters at most.
fn line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(300).map(clean).collect::<String>().trim().to_owned()
}

/// What earlier runs of the same origin left: Jobs that have ended. One that still runs may be somebody's.
#[must_use]
pub fn leftovers(jobs: &[Job], run: &Run) -> Vec<(ObjectKey, String)> {
    let label = |job: &Job, name: &str| job.metadata.labels.get(name).cloned().unwrap_or_default();
    jobs.iter()
        .filter(|job| label(job, "app.kubernetes.io/name") == NAME && label(job, ORIGIN) == run.origin)
        .filter(|job| label(job, RUN) != run.id && job.ended())
        .filter(|job| job.metadata.deletion_timestamp.is_none() && !job.metadata.uid.is_empty())
        .map(|job| (job.metadata.key(), job.metadata.uid.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
