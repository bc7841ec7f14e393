//! A node with two pods on a bridge, whole, and each fault that can be repaired.

use nameward_kernel::conntrack::Tuple;
use nameward_kernel::facts::{Address, BridgePort, Link, Neighbour, Reading, Route, RouteKind, Sysctls, Topology};
use nameward_kernel::repair::{Change, DefaultVia, FlowId, Image, NeighbourImage, Seen, Sysctl};
use nameward_messages::namespaces::{Namespace, NamespaceSource, Resolv};
use nameward_messages::remedy::RemedyKind;
use nameward_messages::targets::{DnsPod, DnsService, ServicePort, Targets};
use nameward_messages::time::Now;
use nameward_messages::verdict::{Cause, Confidence, Scope, Subject, SubjectKind, Verdict};
use nameward_messages::{NetnsCookie, ObjectKey};

use super::super::*;
use crate::journal::{Entry, State};

pub(super) const WRONG: &str = "02:00:00:00:be:ef";

pub(super) fn verdict(cause: Cause, subject: Subject) -> Verdict {
    let at = Now::at(Duration::from_secs(100));
    Verdict {
        cause,
        scope: Scope::Pod,
        subject,
        confidence: Confidence::Certain,
        evidence: vec![],
        ruled_out: vec![],
        since: at,
        at,
    }
}

pub(super) fn pod_subject() -> Subject {
    Subject::pod(&ObjectKey::new("shop", "web-1"), &"uid-1".into())
}

pub(super) fn node_subject() -> Subject {
    Subject { kind: SubjectKind::Node, namespace: None, name: "node1".into(), uid: None }
}

pub(super) fn namespace() -> Namespace {
    namespaces().remove(0)
}

pub(super) fn namespaces() -> Vec<Namespace> {
    let one = |n: u8| Namespace {
        pod: format!("uid-{n}").as_str().into(),
        key: ObjectKey::new("shop", format!("web-{n}")),
        cookie: NetnsCookie(u64::from(n)),
        path: format!("/run/netns/cni-{n}").into(),
        ips: vec![[10, 244, 1, 4 + n].into()],
        gateway: Some([10, 244, 1, 1].into()),
        host_veth: Some(format!("veth{n}")),
        bridge: Some("cni0".into()),
        resolv: Resolv::default(),
        source: NamespaceSource::CniCache,
    };
    vec![one(1), one(2)]
}

pub(super) fn targets() -> Targets {
    let port = || Some(ServicePort { name: "dns".into(), port: 53 });
    let pod = DnsPod {
        uid: "dns-1".into(),
        key: ObjectKey::new("kube-system", "coredns-1"),
        node: Some("node2".into()),
        ips: vec![[10, 244, 2, 21].into()],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready: true,
        terminating: false,
    };
    let service = DnsService {
        key: ObjectKey::new("kube-system", "kube-dns"),
        cluster_ips: vec![[10, 96, 0, 10].into()],
        udp_port: port(),
        tcp_port: port(),
        internal_traffic_local: false,
    };
    Targets { service: Some(service), pods: vec![pod], ..Targets::default() }
}

fn link(index: u32, name: &str, kind: Option<&str>, peer: Option<u32>) -> Link {
    let mac = format!("0a:00:00:00:00:{index:02x}");
    let kind = kind.map(str::to_owned);
    Link { index, name: name.into(), up: true, carrier: true, kind, peer, mac, mtu: 1500, ..Link::default() }
}

pub(super) fn default_route(gateway: [u8; 4], out: u32) -> Route {
    Route {
        v4: true,
        table: 254,
        destination: None,
        gateway: Some(gateway.into()),
        out_link: Some(out),
        kind: RouteKind::Unicast,
    }
}

fn inside(n: u8) -> Topology {
    let address = Address { link: 2, ip: [10, 244, 1, 4 + n].into(), prefix: 24 };
    let neighbour = Neighbour { link: 2, ip: [10, 244, 1, 1].into(), mac: Some("0a:00:00:00:00:03".into()), state: 2 };
    Topology {
        links: vec![link(1, "lo", None, None), link(2, "eth0", Some("veth"), Some(8 + u32::from(n)))],
        addresses: vec![address],
        routes: vec![default_route([10, 244, 1, 1], 2)],
        neighbours: vec![neighbour],
        ..Topology::default()
    }
}

pub(super) fn healthy() -> Seen {
    let port = Some(BridgePort { state: 3, hairpin: true, isolated: false });
    let veth = |n: u32| Link { master: Some(3), port, ..link(8 + n, &format!("veth{n}"), Some("veth"), Some(2)) };
    let host = Topology {
        links: vec![
            link(1, "lo", None, None),
            link(2, "eth0", Some("veth"), Some(5)),
            Link { vlan_filtering: Some(false), ..link(3, "cni0", Some("bridge"), None) },
            veth(1),
            veth(2),
        ],
        addresses: vec![
            Address { link: 2, ip: [172, 30, 0, 11].into(), prefix: 24 },
            Address { link: 3, ip: [10, 244, 1, 1].into(), prefix: 24 },
        ],
        routes: vec![default_route([172, 30, 0, 1], 2)],
        ..Topology::default()
    };
    let pods = (1..=2).map(|n| (format!("uid-{n}").as_str().into(), Reading::Read(inside(n)))).collect();
    let sysctls = Sysctls { ip_forward: Some(1), bridge_nf_call_iptables: Some(1), ..Sysctls::default() };
    Seen { host: Reading::Read(host), pods, sysctls: Reading::Read(sysctls), flows: Reading::Read(vec![]) }
}

