//! What a look from outside the cluster asks: addresses, and probe Jobs.

use http::Method;
use nameward_messages::ObjectKey;
use serde_json::{Value, json};

use super::reads::{Items, escaped};
use super::{Ask, CallError, Cluster, JSON, Operation, Run};
use crate::wire::{ExposedService, Job, NodeWithAddresses, ProbePod};

/// Most nodes that are listed: enough to choose a few of.
const NODES: usize = 500;
/// Most Jobs and pods of ours that are listed at once.
const OURS: usize = 100;

fn jobs(namespace: &str) -> String {
    format!("/apis/batch/v1/namespaces/{namespace}/jobs")
}

impl Cluster {
    /// The Services of a namespace, with all that makes them reachable from outside.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_exposed_services(&self, namespace: &str) -> Result<Vec<ExposedService>, CallError> {
        let path = format!("/api/v1/namespaces/{namespace}/services?limit={OURS}");
        let operation = Operation::ListServicesIn(namespace.to_owned());
        Ok(self.send::<Items<ExposedService>>(Ask::get(operation, path)).await?.items)
    }

    /// The nodes with their addresses; at most five hundred.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_nodes(&self) -> Result<Vec<NodeWithAddresses>, CallError> {
        let path = format!("/api/v1/nodes?limit={NODES}");
        Ok(self.send::<Items<NodeWithAddresses>>(Ask::get(Operation::ListNodes, path)).await?.items)
    }

    /// Creates a Job. The body is the caller's, whole.
    ///
    /// # Errors
    /// The call failed.
    pub async fn create_job(&self, key: &ObjectKey, body: Value) -> Result<Job, CallError> {
        let operation = Operation::CreateJob(key.clone());
        self.send(Ask::write(operation, Method::POST, jobs(&key.namespace), (JSON, body), Run::Real)).await
    }

    /// Has a pod admitted without keeping it: what forbids it is told by the error.
    ///
    /// # Errors
    /// The API server would refuse the pod, or the call failed.
    pub async fn try_pod(&self, namespace: &str, body: Value) -> Result<(), CallError> {
        let operation = Operation::TryPod(namespace.to_owned());
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.send::<Value>(Ask::write(operation, Method::POST, path, (JSON, body), Run::Dry)).await.map(|_| ())
    }

    /// The Jobs of a namespace that a label selector fits; at most a hundred.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_jobs(&self, namespace: &str, selector: &str) -> Result<Vec<Job>, CallError> {
        let operation = Operation::ListJobs { namespace: namespace.to_owned(), selector: selector.to_owned() };
        let path = format!("{}?labelSelector={}&limit={OURS}", jobs(namespace), escaped(selector));
        Ok(self.send::<Items<Job>>(Ask::get(operation, path)).await?.items)
    }

    /// Probe pods with what they left; at most a hundred.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_probe_pods(&self, namespace: &str, selector: &str) -> Result<Vec<ProbePod>, CallError> {
        let operation = Operation::ListPods { namespace: namespace.to_owned(), selector: selector.to_owned() };
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}&limit={OURS}", escaped(selector));
        Ok(self.send::<Items<ProbePod>>(Ask::get(operation, path)).await?.items)
    }

    /// Deletes a Job and its pods with it, if it still is the one that was made.
    ///
    /// # Errors
    /// The call failed.
    pub async fn delete_job(&self, key: &ObjectKey, uid: &str) -> Result<(), CallError> {
        // Left to itself the API orphans the pods of a Job that is deleted by its legacy default.
        let body = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "preconditions": {"uid": uid},
        });
        let operation = Operation::DeleteJob(key.clone());
        let path = format!("{}/{}", jobs(&key.namespace), key.name);
        let ask = Ask { operation, method: Method::DELETE, path, content: Some((JSON, body)) };
        self.send::<Value>(ask).await.map(|_| ())
    }
}
