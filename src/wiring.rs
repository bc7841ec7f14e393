//! Who tells whom. Nothing else is decided here.
//!
//! Inboxes come first, so that every actor is given the outlets of its successors; then each actor is started with a
//! factory that can build it again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use nameward_cluster::connect::Connection;
use nameward_config::Config;
use nameward_coordinator::actor as coordinating;
use nameward_coordinator::actor::{
    CoordinatorActor, CoordinatorMessage, CoordinatorWiring, ReporterActor, ReporterMessage, ReporterWiring,
};
use nameward_diagnosis::actor::{DiagnosisActor, DiagnosisMessage};
use nameward_kernel::enter::EnterPool;
use nameward_kernel::sockets::LocalSockets;
use nameward_messages::NodeName;
use nameward_messages::health::{ActorName, Stage};
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::plan::{LeaseState, Plan, SharedRemedyTells};
use nameward_messages::probe::{ProbeRequest, ProberTells};
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::report::NodeOrders;
use nameward_messages::verdict::DiagnosisTells;

use nameward_metrics::{MetricsActor, MetricsInput, Pages};
use nameward_netns::{NetnsActor, NetnsMessage};
use nameward_prober::actor::{ProberActor, ProberMessage};
use nameward_remedy::actor as remedying;
use nameward_remedy::actor::{
    NodeMessage, NodeRemedyActor, NodeWiring, SharedMessage, SharedRemedyActor, SharedWiring,
};
use nameward_remedy::pause::PAUSE_FILE;
use nameward_supervision::{Inbox, Listener, Outlet, Supervisor, inbox};
use nameward_watcher::actor::{WatcherActor, WatcherMessage};
use nameward_watcher::{Role, Tell};

/// Room in the inboxes of the agent's actors. One message a namespace (512 at most by default) must fit, and a few rounds.
const INBOX: usize = 1024;

/// What every actor may need.
pub(crate) struct Parts {
    /// The configuration in force.
    pub(crate) config: Arc<Config>,
    /// This node.
    pub(crate) node: NodeName,
    /// Which half runs.
    pub(crate) role: Role,
    /// The API.
    pub(crate) connection: Connection,
    /// Threads that enter namespaces.
    pub(crate) pool: EnterPool,
}

/// Whoever wants to hear what an agent's actors tell, besides their successors.
#[derive(Clone, Default)]
pub(crate) struct Ears {
    pub(crate) watcher: Vec<Listener<Tell>>,
    pub(crate) netns: Vec<Listener<NamespaceChanged>>,
    pub(crate) prober: Vec<Listener<ProberTells>>,
    pub(crate) diagnosis: Vec<Listener<DiagnosisTells>>,
}

/// Tells every actor of a new configuration.
pub(crate) type Reconfigure = Vec<Listener<Arc<Config>>>;

/// Turns an outlet into a listener.
fn to<T: 'static, M: nameward_supervision::Message>(
    outlet: &Outlet<M>,
    message: impl Fn(T) -> M + Send + Sync + 'static,
) -> Listener<T> {
    let outlet = outlet.clone();
    Arc::new(move |tell| {
        outlet.tell(message(tell));
    })
}

/// The actors that watch, discover, probe and diagnose: the same in `run` and in `check`.
struct Core {
    prober: (Outlet<ProberMessage>, Inbox<ProberMessage>),
    diagnosis: (Outlet<DiagnosisMessage>, Inbox<DiagnosisMessage>),
    netns: (Outlet<NetnsMessage>, Inbox<NetnsMessage>),
}

impl Core {
    fn new() -> Self {
        Self {
            prober: inbox(ActorName::Prober, INBOX),
            diagnosis: inbox(ActorName::Diagnosis, INBOX),
            netns: inbox(ActorName::Netns, INBOX),
        }
    }

