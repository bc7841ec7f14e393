//! Look-alikes among the faults of links, routes and neighbours: what must not be named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{FibResult, Link, Reading, RouteKind};
use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::Outcome;
use nameward_messages::verdict::Cause;

use super::links_scenarios::{
    bridge_down, link, lost_b, no_bridge_address, not_forwarded, scenarios, second_owner, silent_a, silent_client,
    sysctls,
};
use super::scenarios::{from, is_service, to};
use crate::judge::{Judgement, judge};
use crate::testing::links::{REACHABLE, host, look, neighbour, via};
use crate::testing::*;

fn causes(judgement: &Judgement) -> Vec<Cause> {
    judgement.findings.iter().map(|f| f.cause).collect()
}

fn world(name: &str) -> World {
    scenarios().into_iter().find(|s| s.name == name).unwrap().world
}

#[test]
fn the_same_evidence_without_the_symptom_is_no_fault() {
    for scenario in scenarios() {
        let quiet = scenario.world.paths(|_| Some(Outcome::Answered));
        assert_eq!(causes(&judge(&quiet.record())), [], "{}", scenario.name);
    }
}

#[test]
fn each_is_named_alone() {
    for scenario in scenarios() {
        let judgement = judge(&scenario.world.record());
        assert_eq!(causes(&judgement), [scenario.cause], "{}: {judgement:#?}", scenario.name);
        assert_eq!(judgement.findings[0].subject.name, scenario.subject, "{}", scenario.name);
        assert_eq!(judgement.findings[0].confidence, scenario.confidence, "{}", scenario.name);
        assert!(judgement.open.is_empty(), "{}: unexplained {:?}", scenario.name, judgement.open);
        assert!(judgement.deferred.is_empty(), "{}: {:?}", scenario.name, judgement.deferred);
    }
}

#[test]
fn the_symptom_without_the_evidence_is_not_named() {
    for scenario in scenarios() {
        let mut world = scenario.world;
        (world.previous, world.current) = (sample(96_000), sample(97_500));
        world = world.both(|s| {
            s.host.neighbours =
                Reading::Read(nameward_kernel::facts::NeighbourStat([("table_fulls".to_owned(), 0)].into()))
        });
        let found = causes(&judge(&world.record()));
        assert!(!found.contains(&scenario.cause), "{}: {found:?}", scenario.name);
    }
}

#[test]
fn a_link_that_is_down_is_not_a_port_that_is_off() {
    for name in ["host end down", "pod end down", "CoreDNS' host end down", "CoreDNS' own end down", "bridge down"] {
        let found = causes(&judge(&world(name).record()));
        assert!(!found.contains(&Cause::VethOffBridge), "{name}");
    }
}

#[test]
fn a_coredns_pod_that_ends_is_not_blamed_for_its_link() {
    for name in ["CoreDNS' host end down", "CoreDNS' own end down", "no default route in a CoreDNS pod"] {
        let ending = world(name).targets(|t| t.pods[0].terminating = true);
        assert_eq!(causes(&judge(&ending.record())), [], "{name}");
    }
}

#[test]
fn one_bridge_of_two_does_not_explain_the_other() {
    // Pods that get beyond the node acquit the bridge.
    let world =
        not_forwarded().both(bridge_down).paths(|p| (from(p, CLIENT2) && to(p, DNS_B)).then_some(Outcome::Answered));
    assert!(!causes(&judge(&world.record())).contains(&Cause::BridgeDown));
}

#[test]
fn a_gateway_beyond_the_pods_own_network_need_not_be_the_nodes() {
    // As Calico has it: 169.254.1.1, for which the veth answers.
    let world = not_forwarded().both(no_bridge_address).both(|s| {
        for pod in [DNS_A, CLIENT, CLIENT2] {
            topology(s, pod).routes[0].gateway = Some(ip("169.254.1.1"));
        }
    });
    assert!(!causes(&judge(&world.record())).contains(&Cause::BridgeDown));
}

#[test]
fn forwarding_and_the_policy_are_told_apart() {
    let both = not_forwarded()
        .both(|s| sysctls(s).ip_forward = Some(0))
        .both(super::scenarios::rules(super::scenarios::policy(10)))
        .newest(super::scenarios::rules(super::scenarios::policy(10)));
    assert_eq!(causes(&judge(&both.record())), [Cause::IpForwardOff]);
}

