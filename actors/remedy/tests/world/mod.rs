//! A cluster in virtual time: an API server with versions and preconditions, agents that answer, CoreDNS pods that
//! fail, and any number of processes with both minds. No sockets, no clock; one seed gives one history.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

pub mod agents;
pub mod api;
pub mod check;
pub mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::cluster_view::*;
use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::remedy::Mode;
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::{Mono, NodeName, Now, ObjectKey, PodUid, RequestId};

pub const MI: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub uid: PodUid,
    pub version: u64,
    pub node: NodeName,
    pub ready: bool,
    pub ready_at: Mono,
    pub dead: bool,
    pub dead_since: Mono,
    pub limit: u64,
    pub oom_at: Option<jiff::Timestamp>,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub orders: NodeOrders,
    pub report: NodeReport,
    pub changed_at: Mono,
    pub silent: bool,
    pub vouches: bool,
    pub lies_about: Option<PodUid>,
    pub seen: BTreeMap<RequestId, Mono>,
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub uid: String,
    pub version: u64,
    pub spec: IncidentSpec,
    pub status: IncidentStatus,
}

/// One act on CoreDNS that the API server was asked for, with what was true at that moment.
#[derive(Clone, Debug)]
pub struct Act {
    pub at: Now,
    #[expect(dead_code, reason = "shown where an invariant is broken")]
    pub process: usize,
    pub what: String,
    pub pod: Option<PodUid>,
    pub dry: bool,
    pub committed: bool,
    pub ready_after: u32,
    pub desired: u32,
    pub memory: Option<(u64, u64)>,
    pub owned: bool,
    pub intents: usize,
}

/// Which node answered, when, the pods that fail with the number of failing namespaces, and the pods that are good.
pub type Answered = (NodeName, Mono, BTreeMap<PodUid, u32>, BTreeSet<PodUid>);

/// One question as the API server and the agents know it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub nodes: BTreeSet<NodeName>,
    pub answers: Vec<Answered>,
}

pub struct World {
    pub config: Arc<Config>,
    pub now: Now,
    pub rng: fastrand::Rng,
    pub version: u64,
    pub uids: u64,
    pub nodes: Vec<NodeName>,
    pub pods: Vec<Pod>,
    pub desired: u32,
    pub template: (u64, u64),
    pub owner: Option<String>,
    pub paused: bool,
    pub rollout_until: Option<Mono>,
    pub fix_on_replace: bool,
    pub agents: BTreeMap<NodeName, Agent>,
    pub incidents: BTreeMap<String, Stored>,
    pub lease: (usize, Mono),
    pub switch: KillSwitch,
    pub acts: Vec<Act>,
    pub asked: BTreeMap<RequestId, Asked>,
    pub processes: Vec<process::Process>,
    pub events: Vec<(Mono, String)>,
}

pub fn act_config() -> Config {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    config
}

impl World {
    pub fn new(config: Config, nodes: usize, pods: usize, seed: u64) -> Self {
        let nodes: Vec<NodeName> = (1..=nodes).map(|n| NodeName(format!("node{n}"))).collect();
        let now = Now::at(Duration::from_secs(1000));
        let mut world = Self {
            config: Arc::new(config),
            now,
            rng: fastrand::Rng::with_seed(seed),
            version: 100,
            uids: 0,
            nodes: nodes.clone(),
            pods: vec![],
            desired: u32::try_from(pods).unwrap(),
            template: (50, 170 * MI),
            owner: None,
            paused: false,
            rollout_until: None,
            fix_on_replace: true,
            agents: BTreeMap::new(),
            incidents: BTreeMap::new(),
            lease: (0, now.mono + Duration::from_secs(15)),
            switch: KillSwitch::Off,
            acts: vec![],
            asked: BTreeMap::new(),
            processes: vec![],
            events: vec![],
        };
        for n in 0..pods {
            let node = nodes[n % nodes.len()].clone();
            world.add_pod(node, true);
        }
        for node in nodes {
            let report = NodeReport { sequence: 1, self_check: true, namespaces: 3, ..NodeReport::default() };
            let agent = Agent {
                orders: NodeOrders::default(),
                report,
                changed_at: now.mono,
                silent: false,
                vouches: true,
                lies_about: None,
                seen: BTreeMap::new(),
            };
            world.agents.insert(node, agent);
        }
        world.start_process();
        world
    }

