//! Which network namespace belongs to which pod of this node.
//!
//! Is told: [`PodChanged`](nameward_messages::pods::PodChanged) by the watcher, and what a [`Scan`] saw: the CNI result
//! cache, the namespace folders, `/proc`. Tells: [`NamespaceChanged`](nameward_messages::namespaces::NamespaceChanged).
//!
//! Invariants:
//! 1. A namespace is known by pod uid and cookie. The same pod with another cookie is a gone namespace and a found one.
//! 2. Only pods that the API put on this node are looked for: another node's entries in the same cache are left alone.
//! 3. A host-network pod has no namespace here; an ignored or terminating pod leaves probing at once.
//! 4. Nothing is gone for want of knowledge: not before the first complete list of pods, not after a scan that was not
//!    whole. Without the API the last known namespaces stay.
//! 5. At most `netns.limit` namespaces; those already known keep their place, and the surplus is counted and named.
//! 6. A namespace is entered to learn its cookie, never to stay.

mod mind;
mod sighting;

#[cfg(feature = "actor")]
mod actor;
#[cfg(feature = "actor")]
mod scan;

#[cfg(feature = "actor")]
pub use actor::{Known, NetnsActor, NetnsMessage, Wiring};
pub use mind::{Input, NetnsMind, Output, Settings, Summary};
#[cfg(feature = "actor")]
pub use scan::{pods_in_cache, scan};
pub use sighting::{Scan, ScanRequest, Sighting, WantedPod, Whose};
