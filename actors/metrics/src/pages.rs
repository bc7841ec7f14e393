//! What the pages say, without HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nameward_messages::Now;
use nameward_messages::health::{ActorName, Stage};
use nameward_messages::status::Status;
use nameward_supervision::{ActorReport, HealthBoard, clock};
use serde::Serialize;

use crate::gate::{Gate, Review};
use crate::html;
use crate::mind::Output;
use crate::names::Metric;
use crate::registry::{Registry, RegistryError};
use crate::state::{About, Snapshot, State};
use crate::status::{Around, status};

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
    gate: Gate,
    pause_file: OnceLock<PathBuf>,
}

/// One page's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) kind: Kind,
    pub(crate) body: String,
}

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Json,
    Html,
}

impl Page {
    pub(crate) fn text(status: u16, body: String) -> Self {
        Self { status, kind: Kind::Text, body }
    }

    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { status: 200, kind: Kind::Json, body },
            Err(error) => Self::text(500, format!("cannot be written as JSON: {error}\n")),
        }
    }
}

/// Who asks for a page that is not for everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// Its address.
    pub(crate) peer: IpAddr,
    /// The host that it believes to ask, with or without a port; browsers always say.
    pub(crate) host: Option<&'a str>,
    /// The bearer token that it shows.
    pub(crate) token: Option<&'a str>,
}

/// How somebody may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// He is on this machine.
    Own,
    /// He is not, and this is what he is told.
    Shut(Page),
    /// He is not, and must say who he is.
    Gate,
}

impl Asker<'_> {
    /// A browser on this machine can be led here by a page from elsewhere, whose name was made to resolve to loopback (DNS
    /// rebinding). Then the host is that name.
    fn names_this_machine(&self) -> bool {
        self.host.is_none_or(|host| {
            let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
            let name = name.map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']');
            name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
        })
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
                gate: Gate::default(),
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

    /// Whether the page, `/status.json` and `/state` answer to others than loopback, if the API server lets them in.
    pub(crate) fn open_state(&self, open: bool) {
        self.inner.open_state.store(open, Ordering::Relaxed);
    }

    fn snapshot(&self) -> std::sync::MutexGuard<'_, Arc<Snapshot>> {
        self.inner.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn metrics(&self) -> Page {
        match self.inner.registry.text(&self.inner.board, self.paused()) {
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

    /// Who asks the API server whether visitors from elsewhere may be let in. The first one counts.
    pub fn reviewed_by(&self, review: Arc<dyn Review>) {
        self.inner.gate.reviewed_by(review);
    }

    /// How somebody may come in who asks for what is known of the cluster.
    pub(crate) fn entry(&self, asker: Asker<'_>) -> Entry {
        let peer = asker.peer;
        let local = peer.to_canonical().is_loopback();
        if local && asker.names_this_machine() {
            return Entry::Own;
        }
        if self.inner.open_state.load(Ordering::Relaxed) {
            return Entry::Gate;
        }
        let because = if local {
            "This page answers to loopback alone, under the name localhost or an address, and you ask for another name. Set \
             metrics.open_state = true if it is meant to be served under one.\n"
                .to_owned()
        } else {
            format!(
                "This page answers to loopback alone, and you ask from {peer}. Ask from the node itself (kubectl exec or \
                 port-forward), or set metrics.open_state = true.\n"
            )
        };
        Entry::Shut(Page::text(403, because))
    }

    /// Lets somebody in, or says why not. `path`: as a role of the cluster names it.
    pub(crate) async fn admit(&self, asker: Asker<'_>, path: &'static str) -> Result<(), Page> {
        match self.entry(asker) {
            Entry::Own => Ok(()),
            Entry::Shut(page) => Err(page),
            Entry::Gate => self.inner.gate.admit(asker.token, path).await,
        }
    }

    /// The status page as HTML.
    pub(crate) fn html(&self) -> Page {
        Page { status: 200, kind: Kind::Html, body: html::page(&self.status()) }
    }

    /// The same as JSON.
    pub(crate) fn status_json(&self) -> Page {
        Page::json(&self.status())
    }

    fn status(&self) -> Status {
        let inner = &*self.inner;
        let snapshot = Arc::clone(&self.snapshot());
        let around = Around {
            uptime: clock::now().mono.since(inner.started.mono),
            awaited: inner.board.awaited(),
            troubles: inner.board.troubles(),
            paused: self.paused().unwrap_or(false),
        };
        status(&snapshot, &inner.about, &around)
    }

    /// Whether the file of the kill switch is there. One that cannot be looked for stops changes, too.
    fn paused(&self) -> Option<bool> {
        self.inner.pause_file.get().map(|file| !matches!(file.try_exists(), Ok(false)))
    }

    /// Everything, as JSON.
    pub(crate) fn state(&self) -> Page {
        let inner = &*self.inner;
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
        Page::json(&whole)
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
