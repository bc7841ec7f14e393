//! F35: the host end of a pod's veth pair is not on its bridge.

use nameward_kernel::facts::{Link, Topology};
use nameward_messages::namespaces::Namespace;
use nameward_messages::probe::Outcome;
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, Tally, View, confidence, not, probe_line};
use crate::matrix::{Pick, target_pod};
use crate::record::{EvidenceRecord, Sample};
use crate::rules::pod_route::MOST;

/// `veth-off-bridge`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let mut tally = Tally::default();
    for namespace in view.record.namespaces.values() {
        tally.add(one(view, namespace));
    }
    match tally.done() {
        RuleResult::Verdicts(mut findings) => {
            findings.truncate(MOST);
            RuleResult::Verdicts(findings)
        }
        other => other,
    }
}

/// How a host veth is off its bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    NoMaster,
    PortState(u8),
}

fn one(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let from_it = Pick { vantage: Some(&namespace.pod), ..Pick::default() };
    let silent = view.bad(from_it).find(|(_, s)| {
        matches!(
            s.failing.as_ref().unwrap_or(&s.last),
            Outcome::Timeout | Outcome::HostUnreachable { .. } | Outcome::NetworkUnreachable
        )
    });
    let Some((path, state)) = silent else { return RuleResult::NotApplicable };
    // What a CoreDNS pod asks of itself never leaves it.
    if let Some((good, _)) = record.matrix.good(from_it).find(|(p, _)| target_pod(p) != Some(&namespace.pod)) {
        return RuleResult::RuledOut(format!("{} reaches {}", namespace.key, good.target));
    }
    let held = record.held(|sample| {
        let (_, off) = host_end(record, sample, namespace)?;
        Some(off.is_some())
    });
    let sure =
        match confidence(record, held, false, "the host end of the pod's veth pair is on its bridge, and forwarding") {
            Ok(sure) => sure,
            Err(result) => return result,
        };
    let Some((link, Some(off))) = record.current.as_ref().and_then(|s| host_end(record, s, namespace)) else {
        return RuleResult::NotApplicable;
    };
    let mut evidence = vec![
        probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
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
    let to_it = Pick { pod: Some(&namespace.pod), ..Pick::default() };
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::VethOffBridge,
        scope: Scope::Pod,
        subject: Subject::pod(&namespace.key, &namespace.pod),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(
                Cause::PodRouteMissing,
                format!("its queries are sent: {}", state.failing.as_ref().unwrap_or(&state.last)),
            ),
            not(Cause::ForwardPolicyDrop, "only this pod's link is concerned"),
        ],
        explains: view.explained(&[from_it, to_it]),
    }])
}

/// The host end of a pod's veth pair and how it is off its bridge. `None`: not to be told, or not a bridged pod.
fn host_end<'a>(record: &EvidenceRecord, sample: &'a Sample, namespace: &Namespace) -> Option<(&'a Link, Option<Off>)> {
    let host = sample.host.topology.value()?;
    let link = veth_of(sample, namespace, host)?;
    if let Some(port) = link.port {
        // 1 and 2 are passed through on the way up; 0 is off and 4 is blocked.
        if link.master.is_some() && matches!(port.state, 0 | 4) {
            return Some((link, Some(Off::PortState(port.state))));
        }
    }
    if link.master.is_some() {
        return Some((link, None));
    }
    let named = namespace.bridge.as_ref().and_then(|name| host.link(name)).is_some_and(is_bridge);
    (named || sibling_bridge(sample, namespace, record).is_some()).then_some((link, Some(Off::NoMaster)))
}

fn is_bridge(link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
}

/// By the pod's own word (its peer's index), else by the CNI result's.
fn veth_of<'a>(sample: &'a Sample, namespace: &Namespace, host: &'a Topology) -> Option<&'a Link> {
    let by_pod = sample.pods.get(&namespace.pod).and_then(|p| p.topology.value()).and_then(|topology| {
        let own = topology.links.iter().find(|l| l.kind.as_deref() == Some("veth") || l.name == "eth0")?;
        host.link_at(own.peer?).filter(|l| l.kind.as_deref().is_none_or(|kind| kind == "veth"))
    });
    by_pod.or_else(|| host.link(namespace.host_veth.as_deref()?))
}

/// Another pod's host veth that is on a bridge, and the bridge.
fn sibling_bridge(sample: &Sample, namespace: &Namespace, record: &EvidenceRecord) -> Option<(String, String)> {
    let host = sample.host.topology.value()?;
    record.namespaces.values().filter(|other| other.pod != namespace.pod).find_map(|other| {
        let link = veth_of(sample, other, host)?;
        let bridge = host.link_at(link.master?).filter(|l| is_bridge(l))?;
        Some((link.name.clone(), bridge.name.clone()))
    })
}
