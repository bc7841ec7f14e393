//! What supervision counts of one actor: atomics that any thread may read.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nameward_messages::health::Stage;
use nameward_messages::{Mono, Now};

/// A lock that outlives a panic of its holder: what it guards is a plain value that is never left half-written.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Life {
    /// Not started.
    Waiting = 0,
    /// Runs, or is being rebuilt.
    Alive = 1,
    /// Its budget of restarts is spent.
    Dead = 2,
    /// Drained.
    Ended = 3,
}

/// The counters of one actor.
#[derive(Debug)]
pub(crate) struct Cell {
    life: AtomicU8,
    pub(crate) handled: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) merged: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) future_panics: AtomicU64,
    /// Microseconds of monotonic time at which the running handler began; 0: none runs.
    busy_since: AtomicU64,
    /// Microseconds of monotonic time at which a handler last ended; 0: none did.
    last_done: AtomicU64,
    stage: Mutex<Option<Stage>>,
    last_panic: Mutex<String>,
}

impl Cell {
    pub(crate) fn new() -> Self {
        Self {
            life: AtomicU8::new(Life::Waiting as u8),
            handled: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            merged: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            future_panics: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
            last_done: AtomicU64::new(0),
            stage: Mutex::new(None),
            last_panic: Mutex::new(String::new()),
        }
    }

    pub(crate) fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            1 => Life::Alive,
            2 => Life::Dead,
            3 => Life::Ended,
            _ => Life::Waiting,
        }
    }

    pub(crate) fn set_life(&self, life: Life) {
        self.life.store(life as u8, Ordering::Release);
    }

    pub(crate) fn begin(&self, now: Now) {
        self.busy_since.store(micros(now.mono).max(1), Ordering::Release);
    }

    pub(crate) fn end(&self, now: Now) {
        self.last_done.store(micros(now.mono).max(1), Ordering::Release);
        self.busy_since.store(0, Ordering::Release);
    }

    /// How long the running handler has been at it.
    pub(crate) fn busy_for(&self, now: Now) -> Option<Duration> {
        match self.busy_since.load(Ordering::Acquire) {
            0 => None,
            since => Some(now.mono.since(Mono(Duration::from_micros(since)))),
        }
    }

    /// Time since a handler last ended; zero before the first.
    pub(crate) fn idle(&self, now: Now) -> Duration {
        match self.last_done.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            done => now.mono.since(Mono(Duration::from_micros(done))),
        }
    }

    pub(crate) fn stage(&self) -> Option<Stage> {
        lock(&self.stage).clone()
    }

    pub(crate) fn set_stage(&self, stage: Option<Stage>) {
        *lock(&self.stage) = stage;
    }

    /// An actor that never speaks of a stage needs nothing from the world: it is ready once it has started.
    pub(crate) fn ready_unless_said(&self) {
        lock(&self.stage).get_or_insert(Stage::Ready);
    }

    pub(crate) fn last_panic(&self) -> String {
        lock(&self.last_panic).clone()
    }

    pub(crate) fn set_last_panic(&self, text: String) {
        *lock(&self.last_panic) = text;
    }
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn micros(at: Mono) -> u64 {
    u64::try_from(at.0.as_micros()).unwrap_or(u64::MAX)
}

/// The text of a panic, cut to what a log line and a page can bear.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text");
    text.chars().take(512).collect()
}
