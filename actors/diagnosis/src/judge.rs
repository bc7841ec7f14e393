//! From the record to verdicts: the rules in order, each on what the ones before it left unexplained.

use std::collections::{BTreeMap, BTreeSet};

use nameward_messages::probe::{PathKey, QuestionKind};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Deferral, RuledOut, Subject};

use crate::finding::{Finding, RuleResult, View};
use crate::matrix::{Pick, target_pod};
use crate::record::EvidenceRecord;
use crate::rules::{RULES, unexplained};

/// Most lines of evidence, and of reasons against other causes, that a finding keeps.
pub const LINES: usize = 12;

/// What comes of judging one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Causes, in the order of the rules.
    pub findings: Vec<Finding>,
    /// Failing CoreDNS pods that other nodes' agents must judge.
    pub deferred: Vec<Deferral>,
    /// Rules that wait for a second sample: their name and what is awaited.
    pub waiting: Vec<(&'static str, String)>,
    /// Rules whose symptoms were there but which something contradicts.
    pub dismissed: Vec<RuledOut>,
    /// Failing paths that are no fault now: a rollout, a pod that starts or ends.
    pub excused: BTreeSet<PathKey>,
    /// Failing paths that nothing explains.
    pub open: BTreeSet<PathKey>,
}

/// Judges a record. Pure: the same record gives the same judgement.
#[must_use]
pub fn judge(record: &EvidenceRecord) -> Judgement {
    let mut judgement = Judgement::default();
    let suspected: BTreeSet<PathKey> = record.matrix.suspected().map(|(path, _)| path.clone()).collect();
    let mut view = View::new(record, suspected);
    excuse_pods(&mut view, &mut judgement);
    for rule in RULES {
        match (rule.judge)(&view) {
            RuleResult::Verdicts(findings) => {
                for mut finding in findings {
                    same_way(&view, &mut finding);
                    view.open.retain(|path| !finding.explains.contains(path));
                    judgement.findings.push(finding);
                }
            }
            RuleResult::RuledOut(because) => {
                judgement.dismissed.push(RuledOut { what: rule.name.to_owned(), because });
            }
            RuleResult::Waiting(what) => judgement.waiting.push((rule.name, what)),
            RuleResult::NotApplicable => {}
        }
    }
    // What this node's own links and rules explain is not another node's to judge: they are read first.
    defer(&mut view, &mut judgement);
    if !record.two_samples() {
        judgement.deferred.clear();
    }
    excuse_rest(&mut view, &mut judgement);
    if let Some(finding) = unexplained::judge(&view, &judgement) {
        view.open.retain(|path| !finding.explains.contains(path));
        judgement.findings.push(finding);
    }
    judgement.open = view.open;
    finish(&mut judgement);
    judgement
}

/// Whatever else is asked on a way whose internal name is explained fails for the same reason.
fn same_way(view: &View<'_>, finding: &mut Finding) {
    let internal = |path: &PathKey| PathKey { question: QuestionKind::Internal, ..path.clone() };
    let more: Vec<PathKey> =
        view.open.iter().filter(|path| finding.explains.contains(&internal(path))).cloned().collect();
    finding.explains.extend(more);
}

/// Paths to a CoreDNS pod that starts or ends say nothing about the pod.
fn excuse_pods(view: &mut View<'_>, judgement: &mut Judgement) {
    let record = view.record;
    for pod in record.targets.pods.iter().filter(|p| p.terminating || record.starting.contains(&p.uid)) {
        take(view, &mut judgement.excused, |path| target_pod(path) == Some(&pod.uid));
    }
}

/// What remains while pods come and go: queries to the Service may have met one of them.
fn excuse_rest(view: &mut View<'_>, judgement: &mut Judgement) {
    let rollout = view.record.rollout.in_progress;
    if rollout || !judgement.excused.is_empty() {
        take(view, &mut judgement.excused, |path| match path.target.kind {
            TargetKind::Service => true,
            TargetKind::Pod { .. } => rollout,
            TargetKind::Nameserver | TargetKind::Upstream => false,
        });
    }
}

/// Failing CoreDNS pods of other nodes: this node sees them only through the network between.
fn defer(view: &mut View<'_>, judgement: &mut Judgement) {
    let record = view.record;
    let mut failing: BTreeMap<&nameward_messages::PodUid, usize> = BTreeMap::new();
    for path in &view.open {
        if let Some(uid) = target_pod(path) {
            *failing.entry(uid).or_default() += 1;
        }
    }
    let mut explained: BTreeSet<PathKey> = BTreeSet::new();
    for pod in &record.targets.pods {
        let (Some(node), Some(_)) = (&pod.node, failing.get(&pod.uid)) else { continue };
        if *node == record.node {
            continue;
        }
        let pick = Pick { pod: Some(&pod.uid), ..Pick::default() };
        // One vantage among many that do reach it is that vantage's trouble, not the pod's.
        let mut because = None;
        for (path, state) in view.bad(pick) {
            let same = Pick {
                pod: Some(&pod.uid),
                transport: Some(path.transport),
                question: Some(path.question),
                ..Pick::default()
            };
            let bad = view.bad(same).count();
            let good = record.matrix.good(same).count();
            if bad > good {
                let outcome = state.failing.as_ref().unwrap_or(&state.last);
                because.get_or_insert_with(|| {
                    format!(
                        "{} over {} from {bad} of {} vantages of {}",
                        outcome,
                        path.transport,
                        bad + good,
                        record.node
                    )
                });
                explained.insert(path.clone());
                // A pod that does not know its own names knows none, and some queries to the Service end there.
                explained.extend(view.explained(&[Pick {
                    service: true,
                    transport: Some(path.transport),
                    question: Some(path.question).filter(|question| *question != QuestionKind::Internal),
                    ..Pick::default()
                }]));
            }
        }
        if let Some(because) = because {
            judgement.deferred.push(Deferral {
                subject: Subject::pod(&pod.key, &pod.uid),
                to_node: node.clone(),
                because,
            });
        }
    }
    judgement.deferred.sort();
    view.open.retain(|path| !explained.contains(path));
}

fn take(view: &mut View<'_>, into: &mut BTreeSet<PathKey>, which: impl Fn(&PathKey) -> bool) {
    let taken: Vec<PathKey> = view.open.iter().filter(|path| which(path)).cloned().collect();
    for path in taken {
        view.open.remove(&path);
        into.insert(path);
    }
}

/// Bounds the findings and gives each the reasons against the causes that were considered and dismissed.
fn finish(judgement: &mut Judgement) {
    let found: BTreeSet<Cause> = judgement.findings.iter().map(|f| f.cause).collect();
    for finding in &mut judgement.findings {
        for dismissed in &judgement.dismissed {
            let is_found = found.iter().any(|cause| cause.id() == dismissed.what);
            if !is_found && !finding.ruled_out.iter().any(|r| r.what == dismissed.what) {
                finding.ruled_out.push(dismissed.clone());
            }
        }
        finding.evidence.truncate(LINES);
        finding.ruled_out.truncate(LINES);
    }
}

#[cfg(test)]
mod tests;
