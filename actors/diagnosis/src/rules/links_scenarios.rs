//! Constructed faults of links, addresses, routes and neighbours, each with the one cause that must be found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{
    Address, FdbEntry, FibQuery, FibResult, Identity, Link, Lookup, NeighbourStat, PolicyRule, Reading, Route,
    RouteKind, Sysctls,
};
use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence};

use super::scenarios::{Scenario, from, is_service, row, to};
use crate::matrix::{target_pod, vantage_pod};
use crate::record::Sample;
use crate::testing::links::{FAILED, PERMANENT, host, look, mac, neighbour, via};
use crate::testing::*;

const A: &str = "coredns-74c7b86f9f-7tsjn";
const VETH_A: &str = "veth97ef3b4e";
const VETH_CLIENT: &str = "veth2fe33054";
const WRONG: &str = "02:00:00:00:be:ef";

fn beyond(path: &PathKey) -> bool {
    target_pod(path) != vantage_pod(path)
}

fn external(path: &PathKey) -> bool {
    path.question == QuestionKind::External
}

pub(super) fn link<'a>(sample: &'a mut Sample, name: &str) -> &'a mut Link {
    host(sample).links.iter_mut().find(|l| l.name == name).unwrap()
}

/// Nothing passes between a client and the rest.
pub(super) fn silent_client() -> World {
    World::healthy().paths(|p| from(p, CLIENT).then_some(Outcome::Timeout))
}

/// Nothing passes between CoreDNS A and the rest, and a share of the Service's queries is lost.
pub(super) fn silent_a() -> World {
    World::healthy().paths(|p| {
        let lost = (from(p, DNS_A) || to(p, DNS_A)) && beyond(p) || is_service(p) && from(p, CLIENT);
        lost.then_some(Outcome::Timeout)
    })
}

/// No pod reaches what the node would forward to; the host reaches everything.
pub(super) fn not_forwarded() -> World {
    World::healthy().paths(|p| {
        let lost = p.vantage.kind() == VantageKind::Pod && !to(p, DNS_A);
        if lost { Some(Outcome::Timeout) } else { (external(p) && to(p, DNS_A)).then_some(Outcome::Rcode { rcode: 2 }) }
    })
}

/// The CoreDNS pod of node2 is not reached, nor a share of the Service's queries answered.
pub(super) fn lost_b(outcome: &Outcome) -> World {
    World::healthy().paths(|p| (to(p, DNS_B) || is_service(p) && from(p, CLIENT)).then(|| outcome.clone()))
}

pub(super) fn sysctls(sample: &mut Sample) -> &mut Sysctls {
    match &mut sample.host.sysctls {
        Reading::Read(sysctls) => sysctls,
        other => panic!("{other:?}"),
    }
}

fn down_inside(sample: &mut Sample, pod: &str, veth: &str) {
    let topology = topology(sample, pod);
    let own = topology.links.iter_mut().find(|l| l.name == "eth0").unwrap();
    own.up = false;
    topology.routes.clear();
    topology.lookups.clear();
    let veth = link(sample, veth);
    veth.carrier = false;
    veth.port.as_mut().unwrap().state = 0;
}

fn down_outside(sample: &mut Sample, veth: &str) {
    let veth = link(sample, veth);
    (veth.up, veth.carrier) = (false, false);
    // As the kernel does it: a port without a carrier is disabled.
    veth.port.as_mut().unwrap().state = 0;
}

pub(super) fn bridge_down(sample: &mut Sample) {
    let bridge = link(sample, "cni0");
    (bridge.up, bridge.carrier) = (false, false);
    let host = host(sample);
    for port in host.links.iter_mut().filter_map(|l| l.port.as_mut()) {
        port.state = 0;
    }
    host.routes.retain(|r| r.out_link != Some(3));
}

pub(super) fn no_bridge_address(sample: &mut Sample) {
    let host = host(sample);
    host.addresses.retain(|a| a.link != 3);
    host.routes.retain(|r| r.out_link != Some(3));
}

/// CLIENT has CoreDNS A's address, too.
pub(super) fn second_owner(sample: &mut Sample) {
    topology(sample, CLIENT).addresses.push(Address { link: 2, ip: ip("10.244.1.51"), prefix: 32 });
}

/// A third pod, of which only the addresses are read.
fn third(sample: &mut Sample, address: &str, mac: &str) {
    let eth0 = Link {
        name: "eth0".to_owned(),
        mac: mac.to_owned(),
        kind: Some("veth".to_owned()),
        peer: Some(56),
        ..Link::default()
    };
    let identity = Identity { links: vec![eth0], addresses: vec![(ip(address), 24)] };
    sample.others.insert(uid("33333333-third"), Reading::Read(identity));
    let mut veth = host(sample).link(VETH_CLIENT).unwrap().clone();
    (veth.index, veth.name) = (56, "veth0000aaaa".to_owned());
    host(sample).links.push(veth);
}

