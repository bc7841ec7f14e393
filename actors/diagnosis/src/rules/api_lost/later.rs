//! F20, lost later: CoreDNS had read the API and has lost it since. It stays ready and answers from what it knew: what changed
//! since it has wrong, or does not know at all, and a sibling does.

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{DnsPod, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope};

use super::{outcome, read_lines};
use crate::finding::{Finding, RuleResult, View, dns_subject, not, probe_line};
use crate::matrix::{PathState, target_pod};
use crate::process;
use crate::record::Held;
use crate::rules::answers::twice;

/// NXDOMAIN, RFC 1035 section 4.1.1.
const NXDOMAIN: u16 = 3;

/// The verdict on one replica of which the answers differ: the way to the API, or its refusal, decides.
pub(super) fn judge(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let record = view.record;
    let mut known = None;
    for (path, state) in record.matrix.suspected().filter(|(path, _)| view.open.contains(*path)) {
        if asked_from_here(path, pod) && is_old(outcome(state)) {
            known = sibling(view, path).map(|other| (path, state, other));
            if known.is_some() {
                break;
            }
        }
    }
    let Some((path, state, (other, good))) = known else { return RuleResult::NotApplicable };
    if let Some(excuse) = record.excuse(pod) {
        return RuleResult::RuledOut(excuse);
    }
    let shut = record.held(|sample| process::of(sample, pod)?.api.value()?.open_inside().map(|open| !open));
    let refused = record.moved(|before, after| {
        let (before, after) = (process::metrics(before, pod)?, process::metrics(after, pod)?);
        Some(after.api_refused? > before.api_refused?)
    });
    match shut.max(refused) {
        Held::Twice if twice(record, path) => {}
        Held::Twice | Held::Once => return RuleResult::Waiting("a second sample is awaited".to_owned()),
        // Why it answers otherwise is not known: that it does is another rule's to say.
        Held::No => return RuleResult::RuledOut("it reaches the API and is not refused by it".to_owned()),
        Held::Unread => return RuleResult::RuledOut("the way from the pod to the API was not tried".to_owned()),
    }
    let mut evidence = vec![probe_line(path, outcome(state))];
    let mut line = probe_line(other, &good.last);
    line.says.push_str(" (another CoreDNS pod, the same question)");
    evidence.push(line);
    // It has read the API once, so that what is said of those that never have is left out.
    evidence.extend(read_lines(record, pod).into_iter().filter(|line| line.read != "conclusion"));
    evidence.push(Evidence::new("conclusion", "it answers from what it read before it lost the API"));
    let own = |path: &&PathKey| {
        let there = matches!(path.target.kind, TargetKind::Service) || target_pod(path) == Some(&pod.uid);
        there && of_the_cluster(path.question) && record.matrix.get(path).is_some_and(|s| is_old(outcome(s)))
    };
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::CorednsApiLost,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence: Confidence::Certain,
        evidence,
        ruled_out: vec![
            not(Cause::WrongAnswer, "what it says is old: it cannot follow the API any more"),
            not(Cause::ZoneMismatch, "another CoreDNS pod answers the same question"),
        ],
        explains: view.open.iter().filter(own).cloned().collect(),
    }])
}

/// Names that CoreDNS may answer from what it knows of the API; a name from the configuration may be one.
fn of_the_cluster(question: QuestionKind) -> bool {
    matches!(
        question,
        QuestionKind::Internal
            | QuestionKind::Extra
            | QuestionKind::Held
            | QuestionKind::OtherType
            | QuestionKind::Reverse
    )
}

/// The host's own queries over UDP pass no other node's rules on their way to the pods of this one.
fn asked_from_here(path: &PathKey, pod: &DnsPod) -> bool {
    path.vantage == Vantage::Host
        && path.transport == Transport::Udp
        && target_pod(path) == Some(&pod.uid)
        && matches!(path.question, QuestionKind::Internal | QuestionKind::Extra)
}

/// What somebody says who knows an older state: another address, or none.
fn is_old(seen: &Outcome) -> bool {
    matches!(seen, Outcome::WrongAnswer { .. }) || *seen == Outcome::Rcode { rcode: NXDOMAIN }
}

/// Another CoreDNS pod that answers the same question.
fn sibling<'a>(view: &View<'a>, path: &PathKey) -> Option<(&'a PathKey, &'a PathState)> {
    let record = view.record;
    record.matrix.iter().find(|(other, state)| {
        target_pod(other).is_some()
            && other.target != path.target
            && (&other.vantage, other.transport, other.question) == (&path.vantage, path.transport, path.question)
            && state.suspected.is_none()
            && state.last.good() == Some(true)
    })
}
