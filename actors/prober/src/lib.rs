//! The prober asks the questions that workloads ask, from the host and from inside every pod's network namespace.
//!
//! Is told: targets (watcher), namespaces (netns), the node's orders with its share (reporter), probe requests
//! (diagnosis, reporter, remedies), configuration. Tells: [`nameward_messages::probe::ProberTells`], that is every
//! round's results, suspicions and their end, answers to requests.
//!
//! Invariants:
//! - Rounds to one CoreDNS pod stay within the share, confirmations within a burst budget of the same rate; whatever the
//!   share, every path has its turn and the host of a CoreDNS pod's own node asks that pod every round.
//! - A path is suspected only after a failure and two failures of three fresh probes; it is told once, and cleared
//!   after two good results in a row or when its vantage or target is gone.
//! - Our own trouble (a namespace that vanished, no permission, no descriptors) is never a failure of DNS.
//! - A namespace that is gone is let go of at once: no socket is held in it.
//!
//! [`mind`] decides, [`schedule`] gives turns, [`share`] limits, [`confirm`] suspects, [`paths`] lays out. With the feature
//! `actor`: `actor` is the shell, `sweep` sends and waits, `held` keeps ports.

pub mod confirm;
pub mod mind;
pub mod paths;
pub mod schedule;
pub mod share;

#[cfg(feature = "actor")]
pub mod actor;
#[cfg(feature = "actor")]
pub mod held;
#[cfg(feature = "actor")]
pub mod sweep;

pub use mind::{Input, Job, JobId, Memory, Output, ProberMind, Shot};
