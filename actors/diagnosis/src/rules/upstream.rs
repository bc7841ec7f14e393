//! F06: what CoreDNS forwards to does not answer.

use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::PodUid;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Observation, Outcome, PathKey, QuestionKind};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject, SubjectKind};

use crate::finding::{Finding, RuleResult, Tally, View, not, probe_line};
use crate::matrix::{PathState, Pick};
use crate::record::{APART, EvidenceRecord};

/// An answer counts for this long.
pub(super) const LATELY: Duration = Duration::from_secs(10);

/// `upstream-dead`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let Some((path, state)) = external(view) else { return RuleResult::NotApplicable };
    let record = view.record;
    let upstreams = record.upstreams();
    if upstreams.is_empty() {
        return RuleResult::RuledOut("no CoreDNS pod of this node tells its upstream".to_owned());
    }
    let mut internal = Vec::new();
    for pod in record.local_dns_pods() {
        let pick = Pick { pod: Some(&pod.uid), question: Some(QuestionKind::Internal), ..Pick::default() };
        internal.extend(record.matrix.good(pick).next());
    }
    let Some((inner, inner_state)) = internal.first() else {
        return RuleResult::RuledOut("internal names fail as well".to_owned());
    };
    let mut tally = Tally::default();
    for (ip, pod) in &upstreams {
        tally.add(one(view, *ip, pod, (path, state), (inner, inner_state)));
    }
    tally.done()
}

pub(super) type Line<'a> = (&'a PathKey, &'a PathState);

/// An open path of an external name that fails as it does when an upstream is silent.
pub(super) fn external<'a>(view: &View<'a>) -> Option<Line<'a>> {
    [QuestionKind::External, QuestionKind::Extra].into_iter().find_map(|question| {
        let pick = Pick { question: Some(question), ..Pick::default() };
        view.bad(pick).find(|(path, state)| {
            !matches!(path.target.kind, TargetKind::Nameserver | TargetKind::Upstream)
                && !fails_inside(view, path)
                && matches!(
                    state.failing.as_ref().unwrap_or(&state.last),
                    Outcome::Timeout | Outcome::ConnectedOnly | Outcome::Closed | Outcome::Rcode { rcode: 2 | 5 }
                )
        })
    })
}

/// Whether the same way fails for an internal name too: then it is not the name.
pub(super) fn fails_inside(view: &View<'_>, path: &PathKey) -> bool {
    let inside = PathKey { question: QuestionKind::Internal, ..path.clone() };
    view.record.matrix.get(&inside).is_some_and(|s| s.suspected.is_some())
}

fn one(view: &View<'_>, ip: IpAddr, pod: &PodUid, outer: Line<'_>, inner: Line<'_>) -> RuleResult {
    let record = view.record;
    let from_pod =
        record.namespaces.get(pod).map(|n| Vantage::Pod { uid: n.pod.clone(), key: n.key.clone(), cookie: n.cookie });
    let by_host = Asked::of(record, &Vantage::Host, ip);
    let by_pod = from_pod.as_ref().map_or(Asked::Never, |from| Asked::of(record, from, ip));
    let sure = match (&by_host, &by_pod) {
        (_, Asked::Good(_)) => return RuleResult::RuledOut(format!("{ip} answers CoreDNS")),
        (Asked::Good(_), Asked::Bad(seen) | Asked::Once(seen)) => {
            return RuleResult::RuledOut(format!(
                "{ip} answers the host but not CoreDNS ({}): the way between them fails, not the upstream",
                seen.outcome
            ));
        }
        (Asked::Bad(_), Asked::Bad(_)) => Confidence::Certain,
        (Asked::Once(_), _) | (_, Asked::Once(_)) => {
            return RuleResult::Waiting("the upstream is being asked a second time".to_owned());
        }
        (Asked::Bad(_), Asked::Never) | (Asked::Never, Asked::Bad(_)) => Confidence::Probable,
        (Asked::Good(_), Asked::Never) => return RuleResult::RuledOut(format!("{ip} answers the host")),
        (Asked::Never, Asked::Never) => return RuleResult::Waiting("the upstream is being asked".to_owned()),
    };
    let mut evidence = Vec::new();
    for seen in [&by_host, &by_pod].into_iter().filter_map(Asked::last) {
        let mut line = probe_line(&seen.path, &seen.outcome);
        line.says.push_str(", asked directly, twice");
        evidence.push(line);
    }
    if let Some(namespace) = record.namespaces.get(pod) {
        let read = namespace.resolv.read_from.clone().unwrap_or_else(|| "resolv.conf".to_owned());
        evidence.push(Evidence::new(
            format!("{} {read}", namespace.key),
            format!("nameserver {ip}: CoreDNS forwards to it"),
        ));
    }
    evidence.push(probe_line(outer.0, outer.1.failing.as_ref().unwrap_or(&outer.1.last)));
    let mut fine = probe_line(inner.0, &inner.1.last);
    fine.says.push_str(" (internal name)");
    evidence.push(fine);
    let mut explains = view.explained(&[
        Pick { question: Some(QuestionKind::External), ..Pick::default() },
        Pick { question: Some(QuestionKind::Extra), ..Pick::default() },
    ]);
    explains.retain(|path| !fails_inside(view, path));
    explains.extend(view.open.iter().filter(|p| p.target.ip == ip).cloned());
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::UpstreamDead,
        scope: Scope::Cluster,
        subject: Subject { kind: SubjectKind::Upstream, namespace: None, name: ip.to_string(), uid: None },
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsUdpDead, "CoreDNS answers internal names"),
            not(Cause::CorednsHung, "CoreDNS answers internal names"),
            not(Cause::ServiceRulesMissing, "CoreDNS answers internal names on the same ways"),
        ],
        explains,
    }])
}

/// What asking an upstream directly from one place has said.
enum Asked<'a> {
    Never,
    Good(&'a Observation),
    Once(&'a Observation),
    /// At least twice, [`APART`], and never an answer after the first failure.
    Bad(&'a Observation),
}

impl<'a> Asked<'a> {
    fn of(record: &'a EvidenceRecord, from: &'a Vantage, ip: IpAddr) -> Self {
        let seen: Vec<&Observation> = record.asked(from, ip).filter(|o| o.outcome.good().is_some()).collect();
        let Some(last) = seen.last() else { return Self::Never };
        // One that answers part of what it is asked is not dead.
        if let Some(good) = seen.iter().rev().find(|o| alive(o) && last.at.since(o.at) <= LATELY) {
            return Self::Good(good);
        }
        let run = seen.iter().rev().take_while(|o| !alive(o)).last().copied();
        match run {
            Some(first) if last.at.since(first.at) >= APART => Self::Bad(last),
            _ => Self::Once(last),
        }
    }

    fn last(&self) -> Option<&'a Observation> {
        match self {
            Self::Never => None,
            Self::Good(o) | Self::Once(o) | Self::Bad(o) => Some(o),
        }
    }
}

/// An upstream that replies is alive, unless it says itself that it cannot resolve.
pub(super) fn alive(seen: &Observation) -> bool {
    seen.outcome.replied() && !matches!(seen.outcome, Outcome::Rcode { rcode: 2 | 5 })
}
