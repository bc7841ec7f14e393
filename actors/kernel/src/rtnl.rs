//! Links, addresses, routes and neighbours of a namespace, by rtnetlink.
//!
//! The socket is opened inside the namespace and keeps it; everything else happens on the runtime's workers.

use std::net::IpAddr;
use std::time::Duration;

use futures::{Stream, TryStreamExt as _};
use netlink_packet_core::ErrorMessage;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use crate::collect::unreadable;
use crate::enter::{EnterPool, Netns};
use crate::facts::{
    Address, BridgePort, Bypass, FibQuery, Identity, Link, Neighbour, Reading, Route, RouteKind, Topology,
};

mod bypass;
mod fib;
pub use fib::MAX_LOOKUPS;

/// Most links, addresses, routes or neighbours of one namespace; beyond that the reading fails.
pub const MAX_ITEMS: usize = 200_000;

/// Reads a namespace's topology. It takes at most `within`.
pub async fn topology(pool: &EnterPool, namespace: &Netns, within: Duration) -> Reading<Topology> {
    survey(pool, namespace, &[], within).await
}

/// As [`topology`], and asks the kernel which way each of `queries` would take; of those at most [`MAX_LOOKUPS`].
pub async fn survey(pool: &EnterPool, namespace: &Netns, queries: &[FibQuery], within: Duration) -> Reading<Topology> {
    connected(pool, namespace, within, async |handle| dump(handle, queries).await).await
}

/// Link-layer and network addresses alone: cheap enough for every pod of a node.
pub async fn identity(pool: &EnterPool, namespace: &Netns, within: Duration) -> Reading<Identity> {
    connected(pool, namespace, within, async |handle| fib::identity(handle).await).await
}

/// XDP programs and classifiers on links.
pub async fn programs(pool: &EnterPool, namespace: &Netns, within: Duration) -> Reading<Bypass> {
    connected(pool, namespace, within, async |handle| bypass::programs(handle).await).await
}

async fn connected<T>(
    pool: &EnterPool,
    namespace: &Netns,
    within: Duration,
    work: impl AsyncFnOnce(&rtnetlink::Handle) -> Result<T, DumpError>,
) -> Reading<T> {
    let read = async {
        let runtime = tokio::runtime::Handle::current();
        let opened = pool
            .run(namespace, move || {
                // The socket is registered with the workers' reactor although this thread is none of them.
                let _reactor = runtime.enter();
                rtnetlink::new_connection()
            })
            .await;
        let (connection, handle, _messages) = match opened {
            Ok(Ok(parts)) => parts,
            Ok(Err(error)) => return Reading::Failed(format!("cannot open a netlink socket: {error}")),
            Err(error) => return unreadable(&error),
        };
        let driver = Driver(tokio::spawn(connection));
        let result = work(&handle).await.map_or_else(reading, Reading::Read);
        drop(driver);
        result
    };
    tokio::time::timeout(within, read)
        .await
        .unwrap_or_else(|_| Reading::Failed(format!("rtnetlink did not answer within {within:?}")))
}

fn reading<T>(error: DumpError) -> Reading<T> {
    match error {
        DumpError::TooMany => Reading::Failed(format!("more than {MAX_ITEMS} entries")),
        DumpError::Netlink(error) => refused(&error),
    }
}

/// The connection's task; it ends with the reading, whichever way that ends.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum DumpError {
    TooMany,
    Netlink(rtnetlink::Error),
}

impl From<rtnetlink::Error> for DumpError {
    fn from(error: rtnetlink::Error) -> Self {
        Self::Netlink(error)
    }
}

fn refused<T>(error: &rtnetlink::Error) -> Reading<T> {
    match error {
        rtnetlink::Error::NetlinkError(ErrorMessage { code: Some(code), .. })
            if [libc::EPERM, libc::EACCES].contains(&code.get().saturating_neg()) =>
        {
            Reading::NotPermitted("rtnetlink: operation not permitted".to_owned())
        }
        other => Reading::Failed(format!("rtnetlink: {other}")),
    }
}

