//! Every Event that is written: what a person reads in `kubectl describe` in the middle of the night, without our documents.
//! Each says what is wrong with the object it stands on, what was done or why nothing was, and what comes next; the incident
//! that has the evidence is named by the command that shows it.

use nameward_messages::NodeName;
use nameward_messages::cluster_view::{BudgetView, WorkloadView};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::text::line;
use nameward_messages::verdict::{Cause, Subject, SubjectKind};

use super::Output;
use super::incident::Incident;

/// The API's limit, in bytes.
const LONGEST: usize = 1024;
/// What a part that says what was seen or done keeps of it when the whole is too long: the command at the end is what must
/// not be cut.
const PART: usize = 240;

/// What comes next after an incident was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// Nameward never touches it.
    Person(&'a str),
    /// Many nodes have it: none is repaired.
    Many(&'a str),
    /// Nobody is concerned.
    Nothing,
    /// There is a remedy, in this mode, and this is how it is done by hand.
    Remedy(RemedyKind, Mode, &'a str),
}

/// An incident was opened.
pub(super) fn opened(incident: &Incident, next: Next<'_>) -> Output {
    let cause = incident.spec.cause;
    let reason = if cause == Cause::Unexplained { "DnsFailureUnexplained" } else { cause.about().reason };
    let next_says = match next {
        Next::Person(command) => format!("Nameward does not touch this; begin with: {command}"),
        Next::Many(command) => format!("Begin with one of them: {command}"),
        Next::Nothing => "Nothing is done about it, and nothing need be".to_owned(),
        Next::Remedy(kind, Mode::Act, _) => {
            format!("Nameward tries {kind} as soon as its guard rails allow it; another Event says what came of it")
        }
        Next::Remedy(kind, Mode::Observe, command) => format!(
            "Nameward only observes (remedy.mode): it will say what {kind} would do and change nothing. By hand: {command}"
        ),
        Next::Remedy(kind, Mode::Off, command) => {
            format!("Nameward's remedy for it, {kind}, is switched off (remedy.modes). By hand: {command}")
        }
    };
    let seen = incident.evidence.first().map(|e| line(&format!("Seen: {} says {}", e.read, e.says), PART));
    let text = compose(&[&incident.summary, seen.as_deref().unwrap_or_default(), &details(incident), &next_says]);
    event(&incident.spec.subject, next != Next::Nothing, reason, text)
}

/// A remedy is held back; once for each reason.
pub(super) fn held_back(incident: &Incident, record: &RemedyRecord) -> Output {
    let did = format!("Nothing was changed: Nameward's remedy {} is held back, since {}", record.kind, record.detail);
    let next = "It is tried again by itself when that has passed; if it does not pass, a person is called";
    event(&record.subject, false, "RemedyHeldBack", compose(&[&incident.summary, &did, &details(incident), next]))
}

/// What came of a shared remedy, if that is worth an Event of its own.
pub(super) fn shared_record(incident: &Incident, record: &RemedyRecord) -> Option<Output> {
    let kind = record.kind;
    let (warning, reason, did, next) = match record.outcome {
        RemedyOutcome::Refused => return Some(held_back(incident, record)),
        RemedyOutcome::Done => (
            false,
            "RemedyDone",
            format!("Nameward did {kind}: {}", record.detail),
            "The nodes are asked now whether it helped; another Event says so",
        ),
        RemedyOutcome::WouldAct => (
            false,
            "RemedyWouldAct",
            format!("Nothing was changed (mode {}): Nameward {}", record.mode.label(), record.detail),
            "A person decides whether to do it",
        ),
        RemedyOutcome::Undone => (
            false,
            "RemedyUndone",
            format!("Nameward took {kind} back: {}", record.detail),
            "Nothing need be done about this",
        ),
        RemedyOutcome::Failed => (
            true,
            "RemedyFailed",
            format!("Nameward could not do {kind}: {}", record.detail),
            "It is tried again by itself, and a person is called if that is of no use",
        ),
        RemedyOutcome::Unknown => (
            true,
            "RemedyOutcomeUnknown",
            format!("Nameward asked for {kind} and had no clear answer: {}", record.detail),
            "What is there is read before anything else is done",
        ),
        RemedyOutcome::Verified | RemedyOutcome::Ineffective | RemedyOutcome::Escalated => return None,
    };
    let text = compose(&[&incident.summary, &did, &details(incident), next]);
    Some(event(&record.subject, warning, reason, text))
}

/// What a node's agent says of a repair of its own node. `incident`: the one about the same object, if one is open.
pub(super) fn node_record(node: &NodeName, incident: Option<&Incident>, record: &RemedyRecord) -> Output {
    let RemedyRecord { kind, detail, .. } = record;
    let (warning, reason, did, next) = match record.outcome {
        RemedyOutcome::WouldAct => (
            false,
            "RemedyWouldAct",
            format!("Nothing was changed (mode {}): the agent on {node} {detail}", record.mode.label()),
            "A person decides whether to do it",
        ),
        RemedyOutcome::Refused => (
            false,
            "RemedyHeldBack",
            format!("Nothing was changed: the agent on {node} holds {kind} back, since {detail}"),
            "It is tried again by itself when that has passed",
        ),
        RemedyOutcome::Done => (
            false,
            "RemedyDone",
            format!("The agent on {node} {detail}"),
            "It is probed now whether that helped; another Event says so",
        ),
        RemedyOutcome::Verified => {
            (false, "DnsRecovered", format!("The agent on {node} says: {detail}"), "Nothing need be done")
        }
        RemedyOutcome::Undone => {
            (false, "RemedyUndone", format!("The agent on {node} took {kind} back: {detail}"), "Nothing need be done")
        }
        RemedyOutcome::Ineffective => (
            true,
            "RemedyDidNotHelp",
            format!("The repair {kind} by the agent on {node}: {detail}"),
            "A person is needed",
        ),
        RemedyOutcome::Failed => (
            true,
            "RemedyFailed",
            format!("The agent on {node} could not do {kind}: {detail}"),
            "A person looks at what is there; nothing is repeated blindly",
        ),
        RemedyOutcome::Unknown => (
            true,
            "RemedyOutcomeUnknown",
            format!("The agent on {node} does not know what came of {kind}: {detail}"),
            "A person looks at what is there; nothing is repeated blindly",
        ),
        RemedyOutcome::Escalated => {
            (true, "DnsNeedsAPerson", format!("The agent on {node} says: {detail}"), "Nothing more is tried by itself")
        }
    };
    let summary = incident.map_or("", |incident| incident.summary.as_str());
    let details = incident.map_or_else(|| format!("Details: kubectl describe nodeagent {node}"), details);
    event(&record.subject, warning, reason, compose(&[summary, &did, &details, next]))
}

/// A person is needed; `because` ends with what to do by hand.
pub(super) fn needs_a_person(incident: &Incident, because: &str, command: &str) -> Output {
    let next = format!("A person is needed; by hand: {command}");
    let text = compose(&[&incident.summary, because, &details(incident), &next]);
    event(&incident.spec.subject, true, "DnsNeedsAPerson", text)
}

/// It is over; `how` says why that is known.
pub(super) fn recovered(incident: &Incident, how: &str) -> Output {
    let was = format!("It was: {}", incident.summary);
    let text = compose(&[how, &was, &details(incident), "Nothing need be done"]);
    event(&incident.spec.subject, false, "DnsRecovered", text)
}

/// The replica that was added is good.
pub(super) fn replica_good(incident: &Incident, detail: &str) -> Output {
    let text = compose(&[&incident.summary, detail, &details(incident), "Nameward goes on by itself"]);
    let subject = incident.ladder.iter().rev().find(|r| r.kind == RemedyKind::AddReplica).map(|r| &r.subject);
    event(subject.unwrap_or(&incident.spec.subject), false, "ReplicaGood", text)
}

/// No budget covers CoreDNS. `selector` is that of the DNS Service.
pub(super) fn no_budget(workload: &WorkloadView, selector: &str) -> Output {
    let seen = format!(
        "No PodDisruptionBudget covers the {} pods of {}: a drain of two nodes at once may take all of cluster DNS away, and \
         evictions are bounded by Nameward's own floor alone",
        workload.replicas, workload.key
    );
    let (namespace, name) = (&workload.key.namespace, &workload.key.name);
    let next = format!(
        "Create one: kubectl -n {namespace} create poddisruptionbudget {name} --selector={selector} --max-unavailable=1"
    );
    event(
        &Subject::object(SubjectKind::Deployment, &workload.key),
        false,
        "NoDisruptionBudget",
        compose(&[&seen, &next]),
    )
}

/// Several budgets cover the same CoreDNS pod.
pub(super) fn overlapping_budgets(workload: &WorkloadView, budgets: &[&BudgetView]) -> Output {
    let names: Vec<&str> = budgets.iter().map(|budget| budget.key.name.as_str()).collect();
    let seen = format!(
        "{} PodDisruptionBudgets cover the same pods of {}: the API server refuses every eviction of them, so that no node \
         with CoreDNS can be drained and Nameward cannot replace a sick pod",
        names.len(),
        workload.key
    );
    let keep = names.first().copied().unwrap_or_default();
    let rest: Vec<&str> = names.iter().skip(1).take(3).copied().collect();
    let namespace = &workload.key.namespace;
    let next =
        format!("Keep one, such as {keep}: kubectl -n {namespace} delete poddisruptionbudget {}", rest.join(" "));
    let subject = Subject::object(SubjectKind::Deployment, &workload.key);
    event(&subject, true, "DisruptionBudgetsOverlap", compose(&[&seen, &next]))
}

fn details(incident: &Incident) -> String {
    format!("Details: kubectl describe dnsincident {}", incident.name)
}

fn event(subject: &Subject, warning: bool, reason: &'static str, note: String) -> Output {
    Output::Event { subject: subject.clone(), warning, reason, note }
}

/// Sentences, one after the other. If that is too long, all but the last give way first.
fn compose(parts: &[&str]) -> String {
    let tidy = |part: &&str| line(part, usize::MAX).trim().trim_end_matches('.').to_owned();
    let parts: Vec<String> = parts.iter().map(tidy).filter(|part| !part.is_empty()).collect();
    let whole = parts.join(". ");
    if whole.len() <= LONGEST {
        return whole;
    }
    let Some((last, others)) = parts.split_last() else { return whole };
    let others: Vec<String> = others.iter().map(|part| line(part, PART)).collect();
    let room = LONGEST.saturating_sub(others.iter().map(|part| part.len() + 2).sum());
    format!("{}. {}", others.join(". "), line(last, room))
}

#[cfg(test)]
mod tests;
