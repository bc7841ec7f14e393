//! Links, addresses, routes and neighbours of the healthy node1, as in the recordings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{Address, FibQuery, FibResult, Lookup, Neighbour, Reading, Route, RouteKind, Topology};

use super::ip;
use crate::record::Sample;

/// The link-layer address of a pod by its address.
pub(crate) fn mac(address: &str) -> String {
    let last: u8 = address.rsplit('.').next().unwrap().parse().unwrap();
    format!("0e:e1:0b:0e:c1:{last:02x}")
}

/// NUD_REACHABLE.
pub(crate) const REACHABLE: u16 = 0x02;
/// NUD_FAILED.
pub(crate) const FAILED: u16 = 0x20;
/// NUD_PERMANENT.
pub(crate) const PERMANENT: u16 = 0x80;

pub(crate) fn neighbour(link: u32, address: &str, mac: Option<&str>, state: u16) -> Neighbour {
    Neighbour { link, ip: ip(address), mac: mac.map(str::to_owned), state }
}

pub(crate) fn via(matched: Option<(&str, u8)>, gateway: Option<&str>, out_link: u32) -> FibResult {
    FibResult::Route {
        kind: RouteKind::Unicast,
        matched: matched.map(|(to, prefix)| (ip(to), prefix)),
        gateway: gateway.map(ip),
        out_link: Some(out_link),
        table: 254,
    }
}

/// Says what the kernel would answer to a lookup.
pub(crate) fn look(topology: &mut Topology, to: &str, result: FibResult) {
    topology.lookups.retain(|l| l.query.destination != ip(to));
    topology.lookups.push(Lookup { query: FibQuery::to(ip(to)), result: Reading::Read(result) });
}

/// What was read of the host's links.
pub(crate) fn host(sample: &mut Sample) -> &mut Topology {
    match &mut sample.host.topology {
        Reading::Read(topology) => topology,
        other => panic!("{other:?}"),
    }
}

/// node1's own addresses, routes and neighbours; its links are there.
pub(crate) fn complete_host(topology: &mut Topology) {
    let route = |destination: Option<(&str, u8)>, gateway: Option<&str>, out_link| Route {
        v4: true,
        table: 254,
        destination: destination.map(|(to, prefix)| (ip(to), prefix)),
        gateway: gateway.map(ip),
        out_link: Some(out_link),
        kind: RouteKind::Unicast,
    };
    topology.addresses = vec![
        Address { link: 2, ip: ip("172.30.0.11"), prefix: 24 },
        Address { link: 3, ip: ip("10.244.1.1"), prefix: 24 },
    ];
    topology.routes = vec![
        route(None, None, 2),
        route(Some(("10.244.1.0", 24)), None, 3),
        route(Some(("10.244.2.0", 24)), Some("172.30.0.12"), 2),
        route(Some(("172.30.0.0", 24)), None, 2),
    ];
    topology.neighbours = vec![
        neighbour(3, "10.244.1.51", Some(&mac("10.244.1.51")), REACHABLE),
        neighbour(3, "10.244.1.52", Some(&mac("10.244.1.52")), REACHABLE),
        neighbour(2, "172.30.0.12", Some("3e:15:ab:e4:76:7d"), REACHABLE),
    ];
    look(topology, "10.96.0.10", via(None, None, 2));
    look(topology, "10.244.1.51", via(Some(("10.244.1.0", 24)), None, 3));
    look(topology, "10.244.2.21", via(Some(("10.244.2.0", 24)), Some("172.30.0.12"), 2));
}

/// A pod's own.
pub(crate) fn complete_pod(topology: &mut Topology) {
    topology.neighbours = vec![neighbour(2, "10.244.1.1", Some(BRIDGE_MAC), REACHABLE)];
    let gateway = Some("10.244.1.1");
    look(topology, "10.96.0.10", via(None, gateway, 2));
    look(topology, "10.244.1.51", via(Some(("10.244.1.0", 24)), None, 2));
    look(topology, "10.244.2.21", via(None, gateway, 2));
}

/// cni0's link-layer address.
pub(crate) const BRIDGE_MAC: &str = "fa:d6:81:43:c4:5c";
