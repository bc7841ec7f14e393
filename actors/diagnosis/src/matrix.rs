//! The symptom matrix: what each path last said, and which paths are suspected.
//!
//! It is level-based: rounds alone bring it back to the truth when a `Suspected` or a `Cleared` was lost, for
//! instance because the actor was rebuilt.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::{Observation, Outcome, OutcomeKind, PathKey, Purpose, QuestionKind, Round, Suspicion};
use nameward_messages::report::{MatrixDigest, MatrixRow};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::{Mono, PodUid};

/// Most rows of a digest.
pub const DIGEST_ROWS: usize = 128;
/// A path that failed in this many rounds in a row is suspected even if nobody said so.
const BAD_ROUNDS: u32 = 3;
/// A suspected path that was good in this many rounds in a row has cleared even if nobody said so.
const GOOD_ROUNDS: u32 = 2;
/// A path that was not asked for this many periods has left the set of paths.
const STALE_PERIODS: u32 = 4;
/// But never sooner than this.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// What is known of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathState {
    /// The last outcome.
    pub last: Outcome,
    /// When it was.
    pub at: Mono,
    /// The port that was asked.
    pub port: u16,
    /// The last failing outcome, kept while the path is suspected.
    pub failing: Option<Outcome>,
    /// Good results in a row.
    pub good_run: u32,
    /// Bad results in a row.
    pub bad_run: u32,
    /// Since when it is suspected.
    pub suspected: Option<Mono>,
    /// How long the last good answer took.
    pub latency: Option<Duration>,
}

/// Every path of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    paths: BTreeMap<PathKey, PathState>,
}

/// Picks paths of a matrix; what is `None` is not asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pick<'a> {
    /// From the host or from pods.
    pub from: Option<VantageKind>,
    /// From this pod.
    pub vantage: Option<&'a PodUid>,
    /// To this CoreDNS pod.
    pub pod: Option<&'a PodUid>,
    /// To the Service.
    pub service: bool,
    /// To any CoreDNS pod.
    pub any_pod: bool,
    /// Over this transport.
    pub transport: Option<Transport>,
    /// This kind of name.
    pub question: Option<QuestionKind>,
}

impl Pick<'_> {
    /// Whether a path is picked.
    #[must_use]
    pub fn takes(&self, path: &PathKey) -> bool {
        self.from.is_none_or(|from| path.vantage.kind() == from)
            && self.vantage.is_none_or(|uid| vantage_pod(path) == Some(uid))
            && self.pod.is_none_or(|uid| target_pod(path) == Some(uid))
            && (!self.service || matches!(path.target.kind, TargetKind::Service))
            && (!self.any_pod || matches!(path.target.kind, TargetKind::Pod { .. }))
            && self.transport.is_none_or(|t| path.transport == t)
            && self.question.is_none_or(|q| path.question == q)
    }
}

/// The pod that a path starts from, if it is one.
#[must_use]
pub fn vantage_pod(path: &PathKey) -> Option<&PodUid> {
    match &path.vantage {
        Vantage::Pod { uid, .. } => Some(uid),
        Vantage::Host => None,
    }
}

/// The CoreDNS pod that a path leads to, if it is one.
#[must_use]
pub fn target_pod(path: &PathKey) -> Option<&PodUid> {
    match &path.target.kind {
        TargetKind::Pod { uid, .. } => Some(uid),
        TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => None,
    }
}

impl Matrix {
    /// Takes a round in. Results that say nothing, and probes that were not asked in the ordinary way, are left out.
    pub fn round(&mut self, round: &Round) {
        for seen in &round.observations {
            if matches!(seen.purpose, Purpose::Round | Purpose::Confirm) {
                self.observe(seen);
            }
        }
        let stale = STALE_AFTER.max(round.period.saturating_mul(STALE_PERIODS));
        let now = round.ended.mono;
        self.paths.retain(|_, state| now.since(state.at) <= stale);
    }

    /// Takes one result in.
    pub fn observe(&mut self, seen: &Observation) {
        let Some(good) = seen.outcome.good() else { return };
        let state = self.paths.entry(seen.path.clone()).or_insert_with(|| PathState {
            last: seen.outcome.clone(),
            at: seen.at,
            port: seen.port,
            failing: None,
            good_run: 0,
            bad_run: 0,
            suspected: None,
            latency: None,
        });
        if seen.at < state.at {
            return;
        }
        state.at = seen.at;
        state.port = seen.port;
        state.last = seen.outcome.clone();
        if good {
            state.latency = Some(seen.latency);
            state.good_run = state.good_run.saturating_add(1);
            state.bad_run = 0;
            if state.good_run >= GOOD_ROUNDS {
                state.suspected = None;
                state.failing = None;
            }
        } else {
            state.bad_run = state.bad_run.saturating_add(1);
            state.good_run = 0;
            state.failing = Some(seen.outcome.clone());
            if state.bad_run >= BAD_ROUNDS && state.suspected.is_none() {
                state.suspected = Some(seen.at);
            }
        }
    }

