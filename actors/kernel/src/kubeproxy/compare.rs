//! The comparison: what is there, against what ought to be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nameward_messages::targets::{DnsService, Family, Transport};

use super::{
    Expected, Mode, PathState, RulesVerdict, addresses, nft_local_chain, nft_service_chain, port_of, svc_chain,
    svl_chain,
};
use crate::facts::{Netfilter, Reading};
use crate::iptables::{Chain, Rule, RuleSet};
use crate::nft::KubeProxyTable;

/// Finds out how kube-proxy writes its rules and compares them (IPv4) with what the API says.
///
/// With no rules of kube-proxy but something else of its making the paths are [`PathState::Missing`] and the mode is
/// [`Mode::Unknown`]. With nothing of it at all (Cilium, Calico's eBPF mode and others do without it) the mode is
/// [`Mode::Absent`], and they are [`PathState::Unknown`], as they are where something decisive could not be read. The hints say what
/// else is there.
#[must_use]
pub fn judge(service: &DnsService, expected: &Expected, netfilter: &Netfilter) -> RulesVerdict {
    let nft = netfilter.kube_proxy_nft.value();
    let by_nft = netfilter.iptables_nft.value();
    let by_legacy = netfilter.iptables_legacy.value();
    let has_services = |set: &&RuleSet| set.chain("nat", "KUBE-SERVICES").is_some();

    let mut verdict = if let Some(table) = nft.filter(|t| t.base_chains.contains_key("nat-prerouting")) {
        judge_nft(service, expected, Family::Ipv4, table)
    } else if let Some(set) = by_nft.filter(has_services) {
        judge_iptables(service, expected, Family::Ipv4, set, Mode::IptablesNft)
    } else if let Some(set) = by_legacy.filter(has_services) {
        judge_iptables(service, expected, Family::Ipv4, set, Mode::IptablesLegacy)
    } else if let Some(table) = nft {
        judge_nft(service, expected, Family::Ipv4, table)
    } else {
        nothing(service, netfilter)
    };

    for (backend, set) in [("iptables-nft", by_nft), ("iptables-legacy", by_legacy)] {
        let Some(set) = set else { continue };
        let own = match verdict.mode {
            Mode::IptablesNft | Mode::Ipvs => "iptables-nft",
            Mode::IptablesLegacy => "iptables-legacy",
            Mode::Nftables | Mode::Unknown | Mode::Absent => "",
        };
        if backend != own && set.chain("nat", "KUBE-SERVICES").is_some() {
            verdict.hints.push(format!("{backend} holds KUBE-SERVICES as well"));
        }
        verdict.hints.extend(hints_of(backend, set));
    }
    if let Some(chains) = netfilter.other_base_chains.value().filter(|c| !c.is_empty()) {
        verdict.hints.push(format!("base chains that are not modelled: {}", chains.join(", ")));
    }
    verdict
}

/// Every place that has rules of kube-proxy for this Service (IPv4), each compared with what the API says. kube-proxy writes
/// to one; another one holds what an earlier kube-proxy left, or what was restored at boot.
#[must_use]
pub fn judge_each(service: &DnsService, expected: &Expected, netfilter: &Netfilter) -> Vec<RulesVerdict> {
    let ips = addresses(service, Family::Ipv4);
    let about_it = |set: &&RuleSet| {
        ["nat", "filter"]
            .iter()
            .filter_map(|table| set.chain(table, "KUBE-SERVICES"))
            .any(|chain| chain.rules.iter().any(|rule| ips.iter().any(|ip| rule.is_to(*ip))))
    };
    let in_table = |table: &&KubeProxyTable| {
        table.service_ips.iter().chain(&table.no_endpoint_services).any(|(ip, ..)| ips.contains(ip))
    };
    let nft = netfilter.kube_proxy_nft.value().filter(in_table);
    let by_nft = netfilter.iptables_nft.value().filter(about_it);
    let by_legacy = netfilter.iptables_legacy.value().filter(about_it);
    let iptables = |set: &RuleSet, mode| judge_iptables(service, expected, Family::Ipv4, set, mode);
    nft.map(|table| judge_nft(service, expected, Family::Ipv4, table))
        .into_iter()
        .chain(by_nft.map(|set| iptables(set, Mode::IptablesNft)))
        .chain(by_legacy.map(|set| iptables(set, Mode::IptablesLegacy)))
        .collect()
}

/// What a rule set shows beside the Service's rules.
fn hints_of(backend: &str, set: &RuleSet) -> Vec<String> {
    let mut hints = Vec::new();
    for (chain, means) in [
        ("KUBE-PROXY-CANARY", "kube-proxy in iptables mode writes here"),
        ("KUBE-IPTABLES-HINT", "the kubelet chose this backend"),
    ] {
        if set.chain("mangle", chain).is_some() {
            hints.push(format!("{backend} mangle has {chain}: {means}"));
        }
    }
    for (prefix, owner) in
        [("CILIUM_", "Cilium"), ("cali-", "Calico"), ("ANTREA-", "Antrea"), ("KUBE-ROUTER-", "kube-router")]
    {
        if set.tables.iter().flat_map(|t| &t.chains).any(|c| c.name.starts_with(prefix)) {
            hints.push(format!("{backend} has chains of {owner}, which are not modelled"));
        }
    }
    hints.extend(set.incompatible.iter().map(|note| format!("{backend}: {note}")));
    hints
}

