//! What the pages say, without HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nameward_messages::Now;
use nameward_messages::health::{ActorName, Stage};
use nameward_supervision::{ActorReport, HealthBoard, clock};
use serde::Serialize;

use crate::mind::Output;
use crate::names::Metric;
use crate::registry::{Registry, RegistryError};
use crate::state::{About, Snapshot, State};

/// What the pages say: shared between the actor, which changes it, and the HTTP endpoint, which shows it.
#[derive(Clone)]
pub struct Pages {
    inner: Arc<Inner>,
}

struct Inner {
    about: About,
    started: Now,
    board: HealthBoard,
    registry: Registry,
    snapshot: Mutex<Arc<Snapshot>>,
    open_state: AtomicBool,
    pause_file: OnceLock<PathBuf>,
}

/// One page's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) json: bool,
    pub(crate) body: String,
}

impl Page {
    fn text(status: u16, body: String) -> Self {
        Self { status, json: false, body }
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    about: &'a About,
    uptime_s: u64,
    ready: bool,
    awaited: Vec<String>,
    troubles: Vec<String>,
    stages: BTreeMap<ActorName, &'a Stage>,
    actors: &'a BTreeMap<ActorName, ActorReport>,
    #[serde(flatten)]
    state: State<'a>,
}

impl Pages {
    /// Pages that show nothing yet but the board.
    ///
    /// # Errors
    /// When a metric is defined in a way that Prometheus does not accept, which a test rules out.
    pub fn new(about: About, board: HealthBoard) -> Result<Self, RegistryError> {
        let registry = Registry::new()?;
        let version = vec![about.version.clone().into()];
        registry.apply(&[Output::Replace { metric: Metric::BuildInfo, series: vec![(version, 1.0)] }]);
        Ok(Self {
            inner: Arc::new(Inner {
                about,
                started: clock::now(),
                board,
                registry,
                snapshot: Mutex::default(),
                open_state: AtomicBool::new(false),
                pause_file: OnceLock::new(),
            }),
        })
    }

    /// Does what the mind decided.
    pub(crate) fn apply(&self, outputs: &[Output]) {
        self.inner.registry.apply(outputs);
        for output in outputs {
            if let Output::Publish(snapshot) = output {
                let old = std::mem::replace(&mut *self.snapshot(), Arc::clone(snapshot));
                drop(old);
            }
        }
    }

    /// The local file of the kill switch: looked for whenever the metrics are read. The first one counts.
    pub fn watch_pause_file(&self, file: PathBuf) {
        let _ = self.inner.pause_file.set(file);
    }

    /// The node that this process runs on.
    pub(crate) fn node(&self) -> &str {
        &self.inner.about.node
    }

    /// Whether `/state` answers to others than loopback.
    pub(crate) fn open_state(&self, open: bool) {
        self.inner.open_state.store(open, Ordering::Relaxed);
    }

    fn snapshot(&self) -> std::sync::MutexGuard<'_, Arc<Snapshot>> {
        self.inner.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn metrics(&self) -> Page {
        // A file that cannot be looked for stops changes, too.
        let paused = self.inner.pause_file.get().map(|file| !matches!(file.try_exists(), Ok(false)));
        match self.inner.registry.text(&self.inner.board, paused) {
            Ok(text) => Page::text(200, text),
            Err(error) => Page::text(500, format!("{error}\n")),
        }
    }

    pub(crate) fn healthz(&self) -> Page {
        let troubles = self.inner.board.troubles();
        if troubles.is_empty() { Page::text(200, "ok\n".to_owned()) } else { Page::text(503, lines(&troubles)) }
    }

    pub(crate) fn readyz(&self) -> Page {
        let reports = self.inner.board.reports();
        let awaited = self.inner.board.awaited();
        if reports.is_empty() {
            return Page::text(503, "awaited:\nno actor has been started yet\n".to_owned());
        }
        if !awaited.is_empty() {
            return Page::text(503, format!("awaited:\n{}", lines(&awaited)));
        }
        let degraded: Vec<String> = reports
            .iter()
            .filter_map(|(name, report)| match &report.stage {
                Stage::Degraded(because) => Some(format!("degraded: {name}: {because}")),
                Stage::Starting(_) | Stage::Ready => None,
            })
            .collect();
        Page::text(200, format!("ready\n{}", lines(&degraded)))
    }

    pub(crate) fn state(&self, peer: IpAddr) -> Page {
        let inner = &*self.inner;
        if !inner.open_state.load(Ordering::Relaxed) && !peer.to_canonical().is_loopback() {
            return Page::text(
                403,
                format!(
                    "/state answers to loopback alone, and you ask from {peer}. Ask from the node itself (kubectl exec or \
                     port-forward), or set metrics.open_state = true.\n"
                ),
            );
        }
        let snapshot = Arc::clone(&self.snapshot());
        let actors = inner.board.reports();
        let awaited = inner.board.awaited();
        let whole = Whole {
            about: &inner.about,
            uptime_s: clock::now().mono.since(inner.started.mono).as_secs(),
            ready: awaited.is_empty() && !actors.is_empty(),
            awaited,
            troubles: inner.board.troubles(),
            stages: actors.iter().map(|(name, report)| (*name, &report.stage)).collect(),
            actors: &actors,
            state: snapshot.view(),
        };
        match serde_json::to_string(&whole) {
            Ok(body) => Page { status: 200, json: true, body },
            Err(error) => Page::text(500, format!("cannot write the state as JSON: {error}\n")),
        }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("about", &self.inner.about).finish_non_exhaustive()
    }
}

fn lines(of: &[String]) -> String {
    of.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests;
