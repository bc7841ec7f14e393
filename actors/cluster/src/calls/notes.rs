//! Events: what people see in `kubectl describe`. Never an input.

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Ask, CallError, Cluster, JSON, Operation, Run};
use crate::names::{GROUP, VERSION};

/// An Event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub about: Regarding,
    /// Normal or warning.
    pub kind: NoteKind,
    /// One CamelCase word, such as `DnsUnhealthy`.
    pub reason: String,
    /// One CamelCase word for what was done or decided, such as `Evict`.
    pub action: String,
    /// For people; cut at 1024 bytes, the API's limit.
    pub note: String,
    /// Who says so: a pod's or a node's name.
    pub instance: String,
    /// When.
    pub at: Timestamp,
}

/// Kinds of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// The object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regarding {
    /// `kind`: Pod, Node, Service, Deployment, DaemonSet, DnsIncident or NodeAgent.
    pub kind: String,
    /// Its namespace; `None` for cluster-scoped objects, whose Events stand in `default`.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid, if known: `kubectl describe` finds Events by it.
    pub uid: Option<String>,
}

impl Cluster {
    /// Writes one Event.
    ///
    /// # Errors
    /// The call failed.
    pub async fn write_event(&self, note: &Note) -> Result<(), CallError> {
        let namespace = note.about.namespace.as_deref().unwrap_or("default");
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let operation = Operation::WriteEvent(format!("{} {}", note.about.kind, note.about.name));
        let ask = Ask::write(operation, Method::POST, path, (JSON, body(note)), Run::Real);
        self.send::<Value>(ask).await.map(|_| ())
    }
}

fn body(note: &Note) -> Value {
    let about = &note.about;
    let version = match about.kind.as_str() {
        "DnsIncident" | "NodeAgent" => format!("{GROUP}/{VERSION}"),
        "Deployment" | "DaemonSet" => "apps/v1".to_owned(),
        _ => "v1".to_owned(),
    };
    let mut regarding = json!({"apiVersion": version, "kind": about.kind, "name": about.name});
    if let Some(namespace) = &about.namespace {
        regarding["namespace"] = json!(namespace);
    }
    if let Some(uid) = &about.uid {
        regarding["uid"] = json!(uid);
    }
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"generateName": "nameward-", "namespace": about.namespace.as_deref().unwrap_or("default")},
        "eventTime": format!("{:.6}", note.at),
        "reportingController": GROUP,
        // The API takes no longer one.
        "reportingInstance": nameward_messages::text::line(&note.instance, 128),
        "action": note.action,
        "reason": note.reason,
        "type": match note.kind { NoteKind::Normal => "Normal", NoteKind::Warning => "Warning" },
        "note": nameward_messages::text::line(&note.note, 1024),
        "regarding": regarding,
    })
}
