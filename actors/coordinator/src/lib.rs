//! What one node says to the others, and what is concluded from all of them.
//!
//! **Reporter** ([`reporter`], on every agent). It is told verdicts, the matrix, deferred failures, node remedies, this
//! node's orders, answers of the prober and the troubles of its fellow actors. It tells the prober what the coordinator
//! asks, and writes `NodeAgent.status`: on a meaningful change (a latency or a time is none), at once with an answer, and
//! otherwise once per `coordinator.report_every`.
//!
//! **Coordinator** ([`mind`], one leading by a Lease). It is told the cluster's view, the Lease, the kill switch, kills for
//! want of memory and what the shared executor did. It keeps one incident per cause and subject, gives every agent its
//! share, permit and questions, and tells the shared executor a plan when the nodes' answers corroborate a verdict.
//!
//! Invariants, each with a checker in the tests:
//! - Nothing is decided from a view that is incomplete or older than a minute, nor without the Lease.
//! - An eviction is planned only on a certain verdict of the pod's own node that has stood for `remedy.wait`, on answers not
//!   older than 30 s from at least `min(nodes, clamp(5 %, 3, 12))` nodes, the pod's own among them, from at least two pod
//!   namespaces, and while another ready CoreDNS pod is good for the majority of the nodes that were asked.
//! - A report counts as fresh by the time at which its sequence number was seen to change, on the reader's clock, and only
//!   while the agent vouches for itself. Fewer than `coordinator.quorum_percent` fresh nodes: no shared remedy.
//! - One replica is added only while no CoreDNS pod is good and each has a certain fault of its own process, and
//!   nothing that a new pod would share is named; it is taken away again, and one that did not help is not added again for an hour.
//! - A fault of more than a fifth of the nodes (three at least), or of half of them where nodes would be changed for it, is one incident, and
//!   their permits are withdrawn: per zone where nodes have one, and over all. A node that was repaired counts for ten minutes more.
//! - A node is permitted a repair only after it named the cause, in turn: one in ten seconds in the whole cluster, none in a storm.
//! - Faults of nodes and pods, however many are named or made up, leave room for the incidents of CoreDNS itself.
//! - kube-proxy is restarted on one node alone, where it was switched on, and never while another node shows the same.
//! - Every refusal of a shared remedy is told once for each change of its reason: as a line, an Event and a metric. What agents did or refused on
//!   their own nodes stands in their reports, and becomes an Event here, once: they hold no right to write one.
//! - A kill for want of memory is answered by one raise; no running pod's limit is lowered by it.
//! - An incident with a remedy that stands for ten minutes without an act calls a person, and is still tried.
//! - Orders that are no questions are written at a bounded pace, and a node that comes or goes seldom changes the others'.
//! - At most one incident is being corroborated, carried out or verified at a time.
//! - A dead upstream never leads to a shared remedy.
//! - What is not known (a missing report, an empty list, a stale view) is never a permission.
//!
//! The crate compiles without its feature `actor`, and then does no I/O.

pub mod judge;
pub mod mind;
pub mod reporter;

#[cfg(feature = "actor")]
pub mod actor;

#[cfg(test)]
mod testing;
