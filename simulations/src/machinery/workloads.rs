//! Deployments, ReplicaSets and DaemonSets.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Pass;
use super::conditions::since;
use super::pods::{active, controller, from_template, owned_by, ready};
use crate::apiserver::{at, int, list, put, text};

const MANAGER: &str = "kube-controller-manager";

/// One pass over all of them.
pub(crate) fn step(pass: &Pass<'_>) {
    let sets = pass.handle.list("ReplicaSet", "", "");
    let pods = pass.handle.list("Pod", "", "");
    for deployment in pass.handle.list("Deployment", "", "") {
        if text(&deployment, &["metadata", "deletionTimestamp"]).is_empty() {
            roll(pass, deployment, &sets, &pods);
        }
    }
    for set in pass.handle.list("ReplicaSet", "", "") {
        replicate(pass, set, &pods);
    }
    for set in pass.handle.list("DaemonSet", "", "") {
        spread(pass, set, &pods);
    }
}

/// A number or a percentage of `whole`.
pub(crate) fn amount(value: Option<&Value>, whole: i64, up: bool, absent: i64) -> i64 {
    match value {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(absent),
        Some(Value::String(text)) => match text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()) {
            Some(percent) if up => (whole * percent + 99) / 100,
            Some(percent) => whole * percent / 100,
            None => absent,
        },
        _ => absent,
    }
}

/// Ten characters that stand for a pod template.
pub(crate) fn template_hash(template: &Value) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = Sha256::digest(template.to_string().as_bytes());
    digest.iter().take(10).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

fn owned<'v>(objects: &'v [Value], owner: &Value) -> Vec<&'v Value> {
    let uid = text(owner, &["metadata", "uid"]);
    objects.iter().filter(|object| controller(object) == uid).collect()
}

fn count(pods: &[Value], set: &Value, wanted: impl Fn(&Value) -> bool) -> i64 {
    let found = owned(pods, set).into_iter().filter(|pod| wanted(pod)).count();
    i64::try_from(found).unwrap_or(i64::MAX)
}

/// Moves a Deployment's ReplicaSets one step on, and states where it stands.
fn roll(pass: &Pass<'_>, deployment: Value, sets: &[Value], pods: &[Value]) {
    let template = deployment["spec"]["template"].clone();
    let hash = template_hash(&template);
    let mine = owned(sets, &deployment);
    let name = format!("{}-{hash}", text(&deployment, &["metadata", "name"]));
    let wanted = int(&deployment, &["spec", "replicas"]).unwrap_or(1);
    let rolling = |member: &str| at(&deployment, &["spec", "strategy", "rollingUpdate", member]);
    let surge = amount(rolling("maxSurge"), wanted, true, 0);
    let mut unavailable = amount(rolling("maxUnavailable"), wanted, false, 0);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    let size = |set: &Value| int(set, &["spec", "replicas"]).unwrap_or(0);
    let (new, old): (Vec<&Value>, Vec<&Value>) =
        mine.iter().copied().partition(|set| text(set, &["metadata", "name"]) == name);
    let paused = deployment["spec"]["paused"] == true;
    let total: i64 = mine.iter().map(|set| size(set)).sum();
    let Some(new) = new.first().copied() else {
        if !paused {
            let first = if mine.is_empty() { wanted } else { (wanted + surge - total).clamp(0, wanted) };
            create_set(pass, &deployment, &name, &hash, &template, first, &mine);
        }
        state_of(pass, deployment, &mine, None, pods);
        return;
    };
    let old_total = total - size(new);
    let mut next = size(new);
    if old_total == 0 {
        next = wanted;
    } else if !paused {
        next =
            if size(new) < wanted { size(new) + (wanted + surge - total).clamp(0, wanted - size(new)) } else { wanted };
    }
    resize(pass, new, next);
    if !paused && next == size(new) {
        let least = wanted - unavailable;
        let new_unready = size(new) - count(pods, new, ready);
        // Old pods that are not ready go first, then ready ones as far as enough remain.
        let mut room = (total - least - new_unready).max(0);
        let ready_in_all: i64 = mine.iter().map(|set| count(pods, set, ready)).sum();
        let mut spare = (ready_in_all - least).max(0);
        for set in old {
            let unready = (size(set) - count(pods, set, ready)).clamp(0, room);
            let healthy = (size(set) - unready).min(spare).min(room - unready).max(0);
            room -= unready + healthy;
            spare -= healthy;
            resize(pass, set, size(set) - unready - healthy);
        }
    }
    state_of(pass, deployment, &mine, Some(new), pods);
}