pub(super) fn host(seen: &mut Seen) -> &mut Topology {
    match &mut seen.host {
        Reading::Read(host) => host,
        other => panic!("{other:?}"),
    }
}

pub(super) fn pod(seen: &mut Seen) -> &mut Topology {
    match seen.pods.get_mut(&"uid-1".into()) {
        Some(Reading::Read(pod)) => pod,
        other => panic!("{other:?}"),
    }
}

pub(super) fn entry(id: u64, began_s: u64, state: State) -> Entry {
    Entry {
        id,
        repair: id,
        boot: "b".into(),
        kind: RemedyKind::RestoreRoute,
        cause: Cause::PodRouteMissing,
        subject: pod_subject(),
        change: Change::Sysctl { name: Sysctl::IpForward, value: 1 },
        before: Image::Value(0),
        wrote: Image::Value(1),
        state,
        worse: false,
        care: false,
        began_ms: began_s * 1000,
        at: Now::at(Duration::from_secs(began_s)).wall,
    }
}

/// A fault: what is read, what is there where each change would be made, and the commands that repair it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    pub(super) seen: Seen,
    pub(super) before: Vec<Image>,
    pub(super) commands: Vec<&'static str>,
}

impl Case {
    pub(super) fn reversible(&self) -> bool {
        self.name != "stale-conntrack"
    }
}

fn via(gateway: [u8; 4]) -> Image {
    let gateway = Some(gateway.into());
    Image::Routes(vec![DefaultVia { gateway, link: Some(2), metric: 0, protocol: 3 }])
}

pub(super) fn dead_flow() -> FlowId {
    let (client, service) = ("10.244.1.5:4000".parse().unwrap(), "10.96.0.10:53".parse().unwrap());
    FlowId {
        original: Tuple { source: client, destination: service },
        reply: Tuple { source: "10.244.2.9:53".parse().unwrap(), destination: client },
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |name, cause, subject, spoil: &dyn Fn(&mut Seen), before: Vec<Image>, commands: Vec<&'static str>| {
        let mut seen = healthy();
        spoil(&mut seen);
        Case { name, verdict: verdict(cause, subject), seen, before, commands }
    };
    let route = "nsenter --net=/run/netns/cni-1 ip route replace default via 10.244.1.1 dev eth0";
    let no_route = || Image::Routes(vec![]);
    let wrong = |permanent| Image::Neighbour(Some(NeighbourImage { mac: WRONG.into(), permanent }));
    vec![
        case(
            "pod-route-missing",
            Cause::PodRouteMissing,
            pod_subject(),
            &|s| pod(s).routes.clear(),
            vec![no_route()],
            vec![route],
        ),
        case(
            "wrong-gateway",
            Cause::WrongGateway,
            pod_subject(),
            &|s| pod(s).routes = vec![default_route([10, 244, 1, 250], 2)],
            vec![via([10, 244, 1, 250])],
            vec![route],
        ),
        case(
            "veth-down",
            Cause::VethDown,
            pod_subject(),
            &|s| host(s).links[3].up = false,
            vec![Image::Up(false)],
            vec!["ip link set dev veth1 up"],
        ),
        case(
            "veth-down-inside",
            Cause::VethDown,
            pod_subject(),
            &|s| {
                pod(s).links[1].up = false;
                pod(s).routes.clear();
            },
            vec![Image::Up(false), no_route()],
            vec!["nsenter --net=/run/netns/cni-1 ip link set dev eth0 up", route],
        ),
        case(
            "veth-off-bridge",
            Cause::VethOffBridge,
            pod_subject(),
            &|s| (host(s).links[3].master, host(s).links[3].port) = (None, None),
            vec![Image::Bridge(None), Image::Hairpin(Some(false))],
            vec!["ip link set dev veth1 master cni0", "bridge link set dev veth1 hairpin on"],
        ),
        case(
            "wrong-neighbour-gateway",
            Cause::WrongNeighbour,
            pod_subject(),
            &|s| pod(s).neighbours[0].mac = Some(WRONG.into()),
            vec![wrong(true)],
            vec!["nsenter --net=/run/netns/cni-1 ip neigh del 10.244.1.1 dev eth0"],
        ),
        case(
            "wrong-neighbour",
            Cause::WrongNeighbour,
            pod_subject(),
            &|s| {
                let mac = Some(WRONG.into());
                host(s).neighbours.push(Neighbour { link: 3, ip: [10, 244, 1, 5].into(), mac, state: 0x80 });
            },
            vec![wrong(true)],
            vec!["ip neigh del 10.244.1.5 dev cni0"],
        ),
        case(
            "bridge-down",
            Cause::BridgeDown,
            node_subject(),
            &|s| {
                host(s).links[2].up = false;
                host(s).addresses.pop();
            },
            vec![Image::Up(false), Image::Addresses(vec![])],
            vec!["ip link set dev cni0 up", "ip address add 10.244.1.1/24 broadcast + dev cni0"],
        ),
        case(
            "ip-forward-off",
            Cause::IpForwardOff,
            node_subject(),
            &|s| {
                if let Reading::Read(sysctls) = &mut s.sysctls {
                    sysctls.ip_forward = Some(0);
                }
            },
            vec![Image::Value(0)],
            vec!["sysctl -w net.ipv4.ip_forward=1"],
        ),
        case(
            "stale-conntrack",
            Cause::StaleConntrack,
            node_subject(),
            &|s| s.flows = Reading::Read(vec![dead_flow()]),
            vec![Image::Flows(vec![dead_flow()])],
            vec!["conntrack -D -p udp --orig-src 10.244.1.5 --sport 4000 --orig-dst 10.96.0.10 --dport 53"],
        ),
    ]
}
