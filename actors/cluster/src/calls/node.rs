//! What is read and written of nodes beyond their state: the pod of kube-proxy, and the opt-in condition.

use http::Method;
use jiff::Timestamp;
use nameward_messages::NodeName;
use serde_json::{Value, json};

use super::{Ask, CallError, Cluster, Operation, Run, STRATEGIC};
use crate::names::DNS_CONDITION;
use crate::wire::{NodeObject, Pod};

/// Where kube-proxy's pods are, and their label (kubeadm, EKS, AKS, kops; GKE's carry `component` and are static pods, which
/// no eviction restarts).
const PROXIES: (&str, &str) = ("kube-system", "k8s-app=kube-proxy");

impl Cluster {
    /// The kube-proxy pod of a node, if there is exactly one.
    ///
    /// # Errors
    /// The call failed.
    pub async fn kube_proxy_on(&self, node: &NodeName) -> Result<Option<Pod>, CallError> {
        let (namespace, selector) = PROXIES;
        let pods = self.list_pods_on(namespace, selector, node.as_str()).await?;
        let mut here = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(here.next().filter(|_| here.next().is_none()))
    }

    /// Writes the condition `ClusterDNSHealthy` of a node, if it does not stand there with this status and reason already.
    /// `true`: written. The other conditions stay as they are (a strategic merge by `type`).
    ///
    /// # Errors
    /// The node could not be read, or the condition not be written.
    pub async fn write_node_condition(
        &self,
        node: &NodeName,
        healthy: bool,
        reason: &str,
        message: &str,
        at: Timestamp,
    ) -> Result<bool, CallError> {
        let status = if healthy { "True" } else { "False" };
        let found: NodeObject = self.get_node(node.as_str()).await?;
        let standing = found.status.conditions.iter().find(|condition| condition.r#type == DNS_CONDITION);
        if standing.is_some_and(|condition| condition.status == status && condition.reason == reason) {
            return Ok(false);
        }
        let message: String = message.chars().take(1000).collect();
        let at = format!("{:.0}", at);
        // The same status for another reason is no transition.
        let same = standing.filter(|condition| condition.status == status);
        let since = same.and_then(|condition| condition.last_transition_time.clone()).unwrap_or_else(|| at.clone());
        let body = json!({"status": {"conditions": [{
            "type": DNS_CONDITION, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since, "lastHeartbeatTime": at,
        }]}});
        let path = format!("/api/v1/nodes/{node}/status");
        let operation = Operation::WriteCondition(node.0.clone());
        self.send::<Value>(Ask::write(operation, Method::PATCH, path, (STRATEGIC, body), Run::Real)).await?;
        Ok(true)
    }
}
