//! F20: CoreDNS has no view of the API. It answers SERVFAIL for the cluster's own names and forwards the others.

use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{DnsPod, TargetKind};
use nameward_messages::verdict::{Cause, Evidence, RuledOut, Scope};

use crate::finding::{Finding, RuleResult, View, confidence, dns_subject, not, probe_line};
use crate::matrix::{PathState, Pick, target_pod};
use crate::process::{self, ApiWays, Ready, Way};
use crate::record::{EvidenceRecord, Held};
use crate::rules::coredns::each;

/// `coredns-api-lost`.
pub fn judge(view: &View<'_>) -> RuleResult {
    each(view, one)
}

const SERVFAIL: Outcome = Outcome::Rcode { rcode: 2 };

fn one(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let record = view.record;
    let inside = Pick { pod: Some(&pod.uid), question: Some(QuestionKind::Internal), ..Pick::default() };
    let Some((path, state)) = view.bad(inside).find(|(_, state)| outcome(state) == &SERVFAIL) else {
        return later::judge(view, pod);
    };
    if let Some(excuse) = record.excuse(pod) {
        return RuleResult::RuledOut(excuse);
    }
    let waits = record.held(|sample| match process::of(sample, pod)?.ready.value()? {
        Ready::Waiting { plugins } => Some(plugins.iter().any(|plugin| plugin == "kubernetes")),
        Ready::Yes => Some(false),
        Ready::Status { .. } | Ready::Refused | Ready::Silent => None,
    });
    let shut = record.held(|sample| process::of(sample, pod)?.api.value()?.open_inside().map(|open| !open));
    let refused = record.moved(|before, after| {
        let (before, after) = (process::metrics(before, pod)?, process::metrics(after, pod)?);
        Some(after.api_refused? > before.api_refused?)
    });
    let external = Pick { question: Some(QuestionKind::External), ..Pick { question: None, ..inside } };
    let outer = record.matrix.good(external).next();
    let decided = waits.max(shut).max(refused);
    // One that says that it is ready speaks against it, whatever else could not be read. A way that is open does not.
    let decided = if decided == Held::Unread && waits == Held::No { Held::No } else { decided };
    let contradicted = "CoreDNS is ready, reaches the API and is not refused by it";
    let sure = match confidence(record, decided, outer.is_some(), contradicted) {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![probe_line(path, outcome(state))];
    if let Some((path, state)) = outer {
        let mut line = probe_line(path, &state.last);
        line.says.push_str(" (external name)");
        evidence.push(line);
    }
    evidence.extend(read_lines(record, pod));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::CorednsApiLost,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence: sure,
        evidence,
        ruled_out: ruled_out(outer),
        explains: view.open.iter().filter(|path| is_its(view, pod, path)).cloned().collect(),
    }])
}

fn outcome(state: &PathState) -> &Outcome {
    state.failing.as_ref().unwrap_or(&state.last)
}

/// Paths on which the cluster's own names fail with SERVFAIL: to the pod, and to the Service, behind which it stands.
fn is_its(view: &View<'_>, pod: &DnsPod, path: &PathKey) -> bool {
    let own = !matches!(path.question, QuestionKind::External | QuestionKind::Extra);
    let there = matches!(path.target.kind, TargetKind::Service) || target_pod(path) == Some(&pod.uid);
    own && there && view.record.matrix.get(path).is_some_and(|state| outcome(state) == &SERVFAIL)
}

fn ruled_out(outer: Option<(&PathKey, &PathState)>) -> Vec<RuledOut> {
    let mut list = vec![
        not(Cause::CorednsHung, "it answers, with SERVFAIL"),
        not(Cause::CorednsUdpDead, "it answers, with SERVFAIL"),
    ];
    if outer.is_some() {
        list.push(not(Cause::UpstreamDead, "external names resolve"));
    }
    list
}

/// What was read of the process, and where the trouble lies between it and the API.
fn read_lines(record: &EvidenceRecord, pod: &DnsPod) -> Vec<Evidence> {
    let mut lines = Vec::new();
    let Some(read) = record.current.as_ref().and_then(|sample| process::of(sample, pod)) else { return lines };
    let page = format!("{} http :8181/ready", pod.key);
    match read.ready.value() {
        Some(Ready::Waiting { plugins }) => {
            lines.push(Evidence::new(page, format!("503, waits for {}", plugins.join(", "))));
        }
        Some(Ready::Yes) => lines.push(Evidence::new(page, "200: it was ready once, and says so ever after")),
        Some(other) => lines.push(Evidence::new(page, format!("{other:?}").to_lowercase())),
        None => lines.extend(read.ready.missing().map(|why| Evidence::new(page, format!("could not be read: {why}")))),
    }
    let ways = read.api.value();
    let refused = process::rise(record, pod, |metrics| metrics.api_refused).filter(|n| *n > 0);
    if let Some(ways) = ways {
        lines.push(Evidence::new(format!("TCP connections from {}", pod.key), spell(&ways.inside)));
        lines.push(Evidence::new(format!("TCP connections from {}", record.node), spell(&ways.host)));
    }
    if let Some(refused) = refused {
        let read = format!("{} coredns_kubernetes_rest_client_requests_total", pod.key);
        lines.push(Evidence::new(read, format!("{refused} more answers 401 or 403 between two samples")));
    }
    lines.push(Evidence::new("conclusion", conclude(ways, refused.is_some())));
    lines
}

fn spell(ways: &[(std::net::SocketAddr, Way)]) -> String {
    let one = |(to, way): &(std::net::SocketAddr, Way)| match way {
        Way::Open => format!("{to} connects"),
        Way::Shut { why } => format!("{to}: {why}"),
        Way::Unknown => format!("{to}: not tried"),
    };
    ways.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn conclude(ways: Option<&ApiWays>, refused: bool) -> &'static str {
    let (inside, host) = (ways.and_then(ApiWays::open_inside), ways.and_then(ApiWays::open_on_host));
    match (inside, host) {
        (Some(false), Some(false)) => {
            "the API answers neither the pod nor its node: it is down, or out of reach from this node"
        }
        (Some(false), _) => {
            "the way from the pod to the API is broken: that is to be repaired first, a new pod would fare no better"
        }
        (_, _) if refused => "the API is reached and refuses: the rights of CoreDNS's service account are missing",
        (Some(true), _) => "the API is reached, and CoreDNS has never read all that it needs of it",
        (None, _) => "the way to the API could not be tried",
    }
}

#[path = "api_lost/later.rs"]
mod later;
#[cfg(test)]
#[path = "api_lost/tests.rs"]
pub(super) mod tests;
