//! F40: a route inside a pod covers the Service's address and leads elsewhere than its default route.

use std::net::IpAddr;

use nameward_kernel::facts::{FibResult, RouteKind};
use nameward_messages::namespaces::Namespace;
use nameward_messages::verdict::{Cause, Evidence, Scope};

use super::links::{each, failed, is_hosts, silent, subject, topology_of, unresolved};
use crate::finding::{Finding, RuleResult, View, confidence, not, pod_name, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};

/// `service-range-overlapped`.
pub fn judge(view: &View<'_>) -> RuleResult {
    each(view, one)
}

fn one(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let Some((service, found)) = record.current.as_ref().and_then(|s| overlap(record, s, namespace)) else {
        return RuleResult::NotApplicable;
    };
    let to_service = Pick { vantage: Some(&namespace.pod), service: true, ..Pick::default() };
    let Some((path, state)) = silent(view, to_service) else { return RuleResult::NotApplicable };
    if let Some((good, _)) = record.matrix.good(to_service).find(|(p, _)| p.target.ip == service) {
        return RuleResult::RuledOut(format!("{good} is answered"));
    }
    let held = record.held(|sample| {
        topology_of(sample, &namespace.pod)?;
        Some(overlap(record, sample, namespace).is_some())
    });
    let sure = match confidence(record, held, false, "the Service's address goes by the pod's default route") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![
        probe_line(path, failed(state)),
        Evidence::new(format!("{} FIB lookup of {service}", namespace.key), format!("{found}, in two samples")),
    ];
    evidence.extend(sibling_line(record, namespace, service));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ServiceRangeOverlapped,
        scope: Scope::Pod,
        subject: subject(namespace),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, "the pod's queries to the Service do not come to the node"),
            not(Cause::PodRouteMissing, "the pod has a default route"),
        ],
        explains: view.explained(&[to_service]),
    }])
}

/// The Service's address, and the route in the pod that keeps it from the default route.
fn overlap(record: &EvidenceRecord, sample: &Sample, namespace: &Namespace) -> Option<(IpAddr, String)> {
    let topology = topology_of(sample, &namespace.pod)?;
    let service = *record.targets.service.as_ref()?.cluster_ips.iter().find(|ip| ip.is_ipv4())?;
    topology.default_routes(true).next()?;
    match topology.lookup(service)? {
        FibResult::Route { kind: RouteKind::Unicast, matched: Some((net, prefix)), gateway, out_link, .. } => {
            let link = out_link.and_then(|i| topology.link_at(i)).map_or("no link", |l| l.name.as_str());
            match gateway {
                // A route of its own that leads to the node is as good as the default route.
                Some(ip) if namespace.gateway == Some(*ip) || is_hosts(sample, *ip) != Some(false) => None,
                Some(ip) => Some((service, format!("{net}/{prefix} via {ip} dev {link}"))),
                None => {
                    // Somebody may answer for every address on purpose.
                    let answered = topology.neighbours.iter().any(|n| n.ip == service && !unresolved(n));
                    (!answered).then(|| (service, format!("{net}/{prefix} dev {link}, on link")))
                }
            }
        }
        FibResult::Nowhere { kind } => {
            let what = match kind {
                RouteKind::Blackhole => "a blackhole",
                RouteKind::Prohibit => "prohibited",
                _ => "unreachable",
            };
            Some((service, what.to_owned()))
        }
        // A local route: the address is the pod's own.
        FibResult::Route { kind: RouteKind::Local, .. } => Some((service, "an address of the pod's own".to_owned())),
        FibResult::Route { .. } | FibResult::NoRoute => None,
    }
}

fn sibling_line(record: &EvidenceRecord, namespace: &Namespace, service: IpAddr) -> Option<Evidence> {
    let sample = record.current.as_ref()?;
    let (uid, gateway) = sample.pods.iter().filter(|(uid, _)| **uid != namespace.pod).find_map(|(uid, readings)| {
        match readings.topology.value()?.lookup(service)? {
            FibResult::Route { matched: None, gateway: Some(gateway), .. } => Some((uid, gateway)),
            _ => None,
        }
    })?;
    Some(Evidence::new(format!("{} FIB lookup of {service}", pod_name(record, uid)), format!("default via {gateway}")))
}
