//! F29: the node does not forward packets.

use nameward_messages::namespaces::VantageKind;
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use super::forward;
use super::links::{bridge_of, crosses, failed, no_answer};
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};

/// `ip-forward-off`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(off) = record.current.as_ref().and_then(|s| off(record, s)).filter(|off| !off.is_empty()) else {
        return RuleResult::NotApplicable;
    };
    let from_pods = Pick { from: Some(VantageKind::Pod), ..Pick::default() };
    let lost = view.bad(from_pods).find(|(path, state)| crosses(record, path) && no_answer(failed(state)));
    let Some((path, state)) = lost else { return RuleResult::NotApplicable };
    // What was answered before this began, and not asked since, says nothing: a busy node sweeps slowly.
    let began = state.suspected.unwrap_or_default();
    let mut good = record.matrix.good(from_pods).filter(|(path, state)| crosses(record, path) && state.at >= began);
    if let Some((good, _)) = good.next() {
        return RuleResult::RuledOut(format!("{} does reach {}", good.vantage, good.target));
    }
    let held = record.held(|sample| self::off(record, sample).map(|now| now == off));
    let sure = match confidence(record, held, false, "the node forwards packets") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence: Vec<Evidence> = off
        .iter()
        .map(|name| Evidence::new(format!("{} sysctl net.ipv4.{name}", record.node), "0, in two samples"))
        .collect();
    evidence.push(probe_line(path, failed(state)));
    let host = record.matrix.good(Pick { from: Some(VantageKind::Host), ..Pick::default() }).next();
    evidence.extend(host.map(|(path, state)| probe_line(path, &state.last)));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::IpForwardOff,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ForwardPolicyDrop, "packets that are not forwarded do not get as far as FORWARD"),
            not(Cause::ServiceRulesMissing, "pods fail by CoreDNS pods' own addresses too"),
            not(Cause::VethOffBridge, "every pod of the node fails alike"),
        ],
        explains: forward::explains(view),
    }])
}

/// The sysctls that keep the node from forwarding for its pods; `None`: not to be told.
fn off(record: &EvidenceRecord, sample: &Sample) -> Option<Vec<String>> {
    let sysctls = sample.host.sysctls.value()?;
    // Each device's own value is what counts (`IN_DEV_FORWARD()`); `ip_forward` is that of none, and sets all when it is written.
    if sysctls.ip_forward? == 0 && !sysctls.forwarding.values().any(|on| *on != 0) {
        return Some(vec!["ip_forward".to_owned()]);
    }
    let mut devices: Vec<String> =
        record.namespaces.values().filter_map(|n| bridge_of(sample, n)).map(|l| l.name.clone()).collect();
    if let Some(host) = sample.host.topology.value() {
        let up = host.default_routes(true).filter_map(|r| host.link_at(r.out_link?)).map(|l| l.name.clone());
        devices.extend(up);
    }
    devices.sort();
    devices.dedup();
    devices.retain(|device| sysctls.forwarding.get(device) == Some(&0));
    Some(devices.into_iter().map(|device| format!("conf.{device}.forwarding")).collect())
}
