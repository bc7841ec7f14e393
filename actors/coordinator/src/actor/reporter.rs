//! The shell of the reporter.

use std::sync::Arc;
use std::time::Duration;

use nameward_cluster::calls::{CallError, Cluster};
use nameward_cluster::failure::Class;
use nameward_config::Config;
use nameward_messages::health::{ActorName, Stage};
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::probe::{ProbeAnswer, ProbeRequest};
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::Targets;
use nameward_messages::verdict::{DiagnosisTells, VerdictKey};
use nameward_messages::{Mono, NodeName};
use nameward_supervision::{Actor, Context, HealthBoard, Listener, Message, Retain, WhenFull, fan_out};

use crate::reporter::{Input, Output, ReadResult, ReporterMind, WriteResult};

/// What the reporter is told.
#[derive(Clone, Debug)]
pub enum ReporterMessage {
    /// What diagnosis concludes.
    Diagnosis(DiagnosisTells),
    /// What a node remedy did or would have done.
    Remedy(RemedyRecord),
    /// This node's orders.
    Orders(NodeOrders),
    /// What can be asked.
    Targets(Arc<Targets>),
    /// From where it can be asked.
    Namespace(NamespaceChanged),
    /// What the prober answers.
    Answer(Arc<ProbeAnswer>),
    /// What came of reading this node's own object.
    WasRead(ReadResult),
    /// What came of a write.
    Wrote(WriteResult),
    /// New settings.
    Reconfigure(Arc<Config>),
}

fn verdict(key: &VerdictKey) -> String {
    format!("verdict/{}/{}/{:?}", key.cause, key.subject, key.subject.uid)
}

impl Message for ReporterMessage {
    fn when_full(&self) -> WhenFull {
        WhenFull::DropOldest
    }

