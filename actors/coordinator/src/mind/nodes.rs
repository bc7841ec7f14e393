//! Whether nodes are ready: read when it matters, since a watch of whole nodes brings every heartbeat of every kubelet.
//!
//! A node is read while others cannot reach its CoreDNS pods and while its agent is silent; never otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::{Mono, NodeName};

/// What was read of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// The condition `Ready` is `True`; `None` when it has none.
    pub ready: Option<bool>,
    /// It is cordoned.
    pub unschedulable: bool,
}

/// Nodes whose CoreDNS pods fail are read this often.
const OFTEN: Duration = Duration::from_secs(5);
/// Nodes whose agents are silent: they change nothing but the quorum.
const SELDOM: Duration = Duration::from_secs(60);
/// Reads per step, and steps are at most a few per second.
const AT_ONCE: usize = 4;
/// What was read counts for this long.
const COUNTS: Duration = Duration::from_secs(150);

/// What is known of nodes, and when each was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    known: BTreeMap<NodeName, (NodeState, Mono)>,
    asked: BTreeMap<NodeName, Mono>,
    /// Reads were told at this moment: no more than [`AT_ONCE`] a second.
    last: Option<Mono>,
}

impl Nodes {
    pub(super) fn learn(&mut self, now: Mono, node: NodeName, state: Option<NodeState>) {
        if let Some(state) = state {
            self.known.insert(node, (state, now));
        }
    }

    /// Whether anything was read: else a view need not be copied to be completed.
    pub(super) fn knows_any(&self) -> bool {
        !self.known.is_empty()
    }

    /// When the next of these is to be read again; `None`: there is none, or one of them was not read yet.
    pub(super) fn next_read(&self, failing: &BTreeSet<&NodeName>) -> Option<Mono> {
        self.next_of(failing, OFTEN)
    }

    /// The same of nodes that are merely silent.
    pub(super) fn next_read_of_silent(&self, silent: &BTreeSet<&NodeName>) -> Option<Mono> {
        self.next_of(silent, SELDOM)
    }

    fn next_of(&self, nodes: &BTreeSet<&NodeName>, every: Duration) -> Option<Mono> {
        let reads: Option<Vec<Mono>> = nodes.iter().map(|node| self.asked.get(*node).map(|at| *at + every)).collect();
        reads?.into_iter().min()
    }

    /// Adds what was read to a view that does not know it.
    pub(super) fn complete(&self, now: Mono, view: &mut ClusterView) {
        for node in &mut view.nodes {
            let known = self.known.get(&node.name).filter(|(_, at)| now.since(*at) <= COUNTS);
            if let Some((state, _)) = known {
                node.ready = node.ready.or(state.ready);
                node.unschedulable = node.unschedulable.or(Some(state.unschedulable));
            }
        }
    }

    /// Which nodes to read now.
    pub(super) fn due(
        &mut self,
        now: Mono,
        view: &ClusterView,
        failing: &BTreeSet<&NodeName>,
        silent: &BTreeSet<&NodeName>,
    ) -> Vec<NodeName> {
        let present: BTreeSet<&NodeName> = view.nodes.iter().map(|node| &node.name).collect();
        self.known.retain(|name, _| present.contains(name));
        self.asked.retain(|name, _| present.contains(name));
        if self.last.is_some_and(|last| now.since(last) < Duration::from_secs(1)) {
            return Vec::new();
        }
        let wanted = failing.iter().map(|node| (*node, OFTEN)).chain(silent.iter().map(|node| (*node, SELDOM)));
        let mut due: Vec<NodeName> = Vec::new();
        for (node, every) in wanted {
            let asked = self.asked.get(node).is_some_and(|at| now.since(*at) < every);
            if due.len() < AT_ONCE && present.contains(node) && !asked && !due.contains(node) {
                due.push(node.clone());
            }
        }
        for node in &due {
            self.asked.insert(node.clone(), now);
            self.last = Some(now);
        }
        due
    }
}
