//! F34: one end of a pod's veth pair is down.

use nameward_messages::namespaces::Namespace;
use nameward_messages::verdict::{Cause, Evidence};

use super::links::{carried, cut_off, each, excuse, failed, host_end, own_end, scope, subject, topology_of};
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::record::Sample;

/// `veth-down`.
pub fn judge(view: &View<'_>) -> RuleResult {
    each(view, one)
}

/// Which ends are down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    host: bool,
    pod: bool,
}

fn one(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let Some(down) = record.current.as_ref().and_then(|s| ends(s, namespace)).filter(|d| d.host || d.pod) else {
        return RuleResult::NotApplicable;
    };
    let (path, state) = match cut_off(view, &namespace.pod) {
        Ok(Some(found)) => found,
        Ok(None) => return RuleResult::NotApplicable,
        Err(passes) => return RuleResult::RuledOut(format!("{passes} is answered")),
    };
    if let Some(excused) = excuse(record, &namespace.pod) {
        return excused;
    }
    let held = record.held(|sample| Some(ends(sample, namespace)? == down));
    let sure = match confidence(record, held, false, "both ends of its veth pair are up") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let veth = record.current.as_ref().and_then(|s| host_end(s, namespace)).map_or("veth", |l| l.name.as_str());
    let mut evidence = vec![probe_line(path, failed(state))];
    if down.host {
        let says = format!("{veth} (of {}) is down, in two samples", namespace.key);
        evidence.push(Evidence::new(format!("{} rtnetlink links", record.node), says));
    }
    if down.pod {
        let says = "its end of the veth pair is down, in two samples; its routes went with it";
        evidence.push(Evidence::new(format!("{} rtnetlink links", namespace.key), says));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::VethDown,
        scope: scope(record, &namespace.pod),
        subject: subject(namespace),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::VethOffBridge, "a bridge port is off while its link is down, whatever its master"),
            not(Cause::PodRouteMissing, "routes cannot be there while the link is down"),
            not(Cause::ForwardPolicyDrop, "only this pod's link is concerned"),
        ],
        explains: view.explained(&carried(record, &namespace.pod)),
    }])
}

fn ends(sample: &Sample, namespace: &Namespace) -> Option<Ends> {
    let host = host_end(sample, namespace);
    let own = topology_of(sample, &namespace.pod).and_then(own_end);
    if host.is_none() && own.is_none() {
        return None;
    }
    Some(Ends { host: host.is_some_and(|l| !l.up), pod: own.is_some_and(|l| !l.up) })
}
