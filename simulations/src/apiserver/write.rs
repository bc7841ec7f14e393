//! Update and patch.

use std::sync::Arc;

use serde_json::{Value, json};

use super::admission::{Write, admit};
use super::call::{Call, permit};
use super::create::{check_kind, conform, insert};
use super::json::{at, go_format, list, put, put_or_take, take, text};
use super::managed::{self, Writer};
use super::patch;
use super::rbac::Ask;
use super::resources::Resource;
use super::rules;
use super::scale;
use super::shape::Shape;
use super::state::State;
use super::status::{FieldFault, Outcome, Refusal};

/// Who writes by this call.
pub(crate) fn writer<'w>(
    call: &'w Call<'_>,
    manager: &'w str,
    operation: &'static str,
    version: &'w str,
    time: &'w str,
) -> Writer<'w> {
    let subresource = match call.target.subresource.as_str() {
        "eviction" => "",
        other => other,
    };
    Writer { manager, operation, subresource, api_version: version, time }
}

/// PUT.
pub(crate) fn update(state: &mut State, call: &Call<'_>) -> Outcome<(u16, Value)> {
    let body = call.request.json()?;
    check_kind(call, &body)?;
    let (resource, target) = (&call.resource, call.target);
    let Some(live) = state.get(&resource.qualified(), &target.namespace, &target.name).cloned() else {
        // A Lease may be created by PUT.
        if resource.plural == "leases" && target.subresource.is_empty() {
            return Ok((201, insert(state, call, body, "Update")?));
        }
        return Err(Refusal::not_found(resource, &target.name));
    };
    let stated = text(&body, &["metadata", "name"]);
    if !stated.is_empty() && stated != target.name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({stated}) does not match the name on the URL ({})",
            target.name
        )));
    }
    if text(&body, &["metadata", "resourceVersion"]).is_empty() && !resource.unconditional_update() {
        let fault =
            FieldFault::invalid("metadata.resourceVersion", "Invalid value: 0: must be specified for an update");
        return Err(Refusal::invalid(resource, &target.name, &[fault]));
    }
    Ok((200, settle(state, call, &live, body, "Update")?))
}

/// PATCH in its four forms.
pub(crate) fn patch(state: &mut State, call: &Call<'_>) -> Outcome<(u16, Value)> {
    let (request, resource, target) = (call.request, &call.resource, call.target);
    let form = request.content_type.split(';').next().unwrap_or_default().trim();
    let live = state.get(&resource.qualified(), &target.namespace, &target.name).cloned();
    if form == "application/apply-patch+yaml" {
        return apply(state, call, live.as_ref());
    }
    let known = matches!(form, "application/json-patch+json" | "application/merge-patch+json")
        || (form == "application/strategic-merge-patch+json" && !resource.custom());
    if !known {
        let message = if resource.custom() {
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        } else {
            "415: Unsupported Media Type"
        };
        return Err(Refusal::new(415, "UnsupportedMediaType", message, json!({})));
    }
    let live = live.ok_or_else(|| Refusal::not_found(resource, &target.name))?;
    let body = request.json()?;
    let mut new = edited(call, &live, &body, form)?;
    if !rules::quantities_parse(resource, &new) {
        // The body is not decoded yet where this is found out, so that the kind is unknown.
        let message = format!("Invalid value: {:?}: {}", go_format(&body), rules::QUANTITY_MESSAGE);
        let refusal = Refusal::new(
            422,
            "Invalid",
            format!(" \"\" is invalid: patch: {message}"),
            json!({"causes": [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]}),
        );
        return Err(refusal);
    }
    // A patch is no statement about the version unless it names one.
    if body.is_object() && at(&body, &["metadata", "resourceVersion"]).is_none() {
        take(&mut new, &["metadata", "resourceVersion"]);
    }
    Ok((200, settle(state, call, &live, new, "Update")?))
}

/// The object with a patch laid over it.
pub(crate) fn edited(call: &Call<'_>, live: &Value, body: &Value, form: &str) -> Outcome<Value> {
    let mut new = live.clone();
    match form {
        "application/json-patch+json" => patch::json_patch(&mut new, body)?,
        "application/strategic-merge-patch+json" => {
            patch::strategic(&mut new, body, Shape::root(&call.resource.kind, call.resource.schema.as_deref()));
        }
        _ => patch::merge(&mut new, body),
    }
    Ok(new)
}

