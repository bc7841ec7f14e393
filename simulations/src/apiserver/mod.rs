//! A simulated Kubernetes API server, held against recordings of a real one.
//!
//! It is told HTTP requests of any Kubernetes client (HTTP/1.1, bearer tokens), what the simulation itself creates and
//! changes through a [`Handle`], and which faults to have. It tells answers, watch events, and a log of every mutation
//! that neither the administrator nor the machinery made.
//!
//! Invariants:
//! - Every committed change has its own resource version, in one order for all resources.
//! - A request is decided under one lock: there is no state in which half of it is done.
//! - Nothing depends on anything but the seed, the order of requests and the time since the start.
//! - Roles and bindings in the store decide who may do what; only `system:masters` stand above them.

mod admission;
mod call;
mod cel;
mod create;
mod discovery;
mod evict;
mod faults;
mod fields;
mod handle;
mod json;
mod log;
mod managed;
mod manifests;
mod patch;
mod quantity;
mod rbac;
mod read;
mod remove;
mod request;
mod resources;
mod rights;
mod rules;
mod scale;
mod schema;
mod selector;
mod server;
mod shape;
mod state;
mod status;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::watch as signal;
use tokio::time::Instant;

pub(crate) use call::stamp;
pub use faults::{Action, Match, Outage, Rule, Stale};
pub use handle::{ApiFault, Handle, Watch};
pub(crate) use json::{at, int, list, put, text};
pub use log::LogEntry;
pub use manifests::{ManifestError, manifests, parse_manifests};
pub use quantity::{parse_milli, parse_units};
pub use request::User;
pub use rights::Right;
pub(crate) use selector::Labels;
pub use watch::WatchEvent;

use call::{Moment, Reply, handle, verb_of};
use faults::Action as FaultAction;
use request::{ADMIN, ApiRequest, MACHINERY, Named, parse_path};
use state::State;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names, uids and nothing else come from it.
    pub seed: u64,
    /// Roles, bindings, custom resource definitions and admission policies that exist from the start.
    pub manifests: Vec<Value>,
    /// Bearer token to user. A token that is not here is answered 401.
    pub tokens: BTreeMap<String, User>,
    /// Changes that are remembered per resource; a watch from an older version is answered 410.
    pub history: usize,
    /// Wall time at the start; it goes on as the runtime's clock does.
    pub started_at: Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            manifests: Vec::new(),
            tokens: BTreeMap::new(),
            history: 4096,
            started_at: nameward_messages::time::Now::at(std::time::Duration::ZERO).wall,
        }
    }
}

/// The server. Everything is done through its [`Handle`].
#[derive(Debug)]
pub struct ApiServer;

impl ApiServer {
    /// Starts one: no listener yet, no objects but the usual namespaces and the manifests.
    ///
    /// # Errors
    /// A manifest that the server itself refuses.
    #[expect(clippy::new_ret_no_self, reason = "the server lives behind its handle")]
    pub fn new(options: Options) -> Result<Handle, ApiFault> {
        let shared = Shared {
            state: Mutex::new(State::new(options.seed, options.history, options.tokens)),
            changed: signal::Sender::new(0),
            workloads: signal::Sender::new(0),
            cut: signal::Sender::new(0),
            outage: signal::Sender::new(Outage::None),
            started: Instant::now(),
            started_at: options.started_at,
        };
        let handle = Handle::new(Arc::new(shared));
        for name in ["default", "kube-system", "kube-public", "kube-node-lease", "nameward"] {
            handle.create(serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            }))?;
        }
        // Definitions first, so that their objects may follow in any order.
        let (definitions, others): (Vec<Value>, Vec<Value>) =
            options.manifests.into_iter().partition(|manifest| manifest["kind"] == "CustomResourceDefinition");
        for manifest in definitions.into_iter().chain(others) {
            match handle.create(manifest) {
                // Namespaces of the manifests may be here already.
                Err(fault) if fault.reason == "AlreadyExists" => {}
                other => {
                    other?;
                }
            }
        }
        Ok(handle)
    }
}

/// What listeners, watches and handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The version after the latest change.
    pub(crate) changed: signal::Sender<u64>,
    /// The version after the latest change of what controllers look at.
    pub(crate) workloads: signal::Sender<u64>,
    /// Counts up when all watches are cut.
    pub(crate) cut: signal::Sender<u64>,
    pub(crate) outage: signal::Sender<Outage>,
    started: Instant,
    started_at: Timestamp,
}

/// A decided request, and what must still happen to its reply.
pub(crate) struct Decided {
    pub(crate) reply: Reply,
    pub(crate) lose_reply: bool,
    pub(crate) delay: std::time::Duration,
}

