//! The scale subresource.

use serde_json::{Value, json};

use super::call::Call;
use super::json::{at, int, put, text};
use super::state::State;
use super::status::{FieldFault, Outcome, Refusal};
use super::write::{edited, settle};

/// The Scale of a workload.
pub(crate) fn of(workload: &Value) -> Value {
    let labels = at(workload, &["spec", "selector", "matchLabels"]).and_then(Value::as_object);
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        put(&mut metadata, &[name], text(workload, &["metadata", name]));
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": int(workload, &["spec", "replicas"]).unwrap_or(0)},
        "status": {
            "replicas": int(workload, &["status", "replicas"]).unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}

/// PUT or PATCH of the Scale. Gives the Scale that results.
pub(crate) fn change(state: &mut State, call: &Call<'_>, patch: bool) -> Outcome<Value> {
    let (request, resource, target) = (call.request, &call.resource, call.target);
    let live = state
        .get(&resource.qualified(), &target.namespace, &target.name)
        .cloned()
        .ok_or_else(|| Refusal::not_found(resource, &target.name))?;
    let body = request.json()?;
    let form = request.content_type.split(';').next().unwrap_or_default().trim();
    let now = of(&live);
    let wanted = match (patch, form) {
        (false, _) => body.clone(),
        (true, "application/apply-patch+yaml") => edited(call, &now, &body, "application/merge-patch+json")?,
        (true, _) => edited(call, &now, &body, form)?,
    };
    let replicas = int(&wanted, &["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
        return Err(Refusal::invalid(resource, &target.name, &[FieldFault::invalid("spec.replicas", message)]));
    }
    let mut new = (*live).clone();
    put(&mut new, &["spec", "replicas"], replicas);
    // Only a version that the client stated is a precondition.
    let stated = if patch {
        text(&body, &["metadata", "resourceVersion"])
    } else {
        text(&wanted, &["metadata", "resourceVersion"])
    };
    put(&mut new, &["metadata", "resourceVersion"], stated);
    Ok(of(&settle(state, call, &live, new, "Update")?))
}
