//! F35: the host end of a pod's veth pair is not on its bridge, its bridge port is off, or it is isolated from the port of
//! a CoreDNS pod.

use nameward_kernel::facts::Link;
use nameward_messages::PodUid;
use nameward_messages::namespaces::Namespace;
use nameward_messages::verdict::{Cause, Evidence};

use super::links::{bounded, carried, cut_off, excuse, failed, host_end, is_bridge, scope, silent, subject};
use crate::finding::{Finding, RuleResult, Tally, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};

/// `veth-off-bridge`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let mut tally = Tally::default();
    for namespace in view.record.namespaces.values() {
        tally.add(one(view, namespace));
    }
    tally.add(isolated(view));
    bounded(tally)
}

/// How a host veth is off its bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    NoMaster,
    PortState(u8),
}

fn one(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let (path, state) = match cut_off(view, &namespace.pod) {
        Ok(Some(found)) => found,
        Ok(None) => return RuleResult::NotApplicable,
        Err(passes) => return RuleResult::RuledOut(format!("{passes} is answered")),
    };
    let held = record.held(|sample| {
        let (_, off) = off(record, sample, namespace)?;
        Some(off.is_some())
    });
    let sure =
        match confidence(record, held, false, "the host end of the pod's veth pair is on its bridge, and forwarding") {
            Ok(sure) => sure,
            Err(result) => return result,
        };
    if let Some(excused) = excuse(record, &namespace.pod) {
        return excused;
    }
    let Some((link, Some(off))) = record.current.as_ref().and_then(|s| off(record, s, namespace)) else {
        return RuleResult::NotApplicable;
    };
    let mut evidence = vec![
        probe_line(path, failed(state)),
        Evidence::new(
            format!("{} rtnetlink links", record.node),
            match off {
                Off::NoMaster => format!("{} (of {}) has no master, in two samples", link.name, namespace.key),
                Off::PortState(0) => {
                    format!("bridge port {} (of {}) is disabled, in two samples", link.name, namespace.key)
                }
                Off::PortState(n) => {
                    format!("bridge port {} (of {}) is in state {n}, in two samples", link.name, namespace.key)
                }
            },
        ),
    ];
    if let Some((sibling, bridge)) = record.current.as_ref().and_then(|s| sibling_bridge(s, namespace, record)) {
        evidence.push(Evidence::new(format!("{} rtnetlink links", record.node), format!("{sibling} is on {bridge}")));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::VethOffBridge,
        scope: scope(record, &namespace.pod),
        subject: subject(namespace),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::VethDown, "both ends of its veth pair are up"),
            not(Cause::PodRouteMissing, format!("its queries are sent: {}", failed(state))),
            not(Cause::ForwardPolicyDrop, "only this pod's link is concerned"),
        ],
        explains: view.explained(&carried(record, &namespace.pod)),
    }])
}

/// Two ports that are isolated from one another: a pod's and a CoreDNS pod's. One such pod is blamed itself, of several
/// the CoreDNS pod that they cannot reach.
fn isolated(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let mut tally = Tally::default();
    for dns in record.local_dns_pods() {
        let Some(server) = record.namespaces.get(&dns.uid) else { continue };
        let lost: Vec<&Namespace> = record
            .namespaces
            .values()
            .filter(|n| n.pod != dns.uid && record.current.as_ref().is_some_and(|s| apart(s, n, server)))
            .filter(|n| silent(view, between(&n.pod, &dns.uid)).is_some())
            .collect();
        let (Some(first), blamed) = (lost.first(), if lost.len() == 1 { lost[0] } else { server }) else { continue };
        let Some((path, state)) = silent(view, between(&first.pod, &dns.uid)) else { continue };
        let held = record.held(|sample| {
            sample.host.topology.value()?;
            Some(lost.iter().all(|n| apart(sample, n, server)))
        });
        let sure = match confidence(record, held, false, "the ports are not isolated from one another") {
            Ok(sure) => sure,
            Err(result) => {
                tally.add(result);
                continue;
            }
        };
        let port = |n: &Namespace| {
            record.current.as_ref().and_then(|s| host_end(s, n)).map_or("its port", |l| l.name.as_str()).to_owned()
        };
        // Nor does an isolated port pass back what came in by itself.
        let to_itself = Pick { vantage: Some(&dns.uid), service: true, ..Pick::default() };
        let mut explains = view.explained(&[to_itself]);
        for n in &lost {
            let to_service = Pick { vantage: Some(&n.pod), service: true, ..Pick::default() };
            explains.extend(view.explained(&[between(&n.pod, &dns.uid), to_service]));
        }
        tally.add(RuleResult::Verdicts(vec![Finding {
            cause: Cause::VethOffBridge,
            scope: scope(record, &blamed.pod),
            subject: subject(blamed),
            confidence: sure,
            evidence: vec![
                probe_line(path, failed(state)),
                Evidence::new(
                    format!("{} rtnetlink links", record.node),
                    format!(
                        "bridge ports {} (of {}) and {} (of {}) are isolated from one another, in two samples",
                        port(first),
                        first.key,
                        port(server),
                        server.key
                    ),
                ),
            ],
            ruled_out: vec![not(Cause::WrongNeighbour, "the ports do not pass frames to one another")],
            explains,
        }]));
    }
    tally.done()
}

fn between<'a>(from: &'a PodUid, to: &'a PodUid) -> Pick<'a> {
    Pick { vantage: Some(from), pod: Some(to), ..Pick::default() }
}

fn apart(sample: &Sample, one: &Namespace, other: &Namespace) -> bool {
    let port = |n: &Namespace| {
        let link = host_end(sample, n)?;
        link.port.filter(|p| p.isolated).and(link.master)
    };
    port(one).is_some() && port(one) == port(other)
}

/// The host end of a pod's veth pair and how it is off its bridge. `None`: not to be told, or not a bridged pod.
fn off<'a>(record: &EvidenceRecord, sample: &'a Sample, namespace: &Namespace) -> Option<(&'a Link, Option<Off>)> {
    let host = sample.host.topology.value()?;
    let link = host_end(sample, namespace)?;
    let master = link.master.and_then(|index| host.link_at(index));
    if let (Some(port), Some(bridge)) = (link.port, master) {
        // 1 and 2 are passed through on the way up; 0 is off and 4 is blocked. A port is off with its link or its bridge.
        if link.up && link.carrier && bridge.up && matches!(port.state, 0 | 4) {
            return Some((link, Some(Off::PortState(port.state))));
        }
    }
    if link.master.is_some() {
        return Some((link, None));
    }
    let named = namespace.bridge.as_ref().and_then(|name| host.link(name)).is_some_and(is_bridge);
    (named || sibling_bridge(sample, namespace, record).is_some()).then_some((link, Some(Off::NoMaster)))
}

/// Another pod's host veth that is on a bridge, and the bridge.
fn sibling_bridge(sample: &Sample, namespace: &Namespace, record: &EvidenceRecord) -> Option<(String, String)> {
    let host = sample.host.topology.value()?;
    record.namespaces.values().filter(|other| other.pod != namespace.pod).find_map(|other| {
        let link = host_end(sample, other)?;
        let bridge = host.link_at(link.master?).filter(|l| is_bridge(l))?;
        Some((link.name.clone(), bridge.name.clone()))
    })
}
