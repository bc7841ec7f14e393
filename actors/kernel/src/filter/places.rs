//! Rules found again: in another sample, by whom they were made, and which of them moved.

use super::{Backend, Filters, Place, Verdict};
use crate::iptables::{Chain, Table};
use crate::nft::native::is_iptables_table;

/// Who made a chain, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// kube-proxy.
    KubeProxy,
    /// A network plugin that makes rules of NetworkPolicies; its name.
    Policy(&'static str),
    /// Anybody else.
    Other,
}

/// Chains that hold what a NetworkPolicy became, by the prefix of their names.
///
/// - Calico: `cali-tw-`, `cali-fw-` (to and from a workload), `cali-pi-`, `cali-po-` (a policy in and out), `cali-pri-`,
///   `cali-pro-` (a profile): `felix/rules/rule_defs.go`.
/// - kube-router: `KUBE-POD-FW-` and `KUBE-NWPLCY-` (also `KUBE-NWPLCY-DEFAULT`):
///   `pkg/controllers/netpol/network_policy_controller.go`; `KUBE-ROUTER-` are its entries.
/// - Antrea: `ANTREA-POL-` (policies of nodes): `pkg/agent/util/iptables`, those of pods are in Open vSwitch.
/// - Weave Net: `WEAVE-NPC`: `npc/constants.go`.
/// - Azure's manager: `AZURE-NPM`: `npm/util/const.go`.
/// - kube-network-policies and kindnet: an nftables table of that name.
const POLICY_CHAINS: &[(&str, &str)] = &[
    ("cali-tw-", "Calico"),
    ("cali-fw-", "Calico"),
    ("cali-pi-", "Calico"),
    ("cali-po-", "Calico"),
    ("cali-pri-", "Calico"),
    ("cali-pro-", "Calico"),
    ("KUBE-POD-FW-", "kube-router"),
    ("KUBE-NWPLCY", "kube-router"),
    ("ANTREA-POL-", "Antrea"),
    ("WEAVE-NPC", "Weave Net"),
    ("AZURE-NPM", "Azure NPM"),
];

/// Tables of nftables that hold what NetworkPolicies became.
const POLICY_TABLES: &[(&str, &str)] = &[
    ("kube-network-policies", "kube-network-policies"),
    ("kindnet-network-policies", "kindnet"),
    ("calico", "Calico"),
];

/// By whom a rule was made.
#[must_use]
pub fn owner(place: &Place) -> Owner {
    if place.backend == Backend::Nft {
        let table = place.table.rsplit(' ').next().unwrap_or_default();
        if table == "kube-proxy" {
            return Owner::KubeProxy;
        }
        if let Some((_, owner)) = POLICY_TABLES.iter().find(|(name, _)| *name == table) {
            return Owner::Policy(owner);
        }
    }
    // Calico's nftables mode prefixes its chains' names with the table's.
    let chain = place.chain.strip_prefix("filter-").unwrap_or(&place.chain);
    if let Some((_, owner)) = POLICY_CHAINS.iter().find(|(prefix, _)| chain.starts_with(prefix)) {
        return Owner::Policy(owner);
    }
    let proxy = ["KUBE-SERVICES", "KUBE-SVC-", "KUBE-SEP-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-NODEPORTS"];
    let more = ["KUBE-FORWARD", "KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-EXTERNAL-SERVICES", "KUBE-MARK-"];
    if proxy.iter().chain(&more).any(|prefix| chain.starts_with(prefix)) {
        return Owner::KubeProxy;
    }
    Owner::Other
}

fn table<'a>(filters: &Filters<'a>, place: &Place) -> Option<&'a Table> {
    match place.backend {
        Backend::IptablesNft => filters.iptables_nft?.table(&place.table),
        Backend::IptablesLegacy => filters.iptables_legacy?.table(&place.table),
        Backend::Nft => None,
    }
}

