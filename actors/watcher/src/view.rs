//! What the coordinator sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use nameward_cluster::discovery::{self, configured};
use nameward_cluster::names::{IGNORE, PAUSED};
use nameward_cluster::owners;
use nameward_cluster::wire::{
    AgentObject, Budget, DaemonSet, Deployment, IncidentObject, NamespaceObject, NodeObject, Pod, Service, Workload,
};
use nameward_messages::cluster_view::{
    BudgetView, ClusterView, DnsContainerView, DnsPodView, IncidentView, NodeAgentView, NodeView, WorkloadKind,
    WorkloadView,
};
use nameward_messages::pods::RolloutObserved;
use nameward_messages::{Mono, NodeName, ObjectKey, PodUid};

use crate::input::{Settings, Snapshot};
use crate::workload;

/// What the view is made of.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) pods: Snapshot<Pod>,
    pub(crate) deployments: Snapshot<Deployment>,
    pub(crate) daemon_sets: Snapshot<DaemonSet>,
    pub(crate) budgets: Snapshot<Budget>,
    pub(crate) nodes: Snapshot<NodeObject>,
    pub(crate) namespaces: Snapshot<NamespaceObject>,
    pub(crate) agents: Snapshot<AgentObject>,
    pub(crate) incidents: Snapshot<IncidentObject>,
    /// When a report's number was seen to change last, by the agent's name.
    pub(crate) reported: BTreeMap<String, (Option<u64>, Mono)>,
}

impl Sources {
    /// Notes which reports are new.
    pub(crate) fn note_reports(&mut self, now: Mono) {
        let agents = &self.agents;
        self.reported.retain(|name, _| agents.contains_key(name));
        for (name, agent) in agents.iter() {
            let sequence = agent.report.as_ref().map(|report| report.sequence);
            match self.reported.get_mut(name) {
                Some(known) if known.0 == sequence => {}
                Some(known) => *known = (sequence, now),
                None => {
                    self.reported.insert(name.clone(), (sequence, now));
                }
            }
        }
    }

    /// The whole view, but for what only the mind knows.
    pub(crate) fn view(&self, service: Option<&Service>, settings: &Settings) -> ClusterView {
        let workload = self.workload(service, settings);
        // What an eviction by a kubelet or a finished container leaves stands in the list until it is collected, and is no pod.
        let pods = || self.pods.values().filter(|pod| !pod.over());
        ClusterView {
            pods: pods().map(|pod| pod_view(pod)).collect(),
            coredns: pods().take(workload::MOST).map(|pod| workload::state(pod)).collect(),
            rollout: workload.map(|(_, found)| rollout(found)).unwrap_or_default(),
            workload: workload.map(|(kind, found)| workload_view(kind, found)),
            budgets: self.budgets.values().map(|budget| self.budget_view(budget)).collect(),
            nodes: self.nodes.values().map(|node| node_view(node)).collect(),
            ignored_namespaces: self.ignored_namespaces(),
            selector: service.map(|service| service.spec.selector.clone()).unwrap_or_default(),
            service_uid: service.map(|service| service.metadata.uid.clone()).unwrap_or_default(),
            agents: self.agents.values().map(|agent| self.agent_view(agent)).collect(),
            incidents: self.incidents.values().filter_map(|incident| incident_view(incident)).collect(),
            ..ClusterView::default()
        }
    }

    /// The configured workload; else the one that owns the pods; else the one whose template the Service selects.
    fn workload(&self, service: Option<&Service>, settings: &Settings) -> Option<(WorkloadKind, &Workload)> {
        let deployments = self.deployments.values().map(|found| (WorkloadKind::Deployment, &found.0));
        let daemon_sets = self.daemon_sets.values().map(|found| (WorkloadKind::DaemonSet, &found.0));
        let all: Vec<(WorkloadKind, &Workload)> = deployments.chain(daemon_sets).collect();
        let named = |key: &ObjectKey| all.iter().find(|(_, found)| found.metadata.meta.key() == *key).copied();
        if let Ok(Some(key)) = configured(&settings.workload) {
            return named(&key);
        }
        let owned = self.pods.values().filter_map(|pod| discovery::workload_of(pod)).find_map(|(_, key)| named(&key));
        owned.or_else(|| {
            let selector = &service?.spec.selector;
            let selected = |found: &Workload| {
                let labels = &found.spec.template.metadata.labels;
                !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            };
            all.iter().find(|(_, found)| selected(found)).copied()
        })
    }

    /// By name; the snapshot is sorted.
    fn ignored_namespaces(&self) -> Vec<String> {
        let flagged = self.namespaces.values().filter(|namespace| namespace.metadata.flagged(IGNORE));
        flagged.map(|namespace| namespace.metadata.name.clone()).collect()
    }

