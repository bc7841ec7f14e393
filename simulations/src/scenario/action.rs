//! What can be done to the simulated cluster, and when.

use std::net::IpAddr;

use nameward_config::{Bytes, Period};
use serde::{Deserialize, Serialize};

use super::Plane;

/// A fault at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Time after the cluster was found healthy.
    #[serde(default = "at_once")]
    pub at: Period,
    /// And not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Moment>,
    /// Only in these data planes; in all of the scenario's if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planes: Vec<Plane>,
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
}

/// A moment in the course of a remedy, as the API server or the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// An incident bears an intent: a shared act is on its way.
    Intent,
    /// A shared act was carried out.
    Act,
    /// The kernel shows that the expected repair of a node has begun.
    Repair,
    /// No node bears a permit any more, while a repair that was made under one still stands.
    Withdrawn,
}

/// What goes wrong with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// What was asked is done, and the connection is closed instead of answering.
    LoseReply,
    /// Nothing is done, and 429 is answered.
    Throttle,
    /// They wait for `delay` before anything is done.
    Slow,
    /// What was asked is done, and answered after `delay`.
    SlowReply,
}

fn failure() -> u8 {
    1
}

fn at_once() -> Period {
    Period::secs(0)
}

/// What can be done to the cluster. Pods are named `coredns@node1`, `client-1@node2`: as they stood at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// A command for a CoreDNS stand-in, such as `udp close`, `udp stuck`, `servfail`. Lifted by `ok`.
    Dns {
        /// Which pod.
        pod: String,
        /// The command.
        command: String,
    },
    /// The same for the upstream resolver.
    Upstream {
        /// The command.
        command: String,
    },
    /// Commands of the system's network programs.
    Tool {
        /// Where: `node1`, a pod, `control`, or `wire` between the nodes.
        #[serde(rename = "in")]
        place: String,
        /// What is run, one after the other; the first that fails ends the scenario.
        run: Vec<String>,
        /// What takes it back, in this order.
        #[serde(default)]
        undo: Vec<String>,
        /// What each of `run` reads from its standard input.
        #[serde(default)]
        input: String,
    },
    /// Programs that run until the fault is lifted, such as `client query --server {service} --rate 50`.
    Run {
        /// Where, as for `tool`.
        #[serde(rename = "in")]
        place: String,
        /// What is started, all at once.
        run: Vec<String>,
    },
    /// A merge patch of an object, past everybody's rights. Lifted by a patch back.
    Api {
        /// Its kind, as `Service`.
        kind: String,
        /// Its namespace; none for what has none.
        #[serde(default)]
        namespace: String,
        /// Its name; of a pod also `coredns@node1`, of an `EndpointSlice` also its Service's name.
        name: String,
        /// The patch: a table, or JSON in a string (which can say null).
        patch: Patch,
        /// The controllers leave the object alone until the fault is lifted. Not stated: they do if the patch is of a status
        /// or of an `EndpointSlice`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<bool>,
    },
    /// Deletes an object. Lifted by creating it again (a pod is left to its controller).
    Delete {
        /// Its kind.
        kind: String,
        /// Its namespace; none for what has none.
        #[serde(default)]
        namespace: String,
        /// Its name, as for `api`.
        name: String,
    },
    /// Beside a pod lies what its node's kubelet leaves of another one like it that it evicted for want of memory: an object in the
    /// phase Failed, with the address that it had. Lifted by deleting it.
    LeaveEvicted {
        /// Which pod.
        pod: String,
    },
    /// Overwrites a file that the runtime made for a pod.
    File {
        /// Which pod.
        pod: String,
        /// `/etc/resolv.conf` or `/etc/hostname`.
        path: String,
        /// Its new text, with placeholders.
        text: String,
    },
    /// kube-proxy of a node writes no more.
    HoldProxy {
        /// Which node.
        node: String,
    },
    /// kube-proxy of a node leaves conntrack entries that lead to endpoints that are gone.
    KeepFlows {
        /// Which node.
        node: String,
    },
    /// SIGKILL to the agent of a node as soon as the kernel shows that it has begun to repair what the scenario expects it to
    /// repair; then it is started again, with the files that it left.
    KillAgentInRepair {
        /// Which node.
        node: String,
    },
    /// SIGSTOP to a CoreDNS stand-in.
    Hang {
        /// Which pod.
        pod: String,
    },
    /// Every CoreDNS process needs this much memory from now on; over its limit it is OOM-killed.
    MemoryDemand {
        /// How much.
        bytes: Bytes,
    },
    /// CoreDNS processes end by themselves, at once and whenever they are started. Lifted by an end of that: those that
    /// wait are started at once.
    CrashLoop {
        /// Which pod; none: all, those that are made later too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<String>,
        /// The exit status.
        #[serde(default = "failure")]
        exit_code: u8,
        /// The termination message.
        #[serde(default)]
        message: String,
    },
    /// A node has no address left for new pods: they stay in ContainerCreating.
    NoAddresses {
        /// Which node.
        node: String,
    },
    /// kube-proxy's service rules are flushed on a node, and stay so.
    FlushServiceRules {
        /// Which node.
        node: String,
    },
    /// A pod's default route is deleted.
    DeleteDefaultRoute {
        /// Which pod.
        pod: String,
    },
    /// The host end of a pod's veth pair is taken off its bridge.
    DetachVeth {
        /// Which pod.
        pod: String,
    },
    /// The FORWARD policy of a node becomes DROP.
    ForwardDrop {
        /// Which node.
        node: String,
    },
    /// A pod's resolv.conf names another server.
    WrongNameserver {
        /// Which pod.
        pod: String,
        /// Which server.
        nameserver: IpAddr,
    },
    /// The upstream resolver stops answering.
    StopUpstream {},
    /// The CoreDNS Deployment's template changes: a rolling update.
    RollingUpdate {},
    /// Requests to the API server go wrong, from now on or so many times. Lifted by an end of all such troubles.
    ApiTrouble {
        /// How.
        trouble: Trouble,
        /// `create`, `update`, `patch`, …; none: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verb: Option<String>,
        /// As `dnsincidents`, or `pods/eviction` for a subresource; none: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        /// `agent` or `coordinator`; none: both.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<Role>,
        /// Dry runs go well.
        #[serde(default)]
        acts_only: bool,
        /// For those that are slow.
        #[serde(default = "at_once")]
        delay: Period,
        /// So many times; none: until it is lifted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        times: Option<u32>,
    },
    /// Watches say nothing new, and reads from the cache show what was: the API server's watch cache stands still.
    ApiStale {},
    /// Every trouble of the API server is over.
    ApiWell {},
    /// SIGSTOP to the coordinator that leads.
    PauseLeader {},
    /// SIGCONT to the coordinator that was stopped. It must change nothing from then on: another one leads.
    WakeLeader {},
    /// SIGKILL to the coordinator that leads; it is started again at once.
    KillLeader {},
    /// The policy ConfigMap stops every change, or is deleted again.
    KillSwitch {
        /// Stops them.
        on: bool,
    },
    /// The agent of a node is stopped, and somebody with its token reports in its name that this CoreDNS pod is dead, answers
    /// every question so, and tries to write the others' reports too.
    ForgeReports {
        /// Which node.
        node: String,
        /// Which pod.
        pod: String,
    },
    /// The API server refuses every connection.
    ApiDown {},
    /// And accepts them again.
    ApiUp {},
}