impl Shared {
    /// The state. A panic elsewhere does not make it unusable.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, on both clocks.
    pub(crate) fn moment(&self) -> Moment {
        let at = Instant::now();
        let elapsed = at.saturating_duration_since(self.started);
        let passed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::ZERO);
        Moment { wall: self.started_at.checked_add(passed).unwrap_or(self.started_at), at, elapsed }
    }

    /// Decides a request from inside.
    pub(crate) fn inside(&self, request: &ApiRequest) -> Reply {
        let moment = self.moment();
        let mut state = self.state();
        let reply = handle(&mut state, request, &moment);
        self.tell(state);
        reply
    }

    /// The faults that wait for this request; those that delay it are left to the caller.
    pub(crate) fn faults_for(&self, request: &ApiRequest) -> Vec<FaultAction> {
        let Named::Resource(target) = parse_path(&request.path) else { return Vec::new() };
        let verb = verb_of(request, &target);
        self.state().faults.actions(verb, &target, &request.user.name, request.dry_run())
    }

    /// Decides a request that came by HTTP, and logs it.
    pub(crate) fn outside(&self, request: &ApiRequest, actions: &[FaultAction]) -> Decided {
        let moment = self.moment();
        let answer = actions.iter().find_map(|action| match action {
            FaultAction::Answer { code, retry_after } => Some(faulty(*code, *retry_after)),
            _ => None,
        });
        let lose_reply = actions.contains(&FaultAction::LoseReply);
        let delay = actions
            .iter()
            .map(|action| if let FaultAction::DelayReply(delay) = action { *delay } else { std::time::Duration::ZERO })
            .sum();
        let mut state = self.state();
        let reply = match answer {
            Some(reply) => reply,
            None => handle(&mut state, request, &moment),
        };
        journal(&mut state, request, &moment, &reply, lose_reply);
        self.tell(state);
        Decided { reply, lose_reply, delay }
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let (version, workloads) = (state.version, state.workloads);
        drop(state);
        self.changed.send_if_modified(|known| std::mem::replace(known, version) != version);
        self.workloads.send_if_modified(|known| std::mem::replace(known, workloads) != workloads);
    }
}

fn faulty(code: u16, retry_after: Option<u32>) -> Reply {
    let mut refusal = match code {
        429 => status::Refusal::too_many_requests("Too many requests, please try again later.", None, retry_after),
        503 => status::Refusal::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
            serde_json::json!({}),
        ),
        504 => status::Refusal::new(
            504,
            "Timeout",
            "request did not complete within the allotted timeout",
            serde_json::json!({}),
        ),
        _ => status::Refusal::new(code, "InternalError", "Internal error occurred: simulated", serde_json::json!({})),
    };
    refusal.retry_after = retry_after;
    Reply::Refused(refusal)
}

fn journal(state: &mut State, request: &ApiRequest, moment: &Moment, reply: &Reply, reply_lost: bool) {
    let Named::Resource(target) = parse_path(&request.path) else { return };
    let verb = verb_of(request, &target);
    if matches!(verb, "get" | "list" | "watch") || target.plural.ends_with("reviews") {
        return;
    }
    if [ADMIN, MACHINERY].contains(&request.user.name.as_str()) {
        return;
    }
    let reason = match reply {
        Reply::Refused(refusal) => refusal.reason().to_owned(),
        _ => String::new(),
    };
    let text = String::from_utf8_lossy(&request.body);
    let in_body = request.method == "DELETE" || target.subresource == "eviction";
    let dry_run = request.dry_run()
        || (in_body
            && serde_json::from_slice::<Value>(&request.body).is_ok_and(|body| {
                let options = if target.subresource == "eviction" { &body["deleteOptions"] } else { &body };
                list(options, &["dryRun"]).iter().any(|word| word == "All")
            }));
    let name = match reply {
        Reply::Json(_, body) if target.name.is_empty() => text_of_name(body),
        _ => target.name.clone(),
    };
    state.journal.add(LogEntry {
        at: moment.elapsed,
        wall: moment.wall,
        user: request.user.name.clone(),
        instance: request.user.pod().to_owned(),
        verb: verb.into(),
        path: request.path.clone(),
        group: target.group,
        resource: target.plural,
        namespace: target.namespace,
        name,
        subresource: target.subresource,
        dry_run,
        code: reply.code(),
        reason,
        body: text.chars().take(600).collect(),
        reply_lost,
    });
}

fn text_of_name(body: &Value) -> String {
    text(body, &["metadata", "name"]).to_owned()
}
