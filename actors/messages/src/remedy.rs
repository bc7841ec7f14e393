//! What can be done, in which mode, and what came of it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::verdict::Subject;

/// The remedies of Nameward, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RemedyKind {
    /// Shared: evict one CoreDNS pod.
    EvictPod,
    /// Shared: raise the memory limit after an OOM kill.
    RaiseMemory,
    /// Shared: add one replica.
    AddReplica,
    /// Node: delete conntrack tuples to a dead address.
    DropConntrack,
    /// Node: restore a pod's default route.
    RestoreRoute,
    /// Node: set a link up.
    SetLinkUp,
    /// Node: put a veth back onto its bridge.
    AttachVeth,
    /// Node: delete a wrong neighbour entry.
    FixNeighbour,
    /// Node: restore the bridge's address.
    RestoreBridgeAddress,
    /// Node: write a sysctl.
    WriteSysctl,
    /// Shared: evict the kube-proxy pod of the one sick node.
    RestartKubeProxy,
    /// No act at all: a person is told what to do. The last rung of every ladder, and the only one of causes that
    /// Nameward never touches.
    CallPerson,
}

impl RemedyKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::EvictPod,
        Self::RaiseMemory,
        Self::AddReplica,
        Self::DropConntrack,
        Self::RestoreRoute,
        Self::SetLinkUp,
        Self::AttachVeth,
        Self::FixNeighbour,
        Self::RestoreBridgeAddress,
        Self::WriteSysctl,
        Self::RestartKubeProxy,
        Self::CallPerson,
    ];

    /// The stable id, also the key in `[remedy]` of the configuration.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::EvictPod => "evict-pod",
            Self::RaiseMemory => "raise-memory",
            Self::AddReplica => "add-replica",
            Self::DropConntrack => "drop-conntrack",
            Self::RestoreRoute => "restore-route",
            Self::SetLinkUp => "set-link-up",
            Self::AttachVeth => "attach-veth",
            Self::FixNeighbour => "fix-neighbour",
            Self::RestoreBridgeAddress => "restore-bridge-address",
            Self::WriteSysctl => "write-sysctl",
            Self::RestartKubeProxy => "restart-kube-proxy",
            Self::CallPerson => "call-person",
        }
    }

    /// Whether it acts on something that all nodes share: the coordinator's alone.
    #[must_use]
    pub fn shared(self) -> bool {
        matches!(self, Self::EvictPod | Self::RaiseMemory | Self::AddReplica | Self::RestartKubeProxy)
    }
}

impl fmt::Display for RemedyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// What a remedy may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Not even considered.
    Off,
    /// Recorded: what would have been done.
    #[default]
    Observe,
    /// Done.
    Act,
}

impl Mode {
    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Act => "act",
        }
    }
}

/// What came of a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RemedyOutcome {
    /// `observe`: it would have been done now.
    WouldAct,
    /// A guard rail or a precondition refused it; `detail` says which.
    Refused,
    /// Done; not yet verified.
    Done,
    /// The outcome of the call is not known: the target is read again, the act is never repeated blindly.
    Unknown,
    /// Done, and probing says that DNS recovered.
    Verified,
    /// Done, and probing says that it did not help.
    Ineffective,
    /// It was taken back, or it was found that there is nothing to take back.
    Undone,
    /// It could not be done; `detail` says why.
    Failed,
    /// The ladder ends here: a person is called.
    Escalated,
}

impl RemedyOutcome {
    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::WouldAct => "would-act",
            Self::Refused => "refused",
            Self::Done => "done",
            Self::Unknown => "unknown",
            Self::Verified => "verified",
            Self::Ineffective => "ineffective",
            Self::Undone => "undone",
            Self::Failed => "failed",
            Self::Escalated => "escalated",
        }
    }
}

/// One line of a ladder: part of incidents and reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RemedyRecord {
    /// Which remedy.
    pub kind: RemedyKind,
    /// On what.
    pub subject: Subject,
    /// In which mode.
    pub mode: Mode,
    /// What came of it.
    pub outcome: RemedyOutcome,
    /// For people: what was done, which guard refused, or which command a person should run.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}
