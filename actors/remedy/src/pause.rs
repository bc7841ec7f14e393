//! The kill switch of one machine: a local file.

/// While this file exists, whatever it holds, this process changes nothing (it goes on probing and reporting).
/// `touch /run/nameward/paused` on a node stops every remedy of its agent, and of a coordinator that runs on that machine without a
/// container, at the next look: before every step and at least every [`LOOK_EVERY`]. The coordinator of the shipped manifests does not
/// see the node's files: the policy ConfigMap stops it, or to scale it to no replica.
pub use nameward_messages::cluster_view::PAUSE_FILE;

/// How often the file is looked for while something is under way.
pub const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(2);
