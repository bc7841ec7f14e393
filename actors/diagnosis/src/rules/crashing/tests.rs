#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use nameward_messages::Now;
use nameward_messages::probe::Outcome;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence};
use nameward_messages::workload::CorednsPodState;

use super::stands;
use crate::judge::judge;
use crate::rules::scenarios::to;
use crate::testing::process::{BIND_WORDS, COREFILE_WORDS, LOOP_WORDS, crashed, running};
use crate::testing::*;

fn now() -> Now {
    Now::at(Duration::from_secs(100))
}

/// CoreDNS A is refused by its pod's kernel, since nothing listens.
fn down(state: CorednsPodState) -> World {
    let by = Some(ip("10.244.1.51"));
    World::healthy()
        .paths(|p| to(p, DNS_A).then_some(Outcome::Refused { by }))
        .targets(|t| t.pods[0].ready = false)
        .with(|r| r.coredns = Arc::new(vec![state]))
}

pub(crate) fn ends(words: &str) -> World {
    down(crashed(now(), 5, 1, 1, words))
}

pub(crate) fn ends_at_a_stub() -> World {
    stub(down(crashed(now(), 5, 2, 1, "")))
}

fn stub(world: World) -> World {
    world.with(|r| {
        r.namespaces.get_mut(&uid(DNS_A)).unwrap().resolv.nameservers = vec![ip("127.0.0.53")];
    })
}

fn found(world: World) -> Vec<(Cause, Confidence)> {
    judge(&world.record()).findings.into_iter().map(|f| (f.cause, f.confidence)).collect()
}

#[test]
fn last_words_decide_for_certain() {
    let ended = |words| down(crashed(now(), 5, 1, 1, words));
    assert_eq!(found(ended(LOOP_WORDS)), [(Cause::CorednsLoop, Confidence::Certain)]);
    assert_eq!(found(ended(COREFILE_WORDS)), [(Cause::CorefileBroken, Confidence::Certain)]);
    assert_eq!(found(ended(BIND_WORDS)), [(Cause::CorefileBroken, Confidence::Certain)]);
}

#[test]
fn without_words_the_resolver_and_the_time_that_it_ran_tell() {
    assert_eq!(found(stub(down(crashed(now(), 5, 2, 1, "")))), [(Cause::CorednsLoop, Confidence::Probable)]);
    assert_eq!(found(down(crashed(now(), 5, 1, 1, ""))), [(Cause::CorefileBroken, Confidence::Probable)]);
    assert_eq!(found(down(crashed(now(), 5, 20, 1, ""))), [], "20 s: neither refused its Corefile nor could not bind");
    assert_eq!(found(stub(down(crashed(now(), 5, 600, 1, "")))), [], "it ran for ten minutes");
}

#[test]
fn what_is_read_between_two_lives_blames_no_process() {
    // It answered over TCP while it was up for a moment, and no socket is there now.
    let no_udp = |sample: &mut crate::record::Sample| {
        let table = nameward_kernel::facts::SocketTable { udp: Vec::new(), tcp_listen: vec![socket(53, 0, 0)] };
        sample.pods.get_mut(&uid(DNS_A)).unwrap().sockets = nameward_kernel::facts::Reading::Read(table);
    };
    let by = Some(ip("10.244.1.51"));
    let blip = |state: CorednsPodState| {
        World::healthy()
            .paths(|p| (to(p, DNS_A) && p.transport == Transport::Udp).then_some(Outcome::Refused { by }))
            .both(no_udp)
            .with(|r| r.coredns = Arc::new(vec![state]))
    };
    let first = CorednsPodState { restarts: 0, waiting: None, ..crashed(now(), 3, 600, 1, "") };
    assert_eq!(found(blip(first)), []);
    let back = CorednsPodState {
        running_since: Some(now().wall),
        ready: true,
        waiting: None,
        ..crashed(now(), 3, 600, 2, "")
    };
    assert_eq!(found(blip(back)), []);
    assert_eq!(found(blip(running())), [(Cause::CorednsUdpDead, Confidence::Certain)]);
}

#[test]
fn what_was_killed_or_panicked_is_neither() {
    for (code, words) in [(137, ""), (2, "panic: runtime error"), (0, ""), (1, "the disk is full")] {
        assert_eq!(found(down(crashed(now(), 5, 1, code, words))), [], "{code} {words}");
    }
}

#[test]
fn one_end_is_no_loop_and_a_pod_that_is_up_again_is_well() {
    let once = CorednsPodState { restarts: 0, waiting: None, ..crashed(now(), 5, 1, 1, COREFILE_WORDS) };
    assert!(!stands(&once, now()));
    assert_eq!(found(down(once)), []);
    let up = |seconds| CorednsPodState {
        ready: true,
        waiting: None,
        running_since: Some(now().wall.checked_sub(Duration::from_secs(seconds)).unwrap()),
        ..crashed(now(), 200, 1, 1, COREFILE_WORDS)
    };
    assert!(stands(&up(5), now()), "it may end again any moment");
    assert!(!stands(&up(25), now()));
    assert!(!stands(&CorednsPodState { terminating: true, ..crashed(now(), 5, 1, 1, COREFILE_WORDS) }, now()));
    assert!(!stands(&running(), now()));
}

#[test]
fn a_crash_alone_is_named_when_the_service_is_left_without_endpoints() {
    let by = Some(ip("10.244.1.1"));
    let text = std::fs::read_to_string(recordings().join("faults/no-endpoints.iptables-save.txt")).unwrap();
    let world = down(crashed(now(), 5, 1, 1, LOOP_WORDS))
        .targets(|t| t.pods.truncate(1))
        .both(crate::rules::scenarios::rules(text))
        .paths(|p| crate::rules::scenarios::is_service(p).then_some(Outcome::Refused { by }));
    let judgement = judge(&world.record());
    assert_eq!(judgement.findings.len(), 1, "{judgement:#?}");
    assert_eq!(judgement.findings[0].cause, Cause::CorednsLoop);
    assert!(judgement.open.iter().all(|p| !crate::rules::scenarios::is_service(p)));
}

#[test]
fn the_service_of_replicas_that_are_well_is_not_explained_by_one_that_crashes() {
    let world = down(crashed(now(), 5, 1, 1, LOOP_WORDS))
        .paths(|p| crate::rules::scenarios::is_service(p).then_some(Outcome::Timeout));
    let record = world.record();
    assert!(record.targets.pods.iter().any(|p| p.ready));
    let judgement = judge(&record);
    let crash = judgement.findings.iter().find(|f| f.cause == Cause::CorednsLoop).unwrap();
    assert!(crash.explains.iter().all(|p| !crate::rules::scenarios::is_service(p)));
}
