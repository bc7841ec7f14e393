//! The cluster of a scenario.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most nodes of a scenario's cluster.
const NODES: u8 = 4;
/// Most client pods on a node: with those of CoreDNS, more than the 110 that a kubelet starts if nobody says otherwise.
const CLIENTS: u32 = 120;

/// The simulated cluster: nodes `node1`, `node2`, …
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topology {
    /// How many nodes.
    pub nodes: u8,
    /// CoreDNS replicas.
    pub coredns: Replicas,
    /// Client pods on each node.
    pub clients_per_node: u32,
    /// Coordinators, of which one leads.
    pub coordinators: u8,
    /// CoreDNS is a DaemonSet, as OpenShift has it: one replica on each node.
    pub daemon_set: bool,
    /// kube-proxy runs in pods, which can be evicted: a new one writes all rules again.
    pub kube_proxy: bool,
    /// An incident that was closed eight days ago stands there from the start.
    pub old_incident: bool,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            nodes: 2,
            coredns: Replicas::Spread(2),
            clients_per_node: 2,
            coordinators: 1,
            daemon_set: false,
            kube_proxy: false,
            old_incident: false,
        }
    }
}

/// CoreDNS replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "coredns is a number, or a list of nodes with one entry for each replica")]
pub enum Replicas {
    /// So many, spread over the nodes.
    Spread(u32),
    /// One on each of these nodes; a node may be named more than once.
    On(Vec<String>),
}

impl Replicas {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Self::Spread(count) => *count,
            Self::On(nodes) => u32::try_from(nodes.len()).unwrap_or(u32::MAX),
        }
    }

    /// Where they are to run, if that is stated.
    #[must_use]
    pub fn placement(&self) -> &[String] {
        match self {
            Self::Spread(_) => &[],
            Self::On(nodes) => nodes,
        }
    }
}

impl Topology {
    /// Names of the nodes.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        (1..=self.nodes).map(|n| format!("node{n}")).collect()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=NODES).contains(&self.nodes)
            || !(1..=4).contains(&self.coredns.count())
            || !(1..=CLIENTS).contains(&self.clients_per_node)
            || !(1..=2).contains(&self.coordinators)
        {
            return Err(format!(
                "topology: 1 to {NODES} nodes, 1 to 4 coredns, 1 to {CLIENTS} clients_per_node and 1 or 2 coordinators"
            ));
        }
        if self.daemon_set && self.coredns != Replicas::Spread(u32::from(self.nodes)) {
            return Err(format!("topology: a daemon_set has one replica on each node: coredns = {}", self.nodes));
        }
        match self.coredns.placement().iter().find(|node| !self.names().contains(node)) {
            Some(node) => Err(format!("topology: `{node}` is no node of a cluster of {}", self.nodes)),
            None => Ok(()),
        }
    }
}

/// A data plane: what kube-proxy writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// iptables mode by the nft backend.
    #[default]
    Iptables,
    /// iptables mode by the legacy backend.
    IptablesLegacy,
    /// nftables mode.
    Nftables,
}

impl Plane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Iptables, Self::IptablesLegacy, Self::Nftables];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Nftables => "nftables",
        }
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Plane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|plane| plane.name() == text)
            .ok_or_else(|| format!("`{text}` is no data plane: iptables, iptables-legacy or nftables"))
    }
}
