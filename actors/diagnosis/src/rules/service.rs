//! F09, F10, F11: the way of the DNS Service through kube-proxy's rules.

use std::time::Duration;

use nameward_kernel::kubeproxy::{Expected, Mode, PathState as Rules, RulesVerdict};
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Observation, Outcome, Purpose, QuestionKind};
use nameward_messages::targets::{DnsService, Family, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject, SubjectKind};

use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Held, Sample};
use crate::rules::{backends, unmodelled};

/// kube-proxy needs some time to follow: a difference counts only when the API has said the same for this long. Kubernetes'
/// own objective for it is 30 seconds (sig-scalability/slos/network_programming_latency.md).
pub const SETTLED: Duration = Duration::from_secs(30);
/// What does not depend on kube-proxy's haste counts sooner.
pub const STEADY: Duration = Duration::from_secs(10);

/// A vantage kind and transport over which the Service fails.
pub(super) type Way = (VantageKind, Transport);

const WAYS: [Way; 4] = [
    (VantageKind::Host, Transport::Udp),
    (VantageKind::Host, Transport::Tcp),
    (VantageKind::Pod, Transport::Udp),
    (VantageKind::Pod, Transport::Tcp),
];

/// Everything that is asked of the Service on a way.
pub(super) fn to_service((from, transport): Way) -> Pick<'static> {
    Pick { service: true, from: Some(from), transport: Some(transport), ..Pick::default() }
}

/// What is asked of it that CoreDNS answers itself: rules do not tell names apart, an upstream does.
pub(super) fn internal(way: Way) -> Pick<'static> {
    Pick { question: Some(QuestionKind::Internal), ..to_service(way) }
}

/// `service-without-endpoints`.
pub fn without_endpoints(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let to_it = Pick { service: true, ..Pick::default() };
    let asked = Pick { question: Some(QuestionKind::Internal), ..to_it };
    let Some((path, state)) = view.bad(asked).next() else { return RuleResult::NotApplicable };
    let Some(service) = &record.targets.service else { return RuleResult::NotApplicable };
    if let Some(ready) = record.targets.pods.iter().find(|p| p.ready && !p.terminating) {
        return RuleResult::RuledOut(format!("the API names {} as a ready endpoint", ready.key));
    }
    if record.rollout.in_progress {
        return RuleResult::RuledOut(format!("a rollout is under way ({})", record.rollout.because));
    }
    let known = record.targets.pods.len();
    let elsewhere = record.targets.pods.iter().any(|p| p.node.as_ref().is_some_and(|n| *n != record.node));
    if known > 0 && elsewhere {
        return RuleResult::RuledOut(format!("{known} CoreDNS pods exist and are not ready: their nodes judge them"));
    }
    if known > 0 && record.targets.pods.iter().all(|p| record.excuse(p).is_some()) {
        return RuleResult::RuledOut("the CoreDNS pods are starting or ending".to_owned());
    }
    let refuses = refused(record, service);
    if let Some(result) = younger(record, STEADY) {
        return result;
    }
    let sure = match refuses {
        Held::Once => return RuleResult::Waiting("a second sample is awaited".to_owned()),
        Held::Unread if !record.two_samples() => return RuleResult::Waiting("evidence is being read".to_owned()),
        Held::Twice if known == 0 => Confidence::Certain,
        // The API's word stands alone, or pods exist that are not ready for a reason of their own.
        Held::Twice | Held::Unread | Held::No => Confidence::Probable,
    };
    let mut evidence = vec![
        Evidence::new(
            format!("EndpointSlices of {}", service.key),
            if known == 0 { "no endpoint".to_owned() } else { format!("{known} endpoints, none ready") },
        ),
        probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
    ];
    if let Some(verdict) = record.current.as_ref().and_then(|s| compare(record, service, s)) {
        evidence.push(rules_line(record, &verdict, Transport::Udp));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ServiceWithoutEndpoints,
        scope: Scope::Cluster,
        subject: Subject::object(SubjectKind::Service, &service.key),
        confidence: sure,
        evidence,
        ruled_out: vec![not(Cause::ServiceRulesMissing, "kube-proxy has nothing to send to")],
        explains: view.explained(&[to_it]),
    }])
}

