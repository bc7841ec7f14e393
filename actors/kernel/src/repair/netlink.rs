//! What a change looks like in rtnetlink messages.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt as _;
use netlink_packet_core::ErrorMessage;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoBridgePort, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkBridgePort, LinkUnspec, RouteMessageBuilder};

use super::{DefaultVia, Image, LinkId, NeighbourImage, RepairError};
use crate::rtnl::mac_text;

/// Most entries of a dump that are looked through.
const MOST: usize = 200_000;

pub(super) fn failed(error: &rtnetlink::Error) -> RepairError {
    match error {
        rtnetlink::Error::NetlinkError(ErrorMessage { code: Some(code), .. }) => {
            let code = code.get().saturating_neg();
            let text = format!("rtnetlink: {}", std::io::Error::from_raw_os_error(code));
            match code {
                libc::EPERM | libc::EACCES => RepairError::NotPermitted(text),
                libc::ENODEV => RepairError::Gone("the link".to_owned()),
                _ => RepairError::Failed(text),
            }
        }
        other => RepairError::Failed(format!("rtnetlink: {other}")),
    }
}

/// The link of this index, if it has this name still.
pub(super) async fn link(handle: &Handle, id: &LinkId) -> Result<LinkMessage, RepairError> {
    let mut found = std::pin::pin!(handle.link().get().match_index(id.index).execute());
    let message = found.try_next().await.map_err(|e| failed(&e))?;
    let named =
        |m: &LinkMessage| m.attributes.iter().any(|a| matches!(a, LinkAttribute::IfName(name) if *name == id.name));
    message.filter(named).ok_or_else(|| RepairError::Gone(format!("link {}", id.name)))
}

pub(super) fn up(message: &LinkMessage) -> Image {
    Image::Up(message.header.flags.contains(LinkFlags::Up))
}

pub(super) fn bridge(message: &LinkMessage) -> Image {
    let master = message.attributes.iter().find_map(|a| match a {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    Image::Bridge(master.filter(|index| *index != 0))
}

pub(super) fn hairpin(message: &LinkMessage) -> Image {
    let infos = message.attributes.iter().filter_map(|a| match a {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let ports = infos.flatten().filter_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(port)) => Some(port),
        _ => None,
    });
    let mode = ports.flatten().find_map(|port| match port {
        InfoBridgePort::HairpinMode(on) => Some(*on),
        _ => None,
    });
    Image::Hairpin(mode)
}

/// The IPv4 default routes of the main table.
pub(super) async fn routes(handle: &Handle) -> Result<Image, RepairError> {
    let mut query = RouteMessage::default();
    query.header.address_family = AddressFamily::Inet;
    let mut dump = std::pin::pin!(handle.route().get(query).execute());
    let (mut all, mut seen, mut special) = (Vec::new(), 0, false);
    while let Some(message) = dump.try_next().await.map_err(|e| failed(&e))? {
        seen += 1;
        if seen > MOST {
            return Err(RepairError::Failed(format!("more than {MOST} routes")));
        }
        let header = &message.header;
        let main = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
        if !main || header.destination_prefix_length != 0 || header.address_family != AddressFamily::Inet {
            continue;
        }
        let mut route = DefaultVia { gateway: None, link: None, metric: 0, protocol: header.protocol.into() };
        special |= header.tos != 0 || header.flags.contains(RouteFlags::Onlink);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(via)) => route.gateway = Some(*via),
                RouteAttribute::Oif(index) => route.link = Some(*index),
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Metrics(_)
                | RouteAttribute::MultiPath(_)
                | RouteAttribute::PrefSource(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::EncapType(_)
                | RouteAttribute::Encap(_)
                | RouteAttribute::Realm(_)
                | RouteAttribute::NhId(_) => special = true,
                _ => {}
            }
        }
        all.push(route);
    }
    // What an image cannot hold would be lost with the change, and not come back with its undo.
    if special {
        let why = "a default route has settings of its own (source, MTU, on-link, several ways), which would be lost";
        return Err(RepairError::Failed(why.to_owned()));
    }
    Ok(Image::Routes(all))
}

fn route(via: DefaultVia) -> RouteMessage {
    let builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .table_id(u32::from(RouteHeader::RT_TABLE_MAIN))
        .protocol(RouteProtocol::from(via.protocol))
        .scope(if via.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link });
    let builder = via.gateway.into_iter().fold(builder, |b, gateway| b.gateway(gateway));
    let builder = via.link.into_iter().fold(builder, |b, link| b.output_interface(link));
    if via.metric == 0 { builder.build() } else { builder.priority(via.metric).build() }
}

/// From one default route to another, with the same metric; or from none, or to none.
pub(super) async fn set_route(handle: &Handle, from: &Image, to: &Image) -> Result<(), RepairError> {
    let (Image::Routes(from), Image::Routes(to)) = (from, to) else { return Err(mixed()) };
    let done = match (from.as_slice(), to.as_slice()) {
        ([], [new]) => handle.route().add(route(*new)).execute().await,
        ([_], [new]) => handle.route().add(route(*new)).replace().execute().await,
        ([old], []) => handle.route().del(route(*old)).execute().await,
        _ => return Err(mixed()),
    };
    done.map_err(|e| failed(&e))
}

