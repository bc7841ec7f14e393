//! What an owner leaves behind goes with it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Pass;
use crate::apiserver::{list, text};

/// Kinds that have owners, and kinds that own.
const DEPENDENTS: [&str; 4] = ["ReplicaSet", "Pod", "EndpointSlice", "NodeAgent"];
const OWNERS: [&str; 6] = ["Deployment", "ReplicaSet", "DaemonSet", "Job", "Service", "Node"];

/// Deletes what belongs to nobody any more.
pub(crate) fn step(pass: &Pass<'_>) {
    let mut living = BTreeSet::new();
    for kind in OWNERS {
        for owner in pass.handle.list(kind, "", "") {
            living.insert(text(&owner, &["metadata", "uid"]).to_owned());
        }
    }
    for kind in DEPENDENTS {
        for object in pass.handle.list(kind, "", "") {
            let owners: Vec<&Value> = list(&object, &["metadata", "ownerReferences"])
                .iter()
                .filter(|owner| OWNERS.contains(&text(owner, &["kind"])))
                .collect();
            let orphaned = !owners.is_empty() && !owners.iter().any(|owner| living.contains(text(owner, &["uid"])));
            if orphaned && text(&object, &["metadata", "deletionTimestamp"]).is_empty() {
                let (namespace, name) =
                    (text(&object, &["metadata", "namespace"]), text(&object, &["metadata", "name"]));
                if let Err(error) = pass.handle.machinery("kube-controller-manager").delete(kind, namespace, name) {
                    tracing::debug!(%error, kind, "was gone already");
                }
            }
        }
    }
}
