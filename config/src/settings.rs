//! Every setting, its unit and its default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::verdict::Cause;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{Bytes, Period};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This process and its way to the Kubernetes API.
    pub kubernetes: Kubernetes,
    /// Which Service, pods and ports are cluster DNS.
    pub discovery: Discovery,
    /// How pods' network namespaces are found.
    pub netns: Netns,
    /// What is asked, and how often.
    pub probe: Probe,
    /// What is read when something fails.
    pub diagnosis: Diagnosis,
    /// What may be done about it.
    pub remedy: Remedy,
    /// How the coordinator judges across nodes.
    pub coordinator: Coordinator,
    /// The HTTP endpoint.
    pub metrics: Metrics,
    /// The log.
    pub log: Log,
}

/// This process and its way to the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// The name of the node that this process runs on. Empty: the environment variable `NODE_NAME`, else the host's name.
    pub node_name: String,
    /// A kubeconfig file. Empty: the service account of the pod, else `KUBECONFIG`, else `~/.kube/config`.
    pub kubeconfig: String,
    /// The context within it. Empty: the current one.
    pub context: String,
    /// The namespace of Nameward's own objects (Lease, policy ConfigMap).
    pub namespace: String,
    /// Longest wait for one call to the API (a watch excepted).
    pub call_timeout: Period,
}

/// Which Service, pods and ports are cluster DNS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// `namespace/name` of the DNS Service. Empty: found (kubeadm, kind, k3s, RKE2, EKS, GKE, AKS, OpenShift).
    pub service: String,
    /// `namespace/name` of the Deployment behind it. Empty: the owner of its pods.
    pub workload: String,
    /// The cluster domain. Empty: found in the pods' search lists, else `cluster.local`.
    pub cluster_domain: String,
    /// UDP port of the CoreDNS pods. 0: as the EndpointSlices say.
    pub udp_port: u16,
    /// TCP port of the CoreDNS pods. 0: as the EndpointSlices say.
    pub tcp_port: u16,
}

/// How pods' network namespaces are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Netns {
    /// The CNI result cache.
    pub cni_results: PathBuf,
    /// Folders with bind-mounted namespaces, matched by address when the cache does not know a pod.
    pub folders: Vec<PathBuf>,
    /// The runtime's folders of sandboxes: `<folder>/<container id>/resolv.conf` is a pod's resolv.conf.
    pub sandboxes: Vec<PathBuf>,
    /// Whether the host's processes are visible (hostPID): then `/proc` is the third source.
    pub host_pid: bool,
    /// How often folders and cache are read again without an event.
    pub rescan: Period,
    /// Most namespaces to probe from; the surplus is counted and named in the log.
    pub limit: u32,
}

/// What is asked, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// Time from one sweep to the next.
    pub interval: Period,
    /// Time-out of one probe.
    pub timeout: Period,
    /// Wait between a failure and its confirmation.
    pub confirm_after: Period,
    /// A name outside the cluster, with final dot, asked of every CoreDNS pod. Empty: none.
    pub external_name: String,
    /// More names, with final dot; any address is a right answer.
    pub extra_names: Vec<String>,
    /// A name with an answer of more than 1232 octets, with final dot, asked with EDNS over UDP and over TCP: A under the cluster
    /// domain (a headless Service with many pods), TXT elsewhere. Empty: none.
    pub large_name: String,
    /// What else is asked about the cluster's own name.
    pub also: Vec<Also>,
    /// Queries per second to one CoreDNS pod, from all nodes together.
    pub budget_per_pod: u32,
    /// Probes at once.
    pub concurrency: u32,
}

/// What else is asked, at most once per vantage and round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Also {
    /// The Service over UDP from a source port that is kept, from every vantage: finds stale conntrack entries.
    Held,
    /// AAAA where A is asked: the Service from every vantage, every CoreDNS pod from the host.
    OtherType,
    /// The name of the `kubernetes` Service's address (PTR), from the host.
    Reverse,
    /// A name under the cluster domain that does not exist, from the host. Leave it out where a wildcard is meant.
    Absent,
}

/// What is read when something fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Diagnosis {
    /// Longest time for one collector.
    pub collect_timeout: Period,
    /// Most bytes from one command or file.
    pub collect_bytes: Bytes,
    /// Patience of the slow differential probe.
    pub patience: Period,
    /// Where CoreDNS's plugin `ready` listens in its pods. 0: it is not asked.
    pub coredns_ready_port: u16,
    /// Where CoreDNS's plugin `prometheus` listens in its pods. 0: it is not asked.
    pub coredns_metrics_port: u16,
    /// The root of the node's cgroups, where they can be seen (hostPID, or the host's folder mounted).
    pub cgroups: PathBuf,
    /// Whether a probe of our own may be traced (nftrace) where a rule that is not understood may have dropped it. It takes a table
    /// of our own in nf_tables for two seconds at most, and is stopped by the kill switch.
    pub trace: bool,
}

