//! What kube-proxy is told: Services and their ready endpoints.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// Transport of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The port's name.
    pub name: String,
    /// Its transport.
    pub protocol: Protocol,
    /// The cluster IP.
    pub cluster_ip: Ipv4Addr,
    /// The port on the cluster IP.
    pub port: u16,
    /// Ready endpoints.
    pub endpoints: Vec<SocketAddrV4>,
    /// `internalTrafficPolicy: Local`: only endpoints of the node count.
    #[serde(default)]
    pub local: bool,
    /// Ready endpoints that the policy leaves out.
    #[serde(default)]
    pub elsewhere: usize,
}

/// The DNS Service and its ready endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsService {
    /// Name, transport and number of each port.
    pub ports: Vec<(String, Protocol, u16)>,
    /// `internalTrafficPolicy: Local`.
    pub local: bool,
    /// Addresses of ready endpoints.
    pub endpoints: Vec<Ipv4Addr>,
}

impl DnsService {
    /// As the recorded cluster had it.
    #[must_use]
    pub fn recorded(endpoints: &[Ipv4Addr]) -> Self {
        let port = |name: &str, protocol, number| (name.to_owned(), protocol, number);
        Self {
            ports: vec![
                port("dns", Protocol::Udp, 53),
                port("dns-tcp", Protocol::Tcp, 53),
                port("metrics", Protocol::Tcp, 9153),
            ],
            local: false,
            endpoints: endpoints.to_vec(),
        }
    }
}

impl ServicePort {
    /// `namespace/service:port`, as kube-proxy names it in comments.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}/{}:{}", self.namespace, self.service, self.name)
    }

    /// Endpoints in the order of their text, as kube-proxy sorts them.
    pub(super) fn sorted(&self) -> Vec<SocketAddrV4> {
        let mut endpoints = self.endpoints.clone();
        endpoints.sort_by_key(ToString::to_string);
        endpoints
    }
}

/// Everything one node's kube-proxy knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The node's address.
    pub node_ip: Ipv4Addr,
    /// The first three bytes of the node's own pod range, a /24.
    pub node_range: [u8; 3],
    /// Every port of every Service.
    pub ports: Vec<ServicePort>,
}

impl ServiceState {
    /// The Services that every cluster has: `default/kubernetes` and `kube-system/kube-dns` with these endpoints.
    #[must_use]
    pub fn cluster(node: u8, coredns: &[Ipv4Addr]) -> Self {
        Self::with_dns(node, Some(&DnsService::recorded(coredns)))
    }

    /// `default/kubernetes`, and `kube-system/kube-dns` if it is there.
    #[must_use]
    pub fn with_dns(node: u8, dns: Option<&DnsService>) -> Self {
        let api = ServicePort {
            namespace: "default".to_owned(),
            service: "kubernetes".to_owned(),
            name: "https".to_owned(),
            protocol: Protocol::Tcp,
            cluster_ip: Ipv4Addr::new(10, 96, 0, 1),
            port: 443,
            endpoints: vec![SocketAddrV4::new(crate::lab::CONTROL, 6443)],
            local: false,
            elsewhere: 0,
        };
        let of_dns = dns.into_iter().flat_map(|dns| {
            dns.ports.iter().map(|(name, protocol, port)| ServicePort {
                namespace: "kube-system".to_owned(),
                service: "kube-dns".to_owned(),
                name: name.clone(),
                protocol: *protocol,
                cluster_ip: Ipv4Addr::new(10, 96, 0, 10),
                port: *port,
                endpoints: dns.endpoints.iter().map(|ip| SocketAddrV4::new(*ip, *port)).collect(),
                local: dns.local,
                elsewhere: 0,
            })
        });
        let mut state = Self {
            node_ip: crate::lab::node_address(node),
            node_range: [10, 244, node],
            ports: std::iter::once(api).chain(of_dns).collect(),
        };
        let range = state.node_range;
        for port in state.ports.iter_mut().filter(|port| port.local) {
            port.elsewhere = port.endpoints.len();
            port.endpoints.retain(|end| end.ip().octets().starts_with(&range));
            port.elsewhere -= port.endpoints.len();
        }
        state
    }

    /// Whether an address is a pod's of this node.
    pub(super) fn is_local(&self, ip: Ipv4Addr) -> bool {
        ip.octets().starts_with(&self.node_range)
    }
}
