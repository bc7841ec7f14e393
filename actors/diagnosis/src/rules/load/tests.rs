#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_kernel::cgroup::figures::CgroupFigures;
use nameward_kernel::facts::{Reading, SocketTable};
use nameward_messages::Now;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, Purpose, QuestionKind, Suspicion};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence};

use super::ndots;
use crate::judge::judge;
use crate::record::{Health, Sample};
use crate::rules::coredns::host_path;
use crate::rules::scenarios::{is_service, to};
use crate::testing::process::{metrics, process};
use crate::testing::*;

pub(crate) fn throttled() -> World {
    late().both(quota(100, 50)).newest(quota(135, 83))
}

pub(crate) fn overflowing() -> World {
    lossy().both(full(0)).newest(full(1744)).both(|sample| {
        metrics(sample);
    })
}

pub(crate) fn searched() -> World {
    loaded(6).both(answered(1_000, 800)).newest(answered(1_900, 1_620))
}

fn found(world: World) -> Vec<(Cause, Confidence)> {
    judge(&world.record()).findings.into_iter().map(|f| (f.cause, f.confidence)).collect()
}

fn none_of(world: World, cause: Cause) {
    let found = found(world);
    assert!(found.iter().all(|f| f.0 != cause), "{found:?}");
}

/// CoreDNS A is silent over both transports, late by all accounts.
fn late() -> World {
    World::healthy().paths(|p| {
        to(p, DNS_A).then(|| if p.transport == Transport::Udp { Outcome::Timeout } else { Outcome::ConnectedOnly })
    })
}

/// Of the 35 periods of the lab's measurement (`cpu.stat` under a quota of 1 %) 33 were throttled.
fn quota(periods: u64, throttled: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        process(sample).cgroup = Reading::Read(CgroupFigures {
            periods: Some(periods),
            throttled: Some(throttled),
            throttled_us: Some(throttled * 90_000),
            ..CgroupFigures::default()
        });
    }
}

#[test]
fn a_quota_that_runs_out_is_named_by_the_cgroup() {
    let world = late().both(quota(100, 50)).newest(quota(135, 83));
    assert_eq!(found(world), [(Cause::CorednsThrottled, Confidence::Certain)]);
    none_of(late().both(quota(100, 50)).newest(quota(115, 52)), Cause::CorednsThrottled);
    // A burst of our own reading, in a process that is idle: one period, and throttled in it.
    none_of(late().both(quota(100, 50)).newest(quota(101, 51)), Cause::CorednsThrottled);
    // Throttled in most periods, and for no time to speak of.
    let for_an_instant = |sample: &mut Sample| {
        if let Reading::Read(figures) = &mut process(sample).cgroup {
            figures.throttled_us = Some(50 * 90_000);
        }
    };
    let short = late().both(quota(100, 50)).newest(quota(135, 83)).both(for_an_instant);
    none_of(short, Cause::CorednsThrottled);
}

#[test]
fn a_process_that_stops_and_goes_is_not_throttled_without_its_cgroup() {
    // Queues stand and /health hangs, as under a duty cycle of SIGSTOP and SIGCONT: the cgroup is not visible.
    let stopped = |sample: &mut Sample| {
        let pod = sample.pods.get_mut(&uid(DNS_A)).unwrap();
        pod.sockets = Reading::Read(SocketTable { udp: vec![socket(53, 768, 0)], tcp_listen: vec![socket(53, 3, 0)] });
        pod.health = Reading::Read(Health::Silent);
    };
    none_of(late().both(stopped), Cause::CorednsThrottled);
    // And with a cgroup that has a quota which never runs out.
    none_of(late().both(stopped).both(quota(100, 0)).newest(quota(135, 0)), Cause::CorednsThrottled);
    // Nor where it has no quota at all.
    let none = |sample: &mut Sample| process(sample).cgroup = Reading::Read(CgroupFigures::default());
    none_of(late().both(stopped).both(none), Cause::CorednsThrottled);
}

/// Over UDP CoreDNS A answers some and loses the host's queries; over TCP it answers.
fn lossy() -> World {
    World::healthy().paths(|p| {
        (to(p, DNS_A) && p.transport == Transport::Udp && p.vantage == Vantage::Host).then_some(Outcome::Timeout)
    })
}

/// As measured: 1744 of 2000 datagrams dropped, the queue near `net.core.rmem_default`.
fn full(drops: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        sample.pods.get_mut(&uid(DNS_A)).unwrap().sockets =
            Reading::Read(SocketTable { udp: vec![socket(53, 212_160, drops)], tcp_listen: vec![socket(53, 0, 0)] });
    }
}

