//! F36: the pods' bridge is down or has lost its address.

use std::net::IpAddr;

use nameward_messages::namespaces::{Namespace, VantageKind};
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use super::links::{bridge_of, crosses, failed, is_hosts, no_answer, same_network, topology_of};
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};

/// How a bridge fails its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Down { bridge: String },
    NoAddress { bridge: String, gateway: IpAddr },
}

/// `bridge-down`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(fault) = record.current.as_ref().and_then(|s| fault(record, s)) else {
        return RuleResult::NotApplicable;
    };
    let from_pods = Pick { from: Some(VantageKind::Pod), ..Pick::default() };
    let lost = view.bad(from_pods).find(|(path, state)| crosses(record, path) && no_answer(failed(state)));
    let to_local = record.local_dns_pods().find_map(|pod| {
        let pick = Pick { pod: Some(&pod.uid), from: Some(VantageKind::Host), ..Pick::default() };
        view.bad(pick).find(|(_, state)| no_answer(failed(state)))
    });
    let Some((path, state)) = lost.or(to_local) else { return RuleResult::NotApplicable };
    if let Some((good, _)) = record.matrix.good(from_pods).find(|(path, _)| crosses(record, path)) {
        return RuleResult::RuledOut(format!("{} does reach {}", good.vantage, good.target));
    }
    let held = record.held(|sample| {
        sample.host.topology.value()?;
        Some(self::fault(record, sample).as_ref() == Some(&fault))
    });
    let sure = match confidence(record, held, false, "the pods' bridge is up and has its address") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![probe_line(path, failed(state))];
    match &fault {
        Fault::Down { bridge } => {
            let says = format!("{bridge}, the pods' bridge, is down, in two samples");
            evidence.push(Evidence::new(format!("{} rtnetlink links", record.node), says));
        }
        Fault::NoAddress { bridge, gateway } => {
            let says = format!("no link has {gateway}, the gateway of the pods on {bridge}, in two samples");
            evidence.push(Evidence::new(format!("{} rtnetlink addresses", record.node), says));
        }
    }
    let mut picks = vec![from_pods, Pick { service: true, ..Pick::default() }];
    picks.extend(record.local_dns_pods().map(|pod| Pick { pod: Some(&pod.uid), ..Pick::default() }));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::BridgeDown,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::VethOffBridge, "every pod of the bridge fails alike"),
            not(Cause::WrongGateway, "pods have the gateway that their CNI result names"),
            not(Cause::ForwardPolicyDrop, "packets do not get as far as FORWARD"),
        ],
        explains: view.explained(&picks),
    }])
}

/// What is wrong with a bridge of this node's pods in one sample.
fn fault(record: &EvidenceRecord, sample: &Sample) -> Option<Fault> {
    record.namespaces.values().find_map(|namespace| {
        let bridge = bridge_of(sample, namespace)?;
        if !bridge.up {
            return Some(Fault::Down { bridge: bridge.name.clone() });
        }
        let gateway = gateway(sample, namespace)?;
        (is_hosts(sample, gateway) == Some(false)).then(|| Fault::NoAddress { bridge: bridge.name.clone(), gateway })
    })
}

/// The gateway that the pod has and that its CNI result gave it, in the pod's own network: there only the node can be it.
fn gateway(sample: &Sample, namespace: &Namespace) -> Option<IpAddr> {
    let topology = topology_of(sample, &namespace.pod)?;
    let gateway = topology.default_routes(true).next()?.gateway?;
    if namespace.gateway.is_some_and(|given| given != gateway) {
        return None;
    }
    topology.addresses.iter().any(|a| same_network(a.ip, gateway, a.prefix)).then_some(gateway)
}
