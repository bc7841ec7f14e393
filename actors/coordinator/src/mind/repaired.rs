//! Nodes that were repaired lately. What spreads from node to node slowly is never seen on many at once: each would be repaired before
//! the next falls sick. So a node that was repaired goes on counting among those with the same fault for a while.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use nameward_config::ceilings::STORM_WINDOW;
use nameward_config::ladders::{built_in, changes_nodes};
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::remedy::{RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::verdict::Cause;
use nameward_messages::{Mono, NodeName, Now};

/// What is read of one report at most.
const RECORDS: usize = 16;
/// A record that is first seen when it is older than this by the wall clock is history: nodes' clocks differ by less.
const HISTORY: SignedDuration = SignedDuration::from_mins(20);

/// Which node was repaired how, by the records in its report.
#[derive(Clone, Debug, Default)]
pub(super) struct Repaired {
    /// The newest record's own time, and when it was first seen; `None`: it was history by then.
    seen: BTreeMap<NodeName, BTreeMap<RemedyKind, (Timestamp, Option<Mono>)>>,
}

impl Repaired {
    /// Takes the reports. Also of nodes that do not vouch for themselves: what was done there was done.
    pub(super) fn learn(&mut self, now: Now, view: &ClusterView) {
        let present: BTreeSet<&NodeName> = view.agents.iter().map(|agent| &agent.name).collect();
        self.seen.retain(|node, _| present.contains(node));
        for agent in &view.agents {
            let records = agent.report.iter().flat_map(|report| &report.remedies).take(RECORDS);
            for record in records.filter(|record| changed(record)) {
                let known = self.seen.entry(agent.name.clone()).or_default().entry(record.kind);
                let old = now.wall.duration_since(record.at) > HISTORY;
                let fresh = (record.at, (!old).then_some(now.mono));
                known.and_modify(|known| *known = if record.at > known.0 { fresh } else { *known }).or_insert(fresh);
            }
        }
    }

    /// The nodes that were repaired within [`STORM_WINDOW`] as they would be for this cause.
    pub(super) fn lately(&self, now: Mono, cause: Cause) -> BTreeSet<NodeName> {
        if !changes_nodes(cause) {
            return BTreeSet::new();
        }
        let rungs = built_in(cause);
        let lately = |kind: &RemedyKind, seen: &Option<Mono>| {
            rungs.contains(kind) && seen.is_some_and(|seen| now.since(seen) < STORM_WINDOW)
        };
        let repaired = self.seen.iter().filter(|(_, kinds)| kinds.iter().any(|(kind, (_, seen))| lately(kind, seen)));
        repaired.map(|(node, _)| node.clone()).collect()
    }
}

/// Something was written on the node.
fn changed(record: &RemedyRecord) -> bool {
    use RemedyOutcome::{Done, Ineffective, Undone, Unknown, Verified};
    !record.kind.shared() && matches!(record.outcome, Done | Unknown | Verified | Ineffective | Undone)
}