#[test]
fn an_overflow_is_named_only_while_the_process_reads() {
    assert_eq!(found(overflowing()), [(Cause::CorednsReceiveOverflow, Confidence::Certain)]);
    // The reader has stopped: its own counter of queries stands still.
    let still = |sample: &mut Sample| metrics(sample).udp_requests = Some(100);
    let stuck = lossy().both(full(0)).newest(full(1744)).both(still);
    assert_eq!(found(stuck), [(Cause::CorednsUdpStuck, Confidence::Certain)]);
    // Without its counters, others that are answered tell that it reads.
    let unread = |sample: &mut Sample| process(sample).metrics = Reading::NotRead;
    assert_eq!(
        found(lossy().both(full(0)).newest(full(9)).both(unread)),
        [(Cause::CorednsReceiveOverflow, Confidence::Probable)]
    );
    none_of(lossy(), Cause::CorednsReceiveOverflow);
}

#[test]
fn a_process_that_is_coming_back_is_neither_stuck_nor_slow() {
    // It hung, has been let go, and has answered once over TCP: what the samples show is of before.
    let returning = |world: World| {
        let mut record = world.record();
        let tcp = host_path(record.dns_pod(&uid(DNS_A)).unwrap(), ip("10.244.1.51"), Transport::Tcp);
        let failed = observation(tcp.clone(), Outcome::ConnectedOnly, 98_500, Purpose::Confirm);
        let at = Now::at(Duration::from_millis(98_500));
        record.matrix.suspect(&Suspicion { at, path: tcp.clone(), observations: vec![failed] });
        record.matrix.observe(&observation(tcp, Outcome::Answered, 99_000, Purpose::Round));
        record
    };
    let causes = |record| judge(&record).findings.into_iter().map(|f| f.cause).collect::<Vec<_>>();
    assert_eq!(causes(overflowing().record()), [Cause::CorednsReceiveOverflow]);
    assert_eq!(causes(returning(overflowing())), []);
    let still = |sample: &mut Sample| metrics(sample).udp_requests = Some(100);
    let stuck = || lossy().both(full(0)).newest(full(1744)).both(still);
    assert_eq!(causes(stuck().record()), [Cause::CorednsUdpStuck]);
    assert_eq!(causes(returning(stuck())), []);
}

#[test]
fn a_lost_way_to_the_pod_overflows_nothing() {
    let silent = World::healthy().paths(|p| to(p, DNS_A).then_some(Outcome::Timeout)).both(full(0)).newest(full(1744));
    none_of(silent, Cause::CorednsReceiveOverflow);
}

/// Queries to the Service are lost now and then, those to CoreDNS A are answered.
fn loaded(search: usize) -> World {
    World::healthy()
        .paths(|p| {
            (is_service(p) && p.question == QuestionKind::Internal && p.vantage == Vantage::Host)
                .then_some(Outcome::Timeout)
        })
        .with(|record| {
            let names = [
                "default.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local",
                "corp.example",
                "a.example",
                "b.example",
            ];
            for pod in [CLIENT, CLIENT2] {
                record.namespaces.get_mut(&uid(pod)).unwrap().resolv.search =
                    names.iter().take(search).map(|name| (*name).to_owned()).collect();
            }
        })
}

fn answered(all: u64, absent: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        metrics(sample).responses = [("NOERROR".to_owned(), all - absent), ("NXDOMAIN".to_owned(), absent)].into();
    }
}

#[test]
fn search_lists_are_named_when_most_answers_are_for_names_that_do_not_exist() {
    let world = |search| loaded(search).both(answered(1_000, 800)).newest(answered(1_900, 1_620));
    assert_eq!(found(world(6)), [(Cause::SearchAmplification, Confidence::Probable)]);
    none_of(world(1), Cause::SearchAmplification);
    none_of(loaded(6).both(answered(1_000, 800)).newest(answered(1_900, 1_100)), Cause::SearchAmplification);
    none_of(loaded(6).both(answered(1_000, 800)).newest(answered(1_010, 810)), Cause::SearchAmplification);
}

#[test]
fn a_process_that_answers_others_does_not_hang_and_has_not_stopped_reading() {
    // Full queues and silence towards the host, as of one that is asked too much.
    let busy = |sample: &mut Sample| {
        sample.pods.get_mut(&uid(DNS_A)).unwrap().sockets =
            Reading::Read(SocketTable { udp: vec![socket(53, 1664, 0)], tcp_listen: vec![socket(53, 3, 0)] });
        metrics(sample);
    };
    none_of(late().both(busy), Cause::CorednsHung);
    none_of(lossy().both(busy), Cause::CorednsUdpStuck);
}

#[test]
fn a_high_share_that_hurts_nobody_is_no_fault() {
    let well = World::healthy().both(answered(1_000, 800)).newest(answered(1_900, 1_700));
    assert_eq!(found(well), []);
}

#[test]
fn ndots_as_resolvers_read_it() {
    let of = |options: &[&str]| ndots(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>());
    assert_eq!((of(&[]), of(&["ndots:5"]), of(&["edns0", "ndots:99"]), of(&["ndots:x"])), (1, 5, 15, 1));
}
