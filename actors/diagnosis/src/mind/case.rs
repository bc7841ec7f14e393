//! A case: from the first suspected path until every path is good. It decides when to read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nameward_messages::probe::PathKey;
use nameward_messages::verdict::Recovery;
use nameward_messages::{Mono, Now};

use super::recheck::Recheck;
use super::recovered::Seen;
use super::tracing::Tracing;
use crate::matrix::Matrix;
use crate::record::{LATELY, Sample};

/// From the beginning of one sample to the next while a case is young: the second one confirms the first.
const FIRST_GAP: Duration = Duration::from_millis(1200);
/// Later.
const GAP: Duration = Duration::from_secs(2);
/// After [`OFTEN`] samples: a case that lasts is not read to death.
const SLOW_GAP: Duration = Duration::from_secs(10);
/// While nothing fails, and a pod's spec alone keeps the case open.
const CALM_GAP: Duration = Duration::from_secs(60);
/// Samples at the quick pace.
const OFTEN: u32 = 15;
/// What was asked when a sample came in must have time to get lost before the next one.
const LOSE: Duration = Duration::from_millis(400);

/// Suspicions and recoveries that come within this time are judged together.
const SOON: Duration = Duration::from_millis(200);

/// An open case.
#[derive(Debug)]
pub(super) struct Case {
    /// While other nodes complain: a sample from [`LATELY`] to twice that ago, and the one that will follow it. A sample
    /// holds whole rule sets, so no more of them are kept.
    earlier: Option<Arc<Sample>>,
    later: Option<Arc<Sample>>,
    previous: Option<Arc<Sample>>,
    current: Option<Arc<Sample>>,
    samples: u32,
    /// Samples since the last thing that began to fail: it sets the pace.
    pace: u32,
    under_way: Option<(u64, Mono)>,
    next: Mono,
    review: Mono,
    /// What was asked again after the newest sample.
    pub(super) recheck: Option<Recheck>,
    /// Failing paths that were asked in other ways already: since when they failed then, and when they were asked.
    pub(super) asked: BTreeMap<PathKey, (Mono, Mono)>,
    /// Probes that were traced.
    pub(super) tracing: Tracing,
    /// What failed, for the record that is left when it heals before a cause was named.
    pub(super) seen: Seen,
}

impl Case {
    pub(super) fn open(now: Now) -> Self {
        Self {
            earlier: None,
            later: None,
            previous: None,
            current: None,
            samples: 0,
            pace: 0,
            under_way: None,
            next: now.mono,
            review: now.mono + SOON,
            recheck: None,
            asked: BTreeMap::new(),
            tracing: Tracing::default(),
            seen: Seen::new(now),
        }
    }

    /// Whether a sample is due. One that did not come back within `lost` is given up.
    pub(super) fn due(&mut self, now: Now, lost: Duration) -> bool {
        if let Some((_, since)) = self.under_way {
            if now.mono.since(since) < lost {
                return false;
            }
            self.under_way = None;
        }
        // What was asked after the last sample belongs between it and the next.
        let asked = self.recheck.as_ref().is_some_and(|recheck| recheck.awaited(now.mono));
        !asked && now.mono >= self.next
    }

    pub(super) fn collecting(&mut self, now: Now, id: u64) {
        self.under_way = Some((id, now.mono));
    }

    /// Takes a sample in; `false` if it is not the one that was asked for.
    pub(super) fn take(&mut self, now: Now, id: u64, sample: Sample, complained: bool) -> bool {
        if self.under_way.is_none_or(|(asked, _)| asked != id) {
            return false;
        }
        self.under_way = None;
        let began = sample.at;
        self.keep(began, complained);
        self.previous = self.current.replace(Arc::new(sample));
        self.samples = self.samples.saturating_add(1);
        self.pace = self.pace.saturating_add(1);
        let gap = match self.pace {
            1 => FIRST_GAP,
            n if n < OFTEN => GAP,
            _ => SLOW_GAP,
        };
        self.next = (began + gap).max(now.mono + LOSE);
        true
    }

    /// The case was judged and is to be judged again at `next`; without a failing path nothing is read until then.
    pub(super) fn reviewed(&mut self, next: Mono, reading: bool) {
        self.review = next;
        if !reading {
            self.next = self.next.max(next);
        }
    }

    /// Nothing fails: what stands all the same is looked at now and then, once it was read twice.
    pub(super) fn calm(&mut self) {
        if let Some(current) = self.current.as_ref().filter(|_| self.samples >= 2) {
            self.next = self.next.max(current.at + CALM_GAP);
        }
    }

    /// Something more began to fail: what was read before does not show it.
    pub(super) fn hurry(&mut self, now: Now) {
        self.pace = 0;
        self.next = self.next.min(now.mono + LOSE);
    }

    /// Many things happen at once: judge them together.
    pub(super) fn review_soon(&mut self, now: Now) {
        self.review = self.review.min(now.mono + SOON);
    }

    pub(super) fn samples(&self) -> (Option<Arc<Sample>>, Option<Arc<Sample>>, u32) {
        (self.previous.clone(), self.current.clone(), self.samples)
    }

    /// What is left to say when everything answers again.
    pub(super) fn recovery(&self, now: Now, matrix: &Matrix) -> Option<Recovery> {
        self.seen.recovery(now, matrix, self.samples)
    }

    /// The oldest sample of the last while.
    pub(super) fn earlier(&self) -> Option<Arc<Sample>> {
        self.earlier.clone()
    }

    /// Moves the older samples on.
    fn keep(&mut self, began: Mono, complained: bool) {
        let old = self.previous.take();
        if !complained {
            (self.earlier, self.later) = (None, None);
        } else if self.earlier.is_none() {
            self.earlier = old;
        } else if self.later.as_ref().is_none_or(|later| began.since(later.at) >= LATELY) {
            self.earlier = self.later.take().or_else(|| self.earlier.take());
            self.later = old;
        }
    }

    pub(super) fn deadline(&self) -> Mono {
        let awaits = self.under_way.is_some() || self.recheck.as_ref().is_some_and(|recheck| recheck.open());
        if awaits { self.review } else { self.review.min(self.next) }
    }
}
