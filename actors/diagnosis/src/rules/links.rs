//! What the rules about links, routes and neighbours have in common.

use std::net::IpAddr;

use nameward_kernel::facts::{Link, Neighbour, Topology};
use nameward_messages::PodUid;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::probe::{Outcome, PathKey};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Scope, Subject};

use crate::finding::{RuleResult, Tally, View};
use crate::matrix::{PathState, Pick, target_pod, vantage_pod};
use crate::record::{EvidenceRecord, Sample};

/// Most subjects that one judgement names one by one.
const MOST: usize = 8;
/// NUD_INCOMPLETE and NUD_FAILED: nobody has answered.
const UNRESOLVED: u16 = 0x01 | 0x20;

/// Asks a rule about every pod of the node.
pub(super) fn each<'a>(view: &View<'a>, one: impl Fn(&View<'a>, &'a Namespace) -> RuleResult) -> RuleResult {
    let mut tally = Tally::default();
    for namespace in view.record.namespaces.values() {
        tally.add(one(view, namespace));
    }
    bounded(tally)
}

/// Names no more than [`MOST`] subjects.
pub(super) fn bounded(tally: Tally) -> RuleResult {
    match tally.done() {
        RuleResult::Verdicts(mut findings) => {
            findings.truncate(MOST);
            RuleResult::Verdicts(findings)
        }
        other => other,
    }
}

/// What a suspected path last failed with.
pub(super) fn failed(state: &PathState) -> &Outcome {
    state.failing.as_ref().unwrap_or(&state.last)
}

/// Nothing came back, or nothing could be sent.
pub(super) fn no_answer(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Timeout | Outcome::HostUnreachable { .. } | Outcome::NetworkUnreachable)
}

/// An open path that is picked and on which nothing comes back.
pub(super) fn silent<'a>(view: &View<'a>, pick: Pick<'_>) -> Option<(&'a PathKey, &'a PathState)> {
    view.bad(pick).find(|(_, state)| no_answer(failed(state)))
}

/// A fault of a CoreDNS pod's link is the cluster's business, one of another pod is that pod's own.
pub(super) fn scope(record: &EvidenceRecord, uid: &PodUid) -> Scope {
    if record.dns_pod(uid).is_some() { Scope::CorednsPod } else { Scope::Pod }
}

/// The subject that is a pod of this node.
pub(super) fn subject(namespace: &Namespace) -> Subject {
    Subject::pod(&namespace.key, &namespace.pod)
}

/// Why a pod's links say nothing now: it is a CoreDNS pod that comes or goes.
pub(super) fn excuse(record: &EvidenceRecord, uid: &PodUid) -> Option<RuleResult> {
    let pod = record.dns_pod(uid)?;
    (pod.terminating || record.starting.contains(uid))
        .then(|| RuleResult::RuledOut(format!("{} has only just started, or is ending", pod.key)))
}

/// Everything that a pod's link carries: what it asks, what it is asked, and if it is a CoreDNS pod the Service's share.
pub(super) fn carried<'b>(record: &EvidenceRecord, uid: &'b PodUid) -> Vec<Pick<'b>> {
    let mut picks = vec![Pick { vantage: Some(uid), ..Pick::default() }, Pick { pod: Some(uid), ..Pick::default() }];
    if record.dns_pod(uid).is_some() {
        picks.push(Pick { service: true, ..Pick::default() });
    }
    picks
}

