//! From a failure to a suspicion and back: two of three fresh probes must fail, two good results in a row clear.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::Mono;
use nameward_messages::probe::{Observation, PathKey};

use crate::paths::Account;
use crate::share::{Bucket, QUERY};

/// Fresh probes per confirmation.
pub const PROBES: usize = 3;
/// So many of them must fail.
pub const FAILURES: usize = 2;
/// So many good results in a row clear a suspicion.
pub const GOOD: u8 = 2;
/// However small the share, so many confirmations of one target may be made at once.
const AT_LEAST: u128 = 2;
/// A confirmation that the burst budget does not allow is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What changed for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is suspected: the first failure and the confirmations.
    Suspected(Vec<Observation>),
    /// It answers again.
    Cleared,
}

#[derive(Clone, Debug)]
enum State {
    /// Failed; to be confirmed.
    Waiting { failure: Observation, due: Mono },
    /// The confirmation is under way.
    Asked { failure: Observation },
    /// Told.
    Suspected { good: u8 },
}

/// The paths that are not simply good.
#[derive(Clone, Debug, Default)]
pub struct Confirm {
    states: BTreeMap<PathKey, State>,
    burst: BTreeMap<Account, Bucket>,
    rate: u64,
    capacity: u128,
}

impl Confirm {
    /// Sets the burst budget: on top of the share, an account may be asked as much again, and three rounds' worth at once.
    pub fn set_budget(&mut self, share: u64, interval: Duration) {
        let probes = u128::try_from(PROBES).unwrap_or(3);
        self.rate = share;
        self.capacity = (interval.as_nanos() * u128::from(share) * probes).max(AT_LEAST * probes * QUERY);
    }

    /// Takes note of a result of a round.
    pub fn observed(&mut self, now: Mono, confirm_after: Duration, observation: &Observation) -> Option<Change> {
        let good = observation.outcome.good()?;
        let path = &observation.path;
        match (self.states.get_mut(path), good) {
            (None, true) => {}
            (None, false) => {
                let waiting = State::Waiting { failure: observation.clone(), due: now + confirm_after };
                self.states.insert(path.clone(), waiting);
            }
            (Some(State::Waiting { .. }), true) => {
                self.states.remove(path);
            }
            (Some(State::Waiting { failure, .. }), false) => *failure = observation.clone(),
            // The confirmation decides.
            (Some(State::Asked { .. }), _) => {}
            (Some(State::Suspected { good }), false) => *good = 0,
            (Some(State::Suspected { good }), true) => {
                *good += 1;
                if *good >= GOOD {
                    self.states.remove(path);
                    return Some(Change::Cleared);
                }
            }
        }
        None
    }

    /// When [`Confirm::take_due`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Mono> {
        self.states
            .values()
            .filter_map(|state| match state {
                State::Waiting { due, .. } => Some(*due),
                State::Asked { .. } | State::Suspected { .. } => None,
            })
            .min()
    }

    /// The paths to confirm now, within the burst budget. `costs` says what one query over a path costs; a path for
    /// which it says nothing is dropped.
    pub fn take_due<'a>(
        &mut self,
        now: Mono,
        costs: impl Fn(&PathKey) -> Option<&'a [(Account, u128)]>,
    ) -> Vec<PathKey> {
        let (rate, capacity) = (self.rate, self.capacity);
        for bucket in self.burst.values_mut() {
            bucket.fill(rate, capacity, now);
        }
        // One that is full again is as good as new.
        self.burst.retain(|_, bucket| bucket.level() < capacity);
        let probes = u128::try_from(PROBES).unwrap_or(3);
        let mut taken = Vec::new();
        let mut dropped = Vec::new();
        for (path, state) in &mut self.states {
            let State::Waiting { failure, due } = state else { continue };
            if *due > now {
                continue;
            }
            let Some(costs) = costs(path) else {
                dropped.push(path.clone());
                continue;
            };
            let enough = costs
                .iter()
                .all(|(account, cost)| self.burst.get(account).map_or(capacity, Bucket::level) >= cost * probes);
            if !enough {
                *due = now + AGAIN;
                continue;
            }
            for (account, cost) in costs {
                let bucket = self.burst.entry(account.clone()).or_insert_with(|| Bucket::full(capacity, now));
                bucket.take(cost * probes);
            }
            *state = State::Asked { failure: failure.clone() };
            taken.push(path.clone());
        }
        for path in dropped {
            self.states.remove(&path);
        }
        taken
    }

    /// The confirmation of a path ended with these results; none if it was lost.
    pub fn confirmed(&mut self, path: &PathKey, results: Vec<Observation>) -> Option<Change> {
        let Some(State::Asked { failure }) = self.states.get(path) else { return None };
        let failed = results.iter().filter(|one| one.outcome.good() == Some(false)).count();
        if failed < FAILURES {
            self.states.remove(path);
            return None;
        }
        let all = std::iter::once(failure.clone()).chain(results).collect();
        self.states.insert(path.clone(), State::Suspected { good: 0 });
        Some(Change::Suspected(all))
    }

    /// Whether a path is suspected.
    #[must_use]
    pub fn suspects(&self, path: &PathKey) -> bool {
        matches!(self.states.get(path), Some(State::Suspected { .. }))
    }

    /// The suspected paths.
    pub fn suspected(&self) -> impl Iterator<Item = &PathKey> {
        self.states.iter().filter(|(_, state)| matches!(state, State::Suspected { .. })).map(|(path, _)| path)
    }

    /// Takes over suspicions that were told by an earlier self.
    pub fn resume(&mut self, paths: impl IntoIterator<Item = PathKey>) {
        self.states.extend(paths.into_iter().map(|path| (path, State::Suspected { good: 0 })));
    }

    /// Forgets paths that are gone; says which of them were suspected.
    pub fn forget(&mut self, gone: impl Fn(&PathKey) -> bool) -> Vec<PathKey> {
        let cleared = self.suspected().filter(|path| gone(path)).cloned().collect();
        self.states.retain(|path, _| !gone(path));
        cleared
    }
}

#[cfg(test)]
mod tests;
