//! The long scenarios in virtual time, each with the number of acts that it may hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_fleet::{Death, Fault, Invariant, Outcome, Sabotage, Spec, play};
use nameward_messages::verdict::Cause;

const MI: u64 = 1 << 20;
const DEAD: Cause = Cause::CorednsUdpDead;
/// A pod falls sick at 120 s, is named at about 130 s, and the eviction is due at about 170 s.
const ACTS: u64 = 165;

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn quiet() -> Spec {
    Spec::quiet(7, 4, 3)
}

fn sick() -> Spec {
    quiet().then(120, Fault::PodSick(0, DEAD))
}

/// Plays it: no invariant is broken, and there are so many evictions, raises and other acts.
fn expect(spec: Spec, evictions: u32, raises: u32, others: u32) -> Outcome {
    let outcome = play(spec, false);
    let stats = outcome.stats;
    assert!(outcome.violations.is_empty(), "{:?}\n{}", outcome.violations, outcome.trace.join("\n"));
    let acts = (stats.evictions, stats.raises, stats.others);
    assert_eq!(acts, (evictions, raises, others), "{:?}\n{}", outcome.incidents, outcome.trace.join("\n"));
    outcome
}

#[test]
fn one_sick_pod_is_evicted_once() {
    assert!(expect(sick(), 1, 0, 0).healthy);
}

#[test]
fn the_leader_is_stopped_for_a_minute_at_any_moment_of_an_eviction() {
    for at in (150..200).step_by(5) {
        let outcome = expect(sick().then(at, Fault::StopLeader(secs(60))), 1, 0, 0);
        assert!(outcome.healthy, "stopped at {at}");
    }
}

#[test]
fn too_many_requests_for_five_minutes_delay_the_eviction() {
    assert!(expect(sick().then(ACTS, Fault::Throttle(secs(300))), 1, 0, 0).healthy);
}

#[test]
fn a_stale_watch_of_five_minutes_delays_the_eviction() {
    for at in [121, 140, ACTS, ACTS + 5, ACTS + 10] {
        let outcome = expect(sick().then(at, Fault::Freeze(secs(300))), 1, 0, 0);
        assert!(outcome.healthy, "frozen at {at}");
    }
}

#[test]
fn a_coordinator_that_dies_about_any_request_never_evicts_twice() {
    for call in 1..=12 {
        for death in [Death::Before, Death::After] {
            let outcome = expect(sick().then(119, Fault::DieAtCall(call, death)), 1, 0, 0);
            assert!(outcome.healthy, "died {death:?} request {call}");
        }
    }
}

#[test]
fn replies_that_are_lost_after_the_change_never_make_it_twice() {
    for seed in 0..20 {
        let lossy = Fault::Lossy { permille: 300, slow: secs(1), long: secs(400) };
        let spec = Spec { seed, ..sick() }.then(150, lossy);
        let outcome = play(spec, false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}\n{}", outcome.violations, outcome.trace.join("\n"));
        assert!(outcome.stats.evictions == 1 && outcome.healthy, "seed {seed}: {:?}", outcome.stats);
    }
}

#[test]
fn liars_evict_nothing() {
    for lie in [Fault::Forges(1), Fault::Accuses(0, 0), Fault::AccusesAll(0), Fault::AccusesAll(1)] {
        expect(quiet().then(120, lie), 0, 0, 0);
    }
}

#[test]
fn half_the_nodes_sick_get_no_permit_and_no_pod_is_evicted() {
    // The first has no repair, the second has one.
    for cause in [Cause::ForwardPolicyDrop, Cause::IpForwardOff] {
        let mut spec = Spec::quiet(7, 8, 3);
        for n in 0..4 {
            spec = spec.then(120, Fault::NodeSick(n, cause));
        }
        let outcome = expect(spec, 0, 0, 0);
        assert!(outcome.called && outcome.stats.repairs == 0, "{cause}: {:?}", outcome.stats);
        let open: Vec<&String> = outcome.incidents.iter().filter(|incident| !incident.ends_with("Resolved")).collect();
        assert!(matches!(open.as_slice(), [one] if one.starts_with(cause.id())), "{open:?}");
    }
}

