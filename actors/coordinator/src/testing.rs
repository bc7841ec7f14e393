//! What several tests begin with.

use nameward_messages::ObjectKey;
use nameward_messages::cluster_view::{DnsPodView, WorkloadKind, WorkloadView};

/// CoreDNS as a Deployment of two, both ready, without a memory limit; nobody else's.
pub(crate) fn workload() -> WorkloadView {
    WorkloadView {
        kind: WorkloadKind::Deployment,
        key: ObjectKey::new("kube-system", "coredns"),
        uid: "w".into(),
        resource_version: "1".into(),
        replicas: 2,
        ready: 2,
        updated: 2,
        available: 2,
        generation: 1,
        observed_generation: 1,
        container: Some("coredns".into()),
        memory_limit: None,
        paused: false,
        memory_owner: None,
        replicas_owner: None,
    }
}

/// A CoreDNS pod that runs and is ready; its name is its uid, and nothing is known of its containers.
pub(crate) fn pod(name: &str, node: &str) -> DnsPodView {
    DnsPodView {
        uid: name.into(),
        key: ObjectKey::new("kube-system", name),
        resource_version: "1".into(),
        node: Some(node.into()),
        phase: "Running".into(),
        ready: true,
        terminating: false,
        created_at: None,
        owner: None,
        containers: vec![],
    }
}
