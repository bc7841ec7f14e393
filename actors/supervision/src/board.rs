//! How every actor fares, readable from any thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nameward_messages::health::{ActorHealth, ActorName, Stage};
use serde::Serialize;

use crate::cell::{Cell, Life, get, lock};
use crate::clock::Clock;

/// A handler that has been running for longer than this is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// How every actor fares. Cheap to clone; reading it takes no part in what the actors do.
#[derive(Clone, Debug)]
pub struct HealthBoard {
    clock: Clock,
    actors: Arc<Mutex<BTreeMap<ActorName, Arc<Cell>>>>,
}

/// One actor on the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActorReport {
    /// Counters and life.
    pub health: ActorHealth,
    /// What it awaits from the world.
    pub stage: Stage,
    /// How long its handler has been running, if it is longer than [`STUCK_AFTER`].
    pub stuck: Option<Duration>,
    /// Waiting messages that were replaced by a newer one with the same key.
    pub merged: u64,
    /// Panics in spawned futures.
    pub future_panics: u64,
    /// The text of the last panic, empty if there was none.
    pub last_panic: String,
    /// It ended with a drain.
    pub ended: bool,
}

impl HealthBoard {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, actors: Arc::default() }
    }

    pub(crate) fn register(&self, name: ActorName, cell: Arc<Cell>) {
        lock(&self.actors).insert(name, cell);
    }

    /// Every actor that was started, by name.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<ActorName, ActorReport> {
        let now = self.clock.now();
        let actors = lock(&self.actors).clone();
        let report = |cell: &Cell| {
            let life = cell.life();
            let stuck = cell.busy_for(now).filter(|busy| *busy > STUCK_AFTER);
            ActorReport {
                health: ActorHealth {
                    alive: life == Life::Alive,
                    handled: get(&cell.handled),
                    restarts: get(&cell.restarts),
                    lost: get(&cell.lost),
                    shed: get(&cell.shed),
                    waiting: get(&cell.waiting),
                    idle: cell.idle(now),
                },
                stage: cell.stage().unwrap_or_else(|| Stage::Starting("it is being built".to_owned())),
                stuck,
                merged: get(&cell.merged),
                future_panics: get(&cell.future_panics),
                last_panic: cell.last_panic(),
                ended: life == Life::Ended,
            }
        };
        actors.iter().map(|(name, cell)| (*name, report(cell))).collect()
    }

    /// What is wrong with the process itself, a sentence for each actor that is dead or stuck. Empty: live.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let trouble = |(name, report): (ActorName, ActorReport)| {
            if let Some(busy) = report.stuck {
                Some(format!("{name} is stuck: its handler has been running for {} s", busy.as_secs()))
            } else if report.health.alive || report.ended {
                None
            } else {
                Some(format!("{name} is dead after {} restarts: {}", report.health.restarts, report.last_panic))
            }
        };
        self.reports().into_iter().filter_map(trouble).collect()
    }

    /// What is awaited before the process is ready, a sentence for each actor that still starts. Empty: ready.
    #[must_use]
    pub fn awaited(&self) -> Vec<String> {
        let waits = |(name, report): (ActorName, ActorReport)| match report.stage {
            _ if !report.health.alive => Some(format!("{name} does not run")),
            Stage::Starting(because) => Some(format!("{name}: {because}")),
            Stage::Ready | Stage::Degraded(_) => None,
        };
        self.reports().into_iter().filter_map(waits).collect()
    }
}
