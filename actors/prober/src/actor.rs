//! The shell: receives, lets the mind decide, probes, tells.

use std::sync::{Arc, Mutex, PoisonError};

use nameward_config::Config;
use nameward_kernel::sockets::SocketSource;
use nameward_messages::health::Stage;
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::probe::{NotAsked, Observation, Outcome, ProbeRequest, ProberTells};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::Targets;
use nameward_messages::{Mono, NodeName};
use nameward_supervision::{Actor, Context, Listener, Message, Retain, WhenFull, fan_out};

use crate::held::Held;
use crate::mind::{Input, JobId, Memory, Output, ProberMind};
use crate::sweep::{Tools, shoot};

/// What the prober is told.
#[derive(Clone, Debug)]
pub enum ProberMessage {
    /// What can be asked.
    Targets(Arc<Targets>),
    /// A namespace was found or is gone.
    Namespace(NamespaceChanged),
    /// The node's orders.
    Orders(NodeOrders),
    /// Probes outside the rounds.
    Request(ProbeRequest),
    /// A new configuration.
    Reconfigure(Arc<Config>),
    /// A job of its own ended.
    Done {
        /// Which.
        job: JobId,
        /// What came of it.
        observations: Vec<Observation>,
    },
}

impl Message for ProberMessage {
    fn when_full(&self) -> WhenFull {
        match self {
            // Whoever asks has a deadline and asks again.
            Self::Request(_) => WhenFull::DropNewest,
            Self::Targets(_) | Self::Namespace(_) | Self::Orders(_) | Self::Reconfigure(_) | Self::Done { .. } => {
                WhenFull::DropOldest
            }
        }
    }

    fn merge_key(&self) -> Option<String> {
        match self {
            Self::Targets(_) => Some("targets".to_owned()),
            Self::Namespace(NamespaceChanged::Found(namespace)) => Some(format!("ns-{}", namespace.cookie.0)),
            Self::Namespace(NamespaceChanged::Gone { cookie, .. }) => Some(format!("ns-{}", cookie.0)),
            Self::Orders(_) => Some("orders".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::Request(_) | Self::Done { .. } => None,
        }
    }

    fn retain(&self) -> Retain {
        match (self, self.merge_key()) {
            (Self::Namespace(NamespaceChanged::Gone { .. }), Some(key)) => Retain::Forget(key),
            (_, Some(key)) => Retain::Keep(key),
            (_, None) => Retain::No,
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// What the prober is connected with.
#[derive(Clone)]
pub struct Wiring {
    node: NodeName,
    sockets: Arc<dyn SocketSource>,
    listeners: Vec<Listener<ProberTells>>,
    memory: Arc<Mutex<Memory>>,
}

impl Wiring {
    /// For a node: where sockets come from and who hears the results. Make it once and clone it for every rebuild.
    #[must_use]
    pub fn new(node: NodeName, sockets: Arc<dyn SocketSource>, listeners: Vec<Listener<ProberTells>>) -> Self {
        Self { node, sockets, listeners, memory: Arc::default() }
    }
}

/// The prober.
pub struct ProberActor {
    mind: ProberMind,
    wiring: Wiring,
    tools: Tools,
}

impl ProberActor {
    /// A prober that goes on where the last one of the same wiring ended.
    #[must_use]
    pub fn new(config: &Config, wiring: Wiring) -> Self {
        let memory = wiring.memory.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mind = ProberMind::new(Arc::new(config.clone()), wiring.node.clone(), fastrand::u64(..), memory);
        let tools = Tools { sockets: Arc::clone(&wiring.sockets), held: Held::default() };
        Self { mind, wiring, tools }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let mut out = Vec::new();
        self.mind.step(ctx.now(), input, &mut out);
        if out.iter().any(|one| matches!(one, Output::Run(_) | Output::Tell(_))) {
            *self.wiring.memory.lock().unwrap_or_else(PoisonError::into_inner) = self.mind.memory();
        }
        for one in out {
            self.effect(one, ctx);
        }
    }

    fn effect(&mut self, output: Output, ctx: &Context<Self>) {
        match output {
            Output::Run(job) => {
                let (tools, me) = (self.tools.clone(), ctx.me());
                ctx.spawn(async move {
                    let id = job.id;
                    let observations = shoot(&tools, job).await;
                    me.tell(ProberMessage::Done { job: id, observations });
                });
            }
            Output::Close(cookie) => self.tools.held.close(cookie),
            Output::Tell(tell) => {
                if let ProberTells::Round(round) = &tell {
                    ctx.stage(standing(&round.observations));
                }
                fan_out(&self.wiring.listeners, tell);
            }
        }
    }
}

/// What a round says about ourselves.
fn standing(observations: &[Observation]) -> Stage {
    let lost = |why| observations.iter().any(|one| one.outcome == Outcome::NotAsked { why });
    if lost(NotAsked::NoPermission) {
        Stage::Degraded(
            "no probes from pods' network namespaces: entering them is not permitted; grant CAP_SYS_ADMIN".to_owned(),
        )
    } else if lost(NotAsked::NoResources) {
        Stage::Degraded(
            "some probes are not sent: descriptors, ports or memory ran out; raise the limits or lower probe.concurrency"
                .to_owned(),
        )
    } else {
        Stage::Ready
    }
}

impl Actor for ProberActor {
    type Message = ProberMessage;

    fn started(&mut self, ctx: &Context<Self>) {
        ctx.stage(Stage::Starting("no sweep has ended yet: it waits for targets".to_owned()));
    }

    fn handle(&mut self, message: ProberMessage, ctx: &Context<Self>) {
        let input = match message {
            ProberMessage::Targets(targets) => Input::Targets(targets),
            ProberMessage::Namespace(change) => Input::Namespace(change),
            ProberMessage::Orders(orders) => Input::Orders(orders),
            ProberMessage::Request(request) => Input::Request(request),
            ProberMessage::Reconfigure(config) => Input::Reconfigure(config),
            ProberMessage::Done { job, observations } => Input::Done { job, observations },
        };
        self.step(input, ctx);
    }

    fn deadline(&self) -> Option<Mono> {
        self.mind.deadline()
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        self.step(Input::Tick, ctx);
    }
}
