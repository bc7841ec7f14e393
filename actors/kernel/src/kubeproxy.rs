//! What kube-proxy should have written for the DNS Service, and how that compares with what is there.
//!
//! The names are derived as kube-proxy derives them: `KUBE-SVC-` and base32(sha256(`namespace/name:port` + protocol)),
//! 16 characters; `service-` and base32(sha256(`namespace/name/protocol/port`)), 8 characters, in nftables mode.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use nameward_messages::targets::{DnsService, Family, ServicePort, Targets, Transport};
use nameward_messages::{NodeName, ObjectKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod compare;
#[cfg(test)]
mod tests;

pub use compare::{judge, judge_each, judge_iptables, judge_nft};

/// How kube-proxy of a node writes its rules, as far as the rules themselves show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `KUBE-SERVICES` in `nat`, by iptables-nft.
    IptablesNft,
    /// The same by iptables-legacy.
    IptablesLegacy,
    /// `table ip kube-proxy`.
    Nftables,
    /// IPVS: the rules decide nothing about one Service. Not modelled.
    Ipvs,
    /// No rules of kube-proxy, or they could not be read: see the hints.
    Unknown,
    /// No rules of kube-proxy, nor anything else of its making: they were all taken away, or another program hands Services out.
    Absent,
}

impl Mode {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::IptablesNft => "iptables (nft)",
            Self::IptablesLegacy => "iptables (legacy)",
            Self::Nftables => "nftables",
            Self::Ipvs => "IPVS",
            Self::Unknown => "unknown",
            Self::Absent => "none found",
        }
    }
}

/// What the rules do with one transport of the DNS Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum PathState {
    /// They send to exactly the endpoints that the API names.
    Present,
    /// Something on the way is not there.
    Missing {
        /// What, by its name, in one line.
        what: String,
    },
    /// They send elsewhere than the API says.
    Stale {
        /// Endpoints in the rules that the API does not name.
        extra: Vec<SocketAddr>,
        /// Ready endpoints that the rules leave out.
        missing: Vec<SocketAddr>,
    },
    /// They refuse, since the Service has no endpoints, and the API says the same.
    NoEndpoints {
        /// `REJECT` or `DROP`.
        action: String,
    },
    /// The Service has no such port (or no address of this family).
    NotServed,
    /// Not to be told; why.
    Unknown {
        /// In one line.
        why: String,
    },
}

/// What the rules of one node do with the DNS Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesVerdict {
    /// How kube-proxy writes its rules here.
    pub mode: Mode,
    /// UDP.
    pub udp: PathState,
    /// TCP.
    pub tcp: PathState,
    /// What pods send meets the rules: `PREROUTING` jumps to them.
    pub prerouting_jump: bool,
    /// What the host sends meets the rules: `OUTPUT` jumps to them.
    pub output_jump: bool,
    /// What else was seen that helps to read the rest, in plain words.
    pub hints: Vec<String>,
}

impl RulesVerdict {
    /// The state for one transport.
    #[must_use]
    pub fn of(&self, transport: Transport) -> &PathState {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        }
    }
}

/// Where the rules ought to send, for one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Endpoints for UDP that must be there.
    pub udp: Vec<SocketAddr>,
    /// Endpoints for TCP that must be there.
    pub tcp: Vec<SocketAddr>,
    /// Endpoints that may be there or not: with none ready kube-proxy keeps those that terminate and still serve.
    pub tolerated: Vec<SocketAddr>,
}

impl Expected {
    /// From the API's view. With `internalTrafficPolicy: Local` only the endpoints of `node` count.
    #[must_use]
    pub fn of(targets: &Targets, family: Family, node: &NodeName) -> Self {
        let local = targets.service.as_ref().is_some_and(|s| s.internal_traffic_local);
        let mut expected = Self::default();
        let here = |pod: &&nameward_messages::targets::DnsPod| !local || pod.node.as_ref() == Some(node);
        let any_ready = targets.pods.iter().filter(here).any(|p| p.ready);
        for pod in targets.pods.iter().filter(here) {
            for ip in pod.ips.iter().filter(|ip| Family::of(**ip) == family) {
                let (udp, tcp) = (pod.udp_port, pod.tcp_port);
                if pod.ready {
                    expected.udp.extend(udp.map(|port| SocketAddr::new(*ip, port)));
                    expected.tcp.extend(tcp.map(|port| SocketAddr::new(*ip, port)));
                } else if pod.terminating && !any_ready {
                    expected.tolerated.extend(udp.into_iter().chain(tcp).map(|port| SocketAddr::new(*ip, port)));
                }
            }
        }
        expected
    }