fn apply(state: &mut State, call: &Call<'_>, live: Option<&Arc<Value>>) -> Outcome<(u16, Value)> {
    let (request, resource, target) = (call.request, &call.resource, call.target);
    let mut body = request.json()?;
    check_kind(call, &body)?;
    if request.param("fieldManager").is_empty() {
        let message =
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(Refusal::new(422, "Invalid", message, json!({"group": "meta.k8s.io", "kind": "PatchOptions"})));
    }
    if resource.status && target.subresource.is_empty() {
        take(&mut body, &["status"]);
    }
    let (manager, version, time) = (request.manager(), resource.api_version(), call.moment.stamp());
    let writer = writer(call, &manager, "Apply", &version, &time);
    let shape = Shape::root(&resource.kind, resource.schema.as_deref());
    let Some(live) = live else {
        if !target.subresource.is_empty() {
            return Err(Refusal::not_found(resource, &target.name));
        }
        let ask = Ask {
            verb: "create",
            group: &target.group,
            plural: &target.plural,
            namespace: &target.namespace,
            ..Ask::default()
        };
        permit(state, request, target, &ask)?;
        let new = managed::apply(&Value::Null, &body, &writer, true, shape)?;
        return Ok((201, insert(state, call, new, "Apply")?));
    };
    let mut new = managed::apply(live, &body, &writer, request.flag("force"), shape)?;
    put_or_take(&mut new, &["metadata", "resourceVersion"], at(&body, &["metadata", "resourceVersion"]).cloned());
    Ok((200, settle(state, call, live, new, "Apply")?))
}

/// Checks and stores the next state of an object that exists. Gives it as stored.
pub(crate) fn settle(
    state: &mut State,
    call: &Call<'_>,
    live: &Value,
    mut new: Value,
    operation: &'static str,
) -> Outcome<Value> {
    let (request, resource, target) = (call.request, &call.resource, call.target);
    let name = text(live, &["metadata", "name"]).to_owned();
    let stated = text(&new, &["metadata", "resourceVersion"]);
    if !stated.is_empty() && stated != text(live, &["metadata", "resourceVersion"]) {
        return Err(Refusal::modified(resource, &name));
    }
    let (uid, known) = (text(&new, &["metadata", "uid"]), text(live, &["metadata", "uid"]));
    if !uid.is_empty() && uid != known {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {known}");
        return Err(Refusal::conflict(resource, &name, &why));
    }
    restrict(call, live, &mut new);
    conform(call, &mut new)?;
    if target.subresource != "status" && !request.inside {
        rules::pod_update_allowed(resource, live, &new, target.subresource == "resize")?;
    }
    if target.subresource != "status" {
        rules::validate(resource, &new)?;
    }
    // Of the scale, policies see the Scale.
    let seen = (target.subresource == "scale").then(|| (scale::of(&new), scale::of(live)));
    let (now, was) = seen.as_ref().map_or((&new, live), |(now, was)| (now, was));
    admit(
        state,
        &Write { user: &request.user, resource, target, operation: "UPDATE", name: &name, new: now, old: was },
    )?;
    if resource.generation && body_of(resource, live) != body_of(resource, &new) {
        let generation = at(live, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        put(&mut new, &["metadata", "generation"], generation + 1);
    }
    if operation == "Update" {
        let (manager, version, time) = (request.manager(), resource.api_version(), call.moment.stamp());
        let writer = writer(call, &manager, operation, &version, &time);
        managed::record(live, &mut new, &writer, Shape::root(&resource.kind, resource.schema.as_deref()));
    }
    put(&mut new, &["metadata", "resourceVersion"], text(live, &["metadata", "resourceVersion"]));
    if managed::same_but_bookkeeping(live, &new) {
        return Ok(live.clone());
    }
    if request.dry_run() {
        return Ok(new);
    }
    let leaves = !text(&new, &["metadata", "deletionTimestamp"]).is_empty()
        && list(&new, &["metadata", "finalizers"]).is_empty()
        && !list(live, &["metadata", "finalizers"]).is_empty();
    Ok((*state.commit(resource, new, leaves, call.moment.at)).clone())
}

/// Undoes what this path may not write.
fn restrict(call: &Call<'_>, live: &Value, new: &mut Value) {
    if call.request.inside && call.target.subresource.is_empty() {
        // The simulation writes whole objects.
    } else if call.target.subresource == "status" {
        let (status, owners) = (new.get("status").cloned(), at(new, &["metadata", "managedFields"]).cloned());
        let version = at(new, &["metadata", "resourceVersion"]).cloned();
        *new = live.clone();
        put_or_take(new, &["status"], status);
        put_or_take(new, &["metadata", "managedFields"], owners);
        put_or_take(new, &["metadata", "resourceVersion"], version);
    } else if call.resource.status {
        put_or_take(new, &["status"], live.get("status").cloned());
    }
    if !call.request.inside {
        keep_system(live, new);
    }
    put(new, &["kind"], call.resource.kind.clone());
    put(new, &["apiVersion"], call.resource.api_version());
}

/// Metadata that nobody writes.
fn keep_system(live: &Value, new: &mut Value) {
    for system in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "generateName",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        put_or_take(new, &["metadata", system], at(live, &["metadata", system]).cloned());
    }
}

/// What counts as the specification.
fn body_of(resource: &Resource, value: &Value) -> Value {
    let mut body = value.clone();
    for name in ["metadata", "kind", "apiVersion"] {
        take(&mut body, &[name]);
    }
    if resource.status || !resource.custom() {
        take(&mut body, &["status"]);
    }
    if resource.qualified() == "pods" {
        // Binding is no change of what was asked for.
        take(&mut body, &["spec", "nodeName"]);
    }
    body
}
