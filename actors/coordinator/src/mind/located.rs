//! What only the view of all nodes shows, and for how long it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::verdict::{Cause, Confidence, Subject, SubjectKind, VerdictKey};
use nameward_messages::{Mono, NodeName, Now};

use super::{CoordinatorMind, Output};
use crate::judge::locality::{self, Located};
use crate::judge::quorum::listened_to;
use crate::judge::sight::Sight;
use crate::judge::workload;

/// What is not seen for this long is over: reports of many nodes do not change in one moment.
const GRACE: Duration = Duration::from_secs(8);

/// A cause that its own node has named until this long ago explains a pod still: other nodes see it end later, and say so
/// later.
const EXPLAINED: Duration = Duration::from_secs(20);

/// The verdicts of the coordinator itself.
#[derive(Clone, Debug, Default)]
pub(super) struct LocatedBook {
    standing: BTreeMap<VerdictKey, (Located, Mono)>,
    missing: BTreeMap<VerdictKey, Mono>,
    /// When a CoreDNS pod's own node last named a cause for it.
    explained_at: BTreeMap<Subject, Mono>,
    /// What was seen in the decision that is under way, if anything fails unexplained.
    sight: Option<Sight>,
}

impl LocatedBook {
    /// What stands, and since when.
    pub(super) fn all(&self) -> &BTreeMap<VerdictKey, (Located, Mono)> {
        &self.standing
    }

    /// What all nodes see together, in the decision that is under way; `None`: nothing fails unexplained.
    pub(super) fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    /// CoreDNS pods whose failing is explained.
    pub(super) fn explained(&self) -> BTreeSet<Subject> {
        self.standing.values().flat_map(|(located, _)| located.explains.iter().cloned()).collect()
    }

    /// Nodes that a standing verdict about a pair names.
    fn nodes(&self) -> BTreeSet<NodeName> {
        let nodes = self.standing.keys().filter(|key| key.cause == Cause::NodePairBlocked);
        nodes
            .filter(|key| key.subject.kind == SubjectKind::Node)
            .map(|key| NodeName(key.subject.name.clone()))
            .collect()
    }

    /// Nothing waits to be over, and what is explained is so by what stands.
    pub(super) fn settled(&self, now: Mono) -> bool {
        self.missing.is_empty() && self.explained_at.values().all(|at| *at == now)
    }

    /// What was explained when it was last looked at is explained still: nothing has been told since.
    pub(super) fn still_explained(&mut self, now: Mono) {
        for at in self.explained_at.values_mut() {
            *at = now;
        }
    }

    /// What was explained a moment ago is.
    fn remember(&mut self, now: Mono, sight: &mut Sight) {
        for pod in sight.pods.iter_mut() {
            if pod.explained {
                self.explained_at.insert(pod.subject.clone(), now);
            }
            pod.explained |= self.explained_at.contains_key(&pod.subject);
        }
    }

    fn settle(&mut self, now: Mono, found: Vec<Located>) {
        let mut fresh = BTreeSet::new();
        for located in found {
            let key = VerdictKey { cause: located.cause, subject: located.subject.clone() };
            fresh.insert(key.clone());
            self.missing.remove(&key);
            match self.standing.get_mut(&key) {
                // What was certain is not taken back because one report was late.
                Some((known, _))
                    if known.confidence == Confidence::Certain && located.confidence == Confidence::Probable => {}
                Some((known, _)) => *known = located,
                None => {
                    self.standing.insert(key, (located, now));
                }
            }
        }
        for key in self.standing.keys().filter(|key| !fresh.contains(key)) {
            self.missing.entry(key.clone()).or_insert(now);
        }
        self.missing.retain(|key, since| {
            let over = now.since(*since) >= GRACE;
            if over {
                self.standing.remove(key);
            }
            !over
        });
    }
}

impl CoordinatorMind {
    /// Asks whether the nodes are ready on which something fails, or whose agents are silent.
    pub(super) fn read_nodes(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let stale_after = self.config.coordinator.stale_after.0;
        let speaking: BTreeSet<&NodeName> =
            view.agents.iter().filter(|a| listened_to(now.mono, a, stale_after)).map(|a| &a.name).collect();
        let silent = view.nodes.iter().filter(|n| !n.terminating && !speaking.contains(&n.name)).map(|n| &n.name);
        // Whoever may have a turn to be repaired soon: not while somebody drains the node.
        let (repairable, stormy) = (self.repairable(now, Duration::ZERO), self.stormy_nodes(view));
        let (mut failing, silent) = (self.claims.deferred_to(), silent.collect());
        failing.extend(repairable.keys().filter(|node| !self.turns.has(node) && !stormy.has(node)));
        out.extend(self.nodes.due(now.mono, view, &failing, &silent).into_iter().map(Output::ReadNode));
    }

    /// Judges what all nodes see together.
    pub(super) fn locate(&mut self, now: Now, view: &ClusterView) {
        let mut found = Vec::new();
        self.located.explained_at.retain(|_, at| now.mono.since(*at) < EXPLAINED);
        self.located.sight = None;
        if self.claims.any_deferred() {
            let mut sight = Sight::of(now.mono, view, &self.claims, self.config.coordinator.stale_after.0);
            self.located.remember(now.mono, &mut sight);
            let service = view.targets.service.as_ref().map(|s| Subject::object(SubjectKind::Service, &s.key));
            found = locality::judge(&sight, &self.located.nodes(), service.as_ref());
            self.located.sight = Some(sight);
        }
        found.extend(workload::judge(now, view, &self.claims, &found));
        self.located.settle(now.mono, found);
    }
}
