//! F17, F53, F55: what a pod's own resolv.conf says cannot work, whoever answers.

use std::net::IpAddr;

use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::pods::HostNetworkPod;
use nameward_messages::probe::Outcome;
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, Tally, View, not, probe_line};
use crate::matrix::Pick;
use crate::record::{APART, EvidenceRecord};
use crate::rules::answers::twice;
use crate::rules::pod_route::MOST;

/// Nameservers that a resolver reads: `MAXNS` of glibc's and musl's resolv.h.
pub const READ: usize = 3;

fn each(view: &View<'_>, one: impl Fn(&View<'_>, &Namespace) -> RuleResult) -> RuleResult {
    let mut tally = Tally::default();
    for namespace in view.record.namespaces.values() {
        // Of CoreDNS these are upstreams: another family.
        if view.record.dns_pod(&namespace.pod).is_none() {
            tally.add(one(view, namespace));
        }
    }
    match tally.done() {
        RuleResult::Verdicts(mut findings) => {
            findings.truncate(MOST);
            RuleResult::Verdicts(findings)
        }
        other => other,
    }
}

/// `loopback-nameserver`: nobody listens in the pod on the loopback address that its resolv.conf names.
pub fn loopback(view: &View<'_>) -> RuleResult {
    each(view, stub)
}

fn stub(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let from_it = Pick { vantage: Some(&namespace.pod), ..Pick::default() };
    let to_it = |ip: IpAddr, kind: &TargetKind| ip.is_loopback() && matches!(kind, TargetKind::Nameserver);
    let Some((path, state)) = view.bad(from_it).find(|(p, _)| to_it(p.target.ip, &p.target.kind)) else {
        return RuleResult::NotApplicable;
    };
    let ip = path.target.ip;
    let seen = state.failing.as_ref().unwrap_or(&state.last);
    // The pod's own kernel says that there is no listener. Silence says that there is one.
    if !matches!(seen, Outcome::Refused { .. }) {
        return RuleResult::RuledOut(format!("{ip} in {} is not refused: {seen}", namespace.key));
    }
    let Some(read) = namespace.resolv.read_from.as_ref().filter(|_| namespace.resolv.nameservers.contains(&ip)) else {
        return RuleResult::RuledOut(format!("what resolver {} uses could not be read", namespace.key));
    };
    if !twice(view.record, path) {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    let mut refused = probe_line(path, seen);
    refused.says.push_str(": nobody listens there in the pod");
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::LoopbackNameserver,
        scope: Scope::Pod,
        subject: Subject::pod(&namespace.key, &namespace.pod),
        confidence: Confidence::Certain,
        evidence: vec![Evidence::new(format!("{} {read}", namespace.key), format!("nameserver {ip}")), refused],
        ruled_out: vec![
            not(Cause::WrongNameserver, "the address leads to the pod itself, not to another server"),
            not(Cause::PodFilterDrop, "the pod's kernel refuses for want of a listener"),
        ],
        explains: view
            .open
            .iter()
            .filter(|p| from_it.takes(p) && to_it(p.target.ip, &p.target.kind))
            .cloned()
            .collect(),
    }])
}

/// `resolv-conf-limits`: the cluster's nameserver stands where no resolver reads it, and those before it do not know the
/// cluster's names. Without that, a long resolv.conf harms nobody.
pub fn limits(view: &View<'_>) -> RuleResult {
    each(view, beyond)
}

/// The place of cluster DNS among a pod's nameservers, from 0, if no resolver reads so far.
pub(super) fn out_of_reach(record: &EvidenceRecord, namespace: &Namespace) -> Option<usize> {
    let mut servers = namespace.resolv.nameservers.iter();
    servers.position(|ip| record.is_cluster_dns(*ip)).filter(|place| *place >= READ)
}

