//! The minds of a whole fleet in virtual time: many nodes, two coordinators or more, one API server, one seed.
//!
//! What runs here is what runs in a cluster: the coordinator's mind, the shared executor's, the election, every node's reporter
//! and its node remedy. What is modelled is everything between and around them: an API server with versions, preconditions,
//! disruption budgets and a controller that replaces pods ([`api`], [`kube`]), the ways to it ([`net`]), clocks that disagree
//! ([`clock`]), what is wrong in truth ([`truth`]) and what a node would find of it ([`agent`]). No socket, no thread, no clock.
//!
//! - One seed gives one history: [`draw`] makes a [`spec::Spec`] from it, [`world::World`] plays it as a queue of events.
//! - [`check`] judges after every event, by the truth and by what reached the API server, never by a mind's word.
//! - [`sabotage`] takes one guard away, from outside of the minds: the checker must then find what it guarded.
//!
//! `docs/virtual-time.md` says what is modelled, what is not, and how to run it.

mod agent;
mod api;
mod check;
mod clock;
mod draw;
mod fault;
mod kube;
mod net;
mod process;
mod queue;
pub mod run;
pub mod sabotage;
pub mod spec;
mod trace;
mod truth;
mod view;
mod world;

pub use check::{Invariant, Violation};
pub use fault::Fault;
pub use process::Death;
pub use run::{Outcome, Settings, drawn, play, play_watched, seeds, seeds_on};
pub use sabotage::Sabotage;
pub use spec::{Spec, month};
pub use world::World;
