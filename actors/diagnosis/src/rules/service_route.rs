//! F54: the host has no route that covers the Service's address.

use nameward_kernel::facts::{FibResult, RouteKind};
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::Outcome;
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use super::links::failed;
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;

/// `service-route-missing`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let to_service = Pick { service: true, from: Some(VantageKind::Host), ..Pick::default() };
    let unsent = |outcome: &Outcome| {
        matches!(outcome, Outcome::NetworkUnreachable | Outcome::HostUnreachable { by: None, icmp_type: None, .. })
    };
    let Some((path, state)) = view.bad(to_service).find(|(_, s)| unsent(failed(s))) else {
        return RuleResult::NotApplicable;
    };
    let ip = path.target.ip;
    let says = |sample: &crate::record::Sample| -> Option<Option<&'static str>> {
        Some(match sample.host.topology.value()?.lookup(ip)? {
            FibResult::NoRoute => Some("no route"),
            FibResult::Nowhere { kind: RouteKind::Blackhole } => Some("a blackhole"),
            FibResult::Nowhere { kind: RouteKind::Prohibit } => Some("prohibited"),
            FibResult::Nowhere { .. } => Some("unreachable"),
            FibResult::Route { .. } => None,
        })
    };
    let held = record.held(|sample| says(sample).map(|what| what.is_some()));
    let sure = match confidence(record, held, true, "the host has a route that covers the Service's address") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![probe_line(path, failed(state))];
    if let Some(what) = record.current.as_ref().and_then(|s| says(s)).flatten() {
        evidence.push(Evidence::new(format!("{} FIB lookup of {ip}", record.node), format!("{what}, in two samples")));
    }
    let pods = record.matrix.good(Pick { service: true, from: Some(VantageKind::Pod), ..Pick::default() }).next();
    evidence.extend(pods.map(|(path, state)| probe_line(path, &state.last)));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ServiceRouteMissing,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, "routing comes before the rules, and refuses"),
            not(Cause::ServiceWithoutEndpoints, "routing comes before the rules, and refuses"),
        ],
        explains: view.explained(&[to_service]),
    }])
}
