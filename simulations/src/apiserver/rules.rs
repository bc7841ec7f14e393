//! Defaults and validation of the built-in kinds, as far as anything here depends on them.

use serde_json::{Value, json};

use super::json::{at, list, object, put, take, text};
use super::quantity::parse_milli;
use super::resources::Resource;
use super::status::{FieldFault, Outcome, Refusal};

/// What the API server says of a quantity that is none.
pub(crate) const QUANTITY_MESSAGE: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Where the pod template or the pod's own specification stands.
fn pod_spec(resource: &Resource) -> Option<&'static [&'static str]> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => Some(&["spec"]),
        ("apps" | "batch", _) => Some(&["spec", "template", "spec"]),
        _ => None,
    }
}

/// Every quantity in the object must be one: found when the body is decoded, before validation.
pub(crate) fn quantities_parse(resource: &Resource, object: &Value) -> bool {
    let Some(spec) = pod_spec(resource).and_then(|path| at(object, path)) else { return true };
    ["containers", "initContainers"].iter().flat_map(|name| list(spec, &[name])).all(|container| {
        ["limits", "requests"].iter().all(|kind| {
            at(container, &["resources", kind]).and_then(Value::as_object).is_none_or(|amounts| {
                amounts.values().all(|amount| match amount {
                    Value::String(text) => parse_milli(text).is_some(),
                    Value::Number(_) => true,
                    _ => false,
                })
            })
        })
    })
}

/// Fills in what the recordings show filled in.
pub(crate) fn default(resource: &Resource, new: &mut Value, inside: bool) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => {
            let spec = object(object(new).entry("spec").or_insert_with(|| json!({})));
            for (name, value) in [
                ("type", json!("ClusterIP")),
                ("sessionAffinity", json!("None")),
                ("internalTrafficPolicy", json!("Cluster")),
                ("ipFamilies", json!(["IPv4"])),
                ("ipFamilyPolicy", json!("SingleStack")),
            ] {
                spec.entry(name).or_insert(value);
            }
            if let Some(ip) = spec.get("clusterIP").cloned() {
                spec.entry("clusterIPs").or_insert_with(|| json!([ip]));
            }
            for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                let port = object(port);
                port.entry("protocol").or_insert_with(|| "TCP".into());
                if let Some(number) = port.get("port").cloned() {
                    port.entry("targetPort").or_insert(number);
                }
            }
            object(new).entry("status").or_insert_with(|| json!({"loadBalancer": {}}));
        }
        ("", "pods") => {
            default_pod_spec(new, &["spec"]);
            if !inside || new.get("status").is_none() {
                let class = quality(new);
                put(new, &["status"], json!({"phase": "Pending", "qosClass": class}));
            }
        }
        ("apps", plural) => {
            if plural != "daemonsets" && at(new, &["spec", "replicas"]).is_none() {
                put(new, &["spec", "replicas"], 1);
            }
            if plural == "deployments" {
                let spec = object(object(new).entry("spec").or_insert_with(|| json!({})));
                spec.entry("strategy").or_insert_with(
                    || json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
                );
                spec.entry("revisionHistoryLimit").or_insert(json!(10));
                spec.entry("progressDeadlineSeconds").or_insert(json!(600));
            }
            default_pod_spec(new, &["spec", "template", "spec"]);
            object(new).entry("status").or_insert_with(|| json!({}));
        }
        ("batch", _) => {
            default_pod_spec(new, &["spec", "template", "spec"]);
            object(new).entry("status").or_insert_with(|| json!({}));
        }
        ("policy", _) if new.get("status").is_none() || !inside => {
            let zero = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
            put(new, &["status"], zero);
        }
        ("events.k8s.io", _) => {
            let event = object(new);
            event.entry("deprecatedSource").or_insert_with(|| json!({}));
            for name in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
                event.entry(name).or_insert(Value::Null);
            }
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            let spec = object(object(new).entry("spec").or_insert_with(|| json!({})));
            spec.entry("failurePolicy").or_insert_with(|| "Fail".into());
            if let Some(constraints) = spec.get_mut("matchConstraints") {
                let constraints = object(constraints);
                constraints.entry("namespaceSelector").or_insert_with(|| json!({}));
                constraints.entry("objectSelector").or_insert_with(|| json!({}));
                constraints.entry("matchPolicy").or_insert_with(|| "Equivalent".into());
                for rule in constraints.get_mut("resourceRules").and_then(Value::as_array_mut).into_iter().flatten() {
                    object(rule).entry("scope").or_insert_with(|| "*".into());
                }
            }
            object(new).entry("status").or_insert_with(|| json!({}));
        }
        _ => {}
    }
}

fn default_pod_spec(new: &mut Value, path: &[&str]) {
    if at(new, path).is_none() {
        return;
    }
    let mut spec = take(new, path).unwrap_or_else(|| json!({}));
    let map = object(&mut spec);
    for (name, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
    ] {
        map.entry(name).or_insert(value);
    }
    for container in map.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let container = object(container);
        for (name, value) in [
            ("resources", json!({})),
            ("terminationMessagePath", json!("/dev/termination-log")),
            ("terminationMessagePolicy", json!("File")),
            ("imagePullPolicy", json!("IfNotPresent")),
        ] {
            container.entry(name).or_insert(value);
        }
    }
    put(new, path, spec);
}

