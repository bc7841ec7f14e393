//! F40: the node has no usable route to the CoreDNS pods of another node.

use std::net::IpAddr;

use nameward_kernel::facts::{FibQuery, FibResult, RouteKind, Topology};
use nameward_messages::namespaces::VantageKind;
use nameward_messages::targets::DnsPod;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use super::links::{bridge_of, failed, no_answer, same_network, unresolved};
use super::{policy_rules, unmodelled};
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};

/// What is wrong with the way to a pod, in words, and whether that is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    says: String,
    certain: bool,
}

/// `node-route-missing`. One finding names every pod that cannot be reached so.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let mut waiting = None;
    let mut found: Option<Finding> = None;
    for pod in record.targets.pods.iter().filter(|p| p.node.as_ref().is_some_and(|n| *n != record.node)) {
        match one(view, pod) {
            RuleResult::Verdicts(more) => {
                for finding in more {
                    match &mut found {
                        None => found = Some(finding),
                        Some(all) => {
                            all.evidence.extend(finding.evidence);
                            all.explains.extend(finding.explains);
                            all.confidence = all.confidence.max(finding.confidence);
                        }
                    }
                }
            }
            RuleResult::Waiting(what) => waiting = Some(what),
            RuleResult::RuledOut(_) | RuleResult::NotApplicable => {}
        }
    }
    match (found, waiting) {
        (Some(finding), _) => RuleResult::Verdicts(vec![finding]),
        (None, Some(what)) => RuleResult::Waiting(what),
        (None, None) => RuleResult::NotApplicable,
    }
}

fn one(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let record = view.record;
    let Some(ip) = pod.ips.iter().copied().find(IpAddr::is_ipv4) else { return RuleResult::NotApplicable };
    let Some(wrong) = record.current.as_ref().and_then(|s| fault(record, s, ip)) else {
        return RuleResult::NotApplicable;
    };
    let to_it = Pick { pod: Some(&pod.uid), ..Pick::default() };
    let Some((path, state)) = view.bad(to_it).find(|(_, s)| no_answer(failed(s))) else {
        return RuleResult::NotApplicable;
    };
    if let Some((good, _)) = record.matrix.good(to_it).find(|(p, _)| p.vantage.kind() == path.vantage.kind()) {
        return RuleResult::RuledOut(format!("{good} is answered"));
    }
    let held = record.held(|sample| {
        sample.host.topology.value()?;
        Some(fault(record, sample, ip).is_some())
    });
    let mut sure = match confidence(record, held, false, "the node has a route to it") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    if !wrong.certain {
        sure = Confidence::Probable;
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::NodeRouteMissing,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence: vec![
            probe_line(path, failed(state)),
            Evidence::new(
                format!("{} FIB lookup of {ip} ({})", record.node, pod.key),
                format!("{}, in two samples", wrong.says),
            ),
        ],
        ruled_out: vec![
            not(Cause::NodePairBlocked, "what is sent does not take the way to the other node"),
            not(Cause::CorednsHung, "what is sent does not take the way to the other node"),
        ],
        explains: view.explained(&[to_it, Pick { service: true, ..Pick::default() }]),
    }])
}

/// What is wrong with the node's way to an address of a pod of another node.
fn fault(record: &EvidenceRecord, sample: &Sample, ip: IpAddr) -> Option<Fault> {
    let host = sample.host.topology.value()?;
    let own = host.lookup(ip).and_then(|found| judge_way(record, sample, host, ip, found));
    // What pods send may take another way than what the host sends: policy rules tell them apart. Where forwarding is off, for the
    // node or for the link that they come in by, the kernel has no way for it whatever the routes say.
    let forwards = |query: &FibQuery| {
        sample.host.sysctls.value().is_some_and(|sysctls| {
            let link = query.iif.as_ref().and_then(|link| sysctls.forwarding.get(link));
            sysctls.ip_forward == Some(1) && link != Some(&0)
        })
    };
    let forwarded = || {
        let lookup =
            host.lookups.iter().find(|l| l.query.destination == ip && l.query.iif.is_some() && forwards(&l.query))?;
        let found = lookup.result.value()?;
        let wrong = judge_way(record, sample, host, ip, found).or_else(|| diverted(host, ip, &lookup.query, found))?;
        let by = policy_rules::decided(host, &lookup.query, found);
        let by = by.map_or_else(String::new, |rule| format!(" ({})", policy_rules::text(rule)));
        Some(Fault { says: format!("of what comes in by {}: {}{by}", from(&lookup.query), wrong.says), ..wrong })
    };
    own.or_else(forwarded)
}

