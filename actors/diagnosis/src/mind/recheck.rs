//! Whether what is about to be named still fails. Evidence is read between two moments, and what failed may have healed in
//! between: counters then straddle the change and look like another fault. So after every sample the failing paths are
//! asked once more, and no new verdict is told unless one of those that it explains fails still.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::probe::{PathKey, ProbeRequest, Purpose};
use nameward_messages::verdict::Cause;
use nameward_messages::{Mono, RequestId};

use super::DiagnosisMind;
use crate::finding::Finding;

/// An answer that has not come within this time is not waited for any longer.
const LOST: Duration = Duration::from_secs(4);

/// Causes that lose some queries and let others pass: that one is answered says nothing against them.
const LOSE_SOME: [Cause; 4] =
    [Cause::ConntrackInsertFailed, Cause::ForwardLimitReached, Cause::UpstreamThrottled, Cause::SearchAmplification];

/// The paths that were asked again after the newest sample.
#[derive(Debug)]
pub(super) struct Recheck {
    request: RequestId,
    paths: BTreeSet<PathKey>,
    since: Mono,
    answered: bool,
}

impl Recheck {
    pub(super) fn new(since: Mono, request: &ProbeRequest) -> Self {
        let paths = request.items.iter().map(|item| item.path.clone()).collect();
        Self { request: request.id.clone(), paths, since, answered: false }
    }

    pub(super) fn answered(&mut self, id: &RequestId) {
        self.answered |= self.request == *id;
    }

    /// The answer has not come yet.
    pub(super) fn open(&self) -> bool {
        !self.answered
    }

    /// The answer has not come yet, and may still come.
    pub(super) fn awaited(&self, now: Mono) -> bool {
        self.open() && now.since(self.since) < LOST
    }
}

impl DiagnosisMind {
    /// Whether one of the paths that a finding explains has failed since the newest sample was taken. What explains no path,
    /// or none that is asked again, is not held up.
    pub(super) fn still_fails(&self, now: Mono, finding: &Finding) -> bool {
        let Some(recheck) = self.case.as_ref().and_then(|case| case.recheck.as_ref()) else { return true };
        let concerned = |path: &PathKey| finding.explains.contains(path);
        // What is unexplained rests on no evidence that could straddle anything, and has failed for long.
        if finding.cause == Cause::Unexplained
            || LOSE_SOME.contains(&finding.cause)
            || !recheck.paths.iter().any(concerned)
        {
            return true;
        }
        if recheck.open() {
            return !recheck.awaited(now);
        }
        finding.explains.iter().any(|path| self.failed_since(path, recheck.since))
    }

    fn failed_since(&self, path: &PathKey, since: Mono) -> bool {
        let asked = self.probes.iter().filter(|o| &o.path == path && matches!(o.purpose, Purpose::Diagnosis));
        let round = self.matrix.get(path).map(|state| (state.at, state.last.good()));
        let newest = asked.map(|o| (o.at, o.outcome.good())).chain(round).max_by_key(|(at, _)| *at);
        newest.is_some_and(|(at, good)| at >= since && good == Some(false))
    }
}
