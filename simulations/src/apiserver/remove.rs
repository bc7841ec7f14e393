//! Delete, at once or gracefully.

use std::sync::Arc;

use serde_json::{Value, json};

use super::admission::{Write, admit};
use super::call::{Call, stamp};
use super::json::{at, list, put, text};
use super::read::Selection;
use super::resources::Resource;
use super::state::State;
use super::status::{Outcome, Refusal, success};

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
