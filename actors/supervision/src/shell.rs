//! The actix actor around an [`Actor`].

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use nameward_messages::Mono;

use crate::actor::{Actor, Context};
use crate::cell::panic_text;

/// One call of an actor.
pub(crate) enum Step<M> {
    Start,
    Handle(M),
    /// Panics instead of handling.
    Rehearse(M),
    Tick,
    Drain,
}

/// The feeder sends one and awaits its answer: the actor's next deadline. There is never more than one in the mailbox.
pub(crate) struct Deliver<M>(pub(crate) Step<M>);

impl<M: 'static> actix::Message for Deliver<M> {
    type Result = Option<Mono>;
}

pub(crate) struct Shell<A: Actor> {
    pub(crate) actor: A,
    pub(crate) ctx: Context<A>,
}

impl<A: Actor> actix::Actor for Shell<A> {
    type Context = actix::Context<Self>;
}

impl<A: Actor> actix::Handler<Deliver<A::Message>> for Shell<A> {
    type Result = Option<Mono>;

    fn handle(&mut self, Deliver(step): Deliver<A::Message>, _: &mut Self::Context) -> Option<Mono> {
        let Self { actor, ctx } = self;
        ctx.cell.begin(ctx.clock.now());
        let called = catch_unwind(AssertUnwindSafe(|| {
            match step {
                Step::Start => actor.started(ctx),
                Step::Handle(message) => actor.handle(message, ctx),
                Step::Rehearse(_lost) => rehearse(),
                Step::Tick => actor.tick(ctx),
                Step::Drain => actor.draining(ctx),
            }
            actor.deadline()
        }));
        ctx.cell.end(ctx.clock.now());
        // Caught for its text alone. It goes on and ends this value: nothing of it may be used again.
        called.unwrap_or_else(|panic| {
            ctx.cell.set_last_panic(panic_text(&*panic));
            resume_unwind(panic)
        })
    }
}

#[expect(clippy::panic, reason = "a rehearsal of what must never happen")]
fn rehearse() {
    panic!("rehearsed panic");
}
