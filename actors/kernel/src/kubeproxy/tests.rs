#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use nameward_messages::targets::DnsPod;

use super::*;
use crate::facts::{Netfilter, Reading};
use crate::iptables::RuleSet;
use crate::{iptables, nft, recordings};

fn dns() -> ObjectKey {
    ObjectKey::new("kube-system", "kube-dns")
}

fn service() -> DnsService {
    let port = |name: &str| Some(ServicePort { name: name.to_owned(), port: 53 });
    DnsService {
        key: dns(),
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        udp_port: port("dns"),
        tcp_port: port("dns-tcp"),
        internal_traffic_local: false,
    }
}

fn expected(endpoints: &[&str]) -> Expected {
    let list: Vec<SocketAddr> = endpoints.iter().map(|e| e.parse().unwrap()).collect();
    Expected { udp: list.clone(), tcp: list, tolerated: Vec::new() }
}

fn saved(file: &str) -> RuleSet {
    iptables::parse(&std::fs::read_to_string(recordings().join(file)).unwrap()).unwrap()
}

fn node1(set: RuleSet) -> Netfilter {
    Netfilter {
        iptables_nft: Reading::Read(set),
        iptables_legacy: Reading::NotPresent("no legacy tables".into()),
        kube_proxy_nft: Reading::NotPresent("no table ip kube-proxy".into()),
        other_base_chains: Reading::Read(Vec::new()),
        native: Reading::NotRead,
    }
}

const NODE1: [&str; 2] = ["10.244.1.51:53", "10.244.1.53:53"];
const NODE2: [&str; 2] = ["10.244.1.56:53", "10.244.2.21:53"];

fn table() -> nft::KubeProxyTable {
    nft::parse(&std::fs::read(recordings().join("nftables/node2.nft-ruleset.json")).unwrap())
        .unwrap()
        .kube_proxy
        .unwrap()
}

#[test]
fn names_are_those_of_the_recordings() {
    assert_eq!(svc_chain(&dns(), "dns", Transport::Udp), "KUBE-SVC-TCOU7JCQXEZGVUNU");
    assert_eq!(svc_chain(&dns(), "dns-tcp", Transport::Tcp), "KUBE-SVC-ERIFXISQEP7F7OF4");
    assert_eq!(
        svc_chain(&ObjectKey::new("default", "kubernetes"), "https", Transport::Tcp),
        "KUBE-SVC-NPX46M4PTMTKRN6Y"
    );
    let endpoint = "10.244.1.53:53".parse().unwrap();
    assert_eq!(sep_chain(&dns(), "dns", Transport::Udp, endpoint), "KUBE-SEP-YNCIU67N6VYVMDY3");
    assert_eq!(sep_chain(&dns(), "dns-tcp", Transport::Tcp, endpoint), "KUBE-SEP-5FNTWGDRS77YXSNO");
    assert_eq!(nft_service_chain(&dns(), "dns", Transport::Udp), "service-FY5PMXPG-kube-system/kube-dns/udp/dns");
    assert_eq!(
        nft_service_chain(&dns(), "dns-tcp", Transport::Tcp),
        "service-NWBZK7IH-kube-system/kube-dns/tcp/dns-tcp"
    );
}

#[test]
fn healthy_recordings_are_present() {
    let verdict = judge(&service(), &expected(&NODE1), &node1(saved("iptables/node1.iptables-save.txt")));
    assert_eq!(
        (verdict.mode, &verdict.udp, &verdict.tcp),
        (Mode::IptablesNft, &PathState::Present, &PathState::Present)
    );
    assert!(verdict.prerouting_jump && verdict.output_jump);

    let facts = Netfilter {
        iptables_nft: Reading::Read(saved("nftables/node2.iptables-save.txt")),
        kube_proxy_nft: Reading::Read(table()),
        ..node1(RuleSet::default())
    };
    let verdict = judge(&service(), &expected(&NODE2), &facts);
    assert_eq!((verdict.mode, &verdict.udp, &verdict.tcp), (Mode::Nftables, &PathState::Present, &PathState::Present));
    assert!(verdict.prerouting_jump && verdict.output_jump);
}

