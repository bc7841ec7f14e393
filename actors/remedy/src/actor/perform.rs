//! One request of the shared executor, made and translated. Nothing is repeated here.

use nameward_cluster::calls::{CallError as Failed, Cluster, Run};
use nameward_cluster::failure::Class;
use nameward_cluster::names::PAUSED;
use nameward_cluster::owners;
use nameward_cluster::wire::{Deployment, IncidentObject, Pod, Workload};
use nameward_messages::ObjectKey;
use nameward_messages::cluster_view::WorkloadKind;

use crate::shared::call::{ApiCall, CallError, CallResult, IncidentRead, PodRead, Reply, WorkloadRead};

/// Makes the request.
pub(super) async fn perform(cluster: &Cluster, call: ApiCall) -> CallResult {
    match call {
        ApiCall::ReadIncident { name } => {
            let read = absent_as_none(cluster.get_incident(&name).await)?;
            Ok(Reply::Incident(read.map(incident).transpose()?))
        }
        ApiCall::WriteIncident { name, resource_version, status } => {
            let written = cluster.write_incident(&name, Some(&resource_version), &status).await.map_err(failed)?;
            Ok(Reply::Written { resource_version: written.metadata.resource_version })
        }
        ApiCall::ListIncidents => {
            let all = cluster.list_incidents().await.map_err(failed)?;
            Ok(Reply::Incidents(all.into_iter().map(incident).collect::<Result<_, _>>()?))
        }
        ApiCall::ReadPod { pod: key } => {
            absent_as_none(cluster.get_pod(&key).await).map(|p| Reply::Pod(p.map(|p| pod(&p))))
        }
        ApiCall::ReadWorkload { workload: key, kind } => {
            let read = read_workload(cluster, &key, kind).await;
            absent_as_none(read).map(|found| Reply::Workload(found.map(|w| workload(&w))))
        }
        ApiCall::Evict { pod, uid, resource_version, dry_run } => {
            cluster.evict(&pod, &uid, &resource_version, run(dry_run)).await.map_err(failed)?;
            Ok(Reply::Accepted)
        }
        ApiCall::PatchMemory { kind: WorkloadKind::DaemonSet, .. } => {
            Err(CallError::Refused("the memory limit of a DaemonSet is not changed".to_owned()))
        }
        ApiCall::PatchMemory { workload, kind: WorkloadKind::Deployment, resource_version, container, to, dry_run } => {
            cluster.raise_memory(&workload, &resource_version, &container, to, run(dry_run)).await.map_err(failed)?;
            Ok(Reply::Accepted)
        }
        ApiCall::Scale { workload, resource_version, to, dry_run } => {
            cluster.scale(&workload, &resource_version, to, run(dry_run)).await.map_err(failed)?;
            Ok(Reply::Accepted)
        }
        ApiCall::ResizePod { pod, uid, container, to } => {
            cluster.resize_pod(&pod, &uid, &container, to, Run::Real).await.map_err(failed)?;
            Ok(Reply::Accepted)
        }
    }
}

async fn read_workload(cluster: &Cluster, key: &ObjectKey, kind: WorkloadKind) -> Result<Workload, Failed> {
    match kind {
        WorkloadKind::Deployment => cluster.get_deployment(key).await.map(|Deployment(found)| found),
        WorkloadKind::DaemonSet => cluster.get_daemon_set(key).await.map(|found| found.0),
    }
}

fn run(dry: bool) -> Run {
    if dry { Run::Dry } else { Run::Real }
}

fn absent_as_none<T>(result: Result<T, Failed>) -> Result<Option<T>, CallError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.class == Class::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: Failed) -> CallError {
    let says = error.explain();
    match error.class {
        Class::NotFound => CallError::NotFound,
        Class::Conflict => CallError::Conflict(says),
        Class::TooMany { .. } => CallError::NotNow(says),
        Class::Forbidden | Class::TwoBudgets | Class::Invalid => CallError::Refused(says),
        Class::Unreachable => CallError::NotSent(says),
        Class::OutcomeUnknown => CallError::Unknown(says),
    }
}

