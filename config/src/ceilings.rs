//! What no configuration can lift. A value beyond a ceiling is refused when the file is read; and whoever acts asks here
//! again, so that a value that came in any other way counts as the ceiling.

use std::time::Duration;

/// Shared remedies are at least this far apart.
pub const SHARED_EVERY: Duration = Duration::from_secs(300);
/// Most shared remedies in an hour.
pub const SHARED_PER_HOUR: u32 = 3;
/// Repairs of one node are at least this far apart.
pub const NODE_EVERY: Duration = Duration::from_secs(600);
/// Repairs of nodes begin at least this far apart in the whole cluster.
pub const NODES_EVERY: Duration = Duration::from_secs(10);
/// Most tries of one remedy on one target.
pub const TRIES_PER_TARGET: u32 = 3;
/// A memory limit is never set above this.
pub const MEMORY_CAP: u64 = 16 << 30;
/// A memory limit is never multiplied by more.
pub const MEMORY_FACTOR: f64 = 4.0;
/// Nothing is judged for all with fewer fresh reports, in percent.
pub const QUORUM_PERCENT: u32 = 60;
/// A report that is older counts as stale, whatever is configured.
pub const STALE_AFTER: Duration = Duration::from_secs(900);
/// After an act that made things worse, the breaker stays open for this long.
pub const BREAKER: Duration = Duration::from_secs(600);
/// More than this share of the nodes with the same fault of their own (and at least [`STORM_NODES`]) is no fault of a node.
pub const STORM_PERCENT: u32 = 20;
/// See [`STORM_PERCENT`].
pub const STORM_NODES: u32 = 3;
/// A node that was repaired within this time counts among those with the same fault: what spreads slowly is not repaired node by node.
pub const STORM_WINDOW: Duration = Duration::from_secs(600);

/// The fewest ready CoreDNS pods that an act may leave.
#[must_use]
pub const fn floor(replicas: u32) -> u32 {
    let half = replicas.div_ceil(2);
    if half == 0 { 1 } else { half }
}
