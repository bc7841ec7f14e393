//! Who owns a field: whether a continuous reconciler would undo, or fight over, what Nameward writes.
//!
//! The API server records per manager which fields it set (`metadata.managedFields`). Managers that write once, at a
//! person's command (kubectl, kubeadm, Helm), do not come back for a field; those below do, and a field of theirs is not
//! ours to write.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::names::MANAGER;

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedField {
    /// `manager`.
    pub manager: String,
    /// `operation`: `Apply` or `Update`.
    pub operation: String,
    /// `subresource`: `status`, `scale` or none.
    pub subresource: String,
    /// `fieldsV1`.
    pub fields_v1: Value,
}

/// Managers that reconcile continuously: what the manager's name contains, and what to call it.
///
/// Sources: argo-cd `common/common.go` (`argocd-controller`) and its older kubectl-style manager
/// (`argocd-application-controller`); Flux `kustomize-controller` and `helm-controller` set their own names as field
/// managers; kubernetes/autoscaler `vertical-pod-autoscaler` (`vpa-*`); EKS add-ons apply as `eks` (EKS user guide,
/// "Determine fields you can customize for Amazon EKS add-ons"); kubernetes-sigs `cluster-proportional-autoscaler`;
/// OpenShift's `dns-operator`; KEDA `keda-operator`; Config Sync `configsync`; Rancher Fleet `fleet-agent`; Gardener
/// `gardener-resource-manager`; Carvel `kapp-controller`; Crossplane providers.
const RECONCILERS: [(&str, &str); 18] = [
    ("argocd", "Argo CD"),
    ("kustomize-controller", "Flux (kustomize-controller)"),
    ("helm-controller", "Flux (helm-controller)"),
    ("vpa-", "the Vertical Pod Autoscaler"),
    ("vertical-pod-autoscaler", "the Vertical Pod Autoscaler"),
    ("horizontal-pod-autoscaler", "the Horizontal Pod Autoscaler"),
    ("cluster-proportional", "the cluster-proportional autoscaler"),
    ("cpvpa", "the cluster-proportional autoscaler"),
    ("addon-manager", "the add-on manager"),
    ("addonmanager", "the add-on manager"),
    ("keda", "KEDA"),
    ("configsync", "Config Sync"),
    ("config-sync", "Config Sync"),
    ("fleet", "Fleet"),
    ("gardener-resource-manager", "Gardener"),
    ("kapp-controller", "kapp-controller"),
    ("crossplane", "Crossplane"),
    ("operator", "an operator"),
];

/// Labels by which an object says that it is reconciled as a whole.
/// `addonmanager.kubernetes.io/mode: Reconcile`: kubernetes/kubernetes `cluster/addons/addon-manager/README.md` (GKE, AKS).
const RECONCILED: [(&str, &str, &str); 1] = [("addonmanager.kubernetes.io/mode", "Reconcile", "the add-on manager")];

/// The memory limit of a container in a workload's template, as a path of `fieldsV1`.
#[must_use]
pub fn memory_limit(container: &str) -> Vec<String> {
    ["f:spec", "f:template", "f:spec", "f:containers"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("k:{}", serde_json::json!({ "name": container }))])
        .chain(["f:resources", "f:limits", "f:memory"].into_iter().map(str::to_owned))
        .collect()
}

/// `spec.replicas`, as a path of `fieldsV1`.
#[must_use]
pub fn replicas() -> Vec<String> {
    vec!["f:spec".to_owned(), "f:replicas".to_owned()]
}

/// The continuous reconciler that owns the field at `path`, if one does: its name, for people.
#[must_use]
pub fn reconciler(labels: &BTreeMap<String, String>, fields: &[ManagedField], path: &[String]) -> Option<String> {
    let by_label = RECONCILED.iter().find(|(key, value, _)| labels.get(*key).is_some_and(|is| is == value));
    if let Some((key, value, name)) = by_label {
        return Some(format!("{name} (label {key}={value})"));
    }
    fields.iter().filter(|field| field.subresource != "status" && owns(&field.fields_v1, path)).find_map(|field| {
        let name = known(field)?;
        Some(format!("{name} (field manager {})", field.manager))
    })
}

/// Whether Nameward alone owns the number of replicas, by the scale subresource: nobody has written it since, nor claims it with us.
#[must_use]
pub fn scaled_by_us(fields: &[ManagedField]) -> bool {
    let path = replicas();
    let ours = |field: &ManagedField| field.manager == MANAGER && field.subresource == "scale";
    let mut owners =
        fields.iter().filter(|field| field.subresource != "status" && owns(&field.fields_v1, &path)).peekable();
    owners.peek().is_some() && owners.all(ours)
}

fn known(field: &ManagedField) -> Option<&'static str> {
    let manager = field.manager.to_ascii_lowercase();
    // The controller manager writes spec.replicas through `scale` only on behalf of a HorizontalPodAutoscaler.
    if manager == "kube-controller-manager" && field.subresource == "scale" {
        return Some("the Horizontal Pod Autoscaler");
    }
    if manager == "eks" {
        return Some("the EKS add-on manager");
    }
    RECONCILERS.iter().find(|(part, _)| manager.contains(part)).map(|(_, name)| *name)
}

