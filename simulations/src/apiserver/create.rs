//! Create.

use serde_json::{Value, json};

use super::admission::{Write, admit};
use super::call::Call;
use super::json::{at, object, put, take, text};
use super::managed;
use super::rules;
use super::schema;
use super::shape::Shape;
use super::state::State;
use super::status::{FieldFault, Outcome, Refusal};
use super::write::writer;

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

/// Refuses a body that states another kind or version than the path.
pub(crate) fn check_kind(call: &Call<'_>, body: &Value) -> Outcome<()> {
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

/// Stores a new object, after an apply too.
pub(crate) fn insert(state: &mut State, call: &Call<'_>, mut new: Value, operation: &'static str) -> Outcome<Value> {
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
pub(crate) fn conform(call: &Call<'_>, new: &mut Value) -> Outcome<()> {
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
