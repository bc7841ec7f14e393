//! What can be read of a machine, as plain data: the input of diagnosis.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::iptables::RuleSet;
use crate::nft::{KubeProxyTable, Native};

mod bypass;
mod fib;
#[cfg(test)]
mod tests;
pub use bypass::Bypass;
pub use fib::{FdbEntry, FibQuery, FibResult, Identity, Lookup, NeighbourStat, PolicyRule};

/// What came of reading one source. Nothing is ever silently empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reading", content = "value")]
pub enum Reading<T> {
    /// Read.
    Read(T),
    /// Not asked for.
    #[default]
    NotRead,
    /// We may not read it; what is missing.
    NotPermitted(String),
    /// It does not exist here.
    NotPresent(String),
    /// It could not be read or understood, or took too long; why.
    Failed(String),
}

impl<T> Reading<T> {
    /// The value, if it was read.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Read(value) => Some(value),
            Self::NotRead | Self::NotPermitted(_) | Self::NotPresent(_) | Self::Failed(_) => None,
        }
    }

    /// Why there is no value; `None` if there is one.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::Read(_) => None,
            Self::NotRead => Some("not read"),
            Self::NotPermitted(why) | Self::NotPresent(why) | Self::Failed(why) => Some(why),
        }
    }
}

/// The links, addresses, routes and neighbours of one namespace, by rtnetlink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// RTM_GETLINK.
    pub links: Vec<Link>,
    /// RTM_GETADDR.
    pub addresses: Vec<Address>,
    /// RTM_GETROUTE, every table.
    pub routes: Vec<Route>,
    /// RTM_GETNEIGH.
    pub neighbours: Vec<Neighbour>,
    /// RTM_GETRULE.
    pub rules: Reading<Vec<PolicyRule>>,
    /// RTM_GETNEIGH of AF_BRIDGE: the tables of bridges.
    pub fdb: Reading<Vec<FdbEntry>>,
    /// RTM_GETROUTE with a destination, of what was to be looked up.
    pub lookups: Vec<Lookup>,
}

impl Topology {
    /// A link by its name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    /// A link by its index.
    #[must_use]
    pub fn link_at(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|l| l.index == index)
    }

    /// What the kernel said of a destination, as a socket of this namespace sends.
    #[must_use]
    pub fn lookup(&self, destination: IpAddr) -> Option<&FibResult> {
        self.lookups.iter().find(|l| l.query == FibQuery::to(destination))?.result.value()
    }

    /// Links that lead to other nodes: up, with a route over IPv4, no loopback, no bridge and on none, and no pod's. Where a CNI plugin
    /// routes to each pod by its own veth (Calico, AWS' and GCP's, ptp), such a link has routes to single addresses alone; a node
    /// may be on veths itself, but reaches a network by them.
    pub fn uplinks(&self) -> impl Iterator<Item = &Link> {
        let kind = |link: &Link, kinds: &[&str]| link.kind.as_deref().is_some_and(|kind| kinds.contains(&kind));
        let leads_out = move |link: &Link| {
            let mut routes =
                self.routes.iter().filter(|r| r.v4 && r.table != 255 && r.out_link == Some(link.index)).peekable();
            let single =
                |route: &Route| route.gateway.is_none() && route.destination.is_some_and(|(_, bits)| bits == 32);
            routes.peek().is_some() && !(kind(link, &["veth", "netkit"]) && routes.all(single))
        };
        let may = move |link: &Link| link.up && link.name != "lo" && link.master.is_none() && !kind(link, &["bridge"]);
        self.links.iter().filter(move |link| may(link) && leads_out(link))
    }

    /// The default routes of the main table (254).
    pub fn default_routes(&self, v4: bool) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(move |r| r.table == 254 && r.destination.is_none() && r.v4 == v4)
    }
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// ifindex.
    pub index: u32,
    /// IFLA_IFNAME.
    pub name: String,
    /// IFF_UP: administratively up.
    pub up: bool,
    /// IFF_LOWER_UP: carrier.
    pub carrier: bool,
    /// IFLA_MASTER: ifindex of the bridge it is attached to.
    pub master: Option<u32>,
    /// IFLA_INFO_KIND: `veth`, `bridge`, `vxlan`, …
    pub kind: Option<String>,
    /// IFLA_LINK: for a veth, ifindex of the other end in its namespace.
    pub peer: Option<u32>,
    /// IFLA_ADDRESS as `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// IFLA_MTU, bytes.
    pub mtu: u32,
    /// Bridge port attributes, if it is one.
    pub port: Option<BridgePort>,
    /// IFLA_BR_VLAN_FILTERING, if it is a bridge and says so.
    #[serde(default)]
    pub vlan_filtering: Option<bool>,
}

