#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::net::IpAddr;

use nameward_messages::targets::Transport;
use proptest::prelude::*;

use super::*;
use crate::facts::{Address, Link, Route, RouteKind, Topology};
use crate::iptables::{self, RuleSet};
use crate::nft;
use crate::recordings;

const CLIENT: &str = "10.244.1.52";
const REMOTE: &str = "10.244.2.21";
const SERVICE: &str = "10.96.0.10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node() -> Topology {
    let link = |index: u32, name: &str| Link { index, name: name.to_owned(), ..Link::default() };
    let route = |to: Option<(&str, u8)>, out| Route {
        v4: true,
        table: 254,
        destination: to.map(|(net, bits)| (ip(net), bits)),
        gateway: None,
        out_link: Some(out),
        kind: RouteKind::Unicast,
    };
    Topology {
        links: vec![link(2, "eth0"), link(3, "cni0")],
        addresses: vec![
            Address { link: 2, ip: ip("172.30.0.2"), prefix: 24 },
            Address { link: 3, ip: ip("10.244.1.1"), prefix: 24 },
        ],
        routes: vec![route(None, 2), route(Some(("10.244.1.0", 24)), 3), route(Some(("172.30.0.0", 24)), 2)],
        ..Topology::default()
    }
}

fn recorded() -> String {
    std::fs::read_to_string(recordings().join("iptables/node1.iptables-save.txt")).unwrap()
}

fn with(rules: &str, chain: &str, rule: &str) -> RuleSet {
    let table = if chain == "PREROUTING" || chain == "OUTPUT_NAT" { "*nat" } else { "*filter" };
    let chain = chain.trim_end_matches("_NAT");
    let at = rules.find(table).unwrap();
    let first = at
        + rules[at..]
            .find(&format!("-A {chain} "))
            .map_or_else(|| rules[at..].find("COMMIT").unwrap(), |n| rules[at..at + n].rfind('\n').unwrap() + 1);
    let mut text = rules.to_owned();
    text.insert_str(first, &format!("[7:0] -A {chain} {rule}\n"));
    iptables::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn query(protocol: Transport, to: &str) -> Packet {
    Packet::new(protocol, ip(CLIENT), ip(to), 53)
}

fn from_pod(filters: Filters<'_>, packet: Packet) -> Vec<Walk> {
    let topology = node();
    let way = Way::Through { iif: Device::Named("cni0".to_owned()) };
    journey(filters, Ground { topology: Some(&topology) }, &way, packet)
}

fn of(rules: &RuleSet) -> Filters<'_> {
    Filters { iptables_nft: Some(rules), ..Filters::default() }
}

#[test]
fn the_recorded_node_sends_the_service_to_its_endpoints() {
    let rules = iptables::parse(&recorded().replace("10.244.1.53", REMOTE)).unwrap();
    let walks = from_pod(of(&rules), query(Transport::Udp, SERVICE));
    let to: Vec<IpAddr> = walks.iter().map(|w| w.packet.destination).collect();
    assert_eq!(to, [ip("10.244.1.51"), ip(REMOTE)]);
    for walk in &walks {
        assert_eq!(walk.fate, Verdict::Accept, "{walk:#?}");
        assert!(walk.certain(), "{:#?}", walk.doubts);
        assert_eq!(walk.packet.original, Some("10.96.0.10:53".parse().unwrap()));
        assert!(walk.steps.iter().any(|s| s.does == "jump KUBE-SERVICES"));
    }
    // From the host the mark for masquerading is set.
    let topology = node();
    let packet = Packet { source: ip("172.30.0.2"), ..query(Transport::Tcp, SERVICE) };
    let walks = journey(of(&rules), Ground { topology: Some(&topology) }, &Way::Out, packet);
    assert_eq!(walks.len(), 2);
    assert_eq!(walks[0].packet.mark.map(|m| m & 0x4000), Some(0), "cleared again by KUBE-POSTROUTING");
    assert!(walks[0].steps.iter().any(|s| s.does == "mark 0x4000"));
}

