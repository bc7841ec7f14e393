//! Every call to the Kubernetes API besides the watches: thin, bounded in time, never repeated.
//!
//! Paths and bodies are spelled here, since two of them must be exact: kube 5.0 writes the options of an eviction under a
//! name that the API server does not know (`delete_options`), which silently drops its preconditions.

mod agents;
mod error;
mod lease;
mod node;
mod notes;
mod outside;
mod reads;
mod visitor;
mod workload;

use std::time::Duration;

use http::{Method, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::{CallError, Cause, Operation};
pub use notes::{Note, NoteKind, Regarding};
pub use reads::NotFound;
pub use visitor::TokenUser;

use crate::names::MANAGER;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// The calls. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    timeout: Duration,
}

/// Whether a write is to be done or only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Do it.
    Real,
    /// `dryRun=All`: validate, admit, and keep nothing.
    Dry,
}

/// One request.
struct Ask {
    operation: Operation,
    method: Method,
    path: String,
    content: Option<(&'static str, Value)>,
}

impl Ask {
    fn get(operation: Operation, path: impl Into<String>) -> Self {
        Self { operation, method: Method::GET, path: path.into(), content: None }
    }

    fn write(operation: Operation, method: Method, path: String, content: (&'static str, Value), run: Run) -> Self {
        let dry = if run == Run::Dry { "&dryRun=All" } else { "" };
        Self { operation, method, path: format!("{path}?fieldManager={MANAGER}{dry}"), content: Some(content) }
    }
}

impl Cluster {
    /// Over this client. `timeout`: longest time of one call.
    #[must_use]
    pub fn new(client: kube::Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    /// The client, for watches.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Longest time of one call.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same calls under another limit.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { client: self.client.clone(), timeout }
    }

    async fn send<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, CallError> {
        let Ask { operation, method, path, content } = ask;
        let read = method == Method::GET;
        let mut request = Request::builder().method(method).uri(path);
        let mut body = Vec::new();
        if let Some((kind, value)) = content {
            request = request.header(http::header::CONTENT_TYPE, kind);
            body = value.to_string().into_bytes();
        }
        let request = match request.body(body) {
            Ok(request) => request,
            Err(source) => return Err(CallError::new(operation, Cause::Request(source), read)),
        };
        match tokio::time::timeout(self.timeout, self.client.request::<T>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(CallError::new(operation, Cause::from(source), read)),
            Err(_) => Err(CallError::new(operation, Cause::TimedOut(self.timeout), read)),
        }
    }
}

/// `value` as the whole of what stands there: members that it leaves out are set to `null`, so that a merge patch removes them.
fn whole<T: serde::Serialize + schemars::JsonSchema>(value: &T) -> Value {
    let schema = schemars::schema_for!(T);
    let mut json = serde_json::to_value(value).unwrap_or_default();
    if let (Some(members), Some(known)) = (json.as_object_mut(), schema.get("properties").and_then(Value::as_object)) {
        for name in known.keys() {
            members.entry(name.clone()).or_insert(Value::Null);
        }
    }
    json
}

#[cfg(test)]
pub(crate) mod tests;
