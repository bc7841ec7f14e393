//! What was done, would have been done or was refused.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nameward_messages::NodeName;
use nameward_messages::remedy::{RemedyOutcome, RemedyRecord};
use nameward_messages::status::{Act, MOST_ACTS};

use crate::state::Snapshot;

/// One record.
#[must_use]
pub fn act(record: &RemedyRecord, node: Option<&NodeName>) -> Act {
    Act {
        at: record.at,
        kind: record.kind,
        subject: record.subject.clone(),
        mode: record.mode,
        outcome: record.outcome,
        detail: record.detail.clone(),
        node: node.cloned(),
        times: 1,
    }
}

/// What is refused again and again for the same reason, and what would be done again and again, is told once, with how
/// often. The order stays that of the last time.
#[must_use]
pub fn collapse(acts: Vec<Act>) -> Vec<Act> {
    let mut kept: Vec<Act> = Vec::new();
    for act in acts {
        let repeats = matches!(act.outcome, RemedyOutcome::Refused | RemedyOutcome::WouldAct);
        let same = |known: &Act| {
            (known.kind, &known.subject, known.outcome, &known.detail, &known.node)
                == (act.kind, &act.subject, act.outcome, &act.detail, &act.node)
        };
        match kept.iter_mut().find(|known| repeats && same(known)) {
            Some(known) => {
                known.times = known.times.saturating_add(act.times);
                known.at = known.at.max(act.at);
            }
            None => kept.push(act),
        }
    }
    kept
}

/// Everything that this process knows of, newest first.
pub(super) fn of(snapshot: &Snapshot) -> Vec<Act> {
    let own = snapshot.remedies.iter().map(|record| act(record, None));
    // What the incidents tell goes further back than this process, and what nodes do is told in their reports.
    let incidents =
        snapshot.incidents.iter().flat_map(|(_, about)| about.1.ladder.iter().map(|record| act(record, None)));
    let agents = snapshot.view.iter().flat_map(|view| &view.agents).flat_map(|agent| {
        agent.report.iter().flat_map(|report| &report.remedies).map(|record| act(record, Some(&agent.name)))
    });
    // The same record by two ways is one: told by its actor, and written to the incident to the second.
    let mut once = BTreeMap::new();
    for act in agents.chain(own).chain(incidents) {
        let key = (act.at.as_second(), act.kind, act.subject.clone(), act.outcome, act.detail.clone());
        once.entry(key).or_insert(act);
    }
    let mut acts: Vec<Act> = once.into_values().collect();
    acts.sort_by_key(|act| Reverse(act.at));
    let mut acts = collapse(acts);
    acts.truncate(MOST_ACTS);
    acts
}
