#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use nameward_kernel::facts::Reading;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::Cause;

use super::scenarios::{from, is_service, rules, scenarios, to};
use crate::judge::{Judgement, judge};
use crate::record::Health;
use crate::testing::*;

fn causes(judgement: &Judgement) -> Vec<Cause> {
    judgement.findings.iter().map(|f| f.cause).collect()
}

fn why<'a>(judgement: &'a Judgement, rule: &str) -> Option<&'a str> {
    judgement.dismissed.iter().find(|r| r.what == rule).map(|r| r.because.as_str())
}

#[test]
fn each_scenario_has_exactly_one_cause() {
    for scenario in scenarios() {
        let record = scenario.world.record();
        let judgement = judge(&record);
        assert_eq!(causes(&judgement), [scenario.cause], "{}: {judgement:#?}", scenario.name);
        let finding = &judgement.findings[0];
        assert_eq!(finding.confidence, scenario.confidence, "{}: {finding:#?}", scenario.name);
        assert_eq!(finding.subject.name, scenario.subject, "{}", scenario.name);
        assert!(!finding.evidence.is_empty(), "{}", scenario.name);
        assert!(finding.cause == Cause::Unexplained || !finding.ruled_out.is_empty(), "{}", scenario.name);
        assert!(judgement.open.is_empty(), "{}: unexplained {:?}", scenario.name, judgement.open);
        assert!(judgement.deferred.is_empty(), "{}: {:?}", scenario.name, judgement.deferred);
    }
}

#[test]
fn every_cause_has_a_scenario() {
    // Two are the coordinator's to name: their tables are there.
    let elsewhere =
        [Cause::EndpointOnDeadNode, Cause::NodePairBlocked, Cause::CorednsPending, Cause::ReplicasOnOneNode];
    let shown: BTreeSet<Cause> = scenarios().into_iter().map(|s| s.cause).chain(elsewhere).collect();
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), Cause::ALL);
    let listed: BTreeSet<Cause> = crate::causes().into_iter().map(|c| c.cause).collect();
    assert_eq!(listed.into_iter().collect::<Vec<_>>(), Cause::ALL);
}

#[test]
fn nothing_is_a_verdict_after_a_single_sample() {
    for scenario in scenarios() {
        // How often a container ended is the API's own count, and no sample is read for it.
        if matches!(scenario.cause, Cause::CorednsOomKilled | Cause::CorednsLoop | Cause::CorefileBroken) {
            continue;
        }
        let mut record = scenario.world.record();
        record.previous = None;
        record.samples = 1;
        if scenario.cause == Cause::UpstreamDead {
            record.probes.retain(|o| o.at < at(96_000));
        }
        let judgement = judge(&record);
        assert_eq!(causes(&judgement), [], "{}", scenario.name);
    }
}

#[test]
fn samples_too_close_together_confirm_nothing() {
    let dead = scenarios().remove(0).world;
    let mut record = dead.record();
    let mut close = (**record.current.as_ref().unwrap()).clone();
    close.at = at(96_500);
    record.current = Some(std::sync::Arc::new(close));
    let judgement = judge(&record);
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.waiting[0].0, "coredns-udp-dead");
}

#[test]
fn the_healthy_world_has_no_verdict() {
    let judgement = judge(&World::healthy().record());
    assert_eq!(judgement, Judgement::default());
}

#[test]
fn a_rollout_a_start_and_an_end_excuse_the_pod() {
    let dead = || scenarios().remove(0).world;
    let record = dead().with(|r| r.rollout.in_progress = true).record();
    let judgement = judge(&record);
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "coredns-udp-dead").unwrap().contains("rollout"));
    assert!(judgement.open.is_empty());
    let judgement = judge(&dead().targets(|t| t.pods[0].terminating = true).record());
    assert_eq!((causes(&judgement), judgement.open.len()), (vec![], 0));
    let judgement = judge(&dead().with(|r| r.starting.extend([uid(DNS_A)])).record());
    assert_eq!((causes(&judgement), judgement.open.len()), (vec![], 0));
}

