//! The evidence record: everything that a judgement is made from, gathered first and never changed while it is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nameward_kernel::facts::{
    Bypass, ConntrackStat, Counters, Identity, NeighbourStat, Netfilter, Reading, SocketTable, Sysctls, Topology,
};
use nameward_kernel::flows::FlowGroup;
use nameward_kernel::locks::FileLock;
use nameward_kernel::trace::Followed;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::pods::{ContainerOomKilled, HostNetworkPod, RolloutObserved};
use nameward_messages::probe::{Observation, PathKey};
use nameward_messages::report::Complaint;
use nameward_messages::targets::{DnsPod, DnsService, TargetKind, Targets};
use nameward_messages::workload::CorednsPodState;
use nameward_messages::{Mono, NodeName, Now, PodUid};
use serde::{Deserialize, Serialize};

use crate::matrix::Matrix;
use crate::process::Processes;

/// Two samples that are to confirm one another lie at least this far apart.
pub const APART: Duration = Duration::from_secs(1);

/// How far back [`EvidenceRecord::earlier`] reaches at least, once a case has lasted that long: other nodes ask at their
/// own pace, once per round.
pub const LATELY: Duration = Duration::from_secs(12);

/// What the rules judge.
#[derive(Clone, Debug)]
pub struct EvidenceRecord {
    /// The moment of judgement.
    pub now: Now,
    /// This node.
    pub node: NodeName,
    /// CoreDNS pods and the Service, as the API last told.
    pub targets: Arc<Targets>,
    /// The DNS Service as it last was, if it was ever there.
    pub last_service: Option<DnsService>,
    /// Since when the targets are what they are.
    pub targets_since: Mono,
    /// The pods of this node that are probed from.
    pub namespaces: BTreeMap<PodUid, Namespace>,
    /// What the paths say.
    pub matrix: Matrix,
    /// Results of probes that diagnosis asked for, oldest first.
    pub probes: Vec<Observation>,
    /// Probes that were traced, oldest first.
    pub traces: Vec<Traced>,
    /// Whether the DNS workload is being rolled out.
    pub rollout: RolloutObserved,
    /// CoreDNS pods that have not been ready since they were first seen, not long ago.
    pub starting: BTreeSet<PodUid>,
    /// Kills for want of memory that the API told of, oldest first.
    pub oom_kills: Vec<ContainerOomKilled>,
    /// What the containers of this node's CoreDNS pods do, as the API last told.
    pub coredns: Arc<Vec<CorednsPodState>>,
    /// What other nodes cannot reach on this one and know no reason for. They go on asking: what drops their packets here
    /// can be counted, see [`Self::moved_lately`].
    pub complaints: Vec<Complaint>,
    /// An older sample than [`Self::previous`], if there is one and other nodes complain: from [`LATELY`] to twice that ago.
    pub earlier: Option<Arc<Sample>>,
    /// Pods of this node that get the node's resolver and are told names of the cluster.
    pub misfits: Arc<Vec<HostNetworkPod>>,
    /// The sample before, if there is one.
    pub previous: Option<Arc<Sample>>,
    /// The newest sample, if there is one.
    pub current: Option<Arc<Sample>>,
    /// Samples that were taken since something failed.
    pub samples: u32,
}

/// A probe that was traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// When that began.
    pub at: Mono,
    /// The probe's path.
    pub path: PathKey,
    /// The pod in whose namespace it was traced; `None`: the node's.
    pub inside: Option<PodUid>,
    /// What came of it.
    pub followed: Followed,
}

/// What was read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When reading began.
    pub at: Mono,
    /// The node's own namespace.
    pub host: HostReadings,
    /// Pods' namespaces.
    pub pods: BTreeMap<PodUid, PodReadings>,
    /// CoreDNS processes of this node.
    pub processes: Processes,
    /// Addresses of the namespaces of other pods of the node, which are not concerned themselves.
    pub others: BTreeMap<PodUid, Reading<Identity>>,
}

/// What was read of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReadings {
    /// Links, addresses, routes, neighbours.
    pub topology: Reading<Topology>,
    /// Packet filters.
    pub netfilter: Netfilter,
    /// Sysctls.
    pub sysctls: Reading<Sysctls>,
    /// The nameservers of the node's own resolver.
    pub nameservers: Reading<Vec<IpAddr>>,
    /// Conntrack's entries for the DNS Service and for the upstreams.
    pub flows: Reading<Vec<FlowGroup>>,
    /// Conntrack's own counters.
    pub conntrack: Reading<ConntrackStat>,
    /// What listens on port 53.
    pub listeners: Reading<SocketTable>,
    /// Whether a program holds the xtables lock.
    pub xtables_lock: Reading<FileLock>,
    /// Counters of the kernel's neighbour table.
    pub neighbours: Reading<NeighbourStat>,
    /// IP, UDP and TCP counters of the node's own namespace.
    pub counters: Reading<Counters>,
    /// Data planes that no rule set shows.
    pub bypass: Reading<Bypass>,
}

/// What was read of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodReadings {
    /// Links, addresses, routes, neighbours.
    pub topology: Reading<Topology>,
    /// Sockets (CoreDNS pods only).
    pub sockets: Reading<SocketTable>,
    /// IP, UDP and TCP counters (CoreDNS pods only).
    pub counters: Reading<Counters>,
    /// What `/health` said (CoreDNS pods only).
    pub health: Reading<Health>,
    /// Packet filters of the pod's own namespace.
    #[serde(default)]
    pub filters: Netfilter,
}