fn with_third(mut world: World, address: &str) -> World {
    let mut third = namespace("33333333-third", "default", "third", address, "veth0000aaaa", &["10.96.0.10"]);
    third.cookie = nameward_messages::NetnsCookie(99);
    world.record.namespaces.insert(third.pod.clone(), third);
    world
}

fn wrong_gateway(sample: &mut Sample, pod: &str) {
    let topology = topology(sample, pod);
    let default = topology.routes.iter_mut().find(|r| r.destination.is_none()).unwrap();
    default.gateway = Some(ip("10.244.1.250"));
    topology.neighbours.push(neighbour(2, "10.244.1.250", None, FAILED));
}

fn table(fulls: u64) -> impl Fn(&mut Sample) {
    move |s| {
        let counts = [("entries", 1024), ("table_fulls", fulls)].map(|(name, n)| (name.to_owned(), n));
        s.host.neighbours = Reading::Read(NeighbourStat(counts.into()));
    }
}

fn no_route_to_b(result: FibResult) -> impl Fn(&mut Sample) {
    move |s| {
        let host = host(s);
        host.routes.retain(|r| r.destination != Some((ip("10.244.2.0"), 24)));
        if let FibResult::Nowhere { kind } = &result {
            let destination = Some((ip("10.244.2.0"), 24));
            host.routes.push(Route { v4: true, table: 254, destination, gateway: None, out_link: None, kind: *kind });
        }
        look(host, "10.244.2.21", result.clone());
    }
}

fn isolate(sample: &mut Sample, veths: &[&str]) {
    for veth in veths {
        link(sample, veth).port.as_mut().unwrap().isolated = true;
    }
}

fn client_to_a() -> World {
    World::healthy().paths(|p| {
        let lost = from(p, CLIENT) && (to(p, DNS_A) || is_service(p) && p.transport == Transport::Udp);
        lost.then_some(Outcome::Timeout)
    })
}

fn wrong_source() -> World {
    let from = "10.244.1.51:53".parse().unwrap();
    World::healthy().paths(|p| {
        let lost = is_service(p) && p.vantage.kind() == VantageKind::Pod && vantage_pod(p) != Some(&uid(DNS_A));
        lost.then(|| if p.transport == Transport::Udp { Outcome::WrongSource { from } } else { Outcome::Timeout })
    })
}

