//! `metadata.managedFields`: who wrote which field, and server-side apply, which is decided by it.

use serde_json::{Value, json};

use super::fields::{Fields, position};
use super::json::{at, list, object, put, take, text};
use super::shape::{ListKind, Shape};
use super::status::{Outcome, Refusal};

/// Who writes, and how.
#[derive(Clone, Debug)]
pub(crate) struct Writer<'w> {
    pub(crate) manager: &'w str,
    /// `Update` or `Apply`.
    pub(crate) operation: &'static str,
    /// `status`, `scale`, …; empty for the object itself.
    pub(crate) subresource: &'w str,
    pub(crate) api_version: &'w str,
    /// RFC 3339, seconds.
    pub(crate) time: &'w str,
}

impl Writer<'_> {
    fn is(&self, entry: &Value) -> bool {
        text(entry, &["manager"]) == self.manager
            && text(entry, &["operation"]) == self.operation
            && text(entry, &["subresource"]) == self.subresource
    }
}

/// Records an ordinary write in `after`; `before` is null for a new object.
pub(crate) fn record(before: &Value, after: &mut Value, writer: &Writer<'_>, shape: Shape<'_>) {
    let mut entries = entries_of(after);
    if entries.is_empty() {
        entries = entries_of(before);
    }
    let empty = Value::Object(serde_json::Map::new());
    let (set, removed) = Fields::changes(if before.is_null() { &empty } else { before }, after, shape);
    if set.is_empty() && removed.is_empty() {
        write_entries(after, entries);
        return;
    }
    for entry in &mut entries {
        let mut fields = Fields::from_json(&entry["fieldsV1"]);
        if !writer.is(entry) {
            fields.subtract(&set, false);
        }
        fields.subtract(&removed, true);
        entry["fieldsV1"] = fields.to_json();
    }
    if !set.is_empty() {
        own(&mut entries, writer, &set, true);
    }
    write_entries(after, entries);
}