    /// What the watcher tells these actors.
    fn hear_watcher(&self) -> Listener<Tell> {
        let (netns, prober, diagnosis) = (self.netns.0.clone(), self.prober.0.clone(), self.diagnosis.0.clone());
        Arc::new(move |tell| match tell {
            Tell::Targets(targets) => {
                prober.tell(ProberMessage::Targets(Arc::clone(&targets)));
                diagnosis.tell(DiagnosisMessage::Targets(targets));
            }
            Tell::Pod(change) => {
                netns.tell(NetnsMessage::Pod(change));
            }
            Tell::OomKilled(kill) => {
                diagnosis.tell(DiagnosisMessage::OomKilled(kill));
            }
            Tell::Coredns(pods) => {
                diagnosis.tell(DiagnosisMessage::Coredns(pods));
            }
            Tell::Misfits(pods) => {
                diagnosis.tell(DiagnosisMessage::Misfits(pods));
            }
            Tell::Rollout(rollout) => {
                diagnosis.tell(DiagnosisMessage::Rollout(rollout));
            }
            Tell::Orders(orders) => {
                diagnosis.tell(DiagnosisMessage::Complaints(orders.complaints.clone()));
                prober.tell(ProberMessage::Orders(orders));
            }
            Tell::KillSwitch(switch) => {
                diagnosis.tell(DiagnosisMessage::KillSwitch(switch));
            }
            Tell::View(_) | Tell::Stage(_) => {}
        })
    }

    fn start(self, supervisor: &mut Supervisor, parts: &Parts, ears: Ears, reconfigure: &mut Reconfigure) {
        let config = Arc::clone(&parts.config);
        reconfigure.push(to(&self.netns.0, NetnsMessage::Reconfigure));
        reconfigure.push(to(&self.prober.0, ProberMessage::Reconfigure));
        reconfigure.push(to(&self.diagnosis.0, DiagnosisMessage::Reconfigure));

        let mut namespaces: Vec<Listener<NamespaceChanged>> =
            vec![to(&self.prober.0, ProberMessage::Namespace), to(&self.diagnosis.0, DiagnosisMessage::Namespace)];
        namespaces.extend(ears.netns);
        let mut observations: Vec<Listener<ProberTells>> = vec![to(&self.diagnosis.0, DiagnosisMessage::Prober)];
        observations.extend(ears.prober);
        let requests: Listener<ProbeRequest> = to(&self.prober.0, ProberMessage::Request);

        let wiring = nameward_diagnosis::actor::Wiring {
            node: parts.node.clone(),
            pool: Some(parts.pool.clone()),
            listeners: ears.diagnosis,
            prober: requests,
        };
        let own = Arc::clone(&config);
        supervisor.start(self.diagnosis.1, move || DiagnosisActor::new(&own, wiring.clone()));

        let sockets = Arc::new(LocalSockets::new(parts.pool.clone()));
        let wiring = nameward_prober::actor::Wiring::new(parts.node.clone(), sockets, observations);
        let own = Arc::clone(&config);
        supervisor.start(self.prober.1, move || ProberActor::new(&own, wiring.clone()));

        let wiring = nameward_netns::Wiring::new(parts.pool.clone(), namespaces);
        supervisor.start(self.netns.1, move || NetnsActor::new(&config, wiring.clone()));
    }
}

fn start_watcher(
    supervisor: &mut Supervisor,
    parts: &Parts,
    listeners: Vec<Listener<Tell>>,
    reconfigure: &mut Reconfigure,
) {
    let (outlet, inbox) = inbox::<WatcherMessage>(ActorName::Watcher, nameward_watcher::actor::INBOX);
    reconfigure.push(to(&outlet, WatcherMessage::Reconfigure));
    let wiring = nameward_watcher::actor::Wiring {
        connection: parts.connection.clone(),
        role: parts.role,
        node: parts.node.clone(),
        seen: nameward_watcher::SeenKills::new(nameward_supervision::clock::now().wall),
        listeners,
    };
    let config = Arc::clone(&parts.config);
    supervisor.start(inbox, move || WatcherActor::new(&config, wiring.clone()));
}

/// Queries per second to one CoreDNS pod that a person's single check may send, times 1000: a burst of seconds, not the
/// standing load that shares are for.
const CHECK_SHARE: u64 = 100_000;

