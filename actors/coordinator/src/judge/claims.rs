//! What stands in the nodes' reports, and for how long, by this process's clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, NodeAgentView};
use nameward_messages::remedy::RemedyKind;
use nameward_messages::report::ReportedVerdict;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Layer, Scope, Subject, SubjectKind, VerdictKey};
use nameward_messages::{Mono, NodeName};

use super::quorum::listened_to;

/// One node's word about one verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The verdict.
    pub verdict: ReportedVerdict,
    /// Since when it was seen without interruption in reports that may be listened to.
    pub since: Mono,
    /// The report may be listened to now.
    pub vouched: bool,
}

/// Every standing verdict with the nodes that say so.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    words: BTreeMap<VerdictKey, BTreeMap<NodeName, Word>>,
    /// Failing CoreDNS pods of other nodes, by pod and by the node that sees it, since when.
    deferred: BTreeMap<Subject, BTreeMap<NodeName, (NodeName, String, Mono)>>,
    /// When the node that was to judge last named a cause for what is deferred: those who see it may learn of its end a moment later.
    explained: BTreeMap<Subject, Mono>,
}

/// Deferred failures that nobody explains become an incident after this time.
pub const UNEXPLAINED_AFTER: Duration = Duration::from_secs(60);

/// What is read of one report at most, whatever stands in it: one node must not fill the book for all.
const VERDICTS: usize = 16;
const DEFERRED: usize = 16;

/// The verdicts that are read of a report: what is named must be able to exist.
fn believable(verdicts: &[ReportedVerdict]) -> impl Iterator<Item = &ReportedVerdict> {
    verdicts.iter().take(VERDICTS).filter(|verdict| verdict.subject.plausible())
}

impl Claims {
    /// Takes the view.
    pub fn learn(&mut self, now: Mono, view: &ClusterView, stale_after: Duration) {
        let agents: BTreeMap<&NodeName, &NodeAgentView> = view.agents.iter().map(|a| (&a.name, a)).collect();
        // What a node no longer says is over; what a node cannot say (silent, not vouching) is kept and not counted.
        for (key, words) in &mut self.words {
            words.retain(|node, word| {
                let Some(agent) = agents.get(node) else { return false };
                if !listened_to(now, agent, stale_after) {
                    word.vouched = false;
                    // Nobody will take back what a silent node said of a CoreDNS pod that is gone.
                    return !gone(key, view);
                }
                let verdicts = agent.report.iter().flat_map(|report| believable(&report.verdicts));
                verdicts.map(|v| key_of(v, view)).any(|reported| reported == *key)
            });
        }
        for words in self.deferred.values_mut() {
            words.retain(|node, _| agents.contains_key(node));
        }
        self.deferred.retain(|subject, _| view.pods.iter().any(|pod| Some(&pod.uid) == subject.uid.as_ref()));
        for agent in view.agents.iter().filter(|agent| listened_to(now, agent, stale_after)) {
            let Some(report) = &agent.report else { continue };
            for verdict in believable(&report.verdicts) {
                let words = self.words.entry(key_of(verdict, view)).or_default();
                let since = words.get(&agent.name).filter(|word| word.vouched).map_or(now, |word| word.since);
                words.insert(agent.name.clone(), Word { verdict: verdict.clone(), since, vouched: true });
            }
            for (subject, words) in &mut self.deferred {
                if !report.deferred.iter().take(DEFERRED).any(|d| d.subject == *subject && d.subject.plausible()) {
                    words.remove(&agent.name);
                }
            }
            for deferral in report.deferred.iter().take(DEFERRED).filter(|d| d.subject.plausible()) {
                let words = self.deferred.entry(deferral.subject.clone()).or_default();
                let since = words.get(&agent.name).map_or(now, |(_, _, since)| *since);
                words.insert(agent.name.clone(), (deferral.to_node.clone(), deferral.because.clone(), since));
            }
        }
        self.words.retain(|_, words| !words.is_empty());
        self.deferred.retain(|_, words| !words.is_empty());
        for (subject, words) in &self.deferred {
            if words.values().any(|(to, _, _)| self.speaks(to, subject)) {
                self.explained.insert(subject.clone(), now);
            }
        }
        self.explained.retain(|subject, _| self.deferred.contains_key(subject));
    }

