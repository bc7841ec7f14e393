//! What several tests begin with.

use nameward_messages::ObjectKey;
use nameward_messages::cluster_view::{WorkloadKind, WorkloadView};

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
