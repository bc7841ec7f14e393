//! The CNI result cache, as libcni writes it: one file per attachment, `<network>-<container id>-<interface>`.

use std::net::Ipv4Addr;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::spec::{Dns, PodSpec, Qos};

/// What the files of one pod are made of.
pub(super) struct Attachment<'a> {
    pub pod: &'a PodSpec,
    pub container_id: &'a str,
    /// As the runtime spells it.
    pub netns_path: String,
    pub host_veth: &'a str,
    pub host_mac: &'a str,
    pub mac: &'a str,
    pub bridge_mac: &'a str,
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// The node's range, as the plugin's configuration has it.
    pub range: String,
    pub servers: Vec<Ipv4Addr>,
}

/// File names of a pod's attachments.
pub(super) fn file_names(container_id: &str) -> [String; 2] {
    [format!("kubenet-{container_id}-eth0"), format!("cni-loopback-{container_id}-lo")]
}

/// Search list and options of a `ClusterFirst` pod.
pub(super) fn search(pod: &PodSpec) -> Vec<String> {
    match pod.dns {
        Dns::ClusterFirst => {
            vec![format!("{}.svc.cluster.local", pod.namespace), "svc.cluster.local".into(), "cluster.local".into()]
        }
        Dns::Default => Vec::new(),
    }
}

fn options(pod: &PodSpec) -> Vec<&'static str> {
    match pod.dns {
        Dns::ClusterFirst => vec!["ndots:5"],
        Dns::Default => Vec::new(),
    }
}

/// `resolv.conf` as the kubelet has it written into the sandbox.
pub(super) fn resolv_conf(pod: &PodSpec, servers: &[Ipv4Addr]) -> String {
    let mut text = String::new();
    if !search(pod).is_empty() {
        text.push_str(&format!("search {}\n", search(pod).join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options(pod).is_empty() {
        text.push_str(&format!("options {}\n", options(pod).join(" ")));
    }
    text
}

/// The pod's cgroup, as the kubelet names it with the cgroupfs driver.
pub(super) fn cgroup(pod: &PodSpec) -> String {
    match pod.qos {
        Qos::BestEffort => format!("/kubepods/besteffort/pod{}", pod.uid),
        Qos::Burstable => format!("/kubepods/burstable/pod{}", pod.uid),
        Qos::Guaranteed => format!("/kubepods/pod{}", pod.uid),
    }
}

impl Attachment<'_> {
    fn entry(&self, network: &str, interface: &str, config: &Value, result: Value) -> Value {
        let mut dns = json!({"Servers": self.servers});
        if !search(self.pod).is_empty() {
            dns["Searches"] = json!(search(self.pod));
            dns["Options"] = json!(options(self.pod));
        }
        json!({
            "kind": "cniCacheV1",
            "containerId": self.container_id,
            "config": BASE64.encode(config.to_string().as_bytes()),
            "ifName": interface,
            "networkName": network,
            "netns": self.netns_path,
            "cniArgs": [
                ["IgnoreUnknown", "1"],
                ["K8S_POD_NAMESPACE", self.pod.namespace],
                ["K8S_POD_NAME", self.pod.name],
                ["K8S_POD_INFRA_CONTAINER_ID", self.container_id],
                ["K8S_POD_UID", self.pod.uid],
            ],
            "capabilityArgs": {
                "cgroupPath": cgroup(self.pod),
                "dns": dns,
                "io.kubernetes.cri.pod-annotations": {"kubernetes.io/config.source": "api"},
            },
            "result": result,
        })
    }

    /// The entry of the `bridge` plugin.
    pub(super) fn bridge(&self) -> Value {
        let config = json!({
            "cniVersion": "0.4.0",
            "name": "kubenet",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local", "ranges": [[{"subnet": self.range}]],
                        "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/var/lib/cni/networks",
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        let result = json!({
            "cniVersion": "0.4.0",
            "dns": {},
            "interfaces": [
                {"mac": self.bridge_mac, "name": "cni0"},
                {"mac": self.host_mac, "name": self.host_veth},
                {"mac": self.mac, "name": "eth0", "sandbox": self.netns_path},
            ],
            "ips": [{"address": format!("{}/24", self.address), "gateway": self.gateway, "interface": 2, "version": "4"}],
            "routes": [{"dst": "0.0.0.0/0"}],
        });
        self.entry("kubenet", "eth0", &config, result)
    }

    /// The entry of the `loopback` plugin.
    pub(super) fn loopback(&self) -> Value {
        let config = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "plugins": [{"type": "loopback"}]});
        let result = json!({
            "cniVersion": "0.3.1",
            "dns": {},
            "interfaces": [{"mac": "00:00:00:00:00:00", "name": "lo", "sandbox": self.netns_path}],
            "ips": [
                {"address": "127.0.0.1/8", "interface": 0, "version": ""},
                {"address": "::1/128", "interface": 0, "version": ""},
            ],
        });
        self.entry("cni-loopback", "lo", &config, result)
    }
}
