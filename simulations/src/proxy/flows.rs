//! kube-proxy's reconciler: after a sync it deletes the UDP conntrack entries of Services that lead to no endpoint of
//! theirs, those without any translation among them (since 1.32; pkg/proxy/conntrack/cleanup.go).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::state::{Protocol, ServiceState};
use crate::lab::{LabError, Netns};

/// Deletes them.
///
/// # Errors
///
/// If conntrack is missing or refuses.
pub(super) fn reconcile(netns: &Netns, state: &ServiceState) -> Result<(), LabError> {
    let mut services: BTreeMap<(Ipv4Addr, u16), BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for port in state.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        let ends = services.entry((port.cluster_ip, port.port)).or_default();
        ends.extend(port.endpoints.iter().map(|end| *end.ip()));
    }
    // As kube-proxy, it leaves those of a Service without endpoints alone.
    for ((ip, port), ends) in services.into_iter().filter(|(_, ends)| !ends.is_empty()) {
        let (ip, port) = (ip.to_string(), port.to_string());
        let which = ["-p", "udp", "--orig-dst", &ip, "--orig-port-dst", &port];
        let listed = netns.tool("conntrack", &[&["-L"], which.as_slice()].concat(), "")?;
        let stale: BTreeSet<String> = listed
            .lines()
            .filter_map(replier)
            .filter(|from| !ends.contains(from))
            .map(|from| from.to_string())
            .collect();
        for from in stale {
            let delete = [&["-D"], which.as_slice(), &["--reply-src", &from]].concat();
            // It fails when the entry has ended meanwhile.
            let _gone = netns.tool("conntrack", &delete, "");
        }
    }
    Ok(())
}

/// Who is to reply: the second `src=` of a line of `conntrack -L`.
fn replier(line: &str) -> Option<Ipv4Addr> {
    line.split_whitespace().filter_map(|word| word.strip_prefix("src=")).nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replier_is_read() {
        let line = "udp      17 29 src=10.244.1.52 dst=10.96.0.10 sport=40000 dport=53 [UNREPLIED] src=10.244.1.77 \
                    dst=10.244.1.52 sport=53 dport=40000 mark=0 use=1";
        assert_eq!(replier(line), Some(Ipv4Addr::new(10, 244, 1, 77)));
        assert_eq!(replier("conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown."), None);
    }
}
