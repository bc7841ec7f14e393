//! Custom resources: the definition, and validation against its schema (types, bounds, enumerations, required and
//! unknown members, defaults). Expressions and formats of a schema are not evaluated.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::json::{at, list, object, put, text};
use super::resources::Resource;
use super::status::FieldFault;

/// The resources that a definition serves: its storage version.
pub(crate) fn resource_of(definition: &Value) -> Option<Resource> {
    let version = list(definition, &["spec", "versions"])
        .iter()
        .find(|version| version.get("storage").and_then(Value::as_bool) == Some(true))?;
    let subresource = |name: &str| at(version, &["subresources", name]).is_some();
    let schema = at(version, &["schema", "openAPIV3Schema"]).cloned().unwrap_or_else(|| json!({"type": "object"}));
    let kind = text(definition, &["spec", "names", "kind"]);
    let singular = text(definition, &["spec", "names", "singular"]);
    Some(Resource {
        group: text(definition, &["spec", "group"]).into(),
        version: text(version, &["name"]).into(),
        plural: text(definition, &["spec", "names", "plural"]).into(),
        singular: if singular.is_empty() { kind.to_lowercase() } else { singular.into() },
        kind: kind.into(),
        namespaced: text(definition, &["spec", "scope"]) == "Namespaced",
        status: subresource("status"),
        generation: true,
        subresources: Vec::new(),
        schema: Some(Arc::new(schema)),
    })
}

/// Fills in a definition as the API server does when it is created.
pub(crate) fn default_definition(definition: &mut Value) {
    let kind = text(definition, &["spec", "names", "kind"]).to_owned();
    let storage: Vec<Value> = list(definition, &["spec", "versions"])
        .iter()
        .filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true))
        .filter_map(|version| version.get("name").cloned())
        .collect();
    let spec = object(object(definition).entry("spec").or_insert_with(|| json!({})));
    spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    let names = object(spec.entry("names").or_insert_with(|| json!({})));
    names.entry("listKind").or_insert_with(|| format!("{kind}List").into());
    names.entry("singular").or_insert_with(|| kind.to_lowercase().into());
    put(
        definition,
        &["status"],
        json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": storage}),
    );
}

/// The status of a definition that is served.
pub(crate) fn established(definition: &mut Value, time: &str) {
    let names = at(definition, &["spec", "names"]).cloned().unwrap_or_default();
    put(definition, &["status", "acceptedNames"], names);
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time, "reason": reason, "message": message});
    put(
        definition,
        &["status", "conditions"],
        vec![
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    );
}

/// Removes members that the schema does not know and fills in defaults; gives the paths of what was removed.
pub(crate) fn prune(object: &mut Value, schema: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_at(object, schema, "", &mut unknown);
    unknown
}

fn prune_at(value: &mut Value, schema: &Value, path: &str, unknown: &mut Vec<String>) {
    let keeps = schema.get("x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool) == Some(true);
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties");
    match value {
        Value::Object(map) => {
            let root = path.is_empty();
            let names: Vec<String> = map.keys().cloned().collect();
            for name in names {
                if root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                let here = if root { name.clone() } else { format!("{path}.{name}") };
                let inner = properties
                    .and_then(|properties| properties.get(&name))
                    .or_else(|| additional.filter(|additional| additional.is_object()));
                match (inner, map.get_mut(&name)) {
                    (Some(inner), Some(child)) => prune_at(child, inner, &here, unknown),
                    _ if keeps || additional.and_then(Value::as_bool) == Some(true) => {}
                    _ => {
                        map.remove(&name);
                        unknown.push(here);
                    }
                }
            }
            fill_in(map, properties);
        }
        Value::Array(items) => {
            if let Some(inner) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    prune_at(item, inner, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

fn fill_in(map: &mut Map<String, Value>, properties: Option<&Map<String, Value>>) {
    for (name, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default")
            && map.get(name).is_none_or(Value::is_null)
        {
            map.insert(name.clone(), default.clone());
        }
    }
}

/// Validates an object's members against the schema.
pub(crate) fn validate(object: &Value, schema: &Value) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    check(object, schema, "", &mut faults);
    faults
}

fn check(value: &Value, schema: &Value, path: &str, faults: &mut Vec<FieldFault>) {
    if value.is_null() && schema.get("nullable").and_then(Value::as_bool) == Some(true) {
        return;
    }
    let either = schema.get("x-kubernetes-int-or-string").and_then(Value::as_bool) == Some(true);
    let wanted = text(schema, &["type"]);
    let fits = match wanted {
        "" => true,
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits && !either {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        faults.push(FieldFault {
            field: path.into(),
            reason: "FieldValueTypeInvalid",
            message: format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}"),
        });
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let names: Vec<String> = allowed.iter().map(Value::to_string).collect();
        faults.push(FieldFault {
            field: path.into(),
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {value}: supported values: {}", names.join(", ")),
        });
    }
    bounds(value, schema, path, faults);
    let required = list(schema, &["required"]).iter().filter_map(Value::as_str);
    match value {
        Value::Object(map) => {
            for name in required {
                if !map.contains_key(name) {
                    faults.push(FieldFault::required(join(path, name)));
                }
            }
            for (name, child) in map {
                if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                let inner = at(schema, &["properties", name]).or_else(|| schema.get("additionalProperties"));
                if let Some(inner) = inner.filter(|inner| inner.is_object()) {
                    check(child, inner, &join(path, name), faults);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    check(item, inner, &format!("{path}[{index}]"), faults);
                }
            }
        }
        _ => {}
    }
}

fn bounds(value: &Value, schema: &Value, path: &str, faults: &mut Vec<FieldFault>) {
    let number = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(found) = value.as_f64() {
        if let Some(least) = number("minimum").filter(|least| found < *least) {
            let message = format!("Invalid value: {value}: {path} in body should be greater than or equal to {least}");
            faults.push(FieldFault::invalid(path, message));
        }
        if let Some(most) = number("maximum").filter(|most| found > *most) {
            let message = format!("Invalid value: {value}: {path} in body should be less than or equal to {most}");
            faults.push(FieldFault::invalid(path, message));
        }
    }
    let limit = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    if let (Some(found), Some(most)) = (value.as_str(), limit("maxLength"))
        && found.chars().count() > most
    {
        let message = format!("Too long: may not be more than {most} bytes");
        faults.push(FieldFault { field: path.into(), reason: "FieldValueTooLong", message });
    }
    if let (Some(found), Some(most)) = (value.as_array(), limit("maxItems"))
        && found.len() > most
    {
        let message = format!("Too many: {}: must have at most {most} items", found.len());
        faults.push(FieldFault { field: path.into(), reason: "FieldValueTooMany", message });
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}
