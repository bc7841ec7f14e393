//! The API server: versions, preconditions, lost replies.

use nameward_coordinator::mind::{Output as Wants, Written};
use nameward_messages::PodUid;
use nameward_remedy::shared::call::{ApiCall, CallError, CallResult, IncidentRead, PodRead, Reply, WorkloadRead};

use super::{Act, Stored, World};
use std::time::Duration;

impl World {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn read_incident(&self, name: &str) -> Option<IncidentRead> {
        self.incidents.get(name).map(|i| IncidentRead {
            name: name.to_owned(),
            resource_version: i.version.to_string(),
            status: i.status.clone(),
        })
    }

    fn note(&mut self, process: usize, call: &ApiCall, committed: bool) {
        let intents = self.incidents.values().filter(|i| i.status.intent.is_some()).count();
        let base = Act {
            at: self.now,
            process,
            what: String::new(),
            pod: None,
            dry: false,
            committed,
            ready_after: self.ready(),
            desired: self.desired,
            memory: None,
            owned: self.owner.is_some(),
            intents,
        };
        match call {
            ApiCall::Evict { uid, dry_run, .. } => {
                self.acts.push(Act { what: "evict".into(), pod: Some(uid.clone()), dry: *dry_run, ..base });
            }
            ApiCall::PatchMemory { to, dry_run, .. } => {
                let memory = Some((self.template.1, *to));
                self.acts.push(Act { what: "memory".into(), dry: *dry_run, memory, ..base });
            }
            ApiCall::Scale { to, dry_run, .. } => {
                let what = if *to > self.desired { "add" } else { "lower" };
                self.acts.push(Act { what: what.into(), dry: *dry_run, ..base });
            }
            ApiCall::ResizePod { uid, to, .. } => {
                let from = self.pods.iter().find(|p| p.uid == *uid).map_or(0, |p| p.limit);
                let memory = Some((from, *to));
                self.acts.push(Act { what: "resize".into(), pod: Some(uid.clone()), memory, ..base });
            }
            _ => {}
        }
    }

    pub fn carry_out(&mut self, process: usize, call: &ApiCall) -> CallResult {
        match call {
            ApiCall::ReadIncident { name } => Ok(Reply::Incident(self.read_incident(name))),
            ApiCall::ListIncidents => {
                let names: Vec<String> = self.incidents.keys().cloned().collect();
                Ok(Reply::Incidents(names.iter().filter_map(|n| self.read_incident(n)).collect()))
            }
            ApiCall::WriteIncident { name, resource_version, status } => {
                let version = self.next_version();
                let Some(stored) = self.incidents.get_mut(name) else { return Err(CallError::NotFound) };
                if stored.version.to_string() != *resource_version {
                    return Err(CallError::Conflict("version".into()));
                }
                stored.status = (**status).clone();
                stored.version = version;
                Ok(Reply::Written { resource_version: version.to_string() })
            }
            ApiCall::ReadPod { pod } => {
                Ok(Reply::Pod(self.pods.iter().find(|p| p.name == pod.name).map(|p| PodRead {
                    uid: p.uid.clone(),
                    resource_version: p.version.to_string(),
                    ready: p.ready,
                    terminating: false,
                })))
            }
            ApiCall::ReadWorkload { .. } => Ok(Reply::Workload(Some(WorkloadRead {
                resource_version: self.template.0.to_string(),
                replicas: self.desired,
                rolls_away: 1,
                ready: self.ready(),
                rollout: self.rollout(),
                paused: self.paused,
                memory_limits: [("coredns".to_owned(), self.template.1)].into(),
                memory_owner: self.owner.clone(),
                replicas_owner: self.owner.clone(),
                // Nobody else scales here.
                scaled_by_us: true,
            }))),
            ApiCall::Evict { uid, resource_version, dry_run, .. } => {
                self.evict(process, call, uid, resource_version, *dry_run)
            }
            ApiCall::PatchMemory { resource_version, to, dry_run, .. } => {
                let holds = self.template.0.to_string() == *resource_version;
                self.note(process, call, holds);
                if !holds {
                    return Err(CallError::Conflict("version".into()));
                }
                if !dry_run {
                    self.template = (self.next_version(), *to);
                    self.rollout_until = Some(self.now.mono + Duration::from_secs(8));
                    for pod in &mut self.pods {
                        pod.limit = *to;
                        pod.oom_at = None;
                    }
                }
                Ok(Reply::Accepted)
            }
            ApiCall::Scale { resource_version, to, dry_run, .. } => {
                let holds = self.template.0.to_string() == *resource_version;
                self.note(process, call, holds);
                if !holds {
                    return Err(CallError::Conflict("version".into()));
                }
                if !dry_run {
                    self.template.0 = self.next_version();
                    self.desired = *to;
                    self.scale_pods();
                }
                Ok(Reply::Accepted)
            }
            ApiCall::ResizePod { uid, to, .. } => {
                self.note(process, call, true);
                let Some(pod) = self.pods.iter_mut().find(|p| p.uid == *uid) else { return Err(CallError::NotFound) };
                pod.limit = *to;
                Ok(Reply::Accepted)
            }
        }
    }

