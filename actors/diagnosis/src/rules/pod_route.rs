//! F31: a pod has no default route.

use nameward_kernel::facts::Topology;
use nameward_messages::namespaces::Namespace;
use nameward_messages::probe::{Outcome, QuestionKind};
use nameward_messages::verdict::{Cause, Evidence, Subject};

use crate::finding::{Finding, RuleResult, Tally, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};
use crate::rules::links::{excuse, scope};

/// Most pods that one judgement names one by one.
pub const MOST: usize = 8;

/// `pod-route-missing`.
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
    let from_it = Pick { vantage: Some(&namespace.pod), ..Pick::default() };
    let unreachable =
        view.bad(from_it).find(|(_, s)| matches!(s.failing.as_ref().unwrap_or(&s.last), Outcome::NetworkUnreachable));
    let Some((path, state)) = unreachable else { return RuleResult::NotApplicable };
    let v4 = path.target.ip.is_ipv4();
    let record = view.record;
    let held = record.held(|sample| {
        let topology = topology_of(sample, namespace)?;
        // Without a link that is up the routes went with it: that is another fault.
        Some(has_link(topology) && topology.default_routes(v4).next().is_none())
    });
    let contradicted = match record.current.as_ref().and_then(|s| topology_of(s, namespace)) {
        Some(topology) if !has_link(topology) => "the pod's own link is down, and its routes went with it",
        _ => "the pod has a default route",
    };
    let sure = match confidence(record, held, false, contradicted) {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    if let Some(excused) = excuse(record, &namespace.pod) {
        return excused;
    }
    let count = record.current.as_ref().and_then(|s| topology_of(s, namespace)).map_or(0, |t| t.routes.len());
    let mut evidence = vec![
        probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
        Evidence::new(
            format!("{} rtnetlink routes", namespace.key),
            format!("no default route among {count}, in two samples"),
        ),
    ];
    let mut ruled_out = vec![
        not(Cause::VethOffBridge, "the pod's own kernel refuses: nothing is sent"),
        not(Cause::ForwardPolicyDrop, "the pod's own kernel refuses: nothing is sent"),
    ];
    if let Some(line) = sibling_route(record, namespace, v4) {
        evidence.push(line);
        ruled_out.push(not(
            Cause::ServiceRulesMissing,
            "other pods of the node have their route and are not affected alike",
        ));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::PodRouteMissing,
        scope: scope(record, &namespace.pod),
        subject: Subject::pod(&namespace.key, &namespace.pod),
        confidence: sure,
        evidence,
        ruled_out,
        // A CoreDNS pod without the route cannot reply beyond its own subnet either, nor ask an upstream.
        explains: view.explained(&[
            from_it,
            Pick {
                pod: Some(&namespace.pod),
                from: Some(nameward_messages::namespaces::VantageKind::Pod),
                ..Pick::default()
            },
            Pick { pod: Some(&namespace.pod), question: Some(QuestionKind::External), ..Pick::default() },
        ]),
    }])
}

fn topology_of<'a>(sample: &'a Sample, namespace: &Namespace) -> Option<&'a Topology> {
    sample.pods.get(&namespace.pod)?.topology.value()
}

fn has_link(topology: &Topology) -> bool {
    topology.links.iter().any(|l| l.up && l.name != "lo")
}

fn sibling_route(record: &EvidenceRecord, namespace: &Namespace, v4: bool) -> Option<Evidence> {
    let sample = record.current.as_ref()?;
    let (uid, route) = sample
        .pods
        .iter()
        .filter(|(uid, _)| **uid != namespace.pod)
        .find_map(|(uid, readings)| Some((uid, readings.topology.value()?.default_routes(v4).next()?.gateway)))?;
    let name = crate::finding::pod_name(record, uid);
    let via = route.map_or("on link".to_owned(), |gateway| format!("via {gateway}"));
    Some(Evidence::new(format!("{name} rtnetlink routes"), format!("default {via}")))
}