/// A hundred nodes, of which so many forward no packets any more.
fn forwarding_off(sick: usize, sabotage: Sabotage) -> Spec {
    let mut spec = Spec { sabotage, ..Spec::quiet(7, 100, 3) };
    for n in 0..sick {
        spec = spec.then(120, Fault::NodeSick(n, Cause::IpForwardOff));
    }
    spec
}

#[test]
fn nodes_are_repaired_one_after_the_other_and_none_in_a_storm() {
    for (sick, healthy) in [(18, true), (40, false)] {
        let outcome = play(forwarding_off(sick, Sabotage::None), false);
        assert!(outcome.violations.is_empty(), "{sick}: {:?}", outcome.violations);
        assert_eq!(outcome.healthy, healthy, "{sick}: {:?} {:?}", outcome.stats, outcome.incidents);
    }
    let violated = play(forwarding_off(18, Sabotage::EveryNodesTurn), false).violations;
    assert!(violated.iter().any(|violation| violation.invariant == Invariant::I11), "{violated:?}");
}

#[test]
fn permits_that_are_withdrawn_at_any_moment_of_a_repair_let_nothing_new_begin() {
    let (mut none, mut one, mut taken_back) = (0, 0, 0);
    for at in (120..176).step_by(4) {
        let quiet = Spec { long: secs(600), must_settle: false, ..Spec::quiet(7, 6, 3) };
        let mut spec = quiet.then(120, Fault::NodeSick(0, Cause::IpForwardOff));
        for n in 1..4 {
            spec = spec.then(at, Fault::NodeSick(n, Cause::IpForwardOff));
        }
        let outcome = play(spec, true);
        assert!(outcome.violations.is_empty(), "{at}: {:?}\n{}", outcome.violations, outcome.trace.join("\n"));
        let begun = outcome.trace.iter().filter(|line| line.contains("write-sysctl done: did")).count();
        let repairs = outcome.stats.repairs;
        assert!(begun <= 1 && outcome.called, "{at}: {:?} {:?}", outcome.stats, outcome.incidents);
        // What was written, and perhaps its undo, which needs no permit.
        match (begun, repairs) {
            (0, 0) => none += 1,
            (1, 1) => one += 1,
            (1, 2) => taken_back += 1,
            other => panic!("{at}: {other:?}"),
        }
    }
    assert!(none > 0 && one + taken_back > 0, "{none} {one} {taken_back}");
}

/// One of four nodes forwards no packets any more; who names it waits for so long before it repairs itself.
fn one_node(wait: u64, sabotage: Sabotage) -> Spec {
    let mut spec = Spec { sabotage, ..quiet() }.then(120, Fault::NodeSick(0, Cause::IpForwardOff));
    spec.config.remedy.wait.0 = secs(wait);
    spec
}

#[test]
fn an_agent_that_cannot_read_the_switch_changes_nothing_until_it_can() {
    // It has its turn, and is cut off more than a minute before it makes use of it.
    let cut = |sabotage| play(one_node(200, sabotage).then(245, Fault::AgentCut(0, secs(200))), false);
    let outcome = cut(Sabotage::None);
    assert!(outcome.violations.is_empty() && outcome.healthy, "{:?} {:?}", outcome.violations, outcome.stats);
    assert_eq!(outcome.stats.repairs, 1, "{:?}", outcome.incidents);
    let violated = cut(Sabotage::AgentsSeeNoSwitch).violations;
    assert!(violated.iter().any(|violation| violation.invariant == Invariant::I20), "{violated:?}");
}