fn beyond(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let from_it = Pick { vantage: Some(&namespace.pod), ..Pick::default() };
    let is_server = |kind: &TargetKind| matches!(kind, TargetKind::Nameserver);
    let failing: Vec<_> = view.bad(from_it).filter(|(p, _)| is_server(&p.target.kind)).collect();
    let Some((path, _)) = failing.first() else { return RuleResult::NotApplicable };
    let servers = &namespace.resolv.nameservers;
    let Some(place) = out_of_reach(record, namespace) else { return RuleResult::NotApplicable };
    let Some(read) = &namespace.resolv.read_from else { return RuleResult::NotApplicable };
    let answers = |ip: &IpAddr| {
        let mut good = record.matrix.good(from_it);
        good.any(|(p, _)| p.target.ip == *ip && is_server(&p.target.kind))
    };
    if let Some(ip) = servers.iter().take(READ).find(|ip| answers(ip)) {
        return RuleResult::RuledOut(format!("{ip}, which is read, knows the cluster's names"));
    }
    if !twice(record, path) {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    let listed = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut evidence = vec![Evidence::new(
        format!("{} {read}", namespace.key),
        format!("nameservers {listed}: cluster DNS is number {}, resolvers read {READ}", place + 1),
    )];
    evidence.extend(failing.iter().take(3).map(|(p, s)| probe_line(p, s.failing.as_ref().unwrap_or(&s.last))));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ResolvConfLimits,
        scope: Scope::Pod,
        subject: Subject::pod(&namespace.key, &namespace.pod),
        confidence: Confidence::Certain,
        evidence,
        ruled_out: vec![not(Cause::WrongNameserver, "cluster DNS is named as well, but too late to be read")],
        explains: failing.into_iter().map(|(p, _)| p.clone()).collect(),
    }])
}

/// `host-network-dns-policy`: a pod on the host's network with `dnsPolicy: ClusterFirst` gets the node's resolver (the kubelet
/// says so in an Event at most), is told names of the cluster, and that resolver does not know them. A host-network pod that
/// is told none needs none: most of a cluster's own are such.
pub fn host_network(view: &View<'_>) -> RuleResult {
    let mut tally = Tally::default();
    for pod in view.record.misfits.iter().take(MOST) {
        tally.add(misfit(view.record, pod));
    }
    tally.done()
}

fn misfit(record: &EvidenceRecord, pod: &HostNetworkPod) -> RuleResult {
    if pod.dns_nameservers.iter().any(|ip| record.is_cluster_dns(*ip)) {
        return RuleResult::RuledOut(format!("dnsConfig of {} names cluster DNS", pod.key));
    }
    let read = record.current.as_ref().map(|sample| &sample.host.nameservers);
    let mut evidence = vec![
        Evidence::new(format!("{} spec", pod.key), "hostNetwork: true, dnsPolicy: ClusterFirst"),
        Evidence::new(format!("{} spec, container {}", pod.key, pod.container), format!("is told {}", pod.name)),
    ];
    let mut sure = Confidence::Probable;
    match read.map(|reading| (reading, reading.value())) {
        Some((_, Some(servers))) => {
            if let Some(ip) = servers.iter().find(|ip| record.is_cluster_dns(**ip)) {
                return RuleResult::RuledOut(format!("the node's own resolver is cluster DNS ({ip})"));
            }
            for ip in servers.iter().take(READ) {
                let seen: Vec<_> = record.asked(&Vantage::Host, *ip).filter(|o| o.outcome.good().is_some()).collect();
                let (Some(first), Some(last)) = (seen.first(), seen.last()) else {
                    return RuleResult::Waiting("the node's resolver is being asked".to_owned());
                };
                if seen.iter().any(|o| o.outcome.good() == Some(true)) {
                    return RuleResult::RuledOut(format!("the node's resolver {ip} knows the cluster's names"));
                }
                if last.at.since(first.at) < APART {
                    return RuleResult::Waiting("the node's resolver is being asked a second time".to_owned());
                }
                evidence.push(probe_line(&last.path, &last.outcome));
                sure = Confidence::Certain;
            }
        }
        Some((reading, None)) => {
            let why = reading.missing().unwrap_or_default();
            evidence.push(Evidence::new(format!("{} resolv.conf", record.node), why));
        }
        None => return RuleResult::Waiting("the node's resolver is being read".to_owned()),
    }
    if !record.two_samples() {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::HostNetworkDnsPolicy,
        scope: Scope::Pod,
        subject: Subject::pod(&pod.key, &pod.uid),
        confidence: sure,
        evidence,
        ruled_out: vec![not(Cause::WrongNameserver, "it has the node's nameservers, as its spec asks for")],
        explains: std::collections::BTreeSet::new(),
    }])
}
