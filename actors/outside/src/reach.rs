//! Which ways lead to cluster DNS from outside: what the Services publish, and what may be reachable besides.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use nameward_cluster::wire::{ExposedPort, ExposedService, NodeWithAddresses};
use nameward_messages::NodeName;
use nameward_messages::targets::{DnsPod, DnsService};
use serde::Serialize;

/// Most ways that are looked at.
pub const MOST: usize = 32;
/// Most nodes whose node ports are asked.
const NODES: usize = 6;
/// Most pods that are asked directly.
const PODS: usize = 8;

/// Kinds of ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayKind {
    /// One of a Service's `externalIPs`.
    ExternalAddress,
    /// The ingress of a load balancer.
    LoadBalancer,
    /// A port of a node.
    NodePort,
    /// A CoreDNS pod's own address: where pods' addresses are routed.
    Pod,
    /// The Service's cluster address: where it is routed.
    ClusterAddress,
}

impl WayKind {
    /// Whether the cluster says that this address is its own: else somebody else may have it in the network of whoever asks.
    #[must_use]
    pub fn published(self) -> bool {
        matches!(self, Self::ExternalAddress | Self::LoadBalancer | Self::NodePort)
    }

    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ExternalAddress => "external address",
            Self::LoadBalancer => "load balancer",
            Self::NodePort => "node port",
            Self::Pod => "pod",
            Self::ClusterAddress => "cluster address",
        }
    }
}

/// What stands at the end of a way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name that the provider gave; resolved where the process runs.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Way {
    /// Its kind.
    pub kind: WayKind,
    /// The Service or pod, as `namespace/name`.
    pub of: String,
    /// The node, of a node port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Where to.
    pub host: Host,
    /// The UDP port, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<u16>,
    /// The TCP port, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{} of {} on {node}", self.kind.label(), self.of),
            None => write!(f, "{} {}", self.kind.label(), self.of),
        }
    }
}

/// What the API says.
#[derive(Clone, Copy, Debug)]
pub struct Objects<'a> {
    /// The DNS Service.
    pub service: &'a DnsService,
    /// The Services of its namespace, itself among them.
    pub services: &'a [ExposedService],
    /// The nodes, as far as they may be read.
    pub nodes: &'a [NodeWithAddresses],
    /// The CoreDNS pods.
    pub pods: &'a [DnsPod],
}

/// Every way there may be, published ones first, at most [`MOST`].
#[must_use]
pub fn ways(objects: &Objects<'_>) -> Vec<Way> {
    let mut all = Vec::new();
    let dns = dns_services(objects);
    dns.iter().for_each(|service| external(service, &mut all));
    dns.iter().for_each(|service| node_ports(service, objects, &mut all));
    let ports = |port: &Option<nameward_messages::targets::ServicePort>| port.as_ref().map(|p| p.port);
    for pod in objects.pods.iter().filter(|pod| pod.ready && !pod.terminating).take(PODS) {
        let (udp, tcp) = (pod.udp_port, pod.tcp_port);
        let of = pod.key.to_string();
        let way =
            |ip: &IpAddr| Way { kind: WayKind::Pod, of: of.clone(), node: None, host: Host::Address(*ip), udp, tcp };
        all.extend(pod.ips.first().map(way));
    }
    let service = objects.service;
    let (udp, tcp, of) = (ports(&service.udp_port), ports(&service.tcp_port), service.key.to_string());
    all.extend(service.cluster_ips.iter().take(2).map(|ip| Way {
        kind: WayKind::ClusterAddress,
        of: of.clone(),
        node: None,
        host: Host::Address(*ip),
        udp,
        tcp,
    }));
    let mut seen = BTreeSet::new();
    all.retain(|way| (way.udp.is_some() || way.tcp.is_some()) && seen.insert((way.host.clone(), way.udp, way.tcp)));
    all.truncate(MOST);
    all
}