#[test]
fn a_permit_that_has_run_out_is_none() {
    // It has its turn, and both coordinators are gone before it makes use of it.
    let alone = |sabotage| {
        let spec = one_node(1300, sabotage);
        let gone = |spec: Spec, p| spec.then(800, Fault::Crash(p, secs(10_000)));
        let spec = gone(gone(spec, 0), 1);
        play(Spec { must_settle: false, ..spec }, false)
    };
    let outcome = alone(Sabotage::None);
    assert!(
        outcome.violations.is_empty() && outcome.stats.repairs == 0,
        "{:?} {:?}",
        outcome.violations,
        outcome.stats
    );
    let violated = alone(Sabotage::PermitsForYears).violations;
    assert!(violated.iter().any(|violation| violation.invariant == Invariant::I2), "{violated:?}");
}

#[test]
fn replicas_that_an_autoscaler_owns_are_left_to_it() {
    let spec = Spec { replicas_owner: Some("cluster-proportional-autoscaler".to_owned()), ..quiet() };
    assert!(expect(spec.then(120, Fault::AllPodsSick(DEAD)), 0, 0, 0).called);
}

#[test]
fn when_every_pod_is_dead_one_replica_is_added_before_any_is_evicted() {
    let outcome = play(quiet().then(120, Fault::AllPodsSick(DEAD)), false);
    assert!(outcome.violations.is_empty(), "{:?}\n{}", outcome.violations, outcome.trace.join("\n"));
    assert!(outcome.stats.others >= 1, "{:?} {:?}", outcome.stats, outcome.incidents);
}

#[test]
fn all_replicas_dying_of_memory_get_more_once() {
    let outcome = expect(quiet().then(120, Fault::Needs(300 * MI)), 0, 1, 0);
    assert!(outcome.healthy);
}

#[test]
fn a_limit_at_its_cap_is_a_persons() {
    let spec = Spec { memory: 1024 * MI, ..quiet() };
    assert!(expect(spec.then(120, Fault::Needs(2000 * MI)), 0, 0, 0).called);
}

#[test]
fn a_limit_that_a_reconciler_owns_is_a_persons() {
    let spec = Spec { memory_owner: Some("argocd-controller".to_owned()), ..quiet() };
    assert!(expect(spec.then(120, Fault::Needs(300 * MI)), 0, 0, 0).called);
}

#[test]
fn a_bad_corefile_everywhere_is_a_persons() {
    assert!(expect(quiet().then(120, Fault::Corefile(true)), 0, 0, 0).called);
}

#[test]
fn what_made_things_worse_is_not_done_again_for_ten_minutes() {
    let worse = sick().then(121, Fault::Contagion(true)).then(121, Fault::Relapse(Some(DEAD)));
    let spec = Spec { long: secs(700), must_settle: false, ..worse };
    assert!(expect(spec, 1, 0, 0).called);
}

#[test]
fn a_rolling_update_is_waited_for() {
    expect(quiet().then(120, Fault::Rollout).then(400, Fault::Rollout), 0, 0, 0);
}

#[test]
fn a_drain_is_waited_for() {
    expect(quiet().then(120, Fault::Drain(0)).then(300, Fault::Uncordon(0)).then(310, Fault::Drain(1)), 0, 0, 0);
}

#[test]
fn an_eviction_that_a_budget_refuses_is_a_persons() {
    assert!(expect(sick().then(100, Fault::Blocked(true)), 0, 0, 0).called);
}

#[test]
fn the_kill_switch_thrown_on_the_way_stops_the_eviction() {
    for at in (140..175).step_by(3) {
        let spec = sick().then(at, Fault::Policy(true));
        let outcome = play(Spec { must_settle: false, ..spec }, false);
        assert!(outcome.violations.is_empty(), "thrown at {at}: {:?}", outcome.violations);
        assert!(outcome.stats.evictions <= 1);
    }
    let before = sick().then(110, Fault::Policy(true));
    expect(Spec { must_settle: false, ..before }, 0, 0, 0);
}

#[test]
fn half_the_agents_silent_are_no_quorum() {
    let spec = sick().then(110, Fault::AgentSilent(2)).then(110, Fault::AgentSilent(3));
    let spec = Spec { long: secs(3000), ..spec };
    let outcome = play(Spec { must_settle: false, ..spec.then(900, Fault::Calm) }, false);
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
}
