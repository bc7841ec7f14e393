//! F44, F45: why kube-proxy's rules are not what they should be: they stand in two places, or it cannot write them.

use nameward_kernel::kubeproxy::{self, Expected, Mode, PathState as Rules, RulesVerdict};
use nameward_messages::targets::{DnsService, Family, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Held, Sample};
use crate::rules::service::{Way, compare, failing_ways, internal, pods_answer, stale_in, to_service, unsettled};
use crate::rules::unmodelled;

/// `two-iptables-backends`.
pub fn two(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let (service, ways) = match failing_ways(record) {
        Ok(found) => found,
        Err(result) => return result,
    };
    let torn = |sample: &Sample| is_torn(record, service, sample, &ways);
    if record.held(torn) == Held::No {
        return RuleResult::NotApplicable;
    }
    let sure = match confidence(record, record.held(torn), false, "kube-proxy's rules stand in one place") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    if let Some(result) = unsettled(record) {
        return result;
    }
    let places = record.current.as_ref().map(|s| each(record, service, s)).unwrap_or_default();
    let mut evidence: Vec<Evidence> = places
        .iter()
        .map(|place| {
            let says = format!("{}, in two samples", says(place, &ways));
            Evidence::new(format!("{} kube-proxy rules, {}", record.node, place.mode.label()), says)
        })
        .collect();
    evidence.extend(lines(record, &ways));
    let picks: Vec<Pick<'_>> = ways.iter().map(|way| to_service(*way)).collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::TwoIptablesBackends,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesStale, "one of the two places has the right rules: kube-proxy does write"),
            not(Cause::CorednsUdpDead, "CoreDNS pods answer by their own addresses from this node"),
        ],
        explains: view.explained(&picks),
    }])
}

/// Whether rules for the Service stand in two places, of which one is wrong. `None`: not to be told.
pub(super) fn is_torn(record: &EvidenceRecord, service: &DnsService, sample: &Sample, ways: &[Way]) -> Option<bool> {
    if sample.at < record.targets_since || unmodelled::hands_out(sample).is_some() {
        return None;
    }
    let netfilter = &sample.host.netfilter;
    if netfilter.iptables_nft.value().is_none() && netfilter.iptables_legacy.value().is_none() {
        return None;
    }
    let places = each(record, service, sample);
    let wrong = |place: &RulesVerdict| {
        ways.iter().any(|(_, t)| matches!(place.of(*t), Rules::Missing { .. } | Rules::Stale { .. }))
    };
    let right = |place: &RulesVerdict| {
        ways.iter().all(|(_, t)| matches!(place.of(*t), Rules::Present | Rules::NoEndpoints { .. } | Rules::NotServed))
    };
    Some(places.len() >= 2 && places.iter().any(wrong) && places.iter().any(right))
}

fn each(record: &EvidenceRecord, service: &DnsService, sample: &Sample) -> Vec<RulesVerdict> {
    let expected = Expected::of(&record.targets, Family::Ipv4, &record.node);
    kubeproxy::judge_each(service, &expected, &sample.host.netfilter)
}

fn says(place: &RulesVerdict, ways: &[Way]) -> String {
    let of = |transport| match place.of(transport) {
        Rules::Present => "as the API says".to_owned(),
        Rules::Missing { what } => format!("missing: {what}"),
        Rules::Stale { extra, .. } if extra.is_empty() => "refuses or leaves out ready endpoints".to_owned(),
        Rules::Stale { extra, .. } => {
            let list = extra.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("sends to {list}, which the API does not name")
        }
        Rules::NoEndpoints { action } => format!("{action}: no endpoints"),
        Rules::NotServed => "no such port".to_owned(),
        Rules::Unknown { why } => format!("not to be told: {why}"),
    };
    let transports = [Transport::Udp, Transport::Tcp].into_iter().filter(|t| ways.iter().any(|(_, w)| w == t));
    transports.map(|t| format!("{t}: {}", of(t))).collect::<Vec<_>>().join("; ")
}

fn lines(record: &EvidenceRecord, ways: &[Way]) -> Vec<Evidence> {
    let mut lines: Vec<Evidence> = ways
        .iter()
        .filter_map(|way| record.matrix.bad(internal(*way)).next())
        .map(|(path, state)| probe_line(path, state.failing.as_ref().unwrap_or(&state.last)))
        .collect();
    lines.extend(pods_answer(record));
    lines
}

/// `xtables-lock-held`.
pub fn lock_held(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let (service, ways) = match failing_ways(record) {
        Ok(found) => found,
        Err(result) => return result,
    };
    match record.held(|sample| is_locked_out(record, service, sample, &ways)) {
        Held::Twice => {}
        Held::Once => return RuleResult::Waiting("a second sample is awaited".to_owned()),
        // A lock that is not seen, or rules that are right or of a backend without the lock, say nothing.
        Held::No | Held::Unread => return RuleResult::NotApplicable,
    }
    if let Some(result) = unsettled(record) {
        return result;
    }
    let mut evidence = Vec::new();
    if let Some(lock) = record.current.as_ref().and_then(|s| s.host.xtables_lock.value()) {
        let holder = lock.holder.map(|pid| format!(" by process {pid}")).unwrap_or_default();
        evidence.push(Evidence::new(
            format!("{} /proc/locks", record.node),
            format!("/run/xtables.lock is held{holder}, {} wait for it, in two samples", lock.waiting),
        ));
    }
    let found = record.current.as_ref().and_then(|s| stale_in(record, service, s, &ways)).unwrap_or_default();
    evidence.extend(found.iter().map(|(transport, what)| {
        let place = format!("{} kube-proxy rules, {}", record.node, Mode::IptablesLegacy.label());
        Evidence::new(place, format!("{transport}: {what}, in two samples"))
    }));
    evidence.extend(lines(record, &ways));
    let picks: Vec<Pick<'_>> = ways.iter().map(|way| to_service(*way)).collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::XtablesLockHeld,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: Confidence::Certain,
        evidence,
        ruled_out: vec![not(Cause::ServiceRulesStale, "kube-proxy cannot write while another program holds the lock")],
        explains: view.explained(&picks),
    }])
}

/// Whether the rules are of the backend that takes the lock, not what the API says, and the lock is held.
pub(super) fn is_locked_out(
    record: &EvidenceRecord,
    service: &DnsService,
    sample: &Sample,
    ways: &[Way],
) -> Option<bool> {
    let lock = sample.host.xtables_lock.value()?;
    let verdict = compare(record, service, sample)?;
    if verdict.mode != Mode::IptablesLegacy {
        return Some(false);
    }
    let wrong = |(_, t): &Way| matches!(verdict.of(*t), Rules::Missing { .. } | Rules::Stale { .. });
    Some(lock.held && ways.iter().any(wrong))
}