    pub fn add_pod(&mut self, node: NodeName, ready: bool) {
        self.uids += 1;
        self.version += 1;
        let delay = if ready { 0 } else { 4 };
        self.pods.push(Pod {
            name: format!("coredns-{}", self.uids),
            uid: PodUid(format!("uid-{}", self.uids)),
            version: self.version,
            node,
            ready,
            ready_at: self.now.mono + Duration::from_secs(delay),
            dead: false,
            dead_since: self.now.mono,
            limit: self.template.1,
            oom_at: None,
        });
    }

    /// A CoreDNS pod goes deaf on UDP; it stays Ready.
    pub fn break_pod(&mut self, index: usize) -> PodUid {
        self.pods[index].dead = true;
        self.pods[index].dead_since = self.now.mono;
        self.pods[index].uid.clone()
    }

    pub fn workload_key() -> ObjectKey {
        ObjectKey::new("kube-system", "coredns")
    }

    pub fn ready(&self) -> u32 {
        u32::try_from(self.pods.iter().filter(|p| p.ready).count()).unwrap()
    }

    pub fn rollout(&self) -> Option<String> {
        self.rollout_until.filter(|until| self.now.mono < *until).map(|_| "pods of an older template".to_owned())
    }

    pub fn view(&self) -> ClusterView {
        let pod = |p: &Pod| DnsPodView {
            uid: p.uid.clone(),
            key: ObjectKey::new("kube-system", p.name.clone()),
            resource_version: p.version.to_string(),
            node: Some(p.node.clone()),
            phase: "Running".into(),
            ready: p.ready,
            terminating: false,
            created_at: None,
            owner: None,
            containers: vec![DnsContainerView {
                name: "coredns".into(),
                memory_limit: Some(p.limit),
                memory_applied: Some(p.limit),
                restarts: 0,
                oom_killed_at: p.oom_at,
            }],
        };
        let agent = |(name, a): (&NodeName, &Agent)| NodeAgentView {
            name: name.clone(),
            uid: name.0.clone(),
            resource_version: a.report.sequence.to_string(),
            orders: a.orders.clone(),
            report: Some(Arc::new(a.report.clone())),
            changed_at: a.changed_at,
        };
        let incident = |(name, i): (&String, &Stored)| IncidentView {
            name: name.clone(),
            uid: i.uid.clone(),
            resource_version: i.version.to_string(),
            created_at: i.status.opened_at,
            spec: i.spec.clone(),
            status: i.status.clone(),
        };
        let rollout = self.rollout();
        ClusterView {
            complete: true,
            fresh_as_of: self.now.mono,
            pods: self.pods.iter().map(pod).collect(),
            workload: Some(WorkloadView {
                kind: WorkloadKind::Deployment,
                key: Self::workload_key(),
                uid: "w".into(),
                resource_version: self.template.0.to_string(),
                replicas: self.desired,
                ready: self.ready(),
                updated: self.desired,
                available: self.ready(),
                generation: 1,
                observed_generation: 1,
                container: Some("coredns".into()),
                memory_limit: Some(self.template.1),
                paused: self.paused,
                memory_owner: self.owner.clone(),
                replicas_owner: self.owner.clone(),
            }),
            rollout: nameward_messages::pods::RolloutObserved {
                in_progress: rollout.is_some(),
                because: rollout.unwrap_or_default(),
            },
            nodes: self
                .nodes
                .iter()
                .map(|n| NodeView {
                    name: n.clone(),
                    uid: n.0.clone(),
                    ready: None,
                    unschedulable: None,
                    zone: None,
                    terminating: false,
                })
                .collect(),
            agents: self.agents.iter().map(agent).collect(),
            incidents: self.incidents.iter().map(incident).collect(),
            ..ClusterView::default()
        }
    }

    pub fn evictions(&self) -> Vec<&Act> {
        self.acts.iter().filter(|a| a.what == "evict" && a.committed && !a.dry).collect()
    }

    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.step();
        }
    }

    pub fn run_until(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..seconds * 2 {
            if done(self) {
                return true;
            }
            self.step();
        }
        done(self)
    }

    pub fn step(&mut self) {
        self.now = self.now + Duration::from_millis(500);
        self.kubelet();
        self.agents_step();
        self.lease_step();
        self.processes_step();
    }

    fn kubelet(&mut self) {
        let now = self.now.mono;
        let mut version = self.version;
        for pod in self.pods.iter_mut().filter(|p| !p.ready && now >= p.ready_at) {
            pod.ready = true;
            version += 1;
            pod.version = version;
            self.template.0 = version + 1;
            version += 1;
        }
        self.version = version;
    }
}
