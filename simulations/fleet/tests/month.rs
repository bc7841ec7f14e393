//! A healthy cluster over days, with rollouts, drains and 1 % loss: no remedy, nobody called.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use nameward_fleet::{month, play};

#[test]
fn nothing_is_remedied_in_a_healthy_cluster() {
    let days = std::env::var("NAMEWARD_DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(2);
    let outcome = play(month(11, 5, days, 10), false);
    eprintln!("{days} days: {:?}", outcome.stats);
    assert!(outcome.violations.is_empty(), "{:?}\n{}", outcome.violations, outcome.trace.join("\n"));
    let stats = outcome.stats;
    assert_eq!((stats.evictions, stats.raises, stats.others, stats.plans), (0, 0, 0, 0));
    assert!(outcome.healthy && !outcome.called, "{:?}", outcome.incidents);
}
