//! What a coordinator's watches bring: late, sometimes not at all, and sometimes without anybody noticing.

use std::sync::Arc;
use std::time::Duration;

use nameward_messages::cluster_view::{
    BudgetView, ClusterView, DnsContainerView, DnsPodView, IncidentView, NodeAgentView, NodeView, WorkloadKind,
    WorkloadView,
};
use nameward_messages::pods::RolloutObserved;
use nameward_messages::targets::{DnsPod, DnsService, ServicePort, Targets};
use nameward_messages::workload::CorednsPodState;
use nameward_messages::{Mono, Now, ObjectKey};

use crate::api::Change;
use crate::truth::Pod;
use crate::world::World;

/// One process's watches.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) view: Arc<ClusterView>,
    /// How far the list of changes was read.
    position: usize,
    /// When the next view is told.
    pub(crate) due: Option<Mono>,
    pub(crate) lag: Duration,
    /// Nothing new comes before this, and the watches seem good.
    pub(crate) frozen_until: Mono,
    /// Nothing new comes before this, and that is known.
    pub(crate) broken_until: Mono,
    /// The last moment at which they brought everything, in true time.
    pub(crate) good_at: Mono,
}

impl Watch {
    pub(crate) fn new(lag: Duration) -> Self {
        Self {
            view: Arc::new(ClusterView::default()),
            position: 0,
            due: None,
            lag,
            frozen_until: Mono::default(),
            broken_until: Mono::default(),
            good_at: Mono::default(),
        }
    }
}

impl World {
    /// The view of a process brought up to date; what it is told next.
    pub(crate) fn look_at_cluster(&mut self, p: usize) -> Arc<ClusterView> {
        let (now, targets) = (self.now, self.targets());
        let process = &self.processes[p];
        let (mut view, mut position) = (Arc::clone(&process.watch.view), process.watch.position);
        let (clock, lag) = (process.clock, process.watch.lag);
        let cut = now < process.cut_until || now < self.ways.down_until;
        let frozen = now < process.watch.frozen_until;
        let broken = cut || now < process.watch.broken_until;
        let local = clock.now(now);
        let horizon = now - lag;
        if !frozen && !broken {
            let changed = &mut *Arc::make_mut(&mut view);
            if !changed.complete {
                self.list_everything(changed, local, &targets);
                position = self.api.changes.len();
            }
            let mut pods = false;
            while let Some((_, change)) = self.api.changes.get(position).filter(|(at, _)| *at <= horizon) {
                match change {
                    Change::Pods => pods = true,
                    Change::Agent(n) => self.see_agent(changed, *n, local),
                    Change::Incident(name) => self.see_incident(changed, name),
                    Change::Node(_) => {}
                }
                position += 1;
            }
            if pods {
                self.see_pods(changed, &targets);
            }
        }
        let watch = &mut self.processes[p].watch;
        if !broken && view.complete {
            Arc::make_mut(&mut view).fresh_as_of = local.mono;
            if !frozen {
                watch.good_at = horizon;
            }
        }
        watch.position = position;
        watch.view = Arc::clone(&view);
        view
    }

    fn list_everything(&self, view: &mut ClusterView, local: Now, targets: &Arc<Targets>) {
        view.complete = true;
        view.nodes = self
            .nodes
            .iter()
            .map(|node| NodeView {
                name: node.name.clone(),
                uid: format!("{}-uid", node.name),
                ready: None,
                unschedulable: None,
                zone: None,
                terminating: false,
            })
            .collect();
        view.agents.clear();
        view.incidents.clear();
        for n in 0..self.nodes.len() {
            self.see_agent(view, n, local);
        }
        for name in self.api.incidents.keys() {
            self.see_incident(view, name);
        }
        self.see_pods(view, targets);
    }

    fn see_agent(&self, view: &mut ClusterView, n: usize, local: Now) {
        let (name, object) = (&self.nodes[n].name, &self.api.agents[n]);
        let place = view.agents.binary_search_by(|agent| agent.name.cmp(name));
        if !object.exists {
            return;
        }
        let sequence = object.report.as_ref().map(|report| report.sequence);
        let known = place.ok().and_then(|at| view.agents.get(at));
        let same = known.is_some_and(|agent| agent.report.as_ref().map(|report| report.sequence) == sequence);
        let changed_at = known.filter(|_| same).map_or(local.mono, |agent| agent.changed_at);
        let agent = NodeAgentView {
            name: name.clone(),
            uid: format!("{name}-agent"),
            resource_version: object.version.to_string(),
            orders: object.orders.clone(),
            report: object.report.clone(),
            changed_at,
        };
        match place {
            Ok(at) => view.agents[at] = agent,
            Err(at) => view.agents.insert(at, agent),
        }
    }

    fn see_incident(&self, view: &mut ClusterView, name: &str) {
        let place = view.incidents.binary_search_by(|incident| incident.name.as_str().cmp(name));
        let Some(stored) = self.api.incidents.get(name) else {
            if let Ok(at) = place {
                view.incidents.remove(at);
            }
            return;
        };
        let incident = IncidentView {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            resource_version: stored.version.to_string(),
            created_at: Some(Now::at(stored.created.0).wall),
            spec: stored.spec.clone(),
            status: stored.status.clone(),
        };
        match place {
            Ok(at) => view.incidents[at] = incident,
            Err(at) => view.incidents.insert(at, incident),
        }
    }

