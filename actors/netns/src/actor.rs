//! The shell: receives, steps the mind, looks at the machine, tells.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nameward_config::Config;
use nameward_kernel::enter::EnterPool;
use nameward_messages::health::Stage;
use nameward_messages::namespaces::{Namespace, NamespaceChanged};
use nameward_messages::pods::PodChanged;
use nameward_messages::{Mono, PodUid};
use nameward_supervision::{Actor, Context, Listener, Message, Retain, WhenFull, fan_out};
use tokio::sync::watch;

use crate::mind::{Input, NetnsMind, Output, Settings, Summary};
use crate::scan;
use crate::sighting::{Scan, ScanRequest};

/// How often the folders are looked at for a change. A look is one `stat` of each.
const GLANCE: Duration = Duration::from_secs(1);

/// What the netns actor is told.
#[derive(Clone, Debug)]
pub enum NetnsMessage {
    /// By the watcher.
    Pod(PodChanged),
    /// By its own scan.
    Scanned(Box<Scan>),
    /// By its own look at the folders.
    FoldersChanged,
    /// A new configuration.
    Reconfigure(Arc<Config>),
}

impl NetnsMessage {
    fn key(&self) -> String {
        match self {
            Self::Pod(PodChanged::Applied(pod)) => format!("pod/{}", pod.uid),
            Self::Pod(PodChanged::Gone(uid)) => format!("pod/{uid}"),
            Self::Pod(PodChanged::Synced) => "synced".to_owned(),
            Self::Scanned(_) => "scanned".to_owned(),
            Self::FoldersChanged => "folders".to_owned(),
            Self::Reconfigure(_) => "config".to_owned(),
        }
    }
}

impl Message for NetnsMessage {
    fn when_full(&self) -> WhenFull {
        match self {
            Self::Pod(_) | Self::Reconfigure(_) => WhenFull::DropOldest,
            // Both come again.
            Self::Scanned(_) | Self::FoldersChanged => WhenFull::DropNewest,
        }
    }

    fn merge_key(&self) -> Option<String> {
        match self {
            // Its place in the queue is what it means: after every pod before it.
            Self::Pod(PodChanged::Synced) => None,
            _ => Some(self.key()),
        }
    }

    fn retain(&self) -> Retain {
        match self {
            Self::Pod(PodChanged::Gone(_)) => Retain::Forget(self.key()),
            Self::Pod(PodChanged::Applied(_) | PodChanged::Synced) | Self::Reconfigure(_) => Retain::Keep(self.key()),
            Self::Scanned(_) | Self::FoldersChanged => Retain::No,
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// What is told as found, kept over a rebuilding of the actor: without it nobody would tell that a namespace went
/// while the actor was being rebuilt.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<BTreeMap<PodUid, Namespace>>>);

impl Known {
    fn note(&self, change: &NamespaceChanged) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            NamespaceChanged::Found(namespace) => {
                known.insert(namespace.pod.clone(), namespace.clone());
            }
            NamespaceChanged::Gone { pod, cookie } => {
                if known.get(pod).is_some_and(|n| n.cookie == *cookie) {
                    known.remove(pod);
                }
            }
        }
    }

    fn all(&self) -> Vec<Namespace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// What the actor is wired to. Made once; the factory clones it.
#[derive(Clone)]
pub struct Wiring {
    /// Threads that enter namespaces.
    pub pool: EnterPool,
    /// Who is told of namespaces: the prober, diagnosis.
    pub listeners: Vec<Listener<NamespaceChanged>>,
    /// Survives a rebuilding of the actor.
    pub known: Known,
}

impl Wiring {
    /// With nothing known yet.
    #[must_use]
    pub fn new(pool: EnterPool, listeners: Vec<Listener<NamespaceChanged>>) -> Self {
        Self { pool, listeners, known: Known::default() }
    }
}

/// The netns actor.
pub struct NetnsActor {
    mind: NetnsMind,
    wiring: Wiring,
    config: watch::Sender<nameward_config::settings::Netns>,
}

impl NetnsActor {
    /// An actor that knows what was told before it.
    #[must_use]
    pub fn new(config: &Config, wiring: Wiring) -> Self {
        let mind = NetnsMind::new(Settings::of(config));
        Self { mind, wiring, config: watch::Sender::new(config.netns.clone()) }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let mut out = Vec::new();
        self.mind.step(ctx.now(), input, &mut out);
        for output in out {
            match output {
                Output::Tell(change) => {
                    self.wiring.known.note(&change);
                    fan_out(&self.wiring.listeners, change);
                }
                Output::Scan(request) => self.scan(request, ctx),
                Output::Summary(summary) => ctx.stage(stage(&summary)),
            }
        }
    }

    fn scan(&self, request: ScanRequest, ctx: &Context<Self>) {
        let (pool, config, me) = (self.wiring.pool.clone(), self.config.borrow().clone(), ctx.me());
        ctx.spawn(async move {
            let scan = scan::scan(&pool, &config, request).await;
            let _ = me.tell(NetnsMessage::Scanned(Box::new(scan)));
        });
    }
}

impl Actor for NetnsActor {
    type Message = NetnsMessage;

    fn started(&mut self, ctx: &Context<Self>) {
        ctx.stage(stage(&Summary::default()));
        let known = self.wiring.known.all();
        self.step(Input::Known(known), ctx);
        let (config, me) = (self.config.subscribe(), ctx.me());
        ctx.spawn(async move {
            let mut last = scan::glance(&config).await;
            loop {
                tokio::time::sleep(GLANCE).await;
                let now = scan::glance(&config).await;
                if now != last {
                    last = now;
                    let _ = me.tell(NetnsMessage::FoldersChanged);
                }
            }
        });
    }

    fn handle(&mut self, message: NetnsMessage, ctx: &Context<Self>) {
        let input = match message {
            NetnsMessage::Pod(change) => Input::Pod(change),
            NetnsMessage::Scanned(scan) => {
                for trouble in &scan.troubles {
                    tracing::debug!(trouble, "namespaces: a source could not be read");
                }
                Input::Scanned(*scan)
            }
            NetnsMessage::FoldersChanged => Input::FoldersChanged,
            NetnsMessage::Reconfigure(config) => {
                self.config.send_replace(config.netns.clone());
                Input::Settings(Settings::of(&config))
            }
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

/// For `/readyz` and `/state`.
fn stage(summary: &Summary) -> Stage {
    let mut lost = summary.troubles.clone();
    if !summary.surplus.is_empty() {
        lost.push(format!("{} pods are not probed from: raise netns.limit", summary.surplus.len()));
    }
    if !summary.synced {
        Stage::Starting("waiting for the first list of this node's pods".to_owned())
    } else if lost.is_empty() {
        Stage::Ready
    } else {
        Stage::Degraded(lost.join("; "))
    }
}