    fn merge_key(&self) -> Option<String> {
        match self {
            Self::Diagnosis(DiagnosisTells::Deferred(_)) => Some("deferred".to_owned()),
            Self::Diagnosis(DiagnosisTells::Examined(_)) => Some("examined".to_owned()),
            Self::Diagnosis(DiagnosisTells::Matrix(_)) => Some("matrix".to_owned()),
            Self::Diagnosis(DiagnosisTells::Unmodelled(_)) => Some("unmodelled".to_owned()),
            Self::Orders(_) => Some("orders".to_owned()),
            Self::Targets(_) => Some("targets".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::Diagnosis(
                DiagnosisTells::Stands(_)
                | DiagnosisTells::Ended { .. }
                | DiagnosisTells::Recovered(_)
                | DiagnosisTells::Way { .. },
            )
            | Self::Remedy(_)
            | Self::Namespace(_)
            | Self::Answer(_)
            | Self::WasRead(_)
            | Self::Wrote(_) => None,
        }
    }

    fn retain(&self) -> Retain {
        match self {
            Self::Diagnosis(DiagnosisTells::Stands(v)) => Retain::Keep(verdict(&v.key())),
            Self::Diagnosis(DiagnosisTells::Ended { key, .. }) => Retain::Forget(verdict(key)),
            Self::Namespace(NamespaceChanged::Found(ns)) => Retain::Keep(format!("ns/{}", ns.cookie.0)),
            Self::Namespace(NamespaceChanged::Gone { cookie, .. }) => Retain::Forget(format!("ns/{}", cookie.0)),
            Self::Diagnosis(
                DiagnosisTells::Deferred(_)
                | DiagnosisTells::Examined(_)
                | DiagnosisTells::Matrix(_)
                | DiagnosisTells::Unmodelled(_),
            )
            | Self::Orders(_)
            | Self::Targets(_)
            | Self::Reconfigure(_) => self.merge_key().map_or(Retain::No, Retain::Keep),
            Self::Diagnosis(DiagnosisTells::Recovered(_) | DiagnosisTells::Way { .. })
            | Self::Remedy(_)
            | Self::Answer(_)
            | Self::WasRead(_)
            | Self::Wrote(_) => Retain::No,
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// What the reporter works with and whom it tells.
#[derive(Clone)]
pub struct ReporterWiring {
    /// The API.
    pub cluster: Cluster,
    /// This node.
    pub node: NodeName,
    /// How the fellow actors fare.
    pub board: HealthBoard,
    /// The agent's version.
    pub version: String,
    /// The prober.
    pub requests: Vec<Listener<ProbeRequest>>,
}

/// The reporter.
pub struct ReporterActor {
    mind: ReporterMind,
    wiring: ReporterWiring,
    looked: Option<Mono>,
}

/// How often the board is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl ReporterActor {
    /// One that knows nothing yet. Called by the factory, also after a panic.
    #[must_use]
    pub fn new(config: &Config, wiring: ReporterWiring) -> Self {
        let mind = ReporterMind::new(Arc::new(config.clone()), wiring.version.clone(), fastrand::u64(..));
        Self { mind, wiring, looked: None }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let now = ctx.now();
        let mut out = Vec::new();
        if self.looked.is_none_or(|at| now.mono.since(at) >= LOOK_EVERY) {
            self.looked = Some(now.mono);
            let reports = self.wiring.board.reports().into_iter();
            let stages = reports.filter(|(name, _)| *name != ActorName::Reporter).map(|(name, r)| (name, r.stage));
            let fellows = Input::Fellows { stages: stages.collect(), troubles: self.wiring.board.troubles() };
            self.mind.step(now, fellows, &mut out);
        }
        self.mind.step(now, input, &mut out);
        for output in out {
            self.perform(output, ctx);
        }
        ctx.stage(self.mind.trouble().map_or(Stage::Ready, |trouble| Stage::Degraded(trouble.to_owned())));
    }

    fn perform(&self, output: Output, ctx: &Context<Self>) {
        let (cluster, node, me) = (self.wiring.cluster.clone(), self.wiring.node.clone(), ctx.me());
        match output {
            Output::Probe(request) => fan_out(&self.wiring.requests, request),
            Output::Read => ctx.spawn(async move {
                let result = match cluster.get_agent(&node).await {
                    Ok(agent) => ReadResult::Found(agent.report.map(|report| Box::new((*report).clone()))),
                    Err(error) if error.class == Class::NotFound => ReadResult::Missing,
                    Err(error) => ReadResult::Failed(error.explain()),
                };
                me.tell(ReporterMessage::WasRead(result));
            }),
            Output::Create => ctx.spawn(async move {
                // Owned by its Node where the Node may be read; else it outlives the Node and is deleted by hand.
                let uid = cluster.get_node(node.as_str()).await.ok().map(|found| found.metadata.uid);
                let owner = uid.as_deref().filter(|uid| !uid.is_empty());
                let created = cluster.create_agent(&node, owner).await.map(|_| ());
                me.tell(ReporterMessage::Wrote(written(created)));
            }),
            Output::Write(report) => ctx.spawn(async move {
                let written_report = cluster.write_report(&node, &report).await.map(|_| ());
                me.tell(ReporterMessage::Wrote(written(written_report)));
            }),
        }
    }
}

fn written(result: Result<(), CallError>) -> WriteResult {
    match result {
        Ok(()) => WriteResult::Done,
        Err(error) if error.class == Class::NotFound => WriteResult::Missing,
        Err(error) if error.class == Class::Conflict => WriteResult::Conflict,
        Err(error) => {
            tracing::warn!(error = %error.explain(), "the report was not written");
            WriteResult::Failed(error.explain())
        }
    }
}

impl Actor for ReporterActor {
    type Message = ReporterMessage;

    fn started(&mut self, ctx: &Context<Self>) {
        ctx.stage(Stage::Starting("this node's NodeAgent has not been read yet".to_owned()));
        self.step(Input::Tick, ctx);
    }

    fn handle(&mut self, message: ReporterMessage, ctx: &Context<Self>) {
        let input = match message {
            ReporterMessage::Diagnosis(tells) => Input::Diagnosis(tells),
            ReporterMessage::Remedy(record) => Input::Remedy(record),
            ReporterMessage::Orders(orders) => Input::Orders(orders),
            ReporterMessage::Targets(targets) => Input::Targets(targets),
            ReporterMessage::Namespace(changed) => Input::Namespace(changed),
            ReporterMessage::Answer(answer) => Input::Answer(answer),
            ReporterMessage::WasRead(result) => Input::WasRead(result),
            ReporterMessage::Wrote(result) => Input::Wrote(result),
            ReporterMessage::Reconfigure(config) => Input::Configure(config),
        };
        self.step(input, ctx);
    }

    fn deadline(&self) -> Option<Mono> {
        let look = self.looked.map(|at| at + LOOK_EVERY);
        [self.mind.deadline(), look].into_iter().flatten().min()
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        self.step(Input::Tick, ctx);
    }
}
