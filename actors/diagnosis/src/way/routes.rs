//! Which route a packet takes: by the kernel's own word where it was asked, which follows policy rules, else by the longest prefix of the
//! tables local and main.

use std::net::IpAddr;

use nameward_kernel::facts::{FibQuery, FibResult, Lookup, Route, RouteKind, Topology};

use super::{Hop, Passes, Step};
use crate::rules::policy_rules;

const MAIN: u32 = 254;
const LOCAL: u32 = 255;
/// NUD_FAILED (linux/neighbour.h).
const FAILED: u16 = 0x20;

/// The step of routing to an address: by the kernel's own word where it was asked, else by its tables.
pub(super) fn step(topology: &Topology, to: IpAddr, at: &str) -> Step {
    match topology.lookup(to) {
        Some(FibResult::NoRoute) => {
            return Step::new(Hop::Route, at, Passes::No, format!("no route to {to}: sending fails at once"));
        }
        Some(FibResult::Nowhere { kind }) => {
            return Step::new(Hop::Route, at, Passes::No, format!("{to} meets a {kind:?} route").to_lowercase());
        }
        Some(FibResult::Route { .. }) | None => {}
    }
    let other = |l: &&Lookup| l.query == FibQuery::to(to);
    if let Some((query, found)) = topology.lookups.iter().find(other).and_then(|l| Some((&l.query, l.result.value()?)))
        && let Some(rule) = policy_rules::decided(topology, query, found)
        && let FibResult::Route { gateway, out_link, .. } = found
    {
        let link = out_link.and_then(|index| topology.link_at(index)).map_or("?", |link| link.name.as_str());
        let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
        let says = format!("{to} by {}{via} dev {link}", policy_rules::text(rule));
        return Step::new(Hop::Route, at, Passes::Yes, says);
    }
    let Some(route) = find(topology, to) else {
        return Step::new(Hop::Route, at, Passes::No, format!("no route to {to}: sending fails at once"));
    };
    let by = route.destination.map_or_else(|| "the default route".to_owned(), |(net, bits)| format!("{net}/{bits}"));
    match route.kind {
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
            return Step::new(Hop::Route, at, Passes::No, format!("{by} is a {:?} route", route.kind).to_lowercase());
        }
        RouteKind::Local => return Step::new(Hop::Route, at, Passes::Yes, format!("{to} is an own address")),
        RouteKind::Unicast | RouteKind::Other => {}
    }
    let link = route.out_link.and_then(|index| topology.link_at(index));
    let dev = link.map_or_else(String::new, |link| format!(" dev {}", link.name));
    if let Some(link) = link.filter(|link| !link.up) {
        return Step::new(Hop::Route, at, Passes::No, format!("{to} by {by}{dev}, and {} is down", link.name));
    }
    let next = route.gateway.unwrap_or(to);
    let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
    let entry = topology.neighbours.iter().find(|n| n.ip == next && Some(n.link) == route.out_link);
    let (passes, beside) = match entry {
        Some(entry) if entry.state & FAILED != 0 => (Passes::No, format!("; {next} does not answer ARP (FAILED)")),
        Some(entry) => {
            (Passes::Yes, entry.mac.as_ref().map_or_else(String::new, |mac| format!("; {next} is at {mac}")))
        }
        None => (Passes::Yes, String::new()),
    };
    Step::new(Hop::Route, at, passes, format!("{to} by {by}{via}{dev}{beside}"))
}

/// The route with the longest prefix; an own address before others.
pub(super) fn find(topology: &Topology, to: IpAddr) -> Option<&Route> {
    let fits = |route: &&Route| {
        route.v4 == to.is_ipv4()
            && matches!(route.table, MAIN | LOCAL)
            && route.destination.is_none_or(|(net, bits)| within(to, net, bits))
    };
    let rank = |route: &&Route| (route.table == LOCAL, route.destination.map_or(0, |(_, bits)| bits + 1));
    topology.routes.iter().filter(fits).max_by_key(rank)
}

fn within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let shifted = |value: u128, width: u32| value.checked_shr(width.saturating_sub(u32::from(bits))).unwrap_or(0);
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => shifted(u32::from(ip).into(), 32) == shifted(u32::from(net).into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(net)) => shifted(ip.into(), 128) == shifted(net.into(), 128),
        _ => false,
    }
}
