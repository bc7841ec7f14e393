//! What the coordinator decides: plans for shared remedies, permits for node repairs, incidents.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guarding::RefusalReason;
use crate::ids::{NodeName, ObjectKey, PodUid};
use crate::remedy::RemedyRecord;
use crate::time::Mono;
use crate::verdict::{Cause, Evidence, RuledOut, Scope, Subject};

/// A standing permit for node repairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Permit {
    /// Grows with every grant; the agent measures `valid_s` from when it saw this number come. One that was there when the agent
    /// was started counts as run out: nobody there knows how old it is.
    pub serial: u64,
    /// Valid for this many seconds (600).
    pub valid_s: u32,
    /// Repairs of these causes may be begun: given in turn to nodes that name them, at most [`Permit::CAUSES`]. Without any it is good for
    /// after-care alone. Written also when there are none: orders are merged into what stands.
    #[serde(default)]
    pub causes: Vec<Cause>,
}

impl Permit {
    /// Causes at most.
    pub const CAUSES: usize = 8;
}

/// An act of the coordinator on a shared object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "act")]
pub enum SharedAct {
    /// Evict one CoreDNS pod.
    EvictPod {
        /// Namespace and name.
        pod: ObjectKey,
        /// Precondition.
        uid: PodUid,
        /// Precondition, as last re-read.
        resource_version: String,
    },
    /// Raise the memory limit of the workload's container.
    RaiseMemory {
        /// The Deployment.
        workload: ObjectKey,
        /// Precondition.
        resource_version: String,
        /// The container.
        container: String,
        /// The limit in force, bytes.
        from: u64,
        /// The limit to set, bytes.
        to: u64,
        /// Running pods to resize as well, where the cluster can.
        resize: Vec<(ObjectKey, PodUid)>,
    },
    /// Add one replica.
    AddReplica {
        /// The Deployment.
        workload: ObjectKey,
        /// Precondition.
        resource_version: String,
        /// Replicas now.
        from: u32,
    },
    /// Take an added replica away again: an undo, no remedy of its own.
    LowerReplicas {
        /// The Deployment.
        workload: ObjectKey,
        /// The number that was written: only while it still stands.
        from: u32,
        /// The number before.
        to: u32,
    },
    /// Evict the kube-proxy pod of one node.
    RestartKubeProxy {
        /// The node.
        node: NodeName,
        /// Namespace and name of the pod.
        pod: ObjectKey,
        /// Precondition.
        uid: PodUid,
        /// Precondition, as last re-read.
        resource_version: String,
    },
}

/// What the coordinator asks the shared executor to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The incident it belongs to (its object name).
    pub incident: String,
    /// Why.
    pub cause: Cause,
    /// What it is about.
    pub subject: Subject,
    /// What to do.
    pub act: SharedAct,
    /// Must be started before this moment, or dropped.
    pub deadline: Mono,
}

/// Phases of an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum IncidentPhase {
    /// Named; no act yet.
    #[default]
    Open,
    /// An act is under way.
    Remediating,
    /// The act is done; probing says whether it helped.
    Verifying,
    /// DNS answers again.
    Resolved,
    /// A person is needed.
    Escalated,
}

/// `DnsIncident.spec`: what it is about. Written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct IncidentSpec {
    /// What is wrong.
    pub cause: Cause,
    /// How far it reaches.
    pub scope: Scope,
    /// What it is about.
    pub subject: Subject,
}

/// `DnsIncident.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct IncidentStatus {
    /// Where it stands.
    #[serde(default)]
    pub phase: IncidentPhase,
    /// One line for `kubectl get`.
    #[serde(default)]
    pub summary: String,
    /// What was read, by the node that read it (at most 16).
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// What it is not (at most 8).
    #[serde(default)]
    pub ruled_out: Vec<RuledOut>,
    /// Nodes that say so (at most 64).
    #[serde(default)]
    pub nodes: Vec<NodeName>,
    /// What was done, refused or would have been done, in order (at most 32).
    #[serde(default)]
    pub ladder: Vec<RemedyRecord>,
    /// Written before an act and cleared after its outcome is known. After a restart: verify, never repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// A replica that was added and is to be taken away again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<AddedReplica>,
    /// When it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    /// When it was resolved or escalated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl IncidentStatus {
    /// Longest line of an incident, in bytes.
    pub const LINE: usize = 600;
    /// Evidence at most.
    pub const EVIDENCE: usize = 16;
    /// Lines of what it is not at most.
    pub const RULED_OUT: usize = 8;
    /// Lines of the ladder at most.
    pub const LADDER: usize = 32;
    /// Nodes at most.
    pub const NODES: usize = 64;
    /// An incident's object is never bigger, whatever was read and whoever said it: specification and status as JSON, in bytes.
    /// The API server takes 1.5 MiB.
    pub const MOST_BYTES: usize = 160 << 10;
}

/// What a replica was added to, and what to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AddedReplica {
    /// The Deployment.
    pub workload: ObjectKey,
    /// Replicas before.
    pub before: u32,
    /// Replicas that were written. When another number stands there, somebody has set it since, and it is left alone.
    pub after: u32,
    /// When.
    pub at: Timestamp,
}

/// A write-ahead record of an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Which remedy.
    pub kind: crate::remedy::RemedyKind,
    /// On what.
    pub subject: Subject,
    /// The pod that is evicted, where it is not the subject (kube-proxy's, of the node that is).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Subject>,
    /// Who means to do it (the Lease holder's identity).
    pub by: String,
    /// `resourceVersion` of the target that the act will be conditional on.
    pub resource_version: String,
    /// The value in force before the act, for acts that set one (memory limit in bytes, replicas): what an undo would restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The value that the act sets: whether it was carried out is judged by it. Fewer replicas than before are an undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// When it was written.
    pub at: Timestamp,
}

/// What this process knows of the Lease, told after every try to take or renew it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseState {
    /// What this process writes as `holderIdentity`; unique per process.
    pub identity: String,
    /// The Lease names this process.
    pub leading: bool,
    /// No call may be started at or after this moment: the start of the last successful renewal, plus the renew deadline,
    /// less the longest time of a call.
    pub act_until: Option<Mono>,
}

impl LeaseState {
    /// Whether a call on a shared object may be started at `now`.
    #[must_use]
    pub fn may_act(&self, now: Mono) -> bool {
        self.leading && self.act_until.is_some_and(|until| now < until)
    }
}

/// What the shared executor tells the coordinator, metrics and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedRemedyTells {
    /// One more line of an incident's ladder.
    Record {
        /// The incident's object name.
        incident: String,
        /// The line.
        record: RemedyRecord,
        /// Why it was refused, if it was.
        reason: Option<RefusalReason>,
    },
    /// A plan is out of the executor's hands; another may be told.
    Ended {
        /// The incident's object name.
        incident: String,
        /// How.
        end: PlanEnd,
        /// Do not tell a plan for this incident again before this much time has passed.
        retry_after: Duration,
    },
}

/// How a plan ended in the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlanEnd {
    /// The act was carried out: verify.
    Done,
    /// What had been added is taken away again, or is no longer ours to take away.
    Undone,
    /// Mode `observe`: it would have been carried out now. Told once per incident.
    WouldAct,
    /// Mode `off`: not considered.
    Off,
    /// A guard rail or a precondition refused it; nothing was changed.
    Refused,
    /// It was tried and certainly not carried out.
    Failed,
}