/// A status that cannot be read (of another version) is not taken for an empty one: an intent may stand
/// in it.
fn incident(object: IncidentObject) -> Result<IncidentRead, CallError> {
    let IncidentObject { metadata, status, .. } = object;
    let unreadable = || CallError::Refused(format!("the status of DnsIncident {} cannot be read", metadata.name));
    let status = status.ok_or_else(unreadable)?;
    Ok(IncidentRead { name: metadata.name, resource_version: metadata.resource_version, status })
}

fn pod(pod: &Pod) -> PodRead {
    PodRead {
        uid: pod.metadata.uid.as_str().into(),
        resource_version: pod.metadata.resource_version.clone(),
        ready: pod.ready(),
        terminating: pod.metadata.deletion_timestamp.is_some(),
    }
}

fn workload(found: &Workload) -> WorkloadRead {
    let meta = &found.metadata.meta;
    let containers = &found.spec.template.spec.containers;
    let owner = containers.iter().find_map(|container| {
        owners::reconciler(&meta.labels, &found.metadata.managed_fields, &owners::memory_limit(&container.name))
    });
    let limits = containers.iter().filter_map(|c| c.resources.limits.memory.map(|limit| (c.name.clone(), limit)));
    let replicas = found.spec.replicas.unwrap_or(1).max(found.status.desired_number_scheduled);
    WorkloadRead {
        resource_version: meta.resource_version.clone(),
        replicas,
        ready: found.status.ready_replicas,
        rolls_away: found.rolls_away(replicas),
        rollout: rollout(found),
        paused: meta.flagged(PAUSED),
        memory_limits: limits.collect(),
        memory_owner: owner,
        replicas_owner: owners::reconciler(&meta.labels, &found.metadata.managed_fields, &owners::replicas()),
        scaled_by_us: owners::scaled_by_us(&found.metadata.managed_fields),
    }
}

/// As the watcher judges it: pods that are merely not available are no rollout, that may be the very fault.
fn rollout(found: &Workload) -> Option<String> {
    let status = &found.status;
    let (generation, observed) = (found.metadata.meta.generation, status.observed_generation);
    if observed < generation {
        return Some(format!("generation {generation} is not observed yet (at {observed})"));
    }
    let desired = match status.desired_number_scheduled {
        0 => found.spec.replicas.unwrap_or(1),
        daemons => daemons,
    };
    if status.updated_replicas < desired {
        return Some(format!("{} of {desired} pods are of the newest template", status.updated_replicas));
    }
    if status.replicas > status.updated_replicas {
        return Some(format!(
            "{} pods of an older template are still there",
            status.replicas - status.updated_replicas
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use nameward_messages::plan::IncidentPhase;

    use super::*;

    #[test]
    fn an_incident_whose_status_cannot_be_read_is_not_an_open_one() {
        let read = |json: serde_json::Value| incident(serde_json::from_value(json).unwrap());
        let metadata = serde_json::json!({"name": "one", "resourceVersion": "7"});
        let strange = serde_json::json!({"metadata": metadata, "status": {"phase": "Unheard", "intent": {}}});
        assert!(matches!(read(strange), Err(CallError::Refused(_))));
        // One that was created and not yet written to holds no intent: it is open.
        assert_eq!(read(serde_json::json!({"metadata": metadata})).unwrap().status.phase, IncidentPhase::Open);
        let open = read(serde_json::json!({"metadata": metadata, "status": {"phase": "Open"}})).unwrap();
        assert_eq!(open.resource_version, "7");
    }

    #[test]
    fn fewer_pods_of_the_newest_template_than_wanted_are_a_rollout_as_the_watcher_judges_it() {
        let read = |status: serde_json::Value| -> Workload {
            let spec = serde_json::json!({"replicas": 3});
            let Deployment(found) =
                serde_json::from_value(serde_json::json!({"spec": spec, "status": status})).unwrap();
            found
        };
        assert!(rollout(&read(serde_json::json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}))).is_some());
        assert_eq!(rollout(&read(serde_json::json!({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 1}))), None);
    }
}
