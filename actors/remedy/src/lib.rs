//! What may be done about a verdict, when, and in which order.
//!
//! Two actors live here. Both are told of verdicts that others reached; neither judges DNS.
//!
//! **Shared executor** ([`shared`], beside the coordinator). It is told a [`Plan`](nameward_messages::plan::Plan), the
//! Lease, the kill switch and the cluster's view, and carries the plan out in single steps, at most one request each:
//! write the intent, look whether anybody else has one, read the target again, dry-run, act, record, clear the
//! intent. It tells [`SharedRemedyTells`](nameward_messages::plan::SharedRemedyTells).
//!
//! **Node remedy** ([`node`], on every agent). It is told verdicts, permits and namespaces. In this release it changes
//! nothing: it tells what it would do, with the exact command.
//!
//! Invariants, each with a checker in the tests:
//! - One shared remedy at a time: no other incident may hold an intent or be under verification.
//! - Nothing is changed without the Lease, after the plan's deadline, while the kill switch is on or unreadable for more
//!   than a minute, within the cool-down, beyond the budget, or on a target that is not the one that was judged.
//! - Ready CoreDNS pods never fall below `max(1, ceil(desired / 2))` by an act of ours.
//! - An act whose outcome is unknown is followed by a read of its target, never by the same act.
//! - A memory limit is never lowered, never set above the cap, never written where a reconciler owns it.
//! - An intent that is found without an executor behind it (a crash, a lost Lease) is verified, never repeated.
//!
//! The crate compiles without its feature `actor`, and then does no I/O.

pub mod budget;
pub mod guard;
pub mod ladder;
pub mod node;
pub mod pause;
pub mod shared;

#[cfg(feature = "actor")]
pub mod actor;
