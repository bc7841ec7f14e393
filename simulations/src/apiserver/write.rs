//! Create, update, patch and delete.

use std::sync::Arc;

use serde_json::{Value, json};

use super::admission::{Write, admit};
use super::call::{Call, permit, stamp};
use super::json::{at, go_format, list, object, put, put_or_take, take, text};
use super::managed::{self, Writer};
use super::patch;
use super::rbac::Ask;
use super::read::Selection;
use super::resources::Resource;
use super::rules;
use super::schema;
use super::shape::Shape;
use super::state::State;
use super::status::{FieldFault, Outcome, Refusal, success};

/// Creates the object in the body. Gives it as stored.
pub(crate) fn create(state: &mut State, call: &Call<'_>) -> Outcome<Value> {
    let body = call.request.json()?;
    check_kind(call, &body)?;
    if !rules::quantities_parse(&call.resource, &body) {
        let what = format!("{} in version {:?}", call.resource.kind, call.resource.version);
        return Err(Refusal::bad_request(format!(
            "{what} cannot be handled as a {}: {}",
            call.resource.kind,
            rules::QUANTITY_MESSAGE
        )));
    }
    insert(state, call, body, "Update")
}

fn check_kind(call: &Call<'_>, body: &Value) -> Outcome<()> {
    let (version, kind) = (text(body, &["apiVersion"]), text(body, &["kind"]));
    let expected = call.resource.api_version();
    if (!version.is_empty() && version != expected) || (!kind.is_empty() && kind != call.resource.kind) {
        return Err(Refusal::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: the API version in the data ({version}) does not \
             match the expected API version ({expected})",
            call.resource.kind
        )));
    }
    Ok(())
}

fn writer<'w>(
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

/// Stores a new object, after an apply too.
fn insert(state: &mut State, call: &Call<'_>, mut new: Value, operation: &'static str) -> Outcome<Value> {
    let (request, resource, target) = (call.request, &call.resource, call.target);
    put(&mut new, &["kind"], resource.kind.clone());
    put(&mut new, &["apiVersion"], resource.api_version());
    place(state, call, &mut new)?;
    let name = text(&new, &["metadata", "name"]).to_owned();
    conform(call, &mut new)?;
    // A new object has no status yet; nodes come with theirs, and so does what the simulation itself sets up.
    if resource.status && !request.inside && resource.plural != "nodes" {
        take(&mut new, &["status"]);
    }
    rules::default(resource, &mut new, request.inside);
    if resource.plural == "customresourcedefinitions" {
        schema::default_definition(&mut new);
    }
    rules::validate(resource, &new)?;
    let write =
        Write { user: &request.user, resource, target, operation: "CREATE", name: &name, new: &new, old: &Value::Null };
    admit(state, &write)?;
    if state.get(&resource.qualified(), &target.namespace, &name).is_some() {
        return Err(Refusal::exists(resource, &name));
    }
    let time = call.moment.stamp();
    let metadata = object(object(&mut new).entry("metadata").or_insert_with(|| json!({})));
    metadata.remove("resourceVersion");
    if !request.inside || !metadata.contains_key("uid") {
        metadata.insert("uid".into(), state.uid().into());
        metadata.insert("creationTimestamp".into(), time.clone().into());
    }
    metadata.entry("creationTimestamp").or_insert_with(|| time.clone().into());
    if resource.generation && (!request.inside || !metadata.contains_key("generation")) {
        metadata.insert("generation".into(), 1.into());
    }
    let (manager, version) = (request.manager(), resource.api_version());
    let writer = writer(call, &manager, operation, &version, &time);
    if operation == "Update" && at(&new, &["metadata", "managedFields"]).is_none() {
        managed::record(&Value::Null, &mut new, &writer, Shape::root(&resource.kind, resource.schema.as_deref()));
    }
    if request.dry_run() {
        return Ok(new);
    }
    let stored = state.commit(resource, new, false, call.moment.at);
    if resource.plural == "customresourcedefinitions" {
        let mut served = (*stored).clone();
        schema::established(&mut served, &time);
        state.commit(resource, served, false, call.moment.at);
    }
    Ok((*stored).clone())
}

/// Settles name and namespace.
fn place(state: &mut State, call: &Call<'_>, new: &mut Value) -> Outcome<()> {
    let (resource, target) = (&call.resource, call.target);
    if resource.namespaced {
        let stated = text(new, &["metadata", "namespace"]);
        if !stated.is_empty() && stated != target.namespace {
            return Err(Refusal::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request: {stated}"
            )));
        }
        let known = state.get("namespaces", "", &target.namespace).is_some();
        if !known && !call.request.inside {
            let namespaces = state.resource("", "namespaces").ok_or_else(Refusal::page_not_found)?;
            return Err(Refusal::not_found(&namespaces, &target.namespace));
        }
        put(new, &["metadata", "namespace"], target.namespace.clone());
    } else {
        take(new, &["metadata", "namespace"]);
    }
    if !target.name.is_empty() {
        put(new, &["metadata", "name"], target.name.clone());
    }
    if text(new, &["metadata", "name"]).is_empty() {
        let prefix = text(new, &["metadata", "generateName"]).to_owned();
        if prefix.is_empty() {
            let fault = FieldFault {
                field: "metadata.name".into(),
                reason: "FieldValueRequired",
                message: "Required value: name or generateName is required".into(),
            };
            return Err(Refusal::invalid(resource, "", &[fault]));
        }
        let name = format!("{prefix}{}", state.suffix());
        put(new, &["metadata", "name"], name);
    }
    Ok(())
}

