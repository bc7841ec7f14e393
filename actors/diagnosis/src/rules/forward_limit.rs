//! F56: plugin forward refuses what exceeds its `max_concurrent`.

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, QuestionKind};
use nameward_messages::targets::{DnsPod, TargetKind};
use nameward_messages::verdict::{Cause, Evidence, Scope};

use crate::finding::{Finding, RuleResult, View, confidence, dns_subject, not, probe_line};
use crate::matrix::{Pick, target_pod};
use crate::process;
use crate::rules::coredns::each;

/// `forward-limit-reached`.
pub fn judge(view: &View<'_>) -> RuleResult {
    each(view, one)
}

const REFUSED: Outcome = Outcome::Rcode { rcode: 5 };

fn one(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let record = view.record;
    let asked = |question| Pick { pod: Some(&pod.uid), question: Some(question), ..Pick::default() };
    let outer = [QuestionKind::External, QuestionKind::Extra].into_iter().find_map(|question| {
        view.bad(asked(question)).find(|(_, state)| state.failing.as_ref().unwrap_or(&state.last) == &REFUSED)
    });
    let Some((path, _)) = outer else { return RuleResult::NotApplicable };
    let Some((inner, inner_state)) = record.matrix.good(asked(QuestionKind::Internal)).next() else {
        return RuleResult::RuledOut("internal names fail as well".to_owned());
    };
    // An upstream that is silent fills the limit: then it is the cause, and the limit does its duty.
    match upstream_replies(view, pod) {
        Some(false) => return RuleResult::RuledOut("the upstream does not answer: queries wait for it".to_owned()),
        None if !record.two_samples() => return RuleResult::Waiting("the upstream is being asked".to_owned()),
        Some(true) | None => {}
    }
    let moved = record.moved(|before, after| {
        let (before, after) = (process::metrics(before, pod)?, process::metrics(after, pod)?);
        Some(after.forward_rejects? > before.forward_rejects?)
    });
    let contradicted = "forward has refused nothing for want of room: the Corefile or the upstream refuses";
    let sure = match confidence(record, moved, false, contradicted) {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let more = process::rise(record, pod, |metrics| metrics.forward_rejects).unwrap_or(0);
    let mut fine = probe_line(inner, &inner_state.last);
    fine.says.push_str(" (internal name)");
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ForwardLimitReached,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence: sure,
        evidence: vec![
            Evidence::new(
                format!("{} coredns_forward_max_concurrent_rejects_total", pod.key),
                format!("{more} more queries refused between two samples"),
            ),
            probe_line(path, &REFUSED),
            fine,
        ],
        ruled_out: vec![
            not(Cause::UpstreamDead, "CoreDNS refuses by itself, and says so in its counters"),
            not(Cause::CorednsApiLost, "internal names resolve"),
        ],
        explains: view
            .open
            .iter()
            .filter(|path| {
                matches!(path.question, QuestionKind::External | QuestionKind::Extra)
                    && (matches!(path.target.kind, TargetKind::Service) || target_pod(path) == Some(&pod.uid))
                    && record.matrix.get(path).is_some_and(|s| s.failing.as_ref().unwrap_or(&s.last) == &REFUSED)
            })
            .cloned()
            .collect(),
    }])
}

/// Whether any upstream of the pod replies to it when it is asked directly; `None`: none was asked yet.
fn upstream_replies(view: &View<'_>, pod: &DnsPod) -> Option<bool> {
    let namespace = view.record.namespaces.get(&pod.uid)?;
    let from = Vantage::Pod { uid: namespace.pod.clone(), key: namespace.key.clone(), cookie: namespace.cookie };
    let mut asked = namespace
        .resolv
        .nameservers
        .iter()
        .filter_map(|ip| view.record.asked(&from, *ip).filter(|o| o.outcome.good().is_some()).last())
        .map(|seen| seen.outcome.replied())
        .peekable();
    asked.peek()?;
    Some(asked.any(|replies| replies))
}

#[cfg(test)]
#[path = "forward_limit/tests.rs"]
pub(super) mod tests;
