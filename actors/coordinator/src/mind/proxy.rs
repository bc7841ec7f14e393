//! Restarting kube-proxy on the one node whose rules it does not write: off unless it is switched on by name.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::SharedAct;
use nameward_messages::{Mono, NodeName, Now, ObjectKey, PodUid};

use super::incident::Incident;
use super::shared::ANSWERS_STAND;
use super::{CoordinatorMind, Output};
use crate::judge::answers::Doubt;
use crate::judge::claims::ripe;

/// A kube-proxy pod as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyPod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
}

/// What was read of kube-proxy pods, and when each was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    known: BTreeMap<NodeName, (Option<ProxyPod>, Mono)>,
    asked: BTreeMap<NodeName, Mono>,
}

/// What was read is good for this long; and is not asked for more often.
const GOOD: Duration = Duration::from_secs(10);
/// Nodes that are remembered.
const MOST: usize = 64;

impl Proxies {
    pub(super) fn learn(&mut self, now: Mono, node: NodeName, pod: Option<ProxyPod>) {
        self.known.retain(|_, (_, at)| now.since(*at) < GOOD);
        if self.known.len() < MOST {
            self.known.insert(node, (pod, now));
        }
    }

    fn due(&mut self, now: Mono, node: &NodeName) -> bool {
        self.asked.retain(|_, at| now.since(*at) < GOOD);
        !self.asked.contains_key(node) && self.asked.len() < MOST && self.asked.insert(node.clone(), now).is_none()
    }
}

impl CoordinatorMind {
    /// Hands the restart over once it is corroborated and the pod is known. `true`: handed over.
    pub(super) fn restart_proxy(
        &mut self,
        now: Now,
        view: &ClusterView,
        incident: &Incident,
        out: &mut Vec<Output>,
    ) -> bool {
        let node = NodeName(incident.spec.subject.name.clone());
        let words = self.claims.get(&incident.key());
        let wait = self.config.remedy.wait.0;
        if !words.and_then(|words| words.get(&node)).is_some_and(|word| ripe(word, now.mono, wait)) {
            return false;
        }
        if let Err(doubt) = self.one_sick_node(now, view, incident, &node) {
            self.doubt(now, &incident.name, &doubt, true, view, out);
            return false;
        }
        let known = self.proxies.known.get(&node).filter(|(_, at)| now.mono.since(*at) < GOOD).cloned();
        match known {
            Some((Some(pod), _)) if !pod.terminating => {
                let act = SharedAct::RestartKubeProxy {
                    node,
                    pod: pod.key,
                    uid: pod.uid,
                    resource_version: pod.resource_version,
                };
                self.proxies.known.clear();
                self.hand_over(now, incident, act, now.mono + ANSWERS_STAND, out);
                true
            }
            Some((Some(pod), _)) => {
                let doubt = Doubt::PodsMoving(pod.key.to_string());
                self.doubt(now, &incident.name, &doubt, false, view, out);
                false
            }
            Some((None, _)) => {
                self.doubt(now, &incident.name, &Doubt::NoKubeProxy(node), false, view, out);
                false
            }
            None => {
                if self.proxies.due(now.mono, &node) {
                    out.push(Output::FindKubeProxy(node));
                }
                false
            }
        }
    }

    fn one_sick_node(&self, now: Now, view: &ClusterView, incident: &Incident, node: &NodeName) -> Result<(), Doubt> {
        self.quorum(now, view)?;
        let alike = self.claims.alike();
        let others = alike.get(&incident.spec.cause).map_or(0, |nodes| nodes.iter().filter(|n| *n != node).count());
        if others > 0 {
            return Err(Doubt::OtherNodesToo(u32::try_from(others).unwrap_or(u32::MAX)));
        }
        if view.nodes.iter().any(|n| n.name == *node && n.unschedulable == Some(true)) {
            return Err(Doubt::NodeDrained(node.clone()));
        }
        self.calm(now)
    }
}
