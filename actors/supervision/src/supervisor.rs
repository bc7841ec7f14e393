//! Starts actors and ends them.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use nameward_messages::health::ActorName;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Crew};
use crate::board::HealthBoard;
use crate::budget::RestartBudget;
use crate::cell::{Cell, Life, get, lock};
use crate::clock::Clock;
use crate::feeder::{Feeder, guard};
use crate::inbox::{Closable, Inbox};

/// Starts actors, rebuilds them when they panic and ends them. Dropping it ends them at once.
pub struct Supervisor {
    budget: RestartBudget,
    clock: Clock,
    workers: Handle,
    board: HealthBoard,
    draining: CancellationToken,
    rehearsals: Vec<(ActorName, u64)>,
    on_dead: Arc<dyn Fn(ActorName) + Send + Sync>,
    actors: Vec<Running>,
}

struct Running {
    name: ActorName,
    feeder: JoinHandle<()>,
    cell: Arc<Cell>,
    crew: Arc<Mutex<Crew>>,
    inbox: Arc<dyn Closable>,
}

/// What a drain left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Every inbox is empty and every last future has ended.
    pub clean: bool,
    /// Actors with messages that were never handled, and how many.
    pub left: Vec<(ActorName, u64)>,
}

impl Supervisor {
    /// Futures that actors spawn run on the current tokio runtime, which must have worker threads: see [`crate::run`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(limits: RestartBudget) -> Self {
        Self::with_clock(limits, Clock::default())
    }

    /// The same, with a clock of one's own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn with_clock(limits: RestartBudget, clock: Clock) -> Self {
        Self {
            budget: limits,
            board: HealthBoard::new(clock.clone()),
            clock,
            workers: Handle::current(),
            draining: CancellationToken::new(),
            rehearsals: Vec::new(),
            on_dead: Arc::new(|_| {}),
            actors: Vec::new(),
        }
    }

    /// The actors that are started from now on spawn their futures on this runtime.
    pub fn workers(&mut self, workers: Handle) {
        self.workers = workers;
    }

    /// Called, on the actors' thread, when an actor's budget of restarts is spent. Set it before starting actors.
    pub fn on_dead(&mut self, call: impl Fn(ActorName) + Send + Sync + 'static) {
        self.on_dead = Arc::new(call);
    }

    /// Rehearses: each named actor panics once, in the handling of its n-th message (counted from 1). Set it before
    /// starting actors.
    pub fn rehearse_panics(&mut self, panics: Vec<(ActorName, u64)>) {
        self.rehearsals = panics;
    }

    /// How every actor fares.
    #[must_use]
    pub fn board(&self) -> HealthBoard {
        self.board.clone()
    }

    /// Starts an actor on this thread. `factory` builds it, now and after every panic.
    ///
    /// # Panics
    /// Outside a `LocalSet`: see [`crate::run`].
    pub fn start<A: Actor>(&mut self, inbox: Inbox<A::Message>, factory: impl Fn() -> A + 'static) {
        let name = inbox.name();
        let cell = Arc::clone(&inbox.shared.cell);
        let closable: Arc<dyn Closable> = inbox.shared.clone();
        let crew = Arc::new(Mutex::new(Crew::new(self.workers.clone())));
        cell.set_life(Life::Alive);
        self.board.register(name, Arc::clone(&cell));
        let rehearsals = self.rehearsals.iter().filter(|(of, _)| *of == name).map(|(_, nth)| *nth).collect();
        let feeder = Feeder {
            name,
            inbox,
            factory,
            budget: self.budget,
            clock: self.clock.clone(),
            workers: self.workers.clone(),
            cell: Arc::clone(&cell),
            crew: Arc::clone(&crew),
            draining: self.draining.clone(),
            rehearsals,
            taken: 0,
        };
        let on_dead = Arc::clone(&self.on_dead);
        let feeder = actix_rt::spawn(guard(name, Arc::clone(&cell), Arc::clone(&closable), on_dead, feeder.run()));
        self.actors.push(Running { name, feeder, cell, crew, inbox: closable });
    }

    /// Ends every actor: no message is accepted any more, those that wait are handled, spawned futures are aborted, and
    /// futures spawned in [`Actor::draining`] or later are waited for. All of it within `within`, then it is cut off.
    ///
    /// A handler that never returns holds the actors' thread and with it the drain: nothing but the end of the process
    /// can stop it. The board calls it stuck.
    pub async fn drain(mut self, within: Duration) -> Drained {
        let deadline = Instant::now() + within;
        for actor in &self.actors {
            actor.inbox.close();
        }
        self.draining.cancel();
        let handled = timeout_at(deadline, join_all(self.actors.iter_mut().map(|actor| &mut actor.feeder))).await;
        for actor in &self.actors {
            lock(&actor.crew).abort_early();
        }
        let crews: Vec<Crew> = self.actors.iter().map(|actor| lock(&actor.crew).clone()).collect();
        let ended = timeout_at(deadline, join_all(crews.iter().map(Crew::ended))).await;
        let left: Vec<_> =
            self.actors.iter().map(|actor| (actor.name, get(&actor.cell.waiting))).filter(|(_, n)| *n > 0).collect();
        Drained { clean: handled.is_ok() && ended.is_ok() && left.is_empty(), left }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for actor in &self.actors {
            actor.inbox.close();
            actor.feeder.abort();
            lock(&actor.crew).abort();
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("board", &self.board).finish_non_exhaustive()
    }
}
