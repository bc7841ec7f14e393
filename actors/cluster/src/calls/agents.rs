//! Nameward's own objects.

use http::Method;
use nameward_messages::NodeName;
use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::report::{NodeOrders, NodeReport};
use serde_json::{Value, json};

use super::reads::Items;
use super::{Ask, CallError, Cluster, JSON, MERGE, Operation, Run, whole};
use crate::names::{GROUP, VERSION};
use crate::wire::{AgentObject, IncidentObject};

fn agents() -> String {
    format!("/apis/{GROUP}/{VERSION}/nodeagents")
}

fn incidents() -> String {
    format!("/apis/{GROUP}/{VERSION}/dnsincidents")
}

/// `metadata` of a patch: conditional when a `resourceVersion` is given.
fn conditional(resource_version: Option<&str>) -> Value {
    resource_version.map_or_else(|| json!({}), |version| json!({"resourceVersion": version}))
}

impl Cluster {
    /// An agent's object.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_agent(&self, node: &NodeName) -> Result<AgentObject, CallError> {
        self.send(Ask::get(Operation::ReadAgent(node.0.clone()), format!("{}/{node}", agents()))).await
    }

    /// Every agent's object.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_agents(&self) -> Result<Vec<AgentObject>, CallError> {
        Ok(self.send::<Items<AgentObject>>(Ask::get(Operation::ListAgents, agents())).await?.items)
    }

    /// Creates an agent's object, owned by its Node (when the Node's uid is known) so that it goes with it.
    ///
    /// # Errors
    /// [`Conflict`](crate::failure::Class::Conflict): it exists.
    pub async fn create_agent(&self, node: &NodeName, node_uid: Option<&str>) -> Result<AgentObject, CallError> {
        let owners: Vec<Value> = node_uid
            .map(|uid| json!({"apiVersion": "v1", "kind": "Node", "name": node.as_str(), "uid": uid}))
            .into_iter()
            .collect();
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "NodeAgent",
            "metadata": {"name": node.as_str(), "ownerReferences": owners},
            "spec": {},
        });
        let operation = Operation::CreateAgent(node.0.clone());
        self.send(Ask::write(operation, Method::POST, agents(), (JSON, body), Run::Real)).await
    }

    /// Writes the whole of an agent's orders. Conditional on `resource_version` if given.
    ///
    /// # Errors
    /// The call failed.
    pub async fn write_orders(
        &self,
        node: &NodeName,
        resource_version: Option<&str>,
        orders: &NodeOrders,
    ) -> Result<AgentObject, CallError> {
        let body = json!({"metadata": conditional(resource_version), "spec": whole(orders)});
        let operation = Operation::WriteOrders(node.0.clone());
        let path = format!("{}/{node}", agents());
        self.send(Ask::write(operation, Method::PATCH, path, (MERGE, body), Run::Real)).await
    }

    /// Writes the whole of an agent's report.
    ///
    /// # Errors
    /// [`NotFound`](crate::failure::Class::NotFound): the object must be created first.
    pub async fn write_report(&self, node: &NodeName, report: &NodeReport) -> Result<AgentObject, CallError> {
        let operation = Operation::WriteReport(node.0.clone());
        let path = format!("{}/{node}/status", agents());
        let body = json!({"status": whole(report)});
        self.send(Ask::write(operation, Method::PATCH, path, (MERGE, body), Run::Real)).await
    }

    /// An incident.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_incident(&self, name: &str) -> Result<IncidentObject, CallError> {
        self.send(Ask::get(Operation::ReadIncident(name.to_owned()), format!("{}/{name}", incidents()))).await
    }

    /// Every incident.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list_incidents(&self) -> Result<Vec<IncidentObject>, CallError> {
        Ok(self.send::<Items<IncidentObject>>(Ask::get(Operation::ListIncidents, incidents())).await?.items)
    }

    /// Creates an incident; its status is written apart.
    ///
    /// # Errors
    /// [`Conflict`](crate::failure::Class::Conflict): it exists.
    pub async fn create_incident(&self, name: &str, spec: &IncidentSpec) -> Result<IncidentObject, CallError> {
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "DnsIncident",
            "metadata": {"name": name},
            "spec": spec,
        });
        let operation = Operation::CreateIncident(name.to_owned());
        self.send(Ask::write(operation, Method::POST, incidents(), (JSON, body), Run::Real)).await
    }

    /// Writes the whole of an incident's status. Conditional on `resource_version` if given: a write-ahead intent must be.
    ///
    /// # Errors
    /// [`Conflict`](crate::failure::Class::Conflict): it changed since it was read.
    pub async fn write_incident(
        &self,
        name: &str,
        resource_version: Option<&str>,
        status: &IncidentStatus,
    ) -> Result<IncidentObject, CallError> {
        let body = json!({"metadata": conditional(resource_version), "status": whole(status)});
        let operation = Operation::WriteIncident(name.to_owned());
        let path = format!("{}/{name}/status", incidents());
        self.send(Ask::write(operation, Method::PATCH, path, (MERGE, body), Run::Real)).await
    }

    /// Deletes an old incident, if it still is the one that was read.
    ///
    /// # Errors
    /// The call failed.
    pub async fn delete_incident(&self, name: &str, uid: &str) -> Result<(), CallError> {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}});
        let operation = Operation::DeleteIncident(name.to_owned());
        let path = format!("{}/{name}", incidents());
        let ask = Ask { operation, method: Method::DELETE, path, content: Some((JSON, body)) };
        self.send::<Value>(ask).await.map(|_| ())
    }
}