/// Whether a set of fields contains the path, or a whole ("atomic") ancestor of it.
fn owns(fields: &Value, path: &[String]) -> bool {
    let mut at = fields;
    for (depth, step) in path.iter().enumerate() {
        match at.as_object() {
            Some(members) if depth > 0 && members.is_empty() => return true,
            Some(members) => match members.get(step) {
                Some(next) => at = next,
                None => return false,
            },
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::recorded;
    use crate::wire::Deployment;

    fn entry(manager: &str, operation: &str, subresource: &str, fields: &Value) -> ManagedField {
        ManagedField {
            manager: manager.to_owned(),
            operation: operation.to_owned(),
            subresource: subresource.to_owned(),
            fields_v1: fields.clone(),
        }
    }

    fn memory_fields() -> Value {
        serde_json::json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"coredns\"}": {".": {}, "f:resources": {"f:limits": {"f:memory": {}}}}}}}}})
    }

    #[test]
    fn the_recorded_deployment_is_ours_to_patch() {
        let deployment: Deployment = recorded("get-deployment-with-managed-fields");
        let meta = &deployment.0.metadata;
        assert!(!meta.managed_fields.is_empty(), "the recording has managed fields");
        let path = memory_limit("coredns");
        assert!(
            meta.managed_fields.iter().any(|field| owns(&field.fields_v1, &path)),
            "somebody owns the memory limit in the recording"
        );
        assert_eq!(reconciler(&meta.meta.labels, &meta.managed_fields, &path), None);
        assert_eq!(reconciler(&meta.meta.labels, &meta.managed_fields, &replicas()), None);
    }

    #[test]
    fn continuous_reconcilers_are_named_and_others_are_not() {
        let path = memory_limit("coredns");
        let none = BTreeMap::new();
        for (manager, theirs) in [
            ("argocd-controller", true),
            ("argocd-application-controller", true),
            ("kustomize-controller", true),
            ("helm-controller", true),
            ("vpa-updater", true),
            ("eks", true),
            ("dns-operator", true),
            ("kubeadm", false),
            ("kubectl", false),
            ("kubectl-client-side-apply", false),
            ("kubectl-edit", false),
            ("helm", false),
            ("nameward", false),
            ("deploy@node1", false),
        ] {
            let fields = [entry(manager, "Update", "", &memory_fields())];
            assert_eq!(reconciler(&none, &fields, &path).is_some(), theirs, "{manager}");
        }
    }

    #[test]
    fn only_the_field_in_question_counts() {
        let path = memory_limit("coredns");
        let other = serde_json::json!({"f:metadata": {"f:labels": {"f:app": {}}}});
        assert_eq!(reconciler(&BTreeMap::new(), &[entry("argocd-controller", "Apply", "", &other)], &path), None);
        let sidecar = serde_json::json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"sidecar\"}": {"f:resources": {"f:limits": {"f:memory": {}}}}}}}}});
        assert_eq!(reconciler(&BTreeMap::new(), &[entry("argocd-controller", "Apply", "", &sidecar)], &path), None);
        let atomic = serde_json::json!({"f:spec": {"f:template": {}}});
        assert!(reconciler(&BTreeMap::new(), &[entry("argocd-controller", "Apply", "", &atomic)], &path).is_some());
    }

    #[test]
    fn the_number_of_replicas_is_ours_while_nobody_else_has_written_or_claimed_it() {
        let scaled = serde_json::json!({"f:spec": {"f:replicas": {}}});
        let status = serde_json::json!({"f:spec": {"f:replicas": {}}, "f:status": {}});
        let us = entry("nameward", "Update", "scale", &scaled);
        let rows = [
            (vec![us.clone()], true),
            (vec![entry("kubeadm", "Update", "", &memory_fields()), us.clone()], true),
            (vec![us.clone(), entry("kube-controller-manager", "Update", "status", &status)], true),
            (vec![entry("kubectl", "Update", "scale", &scaled)], false),
            (vec![entry("nameward", "Update", "", &scaled)], false),
            (vec![us, entry("deploy", "Apply", "", &scaled)], false),
            (vec![entry("nameward", "Update", "scale", &serde_json::json!({}))], false),
            (vec![], false),
        ];
        for (fields, ours) in rows {
            assert_eq!(scaled_by_us(&fields), ours, "{fields:?}");
        }
    }

    #[test]
    fn an_autoscaler_owns_replicas_and_the_add_on_manager_owns_all() {
        let scaled = serde_json::json!({"f:spec": {"f:replicas": {}}});
        let fields = [entry("kube-controller-manager", "Update", "scale", &scaled)];
        assert!(reconciler(&BTreeMap::new(), &fields, &replicas()).is_some());
        let labels = BTreeMap::from([("addonmanager.kubernetes.io/mode".to_owned(), "Reconcile".to_owned())]);
        assert!(reconciler(&labels, &[], &replicas()).is_some());
        let labels = BTreeMap::from([("addonmanager.kubernetes.io/mode".to_owned(), "EnsureExists".to_owned())]);
        assert_eq!(reconciler(&labels, &[], &replicas()), None);
    }
}
