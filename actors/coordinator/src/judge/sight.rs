//! What all nodes together see of CoreDNS, as data: who reaches which pod over which transport, who does not and knows
//! no reason of its own, and what became of the complaints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{OutcomeKind, QuestionKind};
use nameward_messages::report::{MatrixRow, NodeReport};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::Subject;
use nameward_messages::{Mono, NodeName, PodUid};

use super::claims::Claims;
use super::quorum::listened_to;

/// Everything that locality is judged from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// A rollout of CoreDNS is under way: pods come and go.
    pub moving: bool,
    /// CoreDNS pods that run and are not on their way out.
    pub pods: Vec<SeenPod>,
    /// Every node.
    pub nodes: BTreeMap<NodeName, SeenNode>,
    /// What a node says of a CoreDNS pod, its own included; nodes that may not be listened to say nothing.
    pub looks: BTreeMap<(NodeName, PodUid), Looks>,
}

/// A CoreDNS pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPod {
    /// As verdicts name it.
    pub subject: Subject,
    /// Its uid.
    pub uid: PodUid,
    /// Its node.
    pub node: NodeName,
    /// The EndpointSlices still list it; whether as ready.
    pub endpoint: Option<bool>,
    /// Its node's agent, or another's, names a cause for the pod or for its node already.
    pub explained: bool,
    /// Its node's agent has looked into complaints about it and found no reason.
    pub examined: bool,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenNode {
    /// Its agent may be listened to.
    pub heard: bool,
    /// As the API says; `None`: not known.
    pub ready: Option<bool>,
    /// Cordoned, as far as known.
    pub cordoned: bool,
    /// Its agent names a cause that lies in the whole node: what fails from it says nothing of others.
    pub sick: bool,
    /// What its agent found there that no rule knows how to read.
    pub unmodelled: Vec<String>,
}

/// What one node sees over one transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// It was not asked, or some vantages reach it and some do not.
    #[default]
    Unknown,
    /// It answers.
    Reaches,
    /// It does not answer most vantages.
    Fails,
}

/// What one node sees of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Over UDP.
    pub udp: Look,
    /// Over TCP.
    pub tcp: Look,
    /// From its host alone, over UDP.
    pub host_udp: Look,
    /// It fails and the node knows no reason of its own: for how long, and what it says.
    pub deferred: Option<(Duration, String)>,
}

impl Looks {
    /// Over a transport.
    #[must_use]
    pub fn over(&self, transport: Transport) -> Look {
        match transport {
            Transport::Udp => self.udp,
            Transport::Tcp => self.tcp,
        }
    }

    /// It answers over both.
    #[must_use]
    pub fn reaches(&self) -> bool {
        self.udp == Look::Reaches && self.tcp == Look::Reaches && self.deferred.is_none()
    }

    /// The transports over which it fails.
    #[must_use]
    pub fn failing(&self) -> Vec<Transport> {
        [Transport::Udp, Transport::Tcp].into_iter().filter(|t| self.over(*t) == Look::Fails).collect()
    }
}

