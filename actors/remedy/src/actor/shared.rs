//! The shell of the shared executor.

use std::sync::Arc;

use nameward_cluster::calls::Cluster;
use nameward_config::Config;
use nameward_messages::Mono;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::plan::{LeaseState, Plan, SharedRemedyTells};
use nameward_supervision::{Actor, Context, Listener, Message, Retain, WhenFull, fan_out};

use super::{paused_here, perform};
use crate::shared::call::CallResult;
use crate::shared::{Input, Output, SharedMind};

/// What the shared executor is told.
#[derive(Clone, Debug)]
pub enum SharedMessage {
    /// The cluster.
    View(Arc<ClusterView>),
    /// The Lease.
    Lease(LeaseState),
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// What to do.
    Plan(Plan),
    /// What came of a request.
    Called {
        /// Its number.
        call: u64,
        /// What came of it.
        result: CallResult,
    },
    /// New settings.
    Reconfigure(Arc<Config>),
}

impl Message for SharedMessage {
    fn when_full(&self) -> WhenFull {
        match self {
            Self::Plan(_) => WhenFull::DropNewest,
            Self::View(_) | Self::Lease(_) | Self::KillSwitch(_) | Self::Called { .. } | Self::Reconfigure(_) => {
                WhenFull::DropOldest
            }
        }
    }

    fn merge_key(&self) -> Option<String> {
        match self {
            Self::View(_) => Some("view".to_owned()),
            Self::Lease(_) => Some("lease".to_owned()),
            Self::KillSwitch(_) => Some("kill-switch".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::Plan(plan) => Some(format!("plan/{}", plan.incident)),
            Self::Called { .. } => None,
        }
    }

    fn retain(&self) -> Retain {
        match (self, self.merge_key()) {
            (Self::Plan(_) | Self::Called { .. }, _) | (_, None) => Retain::No,
            (_, Some(key)) => Retain::Keep(key),
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// What the shared executor works with and whom it tells.
#[derive(Clone)]
pub struct SharedWiring {
    /// The API.
    pub cluster: Cluster,
    /// The coordinator first, then metrics.
    pub listeners: Vec<Listener<SharedRemedyTells>>,
}

/// The shared executor.
pub struct SharedRemedyActor {
    mind: SharedMind,
    wiring: SharedWiring,
}

impl SharedRemedyActor {
    /// One that knows nothing yet. Called by the factory, also after a panic: an act that was under way then is found
    /// again by its intent, and verified.
    #[must_use]
    pub fn new(config: &Config, wiring: SharedWiring) -> Self {
        Self { mind: SharedMind::new(Arc::new(config.clone())), wiring }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let now = ctx.now();
        let mut out = Vec::new();
        self.mind.step(now, Input::PausedHere(paused_here()), &mut out);
        self.mind.step(now, input, &mut out);
        for output in out {
            match output {
                Output::Tell(tells) => {
                    if let SharedRemedyTells::Record { incident, record, .. } = &tells {
                        tracing::info!(
                            %incident, remedy = %record.kind, outcome = record.outcome.label(), subject = %record.subject,
                            "{}", record.detail
                        );
                    }
                    fan_out(&self.wiring.listeners, tells);
                }
                Output::Call { id, call } => {
                    let (cluster, me) = (self.wiring.cluster.clone(), ctx.me());
                    ctx.spawn(async move {
                        let result = perform::perform(&cluster, call).await;
                        me.tell(SharedMessage::Called { call: id, result });
                    });
                }
            }
        }
    }
}

impl Actor for SharedRemedyActor {
    type Message = SharedMessage;

    fn handle(&mut self, message: SharedMessage, ctx: &Context<Self>) {
        let input = match message {
            SharedMessage::View(view) => Input::View(view),
            SharedMessage::Lease(lease) => Input::Lease(lease),
            SharedMessage::KillSwitch(switch) => Input::KillSwitch(switch),
            // Nothing new is begun while the process ends.
            SharedMessage::Plan(_) if ctx.draining() => return,
            SharedMessage::Plan(plan) => Input::Plan(plan),
            SharedMessage::Called { call, result } => Input::CallDone { call, result },
            SharedMessage::Reconfigure(config) => Input::Configure(config),
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
