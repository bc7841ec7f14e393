#![allow(clippy::unwrap_used)]

use super::*;

const NONE: &[(&str, Option<&str>)] = &[];

/// A link of a kind, with routes by it: destination (`None`: default) and gateway.
fn add(topology: &mut Topology, name: &str, kind: Option<&str>, routes: &[(&str, Option<&str>)]) {
    let index = u32::try_from(topology.links.len()).unwrap() + 1;
    let kind = kind.map(str::to_owned);
    topology.links.push(Link { index, name: name.to_owned(), up: true, kind, ..Link::default() });
    for (to, gateway) in routes {
        let destination = to.split_once('/').map(|(net, bits)| (net.parse().unwrap(), bits.parse().unwrap()));
        let gateway = gateway.map(|ip| ip.parse().unwrap());
        let out_link = Some(index);
        let kind = RouteKind::Unicast;
        topology.routes.push(Route { v4: true, table: 254, destination, gateway, out_link, kind });
    }
}

fn uplinks(topology: &Topology) -> Vec<&str> {
    topology.uplinks().map(|link| link.name.as_str()).collect()
}

#[test]
fn pods_own_links_lead_to_no_other_node() {
    // Calico: a route to each pod by its veth, other nodes' blocks via these (docs.tigera.io, "The Calico data path: IP routing and
    // iptables").
    let mut calico = Topology::default();
    add(&mut calico, "lo", None, &[("127.0.0.0/8", None)]);
    add(&mut calico, "ens3", None, &[("default", Some("10.0.0.1")), ("192.168.9.64/26", Some("10.0.0.2"))]);
    add(&mut calico, "cali0ef24ba", Some("veth"), &[("192.168.7.65/32", None)]);
    add(&mut calico, "cali1f4a2c8", Some("veth"), &[("192.168.7.66/32", None), ("192.168.7.67/32", None)]);
    assert_eq!(uplinks(&calico), ["ens3"]);
    calico.links[3].up = false;
    add(&mut calico, "vxlan.calico", Some("vxlan"), &[("192.168.8.0/26", Some("192.168.8.0"))]);
    assert_eq!(uplinks(&calico), ["ens3", "vxlan.calico"]);
}

#[test]
fn what_a_node_has_towards_others_counts_whatever_it_is_made_of() {
    // A node that is a container (kind), whose links are veths, too; its pods are on veths with single routes.
    let mut kind = Topology::default();
    add(&mut kind, "eth0", Some("veth"), &[("default", Some("172.18.0.1")), ("172.18.0.0/16", None)]);
    add(&mut kind, "veth1a2b3c4d", Some("veth"), &[("10.244.0.2/32", None)]);
    add(&mut kind, "eth1", Some("veth"), &[("172.31.0.0/24", None)]);
    assert_eq!(uplinks(&kind), ["eth0", "eth1"]);
    // The address of a machine in GCP is its own network: the gateway has a route to itself alone.
    let mut cloud = Topology::default();
    add(&mut cloud, "ens4", None, &[("default", Some("10.128.0.1")), ("10.128.0.1/32", None)]);
    add(&mut cloud, "gke52a1b3c4d", Some("veth"), &[("10.4.0.7/32", None)]);
    add(&mut cloud, "cbr0", Some("bridge"), &[("10.4.1.0/24", None)]);
    add(&mut cloud, "ens5", None, NONE);
    assert_eq!(uplinks(&cloud), ["ens4"]);
    // A default route by a veth that has no gateway still leads out, and a table of own addresses nowhere.
    let mut bare = Topology::default();
    add(&mut bare, "eth0", Some("veth"), &[("default", None)]);
    add(&mut bare, "eth1", Some("veth"), &[("172.31.0.0/24", None)]);
    bare.routes[1].table = 255;
    assert_eq!(uplinks(&bare), ["eth0"]);
}