/// Starts what asks once from here: watcher, netns, prober, diagnosis.
pub(crate) fn start_check(supervisor: &mut Supervisor, parts: &Parts, ears: Ears) {
    let core = Core::new();
    let share = NodeOrders { share_milli_qps: Some(CHECK_SHARE), ..NodeOrders::default() };
    core.prober.0.tell(ProberMessage::Orders(share));
    let hear = core.hear_watcher();
    // The agent's orders are the agent's.
    let hear: Listener<Tell> = Arc::new(move |tell| match tell {
        Tell::Orders(_) => {}
        other => hear(other),
    });
    let mut watcher = vec![hear];
    watcher.extend(ears.watcher.clone());
    let mut reconfigure = Vec::new();
    core.start(supervisor, parts, ears, &mut reconfigure);
    start_watcher(supervisor, parts, watcher, &mut reconfigure);
}

/// Where a survey is made, and with what.
pub(crate) struct Around {
    pub(crate) config: Arc<Config>,
    pub(crate) node: NodeName,
    pub(crate) pool: EnterPool,
}

/// Who hears what a survey's actors tell.
pub(crate) struct Survey {
    pub(crate) watcher: Listener<Tell>,
    pub(crate) namespaces: Listener<NamespaceChanged>,
    pub(crate) prober: Listener<ProberTells>,
}

/// Starts what looks around for one vantage: watcher, netns and a prober that is told by the caller alone what to ask, and
/// from where. The caller judges. Without an API to ask, the prober alone is started.
pub(crate) fn start_survey(
    supervisor: &mut Supervisor,
    around: &Around,
    connection: Option<&Connection>,
    tells: Survey,
) -> Outlet<ProberMessage> {
    let (prober, prober_inbox) = inbox::<ProberMessage>(ActorName::Prober, INBOX);
    prober.tell(ProberMessage::Orders(NodeOrders { share_milli_qps: Some(CHECK_SHARE), ..NodeOrders::default() }));
    let sockets = Arc::new(LocalSockets::new(around.pool.clone()));
    let wiring = nameward_prober::actor::Wiring::new(around.node.clone(), sockets, vec![tells.prober]);
    let own = Arc::clone(&around.config);
    supervisor.start(prober_inbox, move || ProberActor::new(&own, wiring.clone()));
    let Some(connection) = connection else { return prober };

    let (netns, netns_inbox) = inbox::<NetnsMessage>(ActorName::Netns, INBOX);
    let wiring = nameward_netns::Wiring::new(around.pool.clone(), vec![tells.namespaces]);
    let own = Arc::clone(&around.config);
    supervisor.start(netns_inbox, move || NetnsActor::new(&own, wiring.clone()));
    let pods: Listener<Tell> = Arc::new(move |tell| {
        if let Tell::Pod(change) = tell {
            netns.tell(NetnsMessage::Pod(change));
        }
    });
    let parts = Parts {
        config: Arc::clone(&around.config),
        node: around.node.clone(),
        role: Role::Agent,
        connection: connection.clone(),
        pool: around.pool.clone(),
    };
    start_watcher(supervisor, &parts, vec![pods, tells.watcher], &mut Vec::new());
    prober
}

/// Starts every actor of a role; gives back how to tell them of a new configuration, and the metrics' outlet.
pub(crate) fn start(supervisor: &mut Supervisor, parts: &Parts, pages: &Pages) -> (Reconfigure, Outlet<MetricsInput>) {
    let mut reconfigure = Vec::new();
    let (metrics, metrics_inbox) = inbox::<MetricsInput>(ActorName::Metrics, 2 * INBOX);
    reconfigure.push(to(&metrics, MetricsInput::Reconfigure));
    let (config, pages) = (Arc::clone(&parts.config), pages.clone());
    pages.watch_pause_file(PAUSE_FILE.into());
    supervisor.start(metrics_inbox, move || MetricsActor::new(&config, pages.clone()));

    let mut watcher: Vec<Listener<Tell>> = vec![to_metrics(&metrics)];
    if parts.role.agent() {
        watcher.extend(start_agent(supervisor, parts, &metrics, &mut reconfigure));
    }
    if parts.role.coordinator() {
        watcher.push(start_coordinator(supervisor, parts, &metrics, &mut reconfigure));
    }
    start_watcher(supervisor, parts, watcher, &mut reconfigure);
    (reconfigure, metrics)
}

