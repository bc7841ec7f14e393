//! How often the API server is written to, whatever happens on the node.

use std::time::Duration;

use nameward_messages::Mono;

/// A change waits this long for others to join it.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Never faster than this.
const GAP: Duration = Duration::from_secs(1);
/// In the long run no faster than this.
const SUSTAINED: Duration = Duration::from_secs(5);
/// So many may come at the pace of [`GAP`].
const BURST: u32 = 6;
/// Of these so many are kept for what others decide by: verdicts and answers. A matrix that flickers never uses them up.
const KEPT: u32 = 3;
/// After a failed call: this, doubled with each further one, up to [`MOST`].
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Who sees what fail.
    Matrix,
    /// A verdict came or went.
    Verdict,
    /// Somebody waits for an answer: it is not debounced.
    Answer,
}

/// The pace of one node's writes.
#[derive(Debug)]
pub(super) struct Pace {
    random: fastrand::Rng,
    dirty_since: Option<Mono>,
    weight: Weight,
    last: Option<Mono>,
    tokens: u32,
    refilled: Mono,
    heartbeat: Option<Mono>,
    failures: u32,
    not_before: Mono,
    trouble: Option<String>,
}

impl Pace {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            dirty_since: None,
            weight: Weight::Matrix,
            last: None,
            tokens: BURST,
            refilled: Mono::default(),
            heartbeat: None,
            failures: 0,
            not_before: Mono::default(),
            trouble: None,
        }
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether, and in what, the report differs now from the one that was written last.
    pub(super) fn changed(&mut self, now: Mono, differs: Option<Weight>) {
        self.dirty_since = differs.map(|_| self.dirty_since.unwrap_or(now));
        self.weight = differs.unwrap_or(Weight::Matrix);
    }

    /// Takes the right to write now, if there is one.
    pub(super) fn take(&mut self, now: Mono) -> bool {
        self.refill(now);
        if self.next(now, true).is_none_or(|at| at > now) {
            return false;
        }
        self.tokens = self.tokens.saturating_sub(1);
        self.last = Some(now);
        true
    }

    /// Whether a call that is not a write may be tried.
    pub(super) fn may_retry(&self, now: Mono) -> bool {
        now >= self.not_before
    }

    /// When there is something to do.
    pub(super) fn next(&self, now: Mono, known: bool) -> Option<Mono> {
        if !known {
            return Some(self.not_before.max(now));
        }
        let changed =
            self.dirty_since.map(|since| if self.weight == Weight::Answer { since } else { since + DEBOUNCE });
        let wanted = [changed, self.heartbeat].into_iter().flatten().min()?;
        let gap = self.last.map_or(wanted, |last| last + GAP);
        let kept = if self.weight == Weight::Matrix && self.dirty_since.is_some() { KEPT } else { 0 };
        let token = if self.tokens > kept { wanted } else { self.refilled + SUSTAINED * (kept + 1 - self.tokens) };
        Some(wanted.max(gap).max(token).max(self.not_before))
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = Mono::default();
        self.trouble = None;
    }

    /// A report was written: the next heartbeat lies `every` ahead, give or take a tenth.
    pub(super) fn wrote(&mut self, now: Mono, every: Duration) {
        self.dirty_since = None;
        self.heartbeat = Some(now + self.jitter(every, 0.1));
    }

    pub(super) fn failed(&mut self, now: Mono, why: String) {
        let pause = FIRST.saturating_mul(1 << self.failures.min(6)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + self.jitter(pause, 0.25);
        self.trouble = Some(why);
    }

    fn refill(&mut self, now: Mono) {
        let periods = now.since(self.refilled).as_secs() / SUSTAINED.as_secs();
        let gained = u32::try_from(periods).unwrap_or(u32::MAX);
        if gained > 0 {
            self.tokens = self.tokens.saturating_add(gained).min(BURST);
            self.refilled = if self.tokens == BURST { now } else { self.refilled + SUSTAINED * gained };
        }
    }

    fn jitter(&mut self, around: Duration, share: f64) -> Duration {
        around.mul_f64(1.0 - share + 2.0 * share * self.random.f64())
    }
}
