//! Constructed packet filters, each with the one cause that must be found, and what must not be blamed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{Netfilter, Reading};
use nameward_kernel::nft;
use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::report::Complaint;
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence};

use super::scenarios::{Scenario, counters, from, is_service, row, to};
use crate::judge::{Judgement, judge};
use crate::matrix::target_pod;
use crate::matrix::vantage_pod;
use crate::record::Sample;
use crate::testing::*;

mod traced;

const A: &str = "coredns-74c7b86f9f-7tsjn";
const EMPTY: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
const DROP_IN: &str = "-A INPUT -p udp -m udp --dport 53 -j DROP";
const DROP_OUT: &str = "-A OUTPUT -p udp -m udp --dport 53 -j DROP";
const CALICO: &[&str] = &[
    "-A FORWARD -m comment --comment cali:Forward -j cali-FORWARD",
    "-A cali-FORWARD -i cni0 -j cali-from-wl-dispatch",
    "-A cali-from-wl-dispatch -s 10.244.1.52/32 -g cali-fw-cali0123456789a",
    "-A cali-fw-cali0123456789a -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A cali-fw-cali0123456789a -m comment --comment \"Drop if no profiles matched\" -j DROP",
];
const ROUTER: &[&str] = &[
    "-A FORWARD -d 10.244.1.51/32 -j KUBE-POD-FW-QRSTUVWXYZ234567",
    "-A KUBE-POD-FW-QRSTUVWXYZ234567 -s 10.244.1.0/24 -j MARK --set-xmark 0x10000/0x10000",
    "-A KUBE-POD-FW-QRSTUVWXYZ234567 -m mark ! --mark 0x10000/0x10000 -j DROP",
];

fn udp(path: &PathKey) -> bool {
    path.transport == Transport::Udp
}

fn is_self(path: &PathKey) -> bool {
    target_pod(path).is_some() && target_pod(path) == vantage_pod(path)
}

/// A dump with rules at the top of a table, each counting so many packets; their chains are declared as needed.
fn with(dump: &str, table: &str, rules: &[&str], packets: u64) -> String {
    let at = dump.find(&format!("*{table}\n")).unwrap();
    let end = at + dump[at..].find("COMMIT").unwrap();
    let first = dump[at..end].find("\n-A").or_else(|| dump[at..end].find("\n[")).map_or(end, |n| at + n + 1);
    let mut text = String::new();
    for rule in rules {
        let chain = rule.split(' ').nth(1).unwrap();
        let known = dump[at..end].contains(&format!(":{chain} ")) || text.contains(&format!(":{chain} "));
        if !known {
            text.push_str(&format!(":{chain} - [0:0]\n"));
        }
    }
    for rule in rules {
        text.push_str(&format!("[{packets}:0] {rule}\n"));
    }
    format!("{}{text}{}", &dump[..first], &dump[first..])
}

/// Where rules stand.
#[derive(Clone, Copy)]
enum In {
    Nft,
    Legacy,
}

fn put(netfilter: &mut Netfilter, backend: In, dump: &str) {
    match backend {
        In::Nft => netfilter.iptables_nft = parsed(dump),
        In::Legacy => netfilter.iptables_legacy = parsed(dump),
    }
}

/// Rules of the node; their counters move from one sample to the next.
fn on_node(world: World, backend: In, table: &'static str, rules: &'static [&'static str]) -> World {
    let of = move |n| with(&iptables_rules(), table, rules, n);
    world
        .both(move |s| put(&mut s.host.netfilter, backend, &of(10)))
        .newest(move |s| put(&mut s.host.netfilter, backend, &of(16)))
}

/// Rules inside a pod; their counters move.
fn inside(world: World, pod: &'static str, backend: In, table: &'static str, rules: &'static [&'static str]) -> World {
    let set = move |s: &mut Sample, n| {
        let filters = &mut s.pods.get_mut(&uid(pod)).unwrap().filters;
        filters.native = Reading::Read(nft::Native::default());
        put(filters, backend, &with(EMPTY, table, rules, n));
    };
    world.both(move |s| set(s, 1)).newest(move |s| set(s, 9))
}