#[test]
fn another_nodes_pod_is_left_to_its_node() {
    let record = World::healthy()
        .paths(|p| {
            (p.transport == Transport::Udp && (to(p, DNS_B) || (is_service(p) && from(p, CLIENT))))
                .then_some(Outcome::Timeout)
        })
        .record();
    let judgement = judge(&record);
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.deferred.len(), 1);
    assert_eq!(judgement.deferred[0].to_node.as_str(), "node2");
    assert!(judgement.open.is_empty(), "{:?}", judgement.open);
}

#[test]
fn one_vantage_that_does_not_reach_another_nodes_pod_is_not_the_pods_fault() {
    let record = World::healthy().paths(|p| (to(p, DNS_B) && from(p, CLIENT)).then_some(Outcome::Timeout)).record();
    let judgement = judge(&record);
    assert!(judgement.deferred.is_empty());
    assert_eq!(judgement.open.len(), 4);
}

#[test]
fn a_packet_filter_in_the_pod_is_not_a_stuck_reader() {
    // The socket is there, nothing waits in it, and no datagram came in.
    let record = World::healthy()
        .paths(|p| (p.transport == Transport::Udp && to(p, DNS_A)).then_some(Outcome::Timeout))
        .both(|s| super::scenarios::counters(s, 7, 7))
        .record();
    let judgement = judge(&record);
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "coredns-udp-stuck").unwrap().contains("do not reach"));
}

#[test]
fn a_reject_of_the_node_is_not_a_dead_listener() {
    let by = Some(ip("10.244.1.1"));
    let record = World::healthy()
        .paths(|p| (p.transport == Transport::Udp && to(p, DNS_A)).then_some(Outcome::Refused { by }))
        .record();
    let judgement = judge(&record);
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "coredns-udp-dead").unwrap().contains("10.244.1.1"));
}

#[test]
fn a_crashed_process_is_neither_dead_nor_hung() {
    let by = Some(ip("10.244.1.51"));
    let record = World::healthy().paths(|p| to(p, DNS_A).then_some(Outcome::Refused { by })).record();
    assert_eq!(causes(&judge(&record)), []);
}

#[test]
fn a_full_conntrack_table_is_not_coredns_fault() {
    let mut world = scenarios().remove(0).world;
    world = world.both(|s| {
        if let Reading::Read(sysctls) = &mut s.host.sysctls {
            sysctls.conntrack_count = sysctls.conntrack_max;
        }
    });
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "coredns-udp-dead").unwrap().contains("conntrack"));
}

#[test]
fn a_policy_whose_counter_stands_still_does_not_drop() {
    let mut world = scenarios().into_iter().find(|s| s.name == "forward drop").unwrap().world;
    world = world.both(rules(super::scenarios::policy(16)));
    let judgement = judge(&world.record());
    assert!(!causes(&judgement).contains(&Cause::ForwardPolicyDrop), "{judgement:#?}");
}

#[test]
fn one_pod_that_gets_through_acquits_the_policy() {
    let mut world = scenarios().into_iter().find(|s| s.name == "forward drop").unwrap().world;
    world = world.paths(|p| (from(p, CLIENT2) && to(p, DNS_B)).then_some(Outcome::Answered));
    let judgement = judge(&world.record());
    assert!(!causes(&judgement).contains(&Cause::ForwardPolicyDrop));
    assert!(why(&judgement, "forward-policy-drop").unwrap().contains("does reach"));
}

#[test]
fn a_silent_upstream_is_not_a_wrong_nameserver() {
    let mut world = scenarios().into_iter().find(|s| s.cause == Cause::UpstreamDead).unwrap().world;
    for pod in [DNS_A, CLIENT] {
        // CoreDNS itself, and a pod with dnsPolicy Default.
        let target = server(TargetKind::Nameserver, UPSTREAM);
        let path =
            PathKey { vantage: pod_vantage(pod), target, transport: Transport::Udp, question: QuestionKind::Internal };
        world = world.path(path, Outcome::Timeout);
    }
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), [Cause::UpstreamDead]);
    assert!(judgement.open.is_empty());
}

