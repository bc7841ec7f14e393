//! The shells: they receive, step, do what the minds want, and tell.

mod disk;
mod node;
mod perform;
mod shared;

pub use node::{NodeMessage, NodeRemedyActor, NodeWiring};
pub use shared::{SharedMessage, SharedRemedyActor, SharedWiring};

/// Room in an inbox: state coalesces, so that only plans, verdicts and results wait.
pub const INBOX: usize = 256;

/// Whether the local kill switch is thrown. What cannot be looked at counts as thrown.
fn paused_here() -> bool {
    !matches!(std::path::Path::new(crate::pause::PAUSE_FILE).try_exists(), Ok(false))
}
