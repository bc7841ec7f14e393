//! The API server: objects with versions, preconditions, disruption budgets; and the list of what changed when.

mod orders;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;

use nameward_cluster::lease;
use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::{Mono, PodUid};

use crate::truth::Pod;

/// The DNS workload's Deployment.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) version: u64,
    pub(crate) generation: i64,
    pub(crate) observed: i64,
    pub(crate) replicas: u32,
    /// Counts the templates.
    pub(crate) revision: u64,
    pub(crate) limit: u64,
    pub(crate) paused: bool,
    pub(crate) memory_owner: Option<String>,
    pub(crate) replicas_owner: Option<String>,
    /// A coordinator wrote the number of replicas last.
    pub(crate) scaled_by_us: bool,
}

/// A `NodeAgent`.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentObject {
    pub(crate) exists: bool,
    pub(crate) version: u64,
    pub(crate) orders: NodeOrders,
    pub(crate) report: Option<Arc<NodeReport>>,
    /// When a report was last written, and when one was that vouched.
    pub(crate) written: Option<Mono>,
    pub(crate) vouched: Option<Mono>,
    /// Since when its reports have not vouched; `None` while they do.
    pub(crate) doubts: Option<Mono>,
}

/// A `DnsIncident`.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) created: Mono,
    pub(crate) spec: IncidentSpec,
    pub(crate) status: IncidentStatus,
}

/// What a watch would bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Pods,
    Agent(usize),
    Incident(String),
    Node(usize),
}

/// The API server.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) version: u64,
    pub(crate) pods: Vec<Pod>,
    /// Pods of other workloads, on every CoreDNS pod's node: never ours to touch.
    pub(crate) strangers: Vec<Pod>,
    pub(crate) workload: Workload,
    /// How many disruption budgets cover the CoreDNS pods.
    pub(crate) budgets: usize,
    /// Evictions are answered with 429, whatever the budget.
    pub(crate) blocked: bool,
    pub(crate) agents: Vec<AgentObject>,
    pub(crate) incidents: BTreeMap<String, Stored>,
    pub(crate) lease: Option<lease::Record>,
    /// The policy ConfigMap says paused.
    pub(crate) paused: bool,
    pub(crate) changes: Vec<(Mono, Change)>,
}

impl Api {
    pub(crate) fn new(nodes: usize, workload: Workload) -> Self {
        Self {
            version: 100,
            pods: Vec::new(),
            strangers: Vec::new(),
            workload,
            budgets: 1,
            blocked: false,
            agents: vec![AgentObject::default(); nodes],
            incidents: BTreeMap::new(),
            lease: None,
            paused: false,
            changes: Vec::new(),
        }
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Pods of the workload that are not on their way out.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.terminating.is_none())
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.uid == *uid)
    }

    /// `status.readyReplicas`.
    pub(crate) fn ready(&self) -> u32 {
        count(self.active().filter(|pod| pod.ready))
    }

    /// `status.updatedReplicas`.
    pub(crate) fn updated(&self) -> u32 {
        count(self.active().filter(|pod| pod.revision == self.workload.revision))
    }

    /// Why a rollout is under way, as the shell of the shared executor and the watcher judge it.
    pub(crate) fn rollout(&self) -> Option<String> {
        let workload = &self.workload;
        if workload.observed < workload.generation {
            return Some("the generation is not observed yet".to_owned());
        }
        if self.updated() < workload.replicas {
            return Some("fewer pods of the newest template than wanted".to_owned());
        }
        let active = count(self.active());
        (active > self.updated()).then(|| "pods of an older template are still there".to_owned())
    }

    /// Writes down that pods changed: one of them, and the workload's status.
    pub(crate) fn pods_changed(&mut self, at: Mono, which: Option<&PodUid>) {
        let version = self.next_version();
        if let Some(pod) = self.pods.iter_mut().find(|pod| Some(&pod.uid) == which) {
            pod.version = version;
        }
        self.workload.version = self.next_version();
        self.changes.push((at, Change::Pods));
    }
}

pub(crate) fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
