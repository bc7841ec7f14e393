//! F47, F48, F49: CoreDNS is reached and says the wrong thing.

use std::collections::BTreeSet;

use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{DnsPod, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject, SubjectKind};

use crate::finding::{Finding, RuleResult, View, dns_subject, not, probe_line};
use crate::matrix::{PathState, Pick};
use crate::record::{APART, EvidenceRecord};
use crate::rules::pod_route::MOST;

/// NXDOMAIN, RFC 1035 section 4.1.1.
const NXDOMAIN: u16 = 3;

/// A path and what it last failed with.
type Line<'a> = (&'a PathKey, &'a Outcome);

/// What the CoreDNS pods that are asked from the host make of one kind of question.
struct Replicas<'a> {
    wrong: Vec<(&'a DnsPod, Line<'a>)>,
    right: Vec<&'a DnsPod>,
}

impl<'a> Replicas<'a> {
    /// By the host's own queries over UDP, which pass no other node's rules for the pods of this one.
    fn of(view: &View<'a>, kind: QuestionKind, is: impl Fn(&Outcome) -> bool) -> Self {
        let (mut wrong, mut right) = (Vec::new(), Vec::new());
        let record = view.record;
        for pod in record.targets.pods.iter().filter(|pod| record.excuse(pod).is_none()) {
            let pick = Pick {
                from: Some(VantageKind::Host),
                pod: Some(&pod.uid),
                transport: Some(Transport::Udp),
                question: Some(kind),
                ..Pick::default()
            };
            let open: BTreeSet<&PathKey> = view.bad(pick).map(|(path, _)| path).collect();
            for (path, state) in record.matrix.iter().filter(|(path, _)| pick.takes(path)) {
                let failing = outcome(state);
                if open.contains(path) && is(failing) {
                    wrong.push((pod, (path, failing)));
                } else if state.suspected.is_none() && state.last.good() == Some(true) {
                    right.push(pod);
                }
            }
        }
        Self { wrong, right }
    }

    /// Whether each of these pods is one of the wrong ones.
    fn covers(&self, record: &EvidenceRecord) -> bool {
        let mut pods = record.targets.pods.iter().filter(|pod| record.excuse(pod).is_none());
        pods.all(|pod| self.wrong.iter().any(|(one, _)| one.uid == pod.uid))
    }

    /// Every one that was asked, and there are more than one.
    fn all(&self) -> bool {
        self.right.is_empty() && self.wrong.iter().map(|(pod, _)| &pod.uid).collect::<BTreeSet<_>>().len() > 1
    }
}

fn outcome(state: &PathState) -> &Outcome {
    state.failing.as_ref().unwrap_or(&state.last)
}

/// Whether a path has failed in two samples: suspected, which takes three probes, and again at least a second later, with
/// nothing good in between.
pub(super) fn twice(record: &EvidenceRecord, path: &PathKey) -> bool {
    let Some(state) = record.matrix.get(path).filter(|_| record.two_samples()) else { return false };
    let Some(since) = state.suspected else { return false };
    // One that answers again is on its way to be cleared.
    if state.good_run > 0 {
        return false;
    }
    let asked = record.probes.iter().filter(|o| o.path == *path && o.at >= since);
    let last = asked.clone().filter(|o| o.outcome.good() == Some(false)).map(|o| o.at).max();
    let good = asked.filter(|o| o.outcome.good() == Some(true)).map(|o| o.at).max();
    let bad = last.map_or(state.at, |last| last.max(state.at));
    bad.since(since) >= APART && good.is_none_or(|good| good < bad)
}

