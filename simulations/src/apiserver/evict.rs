//! The eviction subresource: deletion of a pod within its disruption budget.
//!
//! As recorded: the budget is taken before preconditions are looked at, so that an eviction that fails on a precondition
//! still spends it until the budget's controller gives it back after two minutes. A dry run takes nothing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::admission::{Write, admit};
use super::call::Call;
use super::json::{at, int, list, object, put, text};
use super::remove::{preconditions, remove};
use super::selector::Labels;
use super::state::State;
use super::status::{Outcome, Refusal, success};

const BUDGETS: &str = "poddisruptionbudgets.policy";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Evicts the pod that the path names.
pub(crate) fn evict(state: &mut State, call: &Call<'_>) -> Outcome<Value> {
    let body = call.request.json()?;
    let target = call.target;
    let stated = text(&body, &["metadata", "name"]);
    if !stated.is_empty() && stated != target.name {
        return Err(Refusal::bad_request(format!("name in URL does not match name in Eviction object: {stated}")));
    }
    // Admission comes first, as in EvictionREST.Create; the deletion that follows is not asked about again.
    let (user, name) = (&call.request.user, target.name.as_str());
    let (resource, operation) = (&call.resource, "CREATE");
    admit(state, &Write { user, resource, target, operation, name, new: &body, old: &Value::Null })?;
    let pod = state
        .get("pods", &target.namespace, &target.name)
        .cloned()
        .ok_or_else(|| Refusal::not_found(&call.resource, &target.name))?;
    let options = body.get("deleteOptions").cloned().unwrap_or_default();
    let dry_run = call.request.dry_run() || list(&options, &["dryRun"]).iter().any(|word| word == "All");
    if !free(&pod) {
        let budgets = budgets_of(state, &pod);
        match budgets.as_slice() {
            [] => {}
            [budget] if unhealthy_may_go(&pod, budget) => {}
            [budget] => spend(state, call, budget, dry_run)?,
            _ => {
                return Err(Refusal::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
    }
    preconditions(&call.resource, &pod, &options)?;
    let marked = !text(&pod, &["metadata", "deletionTimestamp"]).is_empty();
    let mut pod = (*pod).clone();
    if !dry_run && !marked {
        condition(&mut pod, &call.moment.stamp());
        pod = (*state.commit(&call.resource, pod, false, call.moment.at)).clone();
    }
    let grace = int(&options, &["gracePeriodSeconds"]);
    remove(state, call, &pod, grace, dry_run)?;
    Ok(success(Some(201), Value::Null))
}

/// Pods that no budget protects: those that do not run (yet, or any more).
fn free(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        || !text(pod, &["metadata", "deletionTimestamp"]).is_empty()
}

fn budgets_of(state: &State, pod: &Value) -> Vec<Arc<Value>> {
    let namespace = text(pod, &["metadata", "namespace"]);
    state
        .objects(BUDGETS)
        .filter(|(key, _)| key.0 == namespace)
        .filter(|(_, budget)| {
            at(budget, &["spec", "selector"]).is_some_and(|selector| Labels::of(selector).matches(pod))
        })
        .map(|(_, budget)| budget.clone())
        .collect()
}

/// A pod that is not ready costs nothing where the budget is healthy (or its policy always allows it).
fn unhealthy_may_go(pod: &Value, budget: &Value) -> bool {
    let ready = list(pod, &["status", "conditions"])
        .iter()
        .any(|condition| text(condition, &["type"]) == "Ready" && text(condition, &["status"]) == "True");
    let healthy = int(budget, &["status", "currentHealthy"]).unwrap_or(0);
    let desired = int(budget, &["status", "desiredHealthy"]).unwrap_or(0);
    !ready
        && (text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
            || (healthy >= desired && desired > 0))
}

fn spend(state: &mut State, call: &Call<'_>, budget: &Value, dry_run: bool) -> Outcome<()> {
    let name = text(budget, &["metadata", "name"]);
    let number = |member: &str| int(budget, &["status", member]).unwrap_or(0);
    if number("observedGeneration") < int(budget, &["metadata", "generation"]).unwrap_or(0) {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        let cause = json!({"reason": "DisruptionBudget", "message": message});
        return Err(Refusal::too_many_requests(REFUSED, Some(cause), Some(10)));
    }
    let allowed = number("disruptionsAllowed");
    if allowed <= 0 {
        let message = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("desiredHealthy"),
            number("currentHealthy")
        );
        let cause = json!({"reason": "DisruptionBudget", "message": message});
        return Err(Refusal::too_many_requests(REFUSED, Some(cause), None));
    }
    if dry_run {
        return Ok(());
    }
    let resource = state.resource("policy", "poddisruptionbudgets").ok_or_else(Refusal::page_not_found)?;
    let mut next = budget.clone();
    put(&mut next, &["status", "disruptionsAllowed"], allowed - 1);
    if let Some(status) = next.get_mut("status") {
        let disrupted = object(status).entry("disruptedPods").or_insert_with(|| json!({}));
        object(disrupted).insert(call.target.name.clone(), call.moment.stamp().into());
    }
    state.commit(&resource, next, false, call.moment.at);
    Ok(())
}

fn condition(pod: &mut Value, time: &str) {
    let mut conditions: Vec<Value> = list(pod, &["status", "conditions"])
        .iter()
        .filter(|condition| text(condition, &["type"]) != "DisruptionTarget")
        .cloned()
        .collect();
    conditions.push(json!({
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }));
    put(pod, &["status", "conditions"], conditions);
}
