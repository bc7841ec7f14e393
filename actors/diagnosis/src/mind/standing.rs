//! What stands: the history of verdicts, so that `since` is kept and an end is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::probe::PathKey;
use nameward_messages::verdict::{Cause, Confidence, DiagnosisTells, Verdict, VerdictKey};
use nameward_messages::{Mono, Now, PodUid};

use super::Output;
use crate::finding::Finding;
use crate::judge::Judgement;
use crate::matrix::Matrix;

/// A verdict that a judgement does not confirm, while its paths still fail, stands for this long: evidence that could
/// not be read for once must not reset the time that it has stood.
const GRACE: Duration = Duration::from_secs(6);
/// A verdict that stands unchanged is told again this often.
const REPEAT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Standing {
    verdict: Verdict,
    explains: BTreeSet<PathKey>,
    told: Mono,
    missing_since: Option<Mono>,
}

/// The verdicts that stand.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    standing: BTreeMap<VerdictKey, Standing>,
}

impl Ledger {
    /// Everything answers again: what stood has ended.
    pub(super) fn close(&mut self, now: Now, matrix: &Matrix, known: &Known, out: &mut Vec<Output>) {
        for (key, standing) in std::mem::take(&mut self.standing) {
            let recovered = known.has(&key) && standing.is_asked(matrix);
            out.push(Output::Tell(DiagnosisTells::Ended { key, at: now, recovered }));
        }
    }

    /// Takes a judgement in.
    pub(super) fn settle(
        &mut self,
        now: Now,
        judgement: &Judgement,
        matrix: &Matrix,
        known: &Known,
        out: &mut Vec<Output>,
    ) {
        let found: BTreeMap<VerdictKey, &Finding> =
            judgement.findings.iter().map(|f| (VerdictKey { cause: f.cause, subject: f.subject.clone() }, f)).collect();
        self.standing.retain(|key, standing| {
            if found.contains_key(key) {
                return true;
            }
            let fails = |path: &PathKey| matrix.get(path).is_some_and(|s| s.suspected.is_some());
            let still: Vec<&PathKey> = standing.explains.iter().filter(|p| fails(p)).collect();
            let here = known.has(key);
            let recovered = still.is_empty();
            let elsewhere = |path: &&PathKey| judgement.findings.iter().any(|f| f.explains.contains(*path));
            let replaced = !still.is_empty() && still.iter().all(elsewhere);
            let since = *standing.missing_since.get_or_insert(now.mono);
            if here && !recovered && !replaced && now.mono.since(since) < GRACE {
                return true;
            }
            let recovered = recovered && here && standing.is_asked(matrix);
            out.push(Output::Tell(DiagnosisTells::Ended { key: key.clone(), at: now, recovered }));
            false
        });
        for (key, finding) in found {
            self.stand(now, key, finding, out);
        }
    }

    fn stand(&mut self, now: Now, key: VerdictKey, finding: &Finding, out: &mut Vec<Output>) {
        let verdict = |since: Now| Verdict {
            cause: finding.cause,
            scope: finding.scope,
            subject: finding.subject.clone(),
            confidence: finding.confidence,
            evidence: finding.evidence.clone(),
            ruled_out: finding.ruled_out.clone(),
            since,
            at: now,
        };
        let Some(standing) = self.standing.get_mut(&key) else {
            let verdict = verdict(now);
            out.push(Output::Tell(DiagnosisTells::Stands(verdict.clone())));
            let explains = finding.explains.clone();
            self.standing.insert(key, Standing { verdict, explains, told: now.mono, missing_since: None });
            return;
        };
        standing.explains.clone_from(&finding.explains);
        let weaker = finding.confidence == Confidence::Probable && standing.verdict.confidence == Confidence::Certain;
        if weaker {
            // What was certain is not taken back because one reading failed.
            let since = *standing.missing_since.get_or_insert(now.mono);
            if now.mono.since(since) < GRACE {
                return;
            }
        }
        standing.missing_since = None;
        let news = finding.confidence != standing.verdict.confidence;
        standing.verdict = verdict(standing.verdict.since);
        if news || now.mono.since(standing.told) >= REPEAT {
            standing.told = now.mono;
            out.push(Output::Tell(DiagnosisTells::Stands(standing.verdict.clone())));
        }
    }
}

impl Standing {
    /// A path that it explained is asked still: else it has not recovered but left with its vantage or target.
    fn is_asked(&self, matrix: &Matrix) -> bool {
        self.explains.is_empty() || self.explains.iter().any(|path| matrix.get(path).is_some())
    }
}

/// The pods that exist as far as this node knows.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// CoreDNS pods that are not on their way out.
    pub(super) dns: BTreeSet<PodUid>,
    /// Pods of this node that are probed from.
    pub(super) here: BTreeSet<PodUid>,
}

impl Known {
    /// Whether what a verdict is about exists still.
    fn has(&self, key: &VerdictKey) -> bool {
        let Some(uid) = &key.subject.uid else { return true };
        let of_coredns = matches!(
            key.cause,
            Cause::CorednsUdpDead | Cause::CorednsUdpStuck | Cause::CorednsHung | Cause::CorednsOomKilled
        );
        self.dns.contains(uid) || (!of_coredns && self.here.contains(uid))
    }
}