/// Rule, and what becomes of a UDP query from the client to the remote pod.
#[test]
fn a_rule_decides_or_it_is_said_why_not() {
    let table: &[(&str, &str, &str)] = &[
        ("FORWARD", "-j DROP", "drop"),
        ("FORWARD", "-s 10.244.1.52/32 -p udp -m udp --dport 53 -j DROP", "drop"),
        ("FORWARD", "-s 10.244.1.52/32 -p tcp -m tcp --dport 53 -j DROP", "accept"),
        ("FORWARD", "! -s 10.244.1.0/24 -p udp -j DROP", "accept"),
        (
            "FORWARD",
            "-i cni0 -o eth+ -p udp -m multiport --dports 53,5353 -j REJECT --reject-with icmp-admin-prohibited",
            "reject with icmp-admin-prohibited",
        ),
        ("FORWARD", "-i cni0 -o cni0 -j DROP", "accept"),
        ("FORWARD", "-m conntrack --ctstate RELATED,ESTABLISHED -j DROP", "accept"),
        ("FORWARD", "-m conntrack ! --ctstate RELATED,ESTABLISHED -m comment --comment \"-s 1.1.1.1\" -j DROP", "drop"),
        ("FORWARD", "-m set --match-set allowed src -j DROP", "unknown: match set"),
        ("FORWARD", "-m set --match-set allowed src -j ACCEPT", "accept"),
        ("FORWARD", "-p tcp -m set --match-set allowed src -j DROP", "accept"),
        ("FORWARD", "-m set --match-set x src -j LOG", "accept"),
        (
            "FORWARD",
            "-p udp -m hashlimit --hashlimit-above 10/sec --hashlimit-name x -j DROP",
            "unknown: match hashlimit",
        ),
        ("FORWARD", "-j NFQUEUE --queue-num 1", "target NFQUEUE"),
        ("FORWARD", "-j TEE --gateway 1.1.1.1", "accept"),
        ("FORWARD", "-m mark --mark 0x1/0x1 -j DROP", "accept"),
        ("FORWARD", "-m addrtype --dst-type LOCAL -j DROP", "accept"),
        ("PREROUTING", "-p udp -m udp --dport 53 -j REDIRECT --to-ports 5353", "redirect to own port 5353"),
        ("PREROUTING", "-p udp -m udp --dport 53 -j DNAT --to-destination 9.9.9.9", "accept"),
        ("INPUT", "-j DROP", "accept"),
    ];
    for (chain, rule, expected) in table {
        let rules = with(&recorded(), chain, rule);
        let walks = from_pod(of(&rules), query(Transport::Udp, REMOTE));
        assert_eq!(walks.len(), 1, "{rule}");
        let walk = &walks[0];
        let says = match (walk.certain(), walk.doubts.iter().find(|d| !d.verdict.like(&walk.fate))) {
            (false, Some(doubt)) => format!("unknown: {}", doubt.why),
            _ => walk.fate.to_string(),
        };
        assert_eq!(says, *expected, "{rule}: {walk:#?}");
        if walk.fate.is_loss() {
            let place = walk.place.as_ref().unwrap();
            assert_eq!((place.rule.as_deref(), walk.packets), (Some(*rule), Some(7)), "{place}");
            assert_eq!(packets_at(&of(&rules), place), Some(7));
        }
        if rule.contains("9.9.9.9") {
            assert_eq!(walk.packet.destination, ip("9.9.9.9"));
        }
    }
}

