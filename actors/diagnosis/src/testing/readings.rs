//! What is read of a healthy node1 and its pods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use nameward_kernel::facts::{
    Address, BridgePort, Bypass, Counters, Link, Netfilter, Reading, Route, RouteKind, SocketRow, SocketTable, Sysctls,
    Topology,
};

use super::{CLIENT, CLIENT2, DNS_A, UPSTREAM, at, ip, iptables_rules, parsed, uid};
use crate::record::{Health, HostReadings, PodReadings, Sample};

/// A healthy sample.
pub(crate) fn sample(ms: u64) -> Sample {
    let mut pods = BTreeMap::new();
    pods.insert(uid(CLIENT), pod_readings("10.244.1.52", 54));
    pods.insert(uid(CLIENT2), pod_readings("10.244.1.54", 55));
    let mut coredns = pod_readings("10.244.1.51", 53);
    coredns.sockets = Reading::Read(SocketTable { udp: vec![socket(53, 0, 0)], tcp_listen: vec![socket(53, 0, 0)] });
    let counts = [("Udp.InDatagrams", ms), ("Udp.OutDatagrams", ms), ("Udp.NoPorts", 0)];
    coredns.counters = Reading::Read(Counters(counts.map(|(name, n)| (name.to_owned(), n)).into()));
    coredns.health = Reading::Read(Health::Status(200));
    pods.insert(uid(DNS_A), coredns);
    let processes = [(uid(DNS_A), super::process::healthy())].into();
    Sample { at: at(ms), host: host_readings(), pods, processes, ..Sample::default() }
}

pub(crate) fn socket(port: u16, rx_queue: u64, drops: u64) -> SocketRow {
    SocketRow { ip: ip("::"), port, rx_queue, drops, inode: 1 }
}

fn host_readings() -> HostReadings {
    let veth = |index: u32, name: &str| Link {
        index,
        name: name.to_owned(),
        up: true,
        carrier: true,
        master: Some(3),
        kind: Some("veth".to_owned()),
        peer: Some(2),
        port: Some(BridgePort { state: 3, hairpin: true, isolated: false }),
        ..Link::default()
    };
    let bridge = Link {
        index: 3,
        name: "cni0".to_owned(),
        up: true,
        carrier: true,
        kind: Some("bridge".to_owned()),
        mac: super::links::BRIDGE_MAC.to_owned(),
        ..Link::default()
    };
    let eth0 = Link { index: 2, name: "eth0".to_owned(), up: true, carrier: true, ..Link::default() };
    let mut topology = Topology {
        links: vec![eth0, bridge, veth(53, "veth97ef3b4e"), veth(54, "veth2fe33054"), veth(55, "veth456dee19")],
        ..Topology::default()
    };
    super::links::complete_host(&mut topology);
    HostReadings {
        topology: Reading::Read(topology),
        netfilter: Netfilter {
            iptables_nft: parsed(&iptables_rules()),
            iptables_legacy: Reading::NotPresent("no legacy table is in use".to_owned()),
            kube_proxy_nft: Reading::NotPresent("there is no table ip kube-proxy".to_owned()),
            other_base_chains: Reading::Read(Vec::new()),
            native: Reading::Read(nameward_kernel::nft::Native::default()),
        },
        sysctls: Reading::Read(Sysctls {
            ip_forward: Some(1),
            bridge_nf_call_iptables: Some(1),
            rp_filter_all: Some(0),
            conntrack_count: Some(80),
            conntrack_max: Some(262_144),
            ..Sysctls::default()
        }),
        nameservers: Reading::Read(vec![ip(UPSTREAM)]),
        bypass: Reading::Read(Bypass::default()),
        ..HostReadings::default()
    }
}

fn pod_readings(address: &str, peer: u32) -> PodReadings {
    let eth0 = Link {
        index: 2,
        name: "eth0".to_owned(),
        up: true,
        carrier: true,
        kind: Some("veth".to_owned()),
        peer: Some(peer),
        mac: super::links::mac(address),
        ..Link::default()
    };
    let route = |destination, gateway| Route {
        v4: true,
        table: 254,
        destination,
        gateway,
        out_link: Some(2),
        kind: RouteKind::Unicast,
    };
    let mut topology = Topology {
        links: vec![Link { index: 1, name: "lo".to_owned(), up: true, ..Link::default() }, eth0],
        addresses: vec![Address { link: 2, ip: ip(address), prefix: 24 }],
        routes: vec![route(None, Some(ip("10.244.1.1"))), route(Some((ip("10.244.1.0"), 24)), None)],
        ..Topology::default()
    };
    super::links::complete_pod(&mut topology);
    PodReadings { topology: Reading::Read(topology), ..PodReadings::default() }
}

/// Changes what was read of a pod's namespace.
pub(crate) fn topology<'a>(sample: &'a mut Sample, pod: &str) -> &'a mut Topology {
    match &mut sample.pods.get_mut(&uid(pod)).unwrap().topology {
        Reading::Read(topology) => topology,
        other => panic!("{other:?}"),
    }
}
