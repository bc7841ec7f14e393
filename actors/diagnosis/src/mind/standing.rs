//! What stands: the history of verdicts, so that `since` is kept and an end is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::probe::PathKey;
use nameward_messages::verdict::{Cause, Confidence, DiagnosisTells, Layer, Scope, Verdict, VerdictKey};
use nameward_messages::{Mono, Now, PodUid};

use super::Output;
use crate::finding::Finding;
use crate::judge::Judgement;
use crate::matrix::{Matrix, target_pod};

/// A verdict that a judgement does not confirm, while its paths still fail, stands for this long: evidence that could
/// not be read for once must not reset the time that it has stood.
const GRACE: Duration = Duration::from_secs(6);
/// And for so many samples more: on a busy node they are rare.
const GRACE_SAMPLES: u32 = 2;
/// The same for what was found since other nodes complain.
const GRACE_FOR_OTHERS: Duration = Duration::from_secs(40);
/// A verdict that stands unchanged is told again this often.
const REPEAT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Standing {
    verdict: Verdict,
    explains: BTreeSet<PathKey>,
    told: Mono,
    /// Since when a judgement does not confirm it, and the number of samples at that time.
    missing_since: Option<(Mono, u32)>,
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

    /// Whether a cause stands for this pod, for another that takes what is sent to it, or for the whole of this node or more.
    pub(super) fn names(&self, pod: &PodUid) -> bool {
        self.standing.iter().any(|(key, standing)| {
            let wide = matches!(standing.verdict.scope, Scope::Node | Scope::Cluster);
            let takes = || standing.explains.iter().any(|path| target_pod(path) == Some(pod));
            key.cause != Cause::Unexplained && (wide || key.subject.uid.as_ref() == Some(pod) || takes())
        })
    }

    /// Whether any verdict stands.
    pub(super) fn stands(&self) -> bool {
        !self.standing.is_empty()
    }

    /// Takes a judgement in. What is `held_up` is not told unless it stands already.
    pub(super) fn settle(
        &mut self,
        now: Now,
        judgement: &Judgement,
        held_up: &BTreeSet<VerdictKey>,
        matrix: &Matrix,
        known: &Known,
        out: &mut Vec<Output>,
    ) {
        let found: BTreeMap<VerdictKey, &Finding> = judgement.findings.iter().map(|f| (f.key(), f)).collect();
        self.standing.retain(|key, standing| {
            if found.contains_key(key) {
                return true;
            }
            let fails = |path: &PathKey| matrix.get(path).is_some_and(|s| s.suspected.is_some());
            let still: Vec<&PathKey> = standing.explains.iter().filter(|p| fails(p)).collect();
            let here = known.has(key);
            let recovered = still.is_empty() && !(standing.explains.is_empty() && known.complained);
            let elsewhere = |path: &&PathKey| {
                judgement.findings.iter().any(|f| f.cause != Cause::Unexplained && f.explains.contains(*path))
            };
            let replaced = !still.is_empty() && still.iter().all(elsewhere);
            let (since, samples) = *standing.missing_since.get_or_insert((now.mono, known.samples));
            let looked_again = known.samples == 0 || known.samples.saturating_sub(samples) >= GRACE_SAMPLES;
            let waited = now.mono.since(since);
            // What others send moves the counters, once per round of theirs.
            let grace = if standing.explains.is_empty() { GRACE_FOR_OTHERS } else { GRACE };
            let patience = waited < grace || (!looked_again && waited < grace * 5);
            if here && !recovered && !replaced && patience {
                return true;
            }
            let recovered = recovered && here && standing.is_asked(matrix);
            out.push(Output::Tell(DiagnosisTells::Ended { key: key.clone(), at: now, recovered }));
            false
        });
        let named = |path: &PathKey| {
            let mut causes = self.standing.iter().filter(|(key, _)| key.cause != Cause::Unexplained);
            causes.any(|(_, standing)| standing.explains.contains(path))
        };
        // What was named and still stands is not unexplained because its evidence could not be confirmed for once.
        let news: Vec<(VerdictKey, &Finding)> = found
            .into_iter()
            .filter(|(key, f)| key.cause != Cause::Unexplained || !f.explains.iter().any(named))
            .filter(|(key, _)| self.standing.contains_key(key) || !held_up.contains(key))
            .collect();
        for (key, finding) in news {
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
            let (since, _) = *standing.missing_since.get_or_insert((now.mono, 0));
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
    /// Samples so far in the open case; 0: there is none.
    pub(super) samples: u32,
    /// Other nodes complain of a CoreDNS pod of this one: what was found from that explains no path of this node's own.
    pub(super) complained: bool,
}

impl Known {
    /// Whether what a verdict is about exists still.
    fn has(&self, key: &VerdictKey) -> bool {
        let Some(uid) = &key.subject.uid else { return true };
        let of_coredns = key.cause.about().layer == Layer::Coredns;
        self.dns.contains(uid) || (!of_coredns && self.here.contains(uid))
    }
}

#[cfg(test)]
mod tests {
    use nameward_messages::NodeName;
    use nameward_messages::namespaces::Vantage;
    use nameward_messages::probe::{Observation, Outcome, Purpose, QuestionKind, Suspicion};
    use nameward_messages::targets::{Target, TargetKind, Transport};
    use nameward_messages::verdict::Subject;

    use super::*;
    use crate::testing::ip;

    fn path() -> PathKey {
        let target = Target { kind: TargetKind::Service, ip: ip("10.96.0.10") };
        PathKey { vantage: Vantage::Host, target, transport: Transport::Udp, question: QuestionKind::Internal }
    }

    fn judgement(cause: Option<Cause>) -> Judgement {
        let finding = |cause| Finding {
            cause,
            scope: Scope::Node,
            subject: Subject::node(&NodeName::from("node1")),
            confidence: Confidence::Certain,
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            explains: BTreeSet::from([path()]),
        };
        Judgement { findings: cause.map(finding).into_iter().collect(), ..Judgement::default() }
    }

    fn told(ledger: &mut Ledger, second: u64, cause: Option<Cause>) -> Vec<Output> {
        let now = Now::at(Duration::from_secs(second));
        let mut matrix = Matrix::default();
        let failed = Observation {
            at: now.mono,
            path: path(),
            port: 53,
            outcome: Outcome::Timeout,
            latency: Duration::from_millis(700),
            connect: None,
            purpose: Purpose::Confirm,
        };
        matrix.suspect(&Suspicion { at: now, path: path(), observations: vec![failed] });
        let mut out = Vec::new();
        ledger.settle(now, &judgement(cause), &BTreeSet::new(), &matrix, &Known::default(), &mut out);
        out
    }

    #[test]
    fn what_stands_is_not_unexplained_when_its_evidence_fails_for_once() {
        let mut ledger = Ledger::default();
        assert_eq!(told(&mut ledger, 1, Some(Cause::ServiceRulesMissing)).len(), 1);
        assert!(told(&mut ledger, 3, Some(Cause::Unexplained)).is_empty(), "within the grace");
        assert!(told(&mut ledger, 5, Some(Cause::ServiceRulesMissing)).is_empty(), "nothing ended, nothing is news");
        assert!(told(&mut ledger, 7, None).is_empty());
        // Beyond the grace it is: the one ends and the other stands.
        assert_eq!(told(&mut ledger, 20, Some(Cause::Unexplained)).len(), 2);
        // And a name replaces it at once.
        assert_eq!(told(&mut ledger, 21, Some(Cause::ServiceRulesMissing)).len(), 2);
    }
}
