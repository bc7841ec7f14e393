//! How many restarts are too many.

use std::collections::VecDeque;
use std::time::Duration;

use nameward_messages::Mono;

/// At most `max` restarts within `within`; one more and the actor is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBudget {
    /// Restarts allowed.
    pub max: u32,
    /// Within any stretch of time as long as this.
    pub within: Duration,
}

impl Default for RestartBudget {
    /// Five within a minute.
    fn default() -> Self {
        Self { max: 5, within: Duration::from_secs(60) }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What was spent of a budget.
#[derive(Debug)]
pub(crate) struct Spending {
    budget: RestartBudget,
    restarts: VecDeque<Mono>,
}

/// What to do after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Rebuild after this pause.
    Rebuild(Duration),
    /// The budget is spent.
    GiveUp,
}

impl Spending {
    pub(crate) fn new(budget: RestartBudget) -> Self {
        Self { budget, restarts: VecDeque::new() }
    }

    /// The pause doubles with every restart that still counts.
    pub(crate) fn panicked(&mut self, now: Mono) -> Decision {
        while self.restarts.front().is_some_and(|at| now.since(*at) >= self.budget.within) {
            self.restarts.pop_front();
        }
        let spent = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if spent >= self.budget.max {
            return Decision::GiveUp;
        }
        self.restarts.push_back(now);
        Decision::Rebuild(FIRST_PAUSE.saturating_mul(1 << spent.min(16)).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    #[test]
    fn spends_and_recovers() {
        let mut spending = Spending::new(RestartBudget { max: 2, within: Duration::from_secs(10) });
        assert_eq!(spending.panicked(at(0)), Decision::Rebuild(Duration::from_millis(50)));
        assert_eq!(spending.panicked(at(1)), Decision::Rebuild(Duration::from_millis(100)));
        assert_eq!(spending.panicked(at(9)), Decision::GiveUp);
        // The first one no longer counts.
        assert_eq!(spending.panicked(at(10)), Decision::Rebuild(Duration::from_millis(100)));
    }

    #[test]
    fn a_budget_of_nothing_gives_up_at_once() {
        let mut spending = Spending::new(RestartBudget { max: 0, within: Duration::from_secs(10) });
        assert_eq!(spending.panicked(at(0)), Decision::GiveUp);
    }

    #[test]
    fn pauses_are_capped() {
        let mut spending = Spending::new(RestartBudget { max: 100, within: Duration::from_secs(1000) });
        for s in 0..100 {
            let Decision::Rebuild(pause) = spending.panicked(at(s)) else { unreachable!() };
            assert!(pause <= LONGEST_PAUSE);
        }
    }
}