fn resize(pass: &Pass<'_>, set: &Value, replicas: i64) {
    if int(set, &["spec", "replicas"]) != Some(replicas) {
        let mut set = set.clone();
        put(&mut set, &["spec", "replicas"], replicas);
        pass.write(MANAGER, set);
    }
}

fn create_set(
    pass: &Pass<'_>,
    deployment: &Value,
    name: &str,
    hash: &str,
    template: &Value,
    size: i64,
    known: &[&Value],
) {
    let revision = 1 + known.iter().filter_map(|set| revision(set)).max().unwrap_or(0);
    let mut template = template.clone();
    put(&mut template, &["metadata", "labels", "pod-template-hash"], hash);
    let mut selector = deployment["spec"]["selector"].clone();
    put(&mut selector, &["matchLabels", "pod-template-hash"], hash);
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": text(deployment, &["metadata", "namespace"]),
            "labels": template["metadata"]["labels"],
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
            "ownerReferences": owned_by(deployment),
        },
        "spec": {"replicas": size, "selector": selector, "template": template},
        "status": {"replicas": 0},
    });
    pass.write(MANAGER, set);
}

fn revision(object: &Value) -> Option<i64> {
    text(object, &["metadata", "annotations", "deployment.kubernetes.io/revision"]).parse().ok()
}

/// Writes a Deployment's status.
fn state_of(pass: &Pass<'_>, mut deployment: Value, sets: &[&Value], new: Option<&Value>, pods: &[Value]) {
    let total: i64 = sets.iter().map(|set| count(pods, set, active)).sum();
    let good: i64 = sets.iter().map(|set| count(pods, set, ready)).sum();
    let leaving: i64 =
        sets.iter().map(|set| count(pods, set, |pod| !text(pod, &["metadata", "deletionTimestamp"]).is_empty())).sum();
    let updated = new.map_or(0, |set| count(pods, set, active));
    let wanted = int(&deployment, &["spec", "replicas"]).unwrap_or(1);
    let unavailable =
        amount(at(&deployment, &["spec", "strategy", "rollingUpdate", "maxUnavailable"]), wanted, false, 0);
    let complete = updated == wanted && total == wanted && good >= wanted;
    let old = list(&deployment, &["status", "conditions"]).to_vec();
    let set = new.map_or("", |set| text(set, &["metadata", "name"]));
    let (enough, progress) = (good >= wanted - unavailable, json!("True"));
    let available = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let done = if complete {
        ("NewReplicaSetAvailable", format!("ReplicaSet {set:?} has successfully progressed."))
    } else {
        ("ReplicaSetUpdated", format!("ReplicaSet {set:?} is progressing."))
    };
    let updated_at = |kind: &str, reason: &str| {
        old.iter()
            .find(|condition| text(condition, &["type"]) == kind && text(condition, &["reason"]) == reason)
            .map_or(pass.stamp.as_str(), |condition| text(condition, &["lastUpdateTime"]))
            .to_owned()
    };
    let mut status = json!({
        "observedGeneration": int(&deployment, &["metadata", "generation"]).unwrap_or(0),
        "terminatingReplicas": leaving,
        "conditions": [
            {"type": "Available", "status": available.0, "lastUpdateTime": updated_at("Available", available.1),
             "lastTransitionTime": since(&old, "Available", available.0, &pass.stamp),
             "reason": available.1, "message": available.2},
            {"type": "Progressing", "status": progress, "lastUpdateTime": updated_at("Progressing", done.0),
             "lastTransitionTime": since(&old, "Progressing", "True", &pass.stamp),
             "reason": done.0, "message": done.1},
        ],
    });
    let missing = (wanted.max(total) - good).max(0);
    for (name, number) in [
        ("replicas", total),
        ("updatedReplicas", updated),
        ("readyReplicas", good),
        ("availableReplicas", good),
        ("unavailableReplicas", missing),
    ] {
        if number != 0 {
            put(&mut status, &[name], number);
        }
    }
    let stated = new.and_then(revision).map(|revision| revision.to_string());
    let known = text(&deployment, &["metadata", "annotations", "deployment.kubernetes.io/revision"]).to_owned();
    let revised = stated.filter(|stated| *stated != known);
    if deployment["status"] != status || revised.is_some() {
        put(&mut deployment, &["status"], status);
        if let Some(revision) = revised {
            put(&mut deployment, &["metadata", "annotations", "deployment.kubernetes.io/revision"], revision);
        }
        pass.write(MANAGER, deployment);
    }
}

