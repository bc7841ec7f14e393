//! How much may be asked: a share of the budget that every CoreDNS pod has for all our queries together.

use std::time::Duration;

use nameward_messages::Mono;

/// One query, in the unit of a [`Bucket`]: a thousandth of a query per second gives one unit per nanosecond.
pub const QUERY: u128 = 1_000_000_000_000;

/// Without a coordinator an agent assumes that it is one of this many.
pub const ASSUMED_NODES: u64 = 200;

/// An agent's share per CoreDNS pod, in thousandths of a query per second: what the coordinator gave, else the share of
/// a large cluster. Never more than the whole budget (queries per second), never zero.
#[must_use]
pub fn share(given: Option<u64>, budget_per_pod: u32) -> u64 {
    let whole = u64::from(budget_per_pod).saturating_mul(1000);
    given.unwrap_or(whole / ASSUMED_NODES).min(whole).max(1)
}

/// The rate that lets `queries` be asked within `period`, in thousandths of a query per second, rounded up.
#[must_use]
pub fn rate_for(queries: u64, period: Duration) -> u64 {
    let units = u128::from(queries) * QUERY;
    u64::try_from(units.div_ceil(period.as_nanos().max(1))).unwrap_or(u64::MAX)
}

/// A token bucket: over any time `t` no more leaves it than its capacity and `t` times its rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    level: u128,
    filled: Mono,
}

impl Bucket {
    /// Full.
    #[must_use]
    pub fn full(capacity: u128, now: Mono) -> Self {
        Self { level: capacity, filled: now }
    }

    /// Lets in what `rate` (thousandths of a query per second) has brought since the last time.
    pub fn fill(&mut self, rate: u64, capacity: u128, now: Mono) {
        let brought = now.since(self.filled).as_nanos().saturating_mul(u128::from(rate));
        self.level = self.level.saturating_add(brought).min(capacity);
        self.filled = self.filled.max(now);
    }

    /// What can be taken.
    #[must_use]
    pub fn level(&self) -> u128 {
        self.level
    }

    /// Takes, if there is enough.
    pub fn take(&mut self, cost: u128) -> bool {
        match self.level.checked_sub(cost) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_shares() {
        assert_eq!(share(None, 30), 150, "a two-hundredth of 30/s");
        assert_eq!(share(Some(6), 30), 6);
        assert_eq!(share(Some(1_000_000), 30), 30_000, "never more than the whole budget");
        assert_eq!(share(Some(0), 30), 1);
        assert_eq!(rate_for(3, Duration::from_secs(9)), 334);
    }

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let at = |s| Mono(Duration::from_secs(s));
        let mut bucket = Bucket::full(2 * QUERY, at(0));
        assert!(bucket.take(QUERY) && bucket.take(QUERY) && !bucket.take(QUERY));
        bucket.fill(150, 2 * QUERY, at(6));
        assert!(!bucket.take(QUERY), "0.9 of a query");
        bucket.fill(150, 2 * QUERY, at(7));
        assert!(bucket.take(QUERY));
        bucket.fill(150, 2 * QUERY, at(1000));
        assert_eq!(bucket.level(), 2 * QUERY);
        bucket.fill(150, 2 * QUERY, at(5));
        assert_eq!(bucket.level(), 2 * QUERY, "a clock that went back brings nothing");
    }
}
