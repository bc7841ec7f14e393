//! What is on the node that no rule knows how to read: named, never guessed about.

use nameward_kernel::facts::{Link, Netfilter};
use nameward_kernel::kubeproxy::{self, Expected, Mode, PathState, RulesVerdict};
use nameward_kernel::nft::Native;
use nameward_messages::targets::{DnsService, Family};

use crate::record::{EvidenceRecord, Sample};

/// Lines at most.
const MOST: usize = 8;

/// Links that belong to eBPF data planes, by the names that their projects give them (Cilium; Calico's eBPF mode).
const EBPF_LINKS: &[&str] =
    &["cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve", "lxc_health", "bpfin.cali", "bpfout.cali"];

/// Links of other programs that hand Services out, or may: IPVS of kube-proxy and of kube-router, Open vSwitch of Antrea and of
/// OVN-Kubernetes, by the names that these give them.
const SERVICE_LINKS: &[(&str, &str)] = &[
    ("kube-ipvs0", "IPVS"),
    ("kube-dummy-if", "IPVS of kube-router"),
    ("antrea-gw0", "Antrea"),
    ("ovn-k8s-mp0", "OVN-Kubernetes"),
];

/// Those of [`ENGINES`] that may hand Services out without a link of a name of their own. Calico does it in its eBPF mode alone, which has
/// links; kube-router with IPVS, and k3s has its chains for policies beside kube-proxy.
const SERVICE_ENGINES: &[&str] = &["CILIUM_", "ANTREA-"];

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
    let ebpf = ebpf_links(sample);
    if !ebpf.is_empty() {
        found.push(format!("an eBPF data plane (links {})", few(&ebpf)));
    }
    if let Some((link, owner)) = service_link(sample).filter(|_| !dummy) {
        found.push(format!("{owner} (link {link})"));
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

/// Whether a link is an eBPF data plane's: what it sends does not go where routes say.
#[must_use]
pub fn is_ebpf(link: &Link) -> bool {
    EBPF_LINKS.contains(&link.name.as_str()) || link.name.starts_with("bpf")
}

fn ebpf_links(sample: &Sample) -> Vec<&str> {
    let links = sample.host.topology.value().map(|t| t.links.as_slice()).unwrap_or_default();
    links.iter().filter(|link| is_ebpf(link)).map(|link| link.name.as_str()).collect()
}

fn service_link(sample: &Sample) -> Option<&'static (&'static str, &'static str)> {
    let links = sample.host.topology.value().map(|t| t.links.as_slice()).unwrap_or_default();
    links.iter().find_map(|link| SERVICE_LINKS.iter().find(|(name, _)| *name == link.name))
}

/// Which program of this node may hand Services out in place of kube-proxy. If one does, kube-proxy's rules may be left over from
/// before, or not be there, and nothing follows from that.
#[must_use]
pub fn hands_out(sample: &Sample) -> Option<String> {
    let ebpf = ebpf_links(sample);
    if !ebpf.is_empty() {
        return Some(format!("an eBPF data plane (links {})", few(&ebpf)));
    }
    if let Some((link, owner)) = service_link(sample) {
        return Some(format!("{owner} (link {link})"));
    }
    let (backend, prefix, owner) =
        engines(&sample.host.netfilter).into_iter().find(|(_, prefix, _)| SERVICE_ENGINES.contains(prefix))?;
    Some(format!("{owner} (chains {prefix}… in {backend})"))
}

/// How kube-proxy's rules for the Service compare with the API (IPv4), as far as they are what hands it out.
#[must_use]
pub fn judged(service: &DnsService, expected: &Expected, sample: &Sample) -> RulesVerdict {
    let mut verdict = kubeproxy::judge(service, expected, &sample.host.netfilter);
    if let Some(who) = hands_out(sample) {
        let why = format!("{who}, which is not modelled, may hand Services out in place of kube-proxy");
        for state in [&mut verdict.udp, &mut verdict.tcp] {
            if *state != PathState::NotServed {
                *state = PathState::Unknown { why: why.clone() };
            }
        }
    }
    verdict
}

/// Whether nothing is on the node that could hand Services out, kube-proxy's rules apart. `None`: not to be told.
#[must_use]
pub fn nothing_else(record: &EvidenceRecord, sample: &Sample) -> Option<bool> {
    sample.host.bypass.value()?;
    let switched = |link: &Link| link.kind.as_deref() == Some("openvswitch");
    let switched = sample.host.topology.value()?.links.iter().any(switched);
    Some(!switched && hands_out(sample).is_none() && on_node(record, sample).is_empty())
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

    use nameward_kernel::facts::{Bypass, Reading};

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
            (found(link("kube-dummy-if")), "IPVS of kube-router (link kube-dummy-if)"),
            (found(link("antrea-gw0")), "Antrea (link"),
            (found(link("ovn-k8s-mp0")), "OVN-Kubernetes (link"),
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