/// Creates and deletes a ReplicaSet's pods, and states how many there are.
fn replicate(pass: &Pass<'_>, mut set: Value, pods: &[Value]) {
    let mut mine: Vec<&Value> = owned(pods, &set).into_iter().filter(|pod| active(pod)).collect();
    let wanted = usize::try_from(int(&set, &["spec", "replicas"]).unwrap_or(1)).unwrap_or(0);
    for _ in mine.len()..wanted {
        if let Err(error) = pass.handle.machinery(MANAGER).create(from_template(&set, None)) {
            tracing::warn!(%error, "no pod was created");
        }
    }
    // Those without a node go first, then those that are not ready, then the youngest.
    mine.sort_by_key(|pod| {
        let bound = !text(pod, &["spec", "nodeName"]).is_empty();
        let born = text(pod, &["metadata", "creationTimestamp"]).to_owned();
        (bound, ready(pod), std::cmp::Reverse(born))
    });
    for pod in mine.iter().take(mine.len().saturating_sub(wanted)) {
        let (namespace, name) = (text(pod, &["metadata", "namespace"]), text(pod, &["metadata", "name"]));
        if let Err(error) = pass.handle.machinery(MANAGER).delete("Pod", namespace, name) {
            tracing::debug!(%error, "the pod was gone already");
        }
    }
    let (total, good) = (mine.len(), mine.iter().filter(|pod| ready(pod)).count());
    let mut status =
        json!({"replicas": total, "observedGeneration": int(&set, &["metadata", "generation"]).unwrap_or(0)});
    for (name, number) in [("fullyLabeledReplicas", total), ("readyReplicas", good), ("availableReplicas", good)] {
        if number != 0 {
            put(&mut status, &[name], number);
        }
    }
    if set["status"] != status {
        put(&mut set, &["status"], status);
        pass.write(MANAGER, set);
    }
}

/// One pod of a DaemonSet on each node.
fn spread(pass: &Pass<'_>, mut set: Value, pods: &[Value]) {
    let mine: Vec<&Value> = owned(pods, &set).into_iter().filter(|pod| active(pod)).collect();
    let nodes = pass.handle.list("Node", "", "");
    for node in &nodes {
        let node = text(node, &["metadata", "name"]);
        if !mine.iter().any(|pod| text(pod, &["spec", "nodeName"]) == node)
            && let Err(error) = pass.handle.machinery(MANAGER).create(from_template(&set, Some(node)))
        {
            tracing::warn!(%error, "no pod was created");
        }
    }
    let good = mine.iter().filter(|pod| ready(pod)).count();
    let status = json!({
        "currentNumberScheduled": mine.len(),
        "numberMisscheduled": 0,
        "desiredNumberScheduled": nodes.len(),
        "numberReady": good,
        "observedGeneration": int(&set, &["metadata", "generation"]).unwrap_or(0),
        "updatedNumberScheduled": mine.len(),
        "numberAvailable": good,
    });
    if set["status"] != status {
        put(&mut set, &["status"], status);
        pass.write(MANAGER, set);
    }
}