/// `service-rules-missing`.
pub fn missing(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let (service, ways) = match failing_ways(record) {
        Ok(found) => found,
        Err(result) => return result,
    };
    let gone = |sample: &Sample| -> Option<Vec<(Way, String)>> {
        let verdict = compare(record, service, sample)?;
        if verdict.mode == Mode::Absent {
            // Somebody must hand the Service out. If nothing else is there that could, it was kube-proxy.
            let served = ways.iter().filter(|(_, transport)| *verdict.of(*transport) != Rules::NotServed);
            let all = served.map(|way| (*way, format!("every rule of kube-proxy ({})", way.1))).collect();
            return unmodelled::nothing_else(record, sample)?.then_some(all);
        }
        let unknown = ways.iter().all(|(_, t)| matches!(verdict.of(*t), Rules::Unknown { .. }));
        if unknown {
            return None;
        }
        Some(ways.iter().filter_map(|way| lacks(&verdict, *way).map(|what| (*way, what))).collect())
    };
    if let Some(why) = elsewhere(record, service, &ways) {
        return RuleResult::RuledOut(why.to_owned());
    }
    let held = record.held(|sample| gone(sample).map(|list| !list.is_empty()));
    if let Some(result) = unknown(record, service, &ways).filter(|_| held == Held::Unread) {
        return result;
    }
    let mut sure = match confidence(record, held, false, "kube-proxy's rules for the Service are there") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    if let Some(result) = unsettled(record) {
        return result;
    }
    let lacking = record.current.as_ref().and_then(|s| gone(s)).unwrap_or_default();
    let verdict = record.current.as_ref().and_then(|s| compare(record, service, s));
    let mut evidence: Vec<Evidence> = Vec::new();
    if verdict.as_ref().is_some_and(|v| v.mode == Mode::Absent) {
        sure = Confidence::Probable;
        let says = "nothing else that hands Services out was found either (IPVS, eBPF, Open vSwitch, policy engines)";
        evidence.push(Evidence::new(format!("{} data planes", record.node), says));
    }
    for (_, what) in &lacking {
        let line = Evidence::new(where_read(record, verdict.as_ref()), format!("missing: {what}, in two samples"));
        if !evidence.contains(&line) {
            evidence.push(line);
        }
    }
    for way in &ways {
        let path = record.matrix.bad(internal(*way)).next();
        evidence.extend(path.map(|(p, s)| probe_line(p, s.failing.as_ref().unwrap_or(&s.last))));
    }
    evidence.extend(pods_answer(record));
    for hint in verdict.iter().flat_map(|v| &v.hints) {
        evidence.push(Evidence::new(format!("{} packet filters", record.node), hint.clone()));
    }
    let picks: Vec<Pick<'_>> = lacking.iter().map(|(way, _)| to_service(*way)).collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ServiceRulesMissing,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsUdpDead, "CoreDNS pods answer by their own addresses from this node"),
            not(Cause::ServiceWithoutEndpoints, "the API names ready endpoints"),
            not(Cause::ForwardPolicyDrop, "CoreDNS pods answer by their own addresses from this node"),
        ],
        explains: view.explained(&picks),
    }])
}

