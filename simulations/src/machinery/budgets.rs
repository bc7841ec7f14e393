//! The status of disruption budgets, from which evictions are decided.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Pass;
use super::conditions::{holds, since};
use super::pods::controller;
use super::workloads::amount;
use crate::apiserver::{Labels, at, int, list, put, text};

/// One pass. Gives when the next disruption must be forgotten.
pub(crate) fn step(pass: &Pass<'_>) -> Option<Instant> {
    let pods = pass.handle.list("Pod", "", "");
    let mut wake: Option<Instant> = None;
    for mut budget in pass.handle.list("PodDisruptionBudget", "", "") {
        let namespace = text(&budget, &["metadata", "namespace"]);
        let labels = at(&budget, &["spec", "selector"]).map(Labels::of).unwrap_or_default();
        let mine: Vec<&Value> = pods
            .iter()
            .filter(|pod| text(pod, &["metadata", "namespace"]) == namespace && labels.matches(pod))
            .filter(|pod| !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed"))
            .collect();
        let (disrupted, next) = disrupted(pass, &budget, &mine);
        if let Some(next) = next {
            wake = Some(wake.map_or(next, |wake| wake.min(next)));
        }
        let (expected, desired) = expectation(pass, &budget, &mine);
        let healthy = mine
            .iter()
            .filter(|pod| {
                text(pod, &["metadata", "deletionTimestamp"]).is_empty()
                    && !disrupted.contains_key(text(pod, &["metadata", "name"]))
                    && holds(pod, "Ready")
            })
            .count();
        let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
        let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
        let generation = int(&budget, &["metadata", "generation"]).unwrap_or(0);
        let old = list(&budget, &["status", "conditions"]);
        let (state, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        let mut status = json!({
            "observedGeneration": generation,
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "conditions": [{
                "type": "DisruptionAllowed",
                "status": state,
                "observedGeneration": generation,
                "lastTransitionTime": since(old, "DisruptionAllowed", state, &pass.stamp),
                "reason": reason,
                "message": "",
            }],
        });
        if !disrupted.is_empty() {
            put(&mut status, &["disruptedPods"], disrupted);
        }
        if budget["status"] != status {
            put(&mut budget, &["status"], status);
            pass.write("kube-controller-manager", budget);
        }
    }
    wake
}

/// Pods that an eviction was granted for and that are still here, and when the first of them is forgotten.
fn disrupted(pass: &Pass<'_>, budget: &Value, pods: &[&Value]) -> (Map<String, Value>, Option<Instant>) {
    let mut kept = Map::new();
    let mut next: Option<Instant> = None;
    for (name, since) in at(budget, &["status", "disruptedPods"]).and_then(Value::as_object).into_iter().flatten() {
        let here = pods.iter().any(|pod| {
            text(pod, &["metadata", "name"]) == name && text(pod, &["metadata", "deletionTimestamp"]).is_empty()
        });
        let Ok(at) = since.as_str().unwrap_or_default().parse::<Timestamp>() else { continue };
        let end = at.checked_add(pass.settings.disruption_timeout).unwrap_or(at);
        let Ok(left) = std::time::Duration::try_from(pass.wall.duration_until(end)) else { continue };
        if here && !left.is_zero() {
            kept.insert(name.clone(), since.clone());
            let end = pass.now + left;
            next = Some(next.map_or(end, |next| next.min(end)));
        }
    }
    (kept, next)
}

/// How many pods there should be, and how many of them must be healthy.
fn expectation(pass: &Pass<'_>, budget: &Value, pods: &[&Value]) -> (i64, i64) {
    let here = i64::try_from(pods.len()).unwrap_or(i64::MAX);
    let scale = || {
        let mut owners: Vec<&str> = pods.iter().map(|pod| controller(pod)).filter(|uid| !uid.is_empty()).collect();
        owners.sort_unstable();
        owners.dedup();
        let mut deployments: Vec<String> = Vec::new();
        let mut total = 0;
        for set in pass.handle.list("ReplicaSet", text(budget, &["metadata", "namespace"]), "") {
            if owners.contains(&text(&set, &["metadata", "uid"])) {
                match controller(&set) {
                    "" => total += int(&set, &["spec", "replicas"]).unwrap_or(0),
                    owner if !deployments.iter().any(|known| known == owner) => deployments.push(owner.to_owned()),
                    _ => {}
                }
            }
        }
        for deployment in pass.handle.list("Deployment", "", "") {
            if deployments.iter().any(|uid| uid == text(&deployment, &["metadata", "uid"])) {
                total += int(&deployment, &["spec", "replicas"]).unwrap_or(0);
            }
        }
        total
    };
    match (at(budget, &["spec", "maxUnavailable"]), at(budget, &["spec", "minAvailable"])) {
        (Some(most), _) => {
            let expected = scale();
            (expected, (expected - amount(Some(most), expected, true, 0)).max(0))
        }
        (None, Some(least @ Value::String(_))) => {
            let expected = scale();
            (expected, amount(Some(least), expected, true, 0))
        }
        (None, least) => (here, amount(least, here, true, 0)),
    }
}