/// `zone-mismatch`: every replica says that the cluster's own name does not exist, and answers otherwise.
pub fn zone(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let is = |seen: &Outcome| *seen == Outcome::Rcode { rcode: NXDOMAIN };
    let replicas = Replicas::of(view, QuestionKind::Internal, is);
    let Some((_, (path, said))) = replicas.wrong.first() else { return RuleResult::NotApplicable };
    if !replicas.right.is_empty() {
        return RuleResult::RuledOut("another CoreDNS pod answers the cluster's own name".to_owned());
    }
    if !replicas.covers(record) {
        return RuleResult::RuledOut("not every CoreDNS pod can be asked from here".to_owned());
    }
    let domain = record.targets.cluster_domain.trim_end_matches('.');
    let searched = searched(record, domain);
    if let Searched::Another(other) = &searched {
        return RuleResult::RuledOut(format!(
            "pods search {other}, not {domain}: it is Nameward that asks for the wrong domain (discovery.cluster_domain)"
        ));
    }
    if !twice(record, path) {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    // The reverse zone comes from the same data of the API: it has them, under another name. Rounds take a name that does
    // not exist for an answer, what is asked apart does not.
    let reverse = |path: &PathKey| path.question == QuestionKind::Reverse && path.vantage == Vantage::Host;
    let has_data = record.probes.iter().rev().find(|o| reverse(&o.path) && o.outcome == Outcome::Answered);
    let sure = match (&searched, has_data) {
        (Searched::It(_), Some(_)) => Confidence::Certain,
        _ => Confidence::Probable,
    };
    let mut evidence: Vec<Evidence> =
        replicas.wrong.iter().take(3).map(|(_, (path, seen))| probe_line(path, seen)).collect();
    if let Searched::It(line) = searched {
        evidence.push(line);
    }
    if let Some(seen) = has_data {
        let mut line = probe_line(&seen.path, &seen.outcome);
        line.says.push_str(": it knows the kubernetes Service, under another name");
        evidence.push(line);
    }
    let outside = Pick { question: Some(QuestionKind::External), ..Pick::default() };
    evidence.extend(record.matrix.good(outside).next().map(|(path, state)| probe_line(path, &state.last)));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ZoneMismatch,
        scope: Scope::Cluster,
        subject: whole(record, replicas.wrong.first().map(|(pod, _)| *pod)),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(
                Cause::CorednsApiLost,
                format!("it says that the name does not exist ({said}), not that it cannot tell"),
            ),
            not(Cause::WrongAnswer, "no CoreDNS pod answers otherwise"),
            not(Cause::ServiceRulesMissing, "CoreDNS pods say it by their own addresses"),
        ],
        explains: view.open.iter().filter(|path| about_cluster(path)).cloned().collect(),
    }])
}

/// Paths of names that CoreDNS answers itself.
fn about_cluster(path: &PathKey) -> bool {
    let own = matches!(
        path.question,
        QuestionKind::Internal | QuestionKind::Held | QuestionKind::OtherType | QuestionKind::Reverse
    );
    own && matches!(path.target.kind, TargetKind::Pod { .. } | TargetKind::Service)
}

enum Searched {
    /// A pod that uses cluster DNS searches the domain.
    It(Evidence),
    /// Those that use it search another, and none this one.
    Another(String),
    Unread,
}

fn searched(record: &EvidenceRecord, domain: &str) -> Searched {
    let mut another = None;
    for namespace in record.namespaces.values() {
        let (resolv, Some(read)) = (&namespace.resolv, &namespace.resolv.read_from) else { continue };
        if !resolv.nameservers.iter().any(|ip| record.is_cluster_dns(*ip)) {
            continue;
        }
        let mut services = resolv.search.iter().map(|s| s.trim_end_matches('.')).filter(|s| s.starts_with("svc."));
        match services.next() {
            Some(services) if services == format!("svc.{domain}") => {
                let line = Evidence::new(format!("{} {read}", namespace.key), format!("search {services}"));
                return Searched::It(line);
            }
            Some(services) => another = another.or(Some(services.trim_start_matches("svc.").to_owned())),
            None => {}
        }
    }
    another.map_or(Searched::Unread, Searched::Another)
}

/// What stands for all of CoreDNS: the DNS Service, where it is known.
fn whole(record: &EvidenceRecord, pod: Option<&DnsPod>) -> Subject {
    match (&record.targets.service, pod) {
        (Some(service), _) => Subject::object(SubjectKind::Service, &service.key),
        (None, Some(pod)) => dns_subject(pod),
        (None, None) => Subject::node(&record.node),
    }
}

/// `wrong-answer`: a replica answers otherwise than the API says, or than its siblings.
pub fn wrong(view: &View<'_>) -> RuleResult {
    let is = |seen: &Outcome| matches!(seen, Outcome::WrongAnswer { .. });
    let kinds = [QuestionKind::Internal, QuestionKind::Absent];
    // A replica that says that a name does not exist, while others know it, is one that diverges.
    let gone = |seen: &Outcome| is(seen) || *seen == Outcome::Rcode { rcode: NXDOMAIN };
    for kind in kinds {
        let mut replicas =
            Replicas::of(view, kind, if kind == QuestionKind::Absent { &is as &dyn Fn(&_) -> _ } else { &gone });
        if !replicas.wrong.iter().any(|(_, (_, seen))| is(seen)) && replicas.right.is_empty() {
            replicas.wrong.clear();
        }
        if !replicas.wrong.is_empty() {
            return diverging(view, kind, &replicas);
        }
    }
    RuleResult::NotApplicable
}

