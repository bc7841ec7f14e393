//! kube-proxy's nftables table, as far as it is kept: its chains by their names, from `pkg/proxy/nftables/README.md` and
//! `proxier.go` of Kubernetes.

use std::net::SocketAddr;

use super::{Backend, Hook, Packet, Place, Verdict};
use crate::nft::KubeProxyTable;

fn place(chain: &str, rule: String) -> Place {
    Place {
        backend: Backend::Nft,
        table: "ip kube-proxy".to_owned(),
        chain: chain.to_owned(),
        rule: Some(rule),
        nth: 0,
    }
}

/// What it does to a packet at a hook: for the hooks of its nat chains, a translation; for those of its filter chains, a
/// refusal.
pub(super) fn decide(table: &KubeProxyTable, hook: Hook, nat: bool, packet: &Packet) -> Option<(Place, Verdict)> {
    let to = SocketAddr::new(packet.destination, packet.destination_port?);
    let key = |(ip, transport, port, _): &&(std::net::IpAddr, _, u16, String)| {
        *ip == to.ip() && *transport == packet.protocol && *port == to.port()
    };
    let has =
        |base: &str, chain: &str| table.base_chains.get(base).is_some_and(|jumps| jumps.iter().any(|j| j == chain));
    if nat {
        let base = match hook {
            Hook::Prerouting => "nat-prerouting",
            Hook::Output => "nat-output",
            Hook::Input | Hook::Forward | Hook::Postrouting => return None,
        };
        if !has(base, "services") {
            return None;
        }
        let (.., chain) = table.service_ips.iter().find(key)?;
        let to = table.endpoints.get(chain).filter(|e| !e.is_empty())?.clone();
        let rule = format!("ip daddr . meta l4proto . th dport vmap @service-ips: goto {chain}");
        return Some((place("services", rule), Verdict::Dnat { to }));
    }
    let base = match hook {
        Hook::Forward => "filter-forward",
        Hook::Output => "filter-output",
        Hook::Input => "filter-input",
        Hook::Prerouting | Hook::Postrouting => return None,
    };
    if packet.state == super::State::New
        && has(base, "service-endpoints-check")
        && let Some((.., action)) = table.no_endpoint_services.iter().find(key)
    {
        let verdict = if action == "drop" {
            Verdict::Drop
        } else {
            Verdict::Reject { with: "icmpx port-unreachable".to_owned() }
        };
        let rule = format!("ip daddr . meta l4proto . th dport vmap @no-endpoint-services: {action}");
        return Some((place("service-endpoints-check", rule), verdict));
    }
    if packet.state == super::State::New && has(base, "cluster-ips-check") && table.cluster_ips.contains(&to.ip()) {
        let verdict = Verdict::Reject { with: "icmpx port-unreachable".to_owned() };
        return Some((place("cluster-ips-check", "ip daddr @cluster-ips reject".to_owned()), verdict));
    }
    None
}
