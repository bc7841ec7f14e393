//! Every fault changes what it says and nothing else, and its undo restores exactly that.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nameward_simulations::lab::{Lab, NetFault, Private, Snapshot, diff};
use nameward_simulations::proxy::Mode;

use crate::dns_server::{Asked, KUBERNETES, PATIENCE, ask_tcp, ask_udp};
use crate::network::{Healthy, dns_of, service};

/// What each difference must begin with, and how many there must be.
type Expected = (Vec<String>, std::ops::RangeInclusive<usize>);

const PLACES: [&str; 7] =
    ["control", "node1", "node2", "default/client-a", "default/client-b", "kube-system/coredns-a", "default/client-c"];

/// Every namespace, and the files of the pod that faults are done to.
fn all(lab: &Lab) -> (BTreeMap<&'static str, Snapshot>, [String; 2]) {
    let pod = lab.pod("default/client-a").unwrap();
    let files = [&pod.resolv_conf, &pod.cni_result].map(|path| std::fs::read_to_string(path).unwrap());
    (PLACES.iter().map(|p| (*p, lab.netns(p).unwrap().snapshot().unwrap())).collect(), files)
}

/// `place: difference` for every place.
fn differences(before: &BTreeMap<&'static str, Snapshot>, after: &BTreeMap<&'static str, Snapshot>) -> Vec<String> {
    before
        .iter()
        .flat_map(|(place, was)| diff(was, &after[place]).into_iter().map(move |d| format!("{place}: {d}")))
        .collect()
}

pub fn each_changes_what_it_says_iptables_nft(private: Private) {
    each_changes_what_it_says(private, Mode::IptablesNft);
}

pub fn each_changes_what_it_says_iptables_legacy(private: Private) {
    each_changes_what_it_says(private, Mode::IptablesLegacy);
}

pub fn each_changes_what_it_says_nftables(private: Private) {
    each_changes_what_it_says(private, Mode::Nftables);
}

