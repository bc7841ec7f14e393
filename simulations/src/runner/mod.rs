//! Runs scenarios: [`run`] starts one process per scenario, which isolates itself, builds the cluster, starts the
//! processes under test, injects the faults, and watches from outside.

mod act;
mod aliases;
mod child;
mod crashes;
mod eyes;
mod forge;
mod glue;
mod inject;
mod judge;
mod lift;
mod objects;
mod observe;
mod pages;
mod parent;
mod processes;
mod repairs;
mod repeats;
mod rights;
mod tools;
mod witness;
mod world;

pub(crate) use child::{SCENARIO, scenario};
pub use parent::{Options, Order, RunError, run};