/// What pods send takes another way than what the node sends, because a policy rule says so. That may be meant, so that it is not certain.
fn diverted(host: &Topology, ip: IpAddr, query: &FibQuery, found: &FibResult) -> Option<Fault> {
    policy_rules::decided(host, query, found)?;
    let FibResult::Route { gateway, out_link, table, .. } = found else { return None };
    let FibResult::Route { gateway: own_gateway, out_link: own_link, .. } = host.lookup(ip)? else { return None };
    if (gateway, out_link) == (own_gateway, own_link) {
        return None;
    }
    let way = |gateway: &Option<IpAddr>, link: &Option<u32>| {
        let link = link.and_then(|index| host.link_at(index)).map_or("?", |link| link.name.as_str());
        gateway.map_or_else(|| format!("on link by {link}"), |gateway| format!("via {gateway} by {link}"))
    };
    let (theirs, own) = (way(gateway, out_link), way(own_gateway, own_link));
    Some(Fault { says: format!("{theirs}, by table {table}, while the node itself goes {own}"), certain: false })
}

fn from(query: &FibQuery) -> &str {
    query.iif.as_deref().unwrap_or("its links")
}

fn judge_way(
    record: &EvidenceRecord,
    sample: &Sample,
    host: &Topology,
    ip: IpAddr,
    found: &FibResult,
) -> Option<Fault> {
    let certain = |says: String| Some(Fault { says, certain: true });
    match found {
        FibResult::NoRoute => certain("there is no route".to_owned()),
        FibResult::Nowhere { kind } => {
            let what = match kind {
                RouteKind::Blackhole => "blackhole",
                RouteKind::Prohibit => "prohibit",
                _ => "unreachable",
            };
            certain(match covering(host, ip, *kind) {
                Some((net, prefix)) => format!("{what} {net}/{prefix}"),
                None => what.to_owned(),
            })
        }
        FibResult::Route { kind: RouteKind::Unicast, matched, gateway, out_link, .. } => {
            let link = host.link_at((*out_link)?)?;
            // Cilium has every other node's pods "via" the node's own address on cilium_host: programs take it from there.
            if unmodelled::is_ebpf(link) {
                return None;
            }
            let bridge = record.namespaces.values().filter_map(|n| bridge_of(sample, n)).any(|b| b.index == link.index);
            if bridge {
                return certain(format!("by {}, the bridge of this node's own pods", link.name));
            }
            if let Some(gateway) = gateway {
                if host.addresses.iter().any(|a| a.ip == *gateway) {
                    return certain(format!("via {gateway}, which is this node itself"));
                }
                let kin = matched.is_none().then(|| kin(record, host, ip)).flatten()?;
                return Some(Fault {
                    says: format!("the default route (via {gateway}), while {kin} has a route of its own"),
                    certain: false,
                });
            }
            // On link by the default route: the node asks its neighbours for a pod's address, and none has it.
            let asked = host.neighbours.iter().any(|n| n.ip == ip && n.link == link.index && unresolved(n));
            if matched.is_none() && asked {
                return certain(format!(
                    "only the default route, on link by {}, where nobody answers for it",
                    link.name
                ));
            }
            None
        }
        FibResult::Route { kind: RouteKind::Local, .. } => certain("it is an address of this node".to_owned()),
        FibResult::Route { .. } => None,
    }
}

/// The prefix of the route that leads nowhere.
fn covering(host: &Topology, ip: IpAddr, kind: RouteKind) -> Option<(IpAddr, u8)> {
    let routes = host.routes.iter().filter(|r| r.kind == kind).filter_map(|r| r.destination);
    routes.filter(|(net, prefix)| same_network(*net, ip, *prefix)).max_by_key(|(_, prefix)| *prefix)
}

/// Another node's CoreDNS pod to which there is a route of its own, to a next hop. What lies in a network that the node itself is on
/// needs none, while the pods of the next zone go by the default route, and rightly (flat networks of clouds).
fn kin(record: &EvidenceRecord, host: &Topology, ip: IpAddr) -> Option<String> {
    record.targets.pods.iter().filter(|p| p.node.as_ref() != Some(&record.node) && !p.ips.contains(&ip)).find_map(|p| {
        let route = host.lookup(*p.ips.first()?)?;
        let answered = record.matrix.good(Pick { pod: Some(&p.uid), from: Some(VantageKind::Host), ..Pick::default() });
        let specific =
            matches!(route, FibResult::Route { matched: Some(_), gateway: Some(_), .. }) && answered.count() > 0;
        specific.then(|| p.key.to_string())
    })
}
