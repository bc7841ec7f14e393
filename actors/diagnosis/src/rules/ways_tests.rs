//! What asking in other ways changes: slow is not hung, and what patience brings is evidence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Observation, Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence};

use super::scenarios::scenarios;
use crate::judge::{Judgement, judge};
use crate::record::EvidenceRecord;
use crate::testing::*;

fn record_of(cause: Cause) -> EvidenceRecord {
    let found = scenarios().into_iter().find(|s| s.cause == cause && s.confidence == Confidence::Certain);
    found.unwrap().world.record()
}

/// The first suspected path that fits was asked in another way.
fn asked(record: &mut EvidenceRecord, purpose: Purpose, outcome: &Outcome, fits: impl Fn(&PathKey) -> bool) {
    let path = record.matrix.suspected().map(|(path, _)| path.clone()).find(|path| fits(path)).unwrap();
    let ms = u64::try_from(record.now.mono.0.as_millis()).unwrap() - 1_500;
    let seen = observation(path, outcome.clone(), ms, purpose);
    record.probes.push(Observation { latency: Duration::from_millis(2_300), ..seen });
}

fn lines(judgement: &Judgement) -> Vec<String> {
    let all = judgement.findings.iter().flat_map(|f| &f.evidence);
    all.map(|line| format!("{}: {}", line.read, line.says)).collect()
}

#[test]
fn what_answers_late_does_not_hang() {
    let to_a = |p: &PathKey| {
        p.target == dns(DNS_A)
            && p.vantage == Vantage::Host
            && p.transport == Transport::Udp
            && p.question == QuestionKind::Internal
    };
    let mut record = record_of(Cause::CorednsHung);
    asked(&mut record, Purpose::Patience, &Outcome::Timeout, to_a);
    assert_eq!(judge(&record).findings[0].cause, Cause::CorednsHung);
    asked(&mut record, Purpose::Patience, &Outcome::Answered, to_a);
    record.probes.last_mut().unwrap().at = at(99_500);
    let judgement = judge(&record);
    assert!(judgement.findings.iter().all(|f| f.cause != Cause::CorednsHung), "{judgement:#?}");
    let why = judgement.dismissed.iter().find(|r| r.what == "coredns-hung").map(|r| r.because.as_str());
    assert!(why.is_some_and(|why| why.contains("after 2300 ms")), "{why:?}");
}

#[test]
fn nothing_hangs_before_it_was_asked_with_patience() {
    let unasked = |mut record: EvidenceRecord| {
        record.probes.retain(|seen| seen.purpose != Purpose::Patience);
        judge(&record)
    };
    let early = unasked(record_of(Cause::CorednsHung));
    assert!(early.findings.is_empty(), "{early:#?}");
    assert!(early.waiting.iter().any(|(rule, why)| *rule == "coredns-hung" && why.contains("patience")));
    // It fails for long, and no such answer came: less sure.
    let found = scenarios().into_iter().find(|s| s.cause == Cause::CorednsHung);
    let late = unasked(found.unwrap().world.aged().record());
    assert_eq!(late.findings[0].cause, Cause::CorednsHung, "{late:#?}");
    assert_eq!(late.findings[0].confidence, Confidence::Probable, "{late:#?}");
}

#[test]
fn an_address_that_nobody_has_says_so_to_whom_is_patient() {
    let service = |p: &PathKey| p.target == service();
    let mut record = record_of(Cause::ServiceRulesStale);
    let by = Outcome::HostUnreachable { by: Some(ip("10.244.1.1")), icmp_type: Some(3), icmp_code: Some(1) };
    asked(&mut record, Purpose::Patience, &by, service);
    let judgement = judge(&record);
    assert!(lines(&judgement).iter().any(|l| l.contains("with 4 s of patience: unreachable")), "{judgement:#?}");
}

#[test]
fn a_pair_of_queries_is_shown_where_conntrack_loses_one() {
    let mut record = record_of(Cause::ConntrackInsertFailed);
    asked(&mut record, Purpose::Both, &Outcome::Timeout, |p| p.transport == Transport::Udp);
    let judgement = judge(&record);
    assert!(lines(&judgement).iter().any(|l| l.contains("A and AAAA from one socket")), "{judgement:#?}");
}

#[test]
fn what_nothing_explains_tells_how_it_was_asked() {
    let found = scenarios().into_iter().find(|s| s.cause == Cause::Unexplained);
    let mut record = found.unwrap().world.record();
    asked(&mut record, Purpose::Patience, &Outcome::Answered, |_| true);
    asked(&mut record, Purpose::Both, &Outcome::Timeout, |_| true);
    let lines = lines(&judge(&record));
    assert!(lines.iter().any(|l| l.contains("with 4 s of patience: answered after 2300 ms")), "{lines:#?}");
    assert!(lines.iter().any(|l| l.contains("A and AAAA from one socket: timeout")), "{lines:#?}");
}