/// Chains that kube-proxy makes in iptables mode and nobody else does (`pkg/proxy/iptables/proxier.go`). The kubelet makes, or made,
/// `KUBE-FIREWALL`, `KUBE-POSTROUTING`, `KUBE-MARK-MASQ`, `KUBE-MARK-DROP`, `KUBE-KUBELET-CANARY` and `KUBE-IPTABLES-HINT` (KEP-3178):
/// these are on nodes without kube-proxy, too.
const CHAINS: &[&str] = &[
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
];
/// The beginnings of the names of its chains for single Services and endpoints.
const CHAINS_OF_SERVICES: &[&str] = &["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-XLB-", "KUBE-FW-"];

/// Whether anything of kube-proxy's making is in one of the backends of iptables.
fn traced(netfilter: &Netfilter) -> bool {
    let sets = [netfilter.iptables_nft.value(), netfilter.iptables_legacy.value()];
    let mut chains = sets.into_iter().flatten().flat_map(|set| &set.tables).flat_map(|table| &table.chains);
    chains.any(|c| CHAINS.contains(&c.name.as_str()) || CHAINS_OF_SERVICES.iter().any(|p| c.name.starts_with(p)))
}

/// Neither iptables chains nor a kube-proxy table.
fn nothing(service: &DnsService, netfilter: &Netfilter) -> RulesVerdict {
    // That a table is not there is an answer; that the program which would show it is not there is none.
    let nft_ran = netfilter.other_base_chains.value().is_some() || netfilter.kube_proxy_nft.value().is_some();
    let legacy_open = !matches!(netfilter.iptables_legacy, Reading::Read(_) | Reading::NotPresent(_));
    let unread: Vec<String> = [
        ("iptables-nft", netfilter.iptables_nft.missing()),
        ("iptables-legacy", netfilter.iptables_legacy.missing().filter(|_| legacy_open)),
        ("nft", netfilter.kube_proxy_nft.missing().filter(|_| !nft_ran)),
    ]
    .into_iter()
    .filter_map(|(name, why)| why.map(|why| format!("{name}: {why}")))
    .collect();
    let absent = unread.is_empty() && !traced(netfilter);
    let state = |transport| {
        if port_of(service, transport).is_none() || addresses(service, Family::Ipv4).is_empty() {
            PathState::NotServed
        } else if !unread.is_empty() {
            PathState::Unknown { why: unread.join("; ") }
        } else if absent {
            let why = "nothing of kube-proxy's making is there: another program may hand Services out";
            PathState::Unknown { why: why.to_owned() }
        } else {
            PathState::Missing { what: "every rule of kube-proxy".to_owned() }
        }
    };
    RulesVerdict {
        mode: if absent { Mode::Absent } else { Mode::Unknown },
        udp: state(Transport::Udp),
        tcp: state(Transport::Tcp),
        prerouting_jump: false,
        output_jump: false,
        hints: Vec::new(),
    }
}

/// Compares a rule set of iptables (either backend) with what the API says. IPVS is recognised and not judged.
#[must_use]
pub fn judge_iptables(
    service: &DnsService,
    expected: &Expected,
    family: Family,
    rules: &RuleSet,
    mode: Mode,
) -> RulesVerdict {
    let jumps = |chain| rules.chain("nat", chain).is_some_and(|c| c.jumps_to("KUBE-SERVICES"));
    let mut verdict = RulesVerdict {
        mode,
        udp: PathState::NotServed,
        tcp: PathState::NotServed,
        prerouting_jump: jumps("PREROUTING"),
        output_jump: jumps("OUTPUT"),
        hints: Vec::new(),
    };
    let services = rules.chain("nat", "KUBE-SERVICES");
    let ipvs = services.is_some_and(|c| c.rules.iter().any(|r| r.has(&["--match-set", "KUBE-CLUSTER-IP"])));
    if ipvs {
        let why = "kube-proxy runs in IPVS mode, which is not modelled".to_owned();
        let unknown = PathState::Unknown { why };
        return RulesVerdict { mode: Mode::Ipvs, udp: unknown.clone(), tcp: unknown, ..verdict };
    }
    verdict.udp = iptables_path(service, expected, family, rules, Transport::Udp);
    verdict.tcp = iptables_path(service, expected, family, rules, Transport::Tcp);
    verdict
}