    fn see_pods(&self, view: &mut ClusterView, targets: &Arc<Targets>) {
        let mut pods: Vec<&Pod> = self.api.pods.iter().collect();
        pods.sort_by(|a, b| a.key.cmp(&b.key));
        view.pods = pods.iter().map(|pod| self.pod_view(pod)).collect();
        view.coredns = pods.iter().map(|pod| self.container_state(pod)).collect();
        view.targets = Arc::clone(targets);
        let workload = &self.api.workload;
        let (ready, updated) = (self.api.ready(), self.api.updated());
        view.workload = Some(WorkloadView {
            kind: WorkloadKind::Deployment,
            key: Self::workload_key(),
            uid: "coredns-uid".to_owned(),
            resource_version: workload.version.to_string(),
            replicas: workload.replicas,
            ready,
            updated,
            available: ready,
            generation: workload.generation,
            observed_generation: workload.observed,
            container: Some("coredns".to_owned()),
            memory_limit: Some(workload.limit),
            paused: workload.paused,
            memory_owner: workload.memory_owner.clone(),
            replicas_owner: workload.replicas_owner.clone(),
        });
        let rollout = self.api.rollout();
        view.rollout = RolloutObserved { in_progress: rollout.is_some(), because: rollout.unwrap_or_default() };
        let budget = |n: usize| BudgetView {
            key: ObjectKey::new("kube-system", format!("coredns-{n}")),
            disruptions_allowed: i32::try_from((ready + 1).saturating_sub(workload.replicas)).unwrap_or(0),
            current_healthy: i32::try_from(ready).unwrap_or(0),
            desired_healthy: i32::try_from(workload.replicas.saturating_sub(1)).unwrap_or(0),
            observed: true,
            always_allow_unhealthy: false,
            matches: pods.iter().map(|pod| pod.uid.clone()).collect(),
        };
        view.budgets = (0..self.api.budgets).map(budget).collect();
    }

    fn pod_view(&self, pod: &Pod) -> DnsPodView {
        DnsPodView {
            uid: pod.uid.clone(),
            key: pod.key.clone(),
            resource_version: pod.version.to_string(),
            node: Some(self.nodes[pod.node].name.clone()),
            phase: "Running".to_owned(),
            ready: pod.ready,
            terminating: pod.terminating.is_some(),
            created_at: Some(Now::at(pod.created.0).wall),
            owner: Some(format!("ReplicaSet/coredns-{}", pod.revision)),
            containers: vec![DnsContainerView {
                name: "coredns".to_owned(),
                memory_limit: Some(pod.limit),
                memory_applied: Some(pod.limit),
                restarts: pod.restarts,
                oom_killed_at: pod.oom_at.map(|at| Now::at(at.0).wall),
            }],
        }
    }

    fn container_state(&self, pod: &Pod) -> CorednsPodState {
        CorednsPodState {
            pod: pod.uid.clone(),
            key: pod.key.clone(),
            node: Some(self.nodes[pod.node].name.clone()),
            phase: "Running".to_owned(),
            ready: pod.ready,
            terminating: pod.terminating.is_some(),
            created_at: Some(Now::at(pod.created.0).wall),
            container: "coredns".to_owned(),
            restarts: pod.restarts,
            running_since: Some(Now::at(pod.created.0).wall),
            waiting: None,
            ended: None,
            held_up: None,
        }
    }

    /// The DNS Service and its endpoints.
    pub(crate) fn targets(&mut self) -> Arc<Targets> {
        // Whatever changes a pod changes the version of the workload's status.
        let version = self.api.workload.version;
        if self.targets.0 != version {
            self.targets = (version, self.made_targets());
        }
        Arc::clone(&self.targets.1)
    }

    fn made_targets(&self) -> Arc<Targets> {
        let port = |name: &str| Some(ServicePort { name: name.to_owned(), port: 53 });
        let pods = self.api.pods.iter().map(|pod| DnsPod {
            uid: pod.uid.clone(),
            key: pod.key.clone(),
            node: Some(self.nodes[pod.node].name.clone()),
            ips: vec![pod.ip],
            udp_port: Some(53),
            tcp_port: Some(53),
            ready: pod.ready,
            terminating: pod.terminating.is_some(),
        });
        Arc::new(Targets {
            service: Some(DnsService {
                key: ObjectKey::new("kube-system", "kube-dns"),
                cluster_ips: vec![[10, 96, 0, 10].into()],
                udp_port: port("dns"),
                tcp_port: port("dns-tcp"),
                internal_traffic_local: false,
            }),
            pods: pods.collect(),
            cluster_domain: "cluster.local".to_owned(),
            kubernetes_service: vec![[10, 96, 0, 1].into()],
            api_endpoints: Vec::new(),
        })
    }
}
