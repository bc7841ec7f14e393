//! Pods.

use jiff::Timestamp;
use serde::Deserialize;

use super::mention::{in_environment, in_words};
use super::{Meta, lenient, nullable, quantity};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: PodSpec,
    /// `status`.
    pub status: PodStatus,
}

impl Pod {
    /// The condition `Ready` is `True`.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True")
    }

    /// Every container has ended for good (evicted by its kubelet, or finished): it never runs again, and only the object is left.
    #[must_use]
    pub fn over(&self) -> bool {
        matches!(self.status.phase.as_str(), "Failed" | "Succeeded")
    }
}

/// `spec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// `nodeName`.
    pub node_name: Option<String>,
    /// `hostNetwork`.
    #[serde(deserialize_with = "nullable")]
    pub host_network: bool,
    /// `dnsPolicy`.
    pub dns_policy: Option<String>,
    /// `dnsConfig`.
    #[serde(deserialize_with = "nullable")]
    pub dns_config: DnsConfig,
    /// `containers`.
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
}

/// `spec.dnsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// `nameservers`.
    #[serde(deserialize_with = "nullable")]
    pub nameservers: Vec<String>,
}

/// A container of a pod or of a template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// `name`.
    pub name: String,
    /// `resources`.
    #[serde(deserialize_with = "nullable")]
    pub resources: Resources,
    /// `ports`.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ContainerPort>,
    /// The first name of a Service in `command`.
    #[serde(deserialize_with = "in_words")]
    pub command: Option<String>,
    /// The first name of a Service in `args`.
    #[serde(deserialize_with = "in_words")]
    pub args: Option<String>,
    /// The first name of a Service in `env`.
    #[serde(deserialize_with = "in_environment")]
    pub env: Option<String>,
}

impl Container {
    /// A name of the cluster that it is told.
    #[must_use]
    pub fn names_cluster(&self) -> Option<&str> {
        self.command.as_deref().or(self.args.as_deref()).or(self.env.as_deref())
    }
}

/// `ports` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// `containerPort`.
    pub container_port: u16,
    /// `protocol`.
    pub protocol: String,
}

/// `resources`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `limits`.
    #[serde(deserialize_with = "nullable")]
    pub limits: Amounts,
    /// `requests`.
    #[serde(deserialize_with = "nullable")]
    pub requests: Amounts,
}

/// Amounts of what Nameward looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Amounts {
    /// `memory`, bytes.
    #[serde(deserialize_with = "quantity")]
    pub memory: Option<u64>,
}

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `phase`.
    pub phase: String,
    /// `podIPs`.
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pub pod_ips: Vec<PodIp>,
    /// `conditions`.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<PodCondition>,
    /// `containerStatuses`.
    #[serde(deserialize_with = "nullable")]
    pub container_statuses: Vec<ContainerStatus>,
}

/// One of `status.podIPs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// `ip`.
    pub ip: String,
}

/// One of `status.conditions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// `type`.
    pub r#type: String,
    /// `status`.
    pub status: String,
    /// `reason`.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// `message`, cut.
    #[serde(deserialize_with = "cut")]
    pub message: String,
    /// `lastTransitionTime`.
    #[serde(rename = "lastTransitionTime", deserialize_with = "lenient")]
    pub since: Option<Timestamp>,
}

/// One of `status.containerStatuses`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// `name`.
    pub name: String,
    /// `restartCount`.
    pub restart_count: u32,
    /// `state`.
    #[serde(deserialize_with = "nullable")]
    pub state: ContainerState,
    /// `lastState`.
    #[serde(deserialize_with = "nullable")]
    pub last_state: ContainerState,
    /// `resources`: what the runtime has applied.
    #[serde(deserialize_with = "nullable")]
    pub resources: Resources,
}

impl ContainerStatus {
    /// The kills for want of memory that the status shows: `lastState` first, then `state`.
    pub fn oom_kills(&self) -> impl Iterator<Item = Timestamp> + '_ {
        [&self.last_state, &self.state]
            .into_iter()
            .filter_map(|state| state.terminated.as_ref())
            .filter(|terminated| terminated.reason == "OOMKilled")
            .filter_map(|terminated| terminated.finished_at)
    }
}

/// `state` or `lastState`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// `terminated`.
    pub terminated: Option<Terminated>,
    /// `waiting`.
    pub waiting: Option<Waiting>,
    /// `running`.
    pub running: Option<Running>,
}

/// `waiting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// `reason`.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// `message`, cut.
    #[serde(deserialize_with = "cut")]
    pub message: String,
}

/// `running`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Running {
    /// `startedAt`.
    #[serde(deserialize_with = "lenient")]
    pub started_at: Option<Timestamp>,
}

/// `terminated`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// `reason`.
    pub reason: String,
    /// `message`, cut.
    #[serde(deserialize_with = "cut")]
    pub message: String,
    /// `exitCode`.
    #[serde(deserialize_with = "nullable")]
    pub exit_code: i32,
    /// `startedAt`.
    #[serde(deserialize_with = "lenient")]
    pub started_at: Option<Timestamp>,
    /// `finishedAt`.
    #[serde(deserialize_with = "lenient")]
    pub finished_at: Option<Timestamp>,
}

/// The end of a text: a message that the kubelet takes from a log ends with what matters, and control characters are not
/// for people's terminals.
fn cut<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text: String = nullable(from)?;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let surplus = text.chars().count().saturating_sub(nameward_messages::workload::MESSAGE);
    Ok(text.chars().skip(surplus).map(clean).collect::<String>().trim().to_owned())
}
