//! The watcher: the cluster as the API tells it, on one path for first sync, update and reconnect.
//!
//! Told: whole snapshots of what its watches hold ([`Input`]), and which watches are good or lost.
//! Tells ([`Tell`]): what is to be probed ([`Targets`](nameward_messages::targets::Targets)), this node's pods, kills for want
//! of memory, rollouts, this node's orders, the kill switch, and for the coordinator the whole
//! [`ClusterView`](nameward_messages::cluster_view::ClusterView).
//!
//! Invariants:
//! 1. Something is told only when it differs from what was told before.
//! 2. A snapshot replaces the last one only when it is complete; losing the API changes no snapshot. So the last known
//!    targets stay, and an error is never taken for an empty list.
//! 3. A kill is told once per pod, container and time, also after a restart of this actor; kills older than ten minutes
//!    at the start of the process are not told.
//! 4. A lost policy watch never switches changes on: who was paused stays so.
//! 5. Objects are reduced while they are decoded, on worker threads; this actor's thread sees the reduced form only.

pub mod input;
pub mod kills;
pub mod mind;
pub mod store;

mod dns;
mod pods;
mod policy;
mod view;
mod workload;

#[cfg(feature = "actor")]
pub mod actor;
#[cfg(feature = "actor")]
mod watches;

pub use input::{Input, Link, Role, Snapshot, Watch};
pub use kills::SeenKills;
pub use mind::{Tell, WatcherMind};