async fn dump(handle: &rtnetlink::Handle, queries: &[FibQuery]) -> Result<Topology, DumpError> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        routes.extend(gather(handle.route().get(message).execute(), route).await?);
    }
    let links = gather(handle.link().get().execute(), |m| Some(link(m))).await?;
    Ok(Topology {
        lookups: fib::lookups(handle, queries, &links).await,
        rules: fib::rules(handle).await,
        fdb: if links.iter().any(|l| l.kind.as_deref() == Some("bridge")) {
            fib::fdb(handle).await
        } else {
            Reading::NotPresent("no bridge is there".to_owned())
        },
        links,
        addresses: gather(handle.address().get().execute(), address).await?,
        routes,
        neighbours: gather(handle.neighbours().get().execute(), neighbour).await?,
    })
}

async fn gather<M, T>(
    stream: impl Stream<Item = Result<M, rtnetlink::Error>>,
    reduce: impl Fn(M) -> Option<T>,
) -> Result<Vec<T>, DumpError> {
    let mut stream = std::pin::pin!(stream);
    let mut all = Vec::new();
    while let Some(message) = stream.try_next().await? {
        if all.len() >= MAX_ITEMS {
            return Err(DumpError::TooMany);
        }
        all.extend(reduce(message));
    }
    Ok(all)
}

fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::Address(mac) => link.mac = mac_text(&mac),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Bridge(data)) => link.vlan_filtering = vlan_filtering(&data),
                        LinkInfo::PortData(InfoPortData::BridgePort(port)) => link.port = Some(bridge_port(&port)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn vlan_filtering(attributes: &[InfoBridge]) -> Option<bool> {
    attributes.iter().find_map(|a| if let InfoBridge::VlanFiltering(on) = a { Some(*on) } else { None })
}

fn bridge_port(attributes: &[InfoBridgePort]) -> BridgePort {
    let mut port = BridgePort::default();
    for attribute in attributes {
        match attribute {
            InfoBridgePort::State(state) => port.state = u8::from(*state),
            InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
            InfoBridgePort::Isolated(on) => port.isolated = *on,
            _ => {}
        }
    }
    port
}

fn address(message: AddressMessage) -> Option<Address> {
    let (mut own, mut other) = (None, None);
    for attribute in message.attributes {
        match attribute {
            // On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL, where given, is ours.
            AddressAttribute::Local(ip) => own = Some(ip),
            AddressAttribute::Address(ip) => other = Some(ip),
            _ => {}
        }
    }
    Some(Address { link: message.header.index, ip: own.or(other)?, prefix: message.header.prefix_len })
}

fn route(message: RouteMessage) -> Option<Route> {
    let header = &message.header;
    let v4 = match header.address_family {
        AddressFamily::Inet => true,
        AddressFamily::Inet6 => false,
        _ => return None,
    };
    let mut route = Route {
        v4,
        table: u32::from(header.table),
        destination: None,
        gateway: None,
        out_link: None,
        kind: match header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            RouteType::BlackHole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::Prohibit => RouteKind::Prohibit,
            _ => RouteKind::Other,
        },
    };
    let prefix = header.destination_prefix_length;
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Destination(to) if prefix > 0 => route.destination = ip(&to).map(|to| (to, prefix)),
            RouteAttribute::Gateway(via) => route.gateway = ip(&via),
            RouteAttribute::Oif(index) => route.out_link = Some(index),
            RouteAttribute::MultiPath(hops) => {
                // Several ways: the first stands for them, so that the route does not look like one that leads nowhere.
                if let Some(hop) = hops.first() {
                    route.out_link = Some(hop.interface_index);
                    route.gateway = hop.attributes.iter().find_map(|a| match a {
                        RouteAttribute::Gateway(via) => ip(via),
                        _ => None,
                    });
                }
            }
            _ => {}
        }
    }
    if prefix > 0 && route.destination.is_none() {
        // The kernel leaves out an all-zero destination (`::/1`); it is not the default route.
        let zero: IpAddr = if v4 { [0; 4].into() } else { [0; 16].into() };
        route.destination = Some((zero, prefix));
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn neighbour(message: NeighbourMessage) -> Option<Neighbour> {
    let (mut to, mut mac) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => to = Some(IpAddr::from(ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => to = Some(IpAddr::from(ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Some(mac_text(&bytes)),
            _ => {}
        }
    }
    Some(Neighbour { link: message.header.ifindex, ip: to?, mac, state: u16::from(message.header.state) })
}

pub(crate) fn mac_text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}
