//! The decision table from a symptom to a cause, row by row, and what forbids to blame a CoreDNS pod before any rule may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use nameward_messages::verdict::{Cause, Confidence, Layer};

use super::scenarios::{Scenario, scenarios};
use crate::judge::{Judgement, judge};
use crate::testing::*;

fn causes(judgement: &Judgement) -> Vec<Cause> {
    judgement.findings.iter().map(|f| f.cause).collect()
}

/// What a node sees, as the prober tells it, and what it can be. The order is that of the catalogue of faults.
fn table() -> Vec<(&'static str, Vec<Cause>)> {
    use Cause::*;
    vec![
        ("R0 sending fails for want of buffers", vec![NeighbourTableFull]),
        ("R1 the host may not send, or everything is lost", vec![ConntrackFull, PacketFilterDrop]),
        (
            "R2 a CoreDNS pod is dead over UDP, also for its own node",
            vec![CorednsUdpDead, CorednsUdpStuck, CorednsReceiveOverflow],
        ),
        ("R3 silent over UDP, TCP connects and says nothing, or it is slow", vec![CorednsHung, CorednsThrottled]),
        (
            "R4 other nodes do not reach it, its own does",
            vec![
                ForwardPolicyDrop,
                IpForwardOff,
                NetworkPolicyDrop,
                ReversePathFilter,
                ChecksumErrors,
                NodePairBlocked,
                NodeRouteMissing,
            ],
        ),
        (
            "R5 nobody reaches it, its own node neither",
            vec![VethDown, VethOffBridge, WrongNeighbour, BridgeDown, DuplicatePodIp],
        ),
        ("R6 its node is not ready", vec![EndpointOnDeadNode]),
        ("R7 the Service is refused everywhere", vec![ServiceWithoutEndpoints, ServiceMissing, ServicePortMissing]),
        (
            "R8 the Service fails on one node",
            vec![ServiceRulesMissing, ServiceRulesStale, TwoIptablesBackends, WrongNameserver],
        ),
        ("R9 it fails from pods alone", vec![ServiceRulesMissing, PacketFilterDrop, Port53Redirected]),
        ("R10 the host has no route to it", vec![ServiceRouteMissing]),
        ("R11 replies come from the wrong source", vec![BridgeFilterOff]),
        ("R12 every pod of a node fails, its host does not", vec![ForwardPolicyDrop, IpForwardOff]),
        ("R13 one pod has no way out", vec![PodRouteMissing, VethDown]),
        (
            "R14 one pod gets no answer",
            vec![
                VethDown,
                VethOffBridge,
                WrongNeighbour,
                WrongGateway,
                NetworkPolicyDrop,
                DuplicatePodIp,
                DuplicateMac,
            ],
        ),
        ("R15 one pod may not send, or is refused by its node", vec![PodFilterDrop, PacketFilterDrop]),
        ("R16 a kept port alone fails", vec![StaleConntrack]),
        ("R17 some queries to the Service are lost", vec![ConntrackInsertFailed, EndpointOnDeadNode]),
        ("R18 what is big gets lost", vec![FragmentsLost, Tcp53Blocked]),
        ("R19 between nodes alone", vec![ChecksumErrors, NodePairBlocked, NodeRouteMissing]),
        ("R20 NodeLocal DNSCache", vec![NodeLocalDnsDead]),
        ("R21 internal names fail with SERVFAIL", vec![CorednsApiLost]),
        ("R22 external names fail", vec![UpstreamDead, UpstreamThrottled, MasqueradeMissing, ForwardLimitReached]),
        ("R23 the answer is wrong", vec![ZoneMismatch, WrongAnswer, WrongNameserver, HostNetworkDnsPolicy]),
        ("R24 after a change of the Corefile", vec![CorefileBroken, CorednsLoop]),
        ("R25 killed for want of memory", vec![CorednsOomKilled]),
    ]
}

#[test]
fn every_row_of_the_decision_table_is_judged_so() {
    // All nodes together show these: their tables are the coordinator's.
    let elsewhere = BTreeSet::from([Cause::EndpointOnDeadNode, Cause::NodePairBlocked]);
    let mut found: BTreeMap<Cause, usize> = BTreeMap::new();
    for scenario in scenarios() {
        let named = causes(&judge(&scenario.world.record()));
        assert_eq!(named, [scenario.cause], "{}", scenario.name);
        *found.entry(scenario.cause).or_default() += 1;
    }
    let table = table();
    assert_eq!(table.len(), 26);
    for (n, (row, possible)) in table.iter().enumerate() {
        assert!(row.starts_with(&format!("R{n} ")), "{row}");
        for cause in possible {
            assert!(found.contains_key(cause) || elsewhere.contains(cause), "{row}: {cause} has no record");
        }
    }
}

/// A CoreDNS pod of this node is blamed for what its own process or namespace does.
fn blames(scenario: &Scenario) -> bool {
    let process = scenario.cause.about().layer == Layer::Coredns && scenario.subject.starts_with("coredns");
    // What the API says of a container that ended, and a packet filter that counts what it drops, are so whatever comes and goes.
    process
        && !matches!(
            scenario.cause,
            Cause::CorednsOomKilled | Cause::CorednsLoop | Cause::CorefileBroken | Cause::CorednsUdpFiltered
        )
}

#[test]
fn what_inhibits_comes_before_any_rule_that_blames_a_process() {
    type Inhibitor = (&'static str, fn(World) -> World, &'static [Cause]);
    let inhibitors: [Inhibitor; 4] = [
        ("a rollout", |w| w.with(|r| r.rollout.in_progress = true), &[]),
        ("it starts", |w| w.with(|r| r.starting.extend([uid(DNS_A)])), &[]),
        ("it ends", |w| w.targets(|t| t.pods[0].terminating = true), &[]),
        (
            "it was killed for want of memory",
            |w| w.with(|r| r.oom_kills.extend([kill(DNS_A, 40, r.now), kill(DNS_A, 20, r.now)])),
            &[Cause::CorednsOomKilled],
        ),
    ];
    let mut rows = 0;
    for (what, inhibit, instead) in inhibitors {
        for scenario in scenarios().into_iter().filter(blames) {
            let judgement = judge(&inhibit(scenario.world).record());
            let blamed: Vec<Cause> = judgement
                .findings
                .iter()
                .filter(|f| f.cause.about().layer == Layer::Coredns && f.confidence == Confidence::Certain)
                .map(|f| f.cause)
                .collect();
            assert!(blamed.iter().all(|cause| instead.contains(cause)), "{}, {what}: {judgement:#?}", scenario.name);
            rows += 1;
        }
    }
    assert!(rows >= 4 * 10, "{rows}");
}