/// The pod's quality of service class.
fn quality(pod: &Value) -> &'static str {
    let containers = list(pod, &["spec", "containers"]);
    let has = |kind: &str| {
        containers.iter().any(|container| {
            at(container, &["resources", kind]).and_then(Value::as_object).is_some_and(|map| !map.is_empty())
        })
    };
    let guaranteed = !containers.is_empty()
        && containers.iter().all(|container| {
            let limits = at(container, &["resources", "limits"]);
            ["cpu", "memory"].iter().all(|name| limits.and_then(|limits| limits.get(name)).is_some())
                && at(container, &["resources", "requests"]).is_none_or(|requests| Some(requests) == limits)
        });
    match (guaranteed, has("limits") || has("requests")) {
        (true, _) => "Guaranteed",
        (false, true) => "Burstable",
        (false, false) => "BestEffort",
    }
}

/// Refuses what the API server would refuse, as far as it is known here.
pub(crate) fn validate(resource: &Resource, new: &Value) -> Outcome<()> {
    let mut faults = Vec::new();
    if let Some(path) = pod_spec(resource) {
        let prefix = path.join(".");
        match at(new, path) {
            Some(spec) => validate_containers(spec, &prefix, &mut faults),
            None if path.len() == 1 || at(new, &["spec"]).is_some() => {
                faults.push(FieldFault::required(format!("{prefix}.containers")));
            }
            None => faults.push(FieldFault::required("spec")),
        }
    }
    if resource.plural == "poddisruptionbudgets"
        && at(new, &["spec", "minAvailable"]).is_some()
        && at(new, &["spec", "maxUnavailable"]).is_some()
    {
        faults.push(FieldFault::invalid("spec", "minAvailable and maxUnavailable cannot be both set"));
    }
    if resource.group == "events.k8s.io" && text(new, &["metadata", "resourceVersion"]).is_empty() {
        for name in ["reportingController", "reportingInstance", "action", "reason"] {
            if text(new, &[name]).is_empty() {
                faults.push(FieldFault::required(name));
            }
        }
        let regarding = text(new, &["regarding", "namespace"]);
        let expected = if regarding.is_empty() { "default" } else { regarding };
        if text(new, &["metadata", "namespace"]) != expected {
            faults.push(FieldFault::invalid("involvedObject.namespace", "does not match event.namespace"));
        }
    }
    if resource.plural == "leases"
        && let Some(seconds) = at(new, &["spec", "leaseDurationSeconds"]).and_then(Value::as_i64)
        && seconds <= 0
    {
        let message = format!("Invalid value: {seconds}: must be greater than 0");
        faults.push(FieldFault::invalid("spec.leaseDurationSeconds", message));
    }
    if faults.is_empty() { Ok(()) } else { Err(Refusal::invalid(resource, text(new, &["metadata", "name"]), &faults)) }
}

fn validate_containers(spec: &Value, prefix: &str, faults: &mut Vec<FieldFault>) {
    let containers = list(spec, &["containers"]);
    if containers.is_empty() {
        faults.push(FieldFault::required(format!("{prefix}.containers")));
    }
    for (index, container) in containers.iter().enumerate() {
        let here = format!("{prefix}.containers[{index}]");
        for name in ["name", "image"] {
            if text(container, &[name]).is_empty() {
                faults.push(FieldFault::required(format!("{here}.{name}")));
            }
        }
        let amounts = |kind: &str| at(container, &["resources", kind]).and_then(Value::as_object);
        let Some(limits) = amounts("limits") else { continue };
        for (name, request) in amounts("requests").into_iter().flatten() {
            let (Some(request), Some(limit)) = (request.as_str(), limits.get(name).and_then(Value::as_str)) else {
                continue;
            };
            if parse_milli(request) > parse_milli(limit) {
                faults.push(FieldFault::invalid(
                    format!("{here}.resources.requests"),
                    format!("Invalid value: {request:?}: must be less than or equal to {name} limit of {limit}"),
                ));
            }
        }
    }
}

/// A pod's specification is fixed but for a few members; resources change through `resize` alone.
pub(crate) fn pod_update_allowed(resource: &Resource, live: &Value, new: &Value, resize: bool) -> Outcome<()> {
    if resource.qualified() != "pods" {
        return Ok(());
    }
    let strip = |pod: &Value| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds"] {
            take(&mut spec, &[name]);
        }
        for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
            take(container, &[if resize { "resources" } else { "image" }]);
        }
        spec
    };
    if strip(live) == strip(new) {
        return Ok(());
    }
    let message = if resize {
        "Forbidden: only cpu and memory resources are mutable"
    } else {
        "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
         `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
         tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    };
    let fault = FieldFault { field: "spec".into(), reason: "FieldValueForbidden", message: message.into() };
    Err(Refusal::invalid(resource, text(new, &["metadata", "name"]), &[fault]))
}
