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
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    /// `replicas`; 1 when absent. Not of a DaemonSet.
    pub replicas: Option<u32>,
    /// `selector`.
    pub selector: LabelSelector,
    /// `template`.
    pub template: Template,
    /// `strategy` of a Deployment, `updateStrategy` of a DaemonSet.
    #[serde(alias = "updateStrategy")]
    pub strategy: Strategy,
}

/// How pods are replaced when the template changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Strategy {
    /// `RollingUpdate`, `Recreate`, or `OnDelete`.
    pub r#type: String,
    /// `rollingUpdate`.
    #[serde(deserialize_with = "nullable")]
    pub rolling_update: Rolling,
}

/// `rollingUpdate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rolling {
    /// `maxUnavailable`.
    pub max_unavailable: Option<Amount>,
    /// `maxSurge`.
    pub max_surge: Option<Amount>,
}

/// A number of pods, or a share of them such as `25%`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So much.
    Share(String),
}

impl Amount {
    /// So many of `all`. What is no share is all of them.
    fn of(&self, all: u32, up: bool) -> u32 {
        match self {
            Self::Count(count) => *count,
            Self::Share(text) => match text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok()) {
                Some(percent) if up => all.saturating_mul(percent).div_ceil(100),
                Some(percent) => all.saturating_mul(percent) / 100,
                None => all,
            },
        }
    }
}

impl Workload {
    /// How many of `all` wanted pods a change of the template may take away before others are there, by the rules of the Deployment and the
    /// DaemonSet controller (API reference: `maxUnavailable` of a Deployment is rounded down and 25 % by default, and one if there is
    /// no surge either; that of a DaemonSet is rounded up, and one by default).
    #[must_use]
    pub fn rolls_away(&self, all: u32) -> u32 {
        let Strategy { r#type, rolling_update: Rolling { max_unavailable, max_surge } } = &self.spec.strategy;
        let daemons = self.status.desired_number_scheduled > 0;
        match r#type.as_str() {
            "Recreate" => all,
            "OnDelete" => 0,
            _ if daemons => max_unavailable.as_ref().map_or(1, |amount| amount.of(all, true)).min(all),
            _ => {
                let unavailable = max_unavailable.as_ref().map_or(all / 4, |amount| amount.of(all, false));
                let surge = max_surge.as_ref().map_or(all.div_ceil(4), |amount| amount.of(all, true));
                if unavailable == 0 && surge == 0 { all.min(1) } else { unavailable.min(all) }
            }
        }
    }
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
#[serde(rename_all = "camelCase", default)]
pub struct NodeCondition {
    /// `type`.
    pub r#type: String,
    /// `status`: `True`, `False` or `Unknown`.
    pub status: String,
    /// `reason`.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// `lastTransitionTime`: when `status` changed.
    pub last_transition_time: Option<String>,
}

impl NodeObject {
    /// Whether it is ready: `None` when its status was not read. `Unknown` is what the control plane writes when a kubelet
    /// is silent: not ready.
    #[must_use]
    pub fn ready(&self) -> Option<bool> {
        self.status.conditions.iter().find(|c| c.r#type == "Ready").map(|c| c.status == "True")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_rollout_may_take_away_is_what_its_controller_would() {
        let rolling = |unavailable, surge| json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}}});
        for (object, all, away) in [
            (rolling(json!(1), json!("25%")), 2, 1),
            (rolling(json!("25%"), json!("25%")), 2, 0),
            (rolling(json!("50%"), json!(0)), 3, 1),
            (rolling(json!("100%"), json!(0)), 3, 3),
            (rolling(json!(0), json!(0)), 2, 1),
            (rolling(json!(7), json!(1)), 2, 2),
            (rolling(json!("some"), json!(1)), 2, 2),
            (json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}), 2, 2),
            (json!({"spec": {}}), 4, 1),
            (json!({"spec": {}}), 2, 0),
            (json!({"spec": {"updateStrategy": {"type": "OnDelete"}}, "status": {"desiredNumberScheduled": 3}}), 3, 0),
            (
                json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}, "status": {"desiredNumberScheduled": 3}}),
                3,
                1,
            ),
            (
                json!({"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}}},
                       "status": {"desiredNumberScheduled": 3}}),
                3,
                2,
            ),
        ] {
            let workload: Workload = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(workload.rolls_away(all), away, "{object} of {all}");
        }
    }
}
