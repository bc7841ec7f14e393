//! F08, F09, F25, F26, F52: a rule or a policy of the node's packet filters loses DNS, or sends it elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use nameward_kernel::filter::{Backend, Filters, Owner, Place, Verdict, owner, packets_at};
use nameward_messages::PodUid;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Confidence, Evidence, RuledOut, Scope, Subject};

use super::filter_survey::{Hit, acquits, again};
use super::forward;
use super::links;
use super::traced::{self, Told};
use crate::finding::{Finding, RuleResult, Tally, View, not, probe_line};
use crate::matrix::{Pick, target_pod, vantage_pod};
use crate::record::{EvidenceRecord, Sample};

/// Most pods that are named for one rule of a policy.
const MOST_PODS: usize = 8;
/// A counter that has not moved after so many samples does not count our packets.
const ENOUGH: u32 = 3;

/// `forward-policy-drop`.
pub fn forward_policy(view: &View<'_>) -> RuleResult {
    judge(view, Cause::ForwardPolicyDrop)
}

/// `network-policy-drop`.
pub fn network_policy(view: &View<'_>) -> RuleResult {
    judge(view, Cause::NetworkPolicyDrop)
}

/// `packet-filter-drop`.
pub fn packet_filter(view: &View<'_>) -> RuleResult {
    judge(view, Cause::PacketFilterDrop)
}

/// `port-53-redirected`.
pub fn redirected(view: &View<'_>) -> RuleResult {
    judge(view, Cause::Port53Redirected)
}

/// Which cause a rule stands for; `None`: another family's (kube-proxy's own rules).
fn cause_of(hit: &Hit) -> Option<Cause> {
    if !hit.verdict.is_loss() {
        return Some(Cause::Port53Redirected);
    }
    match owner(&hit.place) {
        Owner::KubeProxy => None,
        Owner::Policy(_) => Some(Cause::NetworkPolicyDrop),
        Owner::Other if hit.place.rule.is_none() && is_forward(&hit.place, hit) => Some(Cause::ForwardPolicyDrop),
        Owner::Other => Some(Cause::PacketFilterDrop),
    }
}

/// Whether a policy is that of a chain that forwarded packets pass.
fn is_forward(place: &Place, hit: &Hit) -> bool {
    match place.backend {
        Backend::IptablesNft | Backend::IptablesLegacy => place.chain == "FORWARD",
        // It is on a packet's way through the node, and both devices are known there alone.
        Backend::Nft => {
            let named = |d: &nameward_kernel::filter::Device| !matches!(d, nameward_kernel::filter::Device::Absent);
            named(&hit.packet.iif) && named(&hit.packet.oif)
        }
    }
}

fn judge(view: &View<'_>, cause: Cause) -> RuleResult {
    let record = view.record;
    let mut tally = Tally::default();
    let mut taken: BTreeSet<PathKey> = BTreeSet::new();
    let survey = view.filters();
    let open = |hit: &&Hit| match &hit.path {
        Some(path) => view.open.contains(path) || matches!(path.target.kind, TargetKind::Upstream),
        None => true,
    };
    let mut groups: BTreeMap<&Place, Vec<&Hit>> = BTreeMap::new();
    for hit in survey.hits.iter().filter(open).filter(|hit| cause_of(hit) == Some(cause)) {
        groups.entry(&hit.place).or_default().push(hit);
    }
    // What is certain is named first: what is in doubt explains the rest at most.
    let mut order: Vec<(&Place, Vec<&Hit>)> = groups.into_iter().collect();
    order.sort_by_key(|(_, hits)| hits.iter().all(|hit| hit.doubt.is_some()));
    for (place, hits) in order {
        let left: Vec<&Hit> =
            hits.into_iter().filter(|hit| hit.path.as_ref().is_none_or(|path| !taken.contains(path))).collect();
        if left.is_empty() {
            continue;
        }
        let result = one(view, cause, place, &left);
        if let RuleResult::Verdicts(findings) = &result {
            taken.extend(findings.iter().flat_map(|f| f.explains.iter().cloned()));
        }
        tally.add(result);
    }
    if let (Cause::ForwardPolicyDrop, None) = (cause, &record.current) {
        return RuleResult::NotApplicable;
    }
    links::bounded(tally)
}

