//! The iptables side: the kubelet's chains always, kube-proxy's in iptables mode. The text is that of the recordings.

use std::collections::BTreeSet;

use super::Mode;
use super::names::{endpoint_chain, service_chain};
use super::state::{Protocol, ServicePort, ServiceState};
use crate::lab::POD_CIDR;

/// IPv4 or IPv6. Services of the lab are IPv4; the other table has only what stands there without Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// The program of this family: `iptables-nft` is `ip6tables-nft` for IPv6.
    pub(super) fn program(self, v4: &str) -> String {
        match self {
            Self::V4 => v4.to_owned(),
            Self::V6 => v4.replacen("iptables", "ip6tables", 1),
        }
    }
}

/// One table: chains of our own with their rules, and jumps to them from built-in chains, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    name: &'static str,
    /// Those that the programs made; the nft backend makes a built-in chain when it is first used.
    built_in: &'static [&'static str],
    chains: Vec<(String, Vec<String>)>,
    jumps: Vec<(&'static str, &'static str)>,
}

impl Table {
    /// The whole table, for a namespace that has none.
    pub(super) fn whole(&self) -> String {
        let mut text = format!("*{}\n", self.name);
        for chain in self.built_in {
            text.push_str(&format!(":{chain} ACCEPT [0:0]\n"));
        }
        text.push_str(&self.declared());
        for (chain, rule) in &self.jumps {
            text.push_str(&format!("-A {chain} {rule}\n"));
        }
        text.push_str(&self.rules());
        text.push_str("COMMIT\n");
        text
    }

    /// Only our own chains, for `--noflush`: declaring a chain empties it. Chains in `stale` are deleted.
    pub(super) fn own_chains(&self, stale: &[&String]) -> String {
        let stale: &[&String] = if self.name == "nat" { stale } else { &[] };
        let mut text = format!("*{}\n{}", self.name, self.declared());
        for chain in stale {
            text.push_str(&format!(":{chain} - [0:0]\n"));
        }
        text.push_str(&self.rules());
        for chain in stale {
            text.push_str(&format!("-X {chain}\n"));
        }
        text.push_str("COMMIT\n");
        text
    }

    /// Lines that put the jumps back where they are missing or out of order, given a dump of all tables.
    pub(super) fn jumps_again(&self, dump: &str) -> String {
        let head = format!("*{}", self.name);
        let found: Vec<&str> = dump.lines().skip_while(|l| *l != head).take_while(|l| *l != "COMMIT").collect();
        let mut text = String::new();
        for chain in self.built_in {
            let wanted: Vec<&str> = self.jumps.iter().filter(|j| j.0 == *chain).map(|j| j.1).collect();
            let prefix = format!("-A {chain} ");
            let there: Vec<&str> =
                found.iter().filter_map(|l| l.strip_prefix(&prefix)).filter(|rule| wanted.contains(rule)).collect();
            if there == wanted {
                continue;
            }
            for rule in there {
                text.push_str(&format!("-D {chain} {rule}\n"));
            }
            for rule in wanted.iter().rev() {
                text.push_str(&format!("-I {chain} {rule}\n"));
            }
        }
        text
    }

    fn declared(&self) -> String {
        self.chains.iter().map(|(chain, _)| format!(":{chain} - [0:0]\n")).collect()
    }

    fn rules(&self) -> String {
        let rules = |(chain, rules): &(String, Vec<String>)| -> String {
            rules.iter().map(|rule| format!("-A {chain} {rule}\n")).collect()
        };
        self.chains.iter().map(rules).collect()
    }
}

/// Names of the chains that come and go with Services and endpoints.
pub(super) fn service_chains(tables: &[Table]) -> BTreeSet<String> {
    let of_services = |name: &&String| {
        name.starts_with("KUBE-SVC-") || name.starts_with("KUBE-SVL-") || name.starts_with("KUBE-SEP-")
    };
    tables.iter().flat_map(|t| t.chains.iter().map(|c| &c.0)).filter(of_services).cloned().collect()
}

const FIREWALL: &str = "-j KUBE-FIREWALL";
const LOAD_BALANCERS: &str =
    r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL"#;
const HEALTH_CHECKS: &str = r#"-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS"#;
const EXTERNAL: &str = r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES"#;
const FORWARDING: &str = r#"-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD"#;
const PORTALS: &str =
    r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#;
const NAT_PORTALS: &str = r#"-m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#;
const POSTROUTING: &str = r#"-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING"#;