#[test]
fn a_policy_decides_what_no_rule_accepts() {
    let drop = |text: &str| {
        text.replacen(
            ":FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-EXTERNAL",
            ":FORWARD DROP [9:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-EXTERNAL",
            1,
        )
    };
    let rules = iptables::parse(&drop(&recorded())).unwrap();
    let walk = from_pod(of(&rules), query(Transport::Udp, REMOTE)).remove(0);
    assert_eq!((walk.fate.clone(), walk.packets), (Verdict::Drop, Some(9)));
    assert_eq!(walk.place.as_ref().unwrap().rule, None);
    let legacy = Filters { iptables_legacy: Some(&rules), ..Filters::default() };
    assert_eq!(
        from_pod(legacy, query(Transport::Udp, REMOTE))[0].place.as_ref().unwrap().backend,
        Backend::IptablesLegacy
    );
    // What accepts DNS acquits the policy.
    let rules = with(&drop(&recorded()), "FORWARD", "-p udp -m udp --dport 53 -j ACCEPT");
    assert_eq!(from_pod(of(&rules), query(Transport::Udp, REMOTE))[0].fate, Verdict::Accept);
    let rules = with(&drop(&recorded()), "FORWARD", "-m set --match-set pods src -j ACCEPT");
    assert!(!from_pod(of(&rules), query(Transport::Udp, REMOTE))[0].certain());
}

#[test]
fn the_answer_has_a_way_back() {
    let rules = with(&recorded(), "FORWARD", "-p udp -m udp --sport 53 -j DROP");
    let topology = node();
    let (ground, way) = (Ground { topology: Some(&topology) }, Way::Through { iif: Device::Named("cni0".to_owned()) });
    let walk = journey(of(&rules), ground, &way, query(Transport::Udp, REMOTE)).remove(0);
    assert_eq!(walk.fate, Verdict::Accept);
    let back = answer(of(&rules), ground, &way, &walk).unwrap();
    assert_eq!(back.fate, Verdict::Drop);
    assert_eq!((&back.packet.iif, &back.packet.oif), (&Device::Named("eth0".into()), &Device::Named("cni0".into())));
}

fn native(rules: &str) -> nft::Native {
    let json = format!(
        r#"{{"nftables": [
        {{"set": {{"family": "inet", "name": "dns", "table": "fw", "type": "inet_service", "elem": [53, {{"range": [5353, 5360]}}]}}}},
        {{"set": {{"family": "inet", "name": "nets", "table": "fw", "type": "ipv4_addr", "elem": ["1.2.3.4", {{"prefix": {{"addr": "10.0.0.0", "len": 8}}}}]}}}},
        {{"map": {{"family": "inet", "name": "m", "table": "fw", "map": "verdict", "elem": [[{{"concat": ["10.244.2.21", 53]}}, {{"drop": null}}]]}}}},
        {{"chain": {{"family": "inet", "table": "fw", "name": "a"}}}},
        {{"chain": {{"family": "inet", "table": "fw", "name": "f", "type": "filter", "hook": "forward", "prio": 10, "policy": "accept"}}}},
        {{"rule": {{"family": "inet", "table": "fw", "chain": "a", "handle": 9, "expr": [{{"drop": null}}]}}}},
        {{"rule": {{"family": "inet", "table": "fw", "chain": "f", "handle": 5, "expr": [{rules}]}}}}]}}"#
    );
    nft::parse(json.as_bytes()).unwrap_or_else(|e| panic!("{e}: {json}")).native
}

