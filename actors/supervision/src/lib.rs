//! Supervision: inboxes, restart from a factory, heartbeats, drain. It alone knows actix's traps.
//!
//! Is told: messages, through an [`Outlet`], by any thread, without ever waiting. Tells: each [`Actor`] its messages
//! one at a time, and the [`HealthBoard`] how every actor fares.
//!
//! ```text
//!  Outlet::tell ─▶ inbox (bounded; merges, sheds, counts) ─▶ feeder ─▶ actix actor (your Actor)
//!                                                             │ panic: the value is thrown away, the inbox stays
//!                                                             └─▶ factory() ─▶ started ─▶ what was retained ─▶ go on
//! ```
//!
//! Invariants:
//! 1. An inbox never holds more messages than its capacity; what did not fit is counted.
//! 2. `tell` never blocks and never awaits; no lock is held across an await.
//! 3. An actor handles one message at a time, in the order of its inbox.
//! 4. A panic in a handler loses exactly the message in hand. The actor is rebuilt from its factory, never reused.
//! 5. State-bearing messages ([`Retain::Keep`]) that were handled are told again to a rebuilt actor, in their order.
//! 6. More panics than the [`RestartBudget`] allows make the actor dead, for good and visibly.
//! 7. What an actor spawned ends with the actor or with its rebuilding.
//! 8. A drain ends at its deadline and says what it left.
//!
//! What actix does not do, and why this crate exists: its `Supervisor` does not survive a panic, `do_send` ignores the
//! capacity of a mailbox, and `ResponseFuture` handlers overtake one another.

mod actor;
mod board;
mod budget;
mod cell;
pub mod clock;
mod feeder;
mod inbox;
mod message;
mod retained;
mod runtime;
mod shell;
mod supervisor;

pub use actor::{Actor, Context};
pub use board::{ActorReport, HealthBoard, STUCK_AFTER};
pub use budget::RestartBudget;
pub use inbox::{Inbox, Outlet, inbox};
pub use message::{Listener, Message, Retain, Told, WhenFull, fan_out};
pub use runtime::{RunError, run};
pub use supervisor::{Drained, Supervisor};
