//! What looks like the faults of the Service and is none of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_kernel::facts::{Reading, SocketTable};
use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::Outcome;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::Cause;

use super::scenarios::{external, is_service, rules};
use crate::judge::{Judgement, judge};
use crate::testing::service::*;
use crate::testing::*;

fn causes(world: World) -> (Vec<Cause>, Judgement) {
    let judgement = judge(&world.record());
    (judgement.findings.iter().map(|f| f.cause).collect(), judgement)
}

fn why<'a>(judgement: &'a Judgement, rule: &str) -> &'a str {
    judgement.dismissed.iter().find(|r| r.what == rule).map_or("", |r| r.because.as_str())
}

fn waits(judgement: &Judgement, rule: &str) -> bool {
    judgement.waiting.iter().any(|(name, _)| *name == rule)
}

#[test]
fn a_kept_port_that_fails_with_the_others_is_no_old_entry() {
    let old = flows(vec![group("10.96.0.10:53", "10.244.2.9:53", &["10.244.1.52:40000"], 0)]);
    let stale = rules(old_rules());
    let world = World::healthy()
        .paths(|p| is_service(p).then_some(Outcome::Timeout))
        .path(held(pod_vantage(CLIENT)), Outcome::Timeout)
        .both(old)
        .both(stale);
    let (found, judgement) = causes(world);
    assert_eq!(found, [Cause::ServiceRulesStale]);
    assert!(judgement.open.is_empty(), "the kept port is explained with the others: {:?}", judgement.open);
}

#[test]
fn a_kept_port_whose_entry_leads_to_an_endpoint_is_not_blamed_on_conntrack() {
    let right = flows(vec![group("10.96.0.10:53", "10.244.2.21:53", &["10.244.1.52:40000"], 1)]);
    let (found, judgement) = causes(World::healthy().path(held(pod_vantage(CLIENT)), Outcome::Timeout).both(right));
    assert_eq!(found, []);
    assert!(why(&judgement, "stale-conntrack").contains("no conntrack entry leads"));
}

#[test]
fn conntrack_races_that_others_lose_are_not_our_losses() {
    // One clash of somebody else between the samples; three queries of ours were lost.
    let (found, _) = causes(clashing().both(conntrack(7, 7, 900)).newest(conntrack(8, 8, 900)));
    assert_eq!(found, [], "left to node2 and to others");
    // insert_failed that does not drop is resolved, and clashres says as much.
    let (found, _) = causes(clashing().both(conntrack(7, 7, 900)).newest(conntrack(99, 7, 900)));
    assert_eq!(found, []);
}

#[test]
fn a_table_that_is_nearly_full_and_drops_nothing_is_no_fault() {
    let (found, judgement) = causes(
        World::healthy()
            .paths(|p| (is_service(p) && p.vantage == Vantage::Host).then_some(Outcome::Timeout))
            .both(conntrack(0, 10, 262_100)),
    );
    assert!(!found.contains(&Cause::ConntrackFull));
    assert!(why(&judgement, "conntrack-full").contains("nothing is dropped"));
}

#[test]
fn a_slow_kube_proxy_is_waited_for() {
    let stale = || World::healthy().paths(|p| is_service(p).then_some(Outcome::Timeout)).both(rules(old_rules()));
    let since = |seconds: u64| move |r: &mut crate::record::EvidenceRecord| r.targets_since = at(seconds * 1000);
    let (found, judgement) = causes(stale().with(since(80)));
    assert_eq!(found, [], "20 seconds");
    assert!(waits(&judgement, "service-rules-stale"));
    let (found, _) = causes(stale().with(since(97)));
    assert_eq!(found, [], "what was read before the change is not held against it");
    let (found, _) = causes(stale().with(since(60)));
    assert_eq!(found, [Cause::ServiceRulesStale]);
}

#[test]
fn a_service_that_changed_just_now_is_waited_for() {
    let world = World::healthy()
        .targets(|t| t.service.as_mut().unwrap().udp_port = None)
        .paths(|p| (is_service(p) && p.transport == Transport::Udp).then_some(Outcome::Timeout))
        .with(|r| r.targets_since = r.now.mono - Duration::from_secs(2));
    let (found, judgement) = causes(world);
    assert_eq!(found, []);
    assert!(waits(&judgement, "service-port-missing"));
}

#[test]
fn node_local_dnscache_in_use_is_quiet_and_not_blamed_for_others() {
    let in_use = || {
        let table = SocketTable { udp: vec![socket(53, 0, 0)], tcp_listen: vec![socket(53, 0, 0)] };
        World::healthy().both(rules(notrack_rules())).both(cache_link).both(listeners(table))
    };
    assert_eq!(causes(in_use()).0, []);
    // CoreDNS lost the API: what the cache hands on is a failure, and the cache listens and reads.
    let (found, judgement) = causes(in_use().paths(|p| is_service(p).then_some(Outcome::Rcode { rcode: 2 })));
    assert!(!found.contains(&Cause::NodeLocalDnsDead));
    assert!(!waits(&judgement, "node-local-dns-dead"));
    let (found, judgement) = causes(in_use().paths(|p| is_service(p).then_some(Outcome::Timeout)));
    assert!(!found.contains(&Cause::NodeLocalDnsDead));
    assert!(why(&judgement, "node-local-dns-dead").contains("listens"));
}

