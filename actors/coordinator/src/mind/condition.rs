//! The opt-in condition `ClusterDNSHealthy` of nodes: whether workloads of the node get answers from cluster DNS. It is written
//! when it changes, and once after the Lease was taken (whoever writes reads first: nothing is written that stands there).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, NodeAgentView};
use nameward_messages::{Mono, NodeName, Now};

use super::{CoordinatorMind, Output};
use crate::judge::advice;
use crate::judge::quorum::listened_to;

/// A change must have stood for this long: a node is a big object, and every kubelet's watcher reads it.
const SETTLED: Duration = Duration::from_secs(10);
/// Conditions told per second.
const PER_SECOND: usize = 5;

/// What is known of each node's condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    seen: BTreeMap<NodeName, (bool, Mono)>,
    told: BTreeMap<NodeName, bool>,
    second: Mono,
    written: usize,
}

impl CoordinatorMind {
    pub(super) fn write_conditions(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        if !self.config.coordinator.node_condition {
            return;
        }
        let stale_after = self.config.coordinator.stale_after.0;
        let book = &mut self.conditions;
        let agents: BTreeSet<&NodeName> = view.agents.iter().map(|agent| &agent.name).collect();
        let nodes: BTreeSet<&NodeName> = view.nodes.iter().filter(|n| !n.terminating).map(|n| &n.name).collect();
        book.seen.retain(|node, _| agents.contains(node));
        book.told.retain(|node, _| agents.contains(node));
        if now.mono.since(book.second) >= Duration::from_secs(1) {
            book.second = now.mono;
            book.written = 0;
        }
        let there = |agent: &&NodeAgentView| nodes.contains(&agent.name);
        // Of a silent node nothing is known: its condition stays as it is.
        for agent in view.agents.iter().filter(|a| listened_to(now.mono, a, stale_after)).filter(there) {
            let trouble = trouble(agent);
            let healthy = trouble.is_none();
            let since = match book.seen.get(&agent.name) {
                Some((known, since)) if *known == healthy => *since,
                Some(_) | None => now.mono,
            };
            book.seen.insert(agent.name.clone(), (healthy, since));
            let settled = now.mono.since(since) >= SETTLED;
            if !settled || book.told.get(&agent.name) == Some(&healthy) || book.written >= PER_SECOND {
                continue;
            }
            book.written += 1;
            book.told.insert(agent.name.clone(), healthy);
            let (reason, message) = trouble.unwrap_or_else(|| {
                let answers = "workloads on this node get answers from cluster DNS, as far as Nameward asks".to_owned();
                ("ClusterDNSAnswers", answers)
            });
            out.push(Output::NodeCondition { node: agent.name.clone(), healthy, reason, message });
        }
    }
}

/// What keeps workloads of the node from cluster DNS, by its own report.
fn trouble(agent: &NodeAgentView) -> Option<(&'static str, String)> {
    let report = agent.report.as_ref()?;
    let verdict = report.verdicts.iter().find(|verdict| !advice::nobodys_worry(verdict.cause));
    if let Some(verdict) = verdict {
        return Some((verdict.cause.about().reason, advice::summary(verdict.cause, &verdict.subject)));
    }
    let deferred = report.deferred.first()?;
    Some(("CoreDNSUnreachable", format!("{} does not answer this node: {}", deferred.subject, deferred.because)))
}