/// What came of asking `http://POD:8080/health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// An HTTP status.
    Status(u16),
    /// Nobody listens: the plugin is not configured, or it is gone.
    Refused,
    /// It connected and did not answer in time, or closed.
    Silent,
    /// It did not connect in time.
    Unreachable,
}

/// In how many of the two samples something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The newest sample says that it does not.
    No,
    /// It could not be read.
    Unread,
    /// Only the newest sample says so yet.
    Once,
    /// Both say so, far enough apart.
    Twice,
}

impl EvidenceRecord {
    /// Whether `check` holds in the samples; it says `None` for what it could not read.
    pub fn held(&self, check: impl Fn(&Sample) -> Option<bool>) -> Held {
        let Some(current) = &self.current else { return Held::Unread };
        match check(current) {
            None => Held::Unread,
            Some(false) => Held::No,
            Some(true) => match &self.previous {
                Some(previous) if current.at.since(previous.at) >= APART && check(previous) == Some(true) => {
                    Held::Twice
                }
                Some(_) | None => Held::Once,
            },
        }
    }

    /// As [`Self::held`] for what shows only in the difference of two samples.
    pub fn moved(&self, check: impl Fn(&Sample, &Sample) -> Option<bool>) -> Held {
        let Some(current) = &self.current else { return Held::Unread };
        let Some(previous) = &self.previous else { return Held::Once };
        match check(previous, current) {
            None => Held::Unread,
            Some(false) => Held::No,
            Some(true) if current.at.since(previous.at) >= APART => Held::Twice,
            Some(true) => Held::Once,
        }
    }

    /// As [`Self::moved`], since [`Self::earlier`]: for counters of packets that other nodes send.
    pub fn moved_lately(&self, check: impl Fn(&Sample, &Sample) -> Option<bool>) -> Held {
        let (Some(current), Some(earlier)) = (&self.current, &self.earlier) else { return self.moved(check) };
        match check(earlier, current) {
            Some(true) if current.at.since(earlier.at) >= APART => Held::Twice,
            Some(true) => Held::Once,
            _ => self.moved(check),
        }
    }

    /// CoreDNS pods of this node of which other nodes complain, with the complaint.
    pub fn complained(&self) -> impl Iterator<Item = (&DnsPod, &Complaint)> {
        self.local_dns_pods().filter_map(|pod| {
            let complaint = self.complaints.iter().find(|complaint| complaint.pod == pod.uid)?;
            Some((pod, complaint))
        })
    }

    /// Two samples, far enough apart, have been taken.
    #[must_use]
    pub fn two_samples(&self) -> bool {
        match (&self.previous, &self.current) {
            (Some(previous), Some(current)) => current.at.since(previous.at) >= APART,
            _ => false,
        }
    }

    /// The newest readings of a pod.
    #[must_use]
    pub fn pod(&self, uid: &PodUid) -> Option<&PodReadings> {
        self.current.as_ref()?.pods.get(uid)
    }

    /// A CoreDNS pod.
    #[must_use]
    pub fn dns_pod(&self, uid: &PodUid) -> Option<&DnsPod> {
        self.targets.pods.iter().find(|p| &p.uid == uid)
    }

    /// What the API says of a CoreDNS pod of this node.
    #[must_use]
    pub fn pod_state(&self, uid: &PodUid) -> Option<&CorednsPodState> {
        self.coredns.iter().find(|state| &state.pod == uid)
    }

    /// CoreDNS pods of this node.
    pub fn local_dns_pods(&self) -> impl Iterator<Item = &DnsPod> {
        self.targets.pods.iter().filter(|p| p.node.as_ref() == Some(&self.node))
    }

    /// Why a CoreDNS pod may not be blamed for its process now, if there is a reason.
    #[must_use]
    pub fn excuse(&self, pod: &DnsPod) -> Option<String> {
        if self.rollout.in_progress {
            return Some(format!("a rollout is under way ({})", self.rollout.because));
        }
        if pod.terminating {
            return Some(format!("{} is terminating", pod.key));
        }
        if self.starting.contains(&pod.uid) {
            return Some(format!("{} has only just started and was never ready", pod.key));
        }
        if let Some(state) = self.pod_state(&pod.uid) {
            return state.between_two_lives(self.now).map(|why| format!("{}: {why}", pod.key));
        }
        None
    }

    /// The addresses that CoreDNS of this node forwards to, as its pods' resolv.conf name them: `(pod, addresses)`.
    #[must_use]
    pub fn upstreams(&self) -> BTreeMap<IpAddr, PodUid> {
        let mut found = BTreeMap::new();
        for pod in self.local_dns_pods() {
            let Some(namespace) = self.namespaces.get(&pod.uid) else { continue };
            for ip in &namespace.resolv.nameservers {
                if !self.is_cluster_dns(*ip) && !ip.is_loopback() {
                    found.entry(*ip).or_insert_with(|| pod.uid.clone());
                }
            }
        }
        found
    }

    /// Whether an address is the Service's or a CoreDNS pod's.
    #[must_use]
    pub fn is_cluster_dns(&self, ip: IpAddr) -> bool {
        self.targets.service.as_ref().is_some_and(|s| s.cluster_ips.contains(&ip))
            || self.targets.pods.iter().any(|p| p.ips.contains(&ip))
    }

    /// The last results of asked probes from a vantage to a target address, oldest first.
    pub fn asked<'a>(&'a self, from: &'a Vantage, ip: IpAddr) -> impl Iterator<Item = &'a Observation> {
        self.probes.iter().filter(move |o| {
            o.path.target.ip == ip
                && matches!(o.path.target.kind, TargetKind::Upstream | TargetKind::Nameserver)
                && &o.path.vantage == from
        })
    }
}