/// Applies a configuration to a live object (null: to none yet) and gives the object that results.
pub(crate) fn apply(
    live: &Value,
    applied: &Value,
    writer: &Writer<'_>,
    force: bool,
    shape: Shape<'_>,
) -> Outcome<Value> {
    if !list(applied, &["metadata", "managedFields"]).is_empty() {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    let set = Fields::of(applied, shape);
    let differing = Fields::differing(applied, live, shape);
    let mut entries = entries_of(live);
    let mut conflicts = Vec::new();
    for entry in entries.iter().filter(|entry| !writer.is(entry)) {
        let theirs = Fields::from_json(&entry["fieldsV1"]);
        let whom = match text(entry, &["subresource"]) {
            "" => format!("{:?} using {}", text(entry, &["manager"]), text(entry, &["apiVersion"])),
            sub => {
                let (manager, version) = (text(entry, &["manager"]), text(entry, &["apiVersion"]));
                format!("{manager:?} with subresource {sub:?} using {version}")
            }
        };
        for path in differing.common(&theirs).paths() {
            conflicts.push((whom.clone(), path));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    let before = entries
        .iter()
        .find(|entry| writer.is(entry))
        .map(|entry| Fields::from_json(&entry["fieldsV1"]))
        .unwrap_or_default();
    let mut result = if live.is_null() { Value::Object(serde_json::Map::new()) } else { live.clone() };
    let mut wanted = applied.clone();
    for system in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
        if !live.is_null() {
            take(&mut wanted, &["metadata", system]);
        }
    }
    merge(&mut result, &wanted, shape);
    // What this manager applied before and no longer wants goes, unless another owns it too.
    let mut dropped = before.clone();
    dropped.subtract(&set, false);
    for entry in entries.iter().filter(|entry| !writer.is(entry)) {
        dropped.subtract(&Fields::from_json(&entry["fieldsV1"]), false);
    }
    dropped.remove_from(&mut result, shape);
    for entry in &mut entries {
        if !writer.is(entry) {
            let mut fields = Fields::from_json(&entry["fieldsV1"]);
            fields.subtract(&differing, false);
            entry["fieldsV1"] = fields.to_json();
        }
    }
    own(&mut entries, writer, &set, false);
    write_entries(&mut result, entries);
    Ok(result)
}

fn conflict(conflicts: &[(String, String)]) -> Refusal {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(whom, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {whom}"), "field": path})
        })
        .collect();
    let plural = if conflicts.len() == 1 { "" } else { "s" };
    let message = match conflicts {
        [(whom, path)] => format!("Apply failed with 1 conflict: conflict with {whom}: {path}"),
        many => {
            let mut lines = format!("Apply failed with {} conflict{plural}: ", many.len());
            let mut last = "";
            for (whom, path) in many {
                if whom != last {
                    lines.push_str(&format!("conflicts with {whom}:"));
                    last = whom;
                }
                lines.push_str(&format!("\n- {path}"));
            }
            lines
        }
    };
    Refusal::new(409, "Conflict", message, json!({ "causes": causes }))
}

/// The entries of an object; what is no entry (a client may write anything) is left out.
fn entries_of(object: &Value) -> Vec<Value> {
    list(object, &["metadata", "managedFields"]).iter().filter(|entry| entry.is_object()).cloned().collect()
}

/// Adds to the writer's entry (`add`) or replaces its set.
fn own(entries: &mut Vec<Value>, writer: &Writer<'_>, set: &Fields, add: bool) {
    let mut fields = set.clone();
    if let Some(at) = entries.iter().position(|entry| writer.is(entry)) {
        let entry = entries.remove(at);
        if add {
            fields.add(&Fields::from_json(&entry["fieldsV1"]));
        }
    }
    let mut entry = json!({
        "manager": writer.manager,
        "operation": writer.operation,
        "apiVersion": writer.api_version,
        "time": writer.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields.to_json(),
    });
    if !writer.subresource.is_empty() {
        put(&mut entry, &["subresource"], writer.subresource);
    }
    entries.push(entry);
}

fn write_entries(value: &mut Value, entries: Vec<Value>) {
    let kept: Vec<Value> =
        entries.into_iter().filter(|entry| !Fields::from_json(&entry["fieldsV1"]).is_empty()).collect();
    if kept.is_empty() {
        take(value, &["metadata", "managedFields"]);
    } else {
        put(value, &["metadata", "managedFields"], kept);
    }
}

/// Lays `wanted` over `live`.
fn merge(live: &mut Value, wanted: &Value, shape: Shape<'_>) {
    match wanted {
        Value::Object(map) if !shape.atomic_map() => {
            let target = object(live);
            for (name, value) in map {
                merge(target.entry(name.clone()).or_insert(Value::Null), value, shape.member(name));
            }
        }
        Value::Array(items) if shape.list() != ListKind::Atomic => {
            let kind = shape.list();
            if !live.is_array() {
                *live = Value::Array(Vec::new());
            }
            let Some(target) = live.as_array_mut() else { return };
            for item in items {
                match position(&kind, target, item) {
                    Some(at) => merge(&mut target[at], item, shape.item()),
                    None => target.push(item.clone()),
                }
            }
        }
        other => *live = other.clone(),
    }
}

/// Whether two objects differ in more than their bookkeeping.
pub(crate) fn same_but_bookkeeping(one: &Value, other: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        for member in ["managedFields", "resourceVersion", "generation"] {
            take(&mut value, &["metadata", member]);
        }
        value
    };
    strip(one) == strip(other) && owners(one) == owners(other)
}

/// Entries without their times.
fn owners(value: &Value) -> Vec<Value> {
    let mut entries: Vec<Value> = at(value, &["metadata", "managedFields"])
        .and_then(Value::as_array)
        .map(|entries| {
            entries
                .iter()
                .map(|entry| {
                    let mut entry = entry.clone();
                    take(&mut entry, &["time"]);
                    entry
                })
                .collect()
        })
        .unwrap_or_default();
    entries.sort_by_key(Value::to_string);
    entries
}
