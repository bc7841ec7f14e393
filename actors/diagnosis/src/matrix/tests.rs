#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_messages::Now;
use nameward_messages::namespaces::Vantage;
use nameward_messages::targets::Target;

use super::*;
use crate::testing::{CLIENT, CLIENT2, DNS_A, dns, ip, observation, pod_vantage, server, service};

fn path(vantage: Vantage, target: Target) -> PathKey {
    PathKey { vantage, target, transport: Transport::Udp, question: QuestionKind::Internal }
}

fn round(number: u64, results: &[(&PathKey, Outcome)]) -> Round {
    let now = Now::at(Duration::from_secs(10 * number));
    let observations =
        results.iter().map(|(p, o)| observation((*p).clone(), o.clone(), 10_000 * number, Purpose::Round)).collect();
    Round { number, began: now, ended: now, period: Duration::from_secs(10), observations }
}

fn suspicion(seconds: u64, path: &PathKey) -> Suspicion {
    let failed = observation(path.clone(), Outcome::Timeout, seconds * 1000, Purpose::Confirm);
    Suspicion { at: Now::at(Duration::from_secs(seconds)), path: path.clone(), observations: vec![failed] }
}

fn is_suspected(matrix: &Matrix, path: &PathKey) -> bool {
    matrix.get(path).is_some_and(|s| s.suspected.is_some())
}

#[test]
fn a_lost_suspected_and_a_lost_cleared_are_made_good_by_rounds() {
    let p = path(Vantage::Host, dns(DNS_A));
    let mut matrix = Matrix::default();
    for number in 1..=2 {
        matrix.round(&round(number, &[(&p, Outcome::Timeout)]));
        assert!(!is_suspected(&matrix, &p), "one failure or two are not yet a suspicion of ours");
    }
    matrix.round(&round(3, &[(&p, Outcome::Timeout)]));
    assert!(is_suspected(&matrix, &p));
    matrix.round(&round(4, &[(&p, Outcome::Answered)]));
    assert!(is_suspected(&matrix, &p));
    matrix.round(&round(5, &[(&p, Outcome::Answered)]));
    assert!(!is_suspected(&matrix, &p));
}

#[test]
fn cleared_and_gone() {
    let p = path(Vantage::Host, dns(DNS_A));
    let mut matrix = Matrix::default();
    matrix.suspect(&suspicion(5, &p));
    assert!(is_suspected(&matrix, &p));
    matrix.clear(&p, true);
    assert!(!is_suspected(&matrix, &p) && matrix.get(&p).is_some());
    matrix.suspect(&suspicion(6, &p));
    matrix.clear(&p, false);
    assert!(matrix.get(&p).is_none());
}

#[test]
fn an_old_suspicion_that_is_told_again_is_not_believed_against_newer_rounds() {
    let p = path(Vantage::Host, dns(DNS_A));
    let mut matrix = Matrix::default();
    for number in 1..=2 {
        matrix.round(&round(number, &[(&p, Outcome::Answered)]));
    }
    matrix.suspect(&suspicion(5, &p));
    assert!(!is_suspected(&matrix, &p));
    matrix.suspect(&suspicion(25, &p));
    assert!(is_suspected(&matrix, &p));
}

#[test]
fn a_path_that_is_asked_no_more_is_forgotten() {
    let (p, q) = (path(Vantage::Host, dns(DNS_A)), path(Vantage::Host, service()));
    let mut matrix = Matrix::default();
    matrix.suspect(&suspicion(5, &p));
    matrix.round(&round(6, &[(&q, Outcome::Answered)]));
    assert!(matrix.get(&p).is_some());
    matrix.round(&round(7, &[(&q, Outcome::Answered)]));
    assert!(matrix.get(&p).is_none());
}

#[test]
fn what_was_not_asked_says_nothing() {
    let p = path(Vantage::Host, dns(DNS_A));
    let mut matrix = Matrix::default();
    let gone = Outcome::NotAsked { why: nameward_messages::probe::NotAsked::NamespaceGone };
    matrix.round(&round(1, &[(&p, gone)]));
    assert!(matrix.get(&p).is_none());
}

#[test]
fn the_digest_counts_vantages_and_names_the_frequent_outcome() {
    let mut matrix = Matrix::default();
    let refused = Outcome::Refused { by: None };
    let paths = [
        (path(pod_vantage(CLIENT), dns(DNS_A)), Outcome::Timeout),
        (path(pod_vantage(CLIENT2), dns(DNS_A)), refused.clone()),
        (path(pod_vantage(DNS_A), dns(DNS_A)), refused),
        (path(Vantage::Host, dns(DNS_A)), Outcome::Answered),
        (path(pod_vantage(CLIENT), service()), Outcome::Answered),
    ];
    let results: Vec<_> = paths.iter().map(|(p, o)| (p, o.clone())).collect();
    matrix.round(&round(1, &results));
    matrix.suspect_failing();
    let digest = matrix.digest();
    let rows: Vec<_> = digest.rows.iter().map(|r| (r.target.as_str(), r.from, r.good, r.bad, r.outcome)).collect();
    assert_eq!(
        rows,
        [
            ("pod", VantageKind::Host, 1, 0, None),
            ("pod", VantageKind::Pod, 0, 3, Some(OutcomeKind::Refused)),
            ("service", VantageKind::Pod, 1, 0, None),
        ]
    );
    // What fails has no time of an answer.
    assert_eq!(digest.rows.iter().map(|row| row.latency_us.is_some()).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_long_digest_keeps_what_fails() {
    let mut matrix = Matrix::default();
    let mut results = Vec::new();
    for n in 0..200u8 {
        let target = server(TargetKind::Nameserver, &format!("192.0.2.{n}"));
        results.push((path(Vantage::Host, target), if n >= 190 { Outcome::Timeout } else { Outcome::Answered }));
    }
    let borrowed: Vec<_> = results.iter().map(|(p, o)| (p, o.clone())).collect();
    matrix.round(&round(1, &borrowed));
    matrix.suspect_failing();
    let rows = matrix.digest().rows;
    assert_eq!(rows.len(), DIGEST_ROWS);
    assert_eq!(rows.iter().filter(|r| r.bad > 0).count(), 10);
    assert!(rows.is_sorted());
    assert!(rows.iter().any(|r| r.ip == ip("192.0.2.199")));
}