/// The counter of a rule or policy in (other) filters: `None` if it is not there or does not count.
#[must_use]
pub fn packets_at(filters: &Filters<'_>, place: &Place) -> Option<u64> {
    if let Some(table) = table(filters, place) {
        let chain = table.chain(&place.chain)?;
        let Some(text) = &place.rule else { return Some(chain.policy_packets) };
        let nth = usize::try_from(place.nth).ok()?;
        return chain.rules.iter().filter(|r| r.text() == *text).nth(nth).map(|r| r.packets);
    }
    let native = filters.native?;
    let table = native.tables.iter().find(|t| t.title() == place.table)?;
    let text = place.rule.as_ref()?;
    let nth = usize::try_from(place.nth).ok()?;
    table.chain(&place.chain)?.rules.iter().filter(|r| r.text == *text).nth(nth)?.packets
}

impl Filters<'_> {
    /// The place that nf_tables itself names by a rule's handle, or by `None` for a chain's policy. iptables shows no handles: there
    /// it is found by its position, if the chain is as long (`position`: which of how many).
    #[must_use]
    pub fn place_at(
        &self,
        family: &str,
        table: &str,
        chain: &str,
        handle: Option<u64>,
        position: Option<(u32, u32)>,
    ) -> Option<Place> {
        if let Some(found) = self.native.and_then(|native| {
            let table = native.tables.iter().find(|t| t.family == family && t.name == table)?;
            let chain = table.chain(chain)?;
            let Some(handle) = handle else {
                let (title, chain) = (table.title(), chain.name.clone());
                return Some(Place { backend: Backend::Nft, table: title, chain, rule: None, nth: 0 });
            };
            let at = chain.rules.iter().position(|rule| rule.handle == handle)?;
            Some(super::chains::nft_place(table, chain, at))
        }) {
            return Some(found);
        }
        // Of IPv6 nothing is read.
        if family != "ip" || !is_iptables_table(family, table) {
            return None;
        }
        let table = self.iptables_nft?.table(table)?;
        let chain = table.chain(chain)?;
        if handle.is_none() {
            return Some(policy(Backend::IptablesNft, table, chain));
        }
        let (at, of) = position?;
        let (at, of) = (usize::try_from(at).ok()?, usize::try_from(of).ok()?);
        (of == chain.rules.len() && at < of).then(|| super::chains::xt_place(Backend::IptablesNft, table, chain, at))
    }
}

/// The rules and policies that drop or reject and whose counters moved from one reading to the next, with by how much.
#[must_use]
pub fn moved_drops(before: &Filters<'_>, after: &Filters<'_>) -> Vec<(Place, Verdict, u64)> {
    let mut found = Vec::new();
    let mut add = |place: Place, verdict: Verdict, now: u64| {
        if let Some(by) = packets_at(before, &place).map(|then| now.saturating_sub(then)).filter(|by| *by > 0) {
            found.push((place, verdict, by));
        }
    };
    for (backend, set) in [(Backend::IptablesNft, after.iptables_nft), (Backend::IptablesLegacy, after.iptables_legacy)]
    {
        for table in set.iter().flat_map(|s| &s.tables) {
            for chain in &table.chains {
                if chain.policy.as_deref() == Some("DROP") {
                    add(policy(backend, table, chain), Verdict::Drop, chain.policy_packets);
                }
                for (at, rule) in chain.rules.iter().enumerate() {
                    let verdict = match rule.target.as_deref() {
                        Some("DROP") => Verdict::Drop,
                        Some("REJECT") => Verdict::Reject {
                            with: rule.arg("--reject-with").unwrap_or("icmp-port-unreachable").into(),
                        },
                        _ => continue,
                    };
                    if rule.packets > 0 {
                        add(super::chains::xt_place(backend, table, chain, at), verdict, rule.packets);
                    }
                }
            }
        }
    }
    for table in after.native.iter().flat_map(|n| &n.tables) {
        for chain in &table.chains {
            for (at, rule) in chain.rules.iter().enumerate() {
                let Some(packets) = rule.packets.filter(|p| *p > 0) else { continue };
                let verdict = rule.expr.iter().find_map(|s| match s.as_object()?.keys().next()?.as_str() {
                    "drop" => Some(Verdict::Drop),
                    "reject" => Some(Verdict::Reject { with: "reject".to_owned() }),
                    _ => None,
                });
                if let Some(verdict) = verdict {
                    add(super::chains::nft_place(table, chain, at), verdict, packets);
                }
            }
        }
    }
    found
}

fn policy(backend: Backend, table: &Table, chain: &Chain) -> Place {
    Place { backend, table: table.name.clone(), chain: chain.name.clone(), rule: None, nth: 0 }
}
