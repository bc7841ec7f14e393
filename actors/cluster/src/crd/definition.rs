//! The definitions, generated from the types.

use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::report::{NodeOrders, NodeReport};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::Transform;
use serde_json::{Map, Value, json};

use super::yaml::to_yaml;
use crate::names::{GROUP, VERSION};

/// The definitions with their file names, as they are installed.
#[must_use]
pub fn crds() -> Vec<(String, Value)> {
    let agent = Names { kind: "NodeAgent", plural: "nodeagents", singular: "nodeagent", short: &["nwa"] };
    let incident = Names { kind: "DnsIncident", plural: "dnsincidents", singular: "dnsincident", short: &["dnsinc"] };
    let column = |name: &str, kind: &str, path: &str, about: &str| json!({"name": name, "type": kind, "jsonPath": path, "description": about});
    let wide = |name: &str, kind: &str, path: &str, about: &str| json!({"name": name, "type": kind, "jsonPath": path, "description": about, "priority": 1});
    let age = column("Age", "date", ".metadata.creationTimestamp", "Since when it exists.");
    vec![
        definition(
            &agent,
            "One node's agent: what the coordinator orders (spec) and what the agent reports (status).",
            (schema::<NodeOrders>(), schema::<NodeReport>()),
            json!([
                column(
                    "Healthy",
                    "string",
                    ".status.conditions[?(@.type==\"Healthy\")].status",
                    "Whether DNS answers on every path of this node."
                ),
                column("Verdict", "string", ".status.verdicts[0].cause", "The first cause that stands."),
                wide("Namespaces", "integer", ".status.namespaces", "Pod namespaces that are probed from."),
                wide(
                    "Permit",
                    "integer",
                    ".spec.permit.serial",
                    "The standing permit for repairs of this node; empty: none."
                ),
                wide("Trouble", "string", ".status.troubles[0]", "What is wrong with the agent itself."),
                age,
            ]),
        ),
        definition(
            &incident,
            "Something is or was wrong with cluster DNS: what, where, and what was done about it.",
            (schema::<IncidentSpec>(), schema::<IncidentStatus>()),
            json!([
                column("Cause", "string", ".spec.cause", "What is wrong."),
                column("Subject", "string", ".spec.subject.name", "What it is about."),
                column("Phase", "string", ".status.phase", "Where it stands."),
                wide("Scope", "string", ".spec.scope", "How far it reaches."),
                wide("Node", "string", ".status.nodes[0]", "The first node that says so."),
                wide("Added", "integer", ".status.added.after", "Replicas, while an added one stands."),
                column("Summary", "string", ".status.summary", "One line."),
                age,
            ]),
        ),
    ]
}

/// The definitions as files: name and text.
#[must_use]
pub fn crds_yaml() -> Vec<(String, String)> {
    crds()
        .into_iter()
        .map(|(name, definition)| {
            (
                format!("{name}.yaml"),
                format!("# Generated from the types; `make crds` writes it anew.\n{}", to_yaml(&definition)),
            )
        })
        .collect()
}

struct Names {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
}

fn definition(names: &Names, about: &str, (spec, status): (Value, Value), columns: Value) -> (String, Value) {
    let full = format!("{}.{GROUP}", names.plural);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": full},
        "spec": {
            "group": GROUP,
            "names": {
                "categories": ["nameward"],
                "kind": names.kind,
                "listKind": format!("{}List", names.kind),
                "plural": names.plural,
                "shortNames": names.short,
                "singular": names.singular,
            },
            "scope": "Cluster",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {
                    "description": about,
                    "type": "object",
                    "required": ["spec"],
                    "properties": {"spec": spec, "status": status},
                }},
            }],
        },
    });
    (full, definition)
}

/// The structural schema of a type.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    kube::core::schema::StructuralSchemaRewriter.transform(&mut schema);
    let mut schema = schema.to_value();
    tidy(&mut schema);
    bound("", &mut schema);
    schema
}

