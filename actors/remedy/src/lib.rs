//! What may be done about a verdict, when, and in which order.
//!
//! Two actors live here. Both are told of verdicts that others reached; neither judges DNS.
//!
//! **Shared executor** ([`shared`], beside the coordinator). It is told a [`Plan`](nameward_messages::plan::Plan), the
//! Lease, the kill switch and the cluster's view, and carries the plan out in single steps, at most one request each:
//! write the intent, look whether anybody else has one, read the target again, dry-run, act, record, clear the
//! intent. It tells [`SharedRemedyTells`](nameward_messages::plan::SharedRemedyTells).
//!
//! **Node remedy** ([`node`], on every agent). It is told verdicts, permits, namespaces and targets, and repairs its own node:
//! one typed change at a time, journalled before it is made ([`journal`]), verified by probing, undone where it did not
//! help. What may be changed, and nothing else, stands in `nameward_kernel::repair`. It tells records, and asks the prober.
//!
//! Invariants, each with a checker in the tests:
//! - One shared remedy at a time: no other incident may hold an intent or be under verification.
//! - Nothing is changed without the Lease, after the plan's deadline, while the kill switch is on or unreadable for more
//!   than a minute, within the cool-down, beyond the budget, or on a target that is not the one that was judged.
//! - Ready CoreDNS pods never fall below `max(1, ceil(desired / 2))` by an act of ours.
//! - An act whose outcome is unknown is followed by a read of its target, never by the same act.
//! - A replica that was added is taken away only while the number that was written stands there.
//! - A memory limit is never lowered, never set above the cap, never written where a reconciler owns it.
//! - An intent that is found without an executor behind it (a crash, a lost Lease) is verified, never repeated.
//! - Nothing on a node is changed before its before-image is on the disk; what differs from what was written is never undone.
//! - A node is repaired once in ten minutes, a target three times, under a permit, and not while the kill switch is thrown.
//!
//! The crate compiles without its feature `actor`, and then does no I/O.

pub mod budget;
pub mod guard;
pub mod journal;
pub mod ladder;
pub mod node;
pub mod pause;
pub mod shared;

#[cfg(feature = "actor")]
pub mod actor;