/// A pod between which and the rest of the world nothing passes: one of its failing paths. `None`: that is not so.
///
/// # Errors
/// The path on which something does pass.
pub(super) fn cut_off<'a>(view: &View<'a>, uid: &PodUid) -> Result<Option<(&'a PathKey, &'a PathState)>, String> {
    let (from_it, to_it) = (Pick { vantage: Some(uid), ..Pick::default() }, Pick { pod: Some(uid), ..Pick::default() });
    // What a CoreDNS pod asks of itself never leaves it.
    let leaves = |path: &PathKey| target_pod(path) != vantage_pod(path);
    let found = view.bad(from_it).chain(view.bad(to_it)).find(|(p, s)| leaves(p) && no_answer(failed(s)));
    let Some(found) = found else { return Ok(None) };
    let passes = view.record.matrix.good(from_it).chain(view.record.matrix.good(to_it)).find(|(p, _)| leaves(p));
    match passes {
        Some((path, _)) => Err(path.to_string()),
        None => Ok(Some(found)),
    }
}

/// What was read of a pod's links and routes.
pub(super) fn topology_of<'a>(sample: &'a Sample, uid: &PodUid) -> Option<&'a Topology> {
    sample.pods.get(uid)?.topology.value()
}

/// A pod's own end of its veth pair.
pub(super) fn own_end(topology: &Topology) -> Option<&Link> {
    let veth = |l: &&Link| l.kind.as_deref() == Some("veth");
    topology
        .links
        .iter()
        .find(|l| l.name == "eth0")
        .or_else(|| topology.links.iter().find(veth))
        .filter(|l| l.name == "eth0" || veth(l))
}

/// The host end of a pod's veth pair: by the pod's own word (its peer's index), else by the CNI result's.
pub(super) fn host_end<'a>(sample: &'a Sample, namespace: &Namespace) -> Option<&'a Link> {
    let host = sample.host.topology.value()?;
    let peer = topology_of(sample, &namespace.pod).and_then(own_end).and_then(|own| own.peer).or_else(|| {
        let identity = sample.others.get(&namespace.pod)?.value()?;
        identity.links.iter().find(|l| l.name == "eth0" || l.kind.as_deref() == Some("veth"))?.peer
    });
    peer.and_then(|index| host.link_at(index))
        .filter(|l| l.kind.as_deref().is_none_or(|kind| kind == "veth"))
        .or_else(|| host.link(namespace.host_veth.as_deref()?))
}

/// Whether a link is a bridge.
pub(super) fn is_bridge(link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
}

/// The bridge that a pod's host end is on, else the one that its CNI result names.
pub(super) fn bridge_of<'a>(sample: &'a Sample, namespace: &Namespace) -> Option<&'a Link> {
    let host = sample.host.topology.value()?;
    let master = host_end(sample, namespace).and_then(|l| l.master).and_then(|index| host.link_at(index));
    master.or_else(|| host.link(namespace.bridge.as_deref()?)).filter(|l| is_bridge(l))
}

/// Whether an address is one of the node's own.
pub(super) fn is_hosts(sample: &Sample, ip: IpAddr) -> Option<bool> {
    Some(sample.host.topology.value()?.addresses.iter().any(|a| a.ip == ip))
}

/// Nobody has answered for a neighbour.
pub(super) fn unresolved(entry: &Neighbour) -> bool {
    entry.state & UNRESOLVED != 0
}

/// Whether two addresses are in one network of this prefix length.
pub(super) fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            u32::from(prefix) == 0 || (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(prefix),
        _ => false,
    }
}

/// Whether a path from a pod of this node is routed by the node for certain. What one pod asks of another on the same
/// bridge may or may not be; what it asks of itself is not, and the Service may send a CoreDNS pod to itself.
pub(super) fn crosses(record: &EvidenceRecord, path: &PathKey) -> bool {
    match (&path.vantage, &path.target.kind) {
        (Vantage::Host, _) => false,
        (_, TargetKind::Pod { node, .. }) => node.as_ref() != Some(&record.node),
        (_, TargetKind::Service) => {
            let local = record.local_dns_pods().next().is_some();
            // With a CoreDNS pod here, the Service may lead to it, over the bridge alone.
            !local && vantage_pod(path).is_none_or(|uid| record.dns_pod(uid).is_none())
        }
        (_, TargetKind::Nameserver | TargetKind::Upstream) => false,
    }
}
