//! Other nodes complain, and what this node counts of their packets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{ConntrackStat, Counters, Link, Reading, Route, RouteKind};
use nameward_messages::report::Complaint;
use nameward_messages::targets::Transport;

use super::{DNS_A, World, ip, uid};
use crate::record::Sample;

/// node2 cannot reach CoreDNS A by these transports; nothing fails from here.
pub(crate) fn complained(transports: &[Transport]) -> World {
    let complaint = Complaint {
        pod: uid(DNS_A),
        transports: transports.to_vec(),
        from: vec!["node2".into()],
        because: "time-out over udp from 3 of 3 vantages of node2".to_owned(),
    };
    World::healthy().with(|record| record.complaints = vec![complaint])
}

/// A counter of the node's own namespace.
pub(crate) fn host_counter(name: &'static str, value: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        let mut counters = sample.host.counters.value().cloned().unwrap_or(Counters::default());
        counters.0.insert(name.to_owned(), value);
        sample.host.counters = Reading::Read(counters);
    }
}

/// A counter of CoreDNS A's namespace.
pub(crate) fn pod_counter(name: &'static str, value: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        let Reading::Read(counters) = &mut sample.pods.get_mut(&uid(DNS_A)).unwrap().counters else {
            panic!("no counters");
        };
        counters.0.insert(name.to_owned(), value);
    }
}

/// What conntrack calls invalid.
pub(crate) fn invalid(value: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        let stat = ConntrackStat([("invalid".to_owned(), value)].into());
        sample.host.conntrack = Reading::Read(stat);
    }
}

/// A second link that leads out, with the way to node2's pods; the filter has this setting on every link.
pub(crate) fn second_uplink(rp_filter: i64) -> impl Fn(&mut Sample) {
    move |sample| {
        let Reading::Read(topology) = &mut sample.host.topology else { panic!("no topology") };
        let link = |index: u32, name: &str| Link {
            index,
            name: name.to_owned(),
            up: true,
            carrier: true,
            kind: Some("veth".to_owned()),
            ..Link::default()
        };
        let route = |destination, out_link| Route {
            v4: true,
            table: 254,
            destination: Some(destination),
            gateway: None,
            out_link: Some(out_link),
            kind: RouteKind::Unicast,
        };
        topology.links.retain(|l| !matches!(l.name.as_str(), "eth0" | "eth1"));
        topology.links.extend([link(100, "eth0"), link(101, "eth1")]);
        topology.routes.extend([route((ip("172.30.0.0"), 24), 100), route((ip("10.244.2.0"), 24), 101)]);
        let Reading::Read(sysctls) = &mut sample.host.sysctls else { panic!("no sysctls") };
        sysctls.rp_filter =
            [("all", 0), ("eth0", rp_filter), ("eth1", rp_filter)].map(|(n, v)| (n.to_owned(), v)).into();
    }
}
