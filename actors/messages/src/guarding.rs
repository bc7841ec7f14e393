//! Why a remedy is held back, and which breakers are open: few values, so that they can be labels of metrics.

use std::fmt;

/// Why a remedy was refused. The text that goes with it says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// It does not stand on the cause's ladder, or its mode is not `act` any more.
    OffLadder,
    /// The kill switch is on, or has not been read.
    KillSwitch,
    /// The Lease is not held for long enough.
    NoLease,
    /// The node has no permit of the coordinator.
    NoPermit,
    /// The cause is only probable: the deciding evidence could not be read.
    Probable,
    /// The journal of node repairs cannot be written.
    NoJournal,
    /// The plan is older than its deadline.
    Overdue,
    /// The cluster is not known well enough.
    ViewUnknown,
    /// The workload is annotated `nameward.dev/paused`.
    Paused,
    /// A rollout of CoreDNS is under way.
    Rollout,
    /// A node is being drained, or a CoreDNS pod is terminating already.
    Drain,
    /// Too short a time after a start, a storm or a rollout.
    CoolDown,
    /// Too short a time after the last remedy.
    Spacing,
    /// The number of shared remedies for this hour is spent.
    HourlyBudget,
    /// The target had its tries.
    TargetBudget,
    /// Another remedy is in flight or not verified.
    InFlight,
    /// The incident is not there to write the intent to.
    IncidentGone,
    /// No node says so any more, or not for long enough.
    VerdictEnded,
    /// The target is gone.
    TargetGone,
    /// The target is not the one that was judged.
    TargetChanged,
    /// What a repair would write is not recorded, what is there cannot be read, or it is not as the repair needs it.
    Unfit,
    /// Too few ready CoreDNS pods would stay.
    Floor,
    /// More than one disruption budget covers the pod.
    TwoBudgets,
    /// The disruption budget does not allow it now.
    BudgetNotNow,
    /// The disruption budget can never allow it.
    BudgetNever,
    /// An autoscaler or another continuous reconciler owns the field.
    FieldOwned,
    /// There is no limit to raise, or no kill that calls for it.
    NothingToRaise,
    /// The limit is at its cap.
    AtCap,
    /// A breaker is open.
    BreakerOpen,
    /// Too few nodes have reported lately.
    NoQuorum,
    /// Too few nodes, or too few namespaces, see it fail.
    NotCorroborated,
    /// No other CoreDNS pod is known good.
    NoGoodPod,
    /// Every CoreDNS pod fails for every node.
    AllBad,
    /// Other nodes show the same: it is no fault of this one.
    OtherNodesToo,
    /// The API server refuses, or did not answer.
    Api,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: [Self; 35] = [
        Self::OffLadder,
        Self::KillSwitch,
        Self::NoLease,
        Self::NoPermit,
        Self::Probable,
        Self::NoJournal,
        Self::Overdue,
        Self::ViewUnknown,
        Self::Paused,
        Self::Rollout,
        Self::Drain,
        Self::CoolDown,
        Self::Spacing,
        Self::HourlyBudget,
        Self::TargetBudget,
        Self::InFlight,
        Self::IncidentGone,
        Self::VerdictEnded,
        Self::TargetGone,
        Self::TargetChanged,
        Self::Unfit,
        Self::Floor,
        Self::TwoBudgets,
        Self::BudgetNotNow,
        Self::BudgetNever,
        Self::FieldOwned,
        Self::NothingToRaise,
        Self::AtCap,
        Self::BreakerOpen,
        Self::NoQuorum,
        Self::NotCorroborated,
        Self::NoGoodPod,
        Self::AllBad,
        Self::OtherNodesToo,
        Self::Api,
    ];

    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::OffLadder => "off-ladder",
            Self::KillSwitch => "kill-switch",
            Self::NoLease => "no-lease",
            Self::NoPermit => "no-permit",
            Self::Probable => "probable",
            Self::NoJournal => "no-journal",
            Self::Overdue => "overdue",
            Self::ViewUnknown => "view-unknown",
            Self::Paused => "paused",
            Self::Rollout => "rollout",
            Self::Drain => "drain",
            Self::CoolDown => "cool-down",
            Self::Spacing => "spacing",
            Self::HourlyBudget => "hourly-budget",
            Self::TargetBudget => "target-budget",
            Self::InFlight => "in-flight",
            Self::IncidentGone => "incident-gone",
            Self::VerdictEnded => "verdict-ended",
            Self::TargetGone => "target-gone",
            Self::TargetChanged => "target-changed",
            Self::Unfit => "unfit",
            Self::Floor => "floor",
            Self::TwoBudgets => "two-budgets",
            Self::BudgetNotNow => "budget-not-now",
            Self::BudgetNever => "budget-never",
            Self::FieldOwned => "field-owned",
            Self::NothingToRaise => "nothing-to-raise",
            Self::AtCap => "at-cap",
            Self::BreakerOpen => "breaker-open",
            Self::NoQuorum => "no-quorum",
            Self::NotCorroborated => "not-corroborated",
            Self::NoGoodPod => "no-good-pod",
            Self::AllBad => "all-bad",
            Self::OtherNodesToo => "other-nodes-too",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A breaker: while it is open, a kind of remedies rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breaker {
    /// Many nodes show the same fault of their own: no repairs of nodes.
    Node,
    /// The last shared remedy made things worse: no shared remedies.
    Coredns,
}

impl Breaker {
    /// Every breaker.
    pub const ALL: [Self; 2] = [Self::Node, Self::Coredns];

    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Coredns => "coredns",
        }
    }
}
