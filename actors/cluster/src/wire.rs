//! Kubernetes objects as they come over the wire, reduced while they are decoded to the fields that Nameward reads.
//!
//! Volumes, environments, probes, managed fields of pods and foreign annotations are never kept, so a watch of a large
//! node costs what it must and no more. Everything is optional: an object that lacks a field, or has `null` where a list
//! is expected (Go writes an empty slice so), is decoded, since one odd object must not break a watch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::memory::parse_quantity;

mod agents;
mod dns;
mod mention;
mod outside;
mod pod;
mod workload;

pub use agents::{AgentObject, IncidentObject};
pub use dns::{ConfigMap, Endpoint, EndpointConditions, EndpointSlice, Service, ServicePort, SlicePort, TargetRef};
pub use outside::{
    AddressedStatus, ExposedPort, ExposedService, ExposedSpec, ExposedStatus, Ingress, Job, JobStatus, LoadBalancer,
    NodeAddress, NodeWithAddresses, ProbeContainer, ProbeEnd, ProbePod, ProbePodStatus, ProbeState,
};
pub use pod::{
    Container, ContainerState, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus, Resources, Running, Terminated,
    Waiting,
};
pub use workload::{
    Budget, DaemonSet, Deployment, LabelSelector, NamespaceObject, NodeCondition, NodeObject, NodeSpec, NodeStatus,
    Requirement, Workload, WorkloadStatus,
};

/// What every decoded object has.
pub trait Object {
    /// Its metadata.
    fn meta(&self) -> &Meta;
}

macro_rules! objects {
    ($($kind:ty),* $(,)?) => { $(impl Object for $kind { fn meta(&self) -> &Meta { &self.metadata } })* };
}
objects!(Pod, Service, EndpointSlice, ConfigMap, Budget, NamespaceObject, NodeObject, AgentObject, IncidentObject);

impl Object for Deployment {
    fn meta(&self) -> &Meta {
        &self.0.metadata.meta
    }
}

impl Object for DaemonSet {
    fn meta(&self) -> &Meta {
        &self.0.metadata.meta
    }
}

/// `metadata`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// `name`.
    pub name: String,
    /// `namespace`; empty for cluster-scoped objects.
    pub namespace: String,
    /// `uid`.
    pub uid: String,
    /// `resourceVersion`.
    pub resource_version: String,
    /// `generation`.
    pub generation: i64,
    /// `creationTimestamp`.
    #[serde(deserialize_with = "lenient")]
    pub creation_timestamp: Option<Timestamp>,
    /// `deletionTimestamp`: set while the object is being deleted.
    #[serde(deserialize_with = "lenient")]
    pub deletion_timestamp: Option<Timestamp>,
    /// `labels`.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// `annotations`, those of `nameward.dev/` alone.
    #[serde(deserialize_with = "own_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// `ownerReferences`.
    #[serde(deserialize_with = "nullable")]
    pub owner_references: Vec<OwnerReference>,
}

impl Meta {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> nameward_messages::ObjectKey {
        nameward_messages::ObjectKey::new(self.namespace.clone(), self.name.clone())
    }

    /// The owner that controls the object.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether an annotation of ours is set: present and not `false`.
    #[must_use]
    pub fn flagged(&self, annotation: &str) -> bool {
        self.annotations.get(annotation).is_some_and(|value| !value.trim().eq_ignore_ascii_case("false"))
    }
}

/// One of `metadata.ownerReferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// `kind`.
    pub kind: String,
    /// `name`.
    pub name: String,
    /// `uid`.
    pub uid: String,
    /// `controller`.
    #[serde(deserialize_with = "nullable")]
    pub controller: bool,
}

/// `null` is the default value.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// What cannot be read is `None`: for fields that are only looked at, never acted on.
pub(crate) fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// A quantity in bytes; one that cannot be read is `None`.
pub(crate) fn quantity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => parse_quantity(&text),
        Value::Number(number) => number.as_u64(),
        _ => None,
    })
}

fn own_annotations<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut all: BTreeMap<String, String> = nullable(from)?;
    all.retain(|key, _| key.starts_with("nameward.dev/"));
    Ok(all)
}