    fn budget_view(&self, budget: &Budget) -> BudgetView {
        let (spec, status) = (&budget.spec, &budget.status);
        let matches = |pod: &&Arc<Pod>| {
            pod.metadata.namespace == budget.metadata.namespace
                && spec.selector.as_ref().is_some_and(|selector| selector.matches(&pod.metadata.labels))
        };
        BudgetView {
            key: budget.metadata.key(),
            disruptions_allowed: status.disruptions_allowed,
            current_healthy: status.current_healthy,
            desired_healthy: status.desired_healthy,
            observed: status.observed_generation >= budget.metadata.generation,
            always_allow_unhealthy: spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow"),
            matches: self
                .pods
                .values()
                .filter(|pod| !pod.over())
                .filter(matches)
                .map(|pod| PodUid(pod.metadata.uid.clone()))
                .collect(),
        }
    }

    fn agent_view(&self, agent: &AgentObject) -> NodeAgentView {
        let meta = &agent.metadata;
        NodeAgentView {
            name: NodeName(meta.name.clone()),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            orders: agent.orders.clone().unwrap_or_default(),
            report: agent.report.clone(),
            changed_at: self.reported.get(&meta.name).map_or(Mono::default(), |(_, at)| *at),
        }
    }
}

fn pod_view(pod: &Pod) -> DnsPodView {
    let container = |container: &nameward_cluster::wire::Container| {
        let status = pod.status.container_statuses.iter().find(|status| status.name == container.name);
        DnsContainerView {
            name: container.name.clone(),
            memory_limit: container.resources.limits.memory,
            memory_applied: status.and_then(|status| status.resources.limits.memory),
            restarts: status.map_or(0, |status| status.restart_count),
            oom_killed_at: status.and_then(|status| status.oom_kills().max()),
        }
    };
    DnsPodView {
        uid: PodUid(pod.metadata.uid.clone()),
        key: pod.metadata.key(),
        resource_version: pod.metadata.resource_version.clone(),
        node: pod.spec.node_name.as_deref().filter(|name| !name.is_empty()).map(NodeName::from),
        phase: pod.status.phase.clone(),
        ready: pod.ready(),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        created_at: pod.metadata.creation_timestamp,
        owner: pod.metadata.controller().map(|owner| format!("{}/{}", owner.kind, owner.name)),
        containers: pod.spec.containers.iter().map(container).collect(),
    }
}

fn desired(workload: &Workload) -> u32 {
    match workload.status.desired_number_scheduled {
        0 => workload.spec.replicas.unwrap_or(1),
        daemons => daemons,
    }
}

fn workload_view(kind: WorkloadKind, workload: &Workload) -> WorkloadView {
    let meta = &workload.metadata.meta;
    let container = discovery::dns_container(workload);
    let owner = |path: &[String]| owners::reconciler(&meta.labels, &workload.metadata.managed_fields, path);
    let status = &workload.status;
    WorkloadView {
        kind,
        key: meta.key(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        replicas: desired(workload),
        ready: status.ready_replicas,
        updated: status.updated_replicas,
        available: status.available_replicas,
        generation: meta.generation,
        observed_generation: status.observed_generation,
        container: container.map(|container| container.name.clone()),
        memory_limit: container.and_then(|container| container.resources.limits.memory),
        paused: meta.flagged(PAUSED),
        memory_owner: container.and_then(|container| owner(&owners::memory_limit(&container.name))),
        replicas_owner: owner(&owners::replicas()),
    }
}

/// Pods that are merely not available are no rollout: that may be the very fault.
fn rollout(workload: &Workload) -> RolloutObserved {
    let status = &workload.status;
    let (generation, observed) = (workload.metadata.meta.generation, status.observed_generation);
    let desired = desired(workload);
    let because = if observed < generation {
        format!("generation {generation} is not observed yet (at {observed})")
    } else if status.updated_replicas < desired {
        format!("{} of {desired} pods are of the newest template", status.updated_replicas)
    } else if status.replicas > status.updated_replicas {
        format!("{} pods of an older template are still there", status.replicas - status.updated_replicas)
    } else {
        return RolloutObserved::default();
    };
    RolloutObserved { in_progress: true, because }
}

fn node_view(node: &NodeObject) -> NodeView {
    NodeView {
        name: NodeName(node.metadata.name.clone()),
        uid: node.metadata.uid.clone(),
        ready: node.ready(),
        unschedulable: node.spec.map(|spec| spec.unschedulable),
        zone: node.metadata.labels.get("topology.kubernetes.io/zone").cloned(),
        terminating: node.metadata.deletion_timestamp.is_some(),
    }
}

/// An incident whose spec or status cannot be read is of another version: it is not ours to continue nor to overwrite.
fn incident_view(incident: &IncidentObject) -> Option<IncidentView> {
    let meta = &incident.metadata;
    Some(IncidentView {
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        created_at: meta.creation_timestamp,
        spec: incident.spec.clone()?,
        status: incident.status.clone()?,
    })
}
