//! Paths that are no resources: version, health and discovery.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::call::Reply;
use super::resources::Resource;
use super::state::State;
use super::status::Refusal;

/// Answers such a path.
pub(crate) fn answer(state: &State, parts: &[String]) -> Reply {
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["version"] => Reply::Json(200, version()),
        ["readyz" | "livez" | "healthz", ..] => Reply::Text(200, "ok".into()),
        ["api"] => Reply::Json(
            200,
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": "172.30.0.254:6443"}]}),
        ),
        ["apis"] => Reply::Json(200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups(state)})),
        ["apis", name] => match groups(state).into_iter().find(|group| group["name"] == *name) {
            Some(mut group) => {
                group["kind"] = "APIGroup".into();
                group["apiVersion"] = "v1".into();
                Reply::Json(200, group)
            }
            None => Reply::Refused(Refusal::page_not_found()),
        },
        ["api", "v1"] => resources(state, "", "v1"),
        ["apis", group, version] => resources(state, group, version),
        _ => Reply::Refused(Refusal::page_not_found()),
    }
}

/// The recorded cluster's version.
fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": "v1.36.2",
        "gitCommit": "$Format:%H$", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.27.3", "compiler": "gc", "platform": "linux/amd64",
    })
}

fn groups(state: &State) -> Vec<Value> {
    let mut groups = BTreeMap::from([
        ("authorization.k8s.io".to_owned(), "v1".to_owned()),
        ("authentication.k8s.io".to_owned(), "v1".to_owned()),
    ]);
    for resource in state.resources.values().filter(|resource| !resource.group.is_empty()) {
        groups.insert(resource.group.clone(), resource.version.clone());
    }
    groups
        .into_iter()
        .map(|(name, version)| {
            let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        })
        .collect()
}

fn resources(state: &State, group: &str, version: &str) -> Reply {
    let mut list = Vec::new();
    for resource in state.resources.values().filter(|one| one.group == group && one.version == version) {
        list.push(entry(resource, "", &resource.kind, &verbs(resource)));
        if resource.status {
            list.push(entry(resource, "status", &resource.kind, &["get", "patch", "update"]));
        }
        for sub in &resource.subresources {
            let (kind, verbs): (&str, &[&str]) = match sub.as_str() {
                "eviction" => ("Eviction", &["create"]),
                "scale" => ("Scale", &["get", "patch", "update"]),
                _ => (&resource.kind, &["get", "patch", "update"]),
            };
            list.push(entry(resource, sub, kind, verbs));
        }
    }
    let review = match group {
        "authorization.k8s.io" => Some(("selfsubjectaccessreviews", "SelfSubjectAccessReview")),
        "authentication.k8s.io" => Some(("tokenreviews", "TokenReview")),
        _ => None,
    };
    if let Some((plural, kind)) = review {
        let singular = kind.to_lowercase();
        list.push(
            json!({"name": plural, "singularName": singular, "namespaced": false, "kind": kind, "verbs": ["create"]}),
        );
    }
    if list.is_empty() {
        return Reply::Refused(Refusal::page_not_found());
    }
    let stated = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Reply::Json(200, json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": stated, "resources": list}))
}

fn verbs(_: &Resource) -> [&'static str; 8] {
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
}

fn entry(resource: &Resource, subresource: &str, kind: &str, verbs: &[&str]) -> Value {
    let (name, singular) = if subresource.is_empty() {
        (resource.plural.clone(), resource.singular.as_str())
    } else {
        (format!("{}/{subresource}", resource.plural), "")
    };
    let mut entry = json!({
        "name": name, "singularName": singular, "namespaced": resource.namespaced, "kind": kind, "verbs": verbs,
    });
    if subresource == "eviction" {
        entry["group"] = "policy".into();
        entry["version"] = "v1".into();
    }
    if subresource == "scale" {
        entry["group"] = "autoscaling".into();
        entry["version"] = "v1".into();
    }
    entry
}