#[test]
fn what_is_missing_is_named_for_its_transport_alone() {
    let cut = |from: &str| {
        let mut set = saved("iptables/node1.iptables-save.txt");
        for chain in set.tables.iter_mut().flat_map(|t| &mut t.chains) {
            chain.rules.retain(|r| !format!("-A {} {}", chain.name, r.words.join(" ")).contains(from));
        }
        judge(&service(), &expected(&NODE1), &node1(set))
    };
    let verdict = cut("-A KUBE-SERVICES -d 10.96.0.10/32 -p udp");
    assert!(matches!(&verdict.udp, PathState::Missing { what } if what.contains("KUBE-SVC-TCOU7JCQXEZGVUNU")));
    assert_eq!(verdict.tcp, PathState::Present);
    let verdict = cut("-j DNAT --to-destination 10.244.1.53:53");
    assert!(matches!(&verdict.udp, PathState::Missing { what } if what.contains("KUBE-SEP-YNCIU67N6VYVMDY3")));
    let verdict = cut("-A KUBE-SVC-TCOU7JCQXEZGVUNU");
    assert!(matches!(&verdict.udp, PathState::Missing { what } if what.starts_with("every endpoint")));
    let verdict = cut("-A PREROUTING");
    assert_eq!((verdict.prerouting_jump, verdict.output_jump, verdict.udp), (false, true, PathState::Present));
}

#[test]
fn stale_rules_name_both_differences() {
    let facts = node1(saved("iptables/node1.iptables-save.txt"));
    let verdict = judge(&service(), &expected(&["10.244.1.51:53", "10.244.2.9:53"]), &facts);
    let stale = PathState::Stale {
        extra: vec!["10.244.1.53:53".parse().unwrap()],
        missing: vec!["10.244.2.9:53".parse().unwrap()],
    };
    assert_eq!((&verdict.udp, &verdict.tcp), (&stale, &stale));
    let mut wanted = expected(&["10.244.1.51:53"]);
    wanted.tolerated = vec!["10.244.1.53:53".parse().unwrap()];
    assert_eq!(judge(&service(), &wanted, &facts).udp, PathState::Present);
}

#[test]
fn a_service_without_endpoints_is_refused_and_stale_when_the_api_has_some() {
    let facts = node1(saved("faults/no-endpoints.iptables-save.txt"));
    let verdict = judge(&service(), &Expected::default(), &facts);
    assert_eq!(verdict.udp, PathState::NoEndpoints { action: "REJECT".into() });
    assert!(
        matches!(judge(&service(), &expected(&NODE1), &facts).udp, PathState::Stale { extra, missing } if extra.is_empty() && missing.len() == 2)
    );

    let mut refused = table();
    refused.service_ips.clear();
    let key = |t| ("10.96.0.10".parse().unwrap(), t, 53, "reject-chain".to_owned());
    refused.no_endpoint_services = vec![key(Transport::Udp), key(Transport::Tcp)];
    let verdict = judge_nft(&service(), &Expected::default(), Family::Ipv4, &refused);
    assert_eq!(verdict.tcp, PathState::NoEndpoints { action: "REJECT".into() });
}

#[test]
fn nftables_mode_names_what_is_missing() {
    let judge_with = |change: &dyn Fn(&mut nft::KubeProxyTable)| {
        let mut changed = table();
        change(&mut changed);
        judge_nft(&service(), &expected(&NODE2), Family::Ipv4, &changed)
    };
    let what = |state: &PathState| match state {
        PathState::Missing { what } => what.clone(),
        other => panic!("{other:?}"),
    };
    let verdict = judge_with(&|t| t.service_ips.retain(|k| k.1 != Transport::Udp));
    assert_eq!(what(&verdict.udp), "the element 10.96.0.10 . udp . 53 of map service-ips");
    assert_eq!(verdict.tcp, PathState::Present);
    let verdict = judge_with(&|t| t.lookups.clear());
    assert!(what(&verdict.udp).contains("look-up"));
    let verdict = judge_with(&|t| t.base_chains.get_mut("nat-prerouting").unwrap().clear());
    assert_eq!((verdict.prerouting_jump, verdict.output_jump), (false, true));
    let verdict =
        judge_with(&|t| *t.endpoints.get_mut("service-FY5PMXPG-kube-system/kube-dns/udp/dns").unwrap() = Vec::new());
    assert!(what(&verdict.udp).starts_with("every endpoint"));
}

