//! kube-proxy's nftables mode: `table ip kube-proxy` and `table ip6 kube-proxy`, in the text of the recordings.

use std::fmt::Write as _;

use super::names::nft_service_chain;
use super::state::ServiceState;
use crate::lab::{POD_CIDR, SERVICE_CIDR};

/// Sets and maps: kind, name, type without the address, comment. `ADDRESS` stands for the family's type.
const SETS: [(&str, &str, &str, &str); 8] = [
    ("set", "hairpin-connections", "ADDRESS . ADDRESS . inet_proto . inet_service", "service hairpin connections"),
    ("set", "cluster-ips", "ADDRESS", "Active ClusterIPs"),
    ("set", "nodeport-ips", "ADDRESS", "IPs that accept NodePort traffic"),
    (
        "map",
        "no-endpoint-services",
        "ADDRESS . inet_proto . inet_service : verdict",
        "vmap to drop or reject packets to services with no endpoints",
    ),
    (
        "map",
        "no-endpoint-nodeports",
        "inet_proto . inet_service : verdict",
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    (
        "map",
        "firewall-ips",
        "ADDRESS . inet_proto . inet_service : verdict",
        "destinations that are subject to LoadBalancerSourceRanges",
    ),
    (
        "map",
        "service-ips",
        "ADDRESS . inet_proto . inet_service : verdict",
        "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    ),
    ("map", "service-nodeports", "inet_proto . inet_service : verdict", "NodePort traffic"),
];

/// Base chains: name, hook and priority, rules.
const BASE: [(&str, &str, &[&str]); 8] = [
    (
        "filter-prerouting-pre-dnat",
        "filter hook prerouting priority dstnat - 10",
        &["ct state new jump firewall-check"],
    ),
    ("filter-output-pre-dnat", "filter hook output priority -110", &["ct state new jump firewall-check"]),
    (
        "filter-input",
        "filter hook input priority filter",
        &["ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"],
    ),
    (
        "filter-forward",
        "filter hook forward priority filter",
        &["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
    ),
    (
        "filter-output",
        "filter hook output priority filter",
        &["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
    ),
    ("nat-prerouting", "nat hook prerouting priority dstnat", &["jump services"]),
    ("nat-output", "nat hook output priority -100", &["jump services"]),
    ("nat-postrouting", "nat hook postrouting priority srcnat", &["jump masquerading"]),
];

/// Replaces the table of one family in one transaction. That of IPv6 has no Services.
pub(super) fn table(state: &ServiceState, v6: bool) -> String {
    let ip = if v6 { "ip6" } else { "ip" };
    let mut body = String::from("\tcomment \"rules for kube-proxy\"\n");
    for (kind, name, of, comment) in SETS {
        if v6 && name == "nodeport-ips" {
            continue;
        }
        let of = of.replace("ADDRESS", if v6 { "ipv6_addr" } else { "ipv4_addr" });
        let elements = if v6 { Vec::new() } else { elements(state, name) };
        let elements = match elements.join(", ") {
            none if none.is_empty() => none,
            some => format!("\t\telements = {{ {some} }}\n"),
        };
        let _never_fails =
            writeln!(body, "\t{kind} {name} {{\n\t\ttype {of}\n\t\tcomment \"{comment}\"\n{elements}\t}}");
    }
    let chain = |body: &mut String, name: &str, lines: &[String]| {
        let lines: String = lines.iter().map(|l| format!("\t\t{l}\n")).collect();
        let _never_fails = writeln!(body, "\tchain {name} {{\n{lines}\t}}");
    };
    for (name, hook, rules) in BASE {
        let head = format!("type {hook}; policy accept;");
        let lines: Vec<String> = std::iter::once(head).chain(rules.iter().map(|r| (*r).to_owned())).collect();
        chain(&mut body, name, &lines);
    }
    for (name, lines) in if v6 { chains_v6() } else { chains_v4() } {
        chain(&mut body, name, &lines);
    }
    if !v6 {
        for port in &state.ports {
            let endpoints = port.sorted();
            let to: Vec<String> =
                endpoints.iter().enumerate().map(|(i, e)| format!("{i} : {} . {}", e.ip(), e.port())).collect();
            let rule = format!(
                "meta l4proto {} dnat ip to numgen random mod {} map {{ {} }}",
                port.protocol,
                to.len(),
                to.join(", ")
            );
            let rules = if to.is_empty() { vec![] } else { vec![rule] };
            chain(&mut body, &nft_service_chain(port), &rules);
        }
    }
    format!("add table {ip} kube-proxy\ndelete table {ip} kube-proxy\ntable {ip} kube-proxy {{\n{body}}}\n")
}

fn elements(state: &ServiceState, set: &str) -> Vec<String> {
    let mut elements = Vec::new();
    if set == "nodeport-ips" {
        elements.push(state.node_ip.to_string());
    }
    for port in &state.ports {
        let key = format!("{} . {} . {}", port.cluster_ip, port.protocol, port.port);
        match set {
            "cluster-ips" => elements.push(port.cluster_ip.to_string()),
            "service-ips" if !port.endpoints.is_empty() => {
                elements.push(format!("{key} : goto {}", nft_service_chain(port)));
            }
            "no-endpoint-services" if port.endpoints.is_empty() => {
                let verdict = if port.local && port.elsewhere > 0 { "drop" } else { "goto reject-chain" };
                elements.push(format!("{key} comment \"{}\" : {verdict}", port.title()));
            }
            "hairpin-connections" => {
                let local = port.sorted().into_iter().filter(|e| state.is_local(*e.ip()));
                elements.extend(local.map(|e| format!("{0} . {0} . {1} . {2}", e.ip(), port.protocol, e.port())));
            }
            _ => {}
        }
    }
    elements.sort();
    elements.dedup();
    elements
}

fn chains_v4() -> Vec<(&'static str, Vec<String>)> {
    let one = |rule: &str| vec![rule.to_owned()];
    vec![
        ("nodeport-endpoints-check", one("ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports")),
        ("service-endpoints-check", one("ip daddr . meta l4proto . th dport vmap @no-endpoint-services")),
        ("firewall-check", one("ip daddr . meta l4proto . th dport vmap @firewall-ips")),
        (
            "services",
            vec![
                format!(
                    "ip daddr @cluster-ips ip saddr != {POD_CIDR} meta mark set meta mark | 0x00004000 comment \"masquerade clusterIP traffic from outside cluster\""
                ),
                "ip daddr . meta l4proto . th dport vmap @service-ips".into(),
                "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports".into(),
            ],
        ),
        ("masquerading", masquerading("ip")),
        (
            "cluster-ips-check",
            vec![
                "ip daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"".into(),
                format!("ip daddr {SERVICE_CIDR} drop comment \"Drop traffic to unallocated ClusterIPs\""),
            ],
        ),
        ("reject-chain", reject()),
    ]
}

fn chains_v6() -> Vec<(&'static str, Vec<String>)> {
    let one = |rule: &str| vec![rule.to_owned()];
    vec![
        ("nodeport-endpoints-check", one("ip6 daddr != ::1 meta l4proto . th dport vmap @no-endpoint-nodeports")),
        ("service-endpoints-check", one("ip6 daddr . meta l4proto . th dport vmap @no-endpoint-services")),
        ("firewall-check", one("ip6 daddr . meta l4proto . th dport vmap @firewall-ips")),
        (
            "services",
            vec![
                "ip6 daddr . meta l4proto . th dport vmap @service-ips".into(),
                "fib daddr type local ip6 daddr != ::1 meta l4proto . th dport vmap @service-nodeports".into(),
            ],
        ),
        ("masquerading", masquerading("ip6")),
        (
            "cluster-ips-check",
            one("ip6 daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\""),
        ),
        ("reject-chain", reject()),
    ]
}

fn masquerading(ip: &str) -> Vec<String> {
    vec![
        "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random".into(),
        format!(
            "ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random"
        ),
    ]
}

fn reject() -> Vec<String> {
    vec!["comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"".into(), "reject".into()]
}
