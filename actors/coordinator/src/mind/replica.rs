//! Make before break. When no CoreDNS pod is good, none may be evicted; if their processes are at fault and nothing that a
//! new replica would share, one replica is added, verified, and taken away again when CoreDNS is well.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, WorkloadKind};
use nameward_messages::plan::SharedAct;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::report::RequestAnswer;
use nameward_messages::verdict::{Cause, Subject, VerdictKey};
use nameward_messages::{NodeName, Now};

use super::incident::Incident;
use super::shared::{ANSWERS_STAND, Asking};
use super::{CoordinatorMind, Output};
use crate::judge::answers::{Doubt, witnessed};
use crate::judge::claims::{replaced, ripe};
use crate::judge::quorum::Quorum;

/// A replica that did not help is no reason to add another within this time.
const REMEMBERED: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

impl CoordinatorMind {
    /// The replica that may be added, or why none may. Asked when the answers show no good pod.
    pub(super) fn add_replica(
        &self,
        now: Now,
        view: &ClusterView,
        incident: &Incident,
        asking: &Asking,
        heard: &BTreeMap<NodeName, RequestAnswer>,
    ) -> Result<SharedAct, Doubt> {
        if !self.config.remedy.has_rung(incident.spec.cause, RemedyKind::AddReplica) {
            return Err(Doubt::OffLadder(RemedyKind::AddReplica));
        }
        let workload = view.workload.as_ref().ok_or(Doubt::PodNotListed)?;
        if workload.kind == WorkloadKind::DaemonSet {
            return Err(Doubt::NotScalable);
        }
        if let Some(owner) = &workload.replicas_owner {
            return Err(Doubt::ReplicasOwned(owner.clone()));
        }
        if let Some(standing) = view.incidents.iter().find(|i| i.status.added.is_some()) {
            return Err(Doubt::ReplicaStands(standing.name.clone()));
        }
        let in_vain = |r: &RemedyRecord| {
            r.kind == RemedyKind::AddReplica
                && r.outcome == RemedyOutcome::Ineffective
                && now.wall.duration_since(r.at) < REMEMBERED
        };
        if view.incidents.iter().flat_map(|i| &i.status.ladder).any(in_vain) {
            return Err(Doubt::AddedInVain);
        }
        let uid = incident.spec.subject.uid.clone().ok_or(Doubt::PodNotListed)?;
        let own = self.own_node(view, &incident.spec.subject).ok_or(Doubt::PodNotListed)?;
        let quorum = self.quorum(now, view)?;
        witnessed(view, &uid, &own, &asking.nodes, heard, quorum.expected)?;
        if let Some(pod) = view.pods.iter().find(|p| p.terminating || p.node.is_none() || p.phase == "Pending") {
            return Err(Doubt::PodsMoving(pod.key.to_string()));
        }
        for pod in &view.pods {
            if !self.process_at_fault(now, view, &Subject::pod(&pod.key, &pod.uid)) {
                return Err(Doubt::PodUnexplained(pod.key.to_string()));
            }
        }
        if let Some(cause) = self.claims.shared_by_replicas() {
            return Err(Doubt::RestNotFine(format!("a node names {cause}")));
        }
        let placed = |cause: Cause| matches!(cause, Cause::CorednsPending | Cause::NodePairBlocked);
        if let Some(key) = self.located.all().keys().find(|key| placed(key.cause)) {
            return Err(Doubt::RestNotFine(format!("{} stands", key.cause)));
        }
        if !self.kills.standing(now.mono, workload).is_empty() {
            return Err(Doubt::RestNotFine("containers were killed for want of memory".to_owned()));
        }
        self.calm(now)?;
        Ok(SharedAct::AddReplica {
            workload: workload.key.clone(),
            resource_version: workload.resource_version.clone(),
            from: workload.replicas,
        })
    }

    /// Whether the pod's own node is certain, for long enough, of a fault of its process.
    fn process_at_fault(&self, now: Now, view: &ClusterView, pod: &Subject) -> bool {
        let Some(own) = self.own_node(view, pod) else { return false };
        let wait = self.config.remedy.wait.0;
        let faults = Cause::ALL.iter().copied().filter(|cause| replaced(*cause));
        faults.map(|cause| VerdictKey { cause, subject: pod.clone() }).any(|key| {
            self.claims.get(&key).and_then(|words| words.get(&own)).is_some_and(|word| ripe(word, now.mono, wait))
        })
    }

    /// Since when CoreDNS is well as a whole: nobody complains, enough nodes speak, every wanted pod is ready.
    pub(super) fn watch_health(&mut self, now: Now, view: &ClusterView) {
        let quorum = Quorum::count(now.mono, view, &self.freshness, self.config.coordinator.stale_after.0);
        let wanted = view.workload.as_ref().map_or(1, |w| w.replicas.max(1)) as usize;
        let well = quorum.enough(self.config.coordinator.quorum_percent)
            && !self.claims.coredns_suffers()
            && !view.rollout.in_progress
            && view.pods.len() >= wanted
            && view.pods.iter().all(|pod| pod.ready && !pod.terminating);
        self.well_since = well.then(|| self.well_since.unwrap_or(now.mono));
    }

    /// Takes an added replica away again, when it did not help or is not needed any more. `true`: handed over.
    pub(super) fn lower_again(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) -> bool {
        let Some(incident) = self.book.values().find(|i| i.added.is_some() && now.mono >= i.undo_from).cloned() else {
            return false;
        };
        let Some(added) = incident.added.clone() else { return false };
        if self.config.remedy.mode_of(RemedyKind::AddReplica) != Mode::Act || incident.version.is_none() {
            return false;
        }
        let useless = |kind, outcome, at| {
            kind == RemedyKind::AddReplica && outcome == RemedyOutcome::Ineffective && at >= added.at
        };
        let failed = incident.ladder.iter().any(|r| useless(r.kind, r.outcome, r.at));
        let settled = self.config.remedy.wait.0.max(Duration::from_secs(5));
        let well = self.well_since.is_some_and(|since| now.mono.since(since) >= settled);
        // A breaker that is open for acts does not hold back an undo; the cool-down does.
        if !(failed || well) || self.cooled(now).is_err() || view.rollout.in_progress {
            return false;
        }
        let act = SharedAct::LowerReplicas { workload: added.workload, from: added.after, to: added.before };
        self.hand_over(now, &incident, act, now.mono + ANSWERS_STAND, out);
        true
    }
}