fn diverging(view: &View<'_>, kind: QuestionKind, replicas: &Replicas<'_>) -> RuleResult {
    let record = view.record;
    let mut against = None;
    let mut waiting = false;
    let mut confirmed = Vec::new();
    for (pod, line) in &replicas.wrong {
        // What answers by one transport only is no longer CoreDNS: something on the way answers in its stead.
        let by_tcp = PathKey { transport: Transport::Tcp, ..line.0.clone() };
        let tcp_right = record.matrix.get(&by_tcp).is_some_and(|s| s.suspected.is_none() && s.good_run > 0);
        if tcp_right {
            against = Some(format!("{} answers right over TCP: something on the way answers over UDP", pod.key));
        } else if twice(record, line.0) {
            confirmed.push((*pod, *line));
        } else {
            waiting = true;
        }
    }
    if waiting {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    let finding = |scope, subject, evidence: Vec<Evidence>, explains: BTreeSet<PathKey>| Finding {
        cause: Cause::WrongAnswer,
        scope,
        subject,
        confidence: Confidence::Certain,
        evidence: truth(record, kind).into_iter().chain(evidence).collect(),
        ruled_out: vec![
            not(Cause::Port53Redirected, "the host of this node is answered so by the pod's own address"),
            not(Cause::ZoneMismatch, "what is answered is wrong, not missing everywhere"),
        ],
        explains,
    };
    let lines = |list: &[(&DnsPod, Line<'_>)]| list.iter().take(4).map(|(_, (p, o))| probe_line(p, o)).collect();
    if replicas.all() && confirmed.len() == replicas.wrong.len() {
        let explains = view.open.iter().filter(|p| concerns(p, kind)).cloned().collect();
        let subject = whole(record, confirmed.first().map(|(pod, _)| *pod));
        return RuleResult::Verdicts(vec![finding(Scope::Cluster, subject, lines(&confirmed), explains)]);
    }
    let here: Vec<_> =
        confirmed.into_iter().filter(|(pod, _)| pod.node.as_ref() == Some(&record.node)).take(MOST).collect();
    if here.is_empty() {
        return against.map_or(RuleResult::NotApplicable, RuleResult::RuledOut);
    }
    let mut findings = Vec::new();
    for (pod, line) in here {
        let mut evidence: Vec<Evidence> = lines(&[(pod, line)]);
        evidence.extend(
            replicas
                .right
                .first()
                .map(|other| Evidence::new("probe", format!("{} answers as the API says", other.key))),
        );
        let to_it = Pick { pod: Some(&pod.uid), ..Pick::default() };
        let service = Pick { service: true, ..Pick::default() };
        let mine = |p: &&PathKey| to_it.takes(p) || service.takes(p);
        let explains = view.open.iter().filter(mine).filter(|p| concerns(p, kind)).cloned().collect();
        findings.push(finding(Scope::CorednsPod, dns_subject(pod), evidence, explains));
    }
    RuleResult::Verdicts(findings)
}

/// What a server that lies about one kind of name may get wrong with it.
fn concerns(path: &PathKey, kind: QuestionKind) -> bool {
    matches!(path.target.kind, TargetKind::Pod { .. } | TargetKind::Service)
        && match kind {
            QuestionKind::Absent => matches!(path.question, QuestionKind::Absent | QuestionKind::External),
            _ => true,
        }
}

fn truth(record: &EvidenceRecord, kind: QuestionKind) -> Option<Evidence> {
    let list: Vec<String> = record.targets.kubernetes_service.iter().map(ToString::to_string).collect();
    match kind {
        QuestionKind::Absent => {
            let says = "a random name under the cluster domain, new each time, must not exist";
            Some(Evidence::new("probe", says))
        }
        _ if list.is_empty() => None,
        _ => Some(Evidence::new("Service default/kubernetes", format!("cluster address {}", list.join(", ")))),
    }
}

/// `aaaa-broken`: the other address type fails where the one that is asked answers.
pub fn aaaa(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let pick = Pick { question: Some(QuestionKind::OtherType), ..Pick::default() };
    let a_answers = |path: &PathKey| {
        let a = PathKey { question: QuestionKind::Internal, ..path.clone() };
        // A server that fails gets its share of what the Service is asked: whichever query met it says nothing of types.
        let met = matches!(path.target.kind, TargetKind::Service) && {
            let server = Pick { any_pod: true, transport: Some(path.transport), ..Pick::default() };
            record.matrix.bad(Pick { question: Some(QuestionKind::Internal), ..server }).next().is_some()
        };
        !met && record.matrix.get(&a).is_some_and(|s| s.suspected.is_none() && s.last.good() == Some(true))
    };
    let failing: Vec<Line<'_>> =
        view.bad(pick).filter(|(path, _)| a_answers(path)).map(|(path, state)| (path, outcome(state))).collect();
    let Some(first) = failing.first() else {
        return match view.bad(pick).next() {
            Some(_) => RuleResult::RuledOut("the same ways fail for the ordinary address type too".to_owned()),
            None => RuleResult::NotApplicable,
        };
    };
    if !failing.iter().any(|(path, _)| twice(record, path)) {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    let replicas = Replicas::of(view, QuestionKind::OtherType, |_| true);
    let (scope, subject) = match blamed(view, &replicas, &failing) {
        Ok(found) => found,
        Err(result) => return result,
    };
    let mut evidence: Vec<Evidence> = failing.iter().take(4).map(|(path, seen)| probe_line(path, seen)).collect();
    let a = PathKey { question: QuestionKind::Internal, ..first.0.clone() };
    evidence.extend(record.matrix.get(&a).map(|state| probe_line(&a, &state.last)));
    evidence.extend(replicas.right.first().map(|pod| Evidence::new("probe", format!("{} answers it", pod.key))));
    // The servers' own word is the evidence; of a silence, what makes it was not read.
    let sure = if first.1.replied() { Confidence::Certain } else { Confidence::Probable };
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::AaaaBroken,
        scope,
        subject,
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsUdpDead, "the ordinary address type is answered on the same ways"),
            not(Cause::ServiceRulesMissing, "the ordinary address type is answered on the same ways"),
            not(Cause::CorednsApiLost, "the ordinary address type is answered as the API says"),
        ],
        explains: failing.iter().map(|(path, _)| (*path).clone()).collect(),
    }])
}

