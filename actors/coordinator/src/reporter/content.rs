//! What stands in a report, bounded, and what of it counts as a change.

use std::collections::{BTreeMap, BTreeSet};

use nameward_messages::health::{ActorName, Stage};
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{OutcomeKind, QuestionKind};
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::report::{MatrixDigest, NodeReport, ReportedVerdict};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Confidence, Deferral, Evidence, RuledOut, Scope, Verdict, VerdictKey};
use nameward_messages::{PodUid, RequestId};

const VERDICTS: usize = 16;
const EVIDENCE: usize = 12;
const RULED_OUT: usize = 12;
const ROWS: usize = 128;
const REMEDIES: usize = 16;
const TROUBLES: usize = 16;
pub(super) const DEFERRED: usize = 16;
pub(super) const UNMODELLED: usize = 8;
use super::pace::Weight;

/// Longest text of one line, in bytes.
const LINE: usize = 400;

/// The part of a report whose change is worth a write. Times, latencies and how many vantages a row counts are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    self_check: bool,
    troubles: Vec<String>,
    probes_from_pods: bool,
    rows: BTreeSet<RowShape>,
    verdicts: Vec<(VerdictKey, Confidence, Scope)>,
    deferred: Vec<Deferral>,
    examined: Vec<PodUid>,
    unmodelled: Vec<String>,
    answers: BTreeSet<RequestId>,
    remedies: Vec<RemedyRecord>,
    conditions: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowShape {
    pod: Option<PodUid>,
    ip: std::net::IpAddr,
    transport: Transport,
    question: QuestionKind,
    from: VantageKind,
    some_good: bool,
    some_bad: bool,
    outcome: Option<OutcomeKind>,
}

impl Shape {
    pub(super) fn of(report: &NodeReport) -> Self {
        let row = |row: &nameward_messages::report::MatrixRow| RowShape {
            pod: row.pod.clone(),
            ip: row.ip,
            transport: row.transport,
            question: row.question,
            from: row.from,
            some_good: row.good > 0,
            some_bad: row.bad > 0,
            outcome: row.outcome,
        };
        let key =
            |v: &ReportedVerdict| (VerdictKey { cause: v.cause, subject: v.subject.clone() }, v.confidence, v.scope);
        Self {
            self_check: report.self_check,
            troubles: report.troubles.clone(),
            probes_from_pods: report.namespaces > 0,
            rows: report.matrix.rows.iter().map(row).collect(),
            verdicts: report.verdicts.iter().map(key).collect(),
            deferred: report.deferred.clone(),
            examined: report.examined.clone(),
            unmodelled: report.unmodelled.clone(),
            answers: report.answers.iter().map(|a| a.id.clone()).collect(),
            remedies: report.remedies.clone(),
            conditions: report.conditions.iter().map(|c| (c.r#type.clone(), c.status.clone())).collect(),
        }
    }

    /// In what this report differs from the one that was written last, if in anything.
    pub(super) fn differs_from(&self, written: Option<&Self>) -> Option<Weight> {
        let Some(written) = written else { return Some(Weight::Answer) };
        if !self.answers.is_subset(&written.answers) {
            return Some(Weight::Answer);
        }
        if self.verdicts != written.verdicts || self.conditions != written.conditions {
            return Some(Weight::Verdict);
        }
        (self != written).then_some(Weight::Matrix)
    }
}

/// What is wrong with the agent itself.
#[derive(Debug)]
pub(super) struct Troubles {
    /// The agent vouches for itself all the same.
    pub(super) vouches: bool,
    /// One line each.
    pub(super) lines: Vec<String>,
}

/// Gathers the troubles. The agent does not vouch for itself while a fellow that it probes or reads the API with is not
/// ready, is dead or stuck, or while the process gets no processor. Lost evidence or namespaces are told and do not count:
/// what is still probed is probed rightly.
pub(super) fn troubles(stages: &BTreeMap<ActorName, Stage>, process: &[String], starved: bool) -> Troubles {
    let mut lines: Vec<String> = process.iter().map(|line| clip(line)).collect();
    let mut vouches = process.is_empty() && !starved;
    if starved {
        lines.push("the process gets too little processor time: it was late by seconds".to_owned());
    }
    for (name, stage) in stages {
        let essential = matches!(name, ActorName::Watcher | ActorName::Prober | ActorName::Diagnosis);
        match stage {
            Stage::Ready => {}
            Stage::Starting(because) => {
                vouches &= !essential;
                lines.push(clip(&format!("{name} is starting: {because}")));
            }
            Stage::Degraded(because) => {
                vouches &= !matches!(name, ActorName::Watcher | ActorName::Prober);
                lines.push(clip(&format!("{name}: {because}")));
            }
        }
    }
    lines.truncate(TROUBLES);
    Troubles { vouches, lines }
}

/// The verdicts, those that stand longest first when there are too many.
pub(super) fn verdicts(standing: &BTreeMap<VerdictKey, Verdict>) -> Vec<ReportedVerdict> {
    let mut all: Vec<&Verdict> = standing.values().collect();
    all.sort_by_key(|v| v.since.mono);
    all.truncate(VERDICTS);
    all.sort_by_key(|v| v.key());
    let line = |e: &Evidence| Evidence { read: clip(&e.read), says: clip(&e.says) };
    let out = |r: &RuledOut| RuledOut { what: clip(&r.what), because: clip(&r.because) };
    let reported = |v: &Verdict| ReportedVerdict {
        cause: v.cause,
        scope: v.scope,
        subject: v.subject.clone(),
        confidence: v.confidence,
        evidence: v.evidence.iter().take(EVIDENCE).map(line).collect(),
        ruled_out: v.ruled_out.iter().take(RULED_OUT).map(out).collect(),
        since: v.since.wall,
    };
    all.into_iter().map(reported).collect()
}

/// The matrix within its bound: failing rows first.
pub(super) fn bounded(mut matrix: MatrixDigest) -> MatrixDigest {
    if matrix.rows.len() > ROWS {
        matrix.rows.sort_by_key(|row| row.bad == 0);
        matrix.rows.truncate(ROWS);
        matrix.rows.sort();
    }
    matrix
}

/// Keeps the newest records, each once.
pub(super) fn keep_last(records: &mut Vec<RemedyRecord>, record: RemedyRecord) {
    let record = RemedyRecord { detail: clip(&record.detail), ..record };
    if !records.contains(&record) {
        records.push(record);
    }
    let surplus = records.len().saturating_sub(REMEDIES);
    records.drain(..surplus);
}

/// A line within its bound.
pub(super) fn clip(text: &str) -> String {
    nameward_messages::text::line(text, LINE)
}
