//! Whose turn it is to be repaired. Nodes that name a cause with a repair of the node's own are permitted it one after the other, one in
//! ten seconds in the whole cluster, and none where many have the same fault: what befalls thousands of nodes at once has been seen by the
//! time that the second has its turn. The standing permit alone, which every node has, is good for after-care and for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_config::ceilings::NODES_EVERY;
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::verdict::{Cause, Confidence};
use nameward_messages::{Mono, NodeName, Now};

use super::CoordinatorMind;

/// A turn is over after this time, whether the node was repaired or not.
const LASTS: Duration = super::orders::RENEW;
/// Causes of one turn at most.
const CAUSES: usize = nameward_messages::plan::Permit::CAUSES;

/// The turns that were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// When the last one was given, by this process.
    last: Option<Mono>,
    /// Which last: for which causes, and since when.
    given: BTreeMap<NodeName, (BTreeSet<Cause>, Mono)>,
    /// When each node that still names a cause had its last turn: who has waited longest is next.
    before: BTreeMap<NodeName, Mono>,
    /// Somebody waits.
    waiting: bool,
}

impl Turns {
    /// The causes that the node may be repaired for.
    pub(super) fn of(&self, node: &NodeName) -> Vec<Cause> {
        self.given.get(node).map(|(causes, _)| causes.iter().copied().take(CAUSES).collect()).unwrap_or_default()
    }

    /// The node has its turn.
    pub(super) fn has(&self, node: &NodeName) -> bool {
        self.given.contains_key(node)
    }

    /// Nobody waits for a turn.
    pub(super) fn idle(&self) -> bool {
        !self.waiting
    }

    /// When the first of the turns ends.
    pub(super) fn next_end(&self) -> Option<Mono> {
        self.given.values().map(|(_, at)| *at + LASTS).min()
    }
}

impl CoordinatorMind {
    /// Gives the next turn, if it is time for one and `may` permits be granted at all.
    pub(super) fn give_turns(&mut self, now: Now, view: &ClusterView, may: bool) {
        let mut wanted = self.repairable(now, self.config.remedy.wait.0 / 2);
        // Whoever drains a node works on it.
        let drained = view.nodes.iter().filter(|node| node.unschedulable == Some(true));
        let drained = drained.filter(|node| wanted.remove(&node.name).is_some()).count();
        let stormy = self.stormy_nodes(view);
        let turns = &mut self.turns;
        turns.given.retain(|node, (_, at)| now.mono.since(*at) < LASTS && !stormy.has(node));
        turns.before.retain(|node, _| wanted.contains_key(node));
        let granted = |node: &NodeName, causes: &BTreeSet<Cause>| {
            turns.given.get(node).is_some_and(|(given, _)| causes.is_subset(given))
        };
        let waits = wanted.iter().filter(|(node, (causes, _))| !stormy.has(node) && !granted(node, causes));
        // Whoever never had a turn is first, then whoever had it longest ago; among them whoever fell sick first.
        let next = waits.min_by_key(|(node, (_, since))| (turns.before.get(*node).copied(), *since));
        let next = next.map(|(node, (causes, _))| (node.clone(), causes.clone()));
        turns.waiting = next.is_some() || drained > 0;
        let due = turns.last.is_none_or(|last| now.mono.since(last) >= NODES_EVERY);
        if let Some((node, causes)) = next.filter(|_| due && may) {
            turns.last = Some(now.mono);
            turns.before.insert(node.clone(), now.mono);
            turns.given.insert(node, (causes, now.mono));
        }
    }

    /// The nodes that name causes which their agents could repair, certainly and for so long: half of the time that a repair waits, for by
    /// its end the permit is there, and by then a fault of many nodes shows. With the causes, since when the first has stood.
    pub(super) fn repairable(&self, now: Now, stood: Duration) -> BTreeMap<NodeName, (BTreeSet<Cause>, Mono)> {
        let settings = &self.config.remedy;
        let meant = |kind: &RemedyKind| {
            !kind.shared() && *kind != RemedyKind::CallPerson && settings.mode_of(*kind) != Mode::Off
        };
        let mut nodes: BTreeMap<NodeName, (BTreeSet<Cause>, Mono)> = BTreeMap::new();
        for (key, words) in self.claims.all() {
            if !settings.ladder(key.cause).iter().any(meant) {
                continue;
            }
            for (node, word) in words {
                let certain = word.verdict.confidence == Confidence::Certain;
                if word.vouched && certain && now.mono.since(word.since) >= stood {
                    let (causes, since) = nodes.entry(node.clone()).or_insert_with(|| (BTreeSet::new(), word.since));
                    causes.insert(key.cause);
                    *since = word.since.min(*since);
                }
            }
        }
        nodes
    }
}
