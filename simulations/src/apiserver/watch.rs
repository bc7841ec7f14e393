//! Watches: what a stream still has to say, and the task that says it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::call::Call;
use super::faults::Stale;
use super::json::put;
use super::read::{Selection, cached_version, metadata_only, parse_version};
use super::resources::Resource;
use super::state::State;
use super::status::{Outcome, Refusal};

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: &'static str,
    /// The object, or a `Status`.
    pub object: Value,
}

impl WatchEvent {
    /// As a line of the stream.
    pub(crate) fn line(&self) -> String {
        let mut line = json!({"type": self.kind, "object": self.object}).to_string();
        line.push('\n');
        line
    }
}

/// The stream was cut in the middle.
#[derive(Debug)]
pub(crate) struct Cut;

/// A watch that was accepted.
#[derive(Debug)]
pub(crate) struct Plan {
    resource: Arc<Resource>,
    selection: Selection,
    /// Everything up to this version has been said.
    since: u64,
    /// Said first.
    initial: Vec<WatchEvent>,
    bookmarks: bool,
    metadata_only: bool,
    /// From inside: lag and stale caches do not matter to it.
    inside: bool,
    ends: Instant,
    next_bookmark: Instant,
    last_bookmark: Option<Instant>,
}

/// Between bookmarks.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without a time-out ends by itself after this.
const LONGEST: Duration = Duration::from_secs(1800);

impl Plan {
    /// Reads a request; refusals are answered instead of a stream.
    pub(crate) fn of(state: &State, call: &Call<'_>) -> Outcome<Self> {
        let (request, now) = (call.request, call.moment.at);
        let selection = Selection::of(call)?;
        let version = request.param("resourceVersion");
        let stated = parse_version(version)?;
        let bookmarks = request.flag("allowWatchBookmarks");
        let wants_state = request.flag("sendInitialEvents");
        if wants_state && request.param("resourceVersionMatch") != "NotOlderThan" {
            let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                           sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(Refusal::new(422, "Invalid", message, json!({"group": "meta.k8s.io", "kind": "ListOptions"})));
        }
        let timeout = request.param("timeoutSeconds").parse().map_or(LONGEST, Duration::from_secs).min(LONGEST);
        let last_bookmark = timeout.checked_sub(Duration::from_secs(2)).filter(|left| !left.is_zero());
        let mut plan = Self {
            resource: call.resource.clone(),
            selection,
            since: stated,
            initial: Vec::new(),
            bookmarks,
            metadata_only: request.accept.contains("as=PartialObjectMetadata"),
            inside: request.inside,
            ends: now + timeout,
            next_bookmark: now + BOOKMARK_EVERY,
            last_bookmark: last_bookmark.map(|left| now + left),
        };
        if wants_state || stated == 0 {
            let version = if plan.inside { state.version } else { cached_version(state) };
            let objects = state.objects_at(&call.resource.qualified(), version).unwrap_or_default();
            plan.since = version;
            plan.initial = objects
                .values()
                .filter(|object| plan.selection.matches(object))
                .map(|object| WatchEvent { kind: "ADDED", object: plan.rendered(object) })
                .collect();
            if wants_state && bookmarks {
                plan.initial.push(plan.bookmark(true));
            }
        }
        Ok(plan)
    }

    fn rendered(&self, object: &Value) -> Value {
        if self.metadata_only { metadata_only(object.clone()) } else { object.clone() }
    }