    /// Every claim.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<VerdictKey, BTreeMap<NodeName, Word>> {
        &self.words
    }

    /// The claim with this key.
    #[must_use]
    pub fn get(&self, key: &VerdictKey) -> Option<&BTreeMap<NodeName, Word>> {
        self.words.get(key)
    }

    /// Deferred failures that have stood for [`UNEXPLAINED_AFTER`] while the node that was to judge says nothing of its
    /// pod or of itself: who sees it, with what they say. What `located` holds is explained by what all nodes see together.
    #[must_use]
    pub fn unexplained(
        &self,
        now: Mono,
        view: &ClusterView,
        located: &BTreeSet<Subject>,
    ) -> BTreeMap<Subject, Vec<(NodeName, Evidence)>> {
        let mut all = BTreeMap::new();
        for (subject, words) in self.deferred.iter().filter(|(subject, _)| !located.contains(subject)) {
            let listed = view.pods.iter().any(|pod| Some(&pod.uid) == subject.uid.as_ref() && !pod.terminating);
            let old = words.values().any(|(_, _, since)| now.since(*since) >= UNEXPLAINED_AFTER);
            let explained = words.values().any(|(to, _, _)| self.speaks(to, subject))
                || self.explained.get(subject).is_some_and(|at| now.since(*at) < UNEXPLAINED_AFTER);
            if listed && old && !explained {
                let line = |(node, (to, because, _)): (&NodeName, &(NodeName, String, Mono))| {
                    let says = format!("{because}; {to}, which should know why, names no cause");
                    (node.clone(), Evidence::new(node.as_str(), says))
                };
                all.insert(subject.clone(), words.iter().map(line).collect());
            }
        }
        all
    }

    /// Whether "unexplained" adds nothing: a cause is named for this subject, or, where a node is the subject, by that node.
    #[must_use]
    pub fn named(&self, subject: &Subject) -> bool {
        self.words.iter().filter(|(key, _)| key.cause != Cause::Unexplained).any(|(key, words)| {
            let by_itself =
                subject.kind == SubjectKind::Node && words.keys().any(|node| Subject::node(node) == *subject);
            // What is booked on the workload was said of its pods.
            let said = words.values().any(|w| w.verdict.subject == *subject);
            key.subject == *subject || said || by_itself
        })
    }

    /// Who cannot reach a CoreDNS pod and knows no reason of its own: the pod's node, what is said, since when.
    #[must_use]
    pub fn deferred_by(&self, subject: &Subject) -> Option<&BTreeMap<NodeName, (NodeName, String, Mono)>> {
        self.deferred.get(subject)
    }

    /// Whether every word is vouched for and stands, and every deferred failure too, for at least this long.
    #[must_use]
    pub fn stand_for(&self, now: Mono, long: Duration) -> bool {
        let old = |since: &Mono| now.since(*since) >= long;
        self.words.values().flat_map(BTreeMap::values).all(|word| word.vouched && old(&word.since))
            && self.deferred.values().flat_map(BTreeMap::values).all(|(_, _, since)| old(since))
    }

    /// Whether any node defers anything.
    #[must_use]
    pub fn any_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// The nodes to which something is deferred.
    #[must_use]
    pub fn deferred_to(&self) -> BTreeSet<&NodeName> {
        self.deferred.values().flat_map(|words| words.values().map(|(to, ..)| to)).collect()
    }

    /// Whether a node names a cause that lies in the whole of itself.
    #[must_use]
    pub fn node_is_sick(&self, node: &NodeName) -> bool {
        let itself = Subject::node(node);
        let mut causes = self.words.iter().filter(|(key, _)| key.cause != Cause::Unexplained);
        causes.any(|(key, words)| key.subject == itself && words.contains_key(node))
    }

    /// Whether a node names a cause for this pod, for itself or for everything.
    pub(super) fn speaks(&self, node: &NodeName, subject: &Subject) -> bool {
        self.words.iter().any(|(key, words)| {
            let about = key.subject == *subject
                || key.subject == Subject::node(node)
                || words.get(node).is_some_and(|w| {
                    w.verdict.subject == *subject || matches!(w.verdict.scope, Scope::Node | Scope::Cluster)
                });
            about && words.contains_key(node)
        })
    }

    /// Whether anything about CoreDNS itself is claimed or fails unexplained.
    #[must_use]
    pub fn coredns_suffers(&self) -> bool {
        let shared = |key: &VerdictKey| key.cause.about().layer == Layer::Coredns;
        !self.deferred.is_empty() || self.words.keys().any(shared)
    }

    /// By cause of the nodes' own layer, the nodes that say so.
    #[must_use]
    pub fn alike(&self) -> BTreeMap<Cause, BTreeSet<NodeName>> {
        let mut by_cause: BTreeMap<Cause, BTreeSet<NodeName>> = BTreeMap::new();
        for (key, words) in self.words.iter().filter(|(key, _)| of_a_node(key.cause)) {
            by_cause.entry(key.cause).or_default().extend(words.keys().cloned());
        }
        by_cause
    }

    /// On how many subjects a cause is named.
    #[must_use]
    pub fn subjects(&self, cause: Cause) -> usize {
        self.words.keys().filter(|key| key.cause == cause).count()
    }

    /// A cause that stands and that another CoreDNS replica would share: the Corefile, the API, memory, an upstream.
    #[must_use]
    pub fn shared_by_replicas(&self) -> Option<Cause> {
        let shared = |cause: Cause| {
            matches!(cause.about().layer, Layer::Coredns | Layer::Service | Layer::Upstream)
                && !replaced(cause)
                // What a process that does not read leaves behind, not a cause beside it.
                && cause != Cause::CorednsReceiveOverflow
        };
        self.words.keys().map(|key| key.cause).find(|cause| shared(*cause))
    }
}

