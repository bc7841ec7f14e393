#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{Address, Route, RouteKind};

use super::*;
use crate::record::EvidenceRecord;
use crate::testing::{CLIENT, DNS_A, DNS_B, World, dns, ip, iptables_rules, parsed, service, topology, uid, without};

fn from(record: &EvidenceRecord, pod: Option<&str>, target: &Target) -> Vec<Step> {
    let namespace = pod.map(|pod| &record.namespaces[&uid(pod)]);
    let vantage =
        namespace.map_or(Vantage::Host, |n| Vantage::Pod { uid: n.pod.clone(), key: n.key.clone(), cookie: n.cookie });
    let known = Known {
        node: &record.node,
        targets: &record.targets,
        vantage: &vantage,
        namespace,
        sample: record.current.as_ref().unwrap(),
    };
    way(&known, target, Transport::Udp)
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|s| format!("{:?} {} {:?} {}\n", s.hop, s.at, s.passes, s.says)).collect()
}

/// The recorded node with the routes of a node.
fn world() -> World {
    World::healthy().both(|sample| {
        let Reading::Read(host) = &mut sample.host.topology else { panic!() };
        let route = |destination, gateway: Option<&str>, link| Route {
            v4: true,
            table: 254,
            destination,
            gateway: gateway.map(ip),
            out_link: Some(link),
            kind: RouteKind::Unicast,
        };
        host.links.push(Link { index: 2, name: "eth0".into(), up: true, carrier: true, ..Link::default() });
        host.routes = vec![
            route(None, Some("172.30.0.254"), 2),
            route(Some((ip("10.244.1.0"), 24)), None, 3),
            route(Some((ip("10.244.2.0"), 24)), Some("172.30.0.2"), 2),
        ];
        host.addresses = vec![Address { link: 3, ip: ip("10.244.1.1"), prefix: 24 }];
    })
}

#[test]
fn the_way_to_the_service_goes_through_every_layer() {
    let record = world().record();
    let steps = from(&record, Some(CLIENT), &service());
    let hops: Vec<Hop> = steps.iter().map(|s| s.hop).collect();
    let expected =
        [Hop::Namespace, Hop::Route, Hop::Veth, Hop::Bridge, Hop::Rules, Hop::Forwarding, Hop::Dnat, Hop::Rules];
    assert_eq!(hops[..8], expected, "{}", text(&steps));
    assert!(steps.iter().all(|s| s.passes != Passes::No), "{}", text(&steps));
    for part in [
        "eth0 is up with 10.244.1.52/24",
        "10.96.0.10 by the default route via 10.244.1.1 dev eth0",
        "veth2fe33054 Yes host end of default/client, on cni0",
        "for 10.96.0.10 udp they are what the API says",
        "PREROUTING nat Yes PREROUTING > KUBE-SERVICES > KUBE-SVC-TCOU7JCQXEZGVUNU > KUBE-SEP-647RWIEZ6KB2IYOO > KUBE-SEP-",
        "dnat to 10.244.1.51:53, dnat to 10.244.2.21:53",
        "net.ipv4.ip_forward is 1",
        "10.244.2.21 by 10.244.2.0/24 via 172.30.0.2 dev eth0",
        "kube-system/coredns-74c7b86f9f-92dzt on node2",
        "listens on udp 53; nothing waits",
    ] {
        assert!(text(&steps).contains(part), "{part}: {}", text(&steps));
    }
}

#[test]
fn it_ends_where_the_packet_does() {
    let ends = |world: World, pod, target: &Target| {
        let steps = from(&world.record(), pod, target);
        let last = steps.last().unwrap().clone();
        (last.passes, format!("{}: {}", last.at, last.says))
    };
    let no_route = world().both(|s| topology(s, CLIENT).routes.retain(|r| r.destination.is_some()));
    let said = ends(no_route, Some(CLIENT), &service());
    assert_eq!(said, (Passes::No, "default/client: no route to 10.96.0.10: sending fails at once".to_owned()));

    let off = world().both(|s| {
        let Reading::Read(host) = &mut s.host.topology else { panic!() };
        host.links.iter_mut().find(|l| l.index == 54).unwrap().up = false;
    });
    assert!(ends(off, Some(CLIENT), &dns(DNS_B)).1.contains("host end of default/client, is down"));

    let jumpless = parsed(&without(&iptables_rules(), "-A PREROUTING"));
    let flushed = world().both(move |s| s.host.netfilter.iptables_nft = jumpless.clone());
    assert!(ends(flushed, Some(CLIENT), &service()).1.contains("PREROUTING has no jump"));

    let drop = iptables_rules().replace(":FORWARD ACCEPT", ":FORWARD DROP");
    let dropped = world().both(move |s| s.host.netfilter.iptables_nft = parsed(&drop));
    let said = ends(dropped, Some(CLIENT), &dns(DNS_B)).1;
    assert!(said.contains("drop by table") && said.ends_with("policy of chain FORWARD"), "{said}");

    let deaf = world().both(|s| {
        let Reading::Read(sockets) = &mut s.pods.get_mut(&uid(DNS_A)).unwrap().sockets else { panic!() };
        sockets.udp.clear();
    });
    assert_eq!(ends(deaf, None, &dns(DNS_A)).1, "kube-system/coredns-74c7b86f9f-7tsjn: nobody listens on udp 53");
}

#[test]
fn what_was_not_read_is_said() {
    let blind = world().both(|s| {
        s.host.topology = Reading::NotPermitted("grant CAP_NET_ADMIN".to_owned());
        s.host.sysctls = Reading::NotRead;
        s.pods.clear();
    });
    let steps = from(&blind.record(), Some(CLIENT), &dns(DNS_A));
    assert!(steps.iter().all(|s| s.passes != Passes::No), "{}", text(&steps));
    for part in ["its namespace was not read", "grant CAP_NET_ADMIN", "on this node was not read"] {
        assert!(text(&steps).contains(part), "{part}: {}", text(&steps));
    }
}

#[test]
fn a_pod_asks_itself_without_leaving() {
    let steps = from(&world().record(), Some(DNS_A), &dns(DNS_A));
    assert!(steps.iter().all(|s| !matches!(s.hop, Hop::Veth | Hop::Bridge)), "{}", text(&steps));
    assert!(steps.last().unwrap().says.contains("listens on udp 53"));
}
