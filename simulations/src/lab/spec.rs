//! What a lab is to look like, and the names and addresses that follow from it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A lab: nodes named `node1`, `node2`, … on one wire with the control plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabSpec {
    /// How many nodes, 1 to 200.
    pub nodes: u8,
    /// Which of the machine's links, names and ids come out: the same seed gives the same names.
    pub seed: u64,
    /// The DNS servers given to pods with `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Ipv4Addr,
}

impl Default for LabSpec {
    fn default() -> Self {
        Self { nodes: 2, seed: 1, cluster_dns: Ipv4Addr::new(10, 96, 0, 10) }
    }
}

/// The control plane's address: the API server (port 6443) and the upstream DNS server (port 53).
pub const CONTROL: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 254);

/// All pods of the cluster.
pub const POD_CIDR: &str = "10.244.0.0/16";

/// All Services of the cluster.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";

/// The address of a node by its number, from 1.
#[must_use]
pub fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, number.saturating_add(10))
}

/// An address in the pod range of a node; 1 is the bridge's own.
#[must_use]
pub fn pod_address(node: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, host)
}

/// The folder of a node's files: what stands under `/var/lib` and `/run` of a real one.
#[must_use]
pub fn node_folder(node: &str) -> PathBuf {
    PathBuf::from("/run/sim").join(node)
}

/// The CNI result cache of a node; a real one is `/var/lib/cni/results`.
#[must_use]
pub fn cni_results(node: &str) -> PathBuf {
    node_folder(node).join("cni/results")
}

/// The namespaces of a node's own pods; on a real node this is `/run/netns`.
#[must_use]
pub fn netns_folder(node: &str) -> PathBuf {
    node_folder(node).join("netns")
}

/// The runtime's sandboxes of a node: `<folder>/<container id>/resolv.conf`.
#[must_use]
pub fn sandboxes(node: &str) -> PathBuf {
    node_folder(node).join("sandboxes")
}

/// A pod to be set up on a node, as its CNI plugin would be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Its node: `node1`, …
    pub node: String,
    /// Its namespace in the API.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `BestEffort`, `Burstable` or `Guaranteed`: decides its cgroup path.
    pub qos: Qos,
    /// Its DNS servers.
    pub dns: Dns,
}

/// Quality-of-service classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Qos {
    /// No requests, no limits.
    #[default]
    BestEffort,
    /// Some.
    Burstable,
    /// Requests equal limits.
    Guaranteed,
}

/// A pod's `dnsPolicy`, as far as the lab needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dns {
    /// The DNS Service, with search list and ndots.
    #[default]
    ClusterFirst,
    /// The node's own server, here the control plane's. CoreDNS has this.
    Default,
}

impl PodSpec {
    /// A client pod.
    #[must_use]
    pub fn client(node: &str, namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            node: node.into(),
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            qos: Qos::BestEffort,
            dns: Dns::ClusterFirst,
        }
    }

    /// A CoreDNS pod.
    #[must_use]
    pub fn coredns(node: &str, name: &str, uid: &str) -> Self {
        Self { qos: Qos::Burstable, dns: Dns::Default, ..Self::client(node, "kube-system", name, uid) }
    }

    /// `namespace/name`: how the lab calls it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Names that a runtime and its plugins make up, drawn from the lab's seed and the pod's uid.
pub(super) struct Drawn {
    pub container_id: String,
    pub netns: String,
    pub host_veth: String,
}

impl Drawn {
    pub(super) fn of(seed: u64, uid: &str) -> Self {
        let hex = |what: &str| -> String {
            let digest = Sha256::digest(format!("{seed}/{what}/{uid}").as_bytes());
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let id = hex("netns");
        let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
        Self {
            container_id: hex("container"),
            netns: format!("cni-{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)),
            host_veth: format!("veth{}", hex("veth").get(..8).unwrap_or_default()),
        }
    }
}
