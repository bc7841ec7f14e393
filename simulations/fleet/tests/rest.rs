//! A coordinator that rests where nothing can come of a decision does what one does that goes through everything at every tick.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_fleet::{Fault, Outcome, Settings, Spec, drawn, month, play};
use nameward_messages::verdict::Cause;

fn same(spec: Spec) {
    let restless = Spec { restless: true, ..spec.clone() };
    let (rests, other) = (play(spec, false), play(restless, false));
    let told = |outcome: &Outcome| {
        let Outcome { stats, healthy, called, incidents, trace, .. } = outcome.clone();
        (stats, healthy, called, incidents, trace)
    };
    assert_eq!(told(&rests), told(&other), "seed {}: {}", rests.seed, rests.about);
}

#[test]
fn in_the_histories_of_seeds() {
    let count = std::env::var("NAMEWARD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    for seed in 1_000_000..1_000_000 + count {
        let spec = drawn(seed, Settings::default());
        if spec.nodes <= 60 {
            same(spec);
        }
    }
}

#[test]
fn in_a_healthy_cluster_and_where_something_stands_that_is_a_persons() {
    same(Spec { long: std::time::Duration::from_secs(6 * 3600), ..month(3, 4, 1, 10) });
    for fault in [Fault::Corefile(true), Fault::NodeSick(1, Cause::ForwardPolicyDrop), Fault::Upstream(true)] {
        same(Spec::quiet(5, 4, 3).then(120, fault));
    }
    same(Spec::quiet(6, 4, 3).then(120, Fault::NodeDown(2)).then(400, Fault::PodSick(0, Cause::CorednsUdpDead)));
}
