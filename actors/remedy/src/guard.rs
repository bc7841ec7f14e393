//! The guard rails of shared remedies: pure questions with a reason for every no.
//!
//! They are asked twice. [`Guard::plan`] judges a plan before anything is written; [`pod_target`], [`memory_target`] and
//! [`floor`] judge the target as it was read again; [`Guard::still`] is asked before every single request.

mod refusal;

use std::time::Duration;

use nameward_config::ceilings;
use nameward_config::settings::Remedy;
use nameward_messages::PodUid;
use nameward_messages::cluster_view::{BudgetView, ClusterView, KillSwitch, WorkloadKind};
use nameward_messages::plan::{IncidentPhase, LeaseState, Plan, SharedAct};
use nameward_messages::remedy::RemedyKind;
use nameward_messages::time::{Mono, Now};

pub use refusal::Refusal;

use crate::budget::{Budget, Limits};
use crate::shared::call::{PodRead, WorkloadRead};

/// A view older than this is no ground to act on.
pub const VIEW_STALE: Duration = Duration::from_secs(60);

/// What the guard rails look at, gathered by the executor's mind.
#[derive(Clone, Copy, Debug)]
pub struct Guard<'a> {
    /// The moment.
    pub now: Now,
    /// The settings.
    pub settings: &'a Remedy,
    /// The Lease.
    pub lease: &'a LeaseState,
    /// The policy ConfigMap; `None`: not told yet, which forbids.
    pub switch: Option<KillSwitch>,
    /// The local file is there.
    pub paused_here: bool,
    /// When this process began, or a storm ended: the cool-down runs from it.
    pub calm_since: Mono,
    /// The tries so far.
    pub budget: &'a Budget,
}

impl Guard<'_> {
    /// What is asked before every request: kill switch, Lease, deadline.
    pub fn still(&self, deadline: Mono) -> Result<(), Refusal> {
        if self.paused_here {
            return Err(Refusal::KillSwitch("the file /run/nameward/paused exists"));
        }
        match self.switch {
            None => return Err(Refusal::KillSwitch("the policy ConfigMap has not been read yet")),
            Some(KillSwitch::On) => return Err(Refusal::KillSwitch("the policy ConfigMap says paused")),
            Some(switch @ KillSwitch::UnreadableSince(_)) if !switch.allows(self.now.mono) => {
                return Err(Refusal::KillSwitch("the policy ConfigMap could not be read for more than 60 s"));
            }
            Some(KillSwitch::Off | KillSwitch::UnreadableSince(_)) => {}
        }
        if !self.lease.may_act(self.now.mono) {
            return Err(Refusal::NoLease);
        }
        if self.now.mono >= deadline { Err(Refusal::Overdue) } else { Ok(()) }
    }

    /// Judges a plan before anything is written.
    pub fn plan(&self, plan: &Plan, view: Option<&ClusterView>) -> Result<(), Refusal> {
        let kind = kind_of(&plan.act);
        // To take away what was added is no new try: neither the ladder nor the budget holds it back.
        let undo = matches!(plan.act, SharedAct::LowerReplicas { .. });
        if !undo && !self.settings.ladder(plan.cause).contains(&kind) {
            return Err(Refusal::NotOnLadder { cause: plan.cause.id(), kind });
        }
        self.still(plan.deadline)?;
        let view = view
            .filter(|v| v.complete && self.now.mono.since(v.fresh_as_of) <= VIEW_STALE)
            .ok_or(Refusal::ViewUnknown)?;
        let cooled = self.now.mono.since(self.calm_since);
        if cooled < self.settings.cool_down.0 {
            return Err(Refusal::CoolDown(self.settings.cool_down.0.saturating_sub(cooled)));
        }
        let workload = view.workload.as_ref().ok_or(Refusal::ViewUnknown)?;
        if workload.paused {
            return Err(Refusal::Paused);
        }
        if view.rollout.in_progress {
            return Err(Refusal::Rollout(view.rollout.because.clone()));
        }
        if let Some(other) = view.incidents.iter().find(|i| i.name != plan.incident && busy(i)) {
            return Err(Refusal::InFlight(other.name.clone()));
        }
        if !undo && let Some(spent) = self.budget.forbids(self.now, limits(self.settings), kind, &plan.subject) {
            return Err(Refusal::Budget(spent));
        }
        match &plan.act {
            SharedAct::EvictPod { uid, .. } => {
                let ready = view.pods.iter().any(|pod| pod.uid == *uid && pod.ready);
                disruption(&view.budgets, uid, ready, workload.replicas)
            }
            SharedAct::RaiseMemory { from, to, .. } => memory_values(self.settings, *from, *to),
            SharedAct::AddReplica { .. } if workload.kind == WorkloadKind::DaemonSet => Err(Refusal::NotScalable),
            SharedAct::AddReplica { from, .. } => {
                if let Some(standing) = view.incidents.iter().find(|i| i.status.added.is_some()) {
                    return Err(Refusal::AlreadyAdded(standing.name.clone()));
                }
                if workload.replicas != *from {
                    return Err(Refusal::TargetChanged("another number of replicas"));
                }
                workload.replicas_owner.clone().map_or(Ok(()), |o| Err(Refusal::OwnedBy(o)))
            }
            // Judged by the workload as it is read again: when another number stands there, nothing is to be undone.
            SharedAct::LowerReplicas { .. } | SharedAct::RestartKubeProxy { .. } => Ok(()),
        }
    }
}