#[test]
fn an_ipvs_link_is_no_cache() {
    let world = World::healthy().paths(|p| is_service(p).then_some(Outcome::Timeout)).both(|s| {
        cache_link(s);
        let Reading::Read(topology) = &mut s.host.topology else { panic!("no topology") };
        topology.links.last_mut().unwrap().name = "kube-ipvs0".to_owned();
        s.host.listeners = Reading::Read(SocketTable::default());
    });
    assert!(!causes(world).0.contains(&Cause::NodeLocalDnsDead));
}

#[test]
fn a_host_without_a_route_is_not_kube_proxys_fault() {
    // F54: the host's own queries have no route; pods are well.
    let world = World::healthy()
        .paths(|p| (is_service(p) && p.vantage.kind() == VantageKind::Host).then_some(Outcome::NetworkUnreachable));
    let (found, judgement) = causes(world);
    for cause in [Cause::ServiceRulesMissing, Cause::ServiceRulesStale, Cause::TwoIptablesBackends] {
        assert!(!found.contains(&cause), "{cause}");
    }
    assert!(why(&judgement, "service-rules-missing").contains("are there"));
}

#[test]
fn rules_that_a_lock_kept_back_until_just_now_are_not_stale_yet() {
    let world =
        || World::healthy().paths(|p| is_service(p).then_some(Outcome::Timeout)).both(legacy_alone(old_rules()));
    assert_eq!(causes(world().both(locked(false))).0, [Cause::ServiceRulesStale]);
    assert_eq!(causes(world().both(locked(true)).newest(locked(false))).0, []);
}

#[test]
fn a_lock_that_is_held_while_the_rules_are_right_is_no_fault() {
    let world = World::healthy()
        .paths(|p| is_service(p).then_some(Outcome::Timeout))
        .both(legacy_alone(iptables_rules()))
        .both(locked(true));
    assert!(!causes(world).0.contains(&Cause::XtablesLockHeld));
    let stale = World::healthy()
        .paths(|p| is_service(p).then_some(Outcome::Timeout))
        .both(legacy_alone(old_rules()))
        .both(locked(false));
    assert_eq!(causes(stale).0, [Cause::ServiceRulesStale], "nobody holds it");
}

#[test]
fn stale_rules_in_both_places_are_kube_proxys_own() {
    let world = World::healthy()
        .paths(|p| is_service(p).then_some(Outcome::Timeout))
        .both(rules(old_rules()))
        .both(|s| s.host.netfilter.iptables_legacy = parsed(&old_rules()));
    assert_eq!(causes(world).0, [Cause::ServiceRulesStale]);
}

#[test]
fn only_one_transport_may_be_stale() {
    let text = iptables_rules();
    let udp_only: Vec<String> = text
        .lines()
        .map(|line| {
            let dnat = line.contains("-p udp") && line.contains("--to-destination");
            if dnat { line.replace("10.244.1.51:53", "10.244.1.77:53") } else { line.to_owned() }
        })
        .collect();
    let world = World::healthy()
        .paths(|p| (is_service(p) && p.transport == Transport::Udp).then_some(Outcome::Timeout))
        .both(rules(udp_only.join("\n")));
    let (found, judgement) = causes(world);
    assert_eq!(found, [Cause::ServiceRulesStale]);
    let says: Vec<&str> = judgement.findings[0].evidence.iter().map(|e| e.says.as_str()).collect();
    assert!(says[0].starts_with("udp: sends to 10.244.1.77:53 instead of 10.244.1.51:53"), "{says:?}");
    assert!(!says.iter().any(|s| s.starts_with("tcp:")), "{says:?}");
}

#[test]
fn an_upstream_that_is_filtered_is_not_a_missing_masquerade() {
    // Nothing of CoreDNS leaves the node: a filter dropped it, and conntrack never confirmed an entry.
    let (found, judgement) = causes(bare().both(flows(Vec::new())));
    assert!(!found.contains(&Cause::MasqueradeMissing));
    assert!(why(&judgement, "masquerade-missing").contains("does not leave the node"));
    let bare_flow = || group("172.30.0.254:53", "172.30.0.254:53", &["10.244.1.51:32000"], 0);
    // What is in one sample alone was sent just then.
    let (found, _) = causes(bare().both(flows(Vec::new())).newest(flows(vec![bare_flow()])));
    assert!(!found.contains(&Cause::MasqueradeMissing));
    // The network answers the pod's own address: an upstream that drops some.
    let mut more = bare_flow();
    more.clients.push("10.244.1.51:40123".parse().unwrap());
    more.replied = 1;
    let (found, _) = causes(bare().both(flows(vec![bare_flow()])).newest(flows(vec![more])));
    assert!(!found.contains(&Cause::MasqueradeMissing));
    // A proxy took it over.
    let mut proxied = bare_flow();
    proxied.endpoint = "10.244.1.1:5353".parse().unwrap();
    let (found, _) = causes(bare().both(flows(vec![proxied])));
    assert!(!found.contains(&Cause::MasqueradeMissing));
    // CoreDNS answers SERVFAIL for a reason of its own (F20): internal names fail, too.
    let (found, _) = causes(
        bare().paths(|p| (!external(p) && super::scenarios::to(p, DNS_A)).then_some(Outcome::Rcode { rcode: 2 })),
    );
    assert!(!found.contains(&Cause::MasqueradeMissing));
}