fn to_metrics(metrics: &Outlet<MetricsInput>) -> Listener<Tell> {
    let metrics = metrics.clone();
    let known: Mutex<BTreeSet<String>> = Mutex::default();
    Arc::new(move |tell| {
        let _ = match tell {
            Tell::Targets(targets) => metrics.tell(MetricsInput::Targets(targets)),
            Tell::OomKilled(kill) => metrics.tell(MetricsInput::Oom(kill)),
            Tell::Orders(orders) => metrics.tell(MetricsInput::Orders(Arc::new(orders))),
            Tell::Stage(stage) => metrics.tell(MetricsInput::Api { reachable: matches!(stage, Stage::Ready) }),
            Tell::KillSwitch(switch) => metrics.tell(MetricsInput::KillSwitch(switch)),
            Tell::View(view) => {
                let now: BTreeSet<String> = view.incidents.iter().map(|i| i.name.clone()).collect();
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                for name in known.difference(&now).cloned() {
                    metrics.tell(MetricsInput::IncidentGone { name });
                }
                *known = now;
                for incident in &view.incidents {
                    let (name, spec) = (incident.name.clone(), incident.spec.clone());
                    metrics.tell(MetricsInput::Incident { name, spec, status: incident.status.clone() });
                }
                metrics.tell(MetricsInput::View(view))
            }
            Tell::Pod(_) | Tell::Coredns(_) | Tell::Misfits(_) | Tell::Rollout(_) => return,
        };
    })
}