/// IFLA_BRPORT_*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    /// 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking.
    pub state: u8,
    /// Hairpin mode.
    pub hairpin: bool,
    /// Isolated from other isolated ports.
    pub isolated: bool,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// ifindex.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length, bits.
    pub prefix: u8,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// IPv4 (else IPv6).
    pub v4: bool,
    /// Table id; 254 is main, 255 local.
    pub table: u32,
    /// Destination and prefix length; `None` is the default route.
    pub destination: Option<(IpAddr, u8)>,
    /// RTA_GATEWAY.
    pub gateway: Option<IpAddr>,
    /// RTA_OIF.
    pub out_link: Option<u32>,
    /// What it does.
    pub kind: RouteKind,
}

/// Route types that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// Forwards or delivers on a link.
    Unicast,
    /// An own address.
    Local,
    /// Drops silently.
    Blackhole,
    /// Drops with ICMP host unreachable.
    Unreachable,
    /// Drops with ICMP administratively prohibited.
    Prohibit,
    /// Any other type.
    Other,
}

/// One neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// ifindex.
    pub link: u32,
    /// The neighbour.
    pub ip: IpAddr,
    /// Its link-layer address, if resolved.
    pub mac: Option<String>,
    /// NUD_* state bits.
    pub state: u16,
}

/// Which programs of the node made its netfilter rules, as far as can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netfilter {
    /// `iptables-nft-save -c` (IPv4), all tables.
    pub iptables_nft: Reading<RuleSet>,
    /// `iptables-legacy-save -c` (IPv4), only tables that `ip_tables_names` lists.
    pub iptables_legacy: Reading<RuleSet>,
    /// `table ip kube-proxy`, by `nft -j`.
    pub kube_proxy_nft: Reading<KubeProxyTable>,
    /// Base chains outside iptables and kube-proxy that hook the forward, input, output or prerouting path:
    /// `family table chain hook`, for honesty about what is not modelled.
    pub other_base_chains: Reading<Vec<String>>,
    /// The nftables tables outside kube-proxy's and iptables' own, with their rules, by `nft -j`.
    #[serde(default)]
    pub native: Reading<Native>,
}

/// Sockets of one namespace from `/proc/thread-self/net/{udp,udp6,tcp,tcp6}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketTable {
    /// UDP sockets.
    pub udp: Vec<SocketRow>,
    /// Listening TCP sockets (state 0A).
    pub tcp_listen: Vec<SocketRow>,
}

impl SocketTable {
    /// UDP sockets bound to a port.
    pub fn udp_on(&self, port: u16) -> impl Iterator<Item = &SocketRow> {
        self.udp.iter().filter(move |s| s.port == port)
    }

    /// TCP listeners on a port.
    pub fn tcp_on(&self, port: u16) -> impl Iterator<Item = &SocketRow> {
        self.tcp_listen.iter().filter(move |s| s.port == port)
    }
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketRow {
    /// Local address.
    pub ip: IpAddr,
    /// Local port.
    pub port: u16,
    /// Bytes waiting to be read (TCP listener: connections waiting to be accepted).
    pub rx_queue: u64,
    /// Datagrams dropped at this socket (UDP).
    pub drops: u64,
    /// Inode of the socket.
    pub inode: u64,
}

/// Counters of one namespace from `/proc/thread-self/net/{snmp,netstat}`: `Udp.InDatagrams`, `Ip.ForwDatagrams`,
/// `TcpExt.ListenDrops`, … as the kernel names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters(pub BTreeMap<String, u64>);

impl Counters {
    /// A counter by `Group.Name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }
}

/// Sysctls and conntrack figures of a namespace; `None`: not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctls {
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<i64>,
    /// `net.bridge.bridge-nf-call-iptables`.
    pub bridge_nf_call_iptables: Option<i64>,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: Option<i64>,
    /// `net.ipv4.conf.DEVICE.rp_filter`; what holds is the greater of this and of `all`.
    pub rp_filter: BTreeMap<String, i64>,
    /// `net.ipv4.conf.DEVICE.forwarding`: whether what comes in by the device is forwarded.
    pub forwarding: BTreeMap<String, i64>,
    /// `net.ipv4.neigh.default.gc_thresh3`: most entries of the kernel's neighbour table; the initial namespace has it alone.
    pub gc_thresh3: Option<i64>,
    /// `net.netfilter.nf_conntrack_count`.
    pub conntrack_count: Option<i64>,
    /// `net.netfilter.nf_conntrack_max`.
    pub conntrack_max: Option<i64>,
}

/// `/proc/thread-self/net/stat/nf_conntrack`, summed over CPUs, by the names of its header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackStat(pub BTreeMap<String, u64>);
