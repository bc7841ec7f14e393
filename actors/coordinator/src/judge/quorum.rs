//! Whose reports are fresh, and whether they are enough to act on what all share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_config::ceilings::STALE_AFTER;
use nameward_messages::cluster_view::{ClusterView, NodeAgentView};
use nameward_messages::{Mono, NodeName};

/// Below this share of all nodes nothing is done, whatever the settings say.
const FLOOR_PERCENT: u32 = nameward_config::ceilings::QUORUM_PERCENT;

/// When each node's report was seen to change, by this process alone.
#[derive(Clone, Debug, Default)]
pub struct Freshness {
    seen: BTreeMap<NodeName, (u64, Option<Mono>)>,
}

impl Freshness {
    /// Takes the view. A report that is seen for the first time says nothing about its age.
    pub fn learn(&mut self, now: Mono, agents: &[NodeAgentView]) {
        let names: BTreeSet<&NodeName> = agents.iter().map(|agent| &agent.name).collect();
        self.seen.retain(|name, _| names.contains(name));
        for agent in agents {
            let Some(report) = &agent.report else { continue };
            match self.seen.get_mut(&agent.name) {
                Some((sequence, changed)) if *sequence != report.sequence => {
                    *sequence = report.sequence;
                    *changed = Some(now);
                }
                Some(_) => {}
                None => {
                    self.seen.insert(agent.name.clone(), (report.sequence, None));
                }
            }
        }
    }

    /// When the next report that is fresh by its age is not any more.
    #[must_use]
    pub fn next_stale(&self, now: Mono, stale_after: Duration) -> Option<Mono> {
        let stale_after = stale_after.min(STALE_AFTER);
        let ends = self.seen.values().filter_map(|(_, changed)| *changed).map(|at| at + stale_after);
        ends.filter(|end| *end >= now).min()
    }

    /// Whether the node's report changed within `stale_after` and its agent vouches for itself.
    #[must_use]
    pub fn fresh(&self, now: Mono, agent: &NodeAgentView, stale_after: Duration) -> bool {
        let changed = self.seen.get(&agent.name).and_then(|(_, changed)| *changed);
        vouched(agent) && changed.is_some_and(|at| now.since(at) <= stale_after.min(STALE_AFTER))
    }
}

/// The agent vouches for itself.
#[must_use]
pub fn vouched(agent: &NodeAgentView) -> bool {
    agent.report.as_ref().is_some_and(|report| report.self_check)
}

/// Whether the agent's report may be listened to (not: acted on): it vouches for itself and was not seen to be old.
#[must_use]
pub fn listened_to(now: Mono, agent: &NodeAgentView, stale_after: Duration) -> bool {
    vouched(agent) && now.since(agent.changed_at) <= stale_after
}

/// How many nodes there are, and how many speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Nodes, those that are being deleted left out.
    pub nodes: u32,
    /// Those whose agent is expected to speak: neither known as not ready, nor cordoned, silent and without a CoreDNS pod.
    pub expected: u32,
    /// Those with a fresh report.
    pub fresh: u32,
}

impl Quorum {
    /// Counts.
    #[must_use]
    pub fn count(now: Mono, view: &ClusterView, freshness: &Freshness, stale_after: Duration) -> Self {
        let agents: BTreeMap<&NodeName, &NodeAgentView> = view.agents.iter().map(|a| (&a.name, a)).collect();
        let mut quorum = Self { nodes: 0, expected: 0, fresh: 0 };
        for node in view.nodes.iter().filter(|node| !node.terminating) {
            quorum.nodes += 1;
            let fresh = agents.get(&node.name).is_some_and(|agent| freshness.fresh(now, agent, stale_after));
            let hosts = view.pods.iter().any(|pod| pod.node.as_ref() == Some(&node.name));
            let drained = node.unschedulable == Some(true) && !fresh && !hosts;
            quorum.expected += u32::from(node.ready != Some(false) && !drained);
            quorum.fresh += u32::from(fresh);
        }
        quorum
    }

    /// Whether that is enough. No node at all is never enough.
    #[must_use]
    pub fn enough(&self, percent: u32) -> bool {
        let share = |of: u32, percent: u32| (u64::from(of) * u64::from(percent)).div_ceil(100);
        let percent = percent.clamp(FLOOR_PERCENT, 100);
        self.expected > 0
            && u64::from(self.fresh) >= share(self.expected, percent)
            && u64::from(self.fresh) >= share(self.nodes, FLOOR_PERCENT)
    }
}

/// How many nodes must see a CoreDNS pod fail before it may be evicted. Of the [`ASKED`] never all: then one that is silent or lies would
/// stop every eviction.
#[must_use]
pub fn witnesses(expected: u32) -> u32 {
    expected.min(expected.div_ceil(20).clamp(3, 12))
}

/// How many nodes are asked at most.
pub const ASKED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_follow_the_size_of_the_cluster() {
        for (expected, need) in [(0, 0), (1, 1), (2, 2), (3, 3), (60, 3), (61, 4), (100, 5), (240, 12), (5000, 12)] {
            assert_eq!(witnesses(expected), need, "{expected}");
        }
    }

    #[test]
    fn a_quorum_counts_ready_nodes_and_has_a_floor_over_all() {
        let quorum = |nodes, expected, fresh| Quorum { nodes, expected, fresh };
        assert!(!quorum(0, 0, 0).enough(85));
        assert!(quorum(2, 2, 2).enough(85));
        assert!(!quorum(2, 2, 1).enough(85));
        assert!(quorum(20, 20, 17).enough(85));
        assert!(!quorum(20, 20, 16).enough(85));
        assert!(quorum(3, 2, 2).enough(85));
        // Half of the nodes are down: too few are left to judge for all.
        assert!(!quorum(10, 5, 5).enough(85));
        // A setting below the floor is lifted to it.
        assert!(!quorum(10, 10, 5).enough(10));
    }
}
