//! What an actor is, and what it may ask of supervision while it handles a message.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use nameward_messages::health::{ActorName, Stage};
use nameward_messages::{Mono, Now};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cell::{Cell, add, panic_text};
use crate::clock::Clock;
use crate::inbox::Outlet;
use crate::message::Message;

/// An actor. It lives on the actors' thread; its methods are synchronous and short (well under a millisecond is the aim,
/// ten seconds is called stuck). Whatever waits or computes long is spawned through the [`Context`].
pub trait Actor: Unpin + Sized + 'static {
    /// What it is told.
    type Message: Message;

    /// Called once, before the first message. After a panic it is called on the rebuilt value.
    fn started(&mut self, _ctx: &Context<Self>) {}

    /// Handles one message.
    fn handle(&mut self, message: Self::Message, ctx: &Context<Self>);

    /// When [`Actor::tick`] wants to be called. Asked after every method call.
    fn deadline(&self) -> Option<Mono> {
        None
    }

    /// The deadline has passed. Not called while draining.
    fn tick(&mut self, _ctx: &Context<Self>) {}

    /// The process ends: called once, before the messages that still wait. Futures that are spawned from here on are
    /// waited for until the drain's deadline, those from before are aborted when the inbox is empty.
    fn draining(&mut self, _ctx: &Context<Self>) {}
}

/// What an actor may ask while it is called.
pub struct Context<A: Actor> {
    pub(crate) name: ActorName,
    pub(crate) clock: Clock,
    pub(crate) me: Outlet<A::Message>,
    pub(crate) crew: Crew,
    pub(crate) cell: Arc<Cell>,
    pub(crate) draining: CancellationToken,
}

impl<A: Actor> Context<A> {
    /// The moment.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The actor's own outlet: a future or a thread answers by telling it.
    #[must_use]
    pub fn me(&self) -> Outlet<A::Message> {
        self.me.clone()
    }

    /// Runs a future on the worker threads. It is aborted when the actor is rebuilt or ends. A panic in it is logged and
    /// counted and ends that future alone.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.crew.spawn(self.name, &self.cell, self.draining.is_cancelled(), future);
    }

    /// Says where the actor stands, for `/readyz` and `/state`. An actor that never does is ready once started.
    pub fn stage(&self, stage: Stage) {
        self.cell.set_stage(Some(stage));
    }

    /// Whether the process is about to end: no new work, please.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

/// The futures of one incarnation of an actor.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    workers: Handle,
    tracker: TaskTracker,
    /// Ends everything.
    all: CancellationToken,
    /// Ends what was spawned before the drain; a child of `all`.
    early: CancellationToken,
}

impl Crew {
    pub(crate) fn new(workers: Handle) -> Self {
        let all = CancellationToken::new();
        Self { workers, tracker: TaskTracker::new(), early: all.child_token(), all }
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: ActorName, cell: &Arc<Cell>, late: bool, future: F) {
        let token = if late { self.all.clone() } else { self.early.clone() };
        let cell = Arc::clone(cell);
        let guarded = async move {
            if let Some(Err(panic)) = token.run_until_cancelled(AssertUnwindSafe(future).catch_unwind()).await {
                add(&cell.future_panics, 1);
                tracing::error!(actor = %name, panic = panic_text(&*panic), "a future of an actor panicked");
            }
        };
        self.tracker.spawn_on(guarded, &self.workers);
    }

    /// Aborts what was spawned before the drain.
    pub(crate) fn abort_early(&self) {
        self.early.cancel();
    }

    /// Aborts everything.
    pub(crate) fn abort(&self) {
        self.all.cancel();
    }

    /// Resolves when nothing runs any more.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