/// Foreign tables of nft: one chain with this hook, priority and policy, and rules as JSON.
fn native(hook: &str, policy: &str, rules: &[&str]) -> nft::Native {
    let rules: Vec<String> = rules
        .iter()
        .map(|r| {
            format!(r#",{{"rule": {{"family": "inet", "table": "fw", "chain": "c", "handle": 3, "expr": [{r}]}}}}"#)
        })
        .collect();
    let json = format!(
        r#"{{"nftables": [{{"chain": {{"family": "inet", "table": "fw", "name": "c", "type": "filter", "hook": "{hook}", "prio": 10, "policy": "{policy}"}}}}{}]}}"#,
        rules.concat()
    );
    nft::parse(json.as_bytes()).unwrap().native
}

fn deaf_a() -> World {
    World::healthy()
        .paths(|p| {
            (udp(p) && !is_self(p) && (to(p, DNS_A) || (is_service(p) && from(p, CLIENT)))).then_some(Outcome::Timeout)
        })
        .both(|s| counters(s, 7, 7))
}

fn one_client(transports: &'static [Transport], outcome: &Outcome) -> World {
    let outcome = outcome.clone();
    World::healthy().paths(move |p| (from(p, CLIENT) && transports.contains(&p.transport)).then(|| outcome.clone()))
}

const BOTH: &[Transport] = &[Transport::Udp, Transport::Tcp];
const UDP: &[Transport] = &[Transport::Udp];

/// No pod gets through the node's FORWARD; the host does.
fn not_forwarded(outcome: &Outcome) -> World {
    let outcome = outcome.clone();
    World::healthy().paths(move |p| {
        if p.vantage.kind() == VantageKind::Pod && !is_self(p) {
            Some(outcome.clone())
        } else {
            (p.question == QuestionKind::External && to(p, DNS_A)).then_some(Outcome::Rcode { rcode: 2 })
        }
    })
}

fn all_udp_of_pods(outcome: &Outcome) -> World {
    let outcome = outcome.clone();
    World::healthy()
        .paths(move |p| (udp(p) && p.vantage.kind() == VantageKind::Pod && !is_self(p)).then(|| outcome.clone()))
}

fn prohibited() -> Outcome {
    Outcome::HostUnreachable { by: Some(ip("10.244.1.1")), icmp_type: Some(3), icmp_code: Some(13) }
}

fn complained() -> World {
    World::healthy().with(|r| {
        r.complaints.push(Complaint {
            pod: uid(DNS_A),
            transports: vec![Transport::Udp, Transport::Tcp],
            from: vec!["node2".into()],
            because: "timeout over udp from 3 of 3 vantages".to_owned(),
        });
    })
}

pub(crate) fn rows() -> Vec<Scenario> {
    use Cause::{
        CorednsUdpFiltered, ForwardPolicyDrop, NetworkPolicyDrop, PacketFilterDrop, PodFilterDrop, Port53Redirected,
    };
    use Confidence::{Certain, Probable};
    const UDP_DROP: &str = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}}, {"drop": null}"#;
    const REJECT: &str = r#"{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}"#;
    let node = "node1";
    vec![
        row(
            "UDP 53 dropped inside CoreDNS's pod",
            CorednsUdpFiltered,
            Certain,
            A,
            inside(deaf_a(), DNS_A, In::Nft, "filter", &[DROP_IN]),
        ),
        row(
            "the same by a legacy rule",
            CorednsUdpFiltered,
            Certain,
            A,
            inside(deaf_a(), DNS_A, In::Legacy, "filter", &[DROP_IN]),
        ),
        row("the same by a native rule that counts nothing", CorednsUdpFiltered, Certain, A, {
            deaf_a().both(|s| {
                s.pods.get_mut(&uid(DNS_A)).unwrap().filters.native =
                    Reading::Read(native("input", "accept", &[UDP_DROP]))
            })
        }),
        row("answers dropped inside CoreDNS's pod", CorednsUdpFiltered, Certain, A, {
            inside(deaf_a(), DNS_A, In::Nft, "filter", &["-A OUTPUT -p udp -m udp --sport 53 -j DROP"])
        }),
        row("rules inside cannot be read, nothing comes in", CorednsUdpFiltered, Probable, A, {
            deaf_a().both(|s| {
                s.pods.get_mut(&uid(DNS_A)).unwrap().filters.native =
                    Reading::NotPermitted("nft: Operation not permitted".to_owned())
            })
        }),
        row("native forward policy", ForwardPolicyDrop, Probable, node, {
            not_forwarded(&Outcome::Timeout)
                .both(|s| s.host.netfilter.native = Reading::Read(native("forward", "drop", &[])))
        }),
        row("firewalld rejects", PacketFilterDrop, Certain, node, {
            not_forwarded(&prohibited())
                .both(|s| s.host.netfilter.native = Reading::Read(native("forward", "accept", &[REJECT])))
        }),
        row("a rule for one pod in no known chain", PacketFilterDrop, Certain, node, {
            on_node(
                one_client(UDP, &Outcome::Timeout),
                In::Nft,
                "filter",
                &["-A FORWARD -s 10.244.1.52/32 -p udp -m udp --dport 53 -j DROP"],
            )
        }),
        row("the same by a legacy rule on the node", PacketFilterDrop, Certain, node, {
            on_node(
                one_client(UDP, &Outcome::Timeout),
                In::Legacy,
                "filter",
                &["-A FORWARD -s 10.244.1.52/32 -p udp -m udp --dport 53 -j DROP"],
            )
        }),
        row("the host's own OUTPUT refuses", PacketFilterDrop, Certain, node, {
            let world =
                World::healthy().paths(|p| (udp(p) && p.vantage == Vantage::Host).then_some(Outcome::NotPermitted));
            on_node(world, In::Nft, "filter", &[DROP_OUT])
        }),
        row("a rule with a match that is not understood, whose counter moves", PacketFilterDrop, Probable, node, {
            on_node(
                one_client(UDP, &Outcome::Timeout),
                In::Nft,
                "filter",
                &["-A FORWARD -p udp -m set --match-set blocked src -j DROP"],
            )
        }),
        row(
            "Calico's chain of a pod",
            NetworkPolicyDrop,
            Certain,
            "client",
            on_node(one_client(BOTH, &Outcome::Timeout), In::Nft, "filter", CALICO),
        ),
        row(
            "the same by legacy rules",
            NetworkPolicyDrop,
            Certain,
            "client",
            on_node(one_client(BOTH, &Outcome::Timeout), In::Legacy, "filter", CALICO),
        ),
        row(
            "kube-router keeps other nodes' pods from CoreDNS",
            NetworkPolicyDrop,
            Certain,
            A,
            on_node(complained(), In::Nft, "filter", ROUTER),
        ),
        row("UDP 53 redirected to where nobody listens", Port53Redirected, Certain, node, {
            let by = Some(ip("10.244.1.1"));
            on_node(
                all_udp_of_pods(&Outcome::Refused { by }),
                In::Nft,
                "nat",
                &["-A PREROUTING -p udp -m udp --dport 53 -j REDIRECT --to-ports 5353"],
            )
        }),
        row("port 53 hijacked by a legacy rule", Port53Redirected, Certain, node, {
            let world = all_udp_of_pods(&Outcome::Rcode { rcode: 3 });
            on_node(
                world,
                In::Legacy,
                "nat",
                &["-A PREROUTING -i cni0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.30.0.254"],
            )
        }),
        row("EPERM in one pod", PodFilterDrop, Certain, "client", {
            inside(one_client(UDP, &Outcome::NotPermitted), CLIENT, In::Nft, "filter", &[DROP_OUT])
        }),
        row("a redirect to a sidecar that is gone", PodFilterDrop, Certain, "client", {
            let world = one_client(UDP, &Outcome::Refused { by: Some(ip("127.0.0.1")) });
            inside(
                world,
                CLIENT,
                In::Legacy,
                "nat",
                &["-A OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053"],
            )
            .both(|s| s.pods.get_mut(&uid(CLIENT)).unwrap().sockets = Reading::Read(Default::default()))
        }),
    ]
}