    /// A bookmark has the kind's empty form, as the API server's encoder writes it.
    fn bookmark(&self, initial_end: bool) -> WatchEvent {
        let mut object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": {"resourceVersion": self.since.to_string()},
        });
        if self.metadata_only {
            object["kind"] = "PartialObjectMetadata".into();
            object["apiVersion"] = "meta.k8s.io/v1".into();
        } else {
            let form = match self.resource.kind.as_str() {
                "Pod" => json!({"spec": {"containers": null}, "status": {}}),
                "Service" => json!({"spec": {}, "status": {"loadBalancer": {}}}),
                "EndpointSlice" => json!({"addressType": "", "endpoints": null, "ports": null}),
                "Lease" => json!({"spec": {}}),
                _ => json!({}),
            };
            for (name, value) in form.as_object().into_iter().flatten() {
                object[name] = value.clone();
            }
        }
        if initial_end {
            put(&mut object, &["metadata", "annotations"], json!({"k8s.io/initial-events-end": "true"}));
        }
        WatchEvent { kind: "BOOKMARK", object }
    }

    /// What can be said now. `Err` with a last event if the stream must end.
    fn pending(&mut self, state: &State, now: Instant) -> Result<Vec<WatchEvent>, Vec<WatchEvent>> {
        let mut events = std::mem::take(&mut self.initial);
        let frozen = state.faults.frozen.filter(|_| state.faults.stale != Stale::None && !self.inside);
        let lag = if self.inside { Duration::ZERO } else { state.faults.lag };
        // A version that lies ahead says nothing until it is reached.
        let table = self.resource.qualified();
        let Some(changes) = state.changes_after(&table, self.since) else {
            let gone = Refusal::expired("The resourceVersion for the provided watch is too old.");
            events.push(WatchEvent { kind: "ERROR", object: gone.body });
            return Err(events);
        };
        let mut seen = self.since;
        for change in changes {
            if frozen.is_some_and(|frozen| change.version > frozen) || change.at + lag > now {
                break;
            }
            seen = change.version;
            let was = change.before.as_ref().is_some_and(|before| self.selection.matches(before));
            let is = !change.gone && self.selection.matches(&change.object);
            let (kind, object) = match (was, is) {
                (false, true) => ("ADDED", self.rendered(&change.object)),
                (true, true) => ("MODIFIED", self.rendered(&change.object)),
                (true, false) if change.gone => ("DELETED", self.rendered(&change.object)),
                (true, false) => {
                    let mut last = change.before.as_deref().cloned().unwrap_or_default();
                    put(&mut last, &["metadata", "resourceVersion"], change.version.to_string());
                    ("DELETED", self.rendered(&last))
                }
                (false, false) => continue,
            };
            events.push(WatchEvent { kind, object });
        }
        self.since = seen;
        if self.bookmarks && (now >= self.next_bookmark || self.last_bookmark.is_some_and(|at| now >= at)) {
            if frozen.is_none() && lag.is_zero() {
                self.since = self.since.max(state.version);
            }
            events.push(self.bookmark(false));
            self.next_bookmark = now + BOOKMARK_EVERY;
            self.last_bookmark = self.last_bookmark.filter(|at| now < *at);
        }
        Ok(events)
    }

    /// When something happens without a change in the store.
    fn wake(&self, state: &State, now: Instant) -> Instant {
        let mut wake = self.ends;
        if self.bookmarks {
            wake = wake.min(self.next_bookmark);
            wake = self.last_bookmark.map_or(wake, |at| wake.min(at));
        }
        let lag = if self.inside { Duration::ZERO } else { state.faults.lag };
        if !lag.is_zero()
            && let Some(mut changes) = state.changes_after(&self.resource.qualified(), self.since)
            && let Some(next) = changes.next()
        {
            wake = wake.min(next.at + lag);
        }
        wake.max(now)
    }
}

/// Sends a watch's events until it ends, is cut, or nobody listens.
pub(crate) async fn pump(shared: Arc<Shared>, mut plan: Plan, to: mpsc::Sender<Result<WatchEvent, Cut>>) {
    let mut changed = shared.changed.subscribe();
    let mut cut = shared.cut.subscribe();
    cut.borrow_and_update();
    loop {
        changed.borrow_and_update();
        let now = Instant::now();
        let (said, wake) = {
            let state = shared.state();
            (plan.pending(&state, now), plan.wake(&state, now))
        };
        let (events, last) = match said {
            Ok(events) => (events, now >= plan.ends),
            Err(events) => (events, true),
        };
        for event in events {
            if to.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if last {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
            () = to.closed() => return,
            _ = cut.changed(), if !plan.inside => {
                // Nothing else can be done if the listener is gone.
                let _ = to.send(Err(Cut)).await;
                return;
            }
        }
    }
}
