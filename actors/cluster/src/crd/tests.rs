#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds")
}

/// With `NAMEWARD_WRITE_CRDS=1` the files are written anew; without, they must be what the code generates.
#[test]
fn the_files_are_what_the_code_generates() {
    for (name, text) in crds_yaml() {
        let path = folder().join(&name);
        if std::env::var_os("NAMEWARD_WRITE_CRDS").is_some() {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(file == text, "{name} is out of date: run `make crds`");
    }
}

/// The rules of structural schemas: a type everywhere, no type inside logic, no reference
/// (Kubernetes docs, "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a structural schema").
fn check(at: &str, schema: &Value) {
    let members = schema.as_object().unwrap_or_else(|| panic!("{at} is no schema: {schema}"));
    let kind = members.get("type").and_then(Value::as_str).unwrap_or_else(|| panic!("{at} has no type: {schema}"));
    for known in members.keys() {
        assert!(
            [
                "type",
                "description",
                "properties",
                "required",
                "items",
                "enum",
                "format",
                "minimum",
                "nullable",
                "default",
                "additionalProperties",
                "maximum",
                "maxItems",
                "maxLength"
            ]
            .contains(&known.as_str()),
            "{at} has {known}"
        );
    }
    if kind == "integer" {
        assert!(["int32", "int64"].contains(&members["format"].as_str().unwrap()), "{at}");
        assert_eq!(members.get("minimum"), Some(&json!(0)), "{at}");
    }
    if kind == "array" {
        assert!(members.contains_key("maxItems"), "{at} is not bounded");
        check(&format!("{at}[]"), &members["items"]);
    }
    if kind == "string" && !members.contains_key("enum") && !members.contains_key("format") {
        assert!(members.contains_key("maxLength"), "{at} is not bounded");
    }
    for (name, property) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check(&format!("{at}.{name}"), property);
    }
}

#[test]
fn the_schemas_are_structural() {
    for (name, definition) in crds() {
        let version = &definition["spec"]["versions"][0];
        check(&name, &version["schema"]["openAPIV3Schema"]);
        let spec = definition["metadata"]["name"].as_str().unwrap();
        assert_eq!(spec, format!("{}.{GROUP}", definition["spec"]["names"]["plural"].as_str().unwrap()));
    }
    let all = crds();
    let incident = &all[1].1["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let causes = incident["spec"]["properties"]["cause"]["enum"].as_array().unwrap();
    assert_eq!(causes.len(), nameward_messages::verdict::Cause::ALL.len());
    assert!(incident["status"]["properties"]["phase"]["enum"].as_array().unwrap().contains(&json!("Verifying")));
    let agent = &all[0].1["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    assert_eq!(agent["spec"]["properties"]["permit"]["type"], "object");
    assert_eq!(agent["status"]["properties"]["matrix"]["properties"]["rows"]["type"], "array");
}

#[test]
fn objects_are_written_as_the_api_wants_them() {
    let agent = NodeAgent::new("node1", NodeOrders::default());
    let json = serde_json::to_value(&agent).unwrap();
    assert_eq!(
        json,
        json!({"apiVersion": "nameward.dev/v1alpha1", "kind": "NodeAgent", "metadata": {"name": "node1"}, "spec": {}})
    );
    let back: NodeAgent = serde_json::from_value(json).unwrap();
    assert_eq!(back, agent);
    assert_eq!(DnsIncident::url_path(&(), None), "/apis/nameward.dev/v1alpha1/dnsincidents");
}
