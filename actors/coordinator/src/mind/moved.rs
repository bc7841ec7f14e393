//! Whether CoreDNS was rolled out or replaced between two views: neither need show a rollout that was short. It begins the
//! cool-down anew, but not for ever: pods that come and go all the time may be the very fault.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, WorkloadKind};
use nameward_messages::{Mono, PodUid};

/// What moves within this time of a first movement is the same stretch: the pods of one rollout become ready one by one.
const STRETCH: Duration = Duration::from_secs(60);
/// So many stretches within [`WINDOW`] begin the cool-down anew; what moves beyond them does not.
const STRETCHES: usize = 2;
const WINDOW: Duration = Duration::from_secs(600);

/// What is remembered of movements.
#[derive(Clone, Debug, Default)]
pub(super) struct Movements {
    /// Pods that came while they were watched and have not been ready yet: only then do they take part.
    coming: BTreeSet<PodUid>,
    /// When the stretches of the last ten minutes began.
    stretches: Vec<Mono>,
}

impl Movements {
    /// Takes the view that follows `before`; whether the cool-down begins anew.
    pub(super) fn learn(&mut self, now: Mono, before: Option<&ClusterView>, after: &ClusterView) -> bool {
        let Some(before) = before else { return false };
        let known: BTreeSet<&PodUid> = before.pods.iter().map(|p| &p.uid).collect();
        let fresh = after.pods.iter().map(|p| &p.uid).filter(|uid| !known.contains(uid));
        self.coming.extend(fresh.cloned());
        let mut arrived = false;
        self.coming.retain(|uid| {
            let Some(pod) = after.pods.iter().find(|p| p.uid == *uid) else { return false };
            arrived |= pod.ready;
            !pod.ready
        });
        if !arrived && !other_template(before, after) {
            return false;
        }
        // A rollout that shows begins the cool-down anew for as long as it lasts, and costs no stretch.
        if after.rollout.in_progress {
            return true;
        }
        self.stretches.retain(|began| now.since(*began) < WINDOW);
        if self.stretches.last().is_some_and(|began| now.since(*began) < STRETCH) {
            return true;
        }
        if self.stretches.len() >= STRETCHES {
            return false;
        }
        self.stretches.push(now);
        true
    }
}

/// Whether the workload was made anew or its template changed. A Deployment's generation says less: every step of an
/// autoscaler changes it; but each template has a ReplicaSet of its own. Nobody scales a DaemonSet.
fn other_template(before: &ClusterView, after: &ClusterView) -> bool {
    let template = |view: &ClusterView| {
        let generation = |kind, generation: i64| (kind == WorkloadKind::DaemonSet).then_some(generation);
        view.workload.as_ref().map(|w| (w.uid.clone(), generation(w.kind, w.generation)))
    };
    let owned = |owner: &Option<String>| before.pods.iter().any(|p| p.owner == *owner);
    template(before).is_some_and(|was| template(after) != Some(was)) || !after.pods.iter().all(|p| owned(&p.owner))
}
