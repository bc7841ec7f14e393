//! Decoded objects as kube's client and watcher want them: with a kind, a path and `metadata`.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer};

use crate::names::{GROUP, VERSION};
use crate::wire::{
    AgentObject, Budget, ConfigMap, DaemonSet, Deployment, EndpointSlice, IncidentObject, NamespaceObject, NodeObject,
    Object, Pod, Service,
};

/// Where a kind lives in the API.
pub trait Kind: Object {
    /// Namespaced or cluster-scoped.
    type Scope: 'static;
    /// The group; empty for the core group.
    const GROUP: &'static str;
    /// The version.
    const VERSION: &'static str;
    /// The kind.
    const KIND: &'static str;
    /// The plural of paths.
    const PLURAL: &'static str;
    /// Metadata alone is asked for.
    const METADATA_ONLY: bool = false;
}

macro_rules! kinds {
    ($($object:ty: $scope:ty, $group:expr, $version:expr, $kind:literal, $plural:literal $(, $metadata:literal)?;)*) => { $(
        impl Kind for $object {
            type Scope = $scope;
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const KIND: &'static str = $kind;
            const PLURAL: &'static str = $plural;
            $(const METADATA_ONLY: bool = $metadata;)?
        }
    )* };
}
kinds! {
    Pod: NamespaceResourceScope, "", "v1", "Pod", "pods";
    Service: NamespaceResourceScope, "", "v1", "Service", "services";
    ConfigMap: NamespaceResourceScope, "", "v1", "ConfigMap", "configmaps";
    NodeObject: ClusterResourceScope, "", "v1", "Node", "nodes", true;
    NamespaceObject: ClusterResourceScope, "", "v1", "Namespace", "namespaces", true;
    EndpointSlice: NamespaceResourceScope, "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices";
    Deployment: NamespaceResourceScope, "apps", "v1", "Deployment", "deployments";
    DaemonSet: NamespaceResourceScope, "apps", "v1", "DaemonSet", "daemonsets";
    Budget: NamespaceResourceScope, "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets";
    AgentObject: ClusterResourceScope, GROUP, VERSION, "NodeAgent", "nodeagents";
    IncidentObject: ClusterResourceScope, GROUP, VERSION, "DnsIncident", "dnsincidents";
}

/// An object reduced while it was decoded, with what kube's watcher asks of it: its name and its `resourceVersion`.
#[derive(Clone, Debug)]
pub struct Watched<W> {
    meta: ObjectMeta,
    /// The object.
    pub object: W,
}

impl<'de, W: Deserialize<'de> + Object> Deserialize<'de> for Watched<W> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let object = W::deserialize(from)?;
        let from = object.meta();
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let meta = ObjectMeta {
            name: some(&from.name),
            namespace: some(&from.namespace),
            uid: some(&from.uid),
            resource_version: some(&from.resource_version),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, object })
    }
}

impl<W: Kind> Resource for Watched<W> {
    type DynamicType = ();
    type Scope = W::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        W::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        W::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        W::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        W::PLURAL.into()
    }

    fn metadata_api() -> bool {
        W::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
