//! Which paths are asked in a round: all of them if the share allows, else in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::Mono;
use nameward_messages::probe::PathKey;
use nameward_messages::targets::Target;

use crate::paths::{Account, Paths, Planned};
use crate::share::{Bucket, QUERY, rate_for};

/// Two sweeps are never closer than this part of the interval (in percent); jitter lies above it.
pub const CLOSEST_PERCENT: u32 = 90;

/// The rotation.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    paths: Paths,
    turns: BTreeMap<PathKey, Turn>,
    budgets: BTreeMap<Account, Budget>,
    /// Targets whose suspected path was asked last: an unsuspected one comes first there next time.
    others_first: BTreeSet<Target>,
}

/// When a path was asked last.
#[derive(Clone, Debug, Default)]
struct Turn {
    /// The round; 0: never.
    round: u64,
    /// Orders paths that have waited equally long, differently from path to path.
    salt: u64,
    /// Which of its questions is next.
    next: usize,
}

#[derive(Clone, Debug)]
struct Budget {
    rate: u64,
    capacity: u128,
    bucket: Bucket,
}

/// One path that is to be asked now.
#[derive(Clone, Debug)]
pub struct Picked<'a> {
    /// Which.
    pub path: &'a PathKey,
    /// How.
    pub planned: &'a Planned,
    /// Which of its questions.
    pub question: usize,
}

impl Schedule {
    /// Takes over a new set of paths. What is known of a path that stays is kept, as is what was spent: a change of
    /// paths or of the share gives no fresh allowance.
    ///
    /// `share` in thousandths of a query per second for each account; `interval` from sweep to sweep.
    pub fn set(&mut self, paths: Paths, share: u64, interval: Duration, now: Mono, random: &mut impl FnMut() -> u64) {
        self.turns.retain(|path, _| paths.contains_key(path));
        for path in paths.keys() {
            if !self.turns.contains_key(path) {
                self.turns.insert(path.clone(), Turn { salt: random(), ..Turn::default() });
            }
        }
        self.others_first.retain(|target| paths.keys().any(|path| path.target == *target));
        self.paths = paths;
        self.set_budgets(share, interval, now);
    }

    fn set_budgets(&mut self, share: u64, interval: Duration, now: Mono) {
        let mut always: BTreeMap<&Account, u64> = BTreeMap::new();
        for planned in self.paths.values() {
            for (account, _) in planned.costs.iter() {
                *always.entry(account).or_default() += u64::from(planned.always);
            }
        }
        let closest = interval * CLOSEST_PERCENT / 100;
        let mut budgets = BTreeMap::new();
        for (account, count) in always {
            // Enough for what must be asked every round, and then for one more, so that every path has its turn.
            let rate = if count == 0 { share } else { share.max(rate_for(count + 1, closest)) };
            // One round's worth, and one query more: else the part of a query that is left over would be lost.
            let capacity = interval.as_nanos() * u128::from(rate) + QUERY;
            let bucket = match self.budgets.remove(account) {
                Some(mut old) => {
                    old.bucket.fill(old.rate, old.capacity, now);
                    old.bucket.fill(rate, capacity, now);
                    old.bucket
                }
                None => Bucket::full(capacity, now),
            };
            budgets.insert(account.clone(), Budget { rate, capacity, bucket });
        }
        self.budgets = budgets;
    }

    /// Takes out every path of a vantage or target that is gone.
    pub fn forget(&mut self, gone: impl Fn(&PathKey) -> bool) {
        self.paths.retain(|path, _| !gone(path));
        self.turns.retain(|path, _| !gone(path));
    }

    /// Whether the path is one of those to be asked.
    #[must_use]
    pub fn has(&self, path: &PathKey) -> bool {
        self.paths.contains_key(path)
    }