fn iptables_path(
    service: &DnsService,
    expected: &Expected,
    family: Family,
    rules: &RuleSet,
    transport: Transport,
) -> PathState {
    let Some(port) = port_of(service, transport) else { return PathState::NotServed };
    let ips = addresses(service, family);
    if ips.is_empty() {
        return PathState::NotServed;
    }
    let missing = |what: String| PathState::Missing { what };
    let Some(services) = rules.chain("nat", "KUBE-SERVICES") else {
        return missing("chain KUBE-SERVICES in table nat".to_owned());
    };
    let chain = if service.internal_traffic_local {
        svl_chain(&service.key, &port.name, transport)
    } else {
        svc_chain(&service.key, &port.name, transport)
    };
    let mut found = BTreeSet::new();
    for ip in ips {
        if !leads_to(services, ip, transport, port.port, &chain) {
            return match refusal(rules, ip, transport, port.port) {
                Some(action) => refused(expected, transport, action),
                None => missing(format!("the jump from KUBE-SERVICES to {chain} for {ip} {transport} {}", port.port)),
            };
        }
        let Some(svc) = rules.chain("nat", &chain) else { return missing(format!("chain {chain} in table nat")) };
        let seps: BTreeSet<&str> =
            svc.rules.iter().filter_map(|r| r.target.as_deref()).filter(|t| t.starts_with("KUBE-SEP-")).collect();
        if seps.is_empty() {
            return missing(format!("every endpoint in chain {chain}"));
        }
        for sep in seps {
            let dnat = rules.chain("nat", sep).and_then(|c| c.rules.iter().find_map(Rule::dnat_to));
            match dnat {
                Some(endpoint) => found.insert(endpoint),
                None => return missing(format!("the DNAT rule of chain {sep}, to which {chain} leads")),
            };
        }
    }
    expected.compare(transport, &found)
}

/// A rule for this address, protocol and port that leads to the chain.
fn leads_to(services: &Chain, ip: IpAddr, transport: Transport, port: u16, chain: &str) -> bool {
    let (transport, port) = (transport.to_string(), port.to_string());
    services.rules.iter().any(|r| {
        r.is_to(ip)
            && r.arg("-p") == Some(&transport)
            && r.arg("--dport") == Some(&port)
            && r.target.as_deref() == Some(chain)
    })
}

/// The rule in table filter that refuses a Service without endpoints.
fn refusal(rules: &RuleSet, ip: IpAddr, transport: Transport, port: u16) -> Option<String> {
    let services = rules.chain("filter", "KUBE-SERVICES")?;
    ["REJECT", "DROP"].into_iter().find(|action| leads_to(services, ip, transport, port, action)).map(str::to_owned)
}

/// The rules refuse: right if the API names no endpoint either.
fn refused(expected: &Expected, transport: Transport, action: String) -> PathState {
    let missing = expected.for_transport(transport).to_vec();
    if missing.is_empty() { PathState::NoEndpoints { action } } else { PathState::Stale { extra: Vec::new(), missing } }
}

/// Compares kube-proxy's own table with what the API says.
#[must_use]
pub fn judge_nft(service: &DnsService, expected: &Expected, family: Family, table: &KubeProxyTable) -> RulesVerdict {
    let jumps = |chain: &str| table.base_chains.get(chain).is_some_and(|to| to.iter().any(|c| c == "services"));
    RulesVerdict {
        mode: Mode::Nftables,
        udp: nft_path(service, expected, family, table, Transport::Udp),
        tcp: nft_path(service, expected, family, table, Transport::Tcp),
        prerouting_jump: jumps("nat-prerouting"),
        output_jump: jumps("nat-output"),
        hints: Vec::new(),
    }
}

fn nft_path(
    service: &DnsService,
    expected: &Expected,
    family: Family,
    table: &KubeProxyTable,
    transport: Transport,
) -> PathState {
    let Some(port) = port_of(service, transport) else { return PathState::NotServed };
    let ips = addresses(service, family);
    if ips.is_empty() {
        return PathState::NotServed;
    }
    let missing = |what: String| PathState::Missing { what };
    if !table.lookups.get("services").is_some_and(|maps| maps.iter().any(|m| m == "service-ips")) {
        return missing("the look-up of map service-ips in chain services".to_owned());
    }
    let chain = if service.internal_traffic_local {
        nft_local_chain(&service.key, &port.name, transport)
    } else {
        nft_service_chain(&service.key, &port.name, transport)
    };
    let mut found = BTreeSet::new();
    for ip in ips {
        let is_key = |key: &&(IpAddr, Transport, u16, String)| (key.0, key.1, key.2) == (ip, transport, port.port);
        if let Some((.., verdict)) = table.no_endpoint_services.iter().find(is_key) {
            let action = if verdict == "drop" { "DROP" } else { "REJECT" };
            return refused(expected, transport, action.to_owned());
        }
        match table.service_ips.iter().find(is_key) {
            Some((.., to)) if *to == chain => {}
            Some((.., to)) => {
                return missing(format!("{ip} {transport} {} leads to {to} instead of {chain}", port.port));
            }
            None => return missing(format!("the element {ip} . {transport} . {} of map service-ips", port.port)),
        }
        match table.endpoints.get(&chain) {
            None => return missing(format!("chain {chain}")),
            Some(endpoints) if endpoints.is_empty() => return missing(format!("every endpoint in chain {chain}")),
            Some(endpoints) => found.extend(endpoints.iter().copied()),
        }
    }
    expected.compare(transport, &found)
}
