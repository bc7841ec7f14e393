//! F30: a strict reverse path filter drops what comes in by another way than it would leave.

use nameward_kernel::facts::{Link, Sysctls};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, View, confidence, not};
use crate::record::Sample;
use crate::rules::arrival::{lost, rose};

/// `IPReversePathFilter` of `Documentation/networking/snmp_counter.rst`: dropped by the reverse path filter.
const DROPPED: &str = "TcpExt.IPReversePathFilter";

/// `reverse-path-filter`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(lost) = lost(view) else { return RuleResult::NotApplicable };
    // It looks at addresses, not at ports or protocols.
    if ![Transport::Udp, Transport::Tcp].iter().all(|t| lost.transports.contains(t)) {
        return RuleResult::NotApplicable;
    }
    let Some(current) = record.current.as_deref() else {
        return RuleResult::Waiting("the node's counters are being read".to_owned());
    };
    let strict = strict_uplinks(current);
    if current.host.sysctls.value().is_some() && current.host.topology.value().is_some() {
        if strict.is_empty() {
            return RuleResult::RuledOut("rp_filter is strict (1) on no link that leads to other nodes".to_owned());
        }
        if uplinks(current).len() < 2 {
            return RuleResult::RuledOut("one link leads out: what comes in by it leaves by it".to_owned());
        }
    }
    let held = record.held(|sample| {
        sample.host.sysctls.value()?;
        sample.host.topology.value()?;
        Some(!strict_uplinks(sample).is_empty())
    });
    let moved = lost.moved(record, |before, after| {
        let by = rose(before.host.counters.value(), after.host.counters.value(), DROPPED)?;
        Some(by >= 2)
    });
    let sure = match confidence(record, held.min(moved), false, "the counter of the reverse path filter does not move")
    {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let by = lost
        .since(record)
        .and_then(|before| rose(before.host.counters.value(), current.host.counters.value(), DROPPED));
    let by = by.unwrap_or_default();
    let mut evidence = vec![
        Evidence::new(
            format!("{} /proc/net/netstat", record.node),
            format!("{DROPPED} rose by {by} while probes were lost"),
        ),
        Evidence::new(format!("{} sysctl", record.node), settings(current, &strict)),
    ];
    evidence.extend(routes(current).map(|says| Evidence::new(format!("{} rtnetlink routes", record.node), says)));
    evidence.extend(lost.seen.iter().take(3).cloned());
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ReversePathFilter,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::PacketFilterDrop, "the packets are dropped in routing, before any filter rule of FORWARD"),
            not(Cause::NodePairBlocked, "the packets arrive: this node counts them as it drops them"),
        ],
        explains: lost.explains,
    }])
}

/// Links that lead to other nodes.
fn uplinks(sample: &Sample) -> Vec<&Link> {
    sample.host.topology.value().map(|topology| topology.uplinks().collect()).unwrap_or_default()
}

/// Those on which the filter is strict: the greater of `all` and of the link's own setting counts
/// (`Documentation/networking/ip-sysctl.rst`), and 1 is strict while 2 is loose.
fn strict_uplinks(sample: &Sample) -> Vec<String> {
    let Some(sysctls) = sample.host.sysctls.value() else { return Vec::new() };
    let strict = |link: &&Link| setting(sysctls, &link.name) == 1;
    uplinks(sample).into_iter().filter(strict).map(|link| link.name.clone()).collect()
}

fn setting(sysctls: &Sysctls, link: &str) -> i64 {
    let own = sysctls.rp_filter.get(link).copied().unwrap_or_default();
    sysctls.rp_filter_all.unwrap_or_default().max(own)
}

fn settings(sample: &Sample, strict: &[String]) -> String {
    let Some(sysctls) = sample.host.sysctls.value() else { return "rp_filter was not read".to_owned() };
    let all = sysctls.rp_filter_all.map_or_else(|| "not read".to_owned(), |n| n.to_string());
    let own = strict.iter().take(4).map(|link| {
        let value = sysctls.rp_filter.get(link).map_or_else(|| "not read".to_owned(), i64::to_string);
        format!("{link}.rp_filter={value}")
    });
    format!("net.ipv4.conf.all.rp_filter={all}, {}: strict", own.collect::<Vec<_>>().join(", "))
}

/// The routes of the uplinks that are not the first: what comes from there must come in by them.
fn routes(sample: &Sample) -> impl Iterator<Item = String> {
    let links = uplinks(sample);
    let topology = sample.host.topology.value();
    let routes = topology.map(|t| t.routes.as_slice()).unwrap_or_default();
    let line = move |route: &nameward_kernel::facts::Route| {
        let link = links.iter().find(|l| Some(l.index) == route.out_link)?;
        let (ip, prefix) = route.destination.filter(|_| route.v4 && route.table == 254)?;
        Some(format!("{ip}/{prefix} leaves by {}", link.name))
    };
    let lines: Vec<String> = routes.iter().filter_map(line).take(4).collect();
    lines.into_iter()
}