fn causes(judgement: &Judgement) -> Vec<Cause> {
    judgement.findings.iter().map(|f| f.cause).collect()
}

fn why<'a>(judgement: &'a Judgement, rule: &str) -> &'a str {
    judgement.dismissed.iter().find(|r| r.what == rule).map_or("", |r| r.because.as_str())
}

const ONE: &[&str] = &["-A FORWARD -s 10.244.1.52/32 -p udp -m udp --dport 53 -j DROP"];

#[test]
fn a_rule_whose_counter_stands_still_is_not_blamed() {
    let world = on_node(one_client(UDP, &Outcome::Timeout), In::Nft, "filter", ONE).both(|s| {
        put(&mut s.host.netfilter, In::Nft, &with(&iptables_rules(), "filter", ONE, 10));
    });
    let judgement = judge(&world.with(|r| r.samples = 5).record());
    assert!(!causes(&judgement).contains(&Cause::PacketFilterDrop));
    assert!(why(&judgement, "packet-filter-drop").contains("does not move"), "{judgement:#?}");
}

#[test]
fn a_rule_for_others_is_not_blamed() {
    for rule in [
        &["-A FORWARD -s 10.244.1.99/32 -p udp -m udp --dport 53 -j DROP"] as &'static [&'static str],
        &["-A FORWARD -p tcp -m tcp --dport 53 -j DROP"],
        &["-A FORWARD -p udp -m udp --dport 5353 -j REJECT --reject-with icmp-port-unreachable"],
        &["-A INPUT -p udp -j DROP"],
    ] {
        let judgement = judge(&on_node(one_client(UDP, &Outcome::Timeout), In::Nft, "filter", rule).record());
        assert_eq!(causes(&judgement), [], "{rule:?}: {judgement:#?}");
    }
}