impl Sight {
    /// From the reports as they stand.
    #[must_use]
    pub fn of(now: Mono, view: &ClusterView, claims: &Claims, stale_after: Duration) -> Self {
        let mut reports: BTreeMap<&NodeName, &NodeReport> = BTreeMap::new();
        for agent in view.agents.iter().filter(|agent| listened_to(now, agent, stale_after)) {
            if let Some(report) = &agent.report {
                reports.insert(&agent.name, report);
            }
        }
        let mut nodes = BTreeMap::new();
        for node in view.nodes.iter().filter(|n| !n.terminating) {
            let report = reports.get(&node.name);
            let seen = SeenNode {
                heard: report.is_some(),
                ready: node.ready,
                cordoned: node.unschedulable == Some(true),
                sick: claims.node_is_sick(&node.name),
                unmodelled: report.map(|r| r.unmodelled.clone()).unwrap_or_default(),
            };
            nodes.insert(node.name.clone(), seen);
        }
        let mut pods = Vec::new();
        let mut looks = BTreeMap::new();
        for pod in view.pods.iter().filter(|pod| !pod.terminating) {
            let Some(node) = &pod.node else { continue };
            let subject = Subject::pod(&pod.key, &pod.uid);
            let listed = view.targets.pods.iter().find(|listed| listed.uid == pod.uid);
            if listed.is_some_and(|listed| listed.terminating) {
                continue;
            }
            let deferred = claims.deferred_by(&subject);
            for (observer, report) in &reports {
                let mut seen = looks_of(&report.matrix.rows, &pod.uid);
                seen.deferred = deferred
                    .and_then(|words| words.get(*observer))
                    .map(|(_, because, since)| (now.since(*since), because.clone()));
                if seen != Looks::default() {
                    looks.insert(((*observer).clone(), pod.uid.clone()), seen);
                }
            }
            pods.push(SeenPod {
                explained: claims.speaks(node, &subject) || claims.named(&subject),
                examined: reports.get(node).is_some_and(|report| report.examined.contains(&pod.uid)),
                endpoint: listed.map(|listed| listed.ready),
                uid: pod.uid.clone(),
                node: node.clone(),
                subject,
            });
        }
        Self { moving: view.rollout.in_progress, pods, nodes, looks }
    }

    /// What `node` sees of a pod.
    #[must_use]
    pub fn look(&self, node: &NodeName, pod: &PodUid) -> Option<&Looks> {
        self.looks.get(&(node.clone(), pod.clone()))
    }

    /// Other nodes that cannot reach the pod and know no reason of their own, for at least `long`.
    pub fn failing<'a>(
        &'a self,
        pod: &'a SeenPod,
        long: Duration,
    ) -> impl Iterator<Item = (&'a NodeName, &'a Looks)> + 'a {
        let old = move |looks: &Looks| looks.deferred.as_ref().is_some_and(|(since, _)| *since >= long);
        self.others(pod).filter(move |(_, looks)| old(looks))
    }

    /// Other nodes that reach the pod over both transports.
    pub fn reaching<'a>(&'a self, pod: &'a SeenPod) -> impl Iterator<Item = &'a NodeName> + 'a {
        self.others(pod).filter(|(_, looks)| looks.reaches()).map(|(node, _)| node)
    }

    fn others<'a>(&'a self, pod: &'a SeenPod) -> impl Iterator<Item = (&'a NodeName, &'a Looks)> + 'a {
        self.looks
            .iter()
            .filter(|((node, uid), _)| *uid == pod.uid && *node != pod.node)
            .map(|((node, _), looks)| (node, looks))
    }

    /// The nodes on which CoreDNS pods run.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<&NodeName> {
        self.pods.iter().map(|pod| &pod.node).collect()
    }
}

/// Over one transport, from every vantage or from one kind. As an agent defers: most of the vantages fail.
fn looks_of(rows: &[MatrixRow], pod: &PodUid) -> Looks {
    let of = |transport: Transport, from: Option<VantageKind>| {
        let (mut good, mut bad) = (0_u32, 0_u32);
        for row in rows {
            let about = row.pod.as_ref() == Some(pod) && row.transport == transport;
            if about && row.question == QuestionKind::Internal && from.is_none_or(|from| row.from == from) {
                good = good.saturating_add(row.good);
                // Whoever gets a reply has reached the pod, be it the wrong one.
                let reached = row.outcome.is_some_and(OutcomeKind::replied);
                let (far, near) = if reached { (0, row.bad) } else { (row.bad, 0) };
                good = good.saturating_add(near);
                bad = bad.saturating_add(far);
            }
        }
        match (good, bad) {
            (good, bad) if bad > good => Look::Fails,
            (good, bad) if good > bad => Look::Reaches,
            _ => Look::Unknown,
        }
    };
    Looks {
        udp: of(Transport::Udp, None),
        tcp: of(Transport::Tcp, None),
        host_udp: of(Transport::Udp, Some(VantageKind::Host)),
        deferred: None,
    }
}
