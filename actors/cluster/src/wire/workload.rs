//! Deployments, DaemonSets, budgets, nodes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Container, Meta, nullable};
use crate::owners::ManagedField;

/// What a Deployment and a DaemonSet have in common, as far as Nameward reads it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// `metadata` with its managed fields.
    pub metadata: OwnedMeta,
    /// `spec`.
    pub spec: WorkloadSpec,
    /// `status`.
    pub status: WorkloadStatus,
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Deployment(pub Workload);

/// A DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct DaemonSet(pub Workload);

/// Metadata with what says who owns which field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnedMeta {
    /// The rest.
    #[serde(flatten)]
    pub meta: Meta,
    /// `managedFields`.
    #[serde(deserialize_with = "nullable")]
    pub managed_fields: Vec<ManagedField>,
}

/// `spec` of a workload.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct WorkloadSpec {
    /// `replicas`; 1 when absent. Not of a DaemonSet.
    pub replicas: Option<u32>,
    /// `selector`.
    pub selector: LabelSelector,
    /// `template`.
    pub template: Template,
}

/// `spec.template`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Template {
    /// `metadata`.
    #[serde(deserialize_with = "nullable")]
    pub metadata: Meta,
    /// `spec`.
    pub spec: TemplateSpec,
}

/// `spec.template.spec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TemplateSpec {
    /// `containers`.
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
}

/// `status` of a Deployment or of a DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// `observedGeneration`.
    pub observed_generation: i64,
    /// Pods that exist: `replicas` or `currentNumberScheduled`.
    #[serde(alias = "currentNumberScheduled")]
    pub replicas: u32,
    /// `readyReplicas` or `numberReady`.
    #[serde(alias = "numberReady")]
    pub ready_replicas: u32,
    /// `updatedReplicas` or `updatedNumberScheduled`.
    #[serde(alias = "updatedNumberScheduled")]
    pub updated_replicas: u32,
    /// `availableReplicas` or `numberAvailable`.
    #[serde(alias = "numberAvailable")]
    pub available_replicas: u32,
    /// `desiredNumberScheduled`, of a DaemonSet.
    pub desired_number_scheduled: u32,
}

/// A label selector. One that selects by nothing selects every object of its namespace, as the API reference says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// `matchLabels`.
    #[serde(deserialize_with = "nullable")]
    pub match_labels: BTreeMap<String, String>,
    /// `matchExpressions`.
    #[serde(deserialize_with = "nullable")]
    pub match_expressions: Vec<Requirement>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// `key`.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// `values`.
    #[serde(deserialize_with = "nullable")]
    pub values: Vec<String>,
}

impl LabelSelector {
    /// Whether these labels are selected. An operator that is not known selects nothing.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|want| {
                let value = labels.get(&want.key);
                match want.operator.as_str() {
                    "In" => value.is_some_and(|value| want.values.contains(value)),
                    "NotIn" => value.is_none_or(|value| !want.values.contains(value)),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: BudgetSpec,
    /// `status`.
    pub status: BudgetStatus,
}

/// `spec` of a budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetSpec {
    /// `selector`; absent selects nothing.
    pub selector: Option<LabelSelector>,
    /// `unhealthyPodEvictionPolicy`.
    pub unhealthy_pod_eviction_policy: Option<String>,
}

/// `status` of a budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    /// `disruptionsAllowed`.
    pub disruptions_allowed: i32,
    /// `currentHealthy`.
    pub current_healthy: i32,
    /// `desiredHealthy`.
    pub desired_healthy: i32,
    /// `observedGeneration`.
    pub observed_generation: i64,
}

/// A node. A watch of metadata alone leaves the rest empty: what is not there is not known.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeObject {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    #[serde(deserialize_with = "nullable")]
    pub spec: Option<NodeSpec>,
    /// `status`.
    #[serde(deserialize_with = "nullable")]
    pub status: NodeStatus,
}

/// A namespace, by its metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NamespaceObject {
    /// `metadata`.
    pub metadata: Meta,
}

/// `spec` of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// `unschedulable`: cordoned, as at the beginning of a drain.
    #[serde(deserialize_with = "nullable")]
    pub unschedulable: bool,
}

/// `status` of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// `conditions`.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<NodeCondition>,
}

/// One condition of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeCondition {
    /// `type`.
    pub r#type: String,
    /// `status`: `True`, `False` or `Unknown`.
    pub status: String,
    /// `reason`.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
}

impl NodeObject {
    /// Whether it is ready: `None` when its status was not read. `Unknown` is what the control plane writes when a kubelet
    /// is silent: not ready.
    #[must_use]
    pub fn ready(&self) -> Option<bool> {
        self.status.conditions.iter().find(|c| c.r#type == "Ready").map(|c| c.status == "True")
    }
}
