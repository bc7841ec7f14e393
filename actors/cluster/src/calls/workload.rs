//! Acts on the DNS workload. Each is conditional on what was read before it.

use http::Method;
use nameward_messages::{ObjectKey, PodUid};
use serde_json::{Value, json};

use super::{Ask, CallError, Cluster, JSON, MERGE, Operation, Run, STRATEGIC};
use crate::memory::format_quantity;
use crate::wire::{Deployment, Pod};

impl Cluster {
    /// Evicts a pod, if it still is the one that was read: uid and `resourceVersion` are preconditions.
    ///
    /// A failed precondition spends the disruption budget for two minutes all the same; a dry run does not.
    ///
    /// # Errors
    /// [`Conflict`](crate::failure::Class::Conflict): it is another pod now, or it changed.
    /// [`TooMany`](crate::failure::Class::TooMany): the budget forbids it.
    /// [`TwoBudgets`](crate::failure::Class::TwoBudgets): no eviction can succeed.
    pub async fn evict(
        &self,
        pod: &ObjectKey,
        uid: &PodUid,
        resource_version: &str,
        run: Run,
    ) -> Result<(), CallError> {
        let mut options = json!({"preconditions": {"uid": uid.as_str(), "resourceVersion": resource_version}});
        if run == Run::Dry {
            options["dryRun"] = json!(["All"]);
        }
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": options,
        });
        let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", pod.namespace, pod.name);
        let ask = Ask::write(Operation::Evict(pod.clone()), Method::POST, path, (JSON, body), run);
        self.send::<Value>(ask).await.map(|_| ())
    }

    /// Sets the memory limit of one container in the template, all other resources preserved. The pods are replaced.
    ///
    /// # Errors
    /// [`Conflict`](crate::failure::Class::Conflict): the Deployment changed since it was read.
    pub async fn raise_memory(
        &self,
        workload: &ObjectKey,
        resource_version: &str,
        container: &str,
        to_bytes: u64,
        run: Run,
    ) -> Result<Deployment, CallError> {
        let body = json!({
            "metadata": {"resourceVersion": resource_version},
            "spec": {"template": {"spec": {"containers": [limit(container, to_bytes)]}}},
        });
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{}", workload.namespace, workload.name);
        let operation = Operation::RaiseMemory(workload.clone());
        self.send(Ask::write(operation, Method::PATCH, path, (STRATEGIC, body), run)).await
    }

    /// Sets the memory limit of a running pod's container in place. It dies with the pod: the template must be raised too.
    ///
    /// # Errors
    /// [`NotFound`](crate::failure::Class::NotFound): the pod is gone, or the cluster cannot resize (before 1.33).
    /// [`Conflict`](crate::failure::Class::Conflict): it is another pod now.
    pub async fn resize_pod(
        &self,
        pod: &ObjectKey,
        uid: &PodUid,
        container: &str,
        to_bytes: u64,
        run: Run,
    ) -> Result<Pod, CallError> {
        let body = json!({"metadata": {"uid": uid.as_str()}, "spec": {"containers": [limit(container, to_bytes)]}});
        let path = format!("/api/v1/namespaces/{}/pods/{}/resize", pod.namespace, pod.name);
        self.send(Ask::write(Operation::ResizePod(pod.clone()), Method::PATCH, path, (STRATEGIC, body), run)).await
    }

    /// Sets the number of replicas.
    ///
    /// # Errors
    /// [`Conflict`](crate::failure::Class::Conflict): the Deployment changed since it was read.
    pub async fn scale(
        &self,
        workload: &ObjectKey,
        resource_version: &str,
        replicas: u32,
        run: Run,
    ) -> Result<(), CallError> {
        let body = json!({"metadata": {"resourceVersion": resource_version}, "spec": {"replicas": replicas}});
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{}/scale", workload.namespace, workload.name);
        let ask = Ask::write(Operation::Scale(workload.clone()), Method::PATCH, path, (MERGE, body), run);
        self.send::<Value>(ask).await.map(|_| ())
    }
}

fn limit(container: &str, bytes: u64) -> Value {
    json!({"name": container, "resources": {"limits": {"memory": format_quantity(bytes)}}})
}
