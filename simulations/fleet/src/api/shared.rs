//! What the shared executor asks of the API server.

use nameward_messages::cluster_view::WorkloadKind;
use nameward_messages::{ObjectKey, PodUid};
use nameward_remedy::shared::call::{ApiCall, CallError, CallResult, IncidentRead, PodRead, Reply, WorkloadRead};

use super::Change;
use crate::check::Act;
use crate::world::World;

impl World {
    fn read_incident(&self, name: &str) -> Option<IncidentRead> {
        self.api.incidents.get(name).map(|stored| IncidentRead {
            name: name.to_owned(),
            resource_version: stored.version.to_string(),
            status: stored.status.clone(),
        })
    }

    /// Carries a request out. What touches CoreDNS is told to the checker with what holds at that moment.
    pub(crate) fn carry_out(&mut self, process: usize, call: &ApiCall, on_behalf: &Act) -> CallResult {
        match call {
            ApiCall::ReadIncident { name } => Ok(Reply::Incident(self.read_incident(name))),
            ApiCall::ListIncidents => {
                Ok(Reply::Incidents(self.api.incidents.keys().filter_map(|name| self.read_incident(name)).collect()))
            }
            ApiCall::WriteIncident { name, resource_version, status } => {
                let version = self.api.next_version();
                let Some(stored) = self.api.incidents.get_mut(name) else { return Err(CallError::NotFound) };
                if stored.version.to_string() != *resource_version {
                    return Err(CallError::Conflict("the object has been modified".to_owned()));
                }
                stored.status = (**status).clone();
                stored.version = version;
                self.incident_changed(name);
                Ok(Reply::Written { resource_version: version.to_string() })
            }
            ApiCall::ReadPod { pod } => {
                let found = self.api.pods.iter().find(|p| p.key == *pod);
                Ok(Reply::Pod(found.map(|pod| PodRead {
                    uid: pod.uid.clone(),
                    resource_version: pod.version.to_string(),
                    ready: pod.ready && pod.terminating.is_none(),
                    terminating: pod.terminating.is_some(),
                })))
            }
            ApiCall::ReadWorkload { kind: WorkloadKind::DaemonSet, .. } => Ok(Reply::Workload(None)),
            ApiCall::ReadWorkload { .. } => Ok(Reply::Workload(Some(self.workload_read()))),
            ApiCall::Evict { pod, uid, resource_version, dry_run } => {
                let result = self.evict(pod, uid, resource_version, *dry_run, process, on_behalf);
                if !dry_run {
                    self.trace.line(self.now, format_args!("api"), || format!("eviction of {pod}: {result:?}"));
                }
                result
            }
            ApiCall::PatchMemory { resource_version, to, dry_run, .. } => {
                self.patch_memory(resource_version, *to, *dry_run, process, on_behalf)
            }
            ApiCall::Scale { resource_version, to, dry_run, .. } => {
                let holds = resource_version.is_empty() || self.api.workload.version.to_string() == *resource_version;
                self.check_act(process, call, on_behalf, holds);
                if !holds {
                    return Err(CallError::Conflict("the object has been modified".to_owned()));
                }
                if !dry_run {
                    self.stats.others += 1;
                    self.happen(crate::fault::Fault::Scale(*to));
                    self.api.workload.scaled_by_us = true;
                }
                Ok(Reply::Accepted)
            }
            ApiCall::ResizePod { uid, to, .. } => {
                let from = self.api.pod(uid).map(|pod| pod.limit);
                self.check_act(process, call, on_behalf, from.is_some());
                let Some(pod) = self.api.pods.iter_mut().find(|pod| pod.uid == *uid) else {
                    return Err(CallError::NotFound);
                };
                pod.limit = *to;
                let uid = uid.clone();
                self.api.pods_changed(self.now, Some(&uid));
                self.told_of_change();
                Ok(Reply::Accepted)
            }
        }
    }

