//! What a look from outside the cluster reads: how a Service can be reached, nodes' addresses, probe Jobs and their pods.
//!
//! Read once by a command, never watched: these types keep what the watched ones leave out.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Meta, NodeCondition, nullable};

/// A Service with all that makes it reachable from outside.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ExposedService {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: ExposedSpec,
    /// `status`.
    #[serde(deserialize_with = "nullable")]
    pub status: ExposedStatus,
}

/// `spec` of an [`ExposedService`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExposedSpec {
    /// `type`: `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub r#type: String,
    /// `externalIPs`.
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    pub external_ips: Vec<String>,
    /// `externalTrafficPolicy`: with `Local` only nodes with a ready endpoint answer.
    #[serde(deserialize_with = "nullable")]
    pub external_traffic_policy: String,
    /// `selector`.
    #[serde(deserialize_with = "nullable")]
    pub selector: BTreeMap<String, String>,
    /// `ports`.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ExposedPort>,
}

/// One of `spec.ports`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExposedPort {
    /// `name`.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// `port`.
    pub port: u16,
    /// `protocol`; TCP when absent.
    pub protocol: Option<String>,
    /// `nodePort`; 0 when there is none.
    #[serde(deserialize_with = "nullable")]
    pub node_port: u16,
    /// `targetPort`: a number or a name.
    pub target_port: Value,
}

/// `status` of an [`ExposedService`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExposedStatus {
    /// `loadBalancer`.
    #[serde(deserialize_with = "nullable")]
    pub load_balancer: LoadBalancer,
}

/// `status.loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    /// `ingress`.
    #[serde(deserialize_with = "nullable")]
    pub ingress: Vec<Ingress>,
}

/// One of `status.loadBalancer.ingress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// `ip`.
    #[serde(deserialize_with = "nullable")]
    pub ip: String,
    /// `hostname`, where the provider gives a name.
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
}

/// A node with its addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeWithAddresses {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    #[serde(deserialize_with = "nullable")]
    pub spec: super::NodeSpec,
    /// `status`.
    #[serde(deserialize_with = "nullable")]
    pub status: AddressedStatus,
}

/// `status` of a [`NodeWithAddresses`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AddressedStatus {
    /// `addresses`.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<NodeAddress>,
    /// `conditions`.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<NodeCondition>,
}

/// One of `status.addresses` of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `type`: `InternalIP`, `ExternalIP`, `Hostname`, …
    pub r#type: String,
    /// `address`.
    pub address: String,
}

impl NodeWithAddresses {
    /// Whether the API calls it ready.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True")
    }

    /// Its addresses of one type.
    pub fn addresses<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.status.addresses.iter().filter(move |a| a.r#type == kind).map(|a| a.address.as_str())
    }
}

/// A Job as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Job {
    /// `metadata`.
    pub metadata: Meta,
    /// `status`.
    #[serde(deserialize_with = "nullable")]
    pub status: JobStatus,
}

/// `status` of a Job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    /// `conditions`: `Complete` or `Failed` once it has ended.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<NodeCondition>,
}

impl Job {
    /// Whether it has ended, well or not.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.status.conditions.iter().any(|c| ["Complete", "Failed"].contains(&c.r#type.as_str()) && c.status == "True")
    }
}

/// A probe pod, with the whole message that its container left (at most 4096 octets, by the kubelet's own limit).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProbePod {
    /// `metadata`.
    pub metadata: Meta,
    /// `status`.
    #[serde(deserialize_with = "nullable")]
    pub status: ProbePodStatus,
}

/// `status` of a [`ProbePod`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbePodStatus {
    /// `phase`.
    pub phase: String,
    /// `reason`: `DeadlineExceeded`, `Evicted`, …
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// `message`.
    #[serde(deserialize_with = "nullable")]
    pub message: String,
    /// `containerStatuses`.
    #[serde(deserialize_with = "nullable")]
    pub container_statuses: Vec<ProbeContainer>,
}

/// One of `status.containerStatuses` of a [`ProbePod`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProbeContainer {
    /// `state`.
    #[serde(deserialize_with = "nullable")]
    pub state: ProbeState,
}

/// `state` of a [`ProbeContainer`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProbeState {
    /// `terminated`.
    pub terminated: Option<ProbeEnd>,
    /// `waiting`.
    pub waiting: Option<super::Waiting>,
}

/// `terminated` of a [`ProbeState`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeEnd {
    /// `reason`.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// `message`: what the container wrote, uncut.
    #[serde(deserialize_with = "nullable")]
    pub message: String,
    /// `exitCode`.
    #[serde(deserialize_with = "nullable")]
    pub exit_code: i32,
}
