//! What looks like a fault of names and is none, or is another's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::Cause;

use super::names_scenarios::*;
use super::scenarios::{from, is_service, to};
use crate::judge::{Judgement, judge};
use crate::testing::*;

fn causes(judgement: &Judgement) -> Vec<Cause> {
    judgement.findings.iter().map(|f| f.cause).collect()
}

fn why<'a>(judgement: &'a Judgement, rule: &str) -> Option<&'a str> {
    judgement.dismissed.iter().find(|r| r.what == rule).map(|r| r.because.as_str())
}

fn waits(judgement: &Judgement, rule: &str) -> bool {
    judgement.waiting.iter().any(|(name, _)| *name == rule)
}

#[test]
fn healthy_is_healthy() {
    for world in [asked_all(), asked_large()] {
        assert_eq!(causes(&judge(&world.record())), []);
    }
}

#[test]
fn each_scenario_has_exactly_one_cause_and_none_after_a_single_sample() {
    for scenario in scenarios() {
        let mut record = scenario.world.record();
        let judgement = judge(&record);
        assert_eq!(causes(&judgement), [scenario.cause], "{}: {judgement:#?}", scenario.name);
        let finding = &judgement.findings[0];
        assert_eq!(finding.confidence, scenario.confidence, "{}: {finding:#?}", scenario.name);
        assert_eq!(finding.subject.name, scenario.subject, "{}", scenario.name);
        assert!(judgement.open.is_empty(), "{}: unexplained {:?}", scenario.name, judgement.open);
        assert!(judgement.deferred.is_empty(), "{}: {:?}", scenario.name, judgement.deferred);
        record.previous = None;
        record.samples = 1;
        assert_eq!(causes(&judge(&record)), [], "{}", scenario.name);
    }
}

#[test]
fn aaaa_that_is_lost_by_chance_says_nothing() {
    assert!(waits(&judge(&aaaa_of_pods_lost(&[98_000]).record()), "aaaa-broken"));
    let dying = aaaa_of_pods_lost(&[96_000, 97_000, 98_000])
        .paths(|p| (p.question == QuestionKind::Internal && to(p, DNS_B)).then_some(Outcome::Timeout));
    assert!(!causes(&judge(&dying.record())).contains(&Cause::AaaaBroken));
}

#[test]
fn pods_that_search_another_domain_are_not_mismatched() {
    let world = asked_all().paths(|p| (p.question == QuestionKind::Internal).then(nxdomain)).with(|r| {
        for namespace in r.namespaces.values_mut() {
            namespace.resolv.search = vec!["svc.corp.local".to_owned()];
        }
    });
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "zone-mismatch").unwrap().contains("corp.local"), "{judgement:#?}");
}

#[test]
fn one_replica_that_is_not_reached_is_not_a_zone() {
    let world = asked_all().paths(|p| match (p.question, to(p, DNS_A), to(p, DNS_B)) {
        (QuestionKind::Internal, true, _) => Some(nxdomain()),
        (_, _, true) => Some(Outcome::Timeout),
        _ => None,
    });
    let judgement = judge(&world.record());
    assert!(!causes(&judgement).contains(&Cause::ZoneMismatch), "{judgement:#?}");
}

#[test]
fn a_liar_on_another_node_is_that_nodes_to_name() {
    let world = asked_all().paths(|p| (to(p, DNS_B) && p.question == QuestionKind::Internal).then(wrong));
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.deferred.len(), 1);
    let world = asked_all().paths(|p| (to(p, DNS_B) && p.question == QuestionKind::OtherType).then(nxdomain));
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.deferred.len(), 1);
}

#[test]
fn wrong_over_udp_alone_is_not_coredns() {
    let world =
        asked_all().paths(|p| (p.question == QuestionKind::Internal && p.transport == Transport::Udp).then(wrong));
    let judgement = judge(&world.record());
    assert!(!causes(&judgement).contains(&Cause::WrongAnswer), "{judgement:#?}");
    assert!(why(&judgement, "wrong-answer").unwrap().contains("TCP"), "{judgement:#?}");
}

#[test]
fn aaaa_that_fails_with_a_is_not_aaaa() {
    let world = asked_all().paths(|p| {
        let both = matches!(p.question, QuestionKind::Internal | QuestionKind::OtherType);
        (from(p, CLIENT) && both).then_some(Outcome::Timeout)
    });
    assert!(!causes(&judge(&world.record())).contains(&Cause::AaaaBroken));
}

