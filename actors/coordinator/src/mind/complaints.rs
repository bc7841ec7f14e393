//! Deferred failures become complaints for the node of the pod: its agent looks for a reason though nothing of its own fails.

use std::collections::BTreeMap;

use nameward_messages::NodeName;
use nameward_messages::report::Complaint;

use super::CoordinatorMind;

/// Complaints that one node is told.
const PER_NODE: usize = 8;
/// Nodes that a complaint names.
const FROM: usize = 16;

impl CoordinatorMind {
    /// What every node is to look into. A pod is complained of by a node whose report may be listened to, shows it failing
    /// over a transport, and names no cause in itself.
    pub(super) fn complaints(&self) -> BTreeMap<NodeName, Vec<Complaint>> {
        let mut all: BTreeMap<NodeName, Vec<Complaint>> = BTreeMap::new();
        let Some(sight) = self.located.sight().filter(|sight| !sight.moving) else { return all };
        for pod in &sight.pods {
            let mut fails: Vec<_> = sight
                .failing(pod, std::time::Duration::ZERO)
                .filter(|(from, looks)| {
                    !looks.failing().is_empty() && sight.nodes.get(*from).is_some_and(|node| !node.sick)
                })
                .collect();
            fails.sort_by_key(|(from, _)| (*from).clone());
            let Some((_, first)) = fails.first() else { continue };
            let mut transports: Vec<_> = fails.iter().flat_map(|(_, looks)| looks.failing()).collect();
            transports.sort();
            transports.dedup();
            let because = first.deferred.as_ref().map(|(_, because)| because.clone()).unwrap_or_default();
            let from = fails.iter().take(FROM).map(|(from, _)| (*from).clone()).collect();
            let told = all.entry(pod.node.clone()).or_default();
            if told.len() < PER_NODE {
                told.push(Complaint { pod: pod.uid.clone(), transports, from, because });
            }
        }
        all
    }
}

/// What stands is kept while only its text differs: figures in it change with every round.
pub(super) fn settled(standing: &[Complaint], wanted: Vec<Complaint>) -> Vec<Complaint> {
    let same = |a: &Complaint, b: &Complaint| a.pod == b.pod && a.transports == b.transports && a.from == b.from;
    if standing.len() == wanted.len() && standing.iter().zip(&wanted).all(|(a, b)| same(a, b)) {
        return standing.to_vec();
    }
    wanted
}
