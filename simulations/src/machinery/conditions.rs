//! Conditions, and when they last changed.

use serde_json::{Value, json};

use crate::apiserver::text;

/// A pod's condition; keeps the transition time of the one it replaces if its status is the same.
pub(crate) fn of_pod(
    old: &[Value],
    kind: &str,
    holds: bool,
    reason: Option<(&str, &str)>,
    generation: i64,
    stamp: &str,
) -> Value {
    let status = if holds { "True" } else { "False" };
    let mut condition = json!({
        "type": kind,
        "observedGeneration": generation,
        "status": status,
        "lastProbeTime": null,
        "lastTransitionTime": since(old, kind, status, stamp),
    });
    if let Some((reason, message)) = reason {
        condition["reason"] = reason.into();
        if !message.is_empty() {
            condition["message"] = message.into();
        }
    }
    condition
}

/// Since when the condition has had this status: as stated, or now.
pub(crate) fn since(old: &[Value], kind: &str, status: &str, stamp: &str) -> String {
    old.iter()
        .find(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == status)
        .map_or(stamp, |condition| text(condition, &["lastTransitionTime"]))
        .to_owned()
}

/// Whether a pod's condition of this type is true.
pub(crate) fn holds(pod: &Value, kind: &str) -> bool {
    crate::apiserver::list(pod, &["status", "conditions"])
        .iter()
        .any(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == "True")
}
