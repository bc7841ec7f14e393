//! Diagnosis: from failing paths to a cause, or an honest "unexplained".
//!
//! Told: what the prober sees (rounds, suspicions, answers), targets, namespaces, OOM kills, rollouts.
//! Tells: verdicts that stand or end, what other nodes must judge, the matrix once per round; asks the prober for
//! differential probes.
//!
//! Invariants:
//! - Rules are pure functions over one immutable [`record::EvidenceRecord`], asked in a fixed order.
//! - Nothing is a verdict after a single sample: deciding evidence holds in two samples at least a second apart.
//! - A failing path is explained once: what a rule explains is not shown to the next one.
//! - A CoreDNS pod is blamed only by the agent of its own node, and never during a rollout, while it starts or ends.
//! - The matrix follows the rounds: a lost `Suspected` or `Cleared` is made good within a few rounds.

pub mod finding;
pub mod judge;
pub mod matrix;
pub mod mind;
pub mod process;
pub mod record;
pub mod rules;
pub mod way;

#[cfg(feature = "actor")]
pub mod actor;
#[cfg(feature = "actor")]
pub mod collect;

#[cfg(test)]
mod testing;

pub use finding::Finding;
pub use judge::{Judgement, judge};
pub use mind::{DiagnosisMind, Input, Output, Want};
pub use record::{EvidenceRecord, Sample};

use nameward_messages::verdict::Cause;

/// A cause with what a list of causes shows.
#[derive(Clone, Debug)]
pub struct CauseInfo {
    /// The cause.
    pub cause: Cause,
    /// When it is named, in one line.
    pub when: &'static str,
}

/// Every cause in the order in which the rules are asked, for `diagnose --list-causes` and documents.
#[must_use]
pub fn causes() -> Vec<CauseInfo> {
    let last =
        "something has failed for 20 seconds and no rule explains it; lists what was read and what is not modelled";
    // No single node can tell these: the coordinator judges them from what all nodes see.
    let seen_by_all = [
        (
            Cause::NodePairBlocked,
            "nodes cannot reach a CoreDNS pod, its own node's host is answered and finds no reason, and neither do they",
        ),
        (
            Cause::EndpointOnDeadNode,
            "no node reaches a CoreDNS pod that is listed as an endpoint still, and the API says that its node is not ready",
        ),
        (
            Cause::CorednsPending,
            "the API shows CoreDNS pods that have waited for a place, an image or a sandbox for longer than a start takes",
        ),
        (
            Cause::ReplicasOnOneNode,
            "two CoreDNS pods or more are all on one node, that node names a fault of its own or is gone, and no other node reaches any",
        ),
    ];
    rules::RULES
        .iter()
        .map(|rule| (rule.cause, rule.when))
        .chain(seen_by_all)
        .chain([(Cause::Unexplained, last)])
        .map(|(cause, when)| CauseInfo { cause, when })
        .collect()
}
