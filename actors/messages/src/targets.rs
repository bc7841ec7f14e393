//! What is asked: CoreDNS pods and the DNS Service.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeName, ObjectKey, PodUid};

/// Everything that can be asked, as the API last told it. Kept when the API is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The DNS Service, if it exists.
    pub service: Option<DnsService>,
    /// CoreDNS pods, from the Service's EndpointSlices (ready or not).
    pub pods: Vec<DnsPod>,
    /// Cluster domain without trailing dot, `cluster.local` unless found or set otherwise.
    pub cluster_domain: String,
    /// Cluster addresses of `default/kubernetes`: the truth for `kubernetes.default.svc`. Empty if not known.
    pub kubernetes_service: Vec<IpAddr>,
    /// `address:port` of the API server behind `default/kubernetes`, remembered for when the service address is lost.
    pub api_endpoints: Vec<std::net::SocketAddr>,
}

/// The DNS Service (`kube-dns` on most clusters).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsService {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `spec.clusterIPs`.
    pub cluster_ips: Vec<IpAddr>,
    /// The UDP port, if the Service has one.
    pub udp_port: Option<ServicePort>,
    /// The TCP port, if the Service has one.
    pub tcp_port: Option<ServicePort>,
    /// `spec.internalTrafficPolicy` is `Local`.
    pub internal_traffic_local: bool,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// `name`; part of kube-proxy's chain names.
    pub name: String,
    /// `port`: what clients ask.
    pub port: u16,
}

/// One CoreDNS pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsPod {
    /// `targetRef.uid`.
    pub uid: PodUid,
    /// Namespace and name.
    pub key: ObjectKey,
    /// `nodeName` of the endpoint.
    pub node: Option<NodeName>,
    /// Its addresses, of every family that has a slice.
    pub ips: Vec<IpAddr>,
    /// Port for UDP (5353 on OpenShift), from the slice.
    pub udp_port: Option<u16>,
    /// Port for TCP, from the slice.
    pub tcp_port: Option<u16>,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// Transport of a DNS exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// What a probe asks: one address of one thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Which thing.
    pub kind: TargetKind,
    /// Its address.
    pub ip: IpAddr,
}

/// Which thing a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TargetKind {
    /// A CoreDNS pod.
    Pod {
        /// Its uid.
        uid: PodUid,
        /// Namespace and name.
        key: ObjectKey,
        /// Its node.
        node: Option<NodeName>,
    },
    /// The DNS Service by one of its cluster addresses.
    Service,
    /// A nameserver that a pod's resolv.conf names and that is neither the Service nor a CoreDNS pod.
    Nameserver,
    /// A server that CoreDNS forwards to, asked during diagnosis.
    Upstream,
}

impl TargetKind {
    /// The label of metrics and tables.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Pod { .. } => "pod",
            Self::Service => "service",
            Self::Nameserver => "nameserver",
            Self::Upstream => "upstream",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TargetKind::Pod { key, .. } => write!(f, "{} ({})", key.name, self.ip),
            TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => {
                write!(f, "{} {}", self.kind.label(), self.ip)
            }
        }
    }
}
