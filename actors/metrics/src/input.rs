//! What the metrics room is told.

use std::sync::Arc;

use nameward_config::Config;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::guarding::{Breaker, RefusalReason};
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::probe::{PathKey, ProbeAnswer, ProberTells, Round, Suspicion};
use nameward_messages::remedy::{RemedyKind, RemedyRecord};
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::targets::Targets;
use nameward_messages::verdict::DiagnosisTells;

/// What the metrics room is told.
#[derive(Clone, Debug)]
pub enum MetricsInput {
    /// A sweep ended. Its observations are counted.
    Round(Arc<Round>),
    /// Probes outside the rounds ended. Their observations are counted.
    Answer(Arc<ProbeAnswer>),
    /// A path is suspected.
    Suspected(Arc<Suspicion>),
    /// A path is no longer suspected.
    Cleared {
        /// Which.
        path: PathKey,
    },
    /// What diagnosis tells.
    Verdict(DiagnosisTells),
    /// A remedy was done, refused or would have been done.
    Remedy(RemedyRecord),
    /// A guard rail held a remedy back. Its record is told as well.
    Refused {
        /// Which remedy.
        kind: RemedyKind,
        /// Why.
        reason: RefusalReason,
    },
    /// A breaker opened or closed.
    Breaker {
        /// Which.
        breaker: Breaker,
        /// It is open.
        open: bool,
    },
    /// A CoreDNS container was killed for want of memory.
    Oom(ContainerOomKilled),
    /// What can be asked, whole.
    Targets(Arc<Targets>),
    /// A namespace came, changed or went.
    Namespace(NamespaceChanged),
    /// Whether this process holds the Lease.
    Leader(bool),
    /// Whether the Kubernetes API answers.
    Api {
        /// It does.
        reachable: bool,
    },
    /// The coordinator's orders to this node.
    Orders(Arc<NodeOrders>),
    /// This node's report, as written or as it would be written.
    Report(Arc<NodeReport>),
    /// An incident came or changed.
    Incident {
        /// The object's name.
        name: String,
        /// What it is about.
        spec: IncidentSpec,
        /// Where it stands.
        status: IncidentStatus,
    },
    /// An incident was deleted.
    IncidentGone {
        /// The object's name.
        name: String,
    },
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// The cluster, as the coordinator sees it.
    View(Arc<ClusterView>),
    /// What this process cannot do for want of a capability, a mount or a permission: a sentence each. Replaces the last.
    Losses(Vec<String>),
    /// The configuration was read again.
    ConfigReload(ConfigReload),
    /// The configuration in force.
    Reconfigure(Arc<Config>),
    /// The mind's deadline has passed.
    Tick,
}

/// What came of reading the configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigReload {
    /// It is in force.
    Ok {
        /// Hash of its content.
        hash: String,
    },
    /// It is bad, and the one before stays in force.
    Failed {
        /// Why, for people.
        because: String,
    },
}

impl From<ProberTells> for MetricsInput {
    fn from(tells: ProberTells) -> Self {
        match tells {
            ProberTells::Round(round) => Self::Round(round),
            ProberTells::Suspected(suspicion) => Self::Suspected(suspicion),
            ProberTells::Cleared { path, .. } => Self::Cleared { path },
            ProberTells::Answer(answer) => Self::Answer(answer),
        }
    }
}

impl From<DiagnosisTells> for MetricsInput {
    fn from(tells: DiagnosisTells) -> Self {
        Self::Verdict(tells)
    }
}

impl From<NamespaceChanged> for MetricsInput {
    fn from(changed: NamespaceChanged) -> Self {
        Self::Namespace(changed)
    }
}

impl From<RemedyRecord> for MetricsInput {
    fn from(record: RemedyRecord) -> Self {
        Self::Remedy(record)
    }
}

impl From<ContainerOomKilled> for MetricsInput {
    fn from(killed: ContainerOomKilled) -> Self {
        Self::Oom(killed)
    }
}
