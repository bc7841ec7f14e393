//! F08: the node's FORWARD policy drops the pods' traffic.

use nameward_kernel::facts::Reading;
use nameward_kernel::iptables::{Chain, RuleSet};
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, View, not, probe_line};
use crate::matrix::{Pick, vantage_pod};
use crate::record::{EvidenceRecord, Held, Sample};

/// `forward-policy-drop`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let from_pods = Pick { from: Some(VantageKind::Pod), ..Pick::default() };
    let lost = |transport| {
        view.bad(Pick { transport: Some(transport), ..from_pods }).find(|(path, s)| {
            crosses(record, path) && matches!(s.failing.as_ref().unwrap_or(&s.last), Outcome::Timeout)
        })
    };
    let Some((path, state)) = lost(Transport::Udp) else { return RuleResult::NotApplicable };
    if lost(Transport::Tcp).is_none() {
        return RuleResult::NotApplicable;
    }
    let drops = policies(record.current.as_deref());
    if drops.is_empty() {
        let read = record.current.as_ref().is_some_and(|s| s.host.netfilter.iptables_nft.value().is_some());
        return if read {
            RuleResult::RuledOut("the policy of FORWARD is ACCEPT".to_owned())
        } else {
            RuleResult::NotApplicable
        };
    }
    if let Some((good, _)) = record.matrix.good(from_pods).find(|(path, _)| crosses(record, path)) {
        return RuleResult::RuledOut(format!("{} does reach {}", good.vantage, good.target));
    }
    let Some((host_path, host_state)) =
        record.matrix.good(Pick { from: Some(VantageKind::Host), ..Pick::default() }).next()
    else {
        return RuleResult::RuledOut("the host does not reach any server either".to_owned());
    };
    let forwards = record.current.as_ref().and_then(|s| s.host.sysctls.value()).and_then(|s| s.ip_forward);
    if forwards == Some(0) {
        return RuleResult::RuledOut("ip_forward is 0: nothing gets as far as FORWARD".to_owned());
    }
    let moved = record.moved(|before, after| Some(policies(Some(after)).iter().any(|now| rose(before, now) > 0)));
    let entered =
        record.moved(|before, after| Some(policies(Some(after)).iter().any(|now| passed_through(before, now))));
    let sure = match (moved, entered) {
        (Held::Twice, _) => Confidence::Certain,
        (Held::Once, _) | (_, Held::Once) => return RuleResult::Waiting("a second sample is awaited".to_owned()),
        // A chain that nft made without counters: what enters it is counted by its first rules alone.
        (_, Held::Twice) => Confidence::Probable,
        (Held::No | Held::Unread, _) => {
            return RuleResult::RuledOut("the policy of FORWARD is DROP, but its counter does not move".to_owned());
        }
    };
    let mut evidence = Vec::new();
    for now in &drops {
        let by = record.previous.as_deref().map_or(0, |before| rose(before, now));
        evidence.push(Evidence::new(
            format!("{} {} -t filter", record.node, now.backend),
            format!("chain FORWARD policy DROP; the policy's counter rose by {by} packets while probes were lost"),
        ));
    }
    evidence.push(probe_line(path, state.failing.as_ref().unwrap_or(&state.last)));
    evidence.push(probe_line(host_path, &host_state.last));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ForwardPolicyDrop,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsHung, "the host, whose queries do not pass FORWARD, is answered"),
            not(Cause::ServiceRulesMissing, "pods fail by CoreDNS pods' own addresses too"),
            not(Cause::VethOffBridge, "every pod of the node fails alike"),
        ],
        explains: explains(view),
    }])
}

/// Whether a path from a pod of this node passes the node's FORWARD chain for certain. What one pod asks of another
/// on the same bridge may or may not; what it asks of itself does not, and the Service may send a CoreDNS pod to itself.
fn crosses(record: &EvidenceRecord, path: &PathKey) -> bool {
    match &path.target.kind {
        TargetKind::Pod { node, .. } => node.as_ref() != Some(&record.node),
        TargetKind::Service => vantage_pod(path).is_none_or(|uid| record.dns_pod(uid).is_none()),
        TargetKind::Nameserver | TargetKind::Upstream => false,
    }
}

/// Everything that pods ask, and what CoreDNS pods of this node have to ask elsewhere for others.
fn explains(view: &View<'_>) -> std::collections::BTreeSet<PathKey> {
    let mut picks = vec![
        Pick { from: Some(VantageKind::Pod), ..Pick::default() },
        Pick { service: true, question: Some(QuestionKind::External), ..Pick::default() },
        Pick { service: true, question: Some(QuestionKind::Extra), ..Pick::default() },
    ];
    for pod in view.record.local_dns_pods() {
        picks.push(Pick { pod: Some(&pod.uid), question: Some(QuestionKind::External), ..Pick::default() });
        picks.push(Pick { pod: Some(&pod.uid), question: Some(QuestionKind::Extra), ..Pick::default() });
    }
    view.explained(&picks)
}

/// A FORWARD chain whose policy is DROP.
struct Policy<'a> {
    backend: &'static str,
    rules: &'a RuleSet,
    chain: &'a Chain,
}

fn backends(sample: &Sample) -> [(&'static str, &Reading<RuleSet>); 2] {
    let netfilter = &sample.host.netfilter;
    [("iptables-nft-save", &netfilter.iptables_nft), ("iptables-legacy-save", &netfilter.iptables_legacy)]
}

fn policies(sample: Option<&Sample>) -> Vec<Policy<'_>> {
    let Some(sample) = sample else { return Vec::new() };
    backends(sample)
        .into_iter()
        .filter_map(|(backend, reading)| {
            let rules = reading.value()?;
            let chain = rules.chain("filter", "FORWARD")?;
            (chain.policy.as_deref() == Some("DROP")).then_some(Policy { backend, rules, chain })
        })
        .collect()
}

fn before<'a>(sample: &'a Sample, now: &Policy<'_>) -> Option<Policy<'a>> {
    policies(Some(sample)).into_iter().find(|p| p.backend == now.backend)
}

fn rose(previous: &Sample, now: &Policy<'_>) -> u64 {
    before(previous, now).map_or(0, |old| now.chain.policy_packets.saturating_sub(old.chain.policy_packets))
}

/// Packets entered FORWARD between the samples, and no rule on the way accepted any.
fn passed_through(previous: &Sample, now: &Policy<'_>) -> bool {
    let Some(old) = before(previous, now) else { return false };
    if now.chain.policy_packets > 0 {
        return false; // The policy is counted, so its counter decides.
    }
    let entered = |chain: &Chain| chain.rules.iter().map(|r| r.packets).max().unwrap_or(0);
    let accepted = |rules: &RuleSet| -> u64 {
        let table = rules.table("filter");
        let chains = table.iter().flat_map(|t| &t.chains).filter(|c| !matches!(c.name.as_str(), "INPUT" | "OUTPUT"));
        chains.flat_map(|c| &c.rules).filter(|r| r.target.as_deref() == Some("ACCEPT")).map(|r| r.packets).sum()
    };
    let came = entered(now.chain).saturating_sub(entered(old.chain));
    let passed = accepted(now.rules).saturating_sub(accepted(old.rules));
    came > passed
}
