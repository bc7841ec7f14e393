//! The changes that Nameward may make on a node, and no others: what each would write, and when it may be taken back.
//!
//! A [`Change`] names one thing in one place and the one value it shall have; an [`Image`] is what was read there. Both are
//! plain data, so that they can be journalled before anything is touched. What touches the kernel stands behind the
//! feature `io`: [`read`], [`apply`] and [`undo`] do one thing each over rtnetlink, ctnetlink or `/proc/sys`, and read back.
//!
//! Nothing here runs a program, flushes a table, or knows of packet filters. There is no undo for [`Change::DropFlows`]: the
//! entries are made again by the next packet, and deleting one that is not there is nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use nameward_messages::{NetnsCookie, PodUid};
use serde::{Deserialize, Serialize};

use crate::conntrack::Tuple;

mod text;

#[cfg(feature = "io")]
mod flows;
#[cfg(feature = "io")]
mod io;
#[cfg(feature = "io")]
mod look;
#[cfg(feature = "io")]
mod netlink;

#[cfg(feature = "io")]
pub use io::{apply, read, undo};
#[cfg(feature = "io")]
pub use look::look;

/// Most conntrack entries that one change deletes.
pub const MAX_FLOWS: usize = 256;

/// Where a change is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "in")]
pub enum Place {
    /// In the node's own namespace.
    Host,
    /// In a pod's.
    Pod {
        /// The pod.
        pod: PodUid,
        /// The namespace: what is behind the path must be this one.
        cookie: NetnsCookie,
        /// Its file.
        path: PathBuf,
    },
}

/// A link by index and name: both must be right, since either may be used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkId {
    /// ifindex.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// Which sysctl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "sysctl", content = "device")]
pub enum Sysctl {
    /// `net.ipv4.ip_forward`. Writing it sets `forwarding` of every device with it.
    IpForward,
    /// `net.ipv4.conf.DEVICE.forwarding`.
    Forwarding(String),
    /// `net.bridge.bridge-nf-call-iptables`.
    BridgeNfCallIptables,
    /// `net.ipv4.conf.DEVICE.rp_filter`.
    RpFilter(String),
}

/// One entry of conntrack, in both directions: a new one of the same client that leads elsewhere is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowId {
    /// As the client sent it.
    pub original: Tuple,
    /// As the answer is awaited.
    pub reply: Tuple,
}

/// A change. These and no others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// The IPv4 default route of a pod's namespace.
    DefaultRoute {
        /// The pod's namespace.
        place: Place,
        /// By which link.
        link: LinkId,
        /// To which gateway.
        gateway: Ipv4Addr,
    },
    /// A link becomes up.
    LinkUp {
        /// Where.
        place: Place,
        /// Which link.
        link: LinkId,
    },
    /// The host end of a veth pair goes onto its bridge.
    AttachVeth {
        /// The host end.
        veth: LinkId,
        /// The bridge.
        bridge: LinkId,
    },
    /// A port that was attached gets hairpin mode, as the other pods' ports have it.
    Hairpin {
        /// The host end of a veth pair.
        veth: LinkId,
    },
    /// A neighbour entry with a wrong link-layer address goes.
    DropNeighbour {
        /// In whose table.
        place: Place,
        /// On which link.
        link: LinkId,
        /// The neighbour.
        ip: IpAddr,
        /// The wrong address.
        mac: String,
    },
    /// The pods' bridge gets its address, the pods' gateway.
    BridgeAddress {
        /// The bridge.
        bridge: LinkId,
        /// The address.
        ip: Ipv4Addr,
        /// Its prefix length, bits.
        prefix: u8,
    },
    /// A sysctl of the node.
    Sysctl {
        /// Which.
        name: Sysctl,
        /// The value it shall have.
        value: i64,
    },
    /// Entries of conntrack that lead UDP to a dead DNS address go: these alone, at most [`MAX_FLOWS`].
    DropFlows {
        /// Which.
        flows: Vec<FlowId>,
    },
}

/// A default route, as far as it matters for putting it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultVia {
    /// RTA_GATEWAY.
    pub gateway: Option<Ipv4Addr>,
    /// RTA_OIF.
    pub link: Option<u32>,
    /// RTA_PRIORITY.
    pub metric: u32,
    /// rtm_protocol.
    pub protocol: u8,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourImage {
    /// Its link-layer address.
    pub mac: String,
    /// NUD_*: only the bit that says permanent is kept; the others change by themselves.
    pub permanent: bool,
}

/// What is there: before a change, or after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "image", content = "value")]
pub enum Image {
    /// The IPv4 default routes of the main table.
    Routes(Vec<DefaultVia>),
    /// Administratively up.
    Up(bool),
    /// ifindex of the bridge that a link is on.
    Bridge(Option<u32>),
    /// Hairpin mode of a bridge port; `None`: it is none.
    Hairpin(Option<bool>),
    /// The neighbour entry.
    Neighbour(Option<NeighbourImage>),
    /// The link's addresses with their prefix lengths, sorted.
    Addresses(Vec<(IpAddr, u8)>),
    /// A sysctl's value.
    Value(i64),
    /// Those entries of the change that are there.
    Flows(Vec<FlowId>),
}

/// Why a change makes no sense where this was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is as it should be already.
    AsWanted,
    /// What is there is not what the change is made for.
    Otherwise(&'static str),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsWanted => f.write_str("it is as it should be already"),
            Self::Otherwise(why) => f.write_str(why),
        }
    }
}

/// RTPROT_BOOT: what `ip route add` and CNI plugins write.
const BOOT: u8 = 3;

