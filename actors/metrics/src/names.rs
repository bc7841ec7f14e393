//! Every metric: its name, type, help and labels. No name is spelled anywhere else.

mod about;

use nameward_messages::guarding::{Breaker, RefusalReason};
use nameward_messages::health::ActorName;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::probe::OutcomeKind;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome};
use nameward_messages::verdict::{Cause, Scope};

/// Most CoreDNS pods that have series of their own in one process. Where there are more, each node has others.
pub const MOST_PODS: usize = 32;

/// Types of metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets in seconds.
    Histogram(&'static [f64]),
}

impl Type {
    /// As the exposition format spells it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// A metric's definition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its help text.
    pub help: &'static str,
    /// Its labels, in the order of their values.
    pub labels: &'static [Label],
}

/// From half a millisecond to five seconds.
const PROBE_BUCKETS: &[f64] = &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0, 2.0, 5.0];
/// The same range, coarser: these are kept for every CoreDNS pod.
const POD_BUCKETS: &[f64] = &[0.0005, 0.002, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];
/// The buckets of the prototype.
const PROTOTYPE_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! metrics {
    ($($metric:ident: $name:literal, $kind:expr, [$($label:ident),*], $help:literal;)*) => {
        /// Every metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            /// Every metric, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$metric,)*];

            /// Its definition.
            #[must_use]
            pub fn spec(self) -> Spec {
                match self {
                    $(Self::$metric => Spec { name: $name, kind: $kind, help: $help, labels: &[$(Label::$label),*] },)*
                }
            }
        }
    };
}

metrics! {
    OomCount: "oom_count", Type::Counter, [], "CoreDNS containers killed for want of memory, by their status.";
    RestartCount: "restart_count", Type::Counter, [], "CoreDNS pods evicted by Nameward.";
    TotalFailures: "total_failures", Type::Counter, [], "DNS queries that failed.";
    DnsQueryCount: "dns_query_count", Type::Counter, [], "DNS queries asked.";
    DnsQueryResponseTime: "dns_query_response_time", Type::Histogram(PROTOTYPE_BUCKETS), [],
        "Time to a reply of any kind, in seconds.";

    BuildInfo: "nameward_build_info", Type::Gauge, [Version], "Always 1; the version is in the label.";
    Probes: "nameward_probes_total", Type::Counter, [Vantage, Target, Transport, Outcome],
        "Probes of rounds and of requests, by what came of them.";
    ProbeDuration: "nameward_probe_duration_seconds", Type::Histogram(PROBE_BUCKETS), [Vantage, Target, Transport],
        "Time from asking to the outcome, time-outs included.";
    Rounds: "nameward_rounds_total", Type::Counter, [], "Sweeps that ended.";
    RoundPeriod: "nameward_round_period_seconds", Type::Gauge, [],
        "How often a path is asked, all shares of the query budget considered.";
    RoundDuration: "nameward_round_duration_seconds", Type::Gauge, [], "How long the last sweep took.";
    Namespaces: "nameward_namespaces", Type::Gauge, [], "Pod network namespaces that are probed from.";
    SuspectedPaths: "nameward_suspected_paths", Type::Gauge, [], "Paths that failed and failed their confirmation.";
    CorednsUp: "nameward_coredns_up", Type::Gauge, [CorednsPod, CorednsNode, Transport],
        "1 while the CoreDNS pod answers this node's host over the transport, on all its addresses.";
    CorednsProbes: "nameward_coredns_probes_total", Type::Counter,
        [CorednsPod, CorednsNode, Vantage, Transport, Result],
        "Probes of each CoreDNS pod for the cluster's own name, by whether the answer was good.";
    CorednsProbeDuration: "nameward_coredns_probe_duration_seconds", Type::Histogram(POD_BUCKETS),
        [CorednsPod, CorednsNode, Transport],
        "Time from asking a CoreDNS pod for the cluster's own name to the outcome, time-outs included.";
    Verdicts: "nameward_verdicts", Type::Gauge, [Cause, Scope], "Verdicts that stand.";
    VerdictsTotal: "nameward_verdicts_total", Type::Counter, [Cause], "Verdicts that came to stand.";
    Recovered: "nameward_recovered_total", Type::Counter, [],
        "Failures that healed before a cause was named.";
    Incidents: "nameward_incidents", Type::Gauge, [Phase], "Incidents that exist, by phase.";
    IncidentsUnresolved: "nameward_incidents_unresolved", Type::Gauge, [Cause, Phase],
        "Incidents that are not resolved, by what they are about.";
    Remedies: "nameward_remedies_total", Type::Counter, [Remedy, Mode, RemedyOutcome],
        "Remedies that were done, refused or would have been done.";
    Refusals: "nameward_refusals_total", Type::Counter, [Remedy, Reason],
        "Times that a guard rail held a remedy back, by its reason; while the reason stays the same it counts once.";
    BreakerOpen: "nameward_breaker_open", Type::Gauge, [Breaker],
        "1 while the breaker is open, and the remedies behind it rest.";
    KillSwitch: "nameward_kill_switch", Type::Gauge, [SwitchSource],
        "1 while this stops every change (a policy that cannot be read does so after a minute).";
    Agents: "nameward_agents", Type::Gauge, [AgentState],
        "Nodes by how their agent reports, as the coordinator sees them.";
    CorednsBudgets: "nameward_coredns_pods", Type::Gauge, [Budgets],
        "CoreDNS pods by how many PodDisruptionBudgets cover them, as the coordinator sees them.";
    Leader: "nameward_leader", Type::Gauge, [], "1 while this process holds the coordinator's Lease.";
    ApiReachable: "nameward_api_reachable", Type::Gauge, [], "1 while the Kubernetes API answers this process.";
    CapabilitiesMissing: "nameward_capabilities_missing", Type::Gauge, [],
        "What this process cannot do for want of a capability, a tool or a permission; /state names each.";
    ConfigReloads: "nameward_config_reloads_total", Type::Counter, [Reload], "Reloads of the configuration.";
    ConfigGood: "nameward_config_last_reload_successful", Type::Gauge, [],
        "0 while the configuration on disk is bad and an older one is in force.";

    ActorAlive: "nameward_actor_alive", Type::Gauge, [Actor], "1 while the actor runs, 0 once it is dead.";
    ActorDegraded: "nameward_actor_degraded", Type::Gauge, [Actor],
        "1 while the actor works with less than it needs, such as a refused permission; /readyz says what.";
    ActorHandled: "nameward_actor_handled_total", Type::Counter, [Actor], "Messages handled.";
    ActorRestarts: "nameward_actor_restarts_total", Type::Counter, [Actor], "Rebuilt after a panic.";
    ActorLost: "nameward_actor_lost_total", Type::Counter, [Actor], "Messages lost to panics.";
    ActorShed: "nameward_actor_shed_total", Type::Counter, [Actor], "Messages dropped since the inbox was full.";
    ActorWaiting: "nameward_actor_waiting", Type::Gauge, [Actor], "Messages waiting in the inbox.";
    ActorIdle: "nameward_actor_idle_seconds", Type::Gauge, [Actor], "Time since a message or a tick was last finished.";
}

/// Labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// Host or pod.
    Vantage,
    /// What was asked.
    Target,
    /// UDP or TCP.
    Transport,
    /// What came of a probe.
    Outcome,
    /// What is wrong.
    Cause,
    /// How far it reaches.
    Scope,
    /// Where an incident stands.
    Phase,
    /// Which remedy.
    Remedy,
    /// In which mode.
    Mode,
    /// What came of a remedy.
    RemedyOutcome,
    /// Whether a reload succeeded.
    Reload,
    /// Which actor.
    Actor,
    /// Nameward's version: one.
    Version,
    /// A CoreDNS pod's name: at most [`MOST_PODS`].
    CorednsPod,
    /// The node of a CoreDNS pod: at most [`MOST_PODS`].
    CorednsNode,
    /// Whether a probe's answer was good.
    Result,
    /// Why a remedy was held back.
    Reason,
    /// Which breaker.
    Breaker,
    /// What throws the kill switch.
    SwitchSource,
    /// How a node's agent reports.
    AgentState,
    /// How many disruption budgets cover a pod.
    Budgets,
}

/// How many values a label can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// These.
    OneOf(Vec<&'static str>),
    /// Names, but only so many at a time.
    AtMost(usize),
}

impl Label {
    /// Every label.
    pub const ALL: &'static [Self] = &[
        Self::Vantage,
        Self::Target,
        Self::Transport,
        Self::Outcome,
        Self::Cause,
        Self::Scope,
        Self::Phase,
        Self::Remedy,
        Self::Mode,
        Self::RemedyOutcome,
        Self::Reload,
        Self::Actor,
        Self::Version,
        Self::CorednsPod,
        Self::CorednsNode,
        Self::Result,
        Self::Reason,
        Self::Breaker,
        Self::SwitchSource,
        Self::AgentState,
        Self::Budgets,
    ];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vantage => "vantage",
            Self::Target => "target",
            Self::Transport => "transport",
            Self::Outcome | Self::RemedyOutcome => "outcome",
            Self::Cause => "cause",
            Self::Scope => "scope",
            Self::Phase => "phase",
            Self::Remedy => "kind",
            Self::Mode => "mode",
            Self::Reload | Self::Result => "result",
            Self::Actor => "actor",
            Self::Version => "version",
            // Not `pod` and `node`: those say, in most clusters, which process was scraped.
            Self::CorednsPod => "coredns_pod",
            Self::CorednsNode => "coredns_node",
            Self::Reason => "reason",
            Self::Breaker => "breaker",
            Self::SwitchSource => "source",
            Self::AgentState => "state",
            Self::Budgets => "budgets",
        }
    }

    /// Its possible values.
    #[must_use]
    pub fn bound(self) -> Bound {
        match self {
            Self::Vantage => Bound::OneOf(vec!["host", "pod"]),
            Self::Target => Bound::OneOf(vec!["pod", "service", "nameserver", "upstream"]),
            Self::Transport => Bound::OneOf(vec!["udp", "tcp"]),
            Self::Outcome => Bound::OneOf(OutcomeKind::ALL.map(OutcomeKind::label).to_vec()),
            Self::Cause => Bound::OneOf(Cause::ALL.iter().map(|cause| cause.id()).collect()),
            Self::Scope => Bound::OneOf(SCOPES.map(scope_label).to_vec()),
            Self::Phase => Bound::OneOf(PHASES.map(phase_label).to_vec()),
            Self::Remedy => Bound::OneOf(RemedyKind::ALL.map(RemedyKind::id).to_vec()),
            Self::Mode => Bound::OneOf([Mode::Off, Mode::Observe, Mode::Act].map(Mode::label).to_vec()),
            Self::RemedyOutcome => Bound::OneOf(REMEDY_OUTCOMES.map(RemedyOutcome::label).to_vec()),
            Self::Reload => Bound::OneOf(vec![RELOAD_OK, RELOAD_FAILED]),
            Self::Actor => Bound::OneOf(ActorName::ALL.map(ActorName::label).to_vec()),
            Self::Version => Bound::AtMost(1),
            Self::CorednsPod | Self::CorednsNode => Bound::AtMost(MOST_PODS),
            Self::Result => Bound::OneOf(vec![GOOD, BAD]),
            Self::Reason => Bound::OneOf(RefusalReason::ALL.map(RefusalReason::label).to_vec()),
            Self::Breaker => Bound::OneOf(Breaker::ALL.map(Breaker::label).to_vec()),
            Self::SwitchSource => Bound::OneOf(SWITCH_SOURCES.to_vec()),
            Self::AgentState => Bound::OneOf(AGENT_STATES.to_vec()),
            Self::Budgets => Bound::OneOf(BUDGETS.to_vec()),
        }
    }
}

