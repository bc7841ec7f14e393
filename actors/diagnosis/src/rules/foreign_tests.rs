//! Nodes without kube-proxy, or where routes do not say where packets go: nothing is guessed about these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{Address, Bypass, Link, Reading, Route, RouteKind};
use nameward_messages::ObjectKey;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{DnsPod, Target, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence};

use super::links_scenarios::lost_b;
use super::scenarios::{is_service, rules};
use crate::judge::{Judgement, judge};
use crate::record::Sample;
use crate::testing::links::{host, look, via};
use crate::testing::service::old_rules;
use crate::testing::*;

const ABOUT_RULES: [Cause; 4] =
    [Cause::ServiceRulesMissing, Cause::ServiceRulesStale, Cause::TwoIptablesBackends, Cause::XtablesLockHeld];

fn causes(judgement: &Judgement) -> Vec<Cause> {
    judgement.findings.iter().map(|f| f.cause).collect()
}

/// What the kubelet alone leaves in iptables.
fn kubelets_rules() -> String {
    std::fs::read_to_string(recordings().join("nftables/node2.iptables-save.txt")).unwrap()
}

fn link(sample: &mut Sample, name: &str, kind: &str) -> u32 {
    let links = &mut host(sample).links;
    let index = 200 + u32::try_from(links.len()).unwrap();
    let kind = Some(kind.to_owned());
    links.push(Link { index, name: name.to_owned(), up: true, carrier: true, kind, ..Link::default() });
    index
}

/// Cilium's links and routes with tunnels, as `ip address` and `ip route` of a node show them: `inet 10.244.1.98/32 scope global
/// cilium_host`, and `10.244.2.0/24 via 10.244.1.98 dev cilium_host proto kernel src 10.244.1.98` for each other node.
fn cilium(sample: &mut Sample) {
    let out = link(sample, "cilium_host", "veth");
    link(sample, "cilium_net", "veth");
    link(sample, "cilium_vxlan", "vxlan");
    link(sample, "lxc_health", "veth");
    let topology = host(sample);
    topology.addresses.push(Address { link: out, ip: ip("10.244.1.98"), prefix: 32 });
    topology.routes.retain(|r| r.destination != Some((ip("10.244.2.0"), 24)));
    topology.routes.push(Route {
        v4: true,
        table: 254,
        destination: Some((ip("10.244.2.0"), 24)),
        gateway: Some(ip("10.244.1.98")),
        out_link: Some(out),
        kind: RouteKind::Unicast,
    });
    look(topology, "10.244.2.21", via(Some(("10.244.2.0", 24)), Some("10.244.1.98"), out));
}

