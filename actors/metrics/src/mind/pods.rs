//! Which CoreDNS pods have series of their own, and what they count.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use nameward_messages::PodUid;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Observation, QuestionKind};
use nameward_messages::targets::{DnsPod, TargetKind, Targets, Transport};

use super::tally::{transport_label, vantage_label};
use super::{Labels, Output};
use crate::names::{BAD, GOOD, MOST_PODS, Metric};

/// The pods with series of their own: name and node, as their labels have them.
#[derive(Debug, Default)]
pub(super) struct Pods(BTreeMap<PodUid, (String, String)>);

impl Pods {
    /// All of them, if they are few. Else each node takes others, always the same ones, so that the cluster's nodes
    /// together show every pod.
    pub(super) fn choose(&mut self, node: &str, targets: &Targets) {
        let mut pods: Vec<&DnsPod> = targets.pods.iter().collect();
        if pods.len() > MOST_PODS {
            pods.sort_by_cached_key(|pod| {
                let mut hasher = DefaultHasher::new();
                (node, pod.uid.as_str()).hash(&mut hasher);
                hasher.finish()
            });
            pods.truncate(MOST_PODS);
        }
        let labels = |pod: &DnsPod| {
            (pod.key.name.clone(), pod.node.as_ref().map_or_else(String::new, |node| node.as_str().to_owned()))
        };
        self.0 = pods.into_iter().map(|pod| (pod.uid.clone(), labels(pod))).collect();
    }

    /// Pod and node, as labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&PodUid, Labels)> {
        self.0.iter().map(|(uid, (pod, node))| (uid, vec![pod.clone().into(), node.clone().into()]))
    }

    /// Series of other pods are to go.
    pub(super) fn keep(&self) -> Output {
        Output::KeepPods(self.0.values().map(|(pod, _)| pod.clone()).collect())
    }

    /// Counts what was asked of each of them. The cluster's own name alone: for other names a pod depends on others.
    pub(super) fn report(&self, observations: &[Observation], out: &mut Vec<Output>) {
        let mut counts: BTreeMap<(&PodUid, VantageKind, Transport, bool), u64> = BTreeMap::new();
        let mut durations: BTreeMap<(&PodUid, Transport), Vec<f64>> = BTreeMap::new();
        for observation in observations.iter().filter(|o| o.path.question == QuestionKind::Internal) {
            let path = &observation.path;
            if let (TargetKind::Pod { uid, .. }, Some(good)) = (&path.target.kind, observation.outcome.good())
                && self.0.contains_key(uid)
            {
                // Its opposite is there from the start as well, as zero: a rate of what was never seen is not known.
                counts.entry((uid, path.vantage.kind(), path.transport, !good)).or_default();
                *counts.entry((uid, path.vantage.kind(), path.transport, good)).or_default() += 1;
                durations.entry((uid, path.transport)).or_default().push(observation.latency.as_secs_f64());
            }
        }
        for ((uid, vantage, transport, good), by) in counts {
            let result = if good { GOOD } else { BAD };
            let labels = self.series(uid, &[vantage_label(vantage), transport_label(transport), result]);
            out.push(Output::Add { metric: Metric::CorednsProbes, labels, by });
        }
        for ((uid, transport), seconds) in durations {
            let labels = self.series(uid, &[transport_label(transport)]);
            out.push(Output::Observe { metric: Metric::CorednsProbeDuration, labels, seconds });
        }
    }

    fn series(&self, uid: &PodUid, more: &[&'static str]) -> Labels {
        let (pod, node) = self.0.get(uid).cloned().unwrap_or_default();
        [pod.into(), node.into()].into_iter().chain(more.iter().map(|value| (*value).into())).collect()
    }
}