/// Queries that must all be lost, and as many of the ordinary type that must all be answered.
const ENOUGH: usize = 3;

/// A server that fails gets its share of what the Service is asked, of either type: what of it is lost by chance says nothing
/// about a type. Why nothing is said yet, or at all.
fn chance(record: &EvidenceRecord, failing: &[Line<'_>]) -> Option<RuleResult> {
    let a = Pick { transport: Some(Transport::Udp), question: Some(QuestionKind::Internal), ..Pick::default() };
    if let Some((path, _)) = record.matrix.bad(a).find(|(path, _)| path.target.kind != TargetKind::Nameserver) {
        return Some(RuleResult::RuledOut(format!("the ordinary address type is lost as well: {path}")));
    }
    let told = |path: &PathKey, good: bool| {
        let Some(since) = record.matrix.get(path).map(|s| s.suspected.unwrap_or_default()) else { return (0, 0) };
        let seen = record.probes.iter().filter(|o| o.path == *path && o.at >= since);
        let all: Vec<bool> = seen.filter_map(|o| o.outcome.good()).collect();
        (all.iter().filter(|said| **said == good).count(), all.iter().filter(|said| **said != good).count())
    };
    let sure = failing.iter().any(|(path, _)| {
        let a = PathKey { question: QuestionKind::Internal, ..(*path).clone() };
        let ((lost, kept), (answered, missed)) = (told(path, false), told(&a, true));
        lost >= ENOUGH && kept == 0 && answered >= ENOUGH && missed == 0
    });
    if sure { None } else { Some(RuleResult::Waiting("both types are being asked more often".to_owned())) }
}

/// The smallest thing that explains which ways fail.
fn blamed(view: &View<'_>, replicas: &Replicas<'_>, failing: &[Line<'_>]) -> Result<(Scope, Subject), RuleResult> {
    let record = view.record;
    let host = failing.iter().any(|(path, _)| path.vantage == Vantage::Host);
    if !host {
        if let Some(result) = chance(record, failing) {
            return Err(result);
        }
        // CoreDNS answers the host: it is on the way from the pods, all of them or one.
        let froms: BTreeSet<&Vantage> = failing.iter().map(|(path, _)| &path.vantage).collect();
        let pick = Pick { from: Some(VantageKind::Pod), question: Some(QuestionKind::OtherType), ..Pick::default() };
        let others = record.matrix.good(pick).next().is_some();
        return Ok(match froms.first() {
            Some(Vantage::Pod { uid, key, .. }) if froms.len() == 1 && others => (Scope::Pod, Subject::pod(key, uid)),
            _ => (Scope::Node, Subject::node(&record.node)),
        });
    }
    if replicas.all() {
        return Ok((Scope::Cluster, whole(record, None)));
    }
    let here = replicas.wrong.iter().find(|(pod, _)| pod.node.as_ref() == Some(&record.node));
    match here {
        Some((pod, _)) => Ok((Scope::CorednsPod, dns_subject(pod))),
        None => Err(RuleResult::RuledOut("a CoreDNS pod of another node does it: its node judges".to_owned())),
    }
}