fn one(view: &View<'_>, cause: Cause, place: &Place, hits: &[&Hit]) -> RuleResult {
    let record = view.record;
    let sure = |hit: &&&Hit| hit.doubt.is_none();
    let probed = |hit: &&&Hit| !hit.path.as_ref().is_some_and(is_upstream);
    let best = hits.iter().filter(sure).find(probed).or_else(|| hits.iter().find(sure));
    let Some(first) = best.or_else(|| hits.iter().find(probed)).or(hits.first()) else {
        return RuleResult::NotApplicable;
    };
    if !record.two_samples() {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    let (Some(current), Some(previous)) = (&record.current, &record.previous) else { return RuleResult::NotApplicable };
    if let Some(path) = acquits(record, place, first).filter(|_| first.told < Told::Once) {
        return RuleResult::RuledOut(format!("{place}: {} does reach {}", path.vantage, path.target));
    }
    let forwards = current.host.sysctls.value().and_then(|s| s.ip_forward);
    if first.place.rule.is_none() && forwards == Some(0) && cause == Cause::ForwardPolicyDrop {
        return RuleResult::RuledOut("ip_forward is 0: nothing gets as far as FORWARD".to_owned());
    }
    // A trace is a sample of its own.
    let stood =
        again(record, previous, first) || first.path.as_ref().is_some_and(is_upstream) || first.told >= Told::Once;
    if !stood {
        return RuleResult::Waiting(format!("{place} is new: a second sample is awaited"));
    }
    // What others send comes at their own pace: it is looked for further back.
    let complained = hits.iter().all(|hit| hit.complained.is_some());
    let before = if complained { record.earlier.as_deref().unwrap_or(previous) } else { previous };
    let by = rose(before, current, place);
    let confidence = match (by, first.doubt.is_some()) {
        _ if first.told == Told::Twice => Confidence::Certain,
        _ if first.told == Told::Once && record.samples < ENOUGH => {
            return RuleResult::Waiting(format!("{place}: a second trace is awaited"));
        }
        _ if first.told == Told::Once => Confidence::Probable,
        (Some(0), _) if record.samples < ENOUGH => {
            return RuleResult::Waiting(format!("{place}: its counter has not moved yet"));
        }
        (Some(0), _) => return RuleResult::RuledOut(format!("{place}: its counter does not move")),
        (Some(_), false) => Confidence::Certain,
        (Some(_), true) => Confidence::Probable,
        (None, true) => {
            let why = first.doubt.clone().unwrap_or_default();
            return RuleResult::RuledOut(format!(
                "{place}: it counts nothing, and it is not known whether it matches ({why})"
            ));
        }
        (None, false) if seen_by_others(record, first) => Confidence::Certain,
        (None, false) if was_passed(before, current, place) == Some(false) => {
            return RuleResult::RuledOut(format!("{place}: nothing comes as far as this chain"));
        }
        (None, false) => Confidence::Probable,
    };
    let evidence = evidence(record, place, first, by);
    let explains = explains(view, cause, hits);
    let findings = subjects(record, cause, hits).into_iter().map(|(scope, subject, of)| Finding {
        cause,
        scope,
        subject,
        confidence,
        evidence: evidence.clone(),
        ruled_out: ruled_out(cause, by.is_some()),
        explains: match &of {
            Some(uid) => explains.iter().filter(|p| vantage_pod(p) == Some(uid)).cloned().collect(),
            None => explains.clone(),
        },
    });
    RuleResult::Verdicts(findings.collect())
}

fn is_upstream(path: &PathKey) -> bool {
    matches!(path.target.kind, TargetKind::Upstream)
}

/// By how much the counter of a place rose; `None`: it does not count.
pub(super) fn rose(before: &Sample, after: &Sample, place: &Place) -> Option<u64> {
    let of = |sample: &Sample| packets_at(&Filters::of(&sample.host.netfilter), place);
    risen(of(before), of(after), place)
}

/// See [`rose`].
pub(super) fn risen(then: Option<u64>, now: Option<u64>, place: &Place) -> Option<u64> {
    let now = now?;
    // nft makes chains without counters of their own, and iptables shows those as 0.
    if now == 0 && place.rule.is_none() && place.backend == Backend::IptablesNft {
        return None;
    }
    Some(now.saturating_sub(then?))
}

/// The sender was told by this rule: that is seen without any counter. Or something else passes the same hook, so that what
/// does not is lost there.
fn seen_by_others(record: &EvidenceRecord, hit: &Hit) -> bool {
    let told = matches!(hit.outcome, Outcome::Refused { .. } | Outcome::HostUnreachable { .. } | Outcome::NotPermitted);
    if told && matches!(hit.verdict, Verdict::Reject { .. }) {
        return true;
    }
    let Some(path) = &hit.path else { return false };
    if hit.outcome == Outcome::NotPermitted {
        return true;
    }
    // The same way by the other transport.
    let other = record.matrix.iter().filter(|(p, _)| {
        p.vantage == path.vantage
            && p.target == path.target
            && p.question == path.question
            && p.transport != path.transport
    });
    let since = record.matrix.get(path).and_then(|s| s.suspected);
    let mut other = other;
    other.any(|(_, state)| state.suspected.is_none() && state.last.good() == Some(true) && Some(state.at) >= since)
}

/// For a chain that counts nothing itself: whether anything entered it and was not accepted. `None`: not to be told.
fn was_passed(before: &Sample, after: &Sample, place: &Place) -> Option<bool> {
    let of = |sample: &Sample| {
        let filters = Filters::of(&sample.host.netfilter);
        let set = match place.backend {
            Backend::IptablesNft => filters.iptables_nft?,
            Backend::IptablesLegacy => filters.iptables_legacy?,
            Backend::Nft => return None,
        };
        let table = set.table(&place.table)?;
        let came = table.chain(&place.chain)?.rules.iter().map(|r| r.packets).max()?;
        let forwarded = table.chains.iter().filter(|c| !matches!(c.name.as_str(), "INPUT" | "OUTPUT"));
        let accepted = forwarded.flat_map(|c| &c.rules).filter(|r| r.target.as_deref() == Some("ACCEPT"));
        Some((came, accepted.map(|r| r.packets).sum::<u64>()))
    };
    let ((came, passed), (now_came, now_passed)) = (of(before)?, of(after)?);
    Some(now_came.saturating_sub(came) > now_passed.saturating_sub(passed))
}

fn evidence(record: &EvidenceRecord, place: &Place, first: &Hit, by: Option<u64>) -> Vec<Evidence> {
    let counted = match by {
        Some(by) if place.rule.is_none() => {
            format!("the policy's counter rose by {by} packets while probes were lost")
        }
        Some(by) => format!("its counter rose by {by} packets while probes were lost"),
        None => "it does not count packets".to_owned(),
    };
    let decides = match &first.doubt {
        None if first.answer => format!("decides about the answer {}: {}", first.packet, first.verdict),
        None => format!("decides about {}: {}", first.packet, first.verdict),
        Some(why) => format!("may decide about {}: {} (not understood: {why})", first.packet, first.verdict),
    };
    let rule = match &place.rule {
        Some(rule) => format!("chain {}: {rule}", place.chain),
        None => {
            format!("chain {} policy {}", place.chain, if first.verdict == Verdict::Drop { "DROP" } else { "REJECT" })
        }
    };
    let read = format!("{} {} -t {}", record.node, place.backend.shown_by(), place.table);
    let mut lines = vec![Evidence::new(read.clone(), format!("{rule}; {counted}")), Evidence::new(read, decides)];
    lines.extend(first.path.as_ref().and_then(|path| traced::line(record, path, None, place)));
    match (&first.path, &first.complained) {
        (Some(path), _) => lines.push(probe_line(path, &first.outcome)),
        (None, Some(uid)) => {
            for (pod, complaint) in record.complained().filter(|(pod, _)| pod.uid == *uid) {
                let from: Vec<&str> = complaint.from.iter().take(4).map(|node| node.as_str()).collect();
                let says = format!("cannot reach {}: {}", pod.key, complaint.because);
                lines.push(Evidence::new(format!("probes of {}", from.join(", ")), says));
            }
        }
        (None, None) => {}
    }
    if let Some((path, state)) = record
        .matrix
        .good(Pick { from: Some(nameward_messages::namespaces::VantageKind::Host), ..Pick::default() })
        .next()
    {
        lines.push(probe_line(path, &state.last));
    }
    lines
}

fn ruled_out(cause: Cause, counted: bool) -> Vec<RuledOut> {
    let mut list = vec![not(Cause::CorednsHung, "the packets are lost by a rule before they reach a process")];
    list.push(not(
        Cause::ServiceRulesMissing,
        "what is lost is lost by a packet filter, whatever the Service's rules say",
    ));
    if cause != Cause::Port53Redirected {
        let because = if counted {
            "packets do get as far as the filter: its counter moves"
        } else {
            "the node forwards packets"
        };
        list.push(not(Cause::IpForwardOff, because));
    }
    list
}

/// Everything that fails for this reason.
fn explains(view: &View<'_>, cause: Cause, hits: &[&Hit]) -> BTreeSet<PathKey> {
    let mut found: BTreeSet<PathKey> = hits.iter().filter_map(|hit| hit.path.clone()).collect();
    if cause == Cause::ForwardPolicyDrop && hits.iter().any(|hit| hit.path.is_some()) {
        found.extend(forward::explains(view));
    }
    // CoreDNS pods of this node that cannot ask their upstream: external names fail for everybody who asks them.
    let cut: BTreeSet<&PodUid> = hits
        .iter()
        .filter_map(|hit| hit.path.as_ref().filter(|path| is_upstream(path)))
        .filter_map(vantage_pod)
        .collect();
    for question in [QuestionKind::External, QuestionKind::Extra] {
        for uid in &cut {
            found.extend(view.explained(&[
                Pick { pod: Some(uid), question: Some(question), ..Pick::default() },
                Pick { service: true, question: Some(question), ..Pick::default() },
            ]));
        }
    }
    if view.filters().more {
        // Not every path was walked: what is like those that were.
        let alike = |path: &PathKey| {
            hits.iter().filter_map(|hit| hit.path.as_ref()).any(|hit| {
                hit.target == path.target
                    && hit.transport == path.transport
                    && hit.vantage.kind() == path.vantage.kind()
            })
        };
        found.extend(view.open.iter().filter(|path| alike(path)).cloned());
    }
    found
}

/// Whom a rule concerns: the node, or for a NetworkPolicy the pods that it selects, with the pod whose paths are its own.
fn subjects(record: &EvidenceRecord, cause: Cause, hits: &[&Hit]) -> Vec<(Scope, Subject, Option<PodUid>)> {
    let node = vec![(Scope::Node, Subject::node(&record.node), None)];
    if cause != Cause::NetworkPolicyDrop {
        return node;
    }
    // Many ask one CoreDNS pod of this node in vain: the policy is about that pod.
    let here = |uid: &PodUid| record.local_dns_pods().any(|p| p.uid == *uid);
    let tos: BTreeSet<&PodUid> =
        hits.iter().filter_map(|hit| hit.complained.as_ref().or_else(|| target_pod(hit.path.as_ref()?))).collect();
    let froms: BTreeSet<Option<&PodUid>> = hits.iter().map(|hit| hit.path.as_ref().and_then(vantage_pod)).collect();
    if let (1, Some(pod)) = (tos.len(), tos.first().and_then(|uid| record.dns_pod(uid)))
        && here(&pod.uid)
        && (froms.len() > 1 || froms.contains(&None))
    {
        return vec![(Scope::CorednsPod, Subject::pod(&pod.key, &pod.uid), None)];
    }
    let pods: Vec<_> = froms
        .into_iter()
        .flatten()
        .filter_map(|uid| record.namespaces.get(uid))
        .take(MOST_PODS)
        .map(|n| (links::scope(record, &n.pod), links::subject(n), Some(n.pod.clone())))
        .collect();
    if pods.is_empty() { node } else { pods }
}
