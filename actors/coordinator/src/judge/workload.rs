//! F50 and F58: what the API says of the CoreDNS workload as a whole. No node's agent can know it: a pod that waits for a
//! place has no node, and that all replicas share one is not seen from any of them.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::verdict::{Cause, Confidence, Evidence, RuledOut, Scope, Subject, SubjectKind};
use nameward_messages::workload::CorednsPodState;
use nameward_messages::{NodeName, Now};

use super::claims::Claims;
use super::locality::Located;

/// A pod for which the scheduler or the kubelet says plainly why it cannot start is given this long to be helped.
const PLAIN: Duration = Duration::from_secs(20);
/// One that is merely being created: its image may be on its way.
const CREATING: Duration = Duration::from_secs(60);
/// While a rollout is under way pods wait for one another.
const ROLLING: Duration = Duration::from_secs(180);
/// Lines of evidence.
const LINES: usize = 8;

/// What of the workload is wrong. `placed` is what the view of all nodes has shown of single nodes.
#[must_use]
pub fn judge(now: Now, view: &ClusterView, claims: &Claims, placed: &[Located]) -> Vec<Located> {
    let subject = view.workload.as_ref().map(|w| Subject::object(SubjectKind::Deployment, &w.key));
    let Some(subject) = subject else { return Vec::new() };
    pending(now, view, &subject).into_iter().chain(one_node(view, claims, placed, &subject)).collect()
}

/// Pods that cannot start, with the API's own words. Its Events would say more, and are no input.
fn pending(now: Now, view: &ClusterView, subject: &Subject) -> Option<Located> {
    let stuck: Vec<(&CorednsPodState, String)> =
        view.coredns.iter().filter_map(|state| Some((state, held(now, view, state)?))).collect();
    if stuck.is_empty() {
        return None;
    }
    let mut evidence: Vec<Evidence> = stuck
        .iter()
        .take(LINES - 1)
        .map(|(state, says)| Evidence::new(format!("{} status", state.key), says.clone()))
        .collect();
    let good = view.coredns.iter().filter(|state| state.ready && !state.terminating).count();
    evidence.push(Evidence::new("pods of the workload", format!("{good} ready, {} cannot start", stuck.len())));
    Some(Located {
        cause: Cause::CorednsPending,
        scope: Scope::Cluster,
        subject: subject.clone(),
        confidence: Confidence::Certain,
        nodes: stuck.iter().filter_map(|(state, _)| state.node.clone()).collect(),
        evidence,
        ruled_out: vec![
            not(Cause::CorefileBroken, "no container of theirs has been started"),
            not(Cause::CorednsOomKilled, "no container of theirs has been started"),
        ],
        explains: BTreeSet::new(),
    })
}

/// Why a pod cannot start, once it has waited for long enough.
fn held(now: Now, view: &ClusterView, state: &CorednsPodState) -> Option<String> {
    // One that ends again and again has been started: that is another fault.
    if state.terminating || state.phase != "Pending" || state.restarts > 0 || state.ended.is_some() {
        return None;
    }
    let waits = state.waiting.as_ref();
    let plain = state.node.is_none()
        || waits.is_some_and(|w| !matches!(w.reason.as_str(), "" | "ContainerCreating" | "PodInitializing"));
    let least = match (view.rollout.in_progress, plain) {
        (true, _) => ROLLING,
        (false, true) => PLAIN,
        (false, false) => CREATING,
    };
    let age = Duration::try_from(now.wall.duration_since(state.created_at?)).unwrap_or_default();
    if age < least {
        return None;
    }
    let mut says = match &state.node {
        Some(node) => format!("Pending on {node} for {} s", age.as_secs()),
        None => format!("Pending without a node for {} s", age.as_secs()),
    };
    if let Some(waiting) = waits {
        says.push_str(&format!("; waits: {}", waiting.reason));
        if !waiting.message.is_empty() {
            says.push_str(&format!(" ({})", waiting.message));
        }
    }
    match &state.held_up {
        Some(held) if held.condition == "PodReadyToStartContainers" => {
            says.push_str("; its sandbox is not there: the CNI plugin gives it no network, or no address");
        }
        Some(held) => says.push_str(&format!("; {} is False: {} {}", held.condition, held.reason, held.message)),
        None => {}
    }
    Some(says)
}

/// Every replica on one node, and that node fails for the others: one alone is what its owner wanted.
fn one_node(view: &ClusterView, claims: &Claims, placed: &[Located], subject: &Subject) -> Option<Located> {
    let pods: Vec<_> = view.pods.iter().filter(|pod| !pod.terminating && pod.phase == "Running").collect();
    let node = pods.first()?.node.as_ref()?;
    if pods.len() < 2 || view.nodes.len() < 2 || pods.iter().any(|pod| pod.node.as_ref() != Some(node)) {
        return None;
    }
    // Nothing of it fails as long as anybody else is served: each pod must fail for another node.
    let mut nodes: BTreeSet<NodeName> = BTreeSet::new();
    for pod in &pods {
        let words = claims.deferred_by(&Subject::pod(&pod.key, &pod.uid))?;
        nodes.extend(words.keys().filter(|from| *from != node).cloned());
    }
    if nodes.is_empty() {
        return None;
    }
    // And the node itself must be known to be the reason: by its own word, or because it is gone.
    let gone = placed.iter().find(|located| {
        located.cause == Cause::EndpointOnDeadNode
            && pods.iter().any(|pod| Some(&pod.uid) == located.subject.uid.as_ref())
    });
    let why = match gone {
        Some(_) => format!("{node} is gone"),
        None if claims.node_is_sick(node) => format!("{node} names a fault of its own"),
        None => return None,
    };
    let names: Vec<&str> = pods.iter().take(4).map(|pod| pod.key.name.as_str()).collect();
    Some(Located {
        cause: Cause::ReplicasOnOneNode,
        scope: Scope::Cluster,
        subject: subject.clone(),
        confidence: Confidence::Certain,
        nodes,
        evidence: vec![
            Evidence::new("pods of the workload", format!("all {} are on {node}: {}", pods.len(), names.join(", "))),
            Evidence::new("reports of the nodes", format!("{why}, and no other node reaches any replica")),
        ],
        ruled_out: vec![not(Cause::ServiceWithoutEndpoints, "the replicas are there and are endpoints")],
        explains: BTreeSet::new(),
    })
}

fn not(cause: Cause, because: &str) -> RuledOut {
    RuledOut { what: cause.id().to_owned(), because: because.to_owned() }
}

#[cfg(test)]
#[path = "workload/tests.rs"]
mod tests;
