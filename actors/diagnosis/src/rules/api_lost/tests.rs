#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::Reading;
use nameward_messages::probe::{Outcome, QuestionKind};
use nameward_messages::verdict::{Cause, Confidence};

use crate::judge::judge;
use crate::process::{Ready, Way};
use crate::record::Sample;
use crate::rules::scenarios::to;
use crate::testing::process::{metrics, process};
use crate::testing::*;

/// CoreDNS A answers SERVFAIL for the cluster's names.
fn servfail() -> World {
    World::healthy()
        .paths(|p| (to(p, DNS_A) && p.question == QuestionKind::Internal).then_some(Outcome::Rcode { rcode: 2 }))
}

pub(crate) fn unsynced() -> World {
    servfail().both(waiting)
}

pub(crate) fn cut_off() -> World {
    servfail().both(no_way(true, false))
}

fn waiting(sample: &mut Sample) {
    process(sample).ready = Reading::Read(Ready::Waiting { plugins: vec!["kubernetes".to_owned()] });
}

fn no_way(inside: bool, host: bool) -> impl Fn(&mut Sample) {
    move |sample| {
        let Reading::Read(api) = &mut process(sample).api else { panic!("no ways") };
        let shut = |ways: &mut Vec<(std::net::SocketAddr, Way)>| {
            ways.iter_mut().for_each(|(_, way)| *way = Way::Shut { why: "no answer".to_owned() });
        };
        if inside {
            shut(&mut api.inside);
        }
        if host {
            shut(&mut api.host);
        }
    }
}

fn found(world: World) -> Vec<(Cause, Confidence, String)> {
    let judgement = judge(&world.record());
    let conclusion = |f: &crate::Finding| {
        f.evidence.iter().find(|e| e.read == "conclusion").map_or_else(String::new, |e| e.says.clone())
    };
    judgement.findings.iter().map(|f| (f.cause, f.confidence, conclusion(f))).collect()
}

fn certain(world: World, part: &str) {
    let found = found(world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].1), (Cause::CorednsApiLost, Confidence::Certain));
    assert!(found[0].2.contains(part), "{found:?}");
}

#[test]
fn the_reason_is_told_apart() {
    certain(servfail().both(waiting), "has never read all");
    certain(servfail().both(waiting).both(no_way(true, false)), "the way from the pod to the API is broken");
    certain(servfail().both(waiting).both(no_way(true, true)), "it is down, or out of reach");
    let rights = |n: u64| move |sample: &mut Sample| metrics(sample).api_refused = Some(n);
    certain(servfail().both(waiting).both(rights(3)).newest(rights(9)), "the rights of CoreDNS's service account");
    // The pod says that it is ready, as it does for ever once it was.
    certain(servfail().both(no_way(true, false)), "the way from the pod");
    certain(servfail().both(rights(3)).newest(rights(9)), "the rights of");
}

#[test]
fn what_speaks_against_it_dismisses_it() {
    assert_eq!(found(servfail()), [], "ready, and the API is reached");
    let unread = |sample: &mut Sample| {
        process(sample).ready = Reading::Failed("too slow".to_owned());
        process(sample).api = Reading::NotRead;
        process(sample).metrics = Reading::NotRead;
    };
    let probable = found(servfail().both(unread));
    assert_eq!((probable[0].0, probable[0].1), (Cause::CorednsApiLost, Confidence::Probable));
    let everything = World::healthy().paths(|p| to(p, DNS_A).then_some(Outcome::Rcode { rcode: 2 })).both(unread);
    assert_eq!(found(everything), [], "external names fail as well, and nothing could be read");
}

#[test]
fn a_pod_that_starts_is_given_its_time_and_another_outcome_is_no_matter() {
    let starting = servfail().both(waiting).with(|r| {
        r.starting.insert(uid(DNS_A));
    });
    assert_eq!(found(starting), []);
    let rolling = servfail().both(waiting).with(|r| r.rollout.in_progress = true);
    assert_eq!(found(rolling), []);
    let absent = World::healthy()
        .paths(|p| (to(p, DNS_A) && p.question == QuestionKind::Internal).then_some(Outcome::Rcode { rcode: 3 }))
        .both(waiting);
    assert!(found(absent).iter().all(|f| f.0 != Cause::CorednsApiLost));
}

#[test]
fn one_sample_is_not_enough() {
    let mut record = servfail().both(waiting).record();
    record.previous = None;
    record.samples = 1;
    assert_eq!(judge(&record).findings, []);
}

#[test]
fn while_the_api_is_down_what_answers_is_left_alone() {
    let world = World::healthy().both(no_way(true, true));
    assert_eq!(found(world), []);
}

fn old(outcome: &Outcome) -> World {
    let outcome = outcome.clone();
    World::healthy()
        .paths(move |p| (to(p, DNS_A) && p.question == QuestionKind::Internal).then(|| outcome.clone()))
        .with(|record| record.samples = 3)
}

#[test]
fn one_that_lost_the_api_later_answers_from_what_it_knew() {
    let nxdomain = Outcome::Rcode { rcode: 3 };
    let wrong = Outcome::WrongAnswer { got: vec![ip("10.96.0.99")] };
    for outcome in [&nxdomain, &wrong] {
        certain(old(outcome).both(no_way(true, false)), "before it lost the API");
        // It reaches the API: why it answers otherwise is not known, that it does is.
        assert!(found(old(outcome)).iter().all(|(cause, ..)| *cause != Cause::CorednsApiLost), "{outcome:?}");
        // Both say the same: then it is not this pod alone.
        let both = World::healthy()
            .paths(|p| (p.question == QuestionKind::Internal).then(|| outcome.clone()))
            .both(no_way(true, false));
        assert!(found(both).iter().all(|(cause, ..)| *cause != Cause::CorednsApiLost), "{outcome:?}");
    }
    // The way was shut for a moment.
    let once = old(&wrong).newest(no_way(true, false));
    assert!(found(once).iter().all(|(cause, ..)| *cause != Cause::CorednsApiLost));
}
