//! What a traced probe came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Decision, Event, Kind, MAX_EVENTS};
use crate::filter::{Filters, Place};

/// Where a traced packet was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// `ip`, `inet`, …
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle; `None`: the chain's policy.
    pub handle: Option<u64>,
    /// Which of how many rules of the chain it was, from 0, once it was looked up.
    pub position: Option<(u32, u32)>,
    /// It was the answer that was dropped.
    pub answer: bool,
}

/// What came of one probe that was traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Events that were told of it: none means that it never got as far as these packet filters.
    pub events: u32,
    /// More was told than is taken, or was lost.
    pub more: bool,
    /// The probe was answered.
    pub answered: bool,
    /// The probe was refused, here or on the way.
    pub refused: bool,
    /// Where it was dropped, if it was.
    pub dropped: Option<Dropped>,
    /// The last chain that told of it, `family table chain`.
    pub last: Option<String>,
}

impl Dropped {
    /// The rule or policy in packet filters that were read at about that time: `None` when they are not the same any more, or
    /// hold only part of the chain.
    #[must_use]
    pub fn place(&self, filters: &Filters<'_>) -> Option<Place> {
        filters.place_at(&self.family, &self.table, &self.chain, self.handle, self.position)
    }

    /// For people: `ip filter FORWARD, rule handle 12`.
    #[must_use]
    pub fn name(&self) -> String {
        let rule = match self.handle {
            Some(handle) => format!("rule with handle {handle}"),
            None => "policy".to_owned(),
        };
        format!("table {} {}, chain {}: {rule}", self.family, self.table, self.chain)
    }
}

/// Events of one probe, as they come in.
#[derive(Clone, Debug, Default)]
pub struct Followings {
    /// The port that the probe was sent from.
    own: u16,
    /// Our own table, whose rules set the trace.
    table: String,
    /// Which packets are answers.
    answers: BTreeMap<u32, bool>,
    found: Followed,
}

impl Followings {
    /// For a probe from `own` port, traced by the rules of `table`.
    #[must_use]
    pub fn new(own: u16, table: &str) -> Self {
        Self { own, table: table.to_owned(), ..Self::default() }
    }

    /// Takes an event in. `true`: no more are taken.
    pub fn take(&mut self, event: &Event) -> bool {
        if usize::try_from(self.found.events).unwrap_or(usize::MAX) >= MAX_EVENTS {
            self.found.more = true;
            return true;
        }
        self.found.events += 1;
        if let Some((from, to)) = event.ports {
            // Somebody else traces too.
            if from != self.own && to != self.own {
                self.found.events -= 1;
                self.answers.remove(&event.packet);
                return false;
            }
            self.answers.insert(event.packet, to == self.own);
        }
        let Some(answer) = self.answers.get(&event.packet).copied() else {
            self.found.events -= 1;
            return false;
        };
        if event.table == self.table {
            return false;
        }
        self.found.last = Some(format!("{} {} {}", event.family, event.table, event.chain));
        if event.verdict == Some(Decision::Drop) && self.found.dropped.is_none() {
            self.found.dropped = Some(Dropped {
                family: event.family.clone(),
                table: event.table.clone(),
                chain: event.chain.clone(),
                handle: event.handle.filter(|_| event.kind == Kind::Rule),
                position: None,
                answer,
            });
        }
        false
    }

    /// Events were lost.
    pub fn lost(&mut self) {
        self.found.more = true;
    }

    /// The probe was answered.
    pub fn answered(&mut self) {
        self.found.answered = true;
    }

    /// The probe was refused: no answer will come.
    pub fn refused(&mut self) {
        self.found.refused = true;
    }

    /// Whether no answer need be waited for any more.
    #[must_use]
    pub fn over(&self) -> bool {
        self.found.answered || self.found.refused
    }

    /// Where it was dropped, if that is known by now.
    #[must_use]
    pub fn dropped(&self) -> Option<&Dropped> {
        self.found.dropped.as_ref()
    }

    /// What it came to, with the handles of the rules of the chain in which it was dropped, in order.
    #[must_use]
    pub fn finish(mut self, rules: &[u64]) -> Followed {
        if let Some(dropped) = &mut self.found.dropped {
            let at = dropped.handle.and_then(|handle| rules.iter().position(|rule| *rule == handle));
            let number = |n: usize| u32::try_from(n).ok();
            dropped.position = at.and_then(|at| number(at).zip(number(rules.len())));
        }
        self.found
    }
}
