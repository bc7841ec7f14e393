//! Building a lab: the wire, the control plane's namespace, and the nodes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::error::LabError;
use super::isolate::Private;
use super::netns::{Netns, path_of, unbind};
use super::pods::Pod;
use super::spec::{
    CONTROL, LabSpec, PodSpec, cni_results, netns_folder, node_address, node_folder, pod_address, sandboxes,
};
use crate::proxy::Proxy;

/// A node of the lab.
#[derive(Debug)]
pub struct Node {
    /// `node1`, …
    pub name: String,
    /// Its number, from 1.
    pub number: u8,
    /// Its address on the wire.
    pub address: Ipv4Addr,
    /// Its host network.
    pub netns: Netns,
    /// The address of its bridge, which pods have as their gateway.
    pub gateway: Ipv4Addr,
    /// `10.244.N.0/24`.
    pub pod_range: String,
    pub(crate) bridge_mac: String,
    pub(super) next_host: u8,
}

/// A running lab. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    pub(super) spec: LabSpec,
    wire: Netns,
    control: Netns,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) proxies: BTreeMap<String, Proxy>,
}

impl Lab {
    /// Builds the wire, the control plane's namespace and the nodes. Takes about 10 ms a node.
    ///
    /// # Errors
    ///
    /// If the machine lacks something (the message says what) or the specification cannot be.
    pub fn build(_private: Private, spec: LabSpec) -> Result<Self, LabError> {
        if !(1..=200).contains(&spec.nodes) {
            return Err(LabError::Spec(format!("{} nodes; 1 to 200 are possible", spec.nodes)));
        }
        let wire = Netns::current("wire")?;
        let control = Netns::create("control", &[])?;
        let mut lab =
            Self { spec, wire, control, nodes: BTreeMap::new(), pods: BTreeMap::new(), proxies: BTreeMap::new() };
        for number in 1..=lab.spec.nodes {
            let name = format!("node{number}");
            for folder in [cni_results(&name), netns_folder(&name), sandboxes(&name)] {
                std::fs::create_dir_all(&folder).map_err(LabError::file(folder))?;
            }
            let node = Node {
                number,
                address: node_address(number),
                netns: Netns::create(&name, &[])?,
                gateway: pod_address(number, 1),
                pod_range: format!("10.244.{number}.0/24"),
                bridge_mac: lab.mac(&format!("{name}/cni0")),
                next_host: 2,
                name: name.clone(),
            };
            lab.nodes.insert(name, node);
        }
        lab.lay_wire()?;
        lab.set_up_control()?;
        for node in lab.nodes.values() {
            lab.set_up_node(node)?;
        }
        Ok(lab)
    }

    /// A link-layer address that follows from the seed: locally administered, unicast.
    pub(crate) fn mac(&self, what: &str) -> String {
        let digest = Sha256::digest(format!("{}/{what}", self.spec.seed).as_bytes());
        let mut bytes: Vec<u8> = digest.iter().copied().take(6).collect();
        if let Some(first) = bytes.first_mut() {
            *first = (*first & 0xfc) | 0x02;
        }
        bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
    }

    fn lay_wire(&self) -> Result<(), LabError> {
        let mut lines =
            vec![format!("link add wire address {} type bridge", self.mac("wire")), "link set wire up".into()];
        let ends = std::iter::once((0, "control")).chain(self.nodes.values().map(|n| (n.number, n.name.as_str())));
        for (number, netns) in ends {
            let mac = self.mac(&format!("{netns}/eth0"));
            lines.push(format!("link add wire{number} type veth peer name eth0 address {mac} netns {netns}"));
            lines.push(format!("link set wire{number} master wire up"));
        }
        self.wire.ip(&lines)
    }

    fn set_up_control(&self) -> Result<(), LabError> {
        // No waiting for duplicate address detection anywhere: the addresses are ours.
        self.control.sysctls(&[("net/ipv6/conf/default/accept_dad", "0"), ("net/ipv6/conf/all/accept_dad", "0")])?;
        let mut lines = vec![format!("address add {CONTROL}/24 dev eth0"), "link set eth0 up".into()];
        lines.extend(self.nodes.values().map(|n| format!("route add {} via {}", n.pod_range, n.address)));
        self.control.ip(&lines)
    }

    fn set_up_node(&self, node: &Node) -> Result<(), LabError> {
        if !Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
            return Err(LabError::Spec(
                "net.bridge.bridge-nf-call-iptables is not there, so pods of one node would bypass kube-proxy's rules on the \
                 way back; `modprobe br_netfilter` as root"
                    .into(),
            ));
        }
        node.netns.sysctls(&[
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv4/ip_forward", "1"),
            ("net/bridge/bridge-nf-call-iptables", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/eth0/rp_filter", "0"),
            ("net/ipv4/conf/all/route_localnet", "1"),
        ])?;
        let mut lines = vec![
            format!("address add {}/24 dev eth0", node.address),
            "link set eth0 up".into(),
            format!("link add cni0 address {} type bridge", node.bridge_mac),
            format!("address add {}/24 broadcast + dev cni0", node.gateway),
            "link set cni0 up".into(),
            "route add default dev eth0".into(),
        ];
        let others = self.nodes.values().filter(|other| other.number != node.number);
        lines.extend(others.map(|other| format!("route add {} via {}", other.pod_range, other.address)));
        node.netns.ip(&lines)
    }

    /// The control plane's namespace.
    #[must_use]
    pub fn control(&self) -> &Netns {
        &self.control
    }

    /// The namespace of the wire: the one this process is in. Nothing but the wire is there.
    #[must_use]
    pub fn wire(&self) -> &Netns {
        &self.wire
    }

    /// A node.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn node(&self, name: &str) -> Result<&Node, LabError> {
        self.nodes.get(name).ok_or_else(|| LabError::Unknown { kind: "node", name: name.into() })
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A pod by its key, `namespace/name`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn pod(&self, key: &str) -> Result<&Pod, LabError> {
        self.pods.get(key).ok_or_else(|| LabError::Unknown { kind: "pod", name: key.into() })
    }

    /// All pods, by key.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// A namespace by `control`, `nodeN` or a pod's key.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn netns(&self, name: &str) -> Result<&Netns, LabError> {
        match name {
            "control" => Ok(&self.control),
            _ => match self.nodes.get(name) {
                Some(node) => Ok(&node.netns),
                None => self.pod(name).map(|pod| &pod.netns),
            },
        }
    }

    /// Adds several pods.
    ///
    /// # Errors
    ///
    /// As [`Lab::add_pod`].
    pub fn add_pods(&mut self, pods: impl IntoIterator<Item = PodSpec>) -> Result<(), LabError> {
        pods.into_iter().try_for_each(|pod| self.add_pod(pod).map(|_| ()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What fails here goes with the simulation's namespaces anyway.
        let keys: Vec<String> = self.pods.keys().cloned().collect();
        for key in keys {
            let _gone_with_namespaces = self.remove_pod(&key);
        }
        let mut lines = vec!["link delete wire".to_owned(), "link delete wire0".to_owned()];
        lines.extend(self.nodes.values().map(|n| format!("link delete wire{}", n.number)));
        let _gone_with_namespaces = self.wire.ip(&lines);
        for name in std::iter::once("control").chain(self.nodes.keys().map(String::as_str)) {
            let _gone_with_namespaces = unbind(&[path_of(name)]);
        }
        for name in self.nodes.keys() {
            let _gone_with_namespaces = std::fs::remove_dir_all(node_folder(name));
        }
    }
}