/// All tables of one family.
pub(super) fn tables(family: Family, mode: Mode, state: &ServiceState) -> Vec<Table> {
    let proxy = mode != Mode::Nftables;
    let ports: &[ServicePort] = if family == Family::V4 { &state.ports } else { &[] };
    let empty = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), Vec::new())).collect::<Vec<_>>();

    let mut mangle = empty(&["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"]);
    let mut filter = empty(&["KUBE-KUBELET-CANARY"]);
    filter.push(("KUBE-FIREWALL".into(), firewall(family)));
    let mut nat = empty(&["KUBE-KUBELET-CANARY"]);
    let (mut filter_jumps, mut nat_jumps) = (vec![("INPUT", FIREWALL), ("OUTPUT", FIREWALL)], vec![]);
    if proxy {
        mangle.extend(empty(&["KUBE-PROXY-CANARY"]));
        filter.extend(empty(&["KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-CANARY", "KUBE-PROXY-FIREWALL"]));
        filter.push(("KUBE-FORWARD".into(), forward()));
        filter.push(("KUBE-SERVICES".into(), ports.iter().filter(|p| p.endpoints.is_empty()).map(refusal).collect()));
        nat.extend(empty(&["KUBE-NODEPORTS", "KUBE-PROXY-CANARY"]));
        nat.extend(nat_chains(family, ports));
        let mut input = vec![("INPUT", LOAD_BALANCERS), ("INPUT", HEALTH_CHECKS), ("INPUT", EXTERNAL)];
        let forward =
            [("FORWARD", LOAD_BALANCERS), ("FORWARD", FORWARDING), ("FORWARD", PORTALS), ("FORWARD", EXTERNAL)];
        let mut output = vec![("OUTPUT", LOAD_BALANCERS), ("OUTPUT", PORTALS)];
        // Who came first stands where; the recordings differ between the families.
        let place = |rules: &mut Vec<_>, firewall| match family {
            Family::V4 => rules.push(firewall),
            Family::V6 => rules.insert(0, firewall),
        };
        place(&mut input, ("INPUT", FIREWALL));
        place(&mut output, ("OUTPUT", FIREWALL));
        filter_jumps = input.into_iter().chain(forward).chain(output).collect();
        nat_jumps = vec![("PREROUTING", NAT_PORTALS), ("OUTPUT", NAT_PORTALS), ("POSTROUTING", POSTROUTING)];
    }
    vec![
        Table { name: "mangle", built_in: &[], chains: mangle, jumps: vec![] },
        Table { name: "filter", built_in: &["INPUT", "FORWARD", "OUTPUT"], chains: filter, jumps: filter_jumps },
        Table { name: "nat", built_in: &["PREROUTING", "OUTPUT", "POSTROUTING"], chains: nat, jumps: nat_jumps },
    ]
}

fn firewall(family: Family) -> Vec<String> {
    match family {
        Family::V4 => vec![
            r#"! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"#
                .into(),
        ],
        Family::V6 => vec![],
    }
}

fn forward() -> Vec<String> {
    vec![
        format!("-m conntrack --ctstate INVALID -m nfacct --nfacct-name {} -j DROP", super::nfacct::INVALID_DROPPED),
        r#"-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT"#.into(),
        r#"-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"#
            .into(),
    ]
}

/// In the filter table, when there is nobody to send to.
fn refusal(port: &ServicePort) -> String {
    let ServicePort { cluster_ip: ip, protocol, port: number, .. } = port;
    let title = port.title();
    if port.local && port.elsewhere > 0 {
        // With endpoints on other nodes it is silent (pkg/proxy/iptables/proxier.go).
        return format!(
            r#"-d {ip}/32 -p {protocol} -m comment --comment "{title} has no local endpoints" -m {protocol} --dport {number} -j DROP"#
        );
    }
    format!(
        r#"-d {ip}/32 -p {protocol} -m comment --comment "{title} has no endpoints" -m {protocol} --dport {number} -j REJECT --reject-with icmp-port-unreachable"#
    )
}

fn nat_chains(family: Family, ports: &[ServicePort]) -> Vec<(String, Vec<String>)> {
    let not_loopback = if family == Family::V6 { "! -d ::1/128 " } else { "" };
    let mut services: Vec<(String, String)> = Vec::new();
    let mut chains = vec![
        ("KUBE-MARK-MASQ".to_owned(), vec!["-j MARK --set-xmark 0x4000/0x4000".to_owned()]),
        (
            "KUBE-POSTROUTING".into(),
            vec![
                "-m mark ! --mark 0x4000/0x4000 -j RETURN".into(),
                "-j MARK --set-xmark 0x4000/0x0".into(),
                r#"-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully"#
                    .into(),
            ],
        ),
    ];
    for port in ports.iter().filter(|p| !p.endpoints.is_empty()) {
        let ServicePort { cluster_ip: ip, protocol, port: number, .. } = port;
        let (title, chain) = (port.title(), service_chain(port));
        let to_service = format!(
            r#"-d {ip}/32 -p {protocol} -m comment --comment "{title} cluster IP" -m {protocol} --dport {number}"#
        );
        services.push((chain.clone(), format!("{to_service} -j {chain}")));
        let mut rules = vec![format!("! -s {POD_CIDR} {to_service} -j KUBE-MARK-MASQ")];
        let endpoints = port.sorted();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let (text, left) = (endpoint.to_string(), endpoints.len() - index);
            let own = endpoint_chain(port, &text);
            let chance = chance(left);
            rules.push(format!(r#"-m comment --comment "{title} -> {text}"{chance} -j {own}"#));
            chains.push((own, endpoint_rules(*protocol, &title, &endpoint.ip().to_string(), &text)));
        }
        chains.push((chain, rules));
    }
    // In the order of the recordings.
    services.sort();
    let mut services: Vec<String> = services.into_iter().map(|(_, rule)| rule).collect();
    services.push(format!(
        r#"{not_loopback}-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"#
    ));
    chains.push(("KUBE-SERVICES".into(), services));
    chains
}

/// The match that gives every endpoint the same chance, when `left` endpoints are left including this one.
fn chance(left: usize) -> String {
    match u32::try_from(left) {
        Ok(left) if left > 1 => {
            format!(" -m statistic --mode random --probability {:.10}", f64::from(left).recip())
        }
        _ => String::new(),
    }
}

fn endpoint_rules(protocol: Protocol, title: &str, ip: &str, endpoint: &str) -> Vec<String> {
    vec![
        format!(r#"-s {ip}/32 -m comment --comment "{title}" -j KUBE-MARK-MASQ"#),
        format!(r#"-p {protocol} -m comment --comment "{title}" -m {protocol} -j DNAT --to-destination {endpoint}"#),
    ]
}
