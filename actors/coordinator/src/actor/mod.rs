//! The shells: they receive, step, do what the minds want, and tell.

mod coordinator;
mod reporter;

pub use coordinator::{CoordinatorActor, CoordinatorMessage, CoordinatorWiring, new_identity};
pub use reporter::{ReporterActor, ReporterMessage, ReporterWiring};

/// Room in an inbox: state coalesces, so that only verdicts, answers and results wait.
pub const INBOX: usize = 512;
