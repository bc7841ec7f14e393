//! F07: what CoreDNS forwards to answers some queries and drops others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Observation, Outcome, PathKey, QuestionKind};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject, SubjectKind};
use nameward_messages::{Mono, PodUid};

use crate::finding::{Finding, RuleResult, Tally, View, not, probe_line};
use crate::matrix::Pick;
use crate::record::APART;
use crate::rules::upstream::{alive, external, fails_inside};

/// Direct queries count for this long.
const WINDOW: Duration = Duration::from_secs(30);
/// So many of them must have been sent, ...
const SENT: usize = 10;
/// ... so many lost and so many answered: one loss is nothing.
const LOST: usize = 3;
const ANSWERED: usize = 2;

/// `upstream-throttled`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let Some((path, state)) = external(view) else { return RuleResult::NotApplicable };
    let record = view.record;
    let outer = probe_line(path, state.failing.as_ref().unwrap_or(&state.last));
    let inside = Pick { question: Some(QuestionKind::Internal), any_pod: true, ..Pick::default() };
    // A network that loses packets loses those of internal names too.
    if let Some((path, state)) = record.matrix.bad(inside).next() {
        let seen = state.failing.as_ref().unwrap_or(&state.last);
        return RuleResult::RuledOut(format!("internal names fail as well: {path}: {seen}"));
    }
    let Some(inner) = record.matrix.good(inside).next() else { return RuleResult::NotApplicable };
    let mut fine = probe_line(inner.0, &inner.1.last);
    fine.says.push_str(" (internal name)");
    let mut tally = Tally::default();
    for (ip, pod) in &record.upstreams() {
        tally.add(one(view, *ip, pod, [&outer, &fine]));
    }
    tally.done()
}

fn one(view: &View<'_>, ip: IpAddr, pod: &PodUid, lines: [&Evidence; 2]) -> RuleResult {
    let record = view.record;
    let Some(namespace) = record.namespaces.get(pod) else { return RuleResult::NotApplicable };
    let from = Vantage::Pod { uid: namespace.pod.clone(), key: namespace.key.clone(), cookie: namespace.cookie };
    let asked: Vec<&Observation> = record
        .asked(&from, ip)
        .filter(|o| record.now.mono.since(o.at) <= WINDOW && o.outcome.good().is_some())
        .collect();
    let lost: Vec<Mono> = asked.iter().filter(|o| o.outcome == Outcome::Timeout).map(|o| o.sent()).collect();
    // What answered before the first loss says nothing: an upstream that dies answers until then.
    let first = lost.iter().min().copied().unwrap_or_default();
    // Nor what answers after the last one: one that was silent and is mended answers from then on.
    let last = lost.iter().max().copied().unwrap_or_default();
    let answered = asked.iter().filter(|o| alive(o) && (lost.is_empty() || (first..=last).contains(&o.sent()))).count();
    if lost.is_empty() {
        return RuleResult::RuledOut(format!("{ip} answers CoreDNS every time ({answered} of {})", asked.len()));
    }
    let apart = match (lost.iter().min(), lost.iter().max()) {
        (Some(first), Some(last)) => last.since(*first) >= APART,
        _ => false,
    };
    if asked.len() < SENT || lost.len() < LOST || answered < ANSWERED || !apart || !record.two_samples() {
        if answered == 0 {
            return RuleResult::RuledOut(format!("{ip} answers nothing"));
        }
        return RuleResult::Waiting(format!("{ip} is being asked more often: {} lost of {}", lost.len(), asked.len()));
    }
    let share = format!("{} of {} direct queries lost, {answered} answered", lost.len(), asked.len());
    let mut explains: BTreeSet<PathKey> = view.explained(&[
        Pick { question: Some(QuestionKind::External), ..Pick::default() },
        Pick { question: Some(QuestionKind::Extra), ..Pick::default() },
    ]);
    explains.retain(|path| !fails_inside(view, path) && !matches!(path.target.kind, TargetKind::Nameserver));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::UpstreamThrottled,
        scope: Scope::Cluster,
        subject: Subject { kind: SubjectKind::Upstream, namespace: None, name: ip.to_string(), uid: None },
        // A limit and a bad line look alike from here.
        confidence: Confidence::Probable,
        evidence: vec![
            Evidence::new(format!("probe {} -> upstream {ip} over udp", namespace.key), share),
            lines[0].clone(),
            lines[1].clone(),
        ],
        ruled_out: vec![
            not(Cause::UpstreamDead, format!("{ip} answers part of what it is asked")),
            not(Cause::MasqueradeMissing, format!("{ip} answers CoreDNS's pod now and then")),
            not(Cause::CorednsHung, "CoreDNS answers internal names"),
        ],
        explains,
    }])
}
