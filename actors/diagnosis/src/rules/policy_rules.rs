//! Policy routing: which rule of a node sends a packet to another table than the usual ones.

use std::net::IpAddr;

use nameward_kernel::facts::{FibQuery, FibResult, PolicyRule, RouteKind, Topology};

use super::links::same_network;

/// RT_TABLE_DEFAULT, RT_TABLE_MAIN and RT_TABLE_LOCAL (linux/rtnetlink.h).
const USUAL: [u32; 3] = [253, 254, 255];

/// The rule that decided about a lookup, if it is none of those that every namespace has. Rules that match on what a lookup does
/// not name (a port, a user) are not read as such, so that a rule is named only if it fits what the kernel said.
pub(crate) fn decided<'a>(topology: &'a Topology, query: &FibQuery, result: &FibResult) -> Option<&'a PolicyRule> {
    let rules = topology.rules.value()?;
    let mut fitting: Vec<&PolicyRule> = rules.iter().filter(|rule| fits(rule, query)).collect();
    fitting.sort_by_key(|rule| rule.priority);
    let usual = |rule: &PolicyRule| rule.kind == RouteKind::Unicast && USUAL.contains(&rule.table);
    match result {
        FibResult::Route { table, .. } if USUAL.contains(table) => None,
        FibResult::Route { table, .. } => fitting.into_iter().find(|rule| rule.table == *table),
        // A rule that leads nowhere, or the first one that asks a table of its own: that has the route that leads nowhere.
        FibResult::Nowhere { kind } => {
            let own = fitting.iter().copied().find(|rule| rule.kind == *kind);
            let asks =
                || fitting.iter().copied().find(|rule| !usual(rule) && holds(topology, rule.table, *kind, query));
            own.or_else(asks)
        }
        FibResult::NoRoute => None,
    }
}

/// Whether a table has a route of this kind to where the query goes.
fn holds(topology: &Topology, table: u32, kind: RouteKind, query: &FibQuery) -> bool {
    topology.routes.iter().any(|route| {
        let covers = |(net, prefix): (IpAddr, u8)| same_network(net, query.destination, prefix);
        route.table == table
            && route.kind == kind
            && route.v4 == query.destination.is_ipv4()
            && route.destination.is_none_or(covers)
    })
}

fn fits(rule: &PolicyRule, query: &FibQuery) -> bool {
    let within = |net: Option<(IpAddr, u8)>, ip: Option<IpAddr>| match (net, ip) {
        (None, _) => true,
        (Some((net, prefix)), Some(ip)) => net.is_ipv4() == ip.is_ipv4() && same_network(net, ip, prefix),
        (Some(_), None) => false,
    };
    let mark = query.mark.unwrap_or_default();
    rule.v4 == query.destination.is_ipv4()
        && within(rule.source, query.source)
        && within(rule.destination, Some(query.destination))
        && rule.iif.as_ref().is_none_or(|iif| Some(iif) == query.iif.as_ref())
        && rule.mark.is_none_or(|(value, mask)| mark & mask == value)
}

/// As `ip rule` prints it, nearly.
pub(crate) fn text(rule: &PolicyRule) -> String {
    let mut text = format!("ip rule {}:", rule.priority);
    let net = |(ip, prefix): &(IpAddr, u8)| format!("{ip}/{prefix}");
    text.push_str(&format!(" from {}", rule.source.as_ref().map_or_else(|| "all".to_owned(), net)));
    if let Some(to) = &rule.destination {
        text.push_str(&format!(" to {}", net(to)));
    }
    if let Some((value, mask)) = rule.mark {
        text.push_str(&format!(" fwmark {value:#x}/{mask:#x}"));
    }
    if let Some(iif) = &rule.iif {
        text.push_str(&format!(" iif {iif}"));
    }
    match rule.kind {
        RouteKind::Unicast => text.push_str(&format!(" lookup {}", rule.table)),
        other => text.push_str(&format!(" {other:?}").to_lowercase()),
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use nameward_kernel::facts::Reading;

    use super::*;
    use crate::testing::ip;

    fn rule(priority: u32, table: u32) -> PolicyRule {
        PolicyRule {
            v4: true,
            priority,
            source: None,
            destination: None,
            iif: None,
            mark: None,
            table,
            kind: RouteKind::Unicast,
        }
    }

    fn route(table: u32) -> FibResult {
        FibResult::Route { kind: RouteKind::Unicast, matched: None, gateway: None, out_link: Some(2), table }
    }

    #[test]
    fn the_rule_that_fits_what_the_kernel_said_is_named() {
        let to_pods =
            PolicyRule { iif: Some("cni0".to_owned()), destination: Some((ip("10.244.2.0"), 24)), ..rule(100, 77) };
        let others = PolicyRule { source: Some((ip("192.168.0.0"), 16)), ..rule(90, 77) };
        let nowhere = PolicyRule { kind: RouteKind::Blackhole, mark: Some((0x10, 0x10)), ..rule(80, 0) };
        let rules = vec![rule(0, 255), nowhere.clone(), others, to_pods.clone(), rule(32_766, 254), rule(32_767, 253)];
        let topology = Topology { rules: Reading::Read(rules), ..Topology::default() };
        let host = FibQuery::to(ip("10.244.2.21"));
        let pod = FibQuery { source: Some(ip("10.244.1.5")), iif: Some("cni0".to_owned()), ..host.clone() };
        let marked = FibQuery { mark: Some(0x10), ..host.clone() };
        let black = FibResult::Nowhere { kind: RouteKind::Blackhole };
        assert_eq!(decided(&topology, &pod, &route(77)), Some(&to_pods));
        assert_eq!(decided(&topology, &pod, &route(254)), None);
        assert_eq!(decided(&topology, &host, &route(77)), None);
        assert_eq!(decided(&topology, &marked, &black), Some(&nowhere));
        assert_eq!(decided(&topology, &host, &black), None);
        assert_eq!(text(&to_pods), "ip rule 100: from all to 10.244.2.0/24 iif cni0 lookup 77");
        assert_eq!(text(&nowhere), "ip rule 80: from all fwmark 0x10/0x10 blackhole");
    }
}