    /// A path's plan and the question that it was asked last.
    #[must_use]
    pub fn last(&self, path: &PathKey) -> Option<Picked<'_>> {
        let (path, planned) = self.paths.get_key_value(path)?;
        let next = self.turns.get(path).map_or(0, |turn| turn.next);
        let count = planned.questions.len().max(1);
        Some(Picked { path, planned, question: (next + count - 1) % count })
    }

    /// How often a path is asked: the interval if the share allows, else longer.
    #[must_use]
    pub fn period(&self, interval: Duration) -> Duration {
        let mut demand: BTreeMap<&Account, u128> = BTreeMap::new();
        for (account, cost) in self.paths.values().flat_map(|planned| planned.costs.iter()) {
            *demand.entry(account).or_default() += cost;
        }
        let needs = demand.iter().filter_map(|(account, units)| {
            let rate = u128::from(self.budgets.get(*account)?.rate.max(1));
            Some(Duration::from_nanos(u64::try_from(units / rate).unwrap_or(u64::MAX)))
        });
        needs.max().unwrap_or(interval).max(interval)
    }

    /// Chooses the paths of a round and spends for them. First what is asked always; then, target by target, those that
    /// are suspected and the others by turns, each those first that have waited longest.
    pub fn pick(&mut self, round: u64, now: Mono, suspected: impl Fn(&PathKey) -> bool) -> Vec<Picked<'_>> {
        for budget in self.budgets.values_mut() {
            budget.bucket.fill(budget.rate, budget.capacity, now);
        }
        let mut chosen = Vec::with_capacity(self.paths.len());
        for (path, planned, suspected) in order(&self.paths, &self.turns, &self.others_first, &suspected) {
            let enough = |(account, cost): &(Account, u128)| {
                self.budgets.get(account).is_none_or(|budget| budget.bucket.level() >= *cost)
            };
            if !planned.costs.iter().all(enough) {
                continue;
            }
            for (account, cost) in planned.costs.iter() {
                if let Some(budget) = self.budgets.get_mut(account) {
                    budget.bucket.take(*cost);
                }
            }
            chosen.push((path, planned, suspected));
        }
        let mut picked = Vec::with_capacity(chosen.len());
        for (path, planned, suspected) in chosen {
            let mut question = 0;
            if let Some(turn) = self.turns.get_mut(path) {
                question = turn.next % planned.questions.len().max(1);
                turn.next = question + 1;
                turn.round = round;
            }
            if suspected {
                self.others_first.insert(path.target.clone());
            } else if !planned.always {
                self.others_first.remove(&path.target);
            }
            picked.push(Picked { path, planned, question });
        }
        picked
    }
}

/// What decides between two paths: the round in which each was asked last, then its salt.
type Age = (u64, u64);

/// A target's paths that are not suspected, and those that are.
type Classes<'a> = [Vec<(Age, &'a PathKey, &'a Planned)>; 2];

/// Every path in the order in which it may spend, and whether it is suspected.
fn order<'a>(
    paths: &'a Paths,
    turns: &BTreeMap<PathKey, Turn>,
    others_first: &BTreeSet<Target>,
    suspected: &impl Fn(&PathKey) -> bool,
) -> Vec<(&'a PathKey, &'a Planned, bool)> {
    let mut ranked: Vec<(u64, Age, &PathKey, &Planned, bool)> = Vec::with_capacity(paths.len());
    let mut targets: BTreeMap<&Target, Classes<'_>> = BTreeMap::new();
    for (path, planned) in paths {
        let age = turns.get(path).map_or((0, 0), |turn| (turn.round, turn.salt));
        let suspected = suspected(path);
        if planned.always {
            ranked.push((0, age, path, planned, suspected));
        } else {
            let [others, suspects] = targets.entry(&path.target).or_default();
            if suspected { suspects } else { others }.push((age, path, planned));
        }
    }
    for (target, mut classes) in targets {
        classes.iter_mut().for_each(|class| class.sort_unstable_by_key(|(age, path, _)| (*age, *path)));
        // By turns, so that neither class shuts the other out, however little may be asked.
        let [others, suspects] = classes;
        let (first, second, first_suspected) =
            if others_first.contains(target) { (others, suspects, false) } else { (suspects, others, true) };
        let paired = first.len().min(second.len());
        let place = |at: usize, offset: usize| {
            let rank = if at < paired { 2 * at + offset } else { paired + at };
            u64::try_from(rank + 1).unwrap_or(u64::MAX)
        };
        for (at, (age, path, planned)) in first.into_iter().enumerate() {
            ranked.push((place(at, 0), age, path, planned, first_suspected));
        }
        for (at, (age, path, planned)) in second.into_iter().enumerate() {
            ranked.push((place(at, 1), age, path, planned, !first_suspected));
        }
    }
    ranked.sort_unstable_by_key(|(rank, age, path, ..)| (*rank, *age, *path));
    ranked.into_iter().map(|(_, _, path, planned, suspected)| (path, planned, suspected)).collect()
}

#[cfg(test)]
mod tests;
