//! The shell of the node remedy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nameward_config::Config;
use nameward_kernel::enter::EnterPool;
use nameward_kernel::repair;
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::guarding::RefusalReason;
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::probe::{ProbeAnswer, ProbeRequest};
use nameward_messages::remedy::{RemedyKind, RemedyRecord};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::Targets;
use nameward_messages::verdict::{DiagnosisTells, VerdictKey};
use nameward_messages::{Mono, NodeName};
use nameward_supervision::{Actor, Context, Listener, Message, Retain, WhenFull, fan_out};

use super::disk::{FileDisk, boot_id};
use super::paused_here;
use crate::journal::{Found, Journal};
use crate::node::{Input, Job, JobResult, NodeMind, Output};

/// How long one step of a repair may take: the kernel answers in milliseconds, a disk in a few seconds.
const STEP: Duration = Duration::from_secs(10);

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
    /// What can be asked.
    Targets(Arc<Targets>),
    /// What was asked to verify was answered.
    Answer(Arc<ProbeAnswer>),
    /// The journal was opened.
    Journal {
        /// Of which boot.
        boot: String,
        /// What was found, or why not.
        found: Result<Found, String>,
    },
    /// A step of a repair ended.
    Done {
        /// Which.
        task: u64,
        /// What came of it.
        result: JobResult,
    },
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
            Self::Diagnosis(
                DiagnosisTells::Unmodelled(_) | DiagnosisTells::Recovered(_) | DiagnosisTells::Way { .. },
            ) => Some("notes".to_owned()),
            Self::Orders(_) => Some("orders".to_owned()),
            Self::KillSwitch(_) => Some("kill-switch".to_owned()),
            Self::Targets(_) => Some("targets".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::Diagnosis(DiagnosisTells::Stands(_) | DiagnosisTells::Ended { .. })
            | Self::Namespace(_)
            | Self::Answer(_)
            | Self::Journal { .. }
            | Self::Done { .. } => None,
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
                | DiagnosisTells::Recovered(_)
                | DiagnosisTells::Way { .. },
            ) => Retain::No,
            Self::Orders(_) => Retain::Keep("orders".to_owned()),
            Self::Namespace(NamespaceChanged::Found(ns)) => Retain::Keep(format!("ns/{}", ns.cookie.0)),
            Self::Namespace(NamespaceChanged::Gone { cookie, .. }) => Retain::Forget(format!("ns/{}", cookie.0)),
            Self::KillSwitch(_) => Retain::Keep("kill-switch".to_owned()),
            Self::Targets(_) => Retain::Keep("targets".to_owned()),
            // Of the incarnation that asked: the next one opens the journal itself.
            Self::Answer(_) | Self::Journal { .. } | Self::Done { .. } => Retain::No,
            Self::Reconfigure(_) => Retain::Keep("config".to_owned()),
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// What the node remedy works with and whom it tells. Make it once and clone it for every rebuild.
#[derive(Clone)]
pub struct NodeWiring {
    node: NodeName,
    pool: EnterPool,
    listeners: Vec<Listener<RemedyRecord>>,
    refusals: Vec<Listener<(RemedyKind, RefusalReason)>>,
    prober: Listener<ProbeRequest>,
    hands: Arc<Hands>,
}

/// What outlives a rebuild: a step that was begun is ended, and no other begun before.
#[derive(Default)]
struct Hands {
    turn: tokio::sync::Mutex<()>,
    journal: Mutex<Option<Journal<FileDisk>>>,
}

impl NodeWiring {
    /// This node; threads that enter namespaces; who hears the records (the reporter, then metrics); who hears why a repair was
    /// held back (metrics); the prober, for verification.
    #[must_use]
    pub fn new(
        node: NodeName,
        pool: EnterPool,
        listeners: Vec<Listener<RemedyRecord>>,
        refusals: Vec<Listener<(RemedyKind, RefusalReason)>>,
        prober: Listener<ProbeRequest>,
    ) -> Self {
        Self { node, pool, listeners, refusals, prober, hands: Arc::default() }
    }
}

/// The node remedy.
pub struct NodeRemedyActor {
    mind: NodeMind,
    wiring: NodeWiring,
    journal: std::path::PathBuf,
}

impl NodeRemedyActor {
    /// One that knows nothing yet. Called by the factory, also after a panic: a repair that was under way then is found again
    /// by the journal.
    #[must_use]
    pub fn new(config: &Config, wiring: NodeWiring) -> Self {
        let journal = config.remedy.journal.clone();
        let mind = NodeMind::new(Arc::new(config.clone())).on(&wiring.node);
        Self { mind, wiring, journal }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let now = ctx.now();
        let mut out = Vec::new();
        self.mind.step(now, Input::PausedHere(paused_here()), &mut out);
        self.mind.step(now, input, &mut out);
        for output in out {
            match output {
                Output::Tell(record) => {
                    tracing::info!(
                        remedy = %record.kind, outcome = record.outcome.label(), subject = %record.subject, "{}",
                        record.detail
                    );
                    fan_out(&self.wiring.listeners, record);
                }
                Output::Refused { kind, reason } => fan_out(&self.wiring.refusals, (kind, reason)),
                Output::Probe(request) => (self.wiring.prober)(request),
                Output::Do { task, job } => self.work(task, job, ctx),
            }
        }
    }

