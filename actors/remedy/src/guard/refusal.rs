//! Why nothing is done: one variant for each reason, with what to wait for and what to count it under.

use std::fmt;
use std::time::Duration;

use nameward_messages::guarding::RefusalReason;
use nameward_messages::remedy::RemedyKind;

use crate::budget::Spent;

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of each is its documentation")]
pub enum Refusal {
    NotOnLadder { cause: &'static str, kind: RemedyKind },
    NotInThisRelease(RemedyKind),
    NotActing(RemedyKind),
    NotScalable,
    AlreadyAdded(String),
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
    Strategy { stay: u32, floor: u32 },
    BudgetsOverlap(usize),
    BudgetNotNow { name: String, healthy: i32, desired: i32 },
    BudgetNever { name: String, because: &'static str },
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
            Self::KillSwitch(_) | Self::NotActing(_) | Self::Rollout(_) | Self::Api(_) | Self::VerdictEnded => {
                Duration::from_secs(30)
            }
            Self::CoolDown(left) | Self::Budget(Spent::Spacing(left) | Spent::Hour(left)) => {
                (*left).max(Duration::from_secs(1))
            }
            Self::Paused
            | Self::Floor { .. }
            | Self::Strategy { .. }
            | Self::BudgetsOverlap(_)
            | Self::BudgetNotNow { .. }
            | Self::AlreadyAdded(_)
            | Self::LimitUnknown => Duration::from_secs(60),
            Self::NotOnLadder { .. }
            | Self::NotInThisRelease(_)
            | Self::NotScalable
            | Self::BudgetNever { .. }
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

    /// The same in one word of few, for metrics.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::NotOnLadder { .. } | Self::NotInThisRelease(_) | Self::NotActing(_) => RefusalReason::OffLadder,
            Self::KillSwitch(_) => RefusalReason::KillSwitch,
            Self::NoLease => RefusalReason::NoLease,
            Self::Overdue => RefusalReason::Overdue,
            Self::ViewUnknown => RefusalReason::ViewUnknown,
            Self::Paused => RefusalReason::Paused,
            Self::Rollout(_) => RefusalReason::Rollout,
            Self::CoolDown(_) => RefusalReason::CoolDown,
            Self::Budget(Spent::Spacing(_)) => RefusalReason::Spacing,
            Self::Budget(Spent::Hour(_)) => RefusalReason::HourlyBudget,
            Self::Budget(Spent::Target(_)) => RefusalReason::TargetBudget,
            Self::InFlight(_) | Self::AlreadyAdded(_) => RefusalReason::InFlight,
            Self::IncidentGone => RefusalReason::IncidentGone,
            Self::VerdictEnded => RefusalReason::VerdictEnded,
            Self::TargetGone => RefusalReason::TargetGone,
            Self::TargetChanged(_) => RefusalReason::TargetChanged,
            Self::Floor { .. } | Self::Strategy { .. } => RefusalReason::Floor,
            Self::BudgetsOverlap(_) => RefusalReason::TwoBudgets,
            Self::BudgetNotNow { .. } => RefusalReason::BudgetNotNow,
            Self::BudgetNever { .. } => RefusalReason::BudgetNever,
            Self::OwnedBy(_) | Self::NotScalable => RefusalReason::FieldOwned,
            Self::LimitUnknown | Self::NotRaised { .. } => RefusalReason::NothingToRaise,
            Self::AboveCap { .. } => RefusalReason::AtCap,
            Self::Api(_) | Self::ApiForGood(_) => RefusalReason::Api,
        }
    }

    /// Whether waiting can change it. If not, a person is called at once.
    #[must_use]
    pub fn lasting(&self) -> bool {
        matches!(
            self,
            Self::NotOnLadder { .. }
                | Self::NotInThisRelease(_)
                | Self::NotScalable
                | Self::BudgetNever { .. }
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
            Self::NotActing(kind) => write!(f, "the mode of {kind} is not act any more"),
            Self::NotScalable => f.write_str("cluster DNS is no Deployment: replicas cannot be added"),
            Self::AlreadyAdded(incident) => {
                write!(f, "a replica that was added before is not taken away yet (incident {incident})")
            }
            Self::BudgetNotNow { name, healthy, desired } => write!(
                f,
                "PodDisruptionBudget {name} allows no eviction now: {healthy} pods are healthy and {desired} must be"
            ),
            Self::BudgetNever { name, because } => write!(f, "PodDisruptionBudget {name} never allows it: {because}"),
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
            Self::Strategy { stay, floor } => write!(
                f,
                "the workload's update strategy would leave {stay} of the ready CoreDNS pods while the change rolls out, and at least {floor} \
                 must stay; lower its maxUnavailable, or raise the limit at a quiet moment"
            ),
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
