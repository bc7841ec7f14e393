//! Policy rules, FIB lookups and bridge tables.

use std::net::IpAddr;

use futures::StreamExt as _;
use netlink_packet_core::ErrorMessage;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::IpVersion;

use super::{DumpError, gather, mac_text, reading, route};
use crate::facts::{FdbEntry, FibQuery, FibResult, Link, Lookup, PolicyRule, Reading, RouteKind};

/// Most lookups of one reading; what is beyond is not asked.
pub const MAX_LOOKUPS: usize = 64;

/// Rules of policy routing of both families.
pub(super) async fn rules(handle: &rtnetlink::Handle) -> Reading<Vec<PolicyRule>> {
    let mut all = match gather(handle.rule().get(IpVersion::V4).execute(), rule).await {
        Ok(rules) => rules,
        Err(error) => return absent(error, "the kernel has no policy routing"),
    };
    // A kernel without IPv6 has no rules of it.
    if let Ok(six) = gather(handle.rule().get(IpVersion::V6).execute(), rule).await {
        all.extend(six);
    }
    Reading::Read(all)
}

/// Forwarding tables of every bridge of the namespace.
pub(super) async fn fdb(handle: &rtnetlink::Handle) -> Reading<Vec<FdbEntry>> {
    match gather(handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute(), entry).await {
        Ok(entries) => Reading::Read(entries),
        Err(error) => absent(error, "the kernel has no bridges"),
    }
}

fn absent<T>(error: DumpError, what: &str) -> Reading<T> {
    match &error {
        DumpError::Netlink(rtnetlink::Error::NetlinkError(e)) if errno(e) == Some(libc::EOPNOTSUPP) => {
            Reading::NotPresent(what.to_owned())
        }
        _ => reading(error),
    }
}

fn errno(error: &ErrorMessage) -> Option<i32> {
    error.code.map(|code| code.get().saturating_neg())
}

/// Asks the kernel which way each would take.
pub(super) async fn lookups(handle: &rtnetlink::Handle, queries: &[FibQuery], links: &[Link]) -> Vec<Lookup> {
    let mut all = Vec::new();
    for query in queries.iter().take(MAX_LOOKUPS) {
        all.push(Lookup { query: query.clone(), result: lookup(handle, query, links).await });
    }
    all
}

async fn lookup(handle: &rtnetlink::Handle, query: &FibQuery, links: &[Link]) -> Reading<FibResult> {
    let mut message = RouteMessage::default();
    let v4 = query.destination.is_ipv4();
    message.header.address_family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = if v4 { 32 } else { 128 };
    // The entry that matched, not the route that follows from it; and the table that it is in.
    message.header.flags = RouteFlags::FibMatch | RouteFlags::LookupTable;
    message.attributes.push(RouteAttribute::Destination(address(query.destination)));
    if let Some(source) = query.source {
        message.header.source_prefix_length = message.header.destination_prefix_length;
        message.attributes.push(RouteAttribute::Source(address(source)));
    }
    if let Some(name) = &query.iif {
        let Some(link) = links.iter().find(|l| l.name == *name) else {
            return Reading::NotPresent(format!("there is no link {name}"));
        };
        message.attributes.push(RouteAttribute::Iif(link.index));
    }
    message.attributes.extend(query.mark.map(RouteAttribute::Mark));
    let mut answers = std::pin::pin!(handle.route().get(message).execute());
    match answers.next().await {
        Some(Ok(message)) => match route(message) {
            Some(found) => Reading::Read(FibResult::Route {
                kind: found.kind,
                matched: found.destination,
                gateway: found.gateway,
                out_link: found.out_link,
                table: found.table,
            }),
            None => Reading::Failed("the kernel answered with another family".to_owned()),
        },
        Some(Err(rtnetlink::Error::NetlinkError(error))) => match errno(&error) {
            Some(libc::ENETUNREACH) => Reading::Read(FibResult::NoRoute),
            Some(libc::EINVAL) => Reading::Read(FibResult::Nowhere { kind: RouteKind::Blackhole }),
            Some(libc::EHOSTUNREACH) => Reading::Read(FibResult::Nowhere { kind: RouteKind::Unreachable }),
            Some(libc::EACCES) => Reading::Read(FibResult::Nowhere { kind: RouteKind::Prohibit }),
            _ => reading(DumpError::Netlink(rtnetlink::Error::NetlinkError(error))),
        },
        Some(Err(error)) => reading(DumpError::Netlink(error)),
        None => Reading::Failed("the kernel gave no answer to a lookup".to_owned()),
    }
}

fn address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

fn rule(message: RuleMessage) -> Option<PolicyRule> {
    let header = &message.header;
    let v4 = match header.family {
        AddressFamily::Inet => true,
        AddressFamily::Inet6 => false,
        _ => return None,
    };
    let mut rule = PolicyRule {
        v4,
        priority: 0,
        source: None,
        destination: None,
        iif: None,
        mark: None,
        table: u32::from(header.table),
        kind: match header.action {
            RuleAction::ToTable => RouteKind::Unicast,
            RuleAction::Blackhole => RouteKind::Blackhole,
            RuleAction::Unreachable => RouteKind::Unreachable,
            RuleAction::Prohibit => RouteKind::Prohibit,
            _ => RouteKind::Other,
        },
    };
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(ip) => rule.source = Some((*ip, header.src_len)),
            RuleAttribute::Destination(ip) => rule.destination = Some((*ip, header.dst_len)),
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Table(table) => rule.table = *table,
            _ => {}
        }
    }
    // The mask stands there without a mark as well.
    rule.mark = mark.filter(|m| *m != 0).map(|m| (m, mask));
    Some(rule)
}

fn entry(message: NeighbourMessage) -> Option<FdbEntry> {
    // Entries of a link's own filter, which say nothing of a bridge.
    if message.header.flags.contains(NeighbourFlags::Own) {
        return None;
    }
    let (mut mac, mut bridge, mut vlan) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Some(bytes),
            NeighbourAttribute::Controller(index) => bridge = Some(index),
            NeighbourAttribute::Vlan(id) => vlan = Some(id),
            _ => {}
        }
    }
    let mac = mac.filter(|m| m.first().is_some_and(|first| first & 1 == 0))?;
    Some(FdbEntry {
        mac: mac_text(&mac),
        port: message.header.ifindex,
        bridge: bridge?,
        vlan,
        permanent: u16::from(message.header.state) & libc::NUD_PERMANENT != 0,
    })
}

/// Links and addresses alone.
pub(super) async fn identity(handle: &rtnetlink::Handle) -> Result<crate::facts::Identity, DumpError> {
    let links = gather(handle.link().get().execute(), |m| Some(super::link(m))).await?;
    let addresses = gather(handle.address().get().execute(), super::address).await?;
    let loopback: Vec<u32> = links.iter().filter(|l| l.name == "lo").map(|l| l.index).collect();
    Ok(crate::facts::Identity {
        links: links.into_iter().filter(|l| l.name != "lo").collect(),
        addresses: addresses
            .into_iter()
            .filter(|a| !loopback.contains(&a.link) && !a.ip.is_loopback())
            .map(|a| (a.ip, a.prefix))
            .collect(),
    })
}