/// Whose requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The agents'.
    Agent,
    /// The coordinators'.
    Coordinator,
}

/// A merge patch (RFC 7396).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Patch {
    /// JSON in a string.
    Json(String),
    /// A table of the scenario's file.
    Table(toml::Table),
}

impl Patch {
    /// As JSON text.
    ///
    /// # Errors
    /// If the string is no JSON object.
    pub fn json(&self) -> Result<serde_json::Value, String> {
        let value = match self {
            Self::Json(text) => serde_json::from_str(text).map_err(|e| format!("the patch is no JSON: {e}"))?,
            Self::Table(table) => serde_json::to_value(table).map_err(|e| e.to_string())?,
        };
        if value.is_object() { Ok(value) } else { Err("a patch is an object".to_owned()) }
    }
}

/// What of an action must name something that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// A pod.
    Pod(&'a str),
    /// A node.
    Node(&'a str),
    /// A place for programs: a node, a pod, `control` or `wire`.
    Place(&'a str),
    /// A command line with placeholders.
    Line(&'a str),
    /// A command for a stand-in.
    Dns(&'a str),
    /// A text with placeholders.
    Text(String),
    /// A file in a pod.
    Path(&'a str),
}

impl Action {
    /// Whether it concerns what kube-proxy or the kubelet write.
    pub(super) fn of_plane(&self) -> bool {
        match self {
            Self::Tool { run, undo, .. } => run.iter().chain(undo).any(|line| line.contains("{iptables}")),
            Self::FlushServiceRules { .. } | Self::ForwardDrop { .. } | Self::HoldProxy { .. } => true,
            _ => false,
        }
    }

    /// Everything of it that can be checked before a cluster stands.
    pub(super) fn named(&self) -> Vec<Named<'_>> {
        match self {
            Self::Dns { pod, command } => vec![Named::Pod(pod), Named::Dns(command)],
            Self::Upstream { command } => vec![Named::Dns(command)],
            Self::Tool { place, run, undo, input } => {
                let lines = run.iter().chain(undo).map(|line| Named::Line(line));
                [Named::Place(place), Named::Text(input.clone())].into_iter().chain(lines).collect()
            }
            Self::Run { place, run } => {
                std::iter::once(Named::Place(place)).chain(run.iter().map(|line| Named::Line(line))).collect()
            }
            Self::Api { kind, name, patch, .. } => {
                // Braces of JSON are no placeholders; what stands in its strings may be.
                pod_of(kind, name).into_iter().chain(strings(patch).into_iter().map(Named::Text)).collect()
            }
            Self::Delete { kind, name, .. } => pod_of(kind, name).into_iter().collect(),
            Self::File { pod, path, text } => vec![Named::Pod(pod), Named::Path(path), Named::Text(text.clone())],
            Self::Hang { pod }
            | Self::LeaveEvicted { pod }
            | Self::DeleteDefaultRoute { pod }
            | Self::DetachVeth { pod }
            | Self::WrongNameserver { pod, .. } => vec![Named::Pod(pod)],
            Self::CrashLoop { pod, .. } => pod.iter().map(|pod| Named::Pod(pod)).collect(),
            Self::NoAddresses { node }
            | Self::HoldProxy { node }
            | Self::KeepFlows { node }
            | Self::KillAgentInRepair { node }
            | Self::FlushServiceRules { node }
            | Self::ForwardDrop { node } => {
                vec![Named::Node(node)]
            }
            Self::ForgeReports { node, pod } => vec![Named::Node(node), Named::Pod(pod)],
            Self::MemoryDemand { .. }
            | Self::StopUpstream {}
            | Self::RollingUpdate {}
            | Self::ApiTrouble { .. }
            | Self::ApiStale {}
            | Self::ApiWell {}
            | Self::PauseLeader {}
            | Self::WakeLeader {}
            | Self::KillLeader {}
            | Self::KillSwitch { .. }
            | Self::ApiDown {}
            | Self::ApiUp {} => Vec::new(),
        }
    }
}

fn pod_of<'a>(kind: &str, name: &'a str) -> Option<Named<'a>> {
    (kind == "Pod" && name.contains('@')).then_some(Named::Pod(name))
}

fn strings(patch: &Patch) -> Vec<String> {
    fn walk(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => found.push(text.clone()),
            serde_json::Value::Array(all) => all.iter().for_each(|one| walk(one, found)),
            serde_json::Value::Object(all) => all.values().for_each(|one| walk(one, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = patch.json() {
        walk(&value, &mut found);
    }
    found
}
