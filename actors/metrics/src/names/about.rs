//! What a metric is for: its unit, and what to do when it moves. For the documentation.

use super::Metric;

impl Metric {
    /// Its unit.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::DnsQueryResponseTime
            | Self::ProbeDuration
            | Self::CorednsProbeDuration
            | Self::RoundPeriod
            | Self::RoundDuration
            | Self::ActorIdle => "seconds",
            Self::BuildInfo
            | Self::CorednsUp
            | Self::BreakerOpen
            | Self::KillSwitch
            | Self::Leader
            | Self::ApiReachable
            | Self::ConfigGood
            | Self::ActorAlive
            | Self::ActorDegraded => "0 or 1",
            Self::OomCount => "kills",
            Self::RestartCount | Self::CorednsBudgets => "pods",
            Self::TotalFailures | Self::DnsQueryCount => "queries",
            Self::Probes | Self::CorednsProbes => "probes",
            Self::Rounds => "sweeps",
            Self::Namespaces => "namespaces",
            Self::SuspectedPaths => "paths",
            Self::Verdicts | Self::VerdictsTotal => "verdicts",
            Self::Recovered => "failures",
            Self::Incidents | Self::IncidentsUnresolved => "incidents",
            Self::Remedies => "remedies",
            Self::Refusals => "refusals",
            Self::Agents => "nodes",
            Self::CapabilitiesMissing => "losses",
            Self::ConfigReloads => "reloads",
            Self::ActorHandled | Self::ActorLost | Self::ActorShed | Self::ActorWaiting => "messages",
            Self::ActorRestarts => "restarts",
        }
    }

    /// What to do when it moves.
    #[must_use]
    pub fn moves(self) -> &'static str {
        match self {
            Self::OomCount => "It grows: CoreDNS needs more memory. See the runbook coredns-oom-killed.",
            Self::RestartCount => {
                "It grows: a CoreDNS pod was evicted; its DnsIncident says why and whether it helped."
            }
            Self::TotalFailures => {
                "Its share of dns_query_count rises: see nameward_probes_total for what fails and how."
            }
            Self::DnsQueryCount => "It stands still: the agent does not probe; see nameward_rounds_total.",
            Self::DnsQueryResponseTime => {
                "It rises: see nameward_coredns_probe_duration_seconds for which CoreDNS pod is slow."
            }
            Self::BuildInfo => "Several versions for longer than a rollout: some node still runs the old one.",
            Self::Probes => {
                "The share of outcomes other than answered rises: look at nameward_verdicts for the cause, then at its runbook. \
                 not-asked is the agent's own trouble: see nameward_capabilities_missing and the log."
            }
            Self::ProbeDuration => {
                "It rises on the vantage pod and not on host: look at the path of pods; on both: at CoreDNS."
            }
            Self::Rounds => {
                "It stands still for longer than a few periods: the agent is stuck or has nothing to ask; see /readyz."
            }
            Self::RoundPeriod => {
                "It rises: the cluster has grown and the query budget per CoreDNS pod is shared among more nodes. Detection \
                 takes about that long; raise probe.budget_per_pod or the number of replicas."
            }
            Self::RoundDuration => "It nears the period: many time-outs, or the agent is starved of CPU.",
            Self::Namespaces => {
                "It is 0 on a node with pods: the agent finds no namespaces; see netns in the configuration."
            }
            Self::SuspectedPaths => {
                "It stays above 0 with no verdict: nameward diagnose on that node says what was read."
            }
            Self::CorednsUp => {
                "0 from every node: the pod itself; 0 from some: the network between; see nameward_verdicts for the cause."
            }
            Self::CorednsProbes => "The share of bad rises: as nameward_coredns_up, with how often and from where.",
            Self::CorednsProbeDuration => {
                "A high quantile rises for one pod: it is throttled or overloaded; for all: load or upstream."
            }
            Self::Verdicts => {
                "It is above 0: read the runbook of the cause; nameward check on the node gives the evidence."
            }
            Self::VerdictsTotal => {
                "The same cause keeps coming back: a remedy treats the symptom; look for what causes it."
            }
            Self::Recovered => {
                "It grows by itself: something fails for seconds at a time; /state lists the last ones and their paths."
            }
            Self::Incidents => "escalated is above 0: a person is needed; kubectl get dnsincidents says for what.",
            Self::IncidentsUnresolved => "It is above 0: read the runbook of the cause.",
            Self::Remedies => {
                "would-act grows: in mode act this would have been done; judge it. ineffective, failed or unknown grows: read \
                 the ladder of the incident before anything else is tried."
            }
            Self::Refusals => {
                "A reason keeps counting while an incident stands: what the reason names must change, or a person acts. \
                 hourly-budget and target-budget: the same fault comes back."
            }
            Self::BreakerOpen => {
                "node: many nodes have the same fault at once; coredns: the last act made things worse. A person looks."
            }
            Self::KillSwitch => {
                "It is 1: nothing is changed until it is taken back. policy-unreadable: the ConfigMap cannot be read."
            }
            Self::Agents => {
                "stale or missing is above 0: these nodes are not watched; below the quorum no shared remedy is done."
            }
            Self::CorednsBudgets => {
                "several is above 0: the API server refuses every eviction of these pods, delete all budgets but one. none is \
                 above 0 with two replicas or more: a drain may take all of them away; an Event on the Deployment has the command."
            }
            Self::Leader => {
                "No process has 1: nobody coordinates, no remedy is done; see the Lease and the coordinators' logs."
            }
            Self::ApiReachable => "It is 0: probing and diagnosis go on, remedies do not; see the log for why.",
            Self::CapabilitiesMissing => {
                "It is above 0: some evidence or vantage is lost; /state and the log say which, and what restores it."
            }
            Self::ConfigReloads => "failed grows: nameward config check FILE says what is wrong.",
            Self::ConfigGood => "It is 0: an older configuration is in force; see the log.",
            Self::ActorAlive => "It is 0: the process fails its liveness probe and is restarted; keep the log.",
            Self::ActorDegraded => "It is 1: see /readyz; most often a right is missing.",
            Self::ActorHandled => "It stands still while nameward_actor_waiting is above 0: the actor is stuck.",
            Self::ActorRestarts => "It grows: a bug; the log has the panic.",
            Self::ActorLost => "It grows: as nameward_actor_restarts_total.",
            Self::ActorShed => "It grows: more is told than can be handled; the process may be starved of CPU.",
            Self::ActorWaiting => "It stays high: as nameward_actor_shed_total.",
            Self::ActorIdle => "For information; a watcher without news is idle.",
        }
    }
}
