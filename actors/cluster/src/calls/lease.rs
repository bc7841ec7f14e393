//! The Lease: what [`crate::lease::Election`] asks for, done.

use http::Method;
use jiff::Timestamp;
use nameward_messages::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, CallError, Cluster, JSON, Operation, Run};
use crate::failure::Class;
use crate::lease::{Call, CallResult, Record};

#[derive(Default, Deserialize)]
#[serde(default)]
struct LeaseObject {
    metadata: crate::wire::Meta,
    spec: LeaseSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaseSpec {
    #[serde(deserialize_with = "crate::wire::nullable")]
    holder_identity: String,
    #[serde(deserialize_with = "crate::wire::nullable")]
    lease_duration_seconds: u32,
    #[serde(deserialize_with = "crate::wire::nullable")]
    lease_transitions: u32,
    #[serde(deserialize_with = "crate::wire::lenient")]
    acquire_time: Option<Timestamp>,
    #[serde(deserialize_with = "crate::wire::lenient")]
    renew_time: Option<Timestamp>,
}

impl From<LeaseObject> for Record {
    fn from(lease: LeaseObject) -> Self {
        Self {
            holder: lease.spec.holder_identity,
            duration_s: lease.spec.lease_duration_seconds,
            transitions: lease.spec.lease_transitions,
            acquired_at: lease.spec.acquire_time,
            renewed_at: lease.spec.renew_time,
            resource_version: lease.metadata.resource_version,
        }
    }
}

impl Cluster {
    /// Makes the call that the election asked for, within `call_timeout`. Never fails: a failure is a result too.
    pub async fn lease(&self, key: &ObjectKey, call: Call) -> CallResult {
        let outcome = match call {
            Call::Get => self.get_lease(key).await,
            Call::Create(record) => self.create_lease(key, &record).await,
            Call::Replace(record) => self.replace_lease(key, &record).await,
        };
        match outcome {
            Ok(record) => CallResult::Record(record),
            Err(error) => match (&error.operation, &error.class) {
                (Operation::ReadLease(_), Class::NotFound) => CallResult::Absent,
                (_, Class::Conflict | Class::NotFound) => CallResult::Conflict,
                _ => CallResult::Failed(error.explain()),
            },
        }
    }

    /// Reads the Lease.
    ///
    /// # Errors
    /// The call failed.
    pub async fn get_lease(&self, key: &ObjectKey) -> Result<Record, CallError> {
        let path = format!("{}/{}", leases(&key.namespace), key.name);
        Ok(self.send::<LeaseObject>(Ask::get(Operation::ReadLease(key.clone()), path)).await?.into())
    }

    /// Creates the Lease.
    ///
    /// # Errors
    /// [`Conflict`](Class::Conflict): it exists.
    pub async fn create_lease(&self, key: &ObjectKey, record: &Record) -> Result<Record, CallError> {
        let operation = Operation::CreateLease(key.clone());
        let ask = Ask::write(operation, Method::POST, leases(&key.namespace), (JSON, body(key, record)), Run::Real);
        Ok(self.send::<LeaseObject>(ask).await?.into())
    }

    /// Replaces the Lease, conditional on the record's `resource_version`.
    ///
    /// # Errors
    /// [`Conflict`](Class::Conflict): somebody else wrote first.
    pub async fn replace_lease(&self, key: &ObjectKey, record: &Record) -> Result<Record, CallError> {
        let operation = Operation::ReplaceLease(key.clone());
        let path = format!("{}/{}", leases(&key.namespace), key.name);
        let ask = Ask::write(operation, Method::PUT, path, (JSON, body(key, record)), Run::Real);
        Ok(self.send::<LeaseObject>(ask).await?.into())
    }
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

fn body(key: &ObjectKey, record: &Record) -> Value {
    let mut metadata = json!({"name": key.name, "namespace": key.namespace});
    if !record.resource_version.is_empty() {
        metadata["resourceVersion"] = json!(record.resource_version);
    }
    // `MicroTime`: six digits, always.
    let time = |at: Option<Timestamp>| at.map(|at| format!("{at:.6}"));
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": record.duration_s,
            "leaseTransitions": record.transitions,
            "acquireTime": time(record.acquired_at),
            "renewTime": time(record.renewed_at),
        },
    })
}