/// Brings a custom object into the form of its schema, or refuses it.
fn conform(call: &Call<'_>, new: &mut Value) -> Outcome<()> {
    let resource = &call.resource;
    let Some(schema) = resource.schema.as_deref() else { return Ok(()) };
    let unknown = schema::prune(new, schema);
    if call.request.param("fieldValidation") == "Strict" && !unknown.is_empty() {
        let fields: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
        return Err(Refusal::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            resource.kind,
            resource.version,
            resource.kind,
            fields.join(", ")
        )));
    }
    let faults = schema::validate(new, schema);
    if faults.is_empty() { Ok(()) } else { Err(Refusal::invalid(resource, text(new, &["metadata", "name"]), &faults)) }
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
    admit(
        state,
        &Write { user: &request.user, resource, target, operation: "UPDATE", name: &name, new: &new, old: live },
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

/// DELETE. Gives the object if it lingers, else a `Status`.
pub(crate) fn delete(state: &mut State, call: &Call<'_>) -> Outcome<Value> {
    let options = call.request.json_or_null()?;
    let dry_run = call.request.dry_run() || list(&options, &["dryRun"]).iter().any(|word| word == "All");
    let (resource, target) = (&call.resource, call.target);
    let live = state
        .get(&resource.qualified(), &target.namespace, &target.name)
        .cloned()
        .ok_or_else(|| Refusal::not_found(resource, &target.name))?;
    preconditions(resource, &live, &options)?;
    admit(
        state,
        &Write {
            user: &call.request.user,
            resource,
            target,
            operation: "DELETE",
            name: &target.name,
            new: &Value::Null,
            old: &live,
        },
    )?;
    let grace = options
        .get("gracePeriodSeconds")
        .and_then(Value::as_i64)
        .or_else(|| call.request.param("gracePeriodSeconds").parse().ok());
    remove(state, call, &live, grace, dry_run)
}

/// Refuses if uid or resourceVersion are not those that the options demand.
pub(crate) fn preconditions(resource: &Resource, live: &Value, options: &Value) -> Outcome<()> {
    let name = text(live, &["metadata", "name"]);
    for (member, label, why) in [
        ("uid", "UID", "The object might have been deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "The object might have been modified"),
    ] {
        let (wanted, found) = (text(options, &["preconditions", member]), text(live, &["metadata", member]));
        if !wanted.is_empty() && wanted != found {
            let text = format!(
                "the {label} in the precondition ({wanted}) does not match the {label} in record ({found}). {why}"
            );
            return Err(Refusal::precondition(resource, name, &text));
        }
    }
    Ok(())
}

/// Removes an object, at once or, for a running pod and where finalizers stand, after others have done their part.
pub(crate) fn remove(
    state: &mut State,
    call: &Call<'_>,
    live: &Value,
    grace: Option<i64>,
    dry_run: bool,
) -> Outcome<Value> {
    let resource = &call.resource;
    let pod = resource.qualified() == "pods";
    let runs = pod
        && !text(live, &["spec", "nodeName"]).is_empty()
        && !matches!(text(live, &["status", "phase"]), "Succeeded" | "Failed");
    let grace = if runs {
        grace
            .or_else(|| at(live, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64))
            .unwrap_or(30)
            .clamp(0, 86_400)
    } else {
        0
    };
    let marked = !text(live, &["metadata", "deletionTimestamp"]).is_empty();
    if grace > 0 || !list(live, &["metadata", "finalizers"]).is_empty() {
        if marked {
            return Ok(live.clone());
        }
        let mut going = live.clone();
        mark(call, &mut going, grace);
        if dry_run {
            return Ok(going);
        }
        return Ok((*state.commit(resource, going, false, call.moment.at)).clone());
    }
    if dry_run {
        return Ok(if pod { live.clone() } else { success(None, about(resource, live)) });
    }
    let mut last = live.clone();
    if pod && marked && at(live, &["metadata", "deletionGracePeriodSeconds"]) != Some(&json!(0)) {
        put(&mut last, &["metadata", "deletionGracePeriodSeconds"], 0);
        put(&mut last, &["metadata", "deletionTimestamp"], call.moment.stamp());
        last = (*state.commit(resource, last, false, call.moment.at)).clone();
    }
    let gone = state.commit(resource, last, true, call.moment.at);
    Ok(if pod { (*gone).clone() } else { success(None, about(resource, &gone)) })
}

fn mark(call: &Call<'_>, going: &mut Value, grace: i64) {
    let end = call.moment.wall.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(call.moment.wall);
    put(going, &["metadata", "deletionTimestamp"], stamp(end));
    put(going, &["metadata", "deletionGracePeriodSeconds"], grace);
    if call.resource.generation {
        let generation = at(going, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        put(going, &["metadata", "generation"], generation + 1);
    }
}

fn about(resource: &Resource, object: &Value) -> Value {
    let mut details = json!({
        "name": text(object, &["metadata", "name"]),
        "kind": resource.plural,
        "uid": text(object, &["metadata", "uid"]),
    });
    if !resource.group.is_empty() {
        put(&mut details, &["group"], resource.group.clone());
    }
    details
}

/// DELETE of a collection. Gives a list of what was removed.
pub(crate) fn delete_all(state: &mut State, call: &Call<'_>) -> Outcome<Value> {
    let selection = Selection::of(call)?;
    let found: Vec<Arc<Value>> = state
        .objects(&call.resource.qualified())
        .map(|(_, object)| object.clone())
        .filter(|object| selection.matches(object))
        .collect();
    for object in &found {
        remove(state, call, object, None, call.request.dry_run())?;
    }
    Ok(json!({
        "kind": format!("{}List", call.resource.kind),
        "apiVersion": call.resource.api_version(),
        "metadata": {"resourceVersion": state.version.to_string()},
        "items": found.iter().map(|object| (**object).clone()).collect::<Vec<_>>(),
    }))
}