fn start_agent(
    supervisor: &mut Supervisor,
    parts: &Parts,
    metrics: &Outlet<MetricsInput>,
    reconfigure: &mut Reconfigure,
) -> Vec<Listener<Tell>> {
    let core = Core::new();
    let (reporter, reporter_inbox) = inbox::<ReporterMessage>(ActorName::Reporter, coordinating::INBOX);
    let (node, node_inbox) = inbox::<NodeMessage>(ActorName::NodeRemedy, remedying::INBOX);
    reconfigure.push(to(&reporter, ReporterMessage::Reconfigure));
    reconfigure.push(to(&node, NodeMessage::Reconfigure));

    let wiring = ReporterWiring {
        cluster: parts.connection.cluster.clone(),
        node: parts.node.clone(),
        board: supervisor.board(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        requests: vec![to(&core.prober.0, ProberMessage::Request)],
    };
    let config = Arc::clone(&parts.config);
    supervisor.start(reporter_inbox, move || ReporterActor::new(&config, wiring.clone()));

    let records: Vec<Listener<RemedyRecord>> =
        vec![to(&reporter, ReporterMessage::Remedy), to(metrics, MetricsInput::Remedy)];
    let refusals = vec![to(metrics, |(kind, reason)| MetricsInput::Refused { kind, reason })];
    let prober = to(&core.prober.0, ProberMessage::Request);
    let wiring = NodeWiring::new(parts.node.clone(), parts.pool.clone(), records, refusals, prober);
    let config = Arc::clone(&parts.config);
    supervisor.start(node_inbox, move || NodeRemedyActor::new(&config, wiring.clone()));

    let answers: Listener<ProberTells> = {
        let (reporter, node) = (reporter.clone(), node.clone());
        Arc::new(move |tell| {
            if let ProberTells::Answer(answer) = tell {
                node.tell(NodeMessage::Answer(Arc::clone(&answer)));
                reporter.tell(ReporterMessage::Answer(answer));
            }
        })
    };
    let ears = Ears {
        watcher: Vec::new(),
        netns: vec![
            to(&reporter, ReporterMessage::Namespace),
            to(&node, NodeMessage::Namespace),
            to(metrics, MetricsInput::Namespace),
        ],
        prober: vec![answers, to(metrics, MetricsInput::from)],
        diagnosis: vec![
            to(&reporter, ReporterMessage::Diagnosis),
            to(&node, NodeMessage::Diagnosis),
            to(metrics, MetricsInput::Verdict),
        ],
    };
    let watcher = vec![core.hear_watcher(), to_agent(reporter, node)];
    core.start(supervisor, parts, ears, reconfigure);
    watcher
}

fn to_agent(reporter: Outlet<ReporterMessage>, node: Outlet<NodeMessage>) -> Listener<Tell> {
    Arc::new(move |tell| {
        let _ = match tell {
            Tell::Targets(targets) => {
                node.tell(NodeMessage::Targets(Arc::clone(&targets)));
                reporter.tell(ReporterMessage::Targets(targets))
            }
            Tell::Orders(orders) => {
                node.tell(NodeMessage::Orders(orders.clone()));
                reporter.tell(ReporterMessage::Orders(orders))
            }
            Tell::KillSwitch(switch) => node.tell(NodeMessage::KillSwitch(switch)),
            Tell::Pod(_)
            | Tell::OomKilled(_)
            | Tell::Coredns(_)
            | Tell::Misfits(_)
            | Tell::Rollout(_)
            | Tell::View(_)
            | Tell::Stage(_) => return,
        };
    })
}

fn start_coordinator(
    supervisor: &mut Supervisor,
    parts: &Parts,
    metrics: &Outlet<MetricsInput>,
    reconfigure: &mut Reconfigure,
) -> Listener<Tell> {
    let (coordinator, coordinator_inbox) = inbox::<CoordinatorMessage>(ActorName::Coordinator, coordinating::INBOX);
    let (shared, shared_inbox) = inbox::<SharedMessage>(ActorName::SharedRemedy, remedying::INBOX);
    reconfigure.push(to(&coordinator, CoordinatorMessage::Reconfigure));
    reconfigure.push(to(&shared, SharedMessage::Reconfigure));

    let acts: Listener<SharedRemedyTells> = {
        let metrics = metrics.clone();
        Arc::new(move |tell| {
            if let SharedRemedyTells::Record { record, reason, .. } = tell {
                if let Some(reason) = reason {
                    metrics.tell(MetricsInput::Refused { kind: record.kind, reason });
                }
                metrics.tell(MetricsInput::Remedy(record));
            }
        })
    };
    let wiring = SharedWiring {
        cluster: parts.connection.cluster.clone(),
        listeners: vec![to(&coordinator, CoordinatorMessage::Shared), acts],
    };
    let config = Arc::clone(&parts.config);
    supervisor.start(shared_inbox, move || SharedRemedyActor::new(&config, wiring.clone()));

    let leases: Vec<Listener<LeaseState>> =
        vec![to(&shared, SharedMessage::Lease), to(metrics, |lease: LeaseState| MetricsInput::Leader(lease.leading))];
    let plans: Vec<Listener<Plan>> = vec![to(&shared, SharedMessage::Plan)];
    let wiring = CoordinatorWiring {
        cluster: parts.connection.cluster.clone(),
        identity: coordinating::new_identity(parts.node.as_str()),
        leases,
        plans,
        records: vec![to(metrics, |(_, record): (String, RemedyRecord)| MetricsInput::Remedy(record))],
        refusals: vec![to(metrics, |(kind, reason)| MetricsInput::Refused { kind, reason })],
        breakers: vec![to(metrics, |(breaker, open)| MetricsInput::Breaker { breaker, open })],
        pause_file: PAUSE_FILE.into(),
    };
    let config = Arc::clone(&parts.config);
    supervisor.start(coordinator_inbox, move || CoordinatorActor::new(&config, wiring.clone()));

    Arc::new(move |tell| {
        let _ = match tell {
            Tell::View(view) => {
                shared.tell(SharedMessage::View(Arc::clone(&view)));
                coordinator.tell(CoordinatorMessage::View(view))
            }
            Tell::KillSwitch(switch) => {
                shared.tell(SharedMessage::KillSwitch(switch));
                coordinator.tell(CoordinatorMessage::KillSwitch(switch))
            }
            Tell::OomKilled(kill) => coordinator.tell(CoordinatorMessage::OomKilled(kill)),
            Tell::Targets(_)
            | Tell::Pod(_)
            | Tell::Coredns(_)
            | Tell::Misfits(_)
            | Tell::Rollout(_)
            | Tell::Orders(_)
            | Tell::Stage(_) => return,
        };
    })
}
