//! F12: bridged packets bypass the node's packet filters, so that replies over the bridge are not translated back.

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Outcome, PathKey};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use super::links::{bridge_of, failed};
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::{PathState, Pick};
use crate::record::EvidenceRecord;

const TO_SERVICE: Pick<'static> = Pick {
    from: Some(VantageKind::Pod),
    vantage: None,
    pod: None,
    service: true,
    any_pod: false,
    transport: None,
    question: None,
};

/// `bridge-filter-off`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some((open, open_state)) = view.bad(TO_SERVICE).find(|(_, s)| bypassed(record, failed(s)).unwrap_or(true))
    else {
        return RuleResult::NotApplicable;
    };
    // TCP only times out: the reply from the pod's own address over UDP is what tells.
    let udp = Pick { transport: Some(Transport::Udp), ..TO_SERVICE };
    let wrong_source = |(_, state): &(&PathKey, &PathState)| {
        bypassed(record, failed(state)) == Some(true) || bypassed(record, &state.last) == Some(true)
    };
    let seen = record.matrix.iter().filter(|(path, _)| udp.takes(path)).find(wrong_source).map(|(path, state)| {
        (path, if bypassed(record, &state.last) == Some(true) { &state.last } else { failed(state) })
    });
    let asked = record.probes.iter().rev().find(|o| udp.takes(&o.path) && bypassed(record, &o.outcome) == Some(true));
    let Some((path, outcome)) = seen.or_else(|| asked.map(|o| (&o.path, &o.outcome))) else {
        return RuleResult::NotApplicable;
    };
    let bridged =
        record.current.as_ref().is_some_and(|s| record.namespaces.values().any(|n| bridge_of(s, n).is_some()));
    if record.current.is_some() && !bridged {
        return RuleResult::RuledOut("the pods are on no bridge".to_owned());
    }
    let held = record.held(|sample| Some(sample.host.sysctls.value()?.bridge_nf_call_iptables != Some(1)));
    let sure = match confidence(record, held, true, "net.bridge.bridge-nf-call-iptables is 1") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![probe_line(path, outcome)];
    if open != path {
        evidence.push(probe_line(open, failed(open_state)));
    }
    if let Some(sysctls) = record.current.as_ref().and_then(|s| s.host.sysctls.value()) {
        let says = match sysctls.bridge_nf_call_iptables {
            Some(value) => format!("{value}, in two samples"),
            None => "not there, in two samples: br_netfilter is not loaded".to_owned(),
        };
        evidence.push(Evidence::new(format!("{} sysctl net.bridge.bridge-nf-call-iptables", record.node), says));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::BridgeFilterOff,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, "the query was translated: a CoreDNS pod replied to it"),
            not(Cause::CorednsUdpDead, "the CoreDNS pod replied, from its own address"),
        ],
        explains: view.explained(&[TO_SERVICE]),
    }])
}

/// Whether the reply came from a CoreDNS pod of this node, past the translation. `None`: nothing came.
fn bypassed(record: &EvidenceRecord, outcome: &Outcome) -> Option<bool> {
    match outcome {
        Outcome::WrongSource { from } => Some(record.local_dns_pods().any(|pod| pod.ips.contains(&from.ip()))),
        Outcome::Timeout => None,
        _ => Some(false),
    }
}
