//! Many seeds in virtual time. A failing one is printed with the end of its trace; `nameward simulate --virtual --seed N --trace`
//! replays it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::num::NonZeroUsize;

use nameward_fleet::{Settings, seeds_on};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn no_seed_breaks_an_invariant() {
    let count = number("NAMEWARD_SEEDS").unwrap_or(60);
    let from = number("NAMEWARD_FROM").unwrap_or(0);
    let (mut evictions, mut raises, mut calls, mut broken) = (0, 0, 0, 0);
    let settings = Settings { trace: number("NAMEWARD_TRACE").is_some(), ..Settings::default() };
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = number("NAMEWARD_JOBS").and_then(|jobs| NonZeroUsize::new(jobs as usize)).unwrap_or(cores);
    seeds_on(jobs, from, count, settings, |outcome| {
        evictions += outcome.stats.evictions;
        raises += outcome.stats.raises;
        calls += outcome.stats.calls;
        if !outcome.violations.is_empty() || settings.trace {
            broken += 1;
            eprintln!("seed {} ({}): {:?}", outcome.seed, outcome.about, outcome.stats);
            let tail = if settings.trace { usize::MAX } else { 0 };
            for line in outcome.trace.iter().rev().take(tail).collect::<Vec<_>>().into_iter().rev() {
                eprintln!("{line}");
            }
            for violation in &outcome.violations {
                eprintln!("  {violation}");
            }
        }
        true
    });
    eprintln!("{count} seeds: {evictions} evictions, {raises} raises, {calls} calls, {broken} broken");
    assert_eq!(broken, 0);
    // Histories in which nothing happens prove nothing.
    assert!(count < 50 || (evictions > 10 && raises > 2 && calls > 5));
}
