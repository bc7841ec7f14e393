//! F32: a pod's default route leads to an address that is not the node's.

use std::net::IpAddr;

use nameward_messages::namespaces::{Namespace, VantageKind};
use nameward_messages::probe::QuestionKind;
use nameward_messages::verdict::{Cause, Evidence};

use super::links::{each, excuse, failed, is_hosts, no_answer, scope, subject, topology_of, unresolved};
use crate::finding::{Finding, RuleResult, View, confidence, not, pod_name, probe_line};
use crate::matrix::{Pick, vantage_pod};
use crate::record::{EvidenceRecord, Sample};

/// `wrong-gateway`.
pub fn judge(view: &View<'_>) -> RuleResult {
    each(view, one)
}

fn one(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let Some(gateway) = record.current.as_ref().and_then(|s| wrong(record, s, namespace)) else {
        return RuleResult::NotApplicable;
    };
    let from_it = Pick { vantage: Some(&namespace.pod), ..Pick::default() };
    let beyond = |path: &nameward_messages::probe::PathKey| {
        vantage_pod(path) == Some(&namespace.pod) && leaves_subnet(record, namespace, path.target.ip)
    };
    let lost = view.bad(from_it).find(|(path, state)| beyond(path) && no_answer(failed(state)));
    let Some((path, state)) = lost else { return RuleResult::NotApplicable };
    if let Some((good, _)) = record.matrix.good(from_it).find(|(path, _)| beyond(path)) {
        return RuleResult::RuledOut(format!("{} reaches {}", namespace.key, good.target));
    }
    if let Some(excused) = excuse(record, &namespace.pod) {
        return excused;
    }
    let held = record.held(|sample| {
        topology_of(sample, &namespace.pod)?;
        sample.host.topology.value()?;
        Some(wrong(record, sample, namespace) == Some(gateway))
    });
    let sure = match confidence(record, held, false, "the pod's gateway is the node's") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![
        probe_line(path, failed(state)),
        Evidence::new(
            format!("{} rtnetlink routes", namespace.key),
            format!("default via {gateway}, which is no address of {}, in two samples", record.node),
        ),
    ];
    evidence.extend(record.current.as_ref().and_then(|s| neighbour_line(s, namespace, gateway)));
    evidence.extend(record.current.as_ref().and_then(|s| expected_line(record, s, namespace)));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::WrongGateway,
        scope: scope(record, &namespace.pod),
        subject: subject(namespace),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::PodRouteMissing, "the pod has a default route"),
            not(Cause::BridgeDown, "the node has the gateway's address that pods were given"),
            not(Cause::ForwardPolicyDrop, "what the pod sends does not come to the node"),
        ],
        // A CoreDNS pod with it cannot reply beyond its own network either, nor ask an upstream.
        explains: view.explained(&[
            from_it,
            Pick { pod: Some(&namespace.pod), from: Some(VantageKind::Pod), ..Pick::default() },
            Pick { pod: Some(&namespace.pod), question: Some(QuestionKind::External), ..Pick::default() },
        ]),
    }])
}

/// The pod's gateway, if it is neither the node's nor the one that it was given.
fn wrong(record: &EvidenceRecord, sample: &Sample, namespace: &Namespace) -> Option<IpAddr> {
    let gateway = topology_of(sample, &namespace.pod)?.default_routes(true).next()?.gateway?;
    let given = expected(record, sample, namespace).map(|(ip, _)| ip)?;
    (gateway != given && is_hosts(sample, gateway) == Some(false)).then_some(gateway)
}

/// The gateway that the CNI result gave the pod, else the one that its siblings have; and who says so.
fn expected(record: &EvidenceRecord, sample: &Sample, namespace: &Namespace) -> Option<(IpAddr, String)> {
    if let Some(given) = namespace.gateway {
        return Some((given, "CNI result".to_owned()));
    }
    sample.pods.iter().filter(|(uid, _)| **uid != namespace.pod).find_map(|(uid, readings)| {
        let gateway = readings.topology.value()?.default_routes(true).next()?.gateway?;
        Some((gateway, format!("{} rtnetlink routes", pod_name(record, uid))))
    })
}

fn expected_line(record: &EvidenceRecord, sample: &Sample, namespace: &Namespace) -> Option<Evidence> {
    let (gateway, read) = expected(record, sample, namespace)?;
    Some(Evidence::new(read, format!("the gateway is {gateway}")))
}

fn neighbour_line(sample: &Sample, namespace: &Namespace, gateway: IpAddr) -> Option<Evidence> {
    let entry = topology_of(sample, &namespace.pod)?.neighbours.iter().find(|n| n.ip == gateway)?;
    let says = match &entry.mac {
        Some(mac) if !unresolved(entry) => format!("{gateway} is {mac}"),
        _ => format!("nobody answers for {gateway}"),
    };
    Some(Evidence::new(format!("{} rtnetlink neighbours", namespace.key), says))
}

/// Whether the pod's default route is what leads there.
fn leaves_subnet(record: &EvidenceRecord, namespace: &Namespace, to: IpAddr) -> bool {
    let Some(topology) = record.current.as_ref().and_then(|s| topology_of(s, &namespace.pod)) else { return false };
    to.is_ipv4()
        && !topology
            .routes
            .iter()
            .any(|r| r.v4 && r.destination.is_some_and(|(net, prefix)| super::links::same_network(net, to, prefix)))
}