    /// Takes a suspicion in. One that is older than what rounds have said since is not believed.
    pub fn suspect(&mut self, suspicion: &Suspicion) {
        let newer =
            self.paths.get(&suspicion.path).is_some_and(|s| s.at > suspicion.at.mono && s.good_run >= GOOD_ROUNDS);
        if newer {
            return;
        }
        let failing = suspicion.observations.iter().rev().find(|o| o.outcome.good() == Some(false));
        let Some(last) = failing.or(suspicion.observations.last()) else { return };
        let state = self.paths.entry(suspicion.path.clone()).or_insert_with(|| PathState {
            last: last.outcome.clone(),
            at: suspicion.at.mono,
            port: last.port,
            failing: None,
            good_run: 0,
            bad_run: 0,
            suspected: None,
            latency: None,
        });
        state.at = state.at.max(suspicion.at.mono);
        state.last = last.outcome.clone();
        state.failing = Some(last.outcome.clone());
        state.good_run = 0;
        state.bad_run = state.bad_run.max(1);
        state.suspected.get_or_insert(suspicion.at.mono);
    }

    /// A path is not suspected any more; `recovered` is `false` when it left the set of paths.
    pub fn clear(&mut self, path: &PathKey, recovered: bool) {
        if !recovered {
            self.paths.remove(path);
        } else if let Some(state) = self.paths.get_mut(path) {
            state.suspected = None;
            state.failing = None;
        }
    }

    /// Marks every path whose last result is bad as suspected: for a command that asks several times itself.
    pub fn suspect_failing(&mut self) {
        for state in self.paths.values_mut() {
            if state.last.good() == Some(false) {
                state.suspected.get_or_insert(state.at);
                state.failing = Some(state.last.clone());
            }
        }
    }

    /// Forgets paths whose vantage or target is gone.
    pub fn keep(&mut self, stays: impl Fn(&PathKey) -> bool) {
        self.paths.retain(|path, _| stays(path));
    }

    /// One path.
    #[must_use]
    pub fn get(&self, path: &PathKey) -> Option<&PathState> {
        self.paths.get(path)
    }

    /// Every path, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&PathKey, &PathState)> {
        self.paths.iter()
    }

    /// Paths that are suspected, in order.
    pub fn suspected(&self) -> impl Iterator<Item = (&PathKey, &PathState)> {
        self.paths.iter().filter(|(_, s)| s.suspected.is_some())
    }

    /// Suspected paths that are picked.
    pub fn bad<'a>(&'a self, pick: Pick<'a>) -> impl Iterator<Item = (&'a PathKey, &'a PathState)> {
        self.suspected().filter(move |(path, _)| pick.takes(path))
    }

    /// Paths that are picked, not suspected and whose last result is good.
    pub fn good<'a>(&'a self, pick: Pick<'a>) -> impl Iterator<Item = (&'a PathKey, &'a PathState)> {
        self.paths
            .iter()
            .filter(move |(path, s)| s.suspected.is_none() && s.last.good() == Some(true) && pick.takes(path))
    }

    /// The bounded form for the coordinator and for people: one row per target, transport, question and kind of
    /// vantage, sorted; of more than [`DIGEST_ROWS`] the failing ones are kept first.
    #[must_use]
    pub fn digest(&self) -> MatrixDigest {
        type Key = (TargetOrder, Transport, QuestionKind, VantageKind);
        /// Good, bad, how the bad ones fail, and the times of the good ones.
        type Counts = (u32, u32, BTreeMap<OutcomeKind, u32>, Vec<Duration>);
        let mut rows: BTreeMap<Key, Counts> = BTreeMap::new();
        for (path, state) in &self.paths {
            let target =
                TargetOrder { label: path.target.kind.label(), pod: target_pod(path).cloned(), ip: path.target.ip };
            let row = rows.entry((target, path.transport, path.question, path.vantage.kind())).or_default();
            if state.suspected.is_some() {
                row.1 += 1;
                let kind = state.failing.as_ref().unwrap_or(&state.last).kind();
                *row.2.entry(kind).or_default() += 1;
            } else if state.last.good() == Some(true) {
                row.0 += 1;
                row.3.extend(state.latency);
            }
        }
        let mut rows: Vec<MatrixRow> = rows
            .into_iter()
            .map(|((target, transport, question, from), (good, bad, kinds, times))| MatrixRow {
                target: target.label.to_owned(),
                pod: target.pod,
                ip: target.ip,
                transport,
                question,
                from,
                good,
                bad,
                // The first of the most frequent ones: the order of kinds decides a tie.
                outcome: kinds.iter().rev().max_by_key(|(_, n)| **n).map(|(kind, _)| *kind),
                latency_us: median(times),
            })
            .collect();
        if rows.len() > DIGEST_ROWS {
            // Then by kind: the cluster's own name says most.
            rows.sort_by_key(|row| (row.bad == 0, row.question));
            rows.truncate(DIGEST_ROWS);
        }
        rows.sort();
        MatrixDigest { rows }
    }
}

/// In microseconds.
fn median(mut times: Vec<Duration>) -> Option<u32> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct TargetOrder {
    label: &'static str,
    pod: Option<PodUid>,
    ip: std::net::IpAddr,
}

#[cfg(test)]
mod tests;
