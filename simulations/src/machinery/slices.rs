//! EndpointSlices follow the readiness of pods.

use serde_json::{Value, json};

use super::Pass;
use super::conditions::holds;
use super::pods::owned_by;
use crate::apiserver::{Labels, at, list, put, text};

const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

/// One slice for each Service that selects pods.
pub(crate) fn step(pass: &Pass<'_>) {
    let pods = pass.handle.list("Pod", "", "");
    for service in pass.handle.list("Service", "", "") {
        let Some(selector) = at(&service, &["spec", "selector"]).filter(|selector| selector.is_object()) else {
            continue;
        };
        let labels = Labels::of_map(selector);
        let namespace = text(&service, &["metadata", "namespace"]);
        let mut mine: Vec<&Value> = pods
            .iter()
            .filter(|pod| text(pod, &["metadata", "namespace"]) == namespace && labels.matches(pod))
            .filter(|pod| !text(pod, &["status", "podIP"]).is_empty())
            .filter(|pod| !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed"))
            .collect();
        mine.sort_by_key(|pod| text(pod, &["status", "podIP"]));
        write(pass, &service, &mine);
    }
}

fn write(pass: &Pass<'_>, service: &Value, pods: &[&Value]) {
    let (name, namespace) = (text(service, &["metadata", "name"]), text(service, &["metadata", "namespace"]));
    let (endpoints, ports) = if pods.is_empty() {
        (Value::Null, Value::Null)
    } else {
        (pods.iter().map(|pod| endpoint(pod)).collect(), ports(service, pods))
    };
    let selector = format!("kubernetes.io/service-name={name},endpointslice.kubernetes.io/managed-by={MANAGED_BY}");
    let known = pass.handle.list("EndpointSlice", namespace, &selector).into_iter().next();
    let mut slice = match known {
        Some(slice) if slice["endpoints"] == endpoints && slice["ports"] == ports => return,
        Some(slice) => slice,
        None => fresh(service),
    };
    put(&mut slice, &["endpoints"], endpoints);
    put(&mut slice, &["ports"], ports);
    put(
        &mut slice,
        &["metadata", "annotations", "endpoints.kubernetes.io/last-change-trigger-time"],
        pass.stamp.clone(),
    );
    if text(&slice, &["metadata", "name"]).is_empty() {
        if let Err(error) = pass.handle.machinery("kube-controller-manager").create(slice) {
            tracing::warn!(%error, "no slice was created");
        }
    } else {
        pass.write("kube-controller-manager", slice);
    }
}

fn fresh(service: &Value) -> Value {
    let name = text(service, &["metadata", "name"]);
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": text(service, &["metadata", "namespace"]),
            "labels": at(service, &["metadata", "labels"]).cloned().unwrap_or_else(|| json!({})),
            "ownerReferences": owned_by(service),
        },
        "addressType": "IPv4",
    });
    put(&mut slice, &["metadata", "labels", "kubernetes.io/service-name"], name);
    put(&mut slice, &["metadata", "labels", "endpointslice.kubernetes.io/managed-by"], MANAGED_BY);
    slice
}

fn endpoint(pod: &Value) -> Value {
    let terminating = !text(pod, &["metadata", "deletionTimestamp"]).is_empty();
    let serving = holds(pod, "Ready");
    json!({
        "addresses": [text(pod, &["status", "podIP"])],
        "conditions": {"ready": serving && !terminating, "serving": serving, "terminating": terminating},
        "targetRef": {
            "kind": "Pod",
            "namespace": text(pod, &["metadata", "namespace"]),
            "name": text(pod, &["metadata", "name"]),
            "uid": text(pod, &["metadata", "uid"]),
        },
        "nodeName": text(pod, &["spec", "nodeName"]),
    })
}

fn ports(service: &Value, pods: &[&Value]) -> Value {
    list(service, &["spec", "ports"])
        .iter()
        .map(|port| {
            let number = match &port["targetPort"] {
                // A name is looked up in the first pod's containers.
                Value::String(name) => pods
                    .iter()
                    .flat_map(|pod| list(pod, &["spec", "containers"]))
                    .flat_map(|container| list(container, &["ports"]))
                    .find(|port| text(port, &["name"]) == name)
                    .map(|port| port["containerPort"].clone())
                    .unwrap_or_default(),
                Value::Null => port["port"].clone(),
                number => number.clone(),
            };
            json!({"name": text(port, &["name"]), "protocol": port["protocol"], "port": number})
        })
        .collect()
}
