//! F11, F51: what the Service's own object says: a port is missing, it is gone, it keeps traffic on the node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{DnsService, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject, SubjectKind};

use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::EvidenceRecord;
use crate::rules::service::{STEADY, compare, pods_answer, refused, rules_line, younger};

/// For so long the Service's object must have been what it is.
const STANDS: Duration = Duration::from_secs(4);

/// `service-port-missing`.
pub fn port_missing(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(service) = &record.targets.service else { return RuleResult::NotApplicable };
    let lacks: Vec<Transport> = [(Transport::Udp, &service.udp_port), (Transport::Tcp, &service.tcp_port)]
        .into_iter()
        .filter_map(|(transport, port)| port.is_none().then_some(transport))
        .collect();
    let [transport] = lacks.as_slice() else {
        // Without any DNS port it is no DNS Service: that it was found by its name alone is not enough to judge it.
        return RuleResult::NotApplicable;
    };
    let over = Pick { service: true, transport: Some(*transport), ..Pick::default() };
    let Some((path, state)) = view.bad(Pick { question: Some(QuestionKind::Internal), ..over }).next() else {
        return RuleResult::NotApplicable;
    };
    if let Some(result) = too_soon(record) {
        return result;
    }
    let upper = transport.to_string().to_uppercase();
    let mut evidence = vec![
        Evidence::new(format!("Service {}", service.key), format!("spec.ports has no DNS port by {upper}")),
        probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
    ];
    let other = if *transport == Transport::Udp { Transport::Tcp } else { Transport::Udp };
    let good = Pick { service: true, transport: Some(other), ..Pick::default() };
    evidence.extend(record.matrix.good(good).next().map(|(path, seen)| probe_line(path, &seen.last)));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ServicePortMissing,
        scope: Scope::Cluster,
        subject: Subject::object(SubjectKind::Service, &service.key),
        confidence: Confidence::Certain,
        evidence,
        ruled_out: vec![
            not(
                Cause::ServiceRulesMissing,
                format!("the Service itself has no port by {upper}: kube-proxy has nothing to write"),
            ),
            not(Cause::PacketFilterDrop, format!("the Service itself has no port by {upper}")),
        ],
        explains: view.explained(&[over]),
    }])
}

/// `service-missing`.
pub fn missing(view: &View<'_>) -> RuleResult {
    let record = view.record;
    // Without a word from the API nothing is missing: it was there, and now the API says that it is not.
    let (None, Some(last)) = (&record.targets.service, &record.last_service) else { return RuleResult::NotApplicable };
    let asked = |path: &PathKey| {
        matches!(path.target.kind, TargetKind::Nameserver | TargetKind::Service)
            && last.cluster_ips.contains(&path.target.ip)
    };
    let mut failing = view.bad(Pick::default()).filter(|(path, _)| asked(path));
    let Some((path, state)) = failing.next() else { return RuleResult::NotApplicable };
    if let Some(result) = too_soon(record) {
        return result;
    }
    let from: BTreeSet<String> =
        view.bad(Pick::default()).filter(|(path, _)| asked(path)).map(|(path, _)| path.vantage.to_string()).collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ServiceMissing,
        scope: Scope::Cluster,
        subject: Subject::object(SubjectKind::Service, &last.key),
        confidence: Confidence::Certain,
        evidence: vec![
            Evidence::new(
                format!("Service {}", last.key),
                format!("the API says that it is gone; it had {}", list(last)),
            ),
            Evidence::new(
                format!("{} resolv.conf of pods", record.node),
                format!("{} pods of this node still name {}", naming(record, &last.cluster_ips), path.target.ip),
            ),
            probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
            Evidence::new("probe".to_owned(), format!("{} vantages of {} fail so", from.len(), record.node)),
        ],
        ruled_out: vec![
            not(Cause::WrongNameserver, "the address was the DNS Service's until it was deleted"),
            not(Cause::ServiceRulesMissing, "kube-proxy is right to have no rules: there is no Service"),
        ],
        explains: view.open.iter().filter(|path| asked(path)).cloned().collect(),
    }])
}

fn list(service: &DnsService) -> String {
    service.cluster_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn naming(record: &EvidenceRecord, ips: &[IpAddr]) -> usize {
    record.namespaces.values().filter(|n| n.resolv.nameservers.iter().any(|ip| ips.contains(ip))).count()
}

/// `no-local-endpoint`.
pub fn no_local(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(service) = record.targets.service.as_ref().filter(|s| s.internal_traffic_local) else {
        return RuleResult::NotApplicable;
    };
    let to_it = Pick { service: true, ..Pick::default() };
    let asked = Pick { question: Some(QuestionKind::Internal), ..to_it };
    let Some((path, state)) = view.bad(asked).find(|(_, s)| {
        let seen = s.failing.as_ref().unwrap_or(&s.last);
        matches!(
            seen,
            Outcome::Timeout | Outcome::NotPermitted | Outcome::Refused { .. } | Outcome::HostUnreachable { .. }
        )
    }) else {
        return RuleResult::NotApplicable;
    };
    let ready = |here: bool| {
        record
            .targets
            .pods
            .iter()
            .find(|p| p.ready && !p.terminating && (p.node.as_ref() == Some(&record.node)) == here)
    };
    if let Some(pod) = ready(true) {
        return RuleResult::RuledOut(format!("{} is ready on this node", pod.key));
    }
    let Some(elsewhere) = ready(false) else {
        return RuleResult::RuledOut("there is no ready endpoint on any node".to_owned());
    };
    let drops = refused(record, service);
    if let Some(result) = younger(record, STEADY) {
        return result;
    }
    let sure = match confidence(record, drops, true, "kube-proxy's rules do not refuse the Service on this node") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![
        Evidence::new(
            format!("Service {}", service.key),
            format!("internalTrafficPolicy: Local; no ready endpoint on {}, one is {}", record.node, elsewhere.key),
        ),
        probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
    ];
    if let Some(verdict) = record.current.as_ref().and_then(|s| compare(record, service, s)) {
        evidence.push(rules_line(record, &verdict, Transport::Udp));
    }
    evidence.extend(pods_answer(record));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::NoLocalEndpoint,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, "kube-proxy writes what the Service's policy asks for"),
            not(Cause::ServiceWithoutEndpoints, format!("{} is ready", elsewhere.key)),
        ],
        explains: view.explained(&[to_it]),
    }])
}

/// What the API says of the Service must have stood for a while: `kubectl replace --force` deletes and creates.
fn too_soon(record: &EvidenceRecord) -> Option<RuleResult> {
    let young = record.now.mono.since(record.targets_since) < STANDS;
    (young || !record.two_samples()).then(|| RuleResult::Waiting("the Service changed a moment ago".to_owned()))
}
