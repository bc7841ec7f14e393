//! kube-proxy's nftables mode, from `nft -j list ruleset`. (Skeleton: the fields are the contract.)

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use nameward_messages::targets::Transport;
use serde::{Deserialize, Serialize};

/// `table ip kube-proxy` (or ip6), reduced to what decides about a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeProxyTable {
    /// Map `service-ips`: (address, protocol, port) to the chain it goes to. Other protocols are left out.
    pub service_ips: Vec<(IpAddr, Transport, u16, String)>,
    /// Map `no-endpoint-services`: the same key to its verdict.
    pub no_endpoint_services: Vec<(IpAddr, Transport, u16, String)>,
    /// Chain `service-…` to the endpoints its rule sends to.
    pub endpoints: BTreeMap<String, Vec<SocketAddr>>,
    /// Base chains by name with the chains that they jump to, in order.
    pub base_chains: BTreeMap<String, Vec<String>>,
    /// Set `cluster-ips`.
    pub cluster_ips: Vec<IpAddr>,
}