    fn for_transport(&self, transport: Transport) -> &[SocketAddr] {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        }
    }

    /// Compares what the rules send to with what they ought to.
    fn compare(&self, transport: Transport, found: &BTreeSet<SocketAddr>) -> PathState {
        let wanted = self.for_transport(transport);
        let missing: Vec<_> = wanted.iter().filter(|e| !found.contains(e)).copied().collect();
        let extra: Vec<_> =
            found.iter().filter(|e| !wanted.contains(e) && !self.tolerated.contains(e)).copied().collect();
        if missing.is_empty() && extra.is_empty() { PathState::Present } else { PathState::Stale { extra, missing } }
    }
}

/// The Service's port for a transport.
#[must_use]
pub fn port_of(service: &DnsService, transport: Transport) -> Option<&ServicePort> {
    match transport {
        Transport::Udp => service.udp_port.as_ref(),
        Transport::Tcp => service.tcp_port.as_ref(),
    }
}

/// `namespace/name:port`, or without the port's name when it has none.
#[must_use]
pub fn service_port_name(key: &ObjectKey, port: &str) -> String {
    if port.is_empty() { key.to_string() } else { format!("{key}:{port}") }
}

/// `KUBE-SVC-…`: the chain that picks an endpoint of a Service port.
#[must_use]
pub fn svc_chain(key: &ObjectKey, port: &str, transport: Transport) -> String {
    format!("KUBE-SVC-{}", hash(&format!("{}{transport}", service_port_name(key, port)), 16))
}

/// `KUBE-SVL-…`: the same for `internalTrafficPolicy: Local`.
#[must_use]
pub fn svl_chain(key: &ObjectKey, port: &str, transport: Transport) -> String {
    format!("KUBE-SVL-{}", hash(&format!("{}{transport}", service_port_name(key, port)), 16))
}

/// `KUBE-SEP-…`: the chain that sends to one endpoint.
#[must_use]
pub fn sep_chain(key: &ObjectKey, port: &str, transport: Transport, endpoint: SocketAddr) -> String {
    format!("KUBE-SEP-{}", hash(&format!("{}{transport}{endpoint}", service_port_name(key, port)), 16))
}

/// `service-…-namespace/name/protocol/port` of nftables mode.
#[must_use]
pub fn nft_service_chain(key: &ObjectKey, port: &str, transport: Transport) -> String {
    let base = format!("{}/{}/{transport}/{port}", key.namespace, key.name);
    format!("service-{}-{base}", hash(&base, 8))
}

/// `local-…`: the same for `internalTrafficPolicy: Local`.
#[must_use]
pub fn nft_local_chain(key: &ObjectKey, port: &str, transport: Transport) -> String {
    let base = format!("{}/{}/{transport}/{port}", key.namespace, key.name);
    format!("local-{}-{base}", hash(&base, 8))
}

/// The first characters of base32(sha256(text)).
fn hash(text: &str, characters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(text.as_bytes());
    let mut out = String::with_capacity(characters);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in digest {
        held = (held << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 && out.len() < characters {
            bits -= 5;
            out.push(char::from(ALPHABET[((held >> bits) & 31) as usize]));
        }
        held &= (1 << bits) - 1;
        if out.len() == characters {
            break;
        }
    }
    out
}

/// The Service's addresses of one family.
fn addresses(service: &DnsService, family: Family) -> Vec<IpAddr> {
    service.cluster_ips.iter().copied().filter(|ip| Family::of(*ip) == family).collect()
}