#[test]
fn a_second_owner_of_the_address_is_not_a_wrong_neighbour() {
    let world = silent_a().both(second_owner).both(|s| {
        let other = links::mac("10.244.1.52");
        let entry = host(s).neighbours.iter_mut().find(|n| n.ip == ip("10.244.1.51")).unwrap();
        entry.mac = Some(other);
    });
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), [Cause::DuplicatePodIp]);
    assert_eq!(judgement.findings[0].subject.name, "client", "the rightful owner is not blamed");
}

#[test]
fn link_local_addresses_may_be_there_many_times() {
    let world = silent_client().both(|s| {
        for pod in [CLIENT, CLIENT2] {
            topology(s, pod).addresses.push(nameward_kernel::facts::Address {
                link: 2,
                ip: ip("169.254.20.10"),
                prefix: 32,
            });
        }
    });
    assert!(!causes(&judge(&world.record())).contains(&Cause::DuplicatePodIp));
}

#[test]
fn what_no_pod_was_given_may_be_there_many_times() {
    // Docker in two pods that build images: docker0 has 172.17.0.1/16 by default (docs.docker.com, "Bridge network driver").
    let docker0 = |s: &mut crate::record::Sample, pod: &str| {
        let pod = topology(s, pod);
        let kind = Some("bridge".to_owned());
        pod.links.push(Link { index: 9, name: "docker0".to_owned(), up: true, kind, ..Link::default() });
        pod.addresses.push(nameward_kernel::facts::Address { link: 9, ip: ip("172.17.0.1"), prefix: 16 });
    };
    let world = || {
        silent_client().both(|s| {
            for pod in [CLIENT, CLIENT2] {
                docker0(s, pod);
            }
        })
    };
    assert!(!causes(&judge(&world().record())).contains(&Cause::DuplicatePodIp));
    // It does not hide a real one.
    let judgement =
        judge(&silent_a().both(second_owner).both(|s| docker0(s, CLIENT2)).both(|s| docker0(s, CLIENT)).record());
    assert_eq!(causes(&judgement), [Cause::DuplicatePodIp]);
    // Given to one of the two, it is the other's no more.
    let given = world().with(|r| r.namespaces.get_mut(&uid(CLIENT)).unwrap().ips.push(ip("172.17.0.1")));
    let judgement = judge(&given.record());
    assert_eq!(causes(&judgement), [Cause::DuplicatePodIp]);
    assert_eq!(judgement.findings[0].subject.name, "client2");
}

#[test]
fn slaves_of_one_link_share_its_address() {
    // ipvlan: no bridge between them.
    let world = world("CoreDNS' link-layer address in a second pod").both(|s| {
        for veth in ["veth97ef3b4e", "veth2fe33054"] {
            link(s, veth).master = None;
        }
    });
    assert!(!causes(&judge(&world.record())).contains(&Cause::DuplicateMac));
}

#[test]
fn an_entry_that_nobody_answered_is_not_wrong() {
    let mut world = world("the node's entry for CoreDNS");
    world = world.both(|s| {
        let entry = host(s).neighbours.iter_mut().find(|n| n.ip == ip("10.244.1.51")).unwrap();
        entry.state = links::FAILED;
    });
    assert_eq!(causes(&judge(&world.record())), []);
}

#[test]
fn an_ebpf_data_plane_may_answer_for_the_node() {
    // As Cilium has it: the pod's gateway is an address of the node on another link, and the veth's end answers for it.
    let world = world("a pod's entry for its gateway").both(|s| {
        for veth in ["veth97ef3b4e", "veth2fe33054", "veth456dee19"] {
            (link(s, veth).master, link(s, veth).port) = (None, None);
        }
        link(s, "cni0").kind = Some("veth".to_owned());
    });
    let world = world.with(|r| r.namespaces.values_mut().for_each(|n| n.bridge = None));
    assert!(!causes(&judge(&world.record())).contains(&Cause::WrongNeighbour));
}

#[test]
fn the_default_route_is_right_where_the_network_routes_pods() {
    // As in a cloud's own network: no routes of other nodes, a gateway that knows them.
    let world = lost_b(&Outcome::Timeout).both(|s| look(host(s), "10.244.2.21", via(None, Some("172.30.0.1"), 2)));
    let judgement = judge(&world.record());
    assert_eq!(causes(&judgement), []);
    assert_eq!(judgement.deferred.len(), 1, "its own node judges it");
}