pub(super) async fn set_up(handle: &Handle, link: &LinkId, up: bool) -> Result<(), RepairError> {
    let message = LinkUnspec::new_with_index(link.index);
    let message = if up { message.up() } else { message.down() };
    handle.link().change(message.build()).execute().await.map_err(|e| failed(&e))
}

pub(super) async fn set_bridge(handle: &Handle, link: &LinkId, bridge: Option<u32>) -> Result<(), RepairError> {
    let message = LinkUnspec::new_with_index(link.index);
    let message = match bridge {
        Some(index) => message.controller(index),
        None => message.nocontroller(),
    };
    handle.link().change(message.build()).execute().await.map_err(|e| failed(&e))
}

pub(super) async fn set_hairpin(handle: &Handle, link: &LinkId, on: bool) -> Result<(), RepairError> {
    let message = LinkBridgePort::new(link.index).append_info_data(InfoBridgePort::HairpinMode(on));
    handle.link().change(message.build()).execute().await.map_err(|e| failed(&e))
}

/// The link's addresses, without those that the kernel gives by itself.
pub(super) async fn addresses(handle: &Handle, link: &LinkId) -> Result<Image, RepairError> {
    use netlink_packet_route::address::AddressAttribute;
    let mut dump = std::pin::pin!(handle.address().get().set_link_index_filter(link.index).execute());
    let mut all = Vec::new();
    while let Some(message) = dump.try_next().await.map_err(|e| failed(&e))? {
        if message.header.index != link.index || all.len() >= MOST {
            continue;
        }
        let prefix = message.header.prefix_len;
        let (mut own, mut other) = (None, None);
        for attribute in message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => own = Some(ip),
                AddressAttribute::Address(ip) => other = Some(ip),
                _ => {}
            }
        }
        let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        all.extend(own.or(other).filter(|ip| !link_local(ip)).map(|ip| (ip, prefix)));
    }
    all.sort_unstable();
    Ok(Image::Addresses(all))
}

pub(super) async fn set_address(
    handle: &Handle,
    link: &LinkId,
    (ip, prefix): (Ipv4Addr, u8),
    there: bool,
) -> Result<(), RepairError> {
    let request = handle.address().add(link.index, ip.into(), prefix);
    if there {
        return request.execute().await.map_err(|e| failed(&e));
    }
    let mut request = request;
    let message = request.message_mut().clone();
    handle.address().del(message).execute().await.map_err(|e| failed(&e))
}

/// NUD_PERMANENT, and the states in which nobody has answered.
const PERMANENT: u16 = 0x80;
const UNRESOLVED: u16 = 0x01 | 0x20;

pub(super) async fn neighbour(handle: &Handle, link: &LinkId, ip: IpAddr) -> Result<Image, RepairError> {
    let mut dump = std::pin::pin!(handle.neighbours().get().execute());
    let mut seen = 0;
    let mut found = None;
    // The dump is read to its end: what is left of it would be taken for the next answer.
    while let Some(message) = dump.try_next().await.map_err(|e| failed(&e))? {
        seen += 1;
        if seen > MOST {
            return Err(RepairError::Failed(format!("more than {MOST} neighbours")));
        }
        let to = message.attributes.iter().find_map(|a| match a {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
            _ => None,
        });
        let state = u16::from(message.header.state);
        if message.header.ifindex != link.index || to != Some(ip) || state & UNRESOLVED != 0 {
            continue;
        }
        found = message.attributes.iter().find_map(|a| match a {
            NeighbourAttribute::LinkLayerAddress(mac) => {
                Some(NeighbourImage { mac: mac_text(mac), permanent: state & PERMANENT != 0 })
            }
            _ => None,
        });
    }
    Ok(Image::Neighbour(found))
}

pub(super) async fn drop_neighbour(handle: &Handle, link: &LinkId, ip: IpAddr) -> Result<(), RepairError> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = link.index;
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes.push(NeighbourAttribute::Destination(match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }));
    handle.neighbours().del(message).execute().await.map_err(|e| failed(&e))
}

pub(super) async fn set_neighbour(
    handle: &Handle,
    link: &LinkId,
    ip: IpAddr,
    entry: &NeighbourImage,
) -> Result<(), RepairError> {
    let mac: Option<Vec<u8>> = entry.mac.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let mac = mac.ok_or_else(|| RepairError::Failed(format!("{} is no link-layer address", entry.mac)))?;
    let state = if entry.permanent { NeighbourState::Permanent } else { NeighbourState::Stale };
    let request = handle.neighbours().add(link.index, ip).link_layer_address(&mac).state(state);
    request.execute().await.map_err(|e| failed(&e))
}

pub(super) fn mixed() -> RepairError {
    RepairError::Failed("what was recorded does not belong to this change".to_owned())
}
