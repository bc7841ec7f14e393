//! Takes messages from the inbox to the actor, one at a time, and rebuilds the actor when it panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Actor as _;
use futures::FutureExt as _;
use nameward_messages::Mono;
use nameward_messages::health::ActorName;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Context, Crew};
use crate::budget::{Decision, RestartBudget, Spending};
use crate::cell::{Cell, Life, add, lock, panic_text};
use crate::clock::Clock;
use crate::inbox::{Closable, Inbox};
use crate::retained::{Change, MOST_KEYS, Retained};
use crate::shell::{Deliver, Shell, Step};

/// The clock is asked again at least this often: tokio's timers stand still while the machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A deadline that stays in the past is served this often at most, and never twice without a message in between.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

pub(crate) struct Feeder<A: Actor, F> {
    pub(crate) name: ActorName,
    pub(crate) inbox: Inbox<A::Message>,
    pub(crate) factory: F,
    pub(crate) budget: RestartBudget,
    pub(crate) clock: Clock,
    pub(crate) workers: Handle,
    pub(crate) cell: Arc<Cell>,
    /// The futures of the incarnation that lives.
    pub(crate) crew: Arc<Mutex<Crew>>,
    pub(crate) draining: CancellationToken,
    /// Panic once in the handling of these messages, counted from 1.
    pub(crate) rehearsals: Vec<u64>,
    pub(crate) taken: u64,
}

/// The actor panicked, and its value is gone.
struct Panicked;

impl<A: Actor, F: Fn() -> A> Feeder<A, F> {
    /// Until the drain is done or the budget is spent.
    pub(crate) async fn run(mut self) {
        let mut spending = Spending::new(self.budget);
        let mut retained = Retained::new();
        while let Err(Panicked) = self.live(&mut retained).await {
            lock(&self.crew).abort();
            let panic = self.cell.last_panic();
            match spending.panicked(self.clock.now().mono) {
                Decision::Rebuild(pause) => {
                    add(&self.cell.restarts, 1);
                    self.cell.set_stage(None);
                    tracing::error!(actor = %self.name, panic, ?pause, "an actor panicked and is rebuilt");
                    self.draining.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
                Decision::GiveUp => {
                    tracing::error!(actor = %self.name, panic, "an actor is dead: its budget of restarts is spent");
                    self.cell.set_life(Life::Dead);
                    return;
                }
            }
        }
        self.cell.set_life(Life::Ended);
    }

    /// One incarnation.
    async fn live(&mut self, retained: &mut Retained<A::Message>) -> Result<(), Panicked> {
        let addr = self.build()?;
        let mut deadline = step(&addr, Step::Start).await?;
        self.cell.ready_unless_said();
        for (key, message) in retained.replay() {
            match step(&addr, Step::Handle(message)).await {
                Ok(next) => deadline = next,
                Err(panicked) => {
                    // It would kill every incarnation.
                    retained.forget(&key);
                    add(&self.cell.lost, 1);
                    return Err(panicked);
                }
            }
        }
        let mut ticked = false;
        let mut told_to_drain = false;
        loop {
            let draining = self.draining.is_cancelled();
            if draining && !told_to_drain {
                told_to_drain = true;
                deadline = step(&addr, Step::Drain).await?;
            }
            let now = self.clock.now().mono;
            if !draining && !ticked && deadline.is_some_and(|at| at <= now) {
                deadline = step(&addr, Step::Tick).await?;
                ticked = true;
                continue;
            }
            ticked = false;
            if let Some(message) = self.inbox.try_take() {
                deadline = self.hand_over(&addr, message, retained).await?;
                continue;
            }
            if draining {
                return Ok(());
            }
            self.wait(deadline, now).await;
        }
    }

    fn build(&self) -> Result<actix::Addr<Shell<A>>, Panicked> {
        let crew = Crew::new(self.workers.clone());
        *lock(&self.crew) = crew.clone();
        let actor = catch_unwind(AssertUnwindSafe(&self.factory)).map_err(|panic| {
            self.cell.set_last_panic(panic_text(&*panic));
            Panicked
        })?;
        let ctx = Context {
            name: self.name,
            clock: self.clock.clone(),
            me: self.inbox.outlet(),
            crew,
            cell: Arc::clone(&self.cell),
            draining: self.draining.clone(),
        };
        Ok(Shell { actor, ctx }.start())
    }

    async fn hand_over(
        &mut self,
        addr: &actix::Addr<Shell<A>>,
        message: A::Message,
        retained: &mut Retained<A::Message>,
    ) -> Result<Option<Mono>, Panicked> {
        self.taken += 1;
        let change = Change::of(&message);
        let rehearse = self.rehearsals.contains(&self.taken);
        let call = if rehearse { Step::Rehearse(message) } else { Step::Handle(message) };
        match step(addr, call).await {
            Ok(deadline) => {
                add(&self.cell.handled, 1);
                if !retained.handled(change) {
                    tracing::warn!(actor = %self.name, most = MOST_KEYS, "state will be missing after a restart");
                }
                Ok(deadline)
            }
            Err(panicked) => {
                add(&self.cell.lost, 1);
                retained.lost(&change);
                Err(panicked)
            }
        }
    }

    async fn wait(&self, deadline: Option<Mono>, now: Mono) {
        let pause = deadline.map_or(LONGEST_SLEEP, |at| at.since(now).clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        tokio::select! {
            () = self.inbox.arrived() => {}
            () = self.draining.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A panic shows as a closed mailbox.
async fn step<A: Actor>(addr: &actix::Addr<Shell<A>>, call: Step<A::Message>) -> Result<Option<Mono>, Panicked> {
    addr.send(Deliver(call)).await.map_err(|_closed| Panicked)
}

/// Where a feeder itself fails (a message's own methods panic), its actor is dead. Whoever is dead accepts nothing.
pub(crate) async fn guard(
    name: ActorName,
    cell: Arc<Cell>,
    inbox: Arc<dyn Closable>,
    on_dead: Arc<dyn Fn(ActorName) + Send + Sync>,
    feeder: impl Future<Output = ()>,
) {
    if let Err(panic) = AssertUnwindSafe(feeder).catch_unwind().await {
        let text = panic_text(&*panic);
        tracing::error!(actor = %name, panic = text, "the feeder of an actor panicked");
        cell.set_last_panic(text);
        cell.set_life(Life::Dead);
    }
    if cell.life() == Life::Dead {
        inbox.close();
        on_dead(name);
    }
}