#[test]
fn an_upstream_that_loses_once_is_not_throttled_and_one_that_loses_all_is_dead() {
    let seldom = [vec![Outcome::Answered; 9], vec![Outcome::Timeout]].concat();
    let judgement = judge(&direct(flaky_outside(), &seldom, &[96_000]).record());
    assert_eq!(causes(&judgement), []);
    assert!(waits(&judgement, "upstream-throttled"), "{judgement:#?}");
    let dead =
        direct(flaky_outside(), &[Outcome::Timeout, Outcome::Timeout, Outcome::Timeout], &[93_000, 95_500, 98_000]);
    let upstream = server(TargetKind::Upstream, UPSTREAM);
    let dead = dead.asked(Vantage::Host, upstream.clone(), &Outcome::Timeout, &[93_000, 98_000]);
    assert_eq!(causes(&judge(&dead.record())), [Cause::UpstreamDead]);
    // An answer among losses, and the last was lost: neither dead nor, after so few, throttled.
    let world = flaky_outside().asked(pod_vantage(DNS_A), upstream.clone(), &Outcome::Answered, &[94_000]);
    let world = world.asked(pod_vantage(DNS_A), upstream, &Outcome::Timeout, &[95_500, 98_000]);
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "upstream-dead").is_some(), "{judgement:#?}");
}

#[test]
fn what_was_lost_before_a_mend_ends_after_what_was_answered_behind_it() {
    let upstream = server(TargetKind::Upstream, UPSTREAM);
    // All of one request: four time out, sent before; the others answer, sent just after.
    let world = flaky_outside().asked(pod_vantage(DNS_A), upstream.clone(), &Outcome::Timeout, &[93_000, 95_500]);
    let world = [Outcome::Timeout, Outcome::Timeout, Outcome::Answered, Outcome::Answered, Outcome::Answered]
        .iter()
        .fold(world, |world, outcome| world.asked(pod_vantage(DNS_A), upstream.clone(), outcome, &[97_900, 98_000]));
    let mut record = world.record();
    assert_eq!(causes(&judge(&record)), [Cause::UpstreamThrottled]);
    for lost in record.probes.iter_mut().filter(|seen| seen.outcome == Outcome::Timeout) {
        lost.latency = Duration::from_secs(1);
    }
    assert_eq!(causes(&judge(&record)), []);
}

#[test]
fn a_network_that_loses_is_not_an_upstream() {
    let lost = [Outcome::Answered, Outcome::Answered, Outcome::Timeout, Outcome::Timeout, Outcome::Timeout];
    let world = direct(flaky_outside(), &lost, &[93_000, 95_500, 98_000])
        .paths(|p| (to(p, DNS_B) && p.question == QuestionKind::Internal).then_some(Outcome::Timeout));
    assert!(!causes(&judge(&world.record())).contains(&Cause::UpstreamThrottled));
}

#[test]
fn a_proxy_in_the_pod_is_no_missing_stub() {
    // It listens, and is silent for a while.
    let world = resolver(asked_all(), &["127.0.0.1"], &Outcome::Timeout);
    let judgement = judge(&world.record());
    assert!(!causes(&judgement).contains(&Cause::LoopbackNameserver), "{judgement:#?}");
}

#[test]
fn a_long_list_harms_nobody_when_one_that_is_read_knows() {
    let servers = ["10.3.0.1", "10.3.0.2", "10.3.0.3", "10.96.0.10"];
    let good = resolver(asked_all(), &servers, &Outcome::Answered);
    assert_eq!(causes(&judge(&good.record())), []);
    let target = server(TargetKind::Nameserver, "10.3.0.1");
    let path = path(pod_vantage(CLIENT), target, Transport::Udp, QuestionKind::Internal);
    let one = resolver(asked_all(), &servers, &Outcome::Answered).path(path, Outcome::Timeout);
    let judgement = judge(&one.record());
    assert_eq!(causes(&judgement), [], "{judgement:#?}");
}

#[test]
fn a_host_network_pod_is_well_when_the_nodes_resolver_knows() {
    let judgement = judge(&misfit(&Outcome::Answered, &[96_000, 98_500]).record());
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "host-network-dns-policy").is_some());
    assert!(waits(&judge(&misfit(&nxdomain(), &[98_500]).record()), "host-network-dns-policy"));
    let own = misfit(&nxdomain(), &[96_000, 98_500]).with(|r| {
        std::sync::Arc::make_mut(&mut r.misfits)[0].dns_nameservers = vec![ip("10.96.0.10")];
    });
    assert_eq!(causes(&judge(&own.record())), []);
}