#[test]
fn a_pod_that_nobody_reaches_by_a_good_route_is_left_to_its_node() {
    let judgement = judge(&lost_b(&Outcome::Timeout).record());
    assert_eq!((causes(&judgement), judgement.deferred.len()), (vec![], 1));
}

/// Forwarding is off, for the node or for the bridge alone; of what would have to be forwarded the kernel says EHOSTUNREACH.
fn forwarding_off(sample: &mut crate::record::Sample, link: Option<&str>) {
    match link {
        Some(link) => drop(sysctls(sample).forwarding.insert(link.to_owned(), 0)),
        None => sysctls(sample).ip_forward = Some(0),
    }
    let query = nameward_kernel::facts::FibQuery {
        source: Some(ip("10.244.1.52")),
        iif: Some("cni0".to_owned()),
        ..nameward_kernel::facts::FibQuery::to(ip("10.244.2.21"))
    };
    let result = Reading::Read(FibResult::Nowhere { kind: RouteKind::Unreachable });
    host(sample).lookups.push(nameward_kernel::facts::Lookup { query, result });
}

#[test]
fn forwarding_off_is_not_an_unreachable_route() {
    for link in [None, Some("cni0")] {
        let off = |world: World| world.both(|s| forwarding_off(s, link));
        let judgement = judge(&off(lost_b(&Outcome::Timeout)).record());
        assert!(!causes(&judgement).contains(&Cause::NodeRouteMissing), "{link:?}: {judgement:#?}");
        // A pod that was answered before it began, and has not been asked since, does not acquit it; one that has, does.
        let most = || not_forwarded().paths(|p| (from(p, CLIENT2) && to(p, DNS_B)).then_some(Outcome::Answered));
        let rows = [(1, vec![Cause::IpForwardOff]), (5, vec![])];
        for (seconds, expected) in rows {
            let judgement = judge(&off(most().failing_for(seconds)).record());
            assert_eq!(causes(&judgement), expected, "{link:?}, failing for {seconds} s: {judgement:#?}");
        }
    }
}

#[test]
fn a_route_for_the_service_that_leads_to_the_node_is_no_overlap() {
    let world = silent_client()
        .paths(|p| (from(p, CLIENT) && !is_service(p)).then_some(Outcome::Answered))
        .both(|s| look(topology(s, CLIENT), "10.96.0.10", via(Some(("10.96.0.0", 12)), Some("10.244.1.1"), 2)));
    assert_eq!(causes(&judge(&world.record())), []);
    // Nor is one on link for which somebody answers.
    let world = silent_client().paths(|p| (from(p, CLIENT) && !is_service(p)).then_some(Outcome::Answered)).both(|s| {
        let pod = topology(s, CLIENT);
        look(pod, "10.96.0.10", via(Some(("10.96.0.0", 16)), None, 2));
        pod.neighbours.push(neighbour(2, "10.96.0.10", Some(links::BRIDGE_MAC), REACHABLE));
    });
    assert_eq!(causes(&judge(&world.record())), []);
}

#[test]
fn a_reply_from_elsewhere_is_not_the_bridge() {
    let stranger = "10.244.2.99:53".parse().unwrap();
    let world = World::healthy()
        .paths(|p| {
            (is_service(p) && p.vantage.kind() == VantageKind::Pod).then_some(Outcome::WrongSource { from: stranger })
        })
        .both(|s| sysctls(s).bridge_nf_call_iptables = Some(0));
    assert!(!causes(&judge(&world.record())).contains(&Cause::BridgeFilterOff));
}

#[test]
fn hairpin_mode_explains_nobody_elses_loss() {
    let world = world("hairpin off").paths(|p| (is_service(p) && from(p, CLIENT)).then_some(Outcome::Timeout));
    assert!(!causes(&judge(&world.record())).contains(&Cause::HairpinOff));
}

#[test]
fn two_links_down_are_both_named() {
    let world = World::healthy().paths(|p| (p.vantage != Vantage::Host && !from(p, DNS_A)).then_some(Outcome::Timeout));
    let world = world.both(|s| {
        for veth in ["veth2fe33054", "veth456dee19"] {
            let veth: &mut Link = link(s, veth);
            veth.up = false;
        }
    });
    assert_eq!(causes(&judge(&world.record())), [Cause::VethDown, Cause::VethDown]);
}
