#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{NotAsked, Outcome, Purpose, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Transport};
use proptest::prelude::*;

use super::*;

const AFTER: Duration = Duration::from_millis(200);

fn at(ms: u64) -> Mono {
    Mono(Duration::from_millis(ms))
}

fn path(last: u8) -> PathKey {
    PathKey {
        vantage: Vantage::Host,
        target: Target { kind: TargetKind::Service, ip: [10, 96, 0, last].into() },
        transport: Transport::Udp,
        question: QuestionKind::Internal,
    }
}

fn result(path: &PathKey, outcome: Outcome) -> Observation {
    Observation {
        at: at(0),
        path: path.clone(),
        port: 53,
        outcome,
        latency: Duration::ZERO,
        connect: None,
        purpose: Purpose::Round,
    }
}

fn not_asked() -> Outcome {
    Outcome::NotAsked { why: NotAsked::NamespaceGone }
}

fn free(_: &PathKey) -> Option<&'static [(Account, u128)]> {
    Some(&[])
}

/// Fails once and confirms with `outcomes`.
fn confirm_with(outcomes: &[Outcome]) -> (Confirm, Option<Change>) {
    let mut confirm = Confirm::default();
    confirm.set_budget(30_000, Duration::from_secs(10));
    assert_eq!(confirm.observed(at(0), AFTER, &result(&path(1), Outcome::Timeout)), None);
    assert_eq!(confirm.due(), Some(at(200)));
    assert!(confirm.take_due(at(199), free).is_empty());
    assert_eq!(confirm.take_due(at(200), free), [path(1)]);
    let results = outcomes.iter().map(|outcome| result(&path(1), outcome.clone())).collect();
    let change = confirm.confirmed(&path(1), results);
    (confirm, change)
}

#[test]
fn two_of_three_make_it_suspected() {
    use Outcome::{Answered, Timeout};
    let table = [
        (vec![Timeout, Timeout, Timeout], true),
        (vec![Timeout, Answered, Timeout], true),
        (vec![Timeout, Answered, Answered], false),
        (vec![Answered, Answered, Answered], false),
        (vec![Timeout, not_asked(), not_asked()], false),
        (vec![Timeout, Timeout, not_asked()], true),
        (vec![], false),
    ];
    for (outcomes, suspected) in table {
        let (confirm, change) = confirm_with(&outcomes);
        assert_eq!(matches!(change, Some(Change::Suspected(_))), suspected, "{outcomes:?}");
        assert_eq!(confirm.suspects(&path(1)), suspected, "{outcomes:?}");
        if let Some(Change::Suspected(all)) = change {
            assert_eq!(all.len(), 1 + outcomes.len(), "the first failure belongs to the evidence");
        }
    }
}

#[test]
fn it_is_told_once_and_cleared_after_two_good_results_in_a_row() {
    let (mut confirm, change) = confirm_with(&[Outcome::Timeout, Outcome::Timeout, Outcome::Timeout]);
    assert!(change.is_some());
    let mut note = |outcome| confirm.observed(at(1000), AFTER, &result(&path(1), outcome));
    assert_eq!(note(Outcome::Timeout), None);
    assert_eq!(note(Outcome::Answered), None);
    assert_eq!(note(Outcome::Timeout), None, "not in a row");
    assert_eq!(note(Outcome::Answered), None);
    assert_eq!(note(not_asked()), None, "nothing learned, nothing lost");
    assert_eq!(note(Outcome::Answered), Some(Change::Cleared));
    assert_eq!(note(Outcome::Answered), None);
}

#[test]
fn a_good_round_before_the_confirmation_ends_it() {
    let mut confirm = Confirm::default();
    confirm.observed(at(0), AFTER, &result(&path(1), Outcome::Timeout));
    confirm.observed(at(100), AFTER, &result(&path(1), Outcome::Answered));
    assert_eq!(confirm.due(), None);
}

#[test]
fn a_path_that_is_gone_is_cleared_if_it_was_suspected() {
    let (mut confirm, _) = confirm_with(&[Outcome::Timeout, Outcome::Timeout, Outcome::Timeout]);
    confirm.observed(at(0), AFTER, &result(&path(2), Outcome::Timeout));
    assert_eq!(confirm.forget(|_| true), [path(1)]);
    assert_eq!(confirm.due(), None);
    assert_eq!(confirm.suspected().count(), 0);
}

#[test]
fn the_burst_budget_bounds_confirmations() {
    let mut confirm = Confirm::default();
    // A large cluster's share: six queries at once at most, that is two confirmations.
    confirm.set_budget(6, Duration::from_secs(10));
    let costs = [(Account::Server([10, 96, 0, 1].into()), QUERY)];
    for last in 0..20 {
        confirm.observed(at(0), AFTER, &result(&path(last), Outcome::Timeout));
    }
    assert_eq!(confirm.take_due(at(200), |_| Some(&costs[..])).len(), 2);
    assert_eq!(confirm.take_due(at(1300), |_| Some(&costs[..])).len(), 0);
    assert!(confirm.due().is_some(), "the others wait");
    assert_eq!(confirm.take_due(at(600_000), |_| Some(&costs[..])).len(), 1, "0.006/s bring 3 queries in 500 s");
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Answered), Just(Outcome::Timeout), Just(not_asked())]
}

proptest! {
    /// Whatever comes: suspicion and clearing alternate, and a suspicion has two failures of three behind it.
    #[test]
    fn never_suspected_without_two_of_three(rounds in proptest::collection::vec((outcome(), [outcome(), outcome(), outcome()]), 1..60)) {
        let mut confirm = Confirm::default();
        confirm.set_budget(30_000, Duration::from_secs(10));
        let mut standing = false;
        for (number, (round, probes)) in rounds.into_iter().enumerate() {
            let now = at(10_000 * u64::try_from(number).unwrap());
            if confirm.observed(now, AFTER, &result(&path(1), round)) == Some(Change::Cleared) {
                prop_assert!(standing);
                standing = false;
            }
            if confirm.take_due(now + AFTER, free).is_empty() {
                continue;
            }
            prop_assert!(!standing);
            let failed = probes.iter().filter(|one| one.good() == Some(false)).count();
            let results = probes.iter().map(|one| result(&path(1), one.clone())).collect();
            standing = confirm.confirmed(&path(1), results).is_some();
            prop_assert_eq!(standing, failed >= 2);
            prop_assert_eq!(confirm.suspects(&path(1)), standing);
        }
    }
}
