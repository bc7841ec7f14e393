//! What the coordinator sees of the cluster: told whole by the watcher.
//!
//! A view is a copy to decide from, never to act from: whoever acts reads the target again first.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::ids::{NodeName, ObjectKey, PodUid};
use crate::plan::{IncidentSpec, IncidentStatus};
use crate::pods::RolloutObserved;
use crate::report::{NodeOrders, NodeReport};
use crate::targets::Targets;
use crate::time::Mono;
use crate::workload::CorednsPodState;

/// Everything that the coordinator decides from, told on change (at most four times a second) and every 5 s besides,
/// so that `fresh_as_of` advances. Lists are sorted by name and never hold two of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// Every watch is complete: what is not listed here does not exist. While `false`, nothing may be decided.
    pub complete: bool,
    /// The last moment at which every watch was known to be good. Older than a minute: decide nothing.
    pub fresh_as_of: Mono,
    /// The DNS Service, CoreDNS endpoints and the API's addresses.
    pub targets: Arc<Targets>,
    /// The CoreDNS pods, by the Service's selector.
    pub pods: Vec<DnsPodView>,
    /// What their containers do, sorted by name.
    pub coredns: Vec<CorednsPodState>,
    /// The Deployment or DaemonSet that owns them; `None` when it is not known or does not exist.
    pub workload: Option<WorkloadView>,
    /// Whether a rollout of the workload is under way.
    pub rollout: RolloutObserved,
    /// The budgets in the namespace of the DNS Service.
    pub budgets: Vec<BudgetView>,
    /// Every node, by its metadata.
    pub nodes: Vec<NodeView>,
    /// Namespaces with the annotation `nameward.dev/ignore`, sorted.
    pub ignored_namespaces: Vec<String>,
    /// The selector of the DNS Service.
    pub selector: BTreeMap<String, String>,
    /// `metadata.uid` of the DNS Service; empty when there is none.
    pub service_uid: String,
    /// Every agent's object.
    pub agents: Vec<NodeAgentView>,
    /// Every incident.
    pub incidents: Vec<IncidentView>,
}

/// A CoreDNS pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPodView {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `spec.nodeName`; `None` until it is scheduled.
    pub node: Option<NodeName>,
    /// `status.phase`: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// The condition `Ready` is `True`.
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// `metadata.creationTimestamp`.
    pub created_at: Option<Timestamp>,
    /// The controlling owner as `Kind/name`, such as `ReplicaSet/coredns-74c7b86f9f`.
    pub owner: Option<String>,
    /// Its containers (init containers are left out).
    pub containers: Vec<DnsContainerView>,
}

impl ClusterView {
    /// Leaves out pods of which only the object is left, since every container has ended for good: what a kubelet leaves of one that it
    /// evicted. The watches do so already; nobody may count one, whoever made the view.
    pub fn forget_what_is_over(view: &mut Arc<Self>) {
        let over = |phase: &str| matches!(phase, "Failed" | "Succeeded");
        if view.pods.iter().any(|pod| over(&pod.phase)) || view.coredns.iter().any(|state| over(&state.phase)) {
            let view = Arc::make_mut(view);
            view.pods.retain(|pod| !over(&pod.phase));
            view.coredns.retain(|state| !over(&state.phase));
        }
    }
}

/// A container of a CoreDNS pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsContainerView {
    /// Its name.
    pub name: String,
    /// `spec…resources.limits.memory`, bytes.
    pub memory_limit: Option<u64>,
    /// `status.containerStatuses[].resources.limits.memory`, bytes: what the runtime has applied (differs while a resize is under way).
    pub memory_applied: Option<u64>,
    /// `restartCount`.
    pub restarts: u32,
    /// `finishedAt` of the last kill for want of memory that its status shows.
    pub oom_killed_at: Option<Timestamp>,
}

/// The kinds of DNS workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` DaemonSet (OpenShift): replicas cannot be added.
    DaemonSet,
}

/// The workload behind the DNS Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadView {
    /// Which kind.
    pub kind: WorkloadKind,
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Desired replicas.
    pub replicas: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// `status.updatedReplicas`.
    pub updated: u32,
    /// `status.availableReplicas`.
    pub available: u32,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// The container that answers DNS, `coredns` where there are several.
    pub container: Option<String>,
    /// Its memory limit in the template, bytes.
    pub memory_limit: Option<u64>,
    /// The annotation `nameward.dev/paused` is `true`: no shared remedy.
    pub paused: bool,
    /// The continuous reconciler that owns the memory limit, if one does: then it is not ours to write.
    pub memory_owner: Option<String>,
    /// The continuous reconciler that owns `spec.replicas`, if one does.
    pub replicas_owner: Option<String>,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `status.disruptionsAllowed`.
    pub disruptions_allowed: i32,
    /// `status.currentHealthy`.
    pub current_healthy: i32,
    /// `status.desiredHealthy`.
    pub desired_healthy: i32,
    /// `status.observedGeneration` has caught up with `metadata.generation`; else the figures are stale.
    pub observed: bool,
    /// `spec.unhealthyPodEvictionPolicy` is `AlwaysAllow`.
    pub always_allow_unhealthy: bool,
    /// CoreDNS pods that its selector matches. More than one budget for one pod makes every eviction fail.
    pub matches: Vec<PodUid>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: NodeName,
    /// `metadata.uid`, for owner references.
    pub uid: String,
    /// Whether it is ready; `None`: not known (nodes are watched by their metadata alone).
    pub ready: Option<bool>,
    /// `spec.unschedulable`; `None`: not known, as above.
    pub unschedulable: Option<bool>,
    /// The label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
}

/// A node agent's object.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAgentView {
    /// `metadata.name`: the node's name.
    pub name: NodeName,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// What the coordinator last wrote.
    pub orders: NodeOrders,
    /// What the agent last wrote; `None` before its first report, or when it could not be read.
    pub report: Option<Arc<NodeReport>>,
    /// When this watcher saw `report.sequence` change last, by its own clock: a report's age is judged by it.
    pub changed_at: Mono,
}

/// An incident.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.creationTimestamp`.
    pub created_at: Option<Timestamp>,
    /// What it is about.
    pub spec: IncidentSpec,
    /// Where it stands.
    pub status: IncidentStatus,
}

/// The kill switch of one machine: while this file exists, whatever it holds, the process on that machine changes nothing.
pub const PAUSE_FILE: &str = "/run/nameward/paused";

/// The kill switch as read from the policy ConfigMap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillSwitch {
    /// The ConfigMap does not exist or does not say `paused: "true"`: remedies go by their modes.
    #[default]
    Off,
    /// `data.paused` is `"true"`: nothing may be changed.
    On,
    /// It could not be read since this moment. More than 60 s: nothing may be changed.
    UnreadableSince(Mono),
}

impl KillSwitch {
    /// Whether changes are allowed at `now`.
    #[must_use]
    pub fn allows(self, now: Mono) -> bool {
        match self {
            Self::Off => true,
            Self::On => false,
            Self::UnreadableSince(since) => now.since(since) <= std::time::Duration::from_secs(60),
        }
    }
}