#[test]
fn without_a_trace_of_kube_proxy_nothing_is_missing_and_unread_rules_are_not_judged() {
    // The kubelet's own chains are everywhere.
    let kubelet = saved("nftables/node2.iptables-save.txt");
    let verdict = judge(&service(), &expected(&NODE2), &node1(kubelet.clone()));
    assert_eq!(verdict.mode, Mode::Absent);
    assert!(matches!(&verdict.udp, PathState::Unknown { why } if why.contains("another program")), "{verdict:?}");
    assert!(verdict.hints.iter().any(|h| h.contains("KUBE-IPTABLES-HINT")), "{:?}", verdict.hints);
    for (table, trace, known) in [
        ("mangle", "KUBE-PROXY-CANARY", true),
        ("nat", "KUBE-SVC-TCOU7JCQXEZGVUNU", true),
        ("filter", "KUBE-FORWARD", true),
        ("nat", "KUBE-MARK-MASQ", false),
        ("filter", "CILIUM_FORWARD", false),
    ] {
        for legacy in [false, true] {
            let text = format!("*{table}\n:{trace} - [0:0]\nCOMMIT\n");
            let set = Reading::Read(iptables::parse(&text).unwrap());
            let mut facts = node1(kubelet.clone());
            *if legacy { &mut facts.iptables_legacy } else { &mut facts.iptables_nft } = set;
            let verdict = judge(&service(), &expected(&NODE2), &facts);
            let missing = PathState::Missing { what: "every rule of kube-proxy".into() };
            assert_eq!(verdict.mode == Mode::Unknown, known, "{trace}: {verdict:?}");
            assert_eq!(verdict.udp == missing, known, "{trace}: {verdict:?}");
        }
    }

    let not_run = |why: Reading<nft::KubeProxyTable>| {
        let facts = Netfilter { kube_proxy_nft: why, other_base_chains: Reading::NotRead, ..node1(RuleSet::default()) };
        judge(&service(), &expected(&NODE2), &facts).udp
    };
    let unknown = |why: &str| PathState::Unknown { why: why.to_owned() };
    assert_eq!(not_run(Reading::NotPermitted("CAP_NET_ADMIN".into())), unknown("nft: CAP_NET_ADMIN"));
    assert_eq!(not_run(Reading::NotPresent("nft is not installed".into())), unknown("nft: nft is not installed"));
}

#[test]
fn ipvs_is_recognised_and_not_judged() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
                -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n";
    let verdict = judge(&service(), &expected(&NODE1), &node1(iptables::parse(text).unwrap()));
    assert_eq!(verdict.mode, Mode::Ipvs);
    assert!(matches!(verdict.udp, PathState::Unknown { .. }));
}

#[test]
fn expected_endpoints_follow_readiness_and_traffic_policy() {
    let pod = |name: &str, node: &str, ip: &str, ready, terminating| DnsPod {
        uid: name.into(),
        key: ObjectKey::new("kube-system", name),
        node: Some(node.into()),
        ips: vec![ip.parse().unwrap()],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready,
        terminating,
    };
    let mut targets = Targets {
        service: Some(service()),
        pods: vec![pod("a", "node1", "10.244.1.5", true, false), pod("b", "node2", "10.244.2.5", false, true)],
        ..Targets::default()
    };
    let node1 = NodeName::from("node1");
    let expected = Expected::of(&targets, Family::Ipv4, &node1);
    assert_eq!((expected.udp.len(), expected.tolerated.len()), (1, 0));
    targets.pods[0].ready = false;
    let expected = Expected::of(&targets, Family::Ipv4, &node1);
    assert_eq!((expected.udp.len(), expected.tolerated.len()), (0, 2));
    targets.pods[1].ready = true;
    targets.service.as_mut().unwrap().internal_traffic_local = true;
    assert!(Expected::of(&targets, Family::Ipv4, &node1).udp.is_empty());
    assert_eq!(Expected::of(&targets, Family::Ipv4, &"node2".into()).udp.len(), 1);
}
