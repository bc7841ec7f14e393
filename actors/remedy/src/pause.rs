//! The kill switch of one machine: a local file.

/// While this file exists, whatever it holds, this process changes nothing (it goes on probing and reporting).
/// `touch /run/nameward/paused` stops every remedy of the node's agent, and of a coordinator on that node, at the next
/// look: before every step and at least every [`LOOK_EVERY`].
pub use nameward_messages::cluster_view::PAUSE_FILE;

/// How often the file is looked for while something is under way.
pub const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(2);