    /// Does one step. It is not cut off with the actor: whoever is next waits for its end, and compares.
    fn work(&self, task: u64, job: Job, ctx: &Context<Self>) {
        let (wiring, me) = (self.wiring.clone(), ctx.me());
        ctx.spawn(async move {
            let step = tokio::spawn(async move {
                let _turn = wiring.hands.turn.lock().await;
                perform(&wiring, job).await
            });
            if let Ok(result) = step.await {
                me.tell(NodeMessage::Done { task, result });
            }
        });
    }
}

async fn perform(wiring: &NodeWiring, job: Job) -> JobResult {
    let pool = &wiring.pool;
    match job {
        Job::Look(wanted) => JobResult::Seen(repair::look(pool, &wanted, STEP).await),
        Job::Read(change) => JobResult::Image(repair::read(pool, &change, STEP).await),
        Job::Apply { change, before } => {
            tracing::info!("repair: {change}");
            JobResult::Image(repair::apply(pool, &change, &before, STEP).await)
        }
        Job::Undo { change, before, wrote } => {
            tracing::info!("repair: taking back what is done by {change}");
            JobResult::Undone(repair::undo(pool, &change, &before, &wrote, STEP).await)
        }
        Job::Journal(entries) => {
            let hands = Arc::clone(&wiring.hands);
            let write = move || {
                let mut journal = hands.journal.lock().unwrap_or_else(PoisonError::into_inner);
                let journal = journal.as_mut().ok_or("it is not open")?;
                entries.into_iter().try_for_each(|entry| journal.write(entry)).map_err(|error| chain(&error))
            };
            // A disk that hangs keeps its thread; whoever waits does not.
            let written = tokio::time::timeout(STEP, tokio::task::spawn_blocking(write)).await;
            JobResult::Journalled(match written {
                Ok(Ok(written)) => written,
                Ok(Err(_)) => Err("writing it panicked".to_owned()),
                Err(_) => Err(format!("it was not on the disk within {STEP:?}")),
            })
        }
    }
}

/// Opens the journal, and keeps it.
fn open(hands: &Hands, path: &std::path::Path) -> (String, Result<Found, String>) {
    let boot = match boot_id() {
        Ok(boot) => boot,
        Err(error) => return (String::new(), Err(format!("the id of this boot cannot be read: {error}"))),
    };
    let mut place = hands.journal.lock().unwrap_or_else(PoisonError::into_inner);
    // The lock on the file goes with the old one.
    *place = None;
    let opened = FileDisk::open(path)
        .map_err(|error| format!("{}: {error}", path.display()))
        .and_then(|disk| Journal::open(disk, &boot).map_err(|error| format!("{}: {}", path.display(), chain(&error))));
    let found = opened.map(|(journal, found)| {
        *place = Some(journal);
        if found.damaged > 0 {
            tracing::warn!(
                lines = found.damaged,
                "the journal of repairs had lines that were not whole: what they were to announce was not begun"
            );
        }
        if found.foreign > 0 {
            tracing::warn!(
                lines = found.foreign,
                file = %path.display(),
                "another release wrote lines of the journal that this one cannot read: the changes that they name are neither \
                 verified nor taken back, and stay in the file; look whether they are still wanted"
            );
        }
        if found.void > 0 {
            tracing::info!(entries = found.void, "entries of another boot in the journal of repairs are void");
        }
        found
    });
    (boot, found)
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

impl Actor for NodeRemedyActor {
    type Message = NodeMessage;

    fn started(&mut self, ctx: &Context<Self>) {
        let (wiring, me, path) = (self.wiring.clone(), ctx.me(), self.journal.clone());
        ctx.spawn(async move {
            // A step of an earlier incarnation comes to its end first.
            let _turn = wiring.hands.turn.lock().await;
            let hands = Arc::clone(&wiring.hands);
            let opened = tokio::task::spawn_blocking(move || open(&hands, &path)).await;
            let (boot, found) = opened.unwrap_or_else(|_| (String::new(), Err("opening it panicked".to_owned())));
            if let Err(why) = &found {
                tracing::warn!("the journal of repairs cannot be used, so nothing is repaired: {why}");
            }
            me.tell(NodeMessage::Journal { boot, found });
        });
    }

    fn handle(&mut self, message: NodeMessage, ctx: &Context<Self>) {
        let input = match message {
            NodeMessage::Diagnosis(tells) => Input::Diagnosis(tells),
            NodeMessage::Orders(orders) => Input::Orders(orders),
            NodeMessage::Namespace(changed) => Input::Namespace(changed),
            NodeMessage::KillSwitch(switch) => Input::KillSwitch(switch),
            NodeMessage::Targets(targets) => Input::Targets(targets),
            NodeMessage::Answer(answer) => Input::Answer(answer),
            NodeMessage::Journal { boot, found } => Input::Journal { boot, found },
            NodeMessage::Done { task, result } => Input::Done { task, result },
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