    fn workload_read(&self) -> WorkloadRead {
        let workload = &self.api.workload;
        WorkloadRead {
            resource_version: workload.version.to_string(),
            replicas: workload.replicas,
            ready: self.api.ready(),
            // One at a time, and of one none before the next is there.
            rolls_away: u32::from(workload.replicas > 1),
            rollout: self.api.rollout(),
            paused: workload.paused,
            memory_limits: [("coredns".to_owned(), workload.limit)].into(),
            memory_owner: workload.memory_owner.clone(),
            replicas_owner: workload.replicas_owner.clone(),
            scaled_by_us: workload.scaled_by_us,
        }
    }

    fn evict(
        &mut self,
        key: &ObjectKey,
        uid: &PodUid,
        version: &str,
        dry: bool,
        process: usize,
        on_behalf: &Act,
    ) -> CallResult {
        let call =
            ApiCall::Evict { pod: key.clone(), uid: uid.clone(), resource_version: version.to_owned(), dry_run: dry };
        let verdict = self.admit(key, uid, version);
        self.check_act(process, &call, on_behalf, verdict.is_ok());
        verdict?;
        if dry {
            return Ok(Reply::Accepted);
        }
        if let Some(place) = self.api.strangers.iter().position(|pod| pod.key == *key) {
            self.api.strangers.remove(place);
            return Ok(Reply::Accepted);
        }
        let sick = self.api.pods.iter().find(|pod| pod.key == *key).and_then(|pod| pod.sick);
        self.take_down(&key.clone());
        self.stats.evictions += 1;
        if self.weather.contagion {
            let cause = sick.map_or(nameward_messages::verdict::Cause::CorednsUdpDead, |(cause, _)| cause);
            let next = self.api.active().find(|pod| pod.sick.is_none()).map(|pod| pod.uid.clone());
            if let Some(next) = next {
                self.sicken(&next, cause);
            }
        }
        Ok(Reply::Accepted)
    }

    /// The eviction API's own judgement.
    fn admit(&self, key: &ObjectKey, uid: &PodUid, version: &str) -> Result<(), CallError> {
        let all = self.api.pods.iter().chain(&self.api.strangers);
        let Some(pod) = all.into_iter().find(|pod| pod.key == *key) else { return Err(CallError::NotFound) };
        if !uid.as_str().is_empty() && pod.uid != *uid {
            return Err(CallError::Conflict("the UID in the precondition does not match".to_owned()));
        }
        if !version.is_empty() && pod.version.to_string() != version {
            return Err(CallError::Conflict("the resourceVersion in the precondition does not match".to_owned()));
        }
        if self.api.blocked {
            return Err(CallError::NotNow(
                "Cannot evict pod as it would violate the pod's disruption budget".to_owned(),
            ));
        }
        match self.api.budgets {
            0 => Ok(()),
            1 => {
                let (healthy, wanted) = (self.api.ready(), self.api.workload.replicas.saturating_sub(1));
                let counts = pod.ready && pod.terminating.is_none();
                let left = healthy.saturating_sub(u32::from(counts));
                if left >= wanted {
                    Ok(())
                } else {
                    Err(CallError::NotNow(
                        "Cannot evict pod as it would violate the pod's disruption budget".to_owned(),
                    ))
                }
            }
            _ => Err(CallError::Refused("this pod has more than one PodDisruptionBudget".to_owned())),
        }
    }

    fn patch_memory(&mut self, version: &str, to: u64, dry: bool, process: usize, on_behalf: &Act) -> CallResult {
        let holds = version.is_empty() || self.api.workload.version.to_string() == version;
        let call = ApiCall::PatchMemory {
            workload: Self::workload_key(),
            kind: WorkloadKind::Deployment,
            resource_version: version.to_owned(),
            container: "coredns".to_owned(),
            to,
            dry_run: dry,
        };
        self.check_act(process, &call, on_behalf, holds);
        if !holds {
            return Err(CallError::Conflict("the object has been modified".to_owned()));
        }
        if dry {
            return Ok(Reply::Accepted);
        }
        self.api.workload.limit = to;
        self.new_template();
        self.stats.raises += 1;
        Ok(Reply::Accepted)
    }

    pub(crate) fn incident_changed(&mut self, name: &str) {
        self.api.changes.push((self.now, Change::Incident(name.to_owned())));
        self.told_of_change();
    }
}
