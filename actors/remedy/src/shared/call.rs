//! What the shared executor asks of the API server, one request each, and what may come back.

use std::collections::BTreeMap;

use nameward_messages::cluster_view::WorkloadKind;
use nameward_messages::plan::IncidentStatus;
use nameward_messages::{ObjectKey, PodUid};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiCall {
    /// Reads an incident (no cache).
    ReadIncident {
        /// Its object name.
        name: String,
    },
    /// Writes an incident's whole status; refused with a conflict if it changed since `resource_version`.
    WriteIncident {
        /// Its object name.
        name: String,
        /// Precondition.
        resource_version: String,
        /// The status to set. An absent `intent` clears the one that is there.
        status: Box<IncidentStatus>,
    },
    /// Lists every incident (no cache): whose intent stands.
    ListIncidents,
    /// Reads a pod (no cache).
    ReadPod {
        /// Which.
        pod: ObjectKey,
    },
    /// Reads the workload (no cache).
    ReadWorkload {
        /// Which.
        workload: ObjectKey,
        /// Deployment or DaemonSet.
        kind: WorkloadKind,
    },
    /// Evicts a pod through the eviction API, with preconditions.
    Evict {
        /// Which.
        pod: ObjectKey,
        /// Precondition.
        uid: PodUid,
        /// Precondition.
        resource_version: String,
        /// Judged by the server, not carried out.
        dry_run: bool,
    },
    /// Sets one container's memory limit in the workload's template; every other field stays.
    PatchMemory {
        /// Which.
        workload: ObjectKey,
        /// Deployment or DaemonSet.
        kind: WorkloadKind,
        /// Precondition.
        resource_version: String,
        /// The container.
        container: String,
        /// The limit, bytes.
        to: u64,
        /// Judged by the server, not carried out.
        dry_run: bool,
    },
    /// Sets the number of replicas of a Deployment by its scale subresource.
    Scale {
        /// Which.
        workload: ObjectKey,
        /// Precondition.
        resource_version: String,
        /// The number.
        to: u32,
        /// Judged by the server, not carried out.
        dry_run: bool,
    },
    /// Resizes a running pod in place, where the cluster can.
    ResizePod {
        /// Which.
        pod: ObjectKey,
        /// Precondition.
        uid: PodUid,
        /// The container.
        container: String,
        /// The limit, bytes.
        to: u64,
    },
}

impl ApiCall {
    /// Whether it changes CoreDNS or its workload, or asks the server to rehearse that.
    #[must_use]
    pub fn touches_dns(&self) -> bool {
        matches!(self, Self::Evict { .. } | Self::PatchMemory { .. } | Self::Scale { .. } | Self::ResizePod { .. })
    }
}

/// What a request that was answered brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The incident; `None`: not there.
    Incident(Option<IncidentRead>),
    /// Every incident.
    Incidents(Vec<IncidentRead>),
    /// The pod; `None`: not there.
    Pod(Option<PodRead>),
    /// The workload; `None`: not there.
    Workload(Option<WorkloadRead>),
    /// Written.
    Written {
        /// The object's version now.
        resource_version: String,
    },
    /// Accepted (eviction, resize, dry run).
    Accepted,
}

/// An incident as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentRead {
    /// Its object name.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Its status.
    pub status: IncidentStatus,
}

/// A pod as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRead {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The condition `Ready` is `True`.
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
}

/// The workload as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRead {
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Desired replicas.
    pub replicas: u32,
    /// Ready replicas.
    pub ready: u32,
    /// So many pods a change of the template may take away at a time.
    pub rolls_away: u32,
    /// Why a rollout is thought to be under way; `None`: it is not.
    pub rollout: Option<String>,
    /// The annotation `nameward.dev/paused` is `true`.
    pub paused: bool,
    /// Memory limit by container of the template, bytes.
    pub memory_limits: BTreeMap<String, u64>,
    /// The continuous reconciler that owns the memory limit, if one does.
    pub memory_owner: Option<String>,
    /// The continuous reconciler that owns the number of replicas, if one does.
    pub replicas_owner: Option<String>,
    /// Nameward was the last to set the number of replicas, and nobody claims it beside us.
    pub scaled_by_us: bool,
}

/// Why a request brought nothing. All but [`CallError::Unknown`] say that it was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The object is not there (404).
    #[error("not found")]
    NotFound,
    /// A precondition does not hold (409, 412).
    #[error("conflict: {0}")]
    Conflict(String),
    /// A disruption budget or a throttle says not now (429).
    #[error("not now: {0}")]
    NotNow(String),
    /// Refused for good: forbidden, invalid, not supported (other 4xx, and 500 of the eviction API).
    #[error("refused: {0}")]
    Refused(String),
    /// It never left this machine.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Sent, and no clear answer came (time-out, connection lost, 5xx).
    #[error("no clear answer: {0}")]
    Unknown(String),
}

/// What came of a request.
pub type CallResult = Result<Reply, CallError>;
