//! What is on the node that no rule knows how to read: named, never guessed about.

use nameward_kernel::facts::Netfilter;
use nameward_kernel::kubeproxy::{self, Expected, Mode};
use nameward_kernel::nft::Native;
use nameward_messages::targets::Family;

use crate::record::{EvidenceRecord, Sample};

/// Lines at most.
const MOST: usize = 8;

/// Links that belong to eBPF data planes, by the names that their projects give them (Cilium; Calico's eBPF mode).
const EBPF_LINKS: &[&str] =
    &["cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve", "lxc_health", "bpfin.cali", "bpfout.cali"];

/// Programs that write rules of their own, by the beginnings of their chains' names. What these chains match on (sets,
/// marks, identities) is theirs alone to know.
const ENGINES: &[(&str, &str)] = &[
    ("CILIUM_", "Cilium"),
    ("cali-", "Calico"),
    ("ANTREA-", "Antrea"),
    ("KUBE-ROUTER-", "kube-router"),
    ("WEAVE-", "Weave Net"),
];

/// One line each, in a fixed order.
#[must_use]
pub fn on_node(record: &EvidenceRecord, sample: &Sample) -> Vec<String> {
    let mut found = Vec::new();
    let netfilter = &sample.host.netfilter;
    let bypass = sample.host.bypass.value();
    let links = sample.host.topology.value().map(|t| t.links.as_slice()).unwrap_or_default();
    let dummy = links.iter().any(|link| link.name == "kube-ipvs0");
    let by_rules = record.targets.service.as_ref().is_some_and(|service| {
        let expected = Expected::of(&record.targets, Family::Ipv4, &record.node);
        kubeproxy::judge(service, &expected, netfilter).mode == Mode::Ipvs
    });
    let services = bypass.filter(|b| b.ipvs).map_or(0, |b| b.ipvs_services);
    if dummy || by_rules || services > 0 {
        let counted = if services > 0 { format!(" ({services} virtual services)") } else { String::new() };
        found.push(format!("kube-proxy in IPVS mode{counted}"));
    }
    let ebpf: Vec<&str> =
        links.iter().map(|l| l.name.as_str()).filter(|n| EBPF_LINKS.contains(n) || n.starts_with("bpf")).collect();
    if !ebpf.is_empty() {
        found.push(format!("an eBPF data plane (links {})", few(&ebpf)));
    }
    if let Some(bypass) = bypass {
        let all = |names: &[String]| names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        if !bypass.xdp.is_empty() {
            found.push(format!("XDP programs on {}", clip(&all(&bypass.xdp))));
        }
        if !bypass.classifiers.is_empty() {
            found.push(format!("classifiers (tc, clsact or ingress) on {}", clip(&all(&bypass.classifiers))));
        }
    }
    for (backend, prefix, owner) in engines(netfilter) {
        found.push(format!("chains of {owner} ({prefix}…) in {backend}"));
    }
    for (backend, reading) in
        [("iptables-nft", &netfilter.iptables_nft), ("iptables-legacy", &netfilter.iptables_legacy)]
    {
        found.extend(reading.value().iter().flat_map(|s| &s.incompatible).map(|note| format!("{backend}: {note}")));
    }
    if let Some(chains) = netfilter.other_base_chains.value() {
        // Those of IP are walked rule by rule, if they were read; what of them is not understood is said by rule.
        let walked = |chain: &&str| {
            let ip = chain.starts_with("inet ") || chain.starts_with("ip ") || chain.starts_with("ip6 ");
            let of_it = |native: &Native| {
                !native.truncated && native.tables.iter().any(|t| chain.starts_with(&format!("{} ", t.title())))
            };
            ip && netfilter.native.value().is_some_and(of_it)
        };
        let names: Vec<&str> = chains.iter().map(String::as_str).filter(|c| !walked(c)).collect();
        if !names.is_empty() {
            found.push(format!("base chains of other programs: {}", few(&names)));
        }
    }
    found.truncate(MOST);
    found
}

fn engines(netfilter: &Netfilter) -> Vec<(&'static str, &'static str, &'static str)> {
    let backends = [("iptables-nft", &netfilter.iptables_nft), ("iptables-legacy", &netfilter.iptables_legacy)];
    let mut found = Vec::new();
    for (backend, reading) in backends {
        let Some(set) = reading.value() else { continue };
        for (prefix, owner) in ENGINES {
            if set.tables.iter().flat_map(|t| &t.chains).any(|c| c.name.starts_with(prefix)) {
                found.push((backend, *prefix, *owner));
            }
        }
    }
    found
}

fn few(names: &[&str]) -> String {
    let more = names.len().saturating_sub(4);
    let text = clip(&names.iter().take(4).copied().collect::<Vec<_>>().join(", "));
    if more > 0 { format!("{text} and {more} more") } else { text }
}

fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use nameward_kernel::facts::{Bypass, Link, Reading};

    use super::*;
    use crate::testing::{World, iptables_rules, parsed};

    fn found(change: impl Fn(&mut Sample)) -> Vec<String> {
        let record = World::healthy().both(change).record();
        on_node(&record, record.current.as_ref().unwrap())
    }

    fn link(name: &'static str) -> impl Fn(&mut Sample) {
        move |sample| {
            let Reading::Read(topology) = &mut sample.host.topology else { panic!("no topology") };
            topology.links.push(Link { name: name.to_owned(), ..Link::default() });
        }
    }

    fn bypass(bypass: Bypass) -> impl Fn(&mut Sample) {
        move |sample| sample.host.bypass = Reading::Read(bypass.clone())
    }

    #[test]
    fn nothing_is_said_of_what_is_known() {
        assert!(found(|_| {}).is_empty());
        // The module is loaded on many nodes that do not use it.
        assert!(found(bypass(Bypass { ipvs: true, ..Bypass::default() })).is_empty());
        assert!(found(link("flannel.1")).is_empty());
    }

    #[test]
    fn what_is_not_modelled_is_named() {
        let rules = |chain: &'static str| {
            move |sample: &mut Sample| {
                let text = iptables_rules().replacen("*filter\n", &format!("*filter\n:{chain} - [0:0]\n"), 1);
                sample.host.netfilter.iptables_nft = parsed(&text);
            }
        };
        let other = |sample: &mut Sample| {
            sample.host.netfilter.other_base_chains = Reading::Read(vec!["inet firewall input input".to_owned()]);
        };
        let names = |n: usize| (0..n).map(|i| format!("eth{i}")).collect::<Vec<_>>();
        let rows: Vec<(Vec<String>, &str)> = vec![
            (found(link("kube-ipvs0")), "IPVS"),
            (found(bypass(Bypass { ipvs: true, ipvs_services: 14, ..Bypass::default() })), "14 virtual services"),
            (found(link("cilium_host")), "eBPF data plane (links cilium_host)"),
            (found(link("bpfin.cali")), "eBPF"),
            (found(bypass(Bypass { xdp: names(1), ..Bypass::default() })), "XDP programs on eth0"),
            (found(bypass(Bypass { classifiers: names(2), ..Bypass::default() })), "on eth0 eth1"),
            (found(rules("cali-FORWARD")), "Calico"),
            (found(rules("CILIUM_FORWARD")), "Cilium"),
            (found(rules("ANTREA-FORWARD")), "Antrea"),
            (found(rules("KUBE-ROUTER-FORWARD")), "kube-router"),
            (found(other), "inet firewall input input"),
        ];
        for (lines, text) in rows {
            assert!(lines.iter().any(|line| line.contains(text)), "{text}: {lines:?}");
        }
    }
}