/// The DNS Service, and others of its namespace that lead to the same pods.
fn dns_services<'a>(objects: &Objects<'a>) -> Vec<&'a ExposedService> {
    let itself = |service: &&ExposedService| service.metadata.key() == objects.service.key;
    let selector = objects.services.iter().find(itself).map(|s| s.spec.selector.clone()).unwrap_or_default();
    let same = |service: &&ExposedService| !selector.is_empty() && service.spec.selector == selector;
    objects.services.iter().filter(|service| itself(service) || same(service)).collect()
}

/// The port that answers DNS by a transport: port 53 first.
fn port<'a>(service: &'a ExposedService, transport: &str) -> Option<&'a ExposedPort> {
    let is_dns = |port: &&ExposedPort| {
        let target = &port.target_port;
        let named = |name: &str| name.contains("dns");
        port.port == 53
            || named(&port.name)
            || target.as_u64().is_some_and(|n| [53, 5353, 1053].contains(&n))
            || target.as_str().is_some_and(named)
    };
    let mut ports: Vec<_> = service
        .spec
        .ports
        .iter()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == transport)
        .filter(is_dns)
        .collect();
    ports.sort_by_key(|port| port.port != 53);
    ports.first().copied()
}

fn external(service: &ExposedService, all: &mut Vec<Way>) {
    let (udp, tcp) = (port(service, "UDP").map(|p| p.port), port(service, "TCP").map(|p| p.port));
    let mut add = |kind, host| {
        all.push(Way { kind, of: service.metadata.key().to_string(), node: None, host, udp, tcp });
    };
    for ip in service.spec.external_ips.iter().filter_map(|ip| ip.parse().ok()) {
        add(WayKind::ExternalAddress, Host::Address(ip));
    }
    if service.spec.r#type != "LoadBalancer" {
        return;
    }
    for ingress in &service.status.load_balancer.ingress {
        match ingress.ip.parse() {
            Ok(ip) => add(WayKind::LoadBalancer, Host::Address(ip)),
            Err(_) if good_name(&ingress.hostname) => {
                add(WayKind::LoadBalancer, Host::Name(ingress.hostname.to_ascii_lowercase()));
            }
            Err(_) => {}
        }
    }
}

/// A name that may be given to the resolver: letters, digits, hyphens and dots.
fn good_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn node_ports(service: &ExposedService, objects: &Objects<'_>, all: &mut Vec<Way>) {
    if !["NodePort", "LoadBalancer"].contains(&service.spec.r#type.as_str()) {
        return;
    }
    let number = |transport| port(service, transport).map(|p| p.node_port).filter(|number| *number != 0);
    let (udp, tcp) = (number("UDP"), number("TCP"));
    if udp.is_none() && tcp.is_none() {
        return;
    }
    let hosts: BTreeSet<&str> =
        objects.pods.iter().filter(|p| p.ready).filter_map(|p| p.node.as_ref().map(NodeName::as_str)).collect();
    // With the policy Local a node without an endpoint drops what is asked of it, as it should.
    let local = service.spec.external_traffic_policy == "Local";
    let mut nodes: Vec<&NodeWithAddresses> = objects
        .nodes
        .iter()
        .filter(|node| node.ready() && (!local || hosts.contains(node.metadata.name.as_str())))
        .collect();
    nodes.sort_by_key(|node| (!hosts.contains(node.metadata.name.as_str()), node.metadata.name.clone()));
    for node in nodes.into_iter().take(NODES) {
        let ip = ["ExternalIP", "InternalIP"]
            .into_iter()
            .flat_map(|kind| node.addresses(kind))
            .find_map(|ip| ip.parse().ok());
        let Some(ip) = ip else { continue };
        all.push(Way {
            kind: WayKind::NodePort,
            of: service.metadata.key().to_string(),
            node: Some(NodeName(node.metadata.name.clone())),
            host: Host::Address(ip),
            udp,
            tcp,
        });
    }
}

#[cfg(test)]
mod tests;
