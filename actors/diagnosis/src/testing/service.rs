//! Worlds in which the way of the Service is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use nameward_kernel::facts::{Address, ConntrackStat, Link, Reading, SocketTable};
use nameward_kernel::flows::FlowGroup;
use nameward_kernel::locks::FileLock;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Transport};

use super::*;

/// The held-port path of a vantage.
pub(crate) fn held(vantage: Vantage) -> PathKey {
    PathKey { vantage, target: service(), transport: Transport::Udp, question: QuestionKind::Held }
}

/// Entries of clients that lead to an endpoint.
pub(crate) fn group(destination: &str, endpoint: &str, clients: &[&str], replied: u32) -> FlowGroup {
    let clients: Vec<std::net::SocketAddr> = clients.iter().map(|c| c.parse().unwrap()).collect();
    let count = u32::try_from(clients.len()).unwrap();
    FlowGroup {
        transport: Transport::Udp,
        destination: destination.parse().unwrap(),
        endpoint: endpoint.parse().unwrap(),
        masqueraded: false,
        replied,
        unreplied: count.saturating_sub(replied),
        unanswered: if replied == 0 { clients.clone() } else { Vec::new() },
        clients,
    }
}

pub(crate) fn flows(groups: Vec<FlowGroup>) -> impl Fn(&mut Sample) {
    move |sample| sample.host.flows = Reading::Read(groups.clone())
}

/// Conntrack's counters, and how many entries there are of how many.
pub(crate) fn conntrack(failed: u64, dropped: u64, count: i64) -> impl Fn(&mut Sample) {
    move |sample| {
        let counts = [("insert_failed", failed), ("drop", dropped)];
        let counts: BTreeMap<String, u64> = counts.map(|(name, n)| (name.to_owned(), n)).into();
        sample.host.conntrack = Reading::Read(ConntrackStat(counts));
        let Reading::Read(sysctls) = &mut sample.host.sysctls else { panic!("no sysctls") };
        sysctls.conntrack_count = Some(count);
        sysctls.conntrack_max = Some(262_144);
    }
}

/// Queries that diagnosis sent between the two samples, and that were lost.
pub(crate) fn lose(mut world: World, path: &PathKey, count: usize) -> World {
    for n in 0..count {
        let sent = 96_500 + u64::try_from(n).unwrap();
        world.record.probes.push(observation(path.clone(), Outcome::Timeout, sent, Purpose::Diagnosis));
    }
    world
}

/// Every path by UDP to the pod of the other node is lost, and what the Service sends there.
pub(crate) fn clashing() -> World {
    let world = World::healthy().paths(|p| {
        let there = matches!(&p.target.kind, TargetKind::Pod { uid, .. } if uid.0 == DNS_B);
        let by_service = matches!(p.target.kind, TargetKind::Service) && p.vantage == Vantage::Host;
        (p.transport == Transport::Udp && (there || by_service)).then_some(Outcome::Timeout)
    });
    let path = PathKey {
        vantage: Vantage::Host,
        target: dns(DNS_B),
        transport: Transport::Udp,
        question: QuestionKind::Internal,
    };
    lose(world, &path, 3)
}

/// kube-proxy's rules with `has no local endpoints`, as it writes them (pkg/proxy/iptables/proxier.go).
pub(crate) fn no_local_rules() -> String {
    std::fs::read_to_string(recordings().join("faults/no-endpoints.iptables-save.txt"))
        .unwrap()
        .replace("has no endpoints", "has no local endpoints")
        .replace("-j REJECT --reject-with icmp-port-unreachable", "-j DROP")
}

pub(crate) fn by_nameserver(vantage: Vantage, address: &str, transport: Transport) -> PathKey {
    let target: Target = server(TargetKind::Nameserver, address);
    PathKey { vantage, target, transport, question: QuestionKind::Internal }
}

/// NodeLocal DNSCache's rules for the Service's address, beside those of kube-proxy.
pub(crate) fn notrack_rules() -> String {
    let rule = |chain: &str, transport: &str| {
        format!("-A {chain} -d 10.96.0.10/32 -p {transport} -m {transport} --dport 53 -j CT --notrack\n")
    };
    let rules: String = ["PREROUTING", "OUTPUT"].iter().flat_map(|c| ["udp", "tcp"].map(|t| rule(c, t))).collect();
    format!("*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n{}", iptables_rules())
}

/// The cache's link with its addresses.
pub(crate) fn cache_link(sample: &mut Sample) {
    let Reading::Read(topology) = &mut sample.host.topology else { panic!("no topology") };
    topology.links.push(Link {
        index: 90,
        name: "nodelocaldns".to_owned(),
        up: true,
        carrier: true,
        kind: Some("dummy".to_owned()),
        ..Link::default()
    });
    for address in ["169.254.20.10", "10.96.0.10"] {
        topology.addresses.push(Address { link: 90, ip: ip(address), prefix: 32 });
    }
}

pub(crate) fn listeners(table: SocketTable) -> impl Fn(&mut Sample) {
    move |sample| sample.host.listeners = Reading::Read(table.clone())
}

pub(crate) fn locked(held: bool) -> impl Fn(&mut Sample) {
    move |sample| {
        let holder = held.then_some(4711);
        sample.host.xtables_lock = Reading::Read(FileLock { held, holder, waiting: 1, partial: false });
    }
}

/// node1's rules as they were when both pods had other addresses.
pub(crate) fn old_rules() -> String {
    iptables_rules().replace("10.244.1.51:53", "10.244.1.77:53").replace("10.244.2.21:53", "10.244.1.78:53")
}

/// The iptables-legacy tables, and none of kube-proxy in the other backend.
pub(crate) fn legacy_alone(text: String) -> impl Fn(&mut Sample) {
    move |sample| {
        sample.host.netfilter.iptables_nft = parsed("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n");
        sample.host.netfilter.iptables_legacy = parsed(&text);
    }
}

/// External names fail by CoreDNS A; the upstream answers the host and not the pod.
pub(crate) fn bare() -> World {
    let up = || server(TargetKind::Upstream, UPSTREAM);
    World::healthy()
        .paths(|p| {
            let a = matches!(&p.target.kind, TargetKind::Pod { uid, .. } if uid.0 == DNS_A);
            (p.question == QuestionKind::External && a).then_some(Outcome::Rcode { rcode: 2 })
        })
        .asked(Vantage::Host, up(), &Outcome::Answered, &[95_500, 97_000])
        .asked(pod_vantage(DNS_A), up(), &Outcome::Timeout, &[95_500, 97_000])
}
