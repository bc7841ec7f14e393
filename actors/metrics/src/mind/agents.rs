//! How the agents report and how CoreDNS is covered by budgets, as the coordinator sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, NodeAgentView};
use nameward_messages::{Mono, NodeName};

use super::{Output, number};
use crate::names::{AGENT_STATES, BUDGETS, Metric};

/// Counts the nodes by the state of their agent. A view that is incomplete says nothing.
pub(super) fn count(now: Mono, view: &ClusterView, stale_after: Duration) -> Option<Output> {
    if !view.complete {
        return None;
    }
    let agents: BTreeMap<&NodeName, &NodeAgentView> = view.agents.iter().map(|agent| (&agent.name, agent)).collect();
    let mut counts = [0; AGENT_STATES.len()];
    for node in view.nodes.iter().filter(|node| !node.terminating) {
        counts[state(now, agents.get(&node.name).copied(), stale_after)] += 1;
    }
    let series = AGENT_STATES.iter().zip(counts).map(|(state, n)| (vec![(*state).into()], number(n))).collect();
    Some(Output::Replace { metric: Metric::Agents, series })
}

/// Counts the CoreDNS pods by how many disruption budgets cover them.
pub(super) fn budgets(view: &ClusterView) -> Option<Output> {
    if !view.complete {
        return None;
    }
    let mut counts = [0; BUDGETS.len()];
    for pod in view.pods.iter().filter(|pod| !pod.terminating) {
        let cover = view.budgets.iter().filter(|budget| budget.matches.contains(&pod.uid)).count();
        counts[cover.min(BUDGETS.len() - 1)] += 1;
    }
    let series = BUDGETS.iter().zip(counts).map(|(budgets, n)| (vec![(*budgets).into()], number(n))).collect();
    Some(Output::Replace { metric: Metric::CorednsBudgets, series })
}

/// The index in [`AGENT_STATES`].
fn state(now: Mono, agent: Option<&NodeAgentView>, stale_after: Duration) -> usize {
    match agent.and_then(|agent| agent.report.as_ref().map(|report| (agent.changed_at, report.self_check))) {
        None => 3,
        Some((changed_at, _)) if now.since(changed_at) > stale_after => 2,
        Some((_, false)) => 1,
        Some((_, true)) => 0,
    }
}