/// What the disruption budgets say of the eviction of a CoreDNS pod, as the API server will judge it (`eviction.go`). No
/// budget at all allows everything: then only the floor holds.
fn disruption(budgets: &[BudgetView], pod: &PodUid, ready: bool, replicas: u32) -> Result<(), Refusal> {
    let covering: Vec<&BudgetView> = budgets.iter().filter(|b| b.matches.contains(pod)).collect();
    let budget = match covering.as_slice() {
        [] => return Ok(()),
        [one] => one,
        more => return Err(Refusal::BudgetsOverlap(more.len())),
    };
    let (name, healthy, desired) = (budget.key.to_string(), budget.current_healthy, budget.desired_healthy);
    // Figures that are not of this generation say nothing: the server refuses by itself then.
    if !budget.observed {
        return Ok(());
    }
    if ready {
        if budget.disruptions_allowed > 0 {
            return Ok(());
        }
        if i64::from(desired) >= i64::from(replicas) {
            let because = "it wants as many healthy pods as there are replicas; allow one to be unavailable";
            return Err(Refusal::BudgetNever { name, because });
        }
        return Err(Refusal::BudgetNotNow { name, healthy, desired });
    }
    if budget.always_allow_unhealthy || healthy >= desired || budget.disruptions_allowed > 0 {
        return Ok(());
    }
    if healthy == 0 {
        let because = "no pod is healthy, and unhealthy ones may go only while enough others are; set \
                       unhealthyPodEvictionPolicy: AlwaysAllow";
        return Err(Refusal::BudgetNever { name, because });
    }
    Err(Refusal::BudgetNotNow { name, healthy, desired })
}

/// An incident that holds the one slot of shared remedies.
fn busy(incident: &nameward_messages::cluster_view::IncidentView) -> bool {
    incident.status.intent.is_some()
        || matches!(incident.status.phase, IncidentPhase::Remediating | IncidentPhase::Verifying)
}

/// The remedy that an act is.
#[must_use]
pub fn kind_of(act: &SharedAct) -> RemedyKind {
    match act {
        SharedAct::EvictPod { .. } => RemedyKind::EvictPod,
        SharedAct::RaiseMemory { .. } => RemedyKind::RaiseMemory,
        SharedAct::AddReplica { .. } | SharedAct::LowerReplicas { .. } => RemedyKind::AddReplica,
        SharedAct::RestartKubeProxy { .. } => RemedyKind::RestartKubeProxy,
    }
}

/// The limits that the settings state, and never more than the ceilings allow.
#[must_use]
pub fn limits(settings: &Remedy) -> Limits {
    Limits {
        every: settings.shared_every.0.max(ceilings::SHARED_EVERY),
        per_hour: settings.shared_per_hour.min(ceilings::SHARED_PER_HOUR),
        per_target: settings.tries_per_target.min(ceilings::TRIES_PER_TARGET),
    }
}

