//! The shell of the node remedy.

use std::sync::Arc;

use nameward_config::Config;
use nameward_messages::Mono;
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::report::NodeOrders;
use nameward_messages::verdict::{DiagnosisTells, VerdictKey};
use nameward_supervision::{Actor, Context, Listener, Message, Retain, WhenFull, fan_out};

use super::paused_here;
use crate::node::{Input, NodeMind, Output};

/// What the node remedy is told.
#[derive(Clone, Debug)]
pub enum NodeMessage {
    /// What diagnosis concludes.
    Diagnosis(DiagnosisTells),
    /// This node's orders.
    Orders(NodeOrders),
    /// Namespaces.
    Namespace(NamespaceChanged),
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// New settings.
    Reconfigure(Arc<Config>),
}

fn verdict(key: &VerdictKey) -> String {
    format!("verdict/{}/{}/{:?}", key.cause, key.subject, key.subject.uid)
}

impl Message for NodeMessage {
    fn when_full(&self) -> WhenFull {
        WhenFull::DropOldest
    }

    fn merge_key(&self) -> Option<String> {
        match self {
            Self::Diagnosis(DiagnosisTells::Deferred(_)) => Some("deferred".to_owned()),
            Self::Diagnosis(DiagnosisTells::Examined(_)) => Some("examined".to_owned()),
            Self::Diagnosis(DiagnosisTells::Matrix(_)) => Some("matrix".to_owned()),
            Self::Diagnosis(DiagnosisTells::Unmodelled(_) | DiagnosisTells::Recovered(_)) => Some("notes".to_owned()),
            Self::Orders(_) => Some("orders".to_owned()),
            Self::KillSwitch(_) => Some("kill-switch".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::Diagnosis(DiagnosisTells::Stands(_) | DiagnosisTells::Ended { .. }) | Self::Namespace(_) => None,
        }
    }

    fn retain(&self) -> Retain {
        match self {
            Self::Diagnosis(DiagnosisTells::Stands(v)) => Retain::Keep(verdict(&v.key())),
            Self::Diagnosis(DiagnosisTells::Ended { key, .. }) => Retain::Forget(verdict(key)),
            Self::Diagnosis(
                DiagnosisTells::Deferred(_)
                | DiagnosisTells::Examined(_)
                | DiagnosisTells::Matrix(_)
                | DiagnosisTells::Unmodelled(_)
                | DiagnosisTells::Recovered(_),
            ) => Retain::No,
            Self::Orders(_) => Retain::Keep("orders".to_owned()),
            Self::Namespace(NamespaceChanged::Found(ns)) => Retain::Keep(format!("ns/{}", ns.cookie.0)),
            Self::Namespace(NamespaceChanged::Gone { cookie, .. }) => Retain::Forget(format!("ns/{}", cookie.0)),
            Self::KillSwitch(_) => Retain::Keep("kill-switch".to_owned()),
            Self::Reconfigure(_) => Retain::Keep("config".to_owned()),
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// Whom the node remedy tells.
#[derive(Clone)]
pub struct NodeWiring {
    /// The reporter, then metrics.
    pub listeners: Vec<Listener<RemedyRecord>>,
}

/// The node remedy.
pub struct NodeRemedyActor {
    mind: NodeMind,
    wiring: NodeWiring,
}

impl NodeRemedyActor {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(config: &Config, wiring: NodeWiring) -> Self {
        Self { mind: NodeMind::new(Arc::new(config.clone())), wiring }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let now = ctx.now();
        let mut out = Vec::new();
        self.mind.step(now, Input::PausedHere(paused_here()), &mut out);
        self.mind.step(now, input, &mut out);
        for Output::Tell(record) in out {
            tracing::info!(
                remedy = %record.kind, outcome = record.outcome.label(), subject = %record.subject, "{}", record.detail
            );
            fan_out(&self.wiring.listeners, record);
        }
    }
}

impl Actor for NodeRemedyActor {
    type Message = NodeMessage;

    fn handle(&mut self, message: NodeMessage, ctx: &Context<Self>) {
        let input = match message {
            NodeMessage::Diagnosis(tells) => Input::Diagnosis(tells),
            NodeMessage::Orders(orders) => Input::Orders(orders),
            NodeMessage::Namespace(changed) => Input::Namespace(changed),
            NodeMessage::KillSwitch(switch) => Input::KillSwitch(switch),
            NodeMessage::Reconfigure(config) => Input::Configure(config),
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
