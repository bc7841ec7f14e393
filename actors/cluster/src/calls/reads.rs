//! Reads. Each is a quorum read (no `resourceVersion`), but for where it says otherwise: what is read before an act must not be old.

use http::Method;
use nameward_messages::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, CallError, Cluster, JSON, Operation, Run};
use crate::discovery::{self, DiscoveryError};
use crate::failure::Class;
use crate::names::SERVICE_NAME_LABEL;
use crate::wire::{Budget, ConfigMap, DaemonSet, Deployment, EndpointSlice, NodeObject, Pod, Service};

/// The items of a list.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Items<T> {
    #[serde(default = "Vec::new", deserialize_with = "crate::wire::nullable")]
    pub(super) items: Vec<T>,
}

/// Discovery did not find cluster DNS.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// What was read does not hold it.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// It could not be read.
    #[error("could not look for the DNS Service")]
    Call(#[from] CallError),
}

impl Cluster {
    /// A pod.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_pod(&self, key: &ObjectKey) -> Result<Pod, CallError> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name);
        self.send(Ask::get(Operation::ReadPod(key.clone()), path)).await
    }

    /// The pods of a namespace that a label selector (`k8s-app=kube-dns`) fits.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, CallError> {
        let operation = Operation::ListPods { namespace: namespace.to_owned(), selector: selector.to_owned() };
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}", escaped(selector));
        Ok(self.send::<Items<Pod>>(Ask::get(operation, path)).await?.items)
    }

    /// The pods of a namespace on one node that a label selector fits; at most ten.
    pub(super) async fn list_pods_on(
        &self,
        namespace: &str,
        selector: &str,
        node: &str,
    ) -> Result<Vec<Pod>, CallError> {
        let operation = Operation::ListPods { namespace: namespace.to_owned(), selector: selector.to_owned() };
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods?labelSelector={}&fieldSelector={}&limit=10",
            escaped(selector),
            escaped(&format!("spec.nodeName={node}"))
        );
        Ok(self.send::<Items<Pod>>(Ask::get(operation, path)).await?.items)
    }

    /// A Deployment, with its managed fields.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_deployment(&self, key: &ObjectKey) -> Result<Deployment, CallError> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{}", key.namespace, key.name);
        self.send(Ask::get(Operation::ReadDeployment(key.clone()), path)).await
    }

    /// A DaemonSet.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_daemon_set(&self, key: &ObjectKey) -> Result<DaemonSet, CallError> {
        let path = format!("/apis/apps/v1/namespaces/{}/daemonsets/{}", key.namespace, key.name);
        self.send(Ask::get(Operation::ReadDaemonSet(key.clone()), path)).await
    }

    /// The disruption budgets of a namespace.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_budgets(&self, namespace: &str) -> Result<Vec<Budget>, CallError> {
        let path = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
        Ok(self.send::<Items<Budget>>(Ask::get(Operation::ListBudgets(namespace.to_owned()), path)).await?.items)
    }

    /// A Service.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_service(&self, key: &ObjectKey) -> Result<Service, CallError> {
        let path = format!("/api/v1/namespaces/{}/services/{}", key.namespace, key.name);
        self.send(Ask::get(Operation::ReadService(key.clone()), path)).await
    }

    /// The EndpointSlices of a Service.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_slices(&self, service: &ObjectKey) -> Result<Vec<EndpointSlice>, CallError> {
        let selector = escaped(&format!("{SERVICE_NAME_LABEL}={}", service.name));
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector={selector}",
            service.namespace
        );
        Ok(self.send::<Items<EndpointSlice>>(Ask::get(Operation::ListSlices(service.clone()), path)).await?.items)
    }

    /// One EndpointSlice, as the API server's cache has it: it may be a little old.
    ///
    /// # Errors
    /// The call failed.
    pub async fn cached_slice(&self, key: &ObjectKey) -> Result<EndpointSlice, CallError> {
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}?resourceVersion=0",
            key.namespace, key.name
        );
        self.send(Ask::get(Operation::ReadSlice(key.clone()), path)).await
    }

    /// A ConfigMap.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_config_map(&self, key: &ObjectKey) -> Result<ConfigMap, CallError> {
        let path = format!("/api/v1/namespaces/{}/configmaps/{}", key.namespace, key.name);
        self.send(Ask::get(Operation::ReadConfigMap(key.clone()), path)).await
    }

    /// A node: its metadata, whether it is ready, whether it is cordoned.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_node(&self, name: &str) -> Result<NodeObject, CallError> {
        self.send(Ask::get(Operation::ReadNode(name.to_owned()), format!("/api/v1/nodes/{name}"))).await
    }

    /// The version of the API server, such as `v1.36.2`: the cheapest call there is.
    ///
    /// # Errors
    /// The call failed.
    pub async fn version(&self) -> Result<String, CallError> {
        let answer: Value = self.send(Ask::get(Operation::ReadVersion, "/version")).await?;
        Ok(answer["gitVersion"].as_str().unwrap_or_default().to_owned())
    }

    /// Whether this process may do something, by the API server's own word. `resource` may name a subresource: `pods/eviction`.
    ///
    /// # Errors
    /// The call failed.
    pub async fn may(&self, verb: &str, group: &str, resource: &str, namespace: &str) -> Result<bool, CallError> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let ask = Ask::write(Operation::ReviewAccess, Method::POST, path, (JSON, body), Run::Real);
        let answer: Value = self.send(ask).await?;
        Ok(answer["status"]["allowed"].as_bool().unwrap_or(false))
    }

    /// The DNS Service: the one that `setting` (`namespace/name`) names, else found. One call on most clusters.
    ///
    /// # Errors
    /// It is not there, several could be it, or the API does not answer.
    pub async fn find_dns(&self, setting: &str) -> Result<ObjectKey, NotFound> {
        let setting = discovery::configured(setting)?;
        let candidates: Vec<ObjectKey> = match &setting {
            Some(key) => vec![key.clone()],
            None => discovery::KNOWN.map(|(namespace, name)| ObjectKey::new(namespace, name)).to_vec(),
        };
        let mut seen = Vec::new();
        for key in &candidates {
            match self.get_service(key).await {
                Ok(service) => seen.push(service),
                // A namespace that is not ours to read cannot hold our DNS, unless it was named.
                Err(error) if error.class == Class::NotFound => {}
                Err(error) if error.class == Class::Forbidden && setting.is_none() => {}
                Err(error) => return Err(error.into()),
            }
            if let Ok(found) = discovery::choose(&seen, setting.as_ref()) {
                return Ok(found);
            }
        }
        if setting.is_none() {
            let label = format!("{}={}", discovery::LABEL.0, discovery::LABEL.1);
            let path = format!("/api/v1/services?labelSelector={}", escaped(&label));
            match self.send::<Items<Service>>(Ask::get(Operation::ListServices(label), path)).await {
                Ok(listed) => seen.extend(listed.items),
                Err(error) if error.class == Class::Forbidden => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(discovery::choose(&seen, setting.as_ref())?)
    }
}

/// A query value with what label selectors contain escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