/// A cause that lies in one node or in a pod of it.
#[must_use]
pub fn of_a_node(cause: Cause) -> bool {
    matches!(cause.about().layer, Layer::Node | Layer::Pod)
}

/// A fault of one CoreDNS process, which goes with its pod.
#[must_use]
pub fn replaced(cause: Cause) -> bool {
    nameward_config::ladders::built_in(cause).contains(&RemedyKind::EvictPod)
}

/// Whether a cause in one CoreDNS pod has lost its pod.
fn gone(key: &VerdictKey, view: &ClusterView) -> bool {
    replaced(key.cause) && !view.pods.iter().any(|pod| Some(&pod.uid) == key.subject.uid.as_ref())
}

/// Memory and the Corefile are the workload's, whichever pod died of them: one incident, not one per pod.
fn key_of(verdict: &ReportedVerdict, view: &ClusterView) -> VerdictKey {
    let shared = matches!(verdict.cause, Cause::CorednsOomKilled | Cause::CorednsLoop | Cause::CorefileBroken);
    let workload = view.workload.as_ref().filter(|_| shared);
    let subject =
        workload.map_or_else(|| verdict.subject.clone(), |w| Subject::object(SubjectKind::Deployment, &w.key));
    VerdictKey { cause: verdict.cause, subject }
}

/// A word that is certain and has stood for `wait`.
#[must_use]
pub fn ripe(word: &Word, now: Mono, wait: Duration) -> bool {
    word.vouched && word.verdict.confidence == Confidence::Certain && now.since(word.since) >= wait
}
