//! What carries packets past everything that iptables, nftables and routes say.

use serde::{Deserialize, Serialize};

/// Data planes of a namespace that no rule set shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bypass {
    /// IPVS is loaded: `/proc/thread-self/net/ip_vs` is there.
    pub ipvs: bool,
    /// Virtual services of IPVS, as that file counts them; kube-proxy in IPVS mode has one per Service port.
    pub ipvs_services: u32,
    /// Links with an XDP program (IFLA_XDP), by name.
    pub xdp: Vec<String>,
    /// Links with a classifier on their way in or out (qdisc `clsact` or `ingress`), by name: the place of tc programs.
    pub classifiers: Vec<String>,
}