/// `service-rules-stale`.
pub fn stale(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let (service, ways) = match failing_ways(record) {
        Ok(found) => found,
        Err(result) => return result,
    };
    let wrong = |sample: &Sample| stale_in(record, service, sample, &ways);
    if let Some(why) = elsewhere(record, service, &ways) {
        return RuleResult::RuledOut(why.to_owned());
    }
    let held = record.held(|sample| wrong(sample).map(|list| !list.is_empty()));
    if let Some(result) = unknown(record, service, &ways).filter(|_| held == Held::Unread) {
        return result;
    }
    let sure = match confidence(record, held, false, "the rules send to the endpoints that the API names") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    if record.rollout.in_progress {
        return RuleResult::RuledOut(format!("a rollout is under way ({})", record.rollout.because));
    }
    if let Some(result) = unsettled(record) {
        return result;
    }
    let locked = |sample: &Sample| backends::is_locked_out(record, service, sample, &ways) == Some(true);
    if [&record.previous, &record.current].into_iter().flatten().any(|sample| locked(sample)) {
        return RuleResult::Waiting("the xtables lock was held a moment ago: kube-proxy may still follow".to_owned());
    }
    let found = record.current.as_ref().and_then(|s| wrong(s)).unwrap_or_default();
    let verdict = record.current.as_ref().and_then(|s| compare(record, service, s));
    let read = where_read(record, verdict.as_ref());
    let mut evidence: Vec<Evidence> =
        found.iter().map(|(t, what)| Evidence::new(read.clone(), format!("{t}: {what}, in two samples"))).collect();
    for way in &ways {
        let path = record.matrix.bad(internal(*way)).next();
        evidence.extend(path.map(|(p, s)| probe_line(p, s.failing.as_ref().unwrap_or(&s.last))));
    }
    // Nobody has the address: with 700 ms that is a time-out, with 4 s an ICMP error.
    let patient = ways.iter().flat_map(|way| record.matrix.bad(internal(*way)));
    let unreachable = |o: &&Observation| matches!(o.outcome, Outcome::HostUnreachable { .. });
    let late = patient.filter_map(|(path, _)| view.in_another_way(path, &Purpose::Patience)).find(unreachable);
    evidence
        .extend(late.map(|o| Evidence::new(format!("probe {} with 4 s of patience", o.path), o.outcome.to_string())));
    evidence.extend(pods_answer(record));
    let picks: Vec<Pick<'_>> =
        found.iter().map(|(t, _)| Pick { service: true, transport: Some(*t), ..Pick::default() }).collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ServiceRulesStale,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, "the rules are there"),
            not(Cause::CorednsUdpDead, "CoreDNS pods answer by their own addresses from this node"),
        ],
        explains: view.explained(&picks),
    }])
}

/// What is stale in the rules of one sample, for each transport that fails. `None`: not to be told.
pub(super) fn stale_in(
    record: &EvidenceRecord,
    service: &DnsService,
    sample: &Sample,
    ways: &[Way],
) -> Option<Vec<(Transport, String)>> {
    let verdict = compare(record, service, sample)?;
    if ways.iter().all(|(_, t)| matches!(verdict.of(*t), Rules::Unknown { .. })) {
        return None;
    }
    let mut found: Vec<(Transport, String)> = Vec::new();
    for (_, transport) in ways {
        let Rules::Stale { extra, missing } = verdict.of(*transport) else { continue };
        let ready = record.targets.pods.iter().filter(|p| p.ready).count();
        // Endpoints that are left out lose nobody a query unless it is all of them.
        let harms = !extra.is_empty() || (ready > 0 && missing.len() >= ready);
        if harms && !found.iter().any(|(t, _)| t == transport) {
            let list =
                |all: &[std::net::SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let what = match (extra.is_empty(), missing.is_empty()) {
                (false, true) => format!("sends to {}, which the API does not name", list(extra)),
                (false, false) => format!("sends to {} instead of {}", list(extra), list(missing)),
                _ => format!("refuses or leaves out every ready endpoint ({})", list(missing)),
            };
            found.push((*transport, what));
        }
    }
    Some(found)
}

/// Why wrong rules are another rule's to name: the smaller cause lies behind them.
fn elsewhere(record: &EvidenceRecord, service: &DnsService, ways: &[Way]) -> Option<&'static str> {
    if record.held(|sample| backends::is_torn(record, service, sample, ways)) == Held::Twice {
        return Some("rules of kube-proxy stand in two places, and one of them is right");
    }
    if record.held(|sample| backends::is_locked_out(record, service, sample, ways)) == Held::Twice {
        return Some("kube-proxy cannot write: another program holds the xtables lock");
    }
    None
}

/// Whether kube-proxy's rules here have no endpoint to send to, and refuse the Service.
pub(super) fn refused(record: &EvidenceRecord, service: &DnsService) -> Held {
    record.held(|sample| {
        let verdict = compare(record, service, sample)?;
        match (&verdict.udp, &verdict.tcp) {
            (Rules::Unknown { .. }, Rules::Unknown { .. }) => None,
            (udp, tcp) => Some([udp, tcp].into_iter().any(|s| matches!(s, Rules::NoEndpoints { .. }))),
        }
    })
}

/// How the rules compare with the API, in one sample.
pub(super) fn compare(record: &EvidenceRecord, service: &DnsService, sample: &Sample) -> Option<RulesVerdict> {
    // What was read before the API changed is not to be held against what it says now.
    if sample.at < record.targets_since {
        return None;
    }
    let expected = Expected::of(&record.targets, Family::Ipv4, &record.node);
    Some(unmodelled::judged(service, &expected, sample))
}