#[test]
fn an_upstream_that_answers_the_host_is_not_dead() {
    let mut record = scenarios().into_iter().find(|s| s.cause == Cause::UpstreamDead).unwrap().world.record();
    for probe in &mut record.probes {
        if probe.path.vantage == Vantage::Host {
            probe.outcome = Outcome::Answered;
        }
    }
    let judgement = judge(&record);
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "upstream-dead").unwrap().contains("the way between them"));
}

#[test]
fn missing_rules_and_a_deaf_pod_are_both_named() {
    let dead = scenarios().remove(0).world;
    let world = dead
        .paths(|p| is_service(p).then_some(Outcome::Timeout))
        .both(rules(without(&iptables_rules(), "-A KUBE-SERVICES")));
    assert_eq!(causes(&judge(&world.record())), [Cause::CorednsUdpDead, Cause::ServiceRulesMissing]);
}

#[test]
fn endpoints_that_changed_a_moment_ago_are_not_stale_yet() {
    let world = scenarios().into_iter().find(|s| s.name == "stale endpoint").unwrap().world;
    let judgement = judge(&world.with(|r| r.targets_since = at(95_000)).record());
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.waiting[0].0, "service-rules-stale");
}

#[test]
fn a_health_that_answers_acquits_a_slow_process() {
    let world = scenarios().into_iter().find(|s| s.name == "hung, /health hangs").unwrap().world;
    let world = world.both(|s| s.pods.get_mut(&uid(DNS_A)).unwrap().health = Reading::Read(Health::Status(200)));
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert!(why(&judgement, "coredns-hung").unwrap().contains("queues are empty"));
}

#[test]
fn tcp_that_was_not_asked_since_decides_nothing() {
    let mut record = scenarios().remove(0).world.record();
    let tcp = crate::rules::coredns::host_path(&record.targets.pods[0].clone(), ip("10.244.1.51"), Transport::Tcp);
    record.matrix.keep(|p| *p != tcp);
    let judgement = judge(&record);
    assert_eq!(causes(&judgement), []);
    record.probes.push(observation(tcp, Outcome::Answered, 99_000, nameward_messages::probe::Purpose::Diagnosis));
    assert_eq!(causes(&judge(&record)), [Cause::CorednsUdpDead]);
}

#[test]
fn external_names_fail_by_way_of_another_node() {
    // This node has no CoreDNS pod: it does not know the upstream.
    let mut world = World::healthy();
    world.record.namespaces.remove(&uid(DNS_A));
    let world = world
        .targets(|t| t.pods.retain(|p| p.uid == uid(DNS_B)))
        .paths(|p| (p.question == QuestionKind::External && !to(p, DNS_A)).then_some(Outcome::Rcode { rcode: 2 }));
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.deferred.len(), 1);
    assert!(judgement.open.is_empty(), "{:?}", judgement.open);
}

#[test]
fn what_begins_to_fail_long_after_a_kill_is_not_of_its_making() {
    let killed = |seconds_ago: u64, question: Option<QuestionKind>| {
        let by = Some(ip("10.244.1.51"));
        let fails = move |p: &PathKey| {
            (super::scenarios::to(p, DNS_A) && question.as_ref().is_none_or(|q| p.question == *q))
                .then_some(Outcome::Refused { by })
        };
        let world = World::healthy().paths(fails).with(|r| r.oom_kills.push(kill(DNS_A, seconds_ago, r.now)));
        causes(&judge(&world.record())).contains(&Cause::CorednsOomKilled)
    };
    assert!(killed(20, None));
    assert!(!killed(500, None), "it was up again for minutes");
    assert!(!killed(20, Some(QuestionKind::External)), "it answers for the cluster's names");
}
