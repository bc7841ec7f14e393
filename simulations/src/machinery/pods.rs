//! Making pods of templates, and giving them nodes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Pass;
use super::conditions::holds;
use crate::apiserver::{at, list, put, text};

/// Whether a pod counts as one of its owner's: neither ended nor on its way out.
pub(crate) fn active(pod: &Value) -> bool {
    text(pod, &["metadata", "deletionTimestamp"]).is_empty()
        && !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed")
}

/// Whether a pod answers its readiness probe and is not on its way out.
pub(crate) fn ready(pod: &Value) -> bool {
    active(pod) && holds(pod, "Ready")
}

/// The uid of the controlling owner, or `""`.
pub(crate) fn controller(object: &Value) -> &str {
    list(object, &["metadata", "ownerReferences"])
        .iter()
        .find(|owner| owner["controller"] == true)
        .map_or("", |owner| text(owner, &["uid"]))
}

/// An owner reference to a controller.
pub(crate) fn owned_by(owner: &Value) -> Value {
    json!([{
        "apiVersion": text(owner, &["apiVersion"]),
        "kind": text(owner, &["kind"]),
        "name": text(owner, &["metadata", "name"]),
        "uid": text(owner, &["metadata", "uid"]),
        "controller": true,
        "blockOwnerDeletion": true,
    }])
}

/// A pod of an owner's template.
pub(crate) fn from_template(owner: &Value, node: Option<&str>) -> Value {
    let name = text(owner, &["metadata", "name"]);
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": text(owner, &["metadata", "namespace"]),
            "labels": at(owner, &["spec", "template", "metadata", "labels"]).cloned().unwrap_or_default(),
            "ownerReferences": owned_by(owner),
        },
        "spec": at(owner, &["spec", "template", "spec"]).cloned().unwrap_or_default(),
    });
    if let Some(annotations) = at(owner, &["spec", "template", "metadata", "annotations"]) {
        put(&mut pod, &["metadata", "annotations"], annotations.clone());
    }
    put(&mut pod, &["spec", "enableServiceLinks"], true);
    put(&mut pod, &["spec", "preemptionPolicy"], "PreemptLowerPriority");
    if let Some(node) = node {
        put(&mut pod, &["spec", "nodeName"], node);
    }
    pod
}

/// Binds pods to nodes: where the fewest pods of the same owner run, then the fewest pods at all.
pub(crate) fn schedule(pass: &Pass<'_>) {
    let all = pass.handle.list("Pod", "", "");
    let nodes: Vec<String> = pass
        .handle
        .list("Node", "", "")
        .into_iter()
        .filter(|node| node["spec"]["unschedulable"] != true && holds(node, "Ready"))
        .map(|node| text(&node, &["metadata", "name"]).to_owned())
        .collect();
    let mut loads: BTreeMap<(String, String), usize> = BTreeMap::new();
    for pod in all.iter().filter(|pod| active(pod)) {
        let node = text(pod, &["spec", "nodeName"]).to_owned();
        *loads.entry((node.clone(), controller(pod).to_owned())).or_default() += 1;
        *loads.entry((node, "*".into())).or_default() += 1;
    }
    for mut pod in all {
        if !text(&pod, &["spec", "nodeName"]).is_empty() || !active(&pod) {
            continue;
        }
        let owner = controller(&pod).to_owned();
        let load = |node: &String, of: &str| loads.get(&(node.clone(), of.to_owned())).copied().unwrap_or(0);
        let stated = stated_node(pass, &pod, &nodes, |node| load(node, &owner));
        let free = || nodes.iter().min_by_key(|node| (load(node, &owner), load(node, "*")));
        let Some(node) = stated.or_else(free).cloned() else {
            unschedulable(pass, pod);
            continue;
        };
        put(&mut pod, &["spec", "nodeName"], node.clone());
        put(
            &mut pod,
            &["status", "conditions"],
            json!([{"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": pass.stamp}]),
        );
        pass.write("kube-scheduler", pod);
        *loads.entry((node.clone(), owner)).or_default() += 1;
        *loads.entry((node, "*".into())).or_default() += 1;
    }
}

/// Says of a pod that it has no place.
fn unschedulable(pass: &Pass<'_>, mut pod: Value) {
    if list(&pod, &["status", "conditions"]).iter().any(|condition| text(condition, &["reason"]) == "Unschedulable") {
        return;
    }
    let nodes = pass.handle.list("Node", "", "").len();
    let message = format!("0/{nodes} nodes are available: {nodes} node(s) were unschedulable.");
    let conditions = json!([{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": pass.stamp,
    }]);
    put(&mut pod, &["status", "conditions"], conditions);
    pass.write("kube-scheduler", pod);
}

/// The node that the settings give a CoreDNS pod: one that has fewer of its owner's than are wanted there, else any of them.
fn stated_node<'n>(
    pass: &Pass<'_>,
    pod: &Value,
    nodes: &'n [String],
    load: impl Fn(&String) -> usize,
) -> Option<&'n String> {
    let stated = &pass.settings.coredns_on;
    if stated.is_empty() || text(pod, &["metadata", "labels", "k8s-app"]) != "kube-dns" {
        return None;
    }
    let wanted = |node: &String| stated.iter().filter(|one| *one == node).count();
    let fit = || nodes.iter().filter(|node| wanted(node) > 0);
    fit().find(|node| load(node) < wanted(node)).or_else(|| fit().min_by_key(|node| load(node)))
}