#[test]
fn a_policy_whose_chain_accepts_dns_is_not_blamed() {
    let dump = super::scenarios::policy(10);
    let accepts = with(
        &dump,
        "filter",
        &[
            "-A FORWARD -p udp -m udp --dport 53 -j ACCEPT",
            "-A FORWARD -p tcp -m tcp --dport 53 -j ACCEPT",
            "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        ],
        4,
    );
    let world = not_forwarded(&Outcome::Timeout).both(|s| s.host.netfilter.iptables_nft = parsed(&accepts));
    let judgement = judge(&world.record());
    assert!(!causes(&judgement).contains(&Cause::ForwardPolicyDrop), "{judgement:#?}");
}

#[test]
fn a_mesh_whose_sidecar_listens_is_not_blamed() {
    let world = inside(
        one_client(UDP, &Outcome::Timeout),
        CLIENT,
        In::Nft,
        "nat",
        &["-A OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053"],
    )
    .both(|s| {
        let sockets = nameward_kernel::facts::SocketTable { udp: vec![socket(15_053, 0, 0)], tcp_listen: Vec::new() };
        s.pods.get_mut(&uid(CLIENT)).unwrap().sockets = Reading::Read(sockets);
    });
    let judgement = judge(&world.record());
    assert!(!causes(&judgement).contains(&Cause::PodFilterDrop), "{judgement:#?}");
}

#[test]
fn two_rules_in_doubt_are_not_told_apart_as_certain() {
    let rules: &[&str] = &[
        "-A FORWARD -p udp -m set --match-set blocked src -j DROP",
        "-A FORWARD -p udp -m recent --rcheck --name x -j DROP",
    ];
    let judgement = judge(&on_node(one_client(UDP, &Outcome::Timeout), In::Nft, "filter", rules).record());
    assert!(judgement.findings.iter().all(|f| f.confidence == Confidence::Probable), "{judgement:#?}");
    assert_eq!(causes(&judgement), [Cause::PacketFilterDrop]);
}

#[test]
fn a_rule_that_somebody_like_us_passes_is_not_blamed() {
    // The rule would lose what the other client asks as well, and that is answered.
    let rule: &[&str] = &["-A FORWARD -p udp -m udp --dport 53 -j DROP"];
    let judgement = judge(&on_node(one_client(UDP, &Outcome::Timeout), In::Nft, "filter", rule).record());
    assert!(!causes(&judgement).contains(&Cause::PacketFilterDrop));
    assert!(why(&judgement, "packet-filter-drop").contains("does reach"), "{judgement:#?}");
}

#[test]
fn what_kube_proxy_rejects_is_left_to_its_own_rules() {
    let rule: &[&str] = &[
        "-A FORWARD -j KUBE-SERVICES",
        "-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable",
    ];
    let world = World::healthy().paths(|p| {
        (udp(p) && matches!(p.target.kind, TargetKind::Service))
            .then_some(Outcome::Refused { by: Some(ip("10.244.1.1")) })
    });
    let judgement = judge(&on_node(world, In::Nft, "filter", rule).record());
    assert!(!causes(&judgement).contains(&Cause::PacketFilterDrop));
}

#[test]
fn a_rule_in_doubt_that_does_not_count_ours_is_named_as_not_understood() {
    let rules: &[&str] = &["-A FORWARD -p udp -m set --match-set blocked src -j DROP"];
    let internal = |p: &PathKey| (from(p, CLIENT) && p.question == QuestionKind::Internal).then_some(Outcome::Timeout);
    let world = on_node(World::healthy().paths(internal), In::Nft, "filter", rules)
        .both(|s| put(&mut s.host.netfilter, In::Nft, &with(&iptables_rules(), "filter", rules, 3)))
        .with(|r| {
            r.samples = 9;
            r.now = nameward_messages::Now::at(std::time::Duration::from_secs(130));
        })
        .aged();
    let judgement = judge(&world.record());
    let found: Vec<_> = judgement.findings.iter().filter(|f| f.cause == Cause::Unexplained).collect();
    assert!(found.iter().any(|f| f.evidence.iter().any(|e| e.says.contains("match set"))), "{judgement:#?}");
}