/// Every scenario of this family.
pub(crate) fn scenarios() -> Vec<Scenario> {
    use Cause::*;
    use Confidence::{Certain, Probable};
    let no_buffers = || World::healthy().paths(|_| Some(Outcome::NoBuffers));
    let unreachable = Outcome::HostUnreachable { by: Some(ip("10.244.1.1")), icmp_type: Some(3), icmp_code: Some(1) };
    let blackhole = FibResult::Nowhere { kind: RouteKind::Blackhole };
    vec![
        row("host end down", VethDown, Certain, "client", silent_client().both(|s| down_outside(s, VETH_CLIENT))),
        row("pod end down", VethDown, Certain, "client", {
            World::healthy()
                .paths(|p| from(p, CLIENT).then_some(Outcome::NetworkUnreachable))
                .both(|s| down_inside(s, CLIENT, VETH_CLIENT))
        }),
        row("CoreDNS' host end down", VethDown, Certain, A, silent_a().both(|s| down_outside(s, VETH_A))),
        row("CoreDNS' own end down", VethDown, Certain, A, silent_a().both(|s| down_inside(s, DNS_A, VETH_A))),
        row("two isolated ports", VethOffBridge, Certain, "client", {
            client_to_a().both(|s| isolate(s, &[VETH_A, VETH_CLIENT]))
        }),
        row("every port isolated", VethOffBridge, Certain, A, {
            World::healthy()
                .paths(|p| {
                    let lost = to(p, DNS_A) && p.vantage.kind() == VantageKind::Pod && beyond(p);
                    lost.then_some(Outcome::Timeout)
                })
                .both(|s| isolate(s, &[VETH_A, VETH_CLIENT, "veth456dee19"]))
        }),
        row("bridge without address", BridgeDown, Certain, "node1", {
            not_forwarded()
                .paths(|p| (to(p, DNS_A) && p.vantage == Vantage::Host).then_some(Outcome::Timeout))
                .both(no_bridge_address)
        }),
        row("bridge down", BridgeDown, Certain, "node1", {
            not_forwarded().paths(|p| (to(p, DNS_A) && beyond(p)).then_some(Outcome::Timeout)).both(bridge_down)
        }),
        row("CoreDNS' address in a second pod", DuplicatePodIp, Certain, "client", {
            World::healthy()
                .paths(|p| {
                    let by = Some(ip("10.244.1.51"));
                    let refused = from(p, CLIENT) && to(p, DNS_A);
                    let lost = from(p, CLIENT) && is_service(p);
                    if refused { Some(Outcome::Refused { by }) } else { lost.then_some(Outcome::Timeout) }
                })
                .both(second_owner)
        }),
        row("one address given twice", DuplicatePodIp, Certain, "client", {
            with_third(silent_client(), "10.244.1.52").both(|s| third(s, "10.244.1.52", &mac("10.244.1.60")))
        }),
        row("CoreDNS' link-layer address in a second pod", DuplicateMac, Certain, "client", {
            client_to_a().both(|s| {
                topology(s, CLIENT).links.iter_mut().find(|l| l.name == "eth0").unwrap().mac = mac("10.244.1.51");
                let entry = FdbEntry { mac: mac("10.244.1.51"), port: 54, bridge: 3, vlan: None, permanent: false };
                host(s).fdb = Reading::Read(vec![entry]);
            })
        }),
        row("one link-layer address twice", DuplicateMac, Certain, "client", {
            with_third(silent_client(), "10.244.1.60").both(|s| third(s, "10.244.1.60", &mac("10.244.1.52")))
        }),
        row("no default route in a CoreDNS pod", PodRouteMissing, Certain, A, {
            World::healthy()
                .paths(|p| {
                    if from(p, DNS_A) && !to(p, DNS_A) {
                        Some(Outcome::NetworkUnreachable)
                    } else {
                        (external(p) && to(p, DNS_A)).then_some(Outcome::Rcode { rcode: 2 })
                    }
                })
                .both(|s| topology(s, DNS_A).routes.retain(|r| r.destination.is_some()))
        }),
        row("gateway that nobody has", WrongGateway, Certain, "client", {
            World::healthy()
                .paths(|p| (from(p, CLIENT) && !to(p, DNS_A)).then_some(Outcome::Timeout))
                .both(|s| wrong_gateway(s, CLIENT))
        }),
        row("a CoreDNS pod's gateway that nobody has", WrongGateway, Certain, A, {
            World::healthy()
                .paths(|p| (from(p, DNS_A) && !to(p, DNS_A)).then_some(Outcome::Timeout))
                .both(|s| wrong_gateway(s, DNS_A))
        }),
        row("the node's entry for CoreDNS", WrongNeighbour, Certain, A, {
            World::healthy()
                .paths(|p| {
                    let lost = to(p, DNS_A) && p.vantage == Vantage::Host || is_service(p) && from(p, CLIENT);
                    lost.then_some(Outcome::Timeout)
                })
                .both(|s| {
                    let entry = host(s).neighbours.iter_mut().find(|n| n.ip == ip("10.244.1.51")).unwrap();
                    (entry.mac, entry.state) = (Some(WRONG.to_owned()), PERMANENT);
                })
        }),
        row("a pod's entry for its gateway", WrongNeighbour, Certain, "client", {
            World::healthy()
                .paths(|p| (from(p, CLIENT) && !to(p, DNS_A)).then_some(Outcome::Timeout))
                .both(|s| topology(s, CLIENT).neighbours = vec![neighbour(2, "10.244.1.1", Some(WRONG), PERMANENT)])
        }),
        row("a pod's entry for CoreDNS", WrongNeighbour, Certain, "client", {
            client_to_a().both(|s| {
                topology(s, CLIENT).neighbours.push(neighbour(2, "10.244.1.51", Some(WRONG), PERMANENT));
            })
        }),
        row("a route of the pod's own", ServiceRangeOverlapped, Certain, "client", {
            World::healthy()
                .paths(|p| (from(p, CLIENT) && is_service(p)).then_some(Outcome::Timeout))
                .both(|s| look(topology(s, CLIENT), "10.96.0.10", via(Some(("10.96.0.0", 16)), None, 2)))
        }),
        row(
            "forwarding off",
            IpForwardOff,
            Certain,
            "node1",
            not_forwarded().both(|s| sysctls(s).ip_forward = Some(0)),
        ),
        row("forwarding off for the bridge", IpForwardOff, Certain, "node1", {
            not_forwarded().both(|s| {
                sysctls(s).forwarding.insert("cni0".to_owned(), 0);
            })
        }),
        row("no route, on link by the default route", NodeRouteMissing, Certain, "node1", {
            lost_b(&Outcome::Timeout).both(no_route_to_b(via(None, None, 2))).both(|s| {
                host(s).neighbours.push(neighbour(2, "10.244.2.21", None, FAILED));
            })
        }),
        row("no route at all", NodeRouteMissing, Certain, "node1", {
            lost_b(&Outcome::NetworkUnreachable).both(no_route_to_b(FibResult::NoRoute))
        }),
        row("blackhole", NodeRouteMissing, Certain, "node1", lost_b(&Outcome::Timeout).both(no_route_to_b(blackhole))),
        row("prohibit", NodeRouteMissing, Certain, "node1", {
            lost_b(&unreachable).both(no_route_to_b(FibResult::Nowhere { kind: RouteKind::Prohibit }))
        }),
        row("unreachable", NodeRouteMissing, Certain, "node1", {
            lost_b(&unreachable).both(no_route_to_b(FibResult::Nowhere { kind: RouteKind::Unreachable }))
        }),
        row("to the node's own bridge", NodeRouteMissing, Certain, "node1", {
            lost_b(&Outcome::Timeout).both(no_route_to_b(via(Some(("10.244.2.0", 24)), None, 3)))
        }),
        row("of what comes in by the bridge", NodeRouteMissing, Certain, "node1", {
            World::healthy()
                .paths(|p| (to(p, DNS_B) && p.vantage.kind() == VantageKind::Pod).then_some(Outcome::Timeout))
                .both(|s| {
                    let query = FibQuery {
                        source: Some(ip("10.244.1.52")),
                        iif: Some("cni0".to_owned()),
                        ..FibQuery::to(ip("10.244.2.21"))
                    };
                    host(s).lookups.push(Lookup { query, result: Reading::Read(FibResult::NoRoute) });
                })
        }),
        row("a policy rule takes what pods send elsewhere", NodeRouteMissing, Probable, "node1", {
            World::healthy()
                .paths(|p| (to(p, DNS_B) && p.vantage.kind() == VantageKind::Pod).then_some(Outcome::Timeout))
                .both(|s| {
                    let query = FibQuery {
                        source: Some(ip("10.244.1.52")),
                        iif: Some("cni0".to_owned()),
                        ..FibQuery::to(ip("10.244.2.21"))
                    };
                    let rule = PolicyRule {
                        v4: true,
                        priority: 100,
                        source: None,
                        destination: Some((ip("10.244.2.0"), 24)),
                        iif: Some("cni0".to_owned()),
                        mark: None,
                        table: 77,
                        kind: RouteKind::Unicast,
                    };
                    let result = FibResult::Route {
                        kind: RouteKind::Unicast,
                        matched: Some((ip("10.244.2.0"), 24)),
                        gateway: Some(ip("172.30.0.99")),
                        out_link: Some(2),
                        table: 77,
                    };
                    host(s).rules = Reading::Read(vec![rule]);
                    look(host(s), "10.244.2.21", via(Some(("10.244.2.0", 24)), Some("172.30.0.12"), 2));
                    host(s).lookups.push(Lookup { query, result: Reading::Read(result) });
                })
        }),
        row("no route that covers the Service", ServiceRouteMissing, Certain, "node1", {
            World::healthy()
                .paths(|p| (is_service(p) && p.vantage == Vantage::Host).then_some(Outcome::NetworkUnreachable))
                .both(|s| look(host(s), "10.96.0.10", FibResult::NoRoute))
        }),
        row("the host's routes unreadable", ServiceRouteMissing, Probable, "node1", {
            World::healthy()
                .paths(|p| (is_service(p) && p.vantage == Vantage::Host).then_some(Outcome::NetworkUnreachable))
                .both(|s| s.host.topology = Reading::NotPermitted("CAP_SYS_ADMIN".to_owned()))
        }),
        row("bridged replies untranslated", BridgeFilterOff, Certain, "node1", {
            wrong_source().both(|s| sysctls(s).bridge_nf_call_iptables = Some(0))
        }),
        row("br_netfilter not loaded", BridgeFilterOff, Certain, "node1", {
            wrong_source().both(|s| sysctls(s).bridge_nf_call_iptables = None)
        }),
        row("hairpin off", HairpinOff, Certain, A, {
            World::healthy()
                .paths(|p| (is_service(p) && from(p, DNS_A)).then_some(Outcome::Timeout))
                .both(|s| link(s, VETH_A).port.as_mut().unwrap().hairpin = false)
        }),
        row(
            "neighbour table full",
            NeighbourTableFull,
            Certain,
            "node1",
            no_buffers().both(table(7)).newest(table(31)),
        ),
        row("ENOBUFS, the table unreadable", NeighbourTableFull, Probable, "node1", no_buffers()),
    ]
}