/// A program by its name, and what it makes a node look like.
type Other = (&'static str, fn(&mut Sample));

/// Whatever hands Services out where kube-proxy does not.
fn others() -> Vec<Other> {
    fn chains(sample: &mut Sample, chain: &str) {
        rules(format!("*filter\n:{chain} - [0:0]\nCOMMIT\n{}", kubelets_rules()))(sample);
    }
    fn bypass(sample: &mut Sample, bypass: Bypass) {
        sample.host.bypass = Reading::Read(bypass);
    }
    vec![
        ("Cilium", cilium),
        ("Cilium's chains", |s| chains(s, "CILIUM_FORWARD")),
        // felix/dataplane/linux: the eBPF mode's pair of links.
        ("Calico's eBPF mode", |s| {
            link(s, "bpfin.cali", "veth");
        }),
        ("Antrea", |s| chains(s, "ANTREA-FORWARD")),
        ("Antrea's port", |s| {
            link(s, "antrea-gw0", "openvswitch");
        }),
        ("OVN-Kubernetes", |s| {
            link(s, "ovn-k8s-mp0", "openvswitch");
        }),
        ("another switch", |s| {
            link(s, "br-int", "openvswitch");
        }),
        ("kube-router", |s| {
            link(s, "kube-dummy-if", "dummy");
        }),
        ("kube-router, its policies read", |s| chains(s, "KUBE-ROUTER-FORWARD")),
        ("IPVS", |s| bypass(s, Bypass { ipvs: true, ipvs_services: 12, ..Bypass::default() })),
        ("classifiers", |s| bypass(s, Bypass { classifiers: vec!["eth0".to_owned()], ..Bypass::default() })),
        ("not to be told", |s| s.host.bypass = Reading::NotPermitted("CAP_NET_ADMIN".to_owned())),
    ]
}

/// The Service loses a share of its queries, as with one dead CoreDNS pod of two; the other answers by its address.
fn lossy() -> World {
    World::healthy().paths(|p| is_service(p).then_some(Outcome::Timeout))
}

#[test]
fn where_kube_proxy_does_not_run_its_rules_are_not_missing() {
    for (name, other) in others() {
        let world = lossy().both(rules(kubelets_rules())).both(other);
        let judgement = judge(&world.record());
        assert!(!causes(&judgement).iter().any(|c| ABOUT_RULES.contains(c)), "{name}: {judgement:#?}");
        let said = judgement.dismissed.iter().find(|r| r.what == "service-rules-missing");
        assert!(said.is_some_and(|r| r.because.contains("hand Services out")), "{name}: {said:?}");
    }
    // Nothing at all: somebody took them away, most likely.
    let judgement = judge(&lossy().both(rules(kubelets_rules())).record());
    assert_eq!(causes(&judgement), [Cause::ServiceRulesMissing]);
    assert_eq!(judgement.findings[0].confidence, Confidence::Probable);
}

#[test]
fn what_kube_proxy_left_behind_is_neither_stale_nor_missing_where_another_program_has_taken_over() {
    let taken_over = ["Cilium", "Calico's eBPF mode", "Antrea's port", "OVN-Kubernetes", "kube-router"];
    for (name, other) in others().into_iter().filter(|(name, _)| taken_over.contains(name)) {
        for left in
            [old_rules(), without(&iptables_rules(), "-A KUBE-SERVICES"), without(&iptables_rules(), "-A OUTPUT")]
        {
            let two = |s: &mut Sample| s.host.netfilter.iptables_legacy = parsed(&iptables_rules());
            for backends in [false, true] {
                let world = lossy()
                    .both(rules(left.clone()))
                    .both(|s| {
                        if backends {
                            two(s)
                        }
                    })
                    .both(other);
                let judgement = judge(&world.record());
                assert!(!causes(&judgement).iter().any(|c| ABOUT_RULES.contains(c)), "{name}: {judgement:#?}");
            }
        }
    }
}

#[test]
fn a_policy_engine_beside_kube_proxy_takes_nothing_from_what_its_rules_say() {
    // Calico with iptables; k3s has kube-router's chains for policies, and kube-proxy.
    for chain in ["cali-FORWARD", "KUBE-ROUTER-FORWARD", "WEAVE-NPC"] {
        let text = without(&iptables_rules(), "-A KUBE-SERVICES");
        let text = text.replacen("*filter\n", &format!("*filter\n:{chain} - [0:0]\n"), 1);
        let judgement = judge(&lossy().both(rules(text)).record());
        assert_eq!(causes(&judgement), [Cause::ServiceRulesMissing], "{chain}");
        assert_eq!(judgement.findings[0].confidence, Confidence::Certain, "{chain}");
    }
}

#[test]
fn a_dead_pod_of_another_node_is_no_missing_route_of_ciliums() {
    let judgement = judge(&lost_b(&Outcome::Timeout).both(cilium).record());
    assert_eq!((causes(&judgement), judgement.deferred.len()), (vec![], 1), "{judgement:#?}");
    // The same route by a link that is nobody's data plane does lead to the node itself.
    let world = lost_b(&Outcome::Timeout)
        .both(|s| look(host(s), "10.244.2.21", via(Some(("10.244.2.0", 24)), Some("172.30.0.11"), 2)));
    assert_eq!(causes(&judge(&world.record())), [Cause::NodeRouteMissing]);
}

#[test]
fn in_a_flat_network_the_default_route_is_right_and_a_neighbours_pod_needs_none() {
    // Pods have addresses of the cloud's own networks: those of another zone are behind the gateway, those of the node's own
    // network are on link (AWS, "Amazon VPC CNI").
    let third = DnsPod {
        uid: uid("33333333-dns"),
        key: ObjectKey::new("kube-system", "coredns-74c7b86f9f-third"),
        node: Some("node3".into()),
        ips: vec![ip("172.30.0.77")],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready: true,
        terminating: false,
    };
    let answers = |world: World| {
        let kind = TargetKind::Pod { uid: third.uid.clone(), key: third.key.clone(), node: third.node.clone() };
        let (target, question) = (Target { kind, ip: ip("172.30.0.77") }, QuestionKind::Internal);
        let path = PathKey { vantage: Vantage::Host, target, transport: Transport::Udp, question };
        world.path(path, Outcome::Answered)
    };
    let kin = |world: World, route: (&'static str, u8), gateway: Option<&'static str>| {
        let third = third.clone();
        answers(world)
            .targets(move |t| t.pods.push(third))
            .both(move |s| look(host(s), "10.244.2.21", via(None, Some("172.30.0.1"), 2)))
            .both(move |s| look(host(s), "172.30.0.77", via(Some(route), gateway, 2)))
    };
    let judgement = judge(&kin(lost_b(&Outcome::Timeout), ("172.30.0.0", 24), None).record());
    assert_eq!((causes(&judgement), judgement.deferred.len()), (vec![], 1), "{judgement:#?}");
    // A route of its own, to a next hop, is what the other pod's node should have, too.
    let judgement = judge(&kin(lost_b(&Outcome::Timeout), ("172.30.0.77", 32), Some("172.30.0.13")).record());
    assert_eq!(causes(&judgement), [Cause::NodeRouteMissing]);
    assert_eq!(judgement.findings[0].confidence, Confidence::Probable);
}
