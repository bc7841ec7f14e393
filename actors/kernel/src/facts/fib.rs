//! Policy rules, FIB lookups, bridge tables and what identifies a pod on its link, as plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::RouteKind;

/// One rule of policy routing (RTM_GETRULE).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// IPv4 (else IPv6).
    pub v4: bool,
    /// Lower is asked first; 0 is the table of own addresses, 32766 main.
    pub priority: u32,
    /// From these addresses only.
    pub source: Option<(IpAddr, u8)>,
    /// To these addresses only.
    pub destination: Option<(IpAddr, u8)>,
    /// From this link only.
    pub iif: Option<String>,
    /// Packets with this mark under this mask only.
    pub mark: Option<(u32, u32)>,
    /// The table that is asked; 0 if the rule asks none.
    pub table: u32,
    /// What it does: `Unicast` asks the table.
    pub kind: RouteKind,
}

/// What the kernel is asked to look up (RTM_GETROUTE with a destination).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FibQuery {
    /// To where.
    pub destination: IpAddr,
    /// From which address, if not the namespace's own choice.
    pub source: Option<IpAddr>,
    /// As if it had come in by this link; needs a source that lies there.
    pub iif: Option<String>,
    /// With this mark.
    pub mark: Option<u32>,
}

impl FibQuery {
    /// As a socket of the namespace sends.
    #[must_use]
    pub fn to(destination: IpAddr) -> Self {
        Self { destination, source: None, iif: None, mark: None }
    }
}

/// A lookup with what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// What was asked.
    pub query: FibQuery,
    /// What the kernel said.
    pub result: super::Reading<FibResult>,
}

/// What a lookup says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fib")]
pub enum FibResult {
    /// A route.
    Route {
        /// What the route does: `Unicast` or `Local`, of those that lead somewhere.
        kind: RouteKind,
        /// The prefix that matched; `None` is the default route.
        matched: Option<(IpAddr, u8)>,
        /// The next hop; `None` is on link.
        gateway: Option<IpAddr>,
        /// The link that it leaves by.
        out_link: Option<u32>,
        /// The table that had it.
        table: u32,
    },
    /// No route at all (ENETUNREACH).
    NoRoute,
    /// A route that leads nowhere: blackhole (EINVAL), unreachable (EHOSTUNREACH) or prohibit (EACCES). The kernel says
    /// unreachable, too, of a packet that came in while forwarding is off.
    Nowhere {
        /// Which.
        kind: RouteKind,
    },
}

/// One entry of a bridge's forwarding table (AF_BRIDGE RTM_GETNEIGH), unicast, learned or set on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The link-layer address.
    pub mac: String,
    /// ifindex of the port.
    pub port: u32,
    /// ifindex of the bridge.
    pub bridge: u32,
    /// The VLAN, if the bridge tells them apart.
    pub vlan: Option<u16>,
    /// Set, not learned: the port's own address, as a rule.
    pub permanent: bool,
}

/// What identifies a namespace on its link: the cheap reading for pods that are not concerned, to find duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Every link but loopback.
    pub links: Vec<super::Link>,
    /// Every address that is not on loopback, and its prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// `/proc/thread-self/net/stat/arp_cache`, summed over CPUs, by the names of its header. One table per kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourStat(pub BTreeMap<String, u64>);

impl NeighbourStat {
    /// A counter by its name: `entries`, `table_fulls`, `unresolved_discards`, `res_failed`, …
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }
}