    /// The ReplicaSet controller: a new pod on the next node; the youngest goes first.
    fn scale_pods(&mut self) {
        while self.pods.len() < self.desired as usize {
            let node = self.nodes[self.pods.len() % self.nodes.len()].clone();
            self.add_pod(node, false);
            if !self.fix_on_replace {
                let last = self.pods.len() - 1;
                self.break_pod(last);
            }
        }
        while self.pods.len() > self.desired as usize {
            self.pods.pop();
        }
    }

    fn evict(&mut self, process: usize, call: &ApiCall, uid: &PodUid, version: &str, dry: bool) -> CallResult {
        let place = self.pods.iter().position(|p| p.uid == *uid);
        let holds = place.is_some_and(|at| self.pods[at].version.to_string() == version);
        let Some(place) = place.filter(|_| holds) else {
            self.note(process, call, false);
            return Err(if place.is_some() { CallError::Conflict("version".into()) } else { CallError::NotFound });
        };
        if dry {
            self.note(process, call, true);
            return Ok(Reply::Accepted);
        }
        let gone = self.pods.remove(place);
        self.note(process, call, true);
        self.template.0 = self.next_version();
        self.add_pod(gone.node.clone(), false);
        if !self.fix_on_replace {
            let last = self.pods.len() - 1;
            self.break_pod(last);
        }
        Ok(Reply::Accepted)
    }

    /// A want of a coordinator that the API server answers.
    pub fn grant(&mut self, want: &Wants) -> Option<(Written, bool)> {
        match want {
            Wants::OpenIncident { name, spec, status } => {
                let fresh = !self.incidents.contains_key(name);
                if fresh {
                    let version = self.next_version();
                    let stored = Stored { uid: name.clone(), version, spec: spec.clone(), status: (**status).clone() };
                    self.incidents.insert(name.clone(), stored);
                }
                Some((Written::Incident(name.clone()), fresh))
            }
            Wants::UpdateIncident { name, resource_version, status } => {
                let version = self.next_version();
                let mut done = false;
                if let Some(stored) = self.incidents.get_mut(name)
                    && stored.version.to_string() == *resource_version
                {
                    stored.status = (**status).clone();
                    stored.version = version;
                    done = true;
                }
                Some((Written::Incident(name.clone()), done))
            }
            Wants::DeleteIncident { name, .. } => {
                self.incidents.remove(name);
                Some((Written::Incident(name.clone()), true))
            }
            Wants::WriteOrders { node, orders } => {
                for request in &orders.requests {
                    self.asked.entry(request.id.clone()).or_default().nodes.insert(node.clone());
                }
                if let Some(agent) = self.agents.get_mut(node) {
                    agent.orders = (**orders).clone();
                }
                Some((Written::Orders(node.clone()), true))
            }
            // Whether nodes are ready is never known here: that must cost nothing but time.
            Wants::ReadNode(_)
            | Wants::FindKubeProxy(_)
            | Wants::NodeCondition { .. }
            | Wants::Breaker { .. }
            | Wants::Plan(_)
            | Wants::Event { .. }
            | Wants::Record { .. } => None,
        }
    }
}