#[test]
fn a_host_network_pod_is_told_nothing_by_one_sample_alone() {
    use nameward_kernel::facts::Reading;
    use nameward_messages::verdict::Confidence;
    type Row = (&'static str, Reading<Vec<std::net::IpAddr>>, &'static [u64], Confidence);
    let unread = || Reading::NotPermitted("/etc/resolv.conf".to_owned());
    let rows: Vec<Row> = vec![
        ("asked twice", Reading::Read(vec![ip(UPSTREAM)]), &[96_000, 98_500], Confidence::Certain),
        ("it names nobody", Reading::Read(Vec::new()), &[], Confidence::Probable),
        ("it cannot be read", unread(), &[], Confidence::Probable),
    ];
    for (what, servers, times, confidence) in rows {
        let world = misfit(&nxdomain(), times).both(|s| s.host.nameservers = servers.clone());
        let mut record = world.record();
        let judgement = judge(&record);
        let found: Vec<_> = judgement.findings.iter().map(|f| (f.cause, f.confidence)).collect();
        assert_eq!(found, [(Cause::HostNetworkDnsPolicy, confidence)], "{what}: {judgement:#?}");
        record.previous = None;
        let judgement = judge(&record);
        assert_eq!(causes(&judgement), [], "{what}");
        assert!(waits(&judgement, "host-network-dns-policy"), "{what}: {judgement:#?}");
    }
    // Asked twice, but at once.
    let record = misfit(&nxdomain(), &[98_000, 98_500]).record();
    assert!(waits(&judge(&record), "host-network-dns-policy"));
}

#[test]
fn big_answers_that_are_lost_elsewhere_are_the_other_nodes_to_explain() {
    // Nothing on this node is narrow.
    let judgement = judge(&big_lost().record());
    assert!(!causes(&judgement).contains(&Cause::FragmentsLost), "{judgement:#?}");
    assert_eq!(judgement.deferred.len(), 1);
    // A server that gives no big answer to anybody.
    let nobody = narrow_uplink(asked_large())
        .paths(|p| (p.question == QuestionKind::Large && p.transport == Transport::Udp).then_some(Outcome::Timeout));
    let judgement = judge(&nobody.record());
    assert!(why(&judgement, "fragments-lost").is_some(), "{judgement:#?}");
}

#[test]
fn tcp_that_one_far_pod_refuses_is_its_nodes_to_judge() {
    let world = asked_all().paths(|p| (to(p, DNS_B) && p.transport == Transport::Tcp).then_some(Outcome::Timeout));
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.deferred.len(), 1);
}

#[test]
fn a_cut_answer_says_that_it_harms_now() {
    let large = path(pod_vantage(CLIENT), service(), Transport::Udp, QuestionKind::Large);
    let world = tcp_lost().with(|r| {
        r.probes.push(observation(large, Outcome::Truncated, 97_000, Purpose::Diagnosis));
    });
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), [Cause::Tcp53Blocked], "{judgement:#?}");
    assert!(judgement.findings[0].evidence.iter().any(|line| line.says == "truncated"), "{judgement:#?}");
}

#[test]
fn other_kinds_never_blame_a_process() {
    let kinds = [QuestionKind::Held, QuestionKind::OtherType, QuestionKind::Reverse, QuestionKind::Absent];
    for kind in kinds {
        for outcome in [Outcome::Timeout, Outcome::Refused { by: None }, Outcome::Rcode { rcode: 2 }] {
            let failing = |p: &PathKey| p.question == kind && (to(p, DNS_A) || is_service(p));
            let judgement = judge(&asked_all().paths(|p| failing(p).then(|| outcome.clone())).aged().record());
            let never = [Cause::CorednsUdpDead, Cause::CorednsUdpStuck, Cause::CorednsHung, Cause::CorednsUdpFiltered];
            assert!(
                !causes(&judgement).iter().any(|cause| never.contains(cause)),
                "{kind:?} {outcome}: {judgement:#?}"
            );
            assert_eq!(causes(&judgement).len(), 1, "{kind:?} {outcome}: named or unexplained {judgement:#?}");
        }
    }
}

#[test]
fn what_else_is_asked_on_a_way_fails_with_it() {
    let world = asked_all().paths(|p| from(p, CLIENT).then_some(Outcome::Timeout)).both(|s| {
        let veth = links::host(s).links.iter_mut().find(|l| l.name == "veth2fe33054").unwrap();
        (veth.master, veth.port) = (None, None);
    });
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), [Cause::VethOffBridge]);
    assert!(judgement.open.is_empty(), "{:?}", judgement.open);
}