/// Why the rules say nothing of any of the ways that fail, if it is so.
fn unknown(record: &EvidenceRecord, service: &DnsService, ways: &[Way]) -> Option<RuleResult> {
    let verdict = compare(record, service, record.current.as_ref().filter(|_| record.two_samples())?)?;
    let why = ways.iter().map(|(_, transport)| match verdict.of(*transport) {
        Rules::Unknown { why } => Some(why.clone()),
        _ => None,
    });
    let all: Vec<String> = why.collect::<Option<_>>()?;
    all.into_iter().next().map(RuleResult::RuledOut)
}

/// kube-proxy is given time to follow the API.
pub(super) fn unsettled(record: &EvidenceRecord) -> Option<RuleResult> {
    younger(record, SETTLED)
}

/// The API has not said the same for long.
pub(super) fn younger(record: &EvidenceRecord, than: Duration) -> Option<RuleResult> {
    let young = record.now.mono.since(record.targets_since) < than;
    young.then(|| RuleResult::Waiting("the endpoints changed a moment ago: kube-proxy may still follow".to_owned()))
}

/// The ways on which the Service fails (IPv4) while a CoreDNS pod answers by its address on the same way. All that
/// are suspected count, explained or not: that the rules are not there is read, not inferred.
pub(super) fn failing_ways(record: &EvidenceRecord) -> Result<(&DnsService, Vec<Way>), RuleResult> {
    let Some(service) = &record.targets.service else { return Err(RuleResult::NotApplicable) };
    let fails = |way: &Way| record.matrix.bad(internal(*way)).any(|(path, _)| path.target.ip.is_ipv4());
    let failing: Vec<Way> = WAYS.into_iter().filter(fails).collect();
    if failing.is_empty() {
        return Err(RuleResult::NotApplicable);
    }
    let answers = |(from, transport): &Way| {
        let question = Some(QuestionKind::Internal);
        let pick = Pick { any_pod: true, from: Some(*from), transport: Some(*transport), question, ..Pick::default() };
        record.matrix.good(pick).next().is_some()
    };
    let ways: Vec<Way> = failing.into_iter().filter(answers).collect();
    if ways.is_empty() {
        return Err(RuleResult::RuledOut("no CoreDNS pod answers by its own address from here either".to_owned()));
    }
    Ok((service, ways))
}

/// What is missing on a way, if something is.
fn lacks(verdict: &RulesVerdict, (from, transport): Way) -> Option<String> {
    if let Rules::Missing { what } = verdict.of(transport) {
        return Some(format!("{what} ({transport})"));
    }
    if matches!(verdict.of(transport), Rules::Unknown { .. } | Rules::NotServed) {
        return None;
    }
    match from {
        VantageKind::Pod if !verdict.prerouting_jump => {
            Some("the jump from PREROUTING, which pods' queries take".to_owned())
        }
        VantageKind::Host if !verdict.output_jump => {
            Some("the jump from OUTPUT, which the host's queries take".to_owned())
        }
        VantageKind::Pod | VantageKind::Host => None,
    }
}

pub(super) fn where_read(record: &EvidenceRecord, verdict: Option<&RulesVerdict>) -> String {
    let mode = verdict.map_or("packet filters", |v| v.mode.label());
    format!("{} kube-proxy rules, {mode}", record.node)
}

pub(super) fn rules_line(record: &EvidenceRecord, verdict: &RulesVerdict, transport: Transport) -> Evidence {
    let says = match verdict.of(transport) {
        Rules::Present => "send to the endpoints that the API names".to_owned(),
        Rules::Missing { what } => format!("missing: {what}"),
        Rules::Stale { .. } => "send elsewhere than the API says".to_owned(),
        Rules::NoEndpoints { action } => format!("{action}: the Service has no endpoints"),
        Rules::NotServed => "the Service has no such port".to_owned(),
        Rules::Unknown { why } => format!("not to be told: {why}"),
    };
    Evidence::new(where_read(record, Some(verdict)), says)
}

pub(super) fn pods_answer(record: &EvidenceRecord) -> Option<Evidence> {
    let pick = Pick { any_pod: true, ..Pick::default() };
    let (path, state) = record.matrix.good(pick).next()?;
    Some(probe_line(path, &state.last))
}