impl Change {
    /// Where it is made.
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            Self::DefaultRoute { place, .. } | Self::LinkUp { place, .. } | Self::DropNeighbour { place, .. } => place,
            Self::AttachVeth { .. }
            | Self::Hairpin { .. }
            | Self::BridgeAddress { .. }
            | Self::Sysctl { .. }
            | Self::DropFlows { .. } => &Place::Host,
        }
    }

    /// What will be there once it is made where `before` was read.
    ///
    /// # Errors
    /// [`Unfit`]: it must not be made there.
    pub fn writes(&self, before: &Image) -> Result<Image, Unfit> {
        const OTHER: Unfit = Unfit::Otherwise("what was read is of another kind");
        match (self, before) {
            (Self::DefaultRoute { link, gateway, .. }, Image::Routes(routes)) => {
                let wanted =
                    |route: DefaultVia| DefaultVia { gateway: Some(*gateway), link: Some(link.index), ..route };
                match routes.as_slice() {
                    [] => {
                        let new = DefaultVia { gateway: None, link: None, metric: 0, protocol: BOOT };
                        Ok(Image::Routes(vec![wanted(new)]))
                    }
                    [one] if wanted(*one) == *one => Err(Unfit::AsWanted),
                    [one] => Ok(Image::Routes(vec![wanted(*one)])),
                    _ => Err(Unfit::Otherwise("there are several default routes")),
                }
            }
            (Self::LinkUp { .. }, Image::Up(false)) => Ok(Image::Up(true)),
            (Self::LinkUp { .. }, Image::Up(true)) => Err(Unfit::AsWanted),
            (Self::AttachVeth { bridge, .. }, Image::Bridge(None)) => Ok(Image::Bridge(Some(bridge.index))),
            (Self::AttachVeth { bridge, .. }, Image::Bridge(Some(on))) if *on == bridge.index => Err(Unfit::AsWanted),
            (Self::AttachVeth { .. }, Image::Bridge(Some(_))) => Err(Unfit::Otherwise("it is on another bridge")),
            (Self::Hairpin { .. }, Image::Hairpin(Some(false))) => Ok(Image::Hairpin(Some(true))),
            (Self::Hairpin { .. }, Image::Hairpin(Some(true))) => Err(Unfit::AsWanted),
            (Self::Hairpin { .. }, Image::Hairpin(None)) => Err(Unfit::Otherwise("it is on no bridge")),
            (Self::DropNeighbour { mac, .. }, Image::Neighbour(Some(entry))) if entry.mac == *mac => {
                Ok(Image::Neighbour(None))
            }
            (Self::DropNeighbour { .. }, Image::Neighbour(_)) => Err(Unfit::AsWanted),
            (Self::BridgeAddress { ip, prefix, .. }, Image::Addresses(addresses)) => {
                if addresses.iter().any(|(own, _)| *own == IpAddr::V4(*ip)) {
                    return Err(Unfit::AsWanted);
                }
                let mut all = addresses.clone();
                all.push((IpAddr::V4(*ip), *prefix));
                all.sort_unstable();
                Ok(Image::Addresses(all))
            }
            (Self::Sysctl { value, .. }, Image::Value(now)) if value == now => Err(Unfit::AsWanted),
            (Self::Sysctl { value, .. }, Image::Value(_)) => Ok(Image::Value(*value)),
            (Self::DropFlows { .. }, Image::Flows(flows)) if flows.is_empty() => Err(Unfit::AsWanted),
            (Self::DropFlows { .. }, Image::Flows(_)) => Ok(Image::Flows(Vec::new())),
            _ => Err(OTHER),
        }
    }

    /// Whether what is there now is what the change left, or what came of that by itself: where a neighbour was forgotten it
    /// may have been learned anew, rightly.
    #[must_use]
    pub fn stands(&self, now: &Image, wrote: &Image) -> bool {
        match (self, now) {
            (Self::DropNeighbour { mac, .. }, Image::Neighbour(Some(entry))) => entry.mac != *mac,
            _ => now == wrote,
        }
    }

    /// Whether it can be taken back at all.
    #[must_use]
    pub fn reversible(&self) -> bool {
        !matches!(self, Self::DropFlows { .. })
    }
}

/// What is to be read for a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The namespaces of pods, beside the host's.
    pub pods: Vec<Place>,
    /// Conntrack's entries of those who asked one of these.
    pub flows_to: Vec<std::net::SocketAddr>,
}

/// What was read for a repair, afresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The host's links, addresses, routes and neighbours.
    pub host: crate::facts::Reading<crate::facts::Topology>,
    /// The pods'.
    pub pods: std::collections::BTreeMap<PodUid, crate::facts::Reading<crate::facts::Topology>>,
    /// The host's sysctls.
    pub sysctls: crate::facts::Reading<crate::facts::Sysctls>,
    /// Conntrack's entries over UDP.
    pub flows: crate::facts::Reading<Vec<FlowId>>,
}

/// Why something was not read, changed or taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// The namespace or the link is not there any more, or its name is another's.
    #[error("{0} is gone")]
    Gone(String),
    /// This process may not; what is missing.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// What is there is not what was read before: nothing was done.
    #[error("it changed meanwhile: {0}")]
    Changed(String),
    /// The kernel refuses, or says something that is not understood.
    #[error("{0}")]
    Failed(String),
    /// Not done in time: whether it was is not known, and must be read.
    #[error("it took longer than {0:?}")]
    TimedOut(std::time::Duration),
}

/// What came of taking a change back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// What was there before is there again.
    Done,
    /// It was there already.
    NotNeeded,
    /// What is there is not what we wrote: it was left alone.
    LeftAlone(Image),
}

#[cfg(test)]
mod tests;
