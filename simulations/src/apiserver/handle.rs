//! The administrator's way in: objects, faults and the log, from inside the process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::Shared;
use super::call::Reply;
use super::faults::{Outage, Rule, Stale};
use super::json::text;
use super::log::LogEntry;
use super::request::{ADMIN, ApiRequest, MACHINERY, User, parse_query};
use super::resources::Resource;
use super::rights::Right;
use super::watch::{Cut, WatchEvent, pump};

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code} {reason}: {message}")]
pub struct ApiFault {
    /// HTTP status.
    pub code: u16,
    /// As `NotFound`; may be empty.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl ApiFault {
    fn unknown(what: &str) -> Self {
        Self { code: 404, reason: "NotFound".into(), message: format!("no resource is served for {what}") }
    }
}

/// A handle on a server. Clones are handles on the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    user: User,
    manager: String,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, user: User::admin(), manager: "kubectl-client-side-apply".into() }
    }

    /// The same, but what is written is owned by another field manager (`argocd-controller`, …).
    #[must_use]
    pub fn named(&self, manager: &str) -> Self {
        Self { manager: manager.into(), ..self.clone() }
    }

    /// The same, but for the simulation's own controllers.
    #[must_use]
    pub(crate) fn machinery(&self, manager: &str) -> Self {
        let user = User { name: MACHINERY.into(), ..User::admin() };
        Self { shared: self.shared.clone(), user, manager: manager.into() }
    }

    /// Answers HTTP on a listener until this future is dropped.
    pub async fn serve(&self, listener: TcpListener) {
        super::server::serve(self.shared.clone(), listener).await;
    }

    /// Lets a bearer token in.
    pub fn add_token(&self, token: &str, user: User) {
        self.shared.state().tokens.insert(token.into(), user);
    }

    /// Knows a token that was made for an audience other than the API server, as `kubectl create token --audience` makes it: it lets
    /// nobody in here, and a review that asks for the audience names its user.
    pub fn add_foreign_token(&self, token: &str, user: User, audience: &str) {
        self.shared.state().foreign.insert(token.into(), (user, vec![audience.into()]));
    }

    /// Creates an object. Its status is kept, and so are uid and creation time if it has them.
    ///
    /// # Errors
    /// It exists, is invalid, or its kind is not served.
    pub fn create(&self, object: Value) -> Result<Value, ApiFault> {
        let (resource, namespace, _) = self.place_of(&object)?;
        self.call("POST", &path(&resource, &namespace, "", ""), "application/json", object)
    }

    /// Replaces a whole object, status included; creates it if it is not there. Without a resource version it is
    /// replaced whatever it is now.
    ///
    /// # Errors
    /// It is invalid, its kind is not served, or the stated version is not the current one.
    pub fn put(&self, object: Value) -> Result<Value, ApiFault> {
        let (resource, namespace, name) = self.place_of(&object)?;
        if self.shared.state().get(&resource.qualified(), &namespace, &name).is_none() {
            return self.create(object);
        }
        self.call("PUT", &path(&resource, &namespace, &name, ""), "application/json", object)
    }

    /// One object, or `None`.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.shared.state();
        let resource = state.resource_of_kind(kind)?;
        state.get(&resource.qualified(), namespace, name).map(|object| (**object).clone())
    }

    /// The objects of a kind in a namespace (empty: in all) that a label selector (empty: any) matches.
    #[must_use]
    pub fn list(&self, kind: &str, namespace: &str, labels: &str) -> Vec<Value> {
        let state = self.shared.state();
        let Some(resource) = state.resource_of_kind(kind) else { return Vec::new() };
        let Ok(labels) = super::Labels::parse(labels) else { return Vec::new() };
        state
            .objects(&resource.qualified())
            .filter(|(key, object)| (namespace.is_empty() || key.0 == namespace) && labels.matches(object))
            .map(|(_, object)| (**object).clone())
            .collect()
    }

    /// A JSON merge patch of an object, status included.
    ///
    /// # Errors
    /// It is not there, or the result is invalid.
    pub fn patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Result<Value, ApiFault> {
        let resource = self.resource_of(kind)?;
        self.call("PATCH", &path(&resource, namespace, name, ""), "application/merge-patch+json", patch)
    }

    /// A strategic merge patch of an object or one of its subresources (`""`, `resize`, `scale`, …).
    ///
    /// # Errors
    /// It is not there, or the result is invalid.
    pub fn strategic(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: Value,
    ) -> Result<Value, ApiFault> {
        let resource = self.resource_of(kind)?;
        let path = path(&resource, namespace, name, subresource);
        self.call("PATCH", &path, "application/strategic-merge-patch+json", patch)
    }

    /// Deletes an object as `kubectl delete` does: a running pod lingers for its grace period.
    ///
    /// # Errors
    /// It is not there.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<(), ApiFault> {
        let resource = self.resource_of(kind)?;
        self.call("DELETE", &path(&resource, namespace, name, ""), "application/json", Value::Null).map(drop)
    }

    /// Removes an object at once, as the kubelet does in the end.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) -> Result<(), ApiFault> {
        let resource = self.resource_of(kind)?;
        let options = json!({"gracePeriodSeconds": 0});
        self.call("DELETE", &path(&resource, namespace, name, ""), "application/json", options).map(drop)
    }

    /// Any request as any user, past HTTP and past faults and the log. The path may have a query. Gives status and body.
    #[must_use]
    pub fn request(&self, user: &User, method: &str, path: &str, content_type: &str, body: &Value) -> (u16, Value) {
        let mut request = self.build(method, path, content_type, body);
        request.user = user.clone();
        request.inside = false;
        match self.shared.inside(&request) {
            Reply::Json(code, body) => (code, body),
            Reply::Text(code, text) => (code, text.into()),
            Reply::Refused(refusal) => (refusal.code, refusal.body),
            Reply::Watch(_) => (200, Value::Null),
        }
    }

    /// Watches a kind in a namespace (empty: all), beginning with what is there. Faults do not touch it.
    ///
    /// # Errors
    /// The kind is not served.
    pub fn watch(&self, kind: &str, namespace: &str, labels: &str) -> Result<Watch, ApiFault> {
        let resource = self.resource_of(kind)?;
        let mut request = self.build("GET", &path(&resource, namespace, "", ""), "", &Value::Null);
        request.query = [("watch", "1"), ("labelSelector", labels)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        match self.shared.inside(&request) {
            Reply::Watch(plan) => {
                let (to, events) = mpsc::channel(64);
                let task = tokio::spawn(pump(self.shared.clone(), *plan, to));
                Ok(Watch { events, task })
            }
            reply => Err(fault(&reply)),
        }
    }

    /// Resource version of the latest change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.state().version
    }

    /// Told the version after each change; for those who look at everything again.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Wall time as the server has it.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.shared.moment().wall
    }

    /// Time since the server started, as in the log.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.moment().elapsed
    }

    /// Every mutation that was asked for by HTTP, but for the administrator's: at most the newest 65,536.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.state().journal.entries()
    }

    /// The entries of the log after the first `read` ever written, and how many were ever written.
    pub(crate) fn log_since(&self, read: u64) -> (Vec<LogEntry>, u64) {
        let state = self.shared.state();
        (state.journal.since(read), state.journal.added())
    }

    /// Told the version after each change of what controllers and kubelets look at: not of reports, incidents, leases and
    /// events, which come every second.
    pub(crate) fn workload_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.workloads.subscribe()
    }

    /// Which rights service accounts used, and what was refused to them.
    #[must_use]
    pub fn rights(&self) -> Vec<Right> {
        self.shared.state().rights.all()
    }

    /// How many older entries of the log were let go.
    #[must_use]
    pub fn log_dropped(&self) -> u64 {
        self.shared.state().journal.dropped()
    }

    /// Switches a fault on.
    pub fn inject(&self, rule: Rule) {
        self.shared.state().faults.rules.push(rule);
    }

    /// Watches see every change this much later.
    pub fn lag_watches(&self, lag: Duration) {
        self.shared.state().faults.lag = lag;
        self.shared.changed.send_modify(|_| {});
    }

    /// Lets caches (or all reads) stand still at the current version, or go on.
    pub fn stale(&self, stale: Stale) {
        {
            let mut state = self.shared.state();
            let version = state.version;
            state.faults.stale = stale;
            state.faults.frozen = (stale != Stale::None).then_some(version);
        }
        self.shared.changed.send_modify(|_| {});
    }

    /// Cuts every watch in the middle.
    pub fn cut_watches(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Makes the server unreachable, or reachable again.
    pub fn outage(&self, outage: Outage) {
        self.shared.outage.send_replace(outage);
    }

    /// Forgets all history: watches and lists from older versions are answered 410.
    pub fn compact(&self) {
        self.shared.state().compact();
        self.shared.changed.send_modify(|_| {});
    }

    /// Switches every fault off.
    pub fn clear_faults(&self) {
        self.shared.state().faults = super::faults::Faults::default();
        self.shared.outage.send_replace(Outage::None);
        self.shared.changed.send_modify(|_| {});
    }

    fn resource_of(&self, kind: &str) -> Result<Arc<Resource>, ApiFault> {
        self.shared.state().resource_of_kind(kind).ok_or_else(|| ApiFault::unknown(kind))
    }

    fn place_of(&self, object: &Value) -> Result<(Arc<Resource>, String, String), ApiFault> {
        let resource = self
            .shared
            .state()
            .resource_of(object)
            .ok_or_else(|| ApiFault::unknown(&format!("{} {}", object["apiVersion"], object["kind"])))?;
        let stated = text(object, &["metadata", "namespace"]);
        let namespace = match (resource.namespaced, stated) {
            (false, _) => String::new(),
            (true, "") => "default".into(),
            (true, stated) => stated.into(),
        };
        Ok((resource, namespace, text(object, &["metadata", "name"]).into()))
    }

    fn build(&self, method: &str, path: &str, content_type: &str, body: &Value) -> ApiRequest {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        ApiRequest {
            method: method.into(),
            path: path.into(),
            query: parse_query(query),
            content_type: content_type.into(),
            agent: self.manager.clone(),
            body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }.into(),
            user: self.user.clone(),
            inside: true,
            ..ApiRequest::default()
        }
    }

    fn call(&self, method: &str, path: &str, content_type: &str, body: Value) -> Result<Value, ApiFault> {
        match self.shared.inside(&self.build(method, path, content_type, &body)) {
            Reply::Json(_, body) => Ok(body),
            reply => Err(fault(&reply)),
        }
    }

    /// Whether this handle is the administrator's.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.user.name == ADMIN
    }
}

/// The path of an object or, without a name, of its collection.
fn path(resource: &Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if resource.namespaced && !namespace.is_empty() {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push_str(&format!("/{}", resource.plural));
    for part in [name, subresource].iter().filter(|part| !part.is_empty()) {
        path.push_str(&format!("/{part}"));
    }
    path
}

fn fault(reply: &Reply) -> ApiFault {
    match reply {
        Reply::Refused(refusal) => ApiFault {
            code: refusal.code,
            reason: refusal.reason().into(),
            message: match &refusal.body {
                Value::String(text) => text.trim().into(),
                _ => refusal.message().into(),
            },
        },
        other => ApiFault { code: other.code(), reason: String::new(), message: String::new() },
    }
}

/// Events of an in-process watch. Ends when dropped.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<Result<WatchEvent, Cut>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// The next event; `None` after the watch ended (then begin another).
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await?.ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
