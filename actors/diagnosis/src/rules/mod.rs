//! The rules, one file per fault family, in the order in which they are asked.
//!
//! A rule sees the record and the failing paths that nothing before it explains. What a process of CoreDNS does
//! comes before what a pod's network does, that before what the node does, that before the cluster: the smallest
//! set that explains the matrix is blamed.

use nameward_messages::verdict::Cause;

use crate::finding::{RuleResult, View};

pub mod coredns;
pub mod forward;
pub mod hung;
pub mod nameserver;
pub mod oom;
pub mod pod_route;
pub mod service;
pub mod unexplained;
pub mod upstream;
pub mod veth;

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name: the cause that it names.
    pub name: &'static str,
    /// The cause.
    pub cause: Cause,
    /// One line: when it names the cause.
    pub when: &'static str,
    /// The rule.
    pub judge: fn(&View<'_>) -> RuleResult,
}

/// Every rule but `unexplained`, which is asked last and apart, since it needs to know what the others said.
pub const RULES: &[Rule] = &[
    Rule {
        name: "coredns-oom-killed",
        cause: Cause::CorednsOomKilled,
        when: "a container of a CoreDNS pod was killed for want of memory in the last ten minutes, and its paths fail or it was killed again",
        judge: oom::judge,
    },
    Rule {
        name: "coredns-udp-dead",
        cause: Cause::CorednsUdpDead,
        when: "a CoreDNS pod fails over UDP from the host of its own node, answers over TCP, and has no UDP listener",
        judge: coredns::udp_dead,
    },
    Rule {
        name: "coredns-udp-stuck",
        cause: Cause::CorednsUdpStuck,
        when: "a CoreDNS pod is silent over UDP from the host of its own node, answers over TCP, and does not read or answer its UDP socket",
        judge: coredns::udp_stuck,
    },
    Rule {
        name: "coredns-hung",
        cause: Cause::CorednsHung,
        when: "a CoreDNS pod is silent over UDP, accepts TCP without an answer, and /health or its queues stand still",
        judge: hung::judge,
    },
    Rule {
        name: "pod-route-missing",
        cause: Cause::PodRouteMissing,
        when: "a pod has no route to its servers, and its namespace has no default route",
        judge: pod_route::judge,
    },
    Rule {
        name: "veth-off-bridge",
        cause: Cause::VethOffBridge,
        when: "a pod reaches nothing, and the host end of its veth pair is on no bridge, or its bridge port is off",
        judge: veth::judge,
    },
    Rule {
        name: "forward-policy-drop",
        cause: Cause::ForwardPolicyDrop,
        when: "the host reaches servers, no pod does, the policy of FORWARD is DROP and its counter moves",
        judge: forward::judge,
    },
    Rule {
        name: "service-without-endpoints",
        cause: Cause::ServiceWithoutEndpoints,
        when: "the Service fails and the API names no endpoint for it",
        judge: service::without_endpoints,
    },
    Rule {
        name: "service-rules-missing",
        cause: Cause::ServiceRulesMissing,
        when: "the Service fails, CoreDNS pods answer by their addresses, and kube-proxy's rules for it are not there",
        judge: service::missing,
    },
    Rule {
        name: "service-rules-stale",
        cause: Cause::ServiceRulesStale,
        when: "the Service fails, CoreDNS pods answer by their addresses, and kube-proxy's rules send to other endpoints than the API names",
        judge: service::stale,
    },
    Rule {
        name: "wrong-nameserver",
        cause: Cause::WrongNameserver,
        when: "a pod's resolv.conf names a server that does not answer while the Service answers from the same pod",
        judge: nameserver::judge,
    },
    Rule {
        name: "upstream-dead",
        cause: Cause::UpstreamDead,
        when: "internal names resolve, external ones do not, and an upstream answers neither the host nor CoreDNS",
        judge: upstream::judge,
    },
];

#[cfg(test)]
pub(crate) mod scenarios;
#[cfg(test)]
mod tests;