/// Whether the pod that was read again is the one that was judged.
pub fn pod_target(plan_uid: &str, plan_version: &str, read: Option<&PodRead>) -> Result<(), Refusal> {
    let pod = read.ok_or(Refusal::TargetGone)?;
    if pod.uid.as_str() != plan_uid {
        return Err(Refusal::TargetChanged("another uid: it was replaced"));
    }
    if pod.terminating {
        return Err(Refusal::TargetChanged("it is terminating already"));
    }
    if pod.resource_version.is_empty() || pod.resource_version != plan_version {
        return Err(Refusal::TargetChanged("another resourceVersion"));
    }
    Ok(())
}

/// Whether enough ready CoreDNS pods stay when the pod goes, by the workload as it was read again.
pub fn floor(pod: &PodRead, read: Option<&WorkloadRead>) -> Result<(), Refusal> {
    let workload = read.ok_or(Refusal::TargetGone)?;
    workload_free(workload)?;
    let floor = ceilings::floor(workload.replicas);
    let ready_after = workload.ready.saturating_sub(u32::from(pod.ready));
    if ready_after < floor { Err(Refusal::Floor { ready_after, floor }) } else { Ok(()) }
}

/// Whether a replica may be added to the workload as it was read again.
pub fn replica_target(from: u32, read: Option<&WorkloadRead>) -> Result<(), Refusal> {
    let workload = read.ok_or(Refusal::TargetGone)?;
    workload_free(workload)?;
    if let Some(owner) = &workload.replicas_owner {
        return Err(Refusal::OwnedBy(owner.clone()));
    }
    if workload.resource_version.is_empty() {
        return Err(Refusal::TargetChanged("no resourceVersion"));
    }
    if workload.replicas != from {
        return Err(Refusal::TargetChanged("another number of replicas"));
    }
    Ok(())
}

/// Whether the added replica may be taken away again from the workload as it was read again. `Ok(false)`: it is not ours any
/// more, since somebody has set the number since (be it the same one), or owns it.
pub fn lower_target(from: u32, to: u32, read: &WorkloadRead) -> Result<bool, Refusal> {
    if read.replicas != from || read.replicas_owner.is_some() || !read.scaled_by_us {
        return Ok(false);
    }
    workload_free(read)?;
    if read.resource_version.is_empty() {
        return Err(Refusal::TargetChanged("no resourceVersion"));
    }
    // Pods that are not ready go first (the ReplicaSet controller ranks them so).
    let ready_after = if read.ready >= read.replicas { to } else { read.ready };
    let floor = ceilings::floor(to);
    if ready_after < floor { Err(Refusal::Floor { ready_after, floor }) } else { Ok(true) }
}

/// Whether the memory limit that was read again is still the one to raise.
pub fn memory_target(
    settings: &Remedy,
    container: &str,
    from: u64,
    to: u64,
    read: Option<&WorkloadRead>,
) -> Result<(), Refusal> {
    let workload = read.ok_or(Refusal::TargetGone)?;
    workload_free(workload)?;
    if let Some(owner) = &workload.memory_owner {
        return Err(Refusal::OwnedBy(owner.clone()));
    }
    if workload.resource_version.is_empty() {
        return Err(Refusal::TargetChanged("no resourceVersion"));
    }
    // The rollout that follows takes ready pods away until as many are left as its strategy says.
    let (floor, stay) = (ceilings::floor(workload.replicas), workload.replicas.saturating_sub(workload.rolls_away));
    if workload.ready > stay && stay < floor {
        return Err(Refusal::Strategy { stay, floor });
    }
    match workload.memory_limits.get(container) {
        None => Err(Refusal::LimitUnknown),
        Some(limit) if *limit != from => Err(Refusal::TargetChanged("another memory limit")),
        Some(_) => memory_values(settings, from, to),
    }
}

fn workload_free(workload: &WorkloadRead) -> Result<(), Refusal> {
    if workload.paused {
        return Err(Refusal::Paused);
    }
    match &workload.rollout {
        Some(because) => Err(Refusal::Rollout(because.clone())),
        None => Ok(()),
    }
}

fn memory_values(settings: &Remedy, from: u64, to: u64) -> Result<(), Refusal> {
    if from == 0 {
        return Err(Refusal::LimitUnknown);
    }
    if to <= from {
        return Err(Refusal::NotRaised { from, to });
    }
    let cap = settings.memory_cap.0.min(ceilings::MEMORY_CAP);
    if to > cap { Err(Refusal::AboveCap { to, cap }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