fn each_changes_what_it_says(private: Private, mode: Mode) {
    let mut lab = Healthy::build(private, mode).lab;
    let program = mode.program();
    let nft = mode == Mode::Nftables;
    let (node, pod) = (|| "node1".to_owned(), || "default/client-a".to_owned());
    let veth = lab.pod(&pod()).unwrap().host_veth.clone();
    let dispatch = if nft {
        "node1: - nft ip kube-proxy map service-ips: element 10.96.0.".to_owned()
    } else {
        format!("node1: - {program} nat KUBE-SERVICES: KUBE-SERVICES ")
    };
    let udp = if nft {
        "node1: - nft ip kube-proxy map service-ips: element 10.96.0.10 . udp . 53".to_owned()
    } else {
        format!("node1: - {program} nat KUBE-SERVICES: KUBE-SERVICES -d 10.96.0.10/32 -p udp")
    };
    let jump = if nft {
        "node1: - nft ip kube-proxy chain nat-prerouting: jump services".to_owned()
    } else {
        format!("node1: - {program} nat PREROUTING: PREROUTING -m comment")
    };
    let (service_lines, to) = (if nft { 4 } else { 5 }, IpAddr::from([10, 244, 1, 2]));
    let one = |prefix: String| (vec![prefix], 1..=1);
    let cases: Vec<(NetFault, Expected)> = vec![
        (NetFault::ServiceRulesFlushed { node: node() }, (vec![dispatch], service_lines..=service_lines)),
        (NetFault::UdpServiceRuleDeleted { node: node() }, one(udp)),
        (NetFault::PreroutingJumpDeleted { node: node() }, one(jump)),
        (NetFault::RulesetFlushed { node: node() }, (vec!["node1: - ".into()], 20..=400)),
        (NetFault::ProxyHeld { node: node() }, (vec![], 0..=0)),
        (
            NetFault::ForwardPolicyDrop { node: node() },
            (["-", "+"].map(|s| format!("node1: {s} {program} filter FORWARD: policy ")).into(), 2..=2),
        ),
        (
            NetFault::UdpFiltered { node: node(), to },
            one(format!("node1: + {program} filter FORWARD: FORWARD -d 10.244.1.2/32")),
        ),
        (
            NetFault::UdpLoss { node: node(), per_mille: 10 },
            one(format!("node1: + {program} mangle FORWARD: FORWARD -p udp")),
        ),
        (NetFault::DefaultRouteDeleted { pod: pod() }, one("default/client-a: - routes: default".into())),
        (
            NetFault::VethDetached { pod: pod() },
            (["-", "+"].map(|s| format!("node1: {s} links: {veth} veth up")).into(), 2..=2),
        ),
        (
            NetFault::VethDown { pod: pod() },
            (
                ["- links: VETH veth up", "+ links: VETH veth down"]
                    .map(|s| format!("node1: {}", s.replace("VETH", &veth)))
                    .into(),
                2..=2,
            ),
        ),
        (
            NetFault::UpstreamDropped,
            (
                vec![
                    "control: + iptables-nft filter INPUT: INPUT -p ".into(),
                    "control: + iptables-nft filter INPUT: policy ACCEPT".into(),
                    "control: + iptables-nft filter".into(),
                ],
                2..=8,
            ),
        ),
        (NetFault::NodeRouteDeleted { node: node(), to: "node2".into() }, one("node1: - routes: 10.244.2.0/24".into())),
        (
            NetFault::BridgeAddressDeleted { node: node() },
            (vec!["node1: - addresses: 10.244.1.1 on cni0".into(), "node1: - routes: 10.244.1.0/24".into()], 2..=2),
        ),
        (
            NetFault::ForwardingOff { node: node() },
            (
                vec![
                    "node1: - sysctls: ipv4.ip_forward = 1".into(),
                    "node1: + sysctls: ipv4.ip_forward = 0".into(),
                    // The kernel turns the switch of every link with it.
                    "node1: - sysctls: ipv4.conf.".into(),
                    "node1: + sysctls: ipv4.conf.".into(),
                ],
                2..=40,
            ),
        ),
        (
            NetFault::BridgeFilterOff { node: node() },
            (
                ["- sysctls: bridge.bridge-nf-call-iptables = 1", "+ sysctls: bridge.bridge-nf-call-iptables = 0"]
                    .map(|s| format!("node1: {s}"))
                    .into(),
                2..=2,
            ),
        ),
    ];
    // A table that a fault had to make stays; made here, it is in the picture before.
    lab.netns("control")
        .unwrap()
        .tool("iptables-nft-restore", &["--noflush"], "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
        .unwrap();
    lab.netns("node1")
        .unwrap()
        .tool(&format!("{program}-restore"), &["--noflush"], "*mangle\n:FORWARD ACCEPT [0:0]\nCOMMIT\n")
        .unwrap();
    for (fault, (prefixes, count)) in cases {
        let what = format!("{mode:?} {fault:?}");
        let (before, files) = all(&lab);
        let injected = lab.inject(fault).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(!injected.did.is_empty(), "{what} says what it did");
        let (after, same_files) = all(&lab);
        let found = differences(&before, &after);
        let stray: Vec<&String> =
            found.iter().filter(|d| !prefixes.iter().any(|p| d.starts_with(p.as_str()))).collect();
        assert!(stray.is_empty(), "{what} changed more than it says: {stray:#?}");
        assert!(count.contains(&found.len()), "{what}: {found:#?}");
        assert_eq!(files, same_files, "{what} touches no file");
        lab.undo(injected).unwrap_or_else(|e| panic!("{what}, undo: {e}"));
        let left = differences(&before, &all(&lab).0);
        assert!(left.is_empty(), "{what} is not undone: {left:#?}");
    }
    nameserver(&mut lab);
}

fn nameserver(lab: &mut Lab) {
    let (before, files) = all(lab);
    let wrong = "192.0.2.53".parse().unwrap();
    let injected =
        lab.inject(NetFault::NameserverReplaced { pod: "default/client-a".into(), nameserver: wrong }).unwrap();
    let (after, changed) = all(lab);
    assert_eq!(differences(&before, &after), Vec::<String>::new(), "no kernel state");
    assert_eq!(changed.clone().map(|text| text.replace("192.0.2.53", "10.96.0.10")), files, "only the address");
    assert_ne!(changed, files);
    let root = format!("/proc/{}/root/etc/resolv.conf", lab.pod("default/client-a").unwrap().holder());
    assert_eq!(std::fs::read_to_string(root).unwrap(), changed[0], "the pod sees it");
    lab.undo(injected).unwrap();
    assert_eq!(all(lab).1, files);
}

/// What a client sees of some faults, as the fault catalogue has it.
pub fn symptoms_are_those_of_the_catalogue(private: Private) {
    let short = Duration::from_millis(500);
    let (good, silent) = (Asked::ip("10.96.0.1"), Asked::Failed(io::ErrorKind::TimedOut));
    let mut healthy = Healthy::build(private, Mode::IptablesNft);
    let lab = &mut healthy.lab;
    let (node, pod) = ("node1".to_owned(), "default/client-a".to_owned());
    let target = |lab: &Lab| dns_of(lab, "kube-system/coredns-a");
    let udp = |lab: &Lab, from: &str, to| ask_udp(lab.netns(from).unwrap(), to, KUBERNETES, short);
    let tcp = |lab: &Lab, from: &str, to| ask_tcp(lab.netns(from).unwrap(), to, KUBERNETES, short);
    let broken = |lab: &mut Lab, fault: NetFault, see: &dyn Fn(&Lab)| {
        let injected = lab.inject(fault).unwrap();
        see(lab);
        lab.undo(injected).unwrap();
        for to in [service(), target(lab)] {
            assert_eq!(
                ask_udp(lab.netns("default/client-a").unwrap(), to, KUBERNETES, PATIENCE),
                good,
                "after the undo"
            );
        }
    };
    broken(lab, NetFault::ServiceRulesFlushed { node: node.clone() }, &|lab| {
        assert_eq!(udp(lab, "default/client-a", service()), silent);
        assert_eq!(tcp(lab, "node1", service()), silent);
        assert_eq!(udp(lab, "default/client-a", target(lab)), good, "pods still answer");
        assert_eq!(udp(lab, "default/client-c", service()), good, "the other node is well");
    });
    broken(lab, NetFault::UdpServiceRuleDeleted { node: node.clone() }, &|lab| {
        assert_eq!(udp(lab, "default/client-a", service()), silent);
        assert_eq!(tcp(lab, "default/client-a", service()), good);
    });
    broken(lab, NetFault::PreroutingJumpDeleted { node: node.clone() }, &|lab| {
        assert_eq!(udp(lab, "default/client-a", service()), silent);
        assert_eq!(udp(lab, "node1", service()), good, "the host is well");
    });
    broken(lab, NetFault::ForwardPolicyDrop { node: node.clone() }, &|lab| {
        assert_eq!(udp(lab, "default/client-a", target(lab)), silent);
        assert_eq!(tcp(lab, "default/client-c", target(lab)), silent);
        assert_eq!(udp(lab, "node1", target(lab)), good, "the host is well");
    });
    broken(lab, NetFault::DefaultRouteDeleted { pod: pod.clone() }, &|lab| {
        assert_eq!(udp(lab, "default/client-a", service()), Asked::Failed(io::ErrorKind::NetworkUnreachable));
        assert_eq!(udp(lab, "default/client-a", target(lab)), good, "on the same bridge");
    });
    broken(lab, NetFault::VethDetached { pod: pod.clone() }, &|lab| {
        assert_eq!(udp(lab, "default/client-a", target(lab)), silent);
        assert_eq!(udp(lab, "default/client-b", target(lab)), good, "its sibling is well");
    });
    broken(lab, NetFault::UpstreamDropped, &|lab| {
        let asked = ask_udp(lab.netns("default/client-a").unwrap(), service(), "example.org.", PATIENCE);
        assert_eq!(asked, Asked::code(hickory_proto::op::ResponseCode::ServFail));
        assert_eq!(udp(lab, "default/client-a", service()), good, "internal names are well");
    });
}
