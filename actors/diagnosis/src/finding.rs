//! What a rule finds, and what it sees: the record together with the failing paths that no rule has explained yet.

use std::collections::BTreeSet;

use nameward_messages::PodUid;
use nameward_messages::probe::{Observation, Outcome, PathKey, Purpose};
use nameward_messages::targets::DnsPod;
use nameward_messages::verdict::{Cause, Confidence, Evidence, RuledOut, Scope, Subject, VerdictKey};

use crate::matrix::{PathState, Pick};
use crate::record::{EvidenceRecord, Held};
use crate::rules::filter_survey::{Survey, survey};

/// A verdict before it has a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub cause: Cause,
    /// How far it reaches.
    pub scope: Scope,
    /// What it is about.
    pub subject: Subject,
    /// How sure.
    pub confidence: Confidence,
    /// What was read.
    pub evidence: Vec<Evidence>,
    /// What it is not.
    pub ruled_out: Vec<RuledOut>,
    /// The failing paths that it explains.
    pub explains: BTreeSet<PathKey>,
}

impl Finding {
    /// What it is told apart by.
    #[must_use]
    pub fn key(&self) -> VerdictKey {
        VerdictKey { cause: self.cause, subject: self.subject.clone() }
    }
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleResult {
    /// It names the cause of some failing paths.
    Verdicts(Vec<Finding>),
    /// It looked like it, but something contradicts.
    RuledOut(String),
    /// It looks like it, but nothing is a verdict after a single sample.
    Waiting(String),
    /// Its symptoms are not there.
    NotApplicable,
}

/// What a rule is given.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Everything that was read.
    pub record: &'a EvidenceRecord,
    /// Suspected paths that no earlier rule explains.
    pub open: BTreeSet<PathKey>,
    /// What failing paths meet in the node's packet filters, once it was asked for.
    filters: std::cell::OnceCell<Survey>,
}

impl<'a> View<'a> {
    /// What is there before any rule was asked.
    #[must_use]
    pub fn new(record: &'a EvidenceRecord, open: BTreeSet<PathKey>) -> Self {
        Self { record, open, filters: std::cell::OnceCell::new() }
    }

    /// What the suspected paths meet in the node's packet filters: walked once for all rules.
    pub(crate) fn filters(&self) -> &Survey {
        self.filters.get_or_init(|| survey(self.record))
    }

    /// Open paths that are picked.
    pub fn bad<'b>(&'b self, pick: Pick<'b>) -> impl Iterator<Item = (&'a PathKey, &'a PathState)> + use<'a, 'b> {
        self.record.matrix.suspected().filter(move |(path, _)| self.open.contains(*path) && pick.takes(path))
    }

    /// Copies of open paths that one of the picks takes.
    #[must_use]
    pub fn explained(&self, picks: &[Pick<'_>]) -> BTreeSet<PathKey> {
        self.open.iter().filter(|path| picks.iter().any(|pick| pick.takes(path))).cloned().collect()
    }

    /// What came of asking a path in another way since it began to fail, the newest.
    #[must_use]
    pub fn in_another_way(&self, path: &PathKey, purpose: &Purpose) -> Option<&'a Observation> {
        let since = self.record.matrix.get(path)?.suspected?;
        let asked = |o: &&Observation| &o.path == path && &o.purpose == purpose && o.at >= since;
        self.record.probes.iter().filter(asked).max_by_key(|o| o.at)
    }

    /// The newest outcome of a path, be it from a round or from an ordinary probe that diagnosis asked for.
    #[must_use]
    pub fn latest(&self, path: &PathKey) -> Option<Seen<'a>> {
        let round = self.record.matrix.get(path).map(|s| Seen { at: s.at, outcome: &s.last });
        let asked = self
            .record
            .probes
            .iter()
            .filter(|o| &o.path == path && matches!(o.purpose, Purpose::Diagnosis))
            .max_by_key(|o| o.at)
            .map(|o: &Observation| Seen { at: o.at, outcome: &o.outcome });
        [round, asked].into_iter().flatten().max_by_key(|seen| seen.at)
    }
}

/// One outcome and its time.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When.
    pub at: nameward_messages::Mono,
    /// What.
    pub outcome: &'a Outcome,
}

/// Gathers what several subjects of one rule yield into one result: verdicts before waiting before a reason against.
#[derive(Debug, Default)]
pub struct Tally {
    findings: Vec<Finding>,
    waiting: Option<String>,
    against: Option<String>,
}

impl Tally {
    /// Adds what one subject yields.
    pub fn add(&mut self, result: RuleResult) {
        match result {
            RuleResult::Verdicts(more) => self.findings.extend(more),
            RuleResult::Waiting(why) => self.waiting = self.waiting.take().or(Some(why)),
            RuleResult::RuledOut(why) => self.against = self.against.take().or(Some(why)),
            RuleResult::NotApplicable => {}
        }
    }

    /// The result of the rule.
    #[must_use]
    pub fn done(self) -> RuleResult {
        if !self.findings.is_empty() {
            return RuleResult::Verdicts(self.findings);
        }
        match (self.waiting, self.against) {
            (Some(why), _) => RuleResult::Waiting(why),
            (None, Some(why)) => RuleResult::RuledOut(why),
            (None, None) => RuleResult::NotApplicable,
        }
    }
}

/// What the samples make of deciding evidence: a confidence, or a result that ends the rule.
///
/// `probable` says whether the symptoms alone are worth a verdict when the evidence cannot be read.
///
/// # Errors
/// The rule's result, when there is no verdict.
pub fn confidence(
    record: &EvidenceRecord,
    held: Held,
    probable: bool,
    contradicted: &str,
) -> Result<Confidence, RuleResult> {
    match held {
        Held::Twice => Ok(Confidence::Certain),
        Held::Once => Err(RuleResult::Waiting("a second sample is awaited".to_owned())),
        Held::No => Err(RuleResult::RuledOut(contradicted.to_owned())),
        Held::Unread if !record.two_samples() => Err(RuleResult::Waiting("evidence is being read".to_owned())),
        Held::Unread if probable => Ok(Confidence::Probable),
        Held::Unread => Err(RuleResult::RuledOut("the deciding evidence could not be read".to_owned())),
    }
}

/// The evidence line of a path: what probing it says.
#[must_use]
pub fn probe_line(path: &PathKey, outcome: &Outcome) -> Evidence {
    Evidence::new(format!("probe {path}"), outcome.to_string())
}

/// A reason against another cause.
#[must_use]
pub fn not(cause: Cause, because: impl Into<String>) -> RuledOut {
    RuledOut { what: cause.id().to_owned(), because: because.into() }
}

/// The subject that is a CoreDNS pod.
#[must_use]
pub fn dns_subject(pod: &DnsPod) -> Subject {
    Subject::pod(&pod.key, &pod.uid)
}

/// A pod's name for people: `namespace/name` where it is known.
#[must_use]
pub fn pod_name(record: &EvidenceRecord, uid: &PodUid) -> String {
    if let Some(namespace) = record.namespaces.get(uid) {
        return namespace.key.to_string();
    }
    record.dns_pod(uid).map_or_else(|| uid.to_string(), |pod| pod.key.to_string())
}
