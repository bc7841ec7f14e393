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
        let port = |namespace: &str, service: &str, name: &str, protocol, last, port, endpoints: Vec<SocketAddrV4>| {
            let (namespace, service, name) = (namespace.to_owned(), service.to_owned(), name.to_owned());
            ServicePort {
                namespace,
                service,
                name,
                protocol,
                cluster_ip: Ipv4Addr::new(10, 96, 0, last),
                port,
                endpoints,
            }
        };
        let dns = |name: &str, protocol, number| {
            let endpoints = coredns.iter().map(|ip| SocketAddrV4::new(*ip, number)).collect();
            port("kube-system", "kube-dns", name, protocol, 10, number, endpoints)
        };
        let api = SocketAddrV4::new(crate::lab::CONTROL, 6443);
        Self {
            node_ip: crate::lab::node_address(node),
            node_range: [10, 244, node],
            ports: vec![
                port("default", "kubernetes", "https", Protocol::Tcp, 1, 443, vec![api]),
                dns("dns", Protocol::Udp, 53),
                dns("dns-tcp", Protocol::Tcp, 53),
                dns("metrics", Protocol::Tcp, 9153),
            ],
        }
    }

    /// Whether an address is a pod's of this node.
    pub(super) fn is_local(&self, ip: Ipv4Addr) -> bool {
        ip.octets().starts_with(&self.node_range)
    }
}