/// Statements as nft 1.0.6 prints them, and what becomes of a UDP query.
#[test]
fn native_rules_are_understood_or_named() {
    let dport = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}}"#;
    let table: &[(String, &str)] = &[
        (format!(r#"{dport}, {{"counter": {{"packets": 3, "bytes": 9}}}}, {{"drop": null}}"#), "drop"),
        (format!(r#"{dport}, {{"reject": {{"type": "icmpx", "expr": "admin-prohibited"}}}}"#), "reject with icmpx admin-prohibited"),
        (r#"{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 53}}, {"drop": null}"#.into(), "accept"),
        (r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@nets"}}, {"match": {"op": "==", "left": {"payload": {"protocol": "th", "field": "dport"}}, "right": "@dns"}}, {"drop": null}"#.into(), "drop"),
        (r#"{"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"set": ["1.1.1.1", {"prefix": {"addr": "10.244.0.0", "len": 16}}]}}}, {"drop": null}"#.into(), "accept"),
        (r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "cni*"}}, {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "eth0"}}, {"jump": {"target": "a"}}"#.into(), "drop"),
        (r#"{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["tcp", "udp"]}}}, {"goto": {"target": "a"}}"#.into(), "drop"),
        (r#"{"vmap": {"key": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "data": "@m"}}"#.into(), "drop"),
        (r#"{"vmap": {"key": {"meta": {"key": "l4proto"}}, "data": {"set": [["tcp", {"drop": null}], ["udp", {"jump": {"target": "a"}}]]}}}"#.into(), "drop"),
        (r#"{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", {"drop": null}]]}}}"#.into(), "accept"),
        (r#"{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"drop": null}"#.into(), "accept"),
        (r#"{"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}}, {"drop": null}"#.into(), "accept"),
        (r#"{"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, 255]}, "right": 16}}, {"drop": null}"#.into(), "accept"),
        (r#"{"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": "ipv6"}}, {"drop": null}"#.into(), "accept"),
        (r#"{"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "local"}}, {"drop": null}"#.into(), "accept"),
        (r#"{"limit": {"rate": 10, "burst": 5, "per": "second"}}, {"drop": null}"#.into(), "unknown: match limit"),
        (r#"{"match": {"op": "==", "left": {"meta": {"key": "cgroup"}}, "right": 1}}, {"drop": null}"#.into(), "unknown: match meta cgroup"),
        (r#"{"xt": {"type": "match", "name": "bpf"}}, {"drop": null}"#.into(), "unknown: match bpf"),
        (r#"{"log": {"prefix": "x"}}"#.into(), "accept"),
        (r#"{"queue": {"num": 0}}"#.into(), "queued to a program"),
    ];
    for (rule, expected) in table {
        let native = native(rule);
        let filters = Filters { native: Some(&native), ..Filters::default() };
        let walk = from_pod(filters, query(Transport::Udp, REMOTE)).remove(0);
        let says = match walk.doubts.iter().find(|d| !d.verdict.like(&walk.fate)) {
            Some(doubt) => format!("unknown: {}", doubt.why),
            None => walk.fate.to_string(),
        };
        assert_eq!(says, *expected, "{rule}: {walk:#?}");
    }
    let counted = native(&table[0].0);
    let filters = Filters { native: Some(&counted), ..Filters::default() };
    let walk = from_pod(filters, query(Transport::Udp, REMOTE)).remove(0);
    assert_eq!(walk.place.unwrap().to_string(), "table inet fw, chain f: udp dport 53 drop");
    assert_eq!(walk.packets, Some(3));
}

#[test]
fn kube_proxys_own_table_is_followed() {
    let json = std::fs::read(recordings().join("nftables/node2.nft-ruleset.json")).unwrap();
    let table = nft::parse(&json).unwrap().kube_proxy.unwrap();
    let filters = Filters { kube_proxy: Some(&table), ..Filters::default() };
    let walks = from_pod(filters, query(Transport::Udp, SERVICE));
    let to: Vec<IpAddr> = walks.iter().map(|w| w.packet.destination).collect();
    assert_eq!(to, [ip("10.244.1.56"), ip(REMOTE)]);
    let mut gone = table.clone();
    gone.service_ips.clear();
    let filters = Filters { kube_proxy: Some(&gone), ..Filters::default() };
    let walk = from_pod(filters, query(Transport::Udp, SERVICE)).remove(0);
    assert!(walk.fate.is_loss(), "{walk:#?}");
    assert_eq!(owner(walk.place.as_ref().unwrap()), Owner::KubeProxy);
}

#[test]
fn two_nat_chains_of_one_priority_are_a_doubt() {
    let json = std::fs::read(recordings().join("nftables/node2.nft-ruleset.json")).unwrap();
    let table = nft::parse(&json).unwrap().kube_proxy.unwrap();
    let text =
        "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 53 -j REDIRECT --to-ports 5353\nCOMMIT\n";
    let rules = iptables::parse(text).unwrap();
    let filters = Filters { iptables_nft: Some(&rules), kube_proxy: Some(&table), ..Filters::default() };
    assert!(from_pod(filters, query(Transport::Udp, SERVICE)).iter().all(|walk| !walk.certain()));
    assert!(from_pod(filters, query(Transport::Udp, REMOTE)).iter().all(Walk::certain));
}

#[test]
fn chains_tell_whose_they_are() {
    let place = |table: &str, chain: &str| Place {
        backend: if table.contains(' ') { Backend::Nft } else { Backend::IptablesNft },
        table: table.to_owned(),
        chain: chain.to_owned(),
        rule: None,
        nth: 0,
    };
    for (table, chain, whose) in [
        ("filter", "cali-fw-cali1234567890a", Owner::Policy("Calico")),
        ("filter", "cali-tw-cali1234567890a", Owner::Policy("Calico")),
        ("filter", "KUBE-POD-FW-ABCDEFGHIJKLMNOP", Owner::Policy("kube-router")),
        ("filter", "KUBE-NWPLCY-DEFAULT", Owner::Policy("kube-router")),
        ("filter", "KUBE-SERVICES", Owner::KubeProxy),
        ("filter", "FORWARD", Owner::Other),
        ("filter", "DOCKER-USER", Owner::Other),
        ("inet firewalld", "filter_FWD_public", Owner::Other),
        ("inet kube-network-policies", "forward", Owner::Policy("kube-network-policies")),
        ("ip calico", "filter-cali-tw-cali12", Owner::Policy("Calico")),
        ("ip kube-proxy", "cluster-ips-check", Owner::KubeProxy),
    ] {
        assert_eq!(owner(&place(table, chain)), whose, "{table} {chain}");
    }
}

#[test]
fn only_what_drops_and_moved_is_named() {
    let before = with(&recorded(), "FORWARD", "-p udp -m udp --dport 53 -j DROP");
    let mut after = before.clone();
    let filter = after.tables.iter_mut().find(|t| t.name == "filter").unwrap();
    filter.chains.iter_mut().find(|c| c.name == "FORWARD").unwrap().rules[0].packets = 12;
    let moved = moved_drops(&of(&before), &of(&after));
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].0.chain.as_str(), moved[0].2), ("FORWARD", 5));
}

#[test]
fn loops_and_depth_end() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n[0:0] -A FORWARD -j A\n[0:0] -A A -j A\nCOMMIT\n";
    let rules = iptables::parse(text).unwrap();
    let walk = from_pod(of(&rules), query(Transport::Udp, REMOTE)).remove(0);
    assert!(matches!(walk.fate, Verdict::Elsewhere { .. }));
}

proptest! {
    #[test]
    fn arbitrary_rules_never_panic(rule in "[ -~]{0,60}", target in "DROP|REJECT|DNAT|MARK|CT|[A-Z]{1,5}") {
        let text = format!("*filter\n:FORWARD DROP [0:0]\n-A FORWARD {} -j {target}\nCOMMIT\n", rule.replace('"', ""));
        if let Ok(rules) = iptables::parse(&text) {
            let _ = from_pod(of(&rules), query(Transport::Tcp, REMOTE));
        }
    }

    #[test]
    fn arbitrary_words_never_panic(words in prop::collection::vec("(-[a-z]|--[a-z]{1,12}|!|[0-9./:,x-]{0,12})", 0..8)) {
        let rule = iptables::Rule::from_words(1, words);
        let _ = xtables::matches(&rule, &query(Transport::Udp, REMOTE));
    }

    #[test]
    fn mangled_native_rules_never_panic(at in 0usize..4000, with in any::<u8>()) {
        let mut json = br#"{"nftables": [{"chain": {"family": "inet", "table": "fw", "name": "f", "type": "filter", "hook": "forward", "prio": 10, "policy": "accept"}}, {"rule": {"family": "inet", "table": "fw", "chain": "f", "handle": 5, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}, {"vmap": {"key": {"concat": [{"meta": {"key": "mark"}}]}, "data": {"set": [[{"concat": [1]}, {"drop": null}]]}}}, {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 16]}}}]}}]}"#.to_vec();
        let at = at.min(json.len() - 1);
        json[at] = with;
        if let Ok(set) = nft::parse(&json) {
            let filters = Filters { native: Some(&set.native), ..Filters::default() };
            let _ = from_pod(filters, query(Transport::Udp, REMOTE));
        }
    }
}