/// What may be done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Remedy {
    /// `off`, `observe` or `act`, for every remedy that `modes` does not name.
    pub mode: Mode,
    /// By remedy.
    #[schemars(extend("propertyNames" = {"enum": RemedyKind::ALL.map(RemedyKind::id)}))]
    pub modes: BTreeMap<RemedyKind, Mode>,
    /// By cause: its rungs in the order in which they are looked at. Rungs can be left out or reordered, none can be added.
    #[schemars(extend("propertyNames" = {"enum": Cause::ALL.iter().map(|cause| cause.id()).collect::<Vec<_>>()}))]
    pub ladders: BTreeMap<Cause, Vec<RemedyKind>>,
    /// How long a verdict must have stood before a remedy.
    pub wait: Period,
    /// How long after an act probing may take to confirm that DNS recovered.
    pub verify_within: Period,
    /// No shared remedy within this time after the last.
    pub shared_every: Period,
    /// Most shared remedies in an hour.
    pub shared_per_hour: u32,
    /// No remedy within this time after the start and after a storm.
    pub cool_down: Period,
    /// Most tries per target.
    pub tries_per_target: u32,
    /// The journal of node repairs, on a disk of the node that survives a reboot. Without it nothing on the node is changed.
    pub journal: PathBuf,
    /// The memory limit grows by this factor.
    pub memory_factor: f64,
    /// And never beyond this.
    pub memory_cap: Bytes,
}

/// How the coordinator judges across nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Coordinator {
    /// Name of the Lease.
    pub lease_name: String,
    /// A leader that has not renewed for this long may be replaced.
    pub lease_duration: Period,
    /// A leader that could not renew for this long stops acting.
    pub renew_deadline: Period,
    /// Time between tries.
    pub retry_period: Period,
    /// Heartbeat of the agents' reports when nothing changes.
    pub report_every: Period,
    /// A report older than this is stale.
    pub stale_after: Period,
    /// Share of expected agents that must have reported lately before a shared remedy, in percent (never below 60).
    pub quorum_percent: u32,
    /// How long asked nodes may take to answer before an act.
    pub answer_within: Period,
    /// Whether the condition `ClusterDNSHealthy` is written to nodes, when it changes. Needs `deploy/rbac/optional/node-condition.yaml`.
    pub node_condition: bool,
}

/// The HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address of `/metrics`, `/healthz` and `/readyz`, the status page (`/`), `/status.json` and `/state`.
    #[schemars(extend("format" = "ip-port"))]
    pub listen: SocketAddr,
    /// `false`: the status page, `/status.json` and `/state` answer to loopback alone. `true`: also to whom the API server lets in.
    pub open_state: bool,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,nameward_prober=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            kubeconfig: String::new(),
            context: String::new(),
            namespace: "nameward".to_owned(),
            call_timeout: Period::secs(5),
        }
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self {
            cni_results: "/var/lib/cni/results".into(),
            folders: vec!["/run/netns".into(), "/run/docker/netns".into()],
            sandboxes: vec!["/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes".into()],
            host_pid: false,
            rescan: Period::secs(30),
            limit: 512,
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            interval: Period::secs(10),
            timeout: Period::millis(700),
            confirm_after: Period::millis(200),
            external_name: String::new(),
            extra_names: Vec::new(),
            large_name: String::new(),
            also: vec![Also::Held, Also::OtherType, Also::Reverse, Also::Absent],
            budget_per_pod: 30,
            concurrency: 1024,
        }
    }
}

impl Default for Diagnosis {
    fn default() -> Self {
        Self {
            collect_timeout: Period::secs(3),
            collect_bytes: Bytes(64 << 20),
            patience: Period::secs(4),
            coredns_ready_port: 8181,
            coredns_metrics_port: 9153,
            cgroups: "/sys/fs/cgroup".into(),
            trace: false,
        }
    }
}

impl Default for Remedy {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            modes: BTreeMap::new(),
            ladders: BTreeMap::new(),
            wait: Period::secs(30),
            verify_within: Period::secs(60),
            shared_every: Period::secs(300),
            shared_per_hour: 3,
            cool_down: Period::secs(60),
            tries_per_target: 3,
            journal: "/var/lib/nameward/journal".into(),
            memory_factor: 2.0,
            memory_cap: Bytes(1 << 30),
        }
    }
}

impl Remedy {
    /// The mode of one remedy. Restarting a kube-proxy pod is off unless it is named.
    #[must_use]
    pub fn mode_of(&self, kind: RemedyKind) -> Mode {
        match (self.modes.get(&kind), kind) {
            (Some(mode), _) => *mode,
            (None, RemedyKind::RestartKubeProxy) => Mode::Off,
            (None, _) => self.mode,
        }
    }
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            lease_name: "nameward-coordinator".to_owned(),
            lease_duration: Period::secs(15),
            renew_deadline: Period::secs(10),
            retry_period: Period::secs(2),
            report_every: Period::secs(300),
            stale_after: Period::secs(660),
            quorum_percent: 85,
            answer_within: Period::secs(10),
            node_condition: false,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 9890)), open_state: false }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}