pub(crate) const RELOAD_OK: &str = "ok";
pub(crate) const RELOAD_FAILED: &str = "failed";
pub(crate) const GOOD: &str = "good";
pub(crate) const BAD: &str = "bad";

/// The policy ConfigMap says so; it could not be read for too long; the local file exists.
pub(crate) const SWITCH_SOURCES: [&str; 3] = ["policy", "policy-unreadable", "file"];
/// Reported lately and vouches for itself; reported lately and says that it cannot be relied on; not lately; never.
pub(crate) const AGENT_STATES: [&str; 4] = ["fresh", "doubtful", "stale", "missing"];
/// None; one, as it should be; more, which makes the API server refuse every eviction.
pub(crate) const BUDGETS: [&str; 3] = ["none", "one", "several"];

const SCOPES: [Scope; 4] = [Scope::Pod, Scope::CorednsPod, Scope::Node, Scope::Cluster];

/// Incidents of every phase are counted, also those with none.
pub(crate) const PHASES: [IncidentPhase; 5] = [
    IncidentPhase::Open,
    IncidentPhase::Remediating,
    IncidentPhase::Verifying,
    IncidentPhase::Resolved,
    IncidentPhase::Escalated,
];

const REMEDY_OUTCOMES: [RemedyOutcome; 9] = [
    RemedyOutcome::WouldAct,
    RemedyOutcome::Refused,
    RemedyOutcome::Done,
    RemedyOutcome::Unknown,
    RemedyOutcome::Verified,
    RemedyOutcome::Ineffective,
    RemedyOutcome::Undone,
    RemedyOutcome::Failed,
    RemedyOutcome::Escalated,
];

pub(crate) fn scope_label(scope: Scope) -> &'static str {
    match scope {
        Scope::Pod => "pod",
        Scope::CorednsPod => "coredns-pod",
        Scope::Node => "node",
        Scope::Cluster => "cluster",
    }
}

pub(crate) fn phase_label(phase: IncidentPhase) -> &'static str {
    match phase {
        IncidentPhase::Open => "open",
        IncidentPhase::Remediating => "remediating",
        IncidentPhase::Verifying => "verifying",
        IncidentPhase::Resolved => "resolved",
        IncidentPhase::Escalated => "escalated",
    }
}

/// Name, type, help and labels of every metric, for the documentation.
#[must_use]
pub fn catalogue() -> Vec<(&'static str, &'static str, &'static str, Vec<&'static str>)> {
    let row = |metric: &Metric| {
        let spec = metric.spec();
        (spec.name, spec.kind.label(), spec.help, spec.labels.iter().map(|label| label.name()).collect())
    };
    Metric::ALL.iter().map(row).collect()
}
