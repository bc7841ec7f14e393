//! F41: a CoreDNS pod cannot reach itself by the Service, because its bridge port does not send back where it came from.

use nameward_messages::probe::Outcome;
use nameward_messages::targets::DnsPod;
use nameward_messages::verdict::{Cause, Evidence, Scope};

use super::links::{bounded, failed, host_end, is_bridge};
use crate::finding::{Finding, RuleResult, Tally, View, confidence, dns_subject, not, probe_line};
use crate::matrix::{Pick, target_pod};
use crate::record::{EvidenceRecord, Sample};

/// `hairpin-off`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let mut tally = Tally::default();
    for pod in view.record.local_dns_pods() {
        tally.add(one(view, pod));
    }
    bounded(tally)
}

fn one(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let record = view.record;
    let to_service = Pick { vantage: Some(&pod.uid), service: true, ..Pick::default() };
    let lost = view.bad(to_service).find(|(_, s)| matches!(failed(s), Outcome::Timeout));
    let Some((path, state)) = lost else { return RuleResult::NotApplicable };
    if record.current.as_ref().and_then(|s| off(record, s, pod)) != Some(true) {
        return RuleResult::NotApplicable;
    }
    if record.dns_pod(&pod.uid).is_none_or(|p| !p.ready || p.terminating) {
        return RuleResult::RuledOut(format!("the Service does not send to {}", pod.key));
    }
    let others = record
        .matrix
        .bad(Pick { service: true, ..Pick::default() })
        .find(|(p, _)| crate::matrix::vantage_pod(p) != Some(&pod.uid));
    if let Some((other, _)) = others {
        return RuleResult::RuledOut(format!("{other} fails, too, and does not come back to where it came from"));
    }
    let elsewhere = record
        .matrix
        .bad(Pick { vantage: Some(&pod.uid), any_pod: true, ..Pick::default() })
        .find(|(p, _)| target_pod(p) != Some(&pod.uid));
    if let Some((other, _)) = elsewhere {
        return RuleResult::RuledOut(format!("{other} fails, too, and does not come back to where it came from"));
    }
    let held = record.held(|sample| off(record, sample, pod));
    let sure = match confidence(record, held, false, "hairpin mode is on") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let port = record
        .current
        .as_ref()
        .and_then(|s| host_end(s, record.namespaces.get(&pod.uid)?))
        .map_or("its port", |l| l.name.as_str());
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::HairpinOff,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence: sure,
        evidence: vec![
            probe_line(path, failed(state)),
            Evidence::new(
                format!("{} rtnetlink links", record.node),
                format!("hairpin mode of bridge port {port} (of {}) is off, in two samples", pod.key),
            ),
        ],
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, "other pods of the node reach the Service"),
            not(Cause::CorednsHung, "others are answered"),
        ],
        explains: view.explained(&[to_service]),
    }])
}

/// Whether hairpin mode of a pod's bridge port is off; `None`: not to be told, or on no bridge.
fn off(record: &EvidenceRecord, sample: &Sample, pod: &DnsPod) -> Option<bool> {
    let namespace = record.namespaces.get(&pod.uid)?;
    let link = host_end(sample, namespace)?;
    sample.host.topology.value()?.link_at(link.master?).filter(|l| is_bridge(l))?;
    Some(!link.port?.hairpin)
}
