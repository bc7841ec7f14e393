//! Which resources are served, and how each differs from the others.

use std::sync::Arc;

use serde_json::Value;

/// One kind of object.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    /// `status` is written through the subresource only.
    pub(crate) status: bool,
    /// `metadata.generation` counts changes of the specification.
    pub(crate) generation: bool,
    /// Served subresources beside `status`.
    pub(crate) subresources: Vec<String>,
    /// The schema, for custom resources.
    pub(crate) schema: Option<Arc<Value>>,
}

impl Resource {
    /// `pods`, `deployments.apps`.
    pub(crate) fn qualified(&self) -> String {
        qualify(&self.plural, &self.group)
    }

    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether it was defined by a CustomResourceDefinition.
    pub(crate) fn custom(&self) -> bool {
        self.schema.is_some()
    }

    /// Whether this subresource exists.
    pub(crate) fn serves(&self, subresource: &str) -> bool {
        (subresource == "status" && self.status) || self.subresources.iter().any(|name| name == subresource)
    }

    /// Whether a PUT without resourceVersion is taken.
    pub(crate) fn unconditional_update(&self) -> bool {
        !self.custom() && self.plural != "leases"
    }
}

/// `plural.group`, or the plural alone in the core group.
pub(crate) fn qualify(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

const SCOPED: u8 = 1;
const STATUS: u8 = 2;
const GENERATION: u8 = 4;

/// group, version, plural, singular, kind, flags, further subresources.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, u8, &'static [&'static str]);

const BUILT_IN: &[Row] = &[
    ("", "v1", "pods", "pod", "Pod", SCOPED | STATUS | GENERATION, &["eviction", "resize"]),
    ("", "v1", "services", "service", "Service", SCOPED | STATUS, &[]),
    ("", "v1", "nodes", "node", "Node", STATUS, &[]),
    ("", "v1", "namespaces", "namespace", "Namespace", STATUS, &[]),
    ("", "v1", "configmaps", "configmap", "ConfigMap", SCOPED, &[]),
    ("", "v1", "events", "event", "Event", SCOPED, &[]),
    ("", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount", SCOPED, &[]),
    ("apps", "v1", "deployments", "deployment", "Deployment", SCOPED | STATUS | GENERATION, &["scale"]),
    ("apps", "v1", "replicasets", "replicaset", "ReplicaSet", SCOPED | STATUS | GENERATION, &["scale"]),
    ("apps", "v1", "daemonsets", "daemonset", "DaemonSet", SCOPED | STATUS | GENERATION, &[]),
    ("batch", "v1", "jobs", "job", "Job", SCOPED | STATUS | GENERATION, &[]),
    (
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
        "HorizontalPodAutoscaler",
        SCOPED | STATUS,
        &[],
    ),
    ("discovery.k8s.io", "v1", "endpointslices", "endpointslice", "EndpointSlice", SCOPED | GENERATION, &[]),
    (
        "policy",
        "v1",
        "poddisruptionbudgets",
        "poddisruptionbudget",
        "PodDisruptionBudget",
        SCOPED | STATUS | GENERATION,
        &[],
    ),
    ("coordination.k8s.io", "v1", "leases", "lease", "Lease", SCOPED, &[]),
    ("events.k8s.io", "v1", "events", "event", "Event", SCOPED, &[]),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "clusterrole", "ClusterRole", 0, &[]),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding", 0, &[]),
    ("rbac.authorization.k8s.io", "v1", "roles", "role", "Role", SCOPED, &[]),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "rolebinding", "RoleBinding", SCOPED, &[]),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "customresourcedefinition",
        "CustomResourceDefinition",
        STATUS | GENERATION,
        &[],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "validatingadmissionpolicy",
        "ValidatingAdmissionPolicy",
        STATUS | GENERATION,
        &[],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding",
        "ValidatingAdmissionPolicyBinding",
        GENERATION,
        &[],
    ),
];

/// Everything that is served before any custom resource is defined.
pub(crate) fn built_in() -> Vec<Resource> {
    BUILT_IN
        .iter()
        .map(|(group, version, plural, singular, kind, flags, subresources)| Resource {
            group: (*group).into(),
            version: (*version).into(),
            plural: (*plural).into(),
            singular: (*singular).into(),
            kind: (*kind).into(),
            namespaced: flags & SCOPED != 0,
            status: flags & STATUS != 0,
            generation: flags & GENERATION != 0,
            subresources: subresources.iter().map(|name| (*name).to_owned()).collect(),
            schema: None,
        })
        .collect()
}
