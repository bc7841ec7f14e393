//! The rules, one file per fault family, in the order in which they are asked.
//!
//! A rule sees the record and the failing paths that nothing before it explains. What a process of CoreDNS does
//! comes before what a pod's network does, that before what the node does, that before the cluster: the smallest
//! set that explains the matrix is blamed.

use nameward_messages::verdict::Cause;

use crate::finding::{RuleResult, View};

pub mod answers;
pub mod api_lost;
mod arrival;
pub mod backends;
pub mod bridge_down;
pub mod bridge_filter;
pub mod checksum;
pub mod conntrack;
pub mod coredns;
pub mod crashing;
pub mod duplicates;
pub mod filter;
pub mod filter_pod;
pub(crate) mod filter_survey;
pub mod forward;
pub mod forward_limit;
pub mod forwarding;
pub mod fragments;
pub mod hairpin;
pub mod hung;
mod links;
pub mod load;
pub mod masquerade;
pub mod nameserver;
pub mod neighbour;
pub mod neighbour_table;
pub mod node_local;
pub mod node_route;
pub mod oom;
pub mod pod_route;
pub(crate) mod policy_rules;
pub mod resolver;
pub mod reverse_path;
pub mod service;
pub mod service_objects;
pub mod service_range;
pub mod service_route;
pub mod tcp;
pub mod throttled;
pub(crate) mod traced;
pub mod unexplained;
pub mod unmodelled;
pub mod upstream;
pub mod veth;
pub mod veth_down;
pub mod wrong_gateway;

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
        name: "coredns-loop",
        cause: Cause::CorednsLoop,
        when: "a CoreDNS container ends again and again, with the last words of plugin loop, or with none while it forwards to a loopback address",
        judge: crashing::looping,
    },
    Rule {
        name: "corefile-broken",
        cause: Cause::CorefileBroken,
        when: "a CoreDNS container ends again and again as soon as it has started, refusing its Corefile or unable to bind its port",
        judge: crashing::corefile,
    },
    Rule {
        name: "neighbour-table-full",
        cause: Cause::NeighbourTableFull,
        when: "the kernel refuses to send for want of buffers (ENOBUFS), and table_fulls of its neighbour table rises",
        judge: neighbour_table::judge,
    },
    Rule {
        name: "conntrack-full",
        cause: Cause::ConntrackFull,
        when: "queries are lost or refused by the kernel, conntrack's table is at 95 % or more of what it may hold, and it drops",
        judge: conntrack::full,
    },
    Rule {
        name: "coredns-throttled",
        cause: Cause::CorednsThrottled,
        when: "a CoreDNS pod is late for the host of its own node, and its cgroup's processor quota ran out in half of the periods or more",
        judge: load::throttled,
    },
    Rule {
        name: "coredns-receive-overflow",
        cause: Cause::CorednsReceiveOverflow,
        when: "a CoreDNS pod loses queries over UDP while TCP answers: datagrams are dropped at its socket, which it goes on reading",
        judge: load::overflow,
    },
    Rule {
        name: "coredns-udp-filtered",
        cause: Cause::CorednsUdpFiltered,
        when: "a CoreDNS pod does not answer, and a rule inside its own namespace drops or rejects what it is asked",
        judge: filter_pod::coredns,
    },
    Rule {
        name: "pod-filter-drop",
        cause: Cause::PodFilterDrop,
        when: "a pod's queries fail, and a rule inside its own namespace drops them or redirects them to where nobody listens",
        judge: filter_pod::client,
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
        name: "coredns-api-lost",
        cause: Cause::CorednsApiLost,
        when: "a CoreDNS pod answers SERVFAIL for the cluster's names, or otherwise than a sibling, and waits for the API, cannot reach it or is refused by it",
        judge: api_lost::judge,
    },
    Rule {
        name: "forward-limit-reached",
        cause: Cause::ForwardLimitReached,
        when: "a CoreDNS pod refuses external names alone, its count of queries refused by max_concurrent moves, and its upstream answers",
        judge: forward_limit::judge,
    },
    Rule {
        name: "bridge-down",
        cause: Cause::BridgeDown,
        when: "the pods of a bridge reach nothing beyond it, and the bridge is down or no link has their gateway's address",
        judge: bridge_down::judge,
    },
    Rule {
        name: "veth-down",
        cause: Cause::VethDown,
        when: "nothing passes between a pod and the rest, and an end of its veth pair is down",
        judge: veth_down::judge,
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
        name: "duplicate-pod-ip",
        cause: Cause::DuplicatePodIp,
        when: "paths of a pod or to a CoreDNS pod fail, and another pod of the node has the same address",
        judge: duplicates::ip,
    },
    Rule {
        name: "duplicate-mac",
        cause: Cause::DuplicateMac,
        when: "paths of a pod or to a CoreDNS pod get no answer, and another pod of the bridge has the same link-layer address",
        judge: duplicates::mac,
    },
    Rule {
        name: "wrong-gateway",
        cause: Cause::WrongGateway,
        when: "a pod reaches nothing beyond its own network, and its default route leads to an address that is neither the node's nor the one that it was given",
        judge: wrong_gateway::judge,
    },
    Rule {
        name: "wrong-neighbour",
        cause: Cause::WrongNeighbour,
        when: "a pod gets no answers, or a CoreDNS pod gives none, and a neighbour entry for it, or its own for the node, names another link-layer address than the owner has",
        judge: neighbour::judge,
    },
    Rule {
        name: "service-range-overlapped",
        cause: Cause::ServiceRangeOverlapped,
        when: "the Service does not answer a pod in which a route of its own covers the Service's address and does not lead to the node",
        judge: service_range::judge,
    },
    Rule {
        name: "ip-forward-off",
        cause: Cause::IpForwardOff,
        when: "no pod reaches what the node would have to forward to, and forwarding is off for the node or for a link on the way",
        judge: forwarding::judge,
    },
    Rule {
        name: "forward-policy-drop",
        cause: Cause::ForwardPolicyDrop,
        when: "what has to pass the node fails, no rule accepts it, the policy of FORWARD is DROP and its counter moves",
        judge: filter::forward_policy,
    },
    Rule {
        name: "network-policy-drop",
        cause: Cause::NetworkPolicyDrop,
        when: "a rule in a chain that a network plugin made of a NetworkPolicy drops or rejects what fails, and its counter moves",
        judge: filter::network_policy,
    },
    Rule {
        name: "port-53-redirected",
        cause: Cause::Port53Redirected,
        when: "a rule that is not kube-proxy's sends what fails to another place before kube-proxy sees it, and its counter moves",
        judge: filter::redirected,
    },
    Rule {
        name: "packet-filter-drop",
        cause: Cause::PacketFilterDrop,
        when: "a rule of the node's packet filters drops or rejects what fails, and its counter moves or the sender is told",
        judge: filter::packet_filter,
    },
    Rule {
        name: "node-route-missing",
        cause: Cause::NodeRouteMissing,
        when: "CoreDNS pods of another node are not reached, and the node's FIB has no route to them, one that leads nowhere, or one to itself, or a policy rule takes what pods send elsewhere",
        judge: node_route::judge,
    },
    Rule {
        name: "reverse-path-filter",
        cause: Cause::ReversePathFilter,
        when: "queries of other nodes or replies get lost here over UDP and TCP, the filter is strict on one of several links that lead out, and its counter moves",
        judge: reverse_path::judge,
    },
    Rule {
        name: "checksum-errors",
        cause: Cause::ChecksumErrors,
        when: "queries of other nodes or replies get lost here, and datagrams with wrong checksums are counted as they arrive",
        judge: checksum::judge,
    },
    Rule {
        name: "service-route-missing",
        cause: Cause::ServiceRouteMissing,
        when: "the host itself cannot send to the Service, and its FIB has no usable route for the Service's address",
        judge: service_route::judge,
    },
    Rule {
        name: "bridge-filter-off",
        cause: Cause::BridgeFilterOff,
        when: "a CoreDNS pod of the node replies to pods from its own address instead of the Service's, and bridged packets bypass iptables",
        judge: bridge_filter::judge,
    },
    Rule {
        name: "node-local-dns-dead",
        cause: Cause::NodeLocalDnsDead,
        when: "an address of NodeLocal DNSCache fails on a node: nothing listens there, or reads, or only its NOTRACK rules are left",
        judge: node_local::judge,
    },
    Rule {
        name: "service-missing",
        cause: Cause::ServiceMissing,
        when: "the API says that the DNS Service is gone, and pods that name its address get no answer",
        judge: service_objects::missing,
    },
    Rule {
        name: "service-port-missing",
        cause: Cause::ServicePortMissing,
        when: "the Service has no DNS port by UDP, or none by TCP, and fails over it",
        judge: service_objects::port_missing,
    },
    Rule {
        name: "no-local-endpoint",
        cause: Cause::NoLocalEndpoint,
        when: "the Service fails on a node without a ready CoreDNS pod, and its internalTrafficPolicy is Local",
        judge: service_objects::no_local,
    },
    Rule {
        name: "service-without-endpoints",
        cause: Cause::ServiceWithoutEndpoints,
        when: "the Service fails and the API names no endpoint for it",
        judge: service::without_endpoints,
    },
    Rule {
        name: "two-iptables-backends",
        cause: Cause::TwoIptablesBackends,
        when: "the Service fails, and rules of kube-proxy for it stand in two places of which one is right and one is not",
        judge: backends::two,
    },
    Rule {
        name: "xtables-lock-held",
        cause: Cause::XtablesLockHeld,
        when: "the Service fails, kube-proxy's rules in iptables-legacy are not what the API says, and a program holds the xtables lock",
        judge: backends::lock_held,
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
        name: "stale-conntrack",
        cause: Cause::StaleConntrack,
        when: "the Service answers from fresh source ports and not from a kept one, whose conntrack entry leads to no endpoint",
        judge: conntrack::stale,
    },
    Rule {
        name: "hairpin-off",
        cause: Cause::HairpinOff,
        when: "only a CoreDNS pod's own queries to the Service get lost, and hairpin mode of its bridge port is off",
        judge: hairpin::judge,
    },
    Rule {
        name: "conntrack-insert-failed",
        cause: Cause::ConntrackInsertFailed,
        when: "queries over UDP are lost that TCP would not lose, and conntrack's insert_failed and drop rise by at least as many while its table is far from full",
        judge: conntrack::insert_failed,
    },
    Rule {
        name: "loopback-nameserver",
        cause: Cause::LoopbackNameserver,
        when: "a pod's resolv.conf names a loopback address and the pod's own kernel refuses it, twice",
        judge: resolver::loopback,
    },
    Rule {
        name: "host-network-dns-policy",
        cause: Cause::HostNetworkDnsPolicy,
        when: "a pod on the host's network with dnsPolicy ClusterFirst is told a name of the cluster, and the node's resolver does not know the cluster's names",
        judge: resolver::host_network,
    },
    Rule {
        name: "resolv-conf-limits",
        cause: Cause::ResolvConfLimits,
        when: "a pod's resolv.conf names cluster DNS after the third nameserver, and the first three do not know the cluster's names",
        judge: resolver::limits,
    },
    Rule {
        name: "wrong-nameserver",
        cause: Cause::WrongNameserver,
        when: "a pod's resolv.conf names a server that does not answer while the Service answers from the same pod",
        judge: nameserver::judge,
    },
    Rule {
        name: "masquerade-missing",
        cause: Cause::MasqueradeMissing,
        when: "external names fail, the upstream answers the host and not CoreDNS, and CoreDNS' queries leave the node with their own address",
        judge: masquerade::judge,
    },
    Rule {
        name: "fragments-lost",
        cause: Cause::FragmentsLost,
        when: "big answers of other nodes' CoreDNS pods get lost while small ones arrive, and this node's link towards them is narrower than the pods', or FragFails rises",
        judge: fragments::judge,
    },
    Rule {
        name: "tcp-53-blocked",
        cause: Cause::Tcp53Blocked,
        when: "TCP gets no answer at all where UDP is answered, of more than one server or of the node's own, and no rule that could be read does it",
        judge: tcp::judge,
    },
    Rule {
        name: "upstream-dead",
        cause: Cause::UpstreamDead,
        when: "internal names resolve, external ones do not, and an upstream answers neither the host nor CoreDNS",
        judge: upstream::judge,
    },
    Rule {
        name: "upstream-throttled",
        cause: Cause::UpstreamThrottled,
        when: "internal names resolve, external ones do not always, and an upstream answers part of what CoreDNS's pod asks it directly and loses the rest",
        judge: throttled::judge,
    },
    Rule {
        name: "zone-mismatch",
        cause: Cause::ZoneMismatch,
        when: "every CoreDNS pod says that the cluster's own name does not exist, under the domain that pods search",
        judge: answers::zone,
    },
    Rule {
        name: "wrong-answer",
        cause: Cause::WrongAnswer,
        when: "a CoreDNS pod answers the host of its own node otherwise than the API says, or a name that must not exist",
        judge: answers::wrong,
    },
    Rule {
        name: "aaaa-broken",
        cause: Cause::AaaaBroken,
        when: "AAAA of the cluster's own name fails on ways on which A is answered, twice",
        judge: answers::aaaa,
    },
    Rule {
        name: "search-amplification",
        cause: Cause::SearchAmplification,
        when: "queries are lost that nothing else explains, two of three answers are for names that do not exist, and pods search three domains or more",
        judge: load::amplification,
    },
];

#[cfg(test)]
pub(crate) mod arrival_tests;
#[cfg(test)]
mod clash_tests;
#[cfg(test)]
mod decision_tests;
#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
pub(crate) mod links_scenarios;
#[cfg(test)]
mod links_tests;
#[cfg(test)]
pub(crate) mod names_scenarios;
#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod process_scenarios;
#[cfg(test)]
pub(crate) mod scenarios;
#[cfg(test)]
mod service_scenarios;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unexplained_tests;
#[cfg(test)]
mod ways_tests;