/// Longest text anywhere: about four times what is ever written, so that a newer version is not refused.
const TEXT: u32 = 2048;
/// Most items of a list that [`ITEMS`] does not name.
const MOST: u32 = 64;
/// Most items by the name of the list: twice what is ever written.
const ITEMS: [(&str, u32); 10] = [
    ("rows", 512),
    ("nodes", 128),
    ("ladder", 64),
    ("verdicts", 32),
    ("remedies", 32),
    ("requests", 8),
    ("complaints", 16),
    ("ignoredNamespaces", 256),
    ("causes", 16),
    ("conditions", 16),
];

/// Bounds every list and every text: the API server refuses what a broken or hostile agent writes beyond.
fn bound(name: &str, schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    let free = !members.contains_key("enum") && members.get("format").is_none();
    match members.get("type").and_then(Value::as_str) {
        Some("array") => {
            let most = ITEMS.iter().find(|(of, _)| *of == name).map_or(MOST, |(_, most)| *most);
            members.insert("maxItems".to_owned(), json!(most));
        }
        Some("string") if free => {
            members.insert("maxLength".to_owned(), json!(TEXT));
        }
        _ => {}
    }
    if let Some(Value::Object(inner)) = members.get_mut("properties") {
        inner.iter_mut().for_each(|(name, schema)| bound(name, schema));
    }
    if let Some(items) = members.get_mut("items") {
        bound("", items);
    }
}

/// Leaves what the API server accepts and a reader needs: formats that Kubernetes knows, constants as enums, no titles.
fn tidy(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    for name in ["title", "$schema", "components", "definitions"] {
        members.remove(name);
    }
    one_enum(members);
    if let Some(format) = members.get("format").and_then(Value::as_str) {
        match format {
            "uint8" | "uint16" | "int8" | "int16" => {
                members.insert("format".to_owned(), json!("int32"));
            }
            // Beyond i32 on the way up.
            "uint32" | "uint64" | "uint" => {
                members.insert("format".to_owned(), json!("int64"));
            }
            "int32" | "int64" | "float" | "double" | "date-time" | "ipv4" | "ipv6" => {}
            _ => {
                members.remove("format");
            }
        }
    }
    if let Some(minimum) = members.get_mut("minimum").filter(|minimum| minimum.as_f64() == Some(0.0)) {
        *minimum = json!(0);
    }
    for name in ["properties", "patternProperties"] {
        if let Some(Value::Object(inner)) = members.get_mut(name) {
            inner.values_mut().for_each(tidy);
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(name) {
            tidy(inner);
        }
    }
}

/// `oneOf` and `anyOf` over constants become one `enum`: a structural schema has no types inside `oneOf`.
fn one_enum(members: &mut Map<String, Value>) {
    for name in ["oneOf", "anyOf"] {
        let Some(Value::Array(variants)) = members.get(name) else { continue };
        let mut values = Vec::new();
        let mut nullable = false;
        let mut other = None;
        for variant in variants {
            if let Some(constant) = variant.get("const") {
                values.push(constant.clone());
            } else if let Some(Value::Array(some)) = variant.get("enum") {
                nullable |= some.iter().any(Value::is_null);
                values.extend(some.iter().filter(|value| !value.is_null()).cloned());
            } else if variant.get("nullable") == Some(&json!(true)) && variant.as_object().is_some_and(|v| v.len() == 1)
            {
                nullable = true;
            } else {
                other = Some(variant.clone());
            }
        }
        match other {
            None if !values.is_empty() => {
                members.remove(name);
                members.insert("type".to_owned(), json!("string"));
                members.insert("enum".to_owned(), Value::Array(values));
            }
            // `Option<T>`: the schema of T, nullable.
            Some(Value::Object(inner)) if values.is_empty() && nullable => {
                members.remove(name);
                for (key, value) in inner {
                    members.entry(key).or_insert(value);
                }
                // What was inside may itself be such a choice.
                one_enum(members);
            }
            _ => continue,
        }
        if nullable {
            members.insert("nullable".to_owned(), json!(true));
        }
    }
}
