//! The guard rails of shared remedies: pure questions with a reason for every no.
//!
//! They are asked twice. [`Guard::plan`] judges a plan before anything is written; [`pod_target`], [`memory_target`] and
//! [`floor`] judge the target as it was read again; [`Guard::still`] is asked before every single request.

use std::fmt;
use std::time::Duration;

use nameward_config::settings::Remedy;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::plan::{IncidentPhase, LeaseState, Plan, SharedAct};
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::time::{Mono, Now};

use crate::budget::{Budget, Limits, Spent};
use crate::ladder;
use crate::shared::call::{PodRead, WorkloadRead};

/// A view older than this is no ground to act on.
pub const VIEW_STALE: Duration = Duration::from_secs(60);

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of each is its documentation")]
pub enum Refusal {
    NotOnLadder { cause: &'static str, kind: RemedyKind },
    NotInThisRelease(RemedyKind),
    KillSwitch(&'static str),
    NoLease,
    Overdue,
    ViewUnknown,
    Paused,
    Rollout(String),
    CoolDown(Duration),
    Budget(Spent),
    InFlight(String),
    IncidentGone,
    VerdictEnded,
    TargetGone,
    TargetChanged(&'static str),
    Floor { ready_after: u32, floor: u32 },
    BudgetsOverlap(usize),
    OwnedBy(String),
    LimitUnknown,
    NotRaised { from: u64, to: u64 },
    AboveCap { to: u64, cap: u64 },
    Api(String),
    ApiForGood(String),
}

impl Refusal {
    /// How long to wait before the plan may be told again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            // The next view shows the change: plan anew from it.
            Self::TargetChanged(_) | Self::Overdue | Self::TargetGone => Duration::from_secs(2),
            Self::NoLease | Self::InFlight(_) | Self::ViewUnknown | Self::IncidentGone => Duration::from_secs(10),
            Self::KillSwitch(_) | Self::Rollout(_) | Self::Api(_) | Self::VerdictEnded => Duration::from_secs(30),
            Self::CoolDown(left) | Self::Budget(Spent::Spacing(left) | Spent::Hour(left)) => {
                (*left).max(Duration::from_secs(1))
            }
            Self::Paused | Self::Floor { .. } | Self::BudgetsOverlap(_) | Self::LimitUnknown => Duration::from_secs(60),
            Self::NotOnLadder { .. }
            | Self::NotInThisRelease(_)
            | Self::ApiForGood(_)
            | Self::Budget(Spent::Target(_))
            | Self::OwnedBy(_)
            | Self::NotRaised { .. }
            | Self::AboveCap { .. } => Duration::from_secs(600),
        }
    }

    /// The same reason, whatever the time that is left: to tell a change of reason from the passing of time.
    #[must_use]
    pub fn without_times(&self) -> Self {
        match self {
            Self::CoolDown(_) => Self::CoolDown(Duration::ZERO),
            Self::Budget(Spent::Spacing(_)) => Self::Budget(Spent::Spacing(Duration::ZERO)),
            Self::Budget(Spent::Hour(_)) => Self::Budget(Spent::Hour(Duration::ZERO)),
            other => other.clone(),
        }
    }

    /// Whether waiting can change it. If not, a person is called at once.
    #[must_use]
    pub fn lasting(&self) -> bool {
        matches!(
            self,
            Self::NotOnLadder { .. }
                | Self::NotInThisRelease(_)
                | Self::ApiForGood(_)
                | Self::Budget(Spent::Target(_))
                | Self::OwnedBy(_)
                | Self::NotRaised { .. }
                | Self::AboveCap { .. }
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnLadder { cause, kind } => write!(f, "{kind} is no remedy for {cause}"),
            Self::NotInThisRelease(kind) => write!(f, "{kind} is not carried out in this release: it is only recorded"),
            Self::KillSwitch(which) => write!(f, "the kill switch stops every change: {which}"),
            Self::NoLease => f.write_str("the Lease is not held for long enough to finish the call"),
            Self::Overdue => f.write_str("the plan is past its deadline"),
            Self::ViewUnknown => f.write_str("the cluster is not known: a watch is incomplete or older than a minute"),
            Self::Paused => f.write_str("the workload carries the annotation nameward.dev/paused"),
            Self::Rollout(because) => write!(f, "a rollout of the workload is under way: {because}"),
            Self::CoolDown(left) => write!(f, "cool-down, {} s left", secs(*left)),
            Self::Budget(Spent::Spacing(left)) => {
                write!(f, "the last shared remedy was too short a time ago, {} s left", secs(*left))
            }
            Self::Budget(Spent::Hour(left)) => {
                write!(f, "the budget of shared remedies for this hour is spent, {} s left", secs(*left))
            }
            Self::Budget(Spent::Target(most)) => write!(f, "this target had its {most} tries"),
            Self::InFlight(other) => write!(f, "another shared remedy is in flight: {other}"),
            Self::IncidentGone => f.write_str("the incident's object is not there to write the intent to"),
            Self::VerdictEnded => f.write_str("no node says so any more"),
            Self::TargetGone => f.write_str("the target is gone"),
            Self::TargetChanged(what) => write!(f, "the target is not the one that was judged: {what}"),
            Self::Floor { ready_after, floor } => {
                write!(f, "it would leave {ready_after} ready CoreDNS pods and at least {floor} must stay")
            }
            Self::BudgetsOverlap(n) => {
                write!(
                    f,
                    "{n} PodDisruptionBudgets cover the pod: the API server then fails every eviction; remove one"
                )
            }
            Self::OwnedBy(manager) => write!(f, "{manager} owns the field and would write it back; change it there"),
            Self::LimitUnknown => f.write_str("the container has no memory limit, or it could not be read"),
            Self::NotRaised { from, to } => write!(f, "a limit of {to} bytes would not raise {from}"),
            Self::AboveCap { to, cap } => write!(f, "a limit of {to} bytes is above the cap of {cap}"),
            Self::Api(says) => write!(f, "the API server does not do it now: {says}"),
            Self::ApiForGood(says) => write!(f, "the API server refuses it: {says}"),
        }
    }
}

fn secs(d: Duration) -> u64 {
    d.as_secs().max(1)
}

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
        if !ladder::allows(plan.cause, kind) {
            return Err(Refusal::NotOnLadder { cause: plan.cause.id(), kind });
        }
        if kind == RemedyKind::AddReplica && self.settings.mode_of(kind) == Mode::Act {
            return Err(Refusal::NotInThisRelease(kind));
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
        if let Some(spent) = self.budget.forbids(self.now, limits(self.settings), kind, &plan.subject) {
            return Err(Refusal::Budget(spent));
        }
        match &plan.act {
            SharedAct::EvictPod { uid, .. } => {
                let covering = view.budgets.iter().filter(|b| b.matches.contains(uid)).count();
                if covering > 1 { Err(Refusal::BudgetsOverlap(covering)) } else { Ok(()) }
            }
            SharedAct::RaiseMemory { from, to, .. } => memory_values(self.settings, *from, *to),
            SharedAct::AddReplica { .. } => {
                workload.replicas_owner.clone().map_or(Ok(()), |o| Err(Refusal::OwnedBy(o)))
            }
        }
    }
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
        SharedAct::AddReplica { .. } => RemedyKind::AddReplica,
    }
}

/// The limits that the settings state.
#[must_use]
pub fn limits(settings: &Remedy) -> Limits {
    Limits { every: settings.shared_every.0, per_hour: settings.shared_per_hour, per_target: settings.tries_per_target }
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
    let floor = workload.replicas.div_ceil(2).max(1);
    let ready_after = workload.ready.saturating_sub(u32::from(pod.ready));
    if ready_after < floor { Err(Refusal::Floor { ready_after, floor }) } else { Ok(()) }
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
    let cap = settings.memory_cap.0;
    if to > cap { Err(Refusal::AboveCap { to, cap }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
