//! Clashes in conntrack that have nothing to do with what fails: on a busy node there are always some.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{ConntrackStat, Reading};
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence, Subject};

use super::scenarios::{Scenario, external, is_service, scenarios, to};
use crate::judge::{Judgement, judge};
use crate::record::{EvidenceRecord, Sample};
use crate::testing::service::{clashing, conntrack};
use crate::testing::*;

/// Adds to what conntrack counts.
fn clashes(failed: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        let mut stat = sample.host.conntrack.value().cloned().unwrap_or_default();
        for counter in ["insert_failed", "drop"] {
            *stat.0.entry(counter.to_owned()).or_default() += failed;
        }
        sample.host.conntrack = Reading::Read(ConntrackStat(stat.0));
    }
}

/// Every path by UDP that is silent was asked again between the samples, and lost.
fn asked_between(record: &mut EvidenceRecord, each: u64) {
    let silent = |path: &PathKey, last: &Outcome| path.transport == Transport::Udp && *last == Outcome::Timeout;
    let paths: Vec<PathKey> =
        record.matrix.suspected().filter(|(path, s)| silent(path, &s.last)).map(|(path, _)| path.clone()).collect();
    for (path, n) in paths.iter().flat_map(|path| (0..each).map(move |n| (path, n))) {
        record.probes.push(observation(path.clone(), Outcome::Timeout, 96_500 + n, Purpose::Diagnosis));
    }
}

#[test]
fn what_clashes_beside_it_takes_no_fault_away() {
    let all = |judgement: &Judgement| -> Vec<(Cause, Subject)> {
        judgement.findings.iter().map(|f| (f.cause, f.subject.clone())).collect()
    };
    let told = |scenario: &Scenario| {
        !matches!(scenario.cause, Cause::ConntrackFull | Cause::ConntrackInsertFailed | Cause::Unexplained)
    };
    let busy = scenarios().into_iter().filter(told);
    for (quiet, busy) in scenarios().into_iter().filter(told).zip(busy) {
        let (quiet, mut record) = (quiet.world.record(), busy.world.both(clashes(7)).newest(clashes(60)).record());
        // As many clashes as are needed to account for our losses, and many more.
        asked_between(&mut record, 1);
        let found = judge(&record);
        assert_eq!(all(&found), all(&judge(&quiet)), "{}: {found:#?}", busy.name);
    }
}

#[test]
fn a_server_that_hangs_on_a_node_with_clashes_is_named_and_they_are_not() {
    let hung = |s: &super::scenarios::Scenario| s.cause == Cause::CorednsHung && s.confidence == Confidence::Certain;
    let world = || scenarios().into_iter().find(hung).unwrap().world;
    for failed in [3, 8, 400] {
        let mut record = world().both(conntrack(7, 7, 900)).newest(conntrack(7 + failed, 7 + failed, 900)).record();
        asked_between(&mut record, 1);
        let judgement = judge(&record);
        let found: Vec<Cause> = judgement.findings.iter().map(|f| f.cause).collect();
        assert_eq!(found, [Cause::CorednsHung], "{failed}: {judgement:#?}");
        assert!(judgement.open.is_empty(), "{failed}: {:?}", judgement.open);
    }
}

#[test]
fn external_names_that_fail_alone_do_not_clash() {
    let world = World::healthy().paths(|p| {
        let late = external(p) && (to(p, DNS_A) || is_service(p)) && p.transport == Transport::Udp;
        late.then_some(Outcome::Timeout)
    });
    let mut record = world.both(conntrack(7, 7, 900)).newest(conntrack(90, 90, 900)).record();
    asked_between(&mut record, 2);
    assert!(judge(&record).findings.iter().all(|f| f.cause != Cause::ConntrackInsertFailed));
}

#[test]
fn clashes_that_are_mostly_of_others_are_less_sure_where_nothing_passes() {
    let sure = |failed: u64, answered: bool| {
        let mut world = clashing().both(conntrack(7, 7, 900)).newest(conntrack(7 + failed, 7 + failed, 900));
        if answered {
            // One of four came through: that is what a race does.
            let question = QuestionKind::Internal;
            let path = PathKey { vantage: Vantage::Host, target: dns(DNS_B), transport: Transport::Udp, question };
            for p in [dns(DNS_B), service()] {
                let path = PathKey { target: p, ..path.clone() };
                world.record.probes.push(observation(path, Outcome::Answered, 96_900, Purpose::Diagnosis));
            }
        }
        let judgement = judge(&world.record());
        assert_eq!(judgement.findings.iter().map(|f| f.cause).collect::<Vec<_>>(), [Cause::ConntrackInsertFailed]);
        judgement.findings[0].confidence
    };
    assert_eq!(sure(5, false), Confidence::Certain, "three of ours, five clashes");
    assert_eq!(sure(500, false), Confidence::Probable);
    assert_eq!(sure(500, true), Confidence::Certain);
}
