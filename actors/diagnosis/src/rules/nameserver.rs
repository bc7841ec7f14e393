//! F24: a pod's resolv.conf names a server that is not cluster DNS and does not answer.

use std::net::IpAddr;

use nameward_messages::namespaces::Namespace;
use nameward_messages::probe::{Outcome, PathKey};
use nameward_messages::targets::{Target, TargetKind};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, Tally, View, not, probe_line};
use crate::matrix::Pick;
use crate::record::EvidenceRecord;
use crate::rules::pod_route::MOST;
use crate::rules::resolver;

/// `wrong-nameserver`.
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

fn one(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let from_it = Pick { vantage: Some(&namespace.pod), ..Pick::default() };
    let failing = view.bad(from_it).find(|(path, _)| matches!(path.target.kind, TargetKind::Nameserver));
    let Some((path, state)) = failing else { return RuleResult::NotApplicable };
    let ip = path.target.ip;
    let refused = matches!(state.failing.as_ref().unwrap_or(&state.last), Outcome::Refused { .. });
    if ip.is_loopback() && refused {
        return RuleResult::RuledOut(format!("{ip} is the pod itself: nobody listens there"));
    }
    if resolver::out_of_reach(record, namespace).is_some() {
        return RuleResult::RuledOut(format!("{} names cluster DNS too, but too late to be read", namespace.key));
    }
    if let Some(reason) = not_wrong(record, namespace, ip) {
        return RuleResult::RuledOut(reason);
    }
    let Some(read_from) = namespace.resolv.read_from.as_ref().filter(|_| namespace.resolv.nameservers.contains(&ip))
    else {
        return RuleResult::RuledOut(format!("what resolver {} uses could not be read", namespace.key));
    };
    if !record.two_samples() {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    // The Service must answer the same pod, after the nameserver began to fail.
    let Some(service) =
        record.targets.service.as_ref().and_then(|s| s.cluster_ips.iter().find(|s| s.is_ipv4() == ip.is_ipv4()))
    else {
        return RuleResult::RuledOut("the DNS Service is not known".to_owned());
    };
    let to_service = PathKey { target: Target { kind: TargetKind::Service, ip: *service }, ..path.clone() };
    let seen = match view.latest(&to_service) {
        Some(seen) if Some(seen.at) >= state.suspected => seen,
        _ => return RuleResult::Waiting("the Service is being asked from the same pod".to_owned()),
    };
    if seen.outcome.good() != Some(true) || record.matrix.get(&to_service).is_some_and(|s| s.suspected.is_some()) {
        return RuleResult::RuledOut(format!("the Service does not answer {} either", namespace.key));
    }
    // Twice: a confirmed suspicion, and no good answer since.
    let answered = record.probes.iter().any(|o| {
        o.path.vantage == path.vantage
            && o.path.target.ip == ip
            && Some(o.at) >= state.suspected
            && o.outcome.good() == Some(true)
    });
    if answered {
        return RuleResult::RuledOut(format!("{ip} has answered since"));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::WrongNameserver,
        scope: Scope::Pod,
        subject: Subject::pod(&namespace.key, &namespace.pod),
        confidence: Confidence::Certain,
        evidence: vec![
            Evidence::new(
                format!("{} {read_from}", namespace.key),
                format!("nameserver {ip}; the DNS Service is {service}"),
            ),
            probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
            probe_line(&to_service, seen.outcome),
        ],
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, "the Service answers from the same pod"),
            not(Cause::PodRouteMissing, "the Service answers from the same pod"),
            not(Cause::UpstreamDead, format!("{ip} is not an upstream of CoreDNS or the node's resolver")),
        ],
        explains: view
            .open
            .iter()
            .filter(|p| from_it.takes(p) && matches!(p.target.kind, TargetKind::Nameserver) && p.target.ip == ip)
            .cloned()
            .collect(),
    }])
}

/// Why a nameserver is not wrong although it fails.
fn not_wrong(record: &EvidenceRecord, namespace: &Namespace, ip: IpAddr) -> Option<String> {
    if record.dns_pod(&namespace.pod).is_some() {
        return Some(format!("{} is CoreDNS itself: {ip} is its upstream", namespace.key));
    }
    if record.is_cluster_dns(ip) {
        return Some(format!("{ip} is cluster DNS"));
    }
    if matches!(ip, IpAddr::V4(v4) if v4.is_link_local()) {
        return Some(format!("{ip} is a cache on the node"));
    }
    if record.upstreams().contains_key(&ip) {
        return Some(format!("{ip} is the upstream of CoreDNS"));
    }
    let own = record.current.as_ref().and_then(|s| s.host.nameservers.value());
    if own.is_some_and(|list| list.contains(&ip)) {
        return Some(format!("{ip} is the node's own resolver (dnsPolicy Default)"));
    }
    None
}
