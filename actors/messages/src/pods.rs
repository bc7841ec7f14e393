//! What the watcher tells of pods.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{NodeName, ObjectKey, PodUid};

/// A pod of this node, reduced to what discovery and diagnosis need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPod {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// Namespace and name.
    pub key: ObjectKey,
    /// `status.podIPs`; empty until the sandbox is up.
    pub ips: Vec<IpAddr>,
    /// `spec.hostNetwork`: the pod counts as the host vantage.
    pub host_network: bool,
    /// `spec.dnsPolicy`.
    pub dns_policy: DnsPolicy,
    /// `spec.dnsConfig.nameservers`.
    pub dns_nameservers: Vec<IpAddr>,
    /// `status.phase` is `Running`.
    pub running: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// The annotation `nameward.dev/ignore` is on the pod or its namespace: it is not probed.
    pub ignored: bool,
}

/// A running pod of this node on the host's network with `dnsPolicy: ClusterFirst`, that is told a name of the cluster: it
/// gets the node's resolver and would need the cluster's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetworkPod {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// Namespace and name.
    pub key: ObjectKey,
    /// `spec.dnsConfig.nameservers`: asked beside the node's.
    pub dns_nameservers: Vec<IpAddr>,
    /// The container that is told the name.
    pub container: String,
    /// The name.
    pub name: String,
}

/// `spec.dnsPolicy` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsPolicy {
    /// The kubelet's `clusterDNS`; the default of Kubernetes.
    #[default]
    ClusterFirst,
    /// The same, for a host-network pod.
    ClusterFirstWithHostNet,
    /// The node's `resolv.conf`.
    Default,
    /// `spec.dnsConfig` alone.
    None,
}

/// What the watcher tells netns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChanged {
    /// The pod appeared or changed.
    Applied(LocalPod),
    /// The pod is gone.
    Gone(PodUid),
    /// The watch is complete for the first time since the last start: a pod that was not told of is not there.
    Synced,
}

/// A container was killed for want of memory, by its status (`state` or `lastState`, reason `OOMKilled`).
/// Told once per kill: a kill is known by pod uid, container and `finished_at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerOomKilled {
    /// The pod.
    pub pod: PodUid,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its node.
    pub node: Option<NodeName>,
    /// The container's name.
    pub container: String,
    /// `terminated.finishedAt`.
    pub finished_at: Timestamp,
    /// `restartCount` when seen.
    pub restarts: u32,
    /// `resources.limits.memory` of the container, in bytes, if set.
    pub memory_limit: Option<u64>,
}

/// The state of the DNS workload's rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutObserved {
    /// A rollout is under way: `observedGeneration` lags, or updated, available and desired replicas differ
    /// while more than one replica set has pods.
    pub in_progress: bool,
    /// Why we think so, for people.
    pub because: String,
}
