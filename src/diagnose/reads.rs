//! What was read and what could not be, and why.

use nameward_diagnosis::Sample;
use nameward_kernel::facts::Reading;
use serde::Serialize;

use super::survey::Surveyed;

/// One source. Part of the documented output.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Read {
    /// Whose: the node, or a pod.
    pub of: String,
    /// What.
    pub what: &'static str,
    /// `read`, `not-permitted`, `not-present` or `failed`.
    pub status: &'static str,
    /// Why there is nothing, if there is nothing.
    pub why: Option<String>,
}

/// The sources of the newest sample. What nobody asked for is left out.
pub(super) fn reads(surveyed: &Surveyed) -> Vec<Read> {
    surveyed.samples.last().map_or_else(Vec::new, |sample| of(surveyed, sample))
}

fn of(surveyed: &Surveyed, sample: &Sample) -> Vec<Read> {
    let record = &surveyed.record;
    let node = record.node.to_string();
    let mut all = Vec::new();
    let host = &sample.host;
    add(&mut all, &node, "links, addresses, routes, neighbours", &host.topology);
    add(&mut all, &node, "iptables-nft-save", &host.netfilter.iptables_nft);
    add(&mut all, &node, "iptables-legacy-save", &host.netfilter.iptables_legacy);
    add(&mut all, &node, "nft table ip kube-proxy", &host.netfilter.kube_proxy_nft);
    add(&mut all, &node, "nft tables of others", &host.netfilter.native);
    add(&mut all, &node, "nft base chains", &host.netfilter.other_base_chains);
    add(&mut all, &node, "sysctls", &host.sysctls);
    add(&mut all, &node, "resolv.conf", &host.nameservers);
    add(&mut all, &node, "conntrack entries of DNS", &host.flows);
    add(&mut all, &node, "conntrack counters", &host.conntrack);
    add(&mut all, &node, "sockets on port 53", &host.listeners);
    add(&mut all, &node, "xtables lock", &host.xtables_lock);
    add(&mut all, &node, "neighbour table counters", &host.neighbours);
    add(&mut all, &node, "IP and UDP counters", &host.counters);
    add(&mut all, &node, "other data planes", &host.bypass);
    for (uid, pod) in &sample.pods {
        let namespace = record.namespaces.get(uid).or(surveyed.namespace.as_ref().filter(|n| &n.pod == uid));
        let name = namespace.map_or_else(|| uid.to_string(), |n| n.key.to_string());
        add(&mut all, &name, "links, addresses, routes, neighbours", &pod.topology);
        add(&mut all, &name, "sockets", &pod.sockets);
        add(&mut all, &name, "IP and UDP counters", &pod.counters);
        add(&mut all, &name, "/health", &pod.health);
        add(&mut all, &name, "iptables-nft-save", &pod.filters.iptables_nft);
        add(&mut all, &name, "iptables-legacy-save", &pod.filters.iptables_legacy);
        add(&mut all, &name, "nft tables of others", &pod.filters.native);
        if let Some(namespace) = namespace {
            let (status, why) = match (&namespace.resolv.read_from, &namespace.resolv.trouble) {
                (Some(from), _) => ("read", Some(from.clone())),
                (None, Some(trouble)) => ("failed", Some(trouble.clone())),
                (None, None) => ("not-present", Some("no source names its resolv.conf".to_owned())),
            };
            all.push(Read { of: name, what: "resolv.conf", status, why });
        }
    }
    all
}

fn add<T>(all: &mut Vec<Read>, of: &str, what: &'static str, reading: &Reading<T>) {
    let status = match reading {
        Reading::Read(_) => "read",
        Reading::NotRead => return,
        Reading::NotPermitted(_) => "not-permitted",
        Reading::NotPresent(_) => "not-present",
        Reading::Failed(_) => "failed",
    };
    all.push(Read { of: of.to_owned(), what, status, why: reading.missing().map(str::to_owned) });
}
