//! What the coordinator and the agents ask of the API server, and what claimants write into the Lease.

use std::sync::Arc;

use nameward_cluster::lease::{Call, CallResult, Record};
use nameward_coordinator::mind::{NodeState, Output as Want, Written};
use nameward_coordinator::reporter::{ReadResult, WriteResult};
use nameward_messages::NodeName;
use nameward_messages::report::NodeReport;

use super::{Change, Stored};
use crate::world::World;

impl World {
    /// A claimant's call about the Lease: a compare-and-swap.
    pub(crate) fn lease_call(&mut self, call: &Call) -> CallResult {
        match call {
            Call::Get => self.api.lease.clone().map_or(CallResult::Absent, CallResult::Record),
            Call::Create(_) if self.api.lease.is_some() => CallResult::Conflict,
            Call::Create(record) => self.store_lease(record),
            Call::Replace(record) => match &self.api.lease {
                Some(stands) if stands.resource_version == record.resource_version => self.store_lease(record),
                Some(_) => CallResult::Conflict,
                None => CallResult::Absent,
            },
        }
    }

    fn store_lease(&mut self, record: &Record) -> CallResult {
        let resource_version = self.api.next_version().to_string();
        let record = Record { resource_version, ..record.clone() };
        self.api.lease = Some(record.clone());
        CallResult::Record(record)
    }

    /// What the coordinator wants. `half`: the process ends between the two requests that opening takes.
    pub(crate) fn grant(&mut self, want: &Want, half: bool) -> Option<(Written, bool)> {
        match want {
            Want::OpenIncident { name, spec, status } => {
                let fresh = !self.api.incidents.contains_key(name);
                if fresh {
                    let status = if half { Default::default() } else { (**status).clone() };
                    let version = self.api.next_version();
                    let stored = Stored { version, created: self.now, spec: spec.clone(), status };
                    self.api.incidents.insert(name.clone(), stored);
                    self.incident_changed(name);
                }
                Some((Written::Incident(name.clone()), fresh && !half))
            }
            Want::UpdateIncident { name, resource_version, status } => {
                let version = self.api.next_version();
                let mut done = false;
                if let Some(stored) = self.api.incidents.get_mut(name)
                    && stored.version.to_string() == *resource_version
                {
                    stored.status = (**status).clone();
                    stored.version = version;
                    done = true;
                }
                if done {
                    self.incident_changed(name);
                }
                Some((Written::Incident(name.clone()), done))
            }
            Want::DeleteIncident { name, .. } => {
                self.api.incidents.remove(name);
                self.incident_changed(name);
                Some((Written::Incident(name.clone()), true))
            }
            Want::WriteOrders { node, orders } => {
                let done = self.node_number(node).is_some_and(|n| {
                    self.check_orders(n, orders);
                    let version = self.api.next_version();
                    let agent = &mut self.api.agents[n];
                    agent.orders = (**orders).clone();
                    agent.version = version;
                    self.api.changes.push((self.now, Change::Agent(n)));
                    self.told_of_change();
                    self.tell_orders(n);
                    true
                });
                Some((Written::Orders(node.clone()), done))
            }
            _ => None,
        }
    }

    /// Whether a node is ready.
    pub(crate) fn node_state(&self, node: &NodeName) -> Option<NodeState> {
        let node = &self.nodes[self.node_number(node)?];
        Some(NodeState { ready: Some(node.ready), unschedulable: node.cordoned })
    }

    /// An agent reads its own object.
    pub(crate) fn agent_reads(&self, n: usize) -> ReadResult {
        let agent = &self.api.agents[n];
        if agent.exists {
            ReadResult::Found(agent.report.as_ref().map(|report| Box::new((**report).clone())))
        } else {
            ReadResult::Missing
        }
    }

    pub(crate) fn agent_creates(&mut self, n: usize) -> WriteResult {
        let version = self.api.next_version();
        let agent = &mut self.api.agents[n];
        if agent.exists {
            return WriteResult::Conflict;
        }
        agent.exists = true;
        agent.version = version;
        self.api.changes.push((self.now, Change::Agent(n)));
        self.told_of_change();
        WriteResult::Done
    }

    pub(crate) fn agent_writes(&mut self, n: usize, report: NodeReport) -> WriteResult {
        if !self.api.agents[n].exists {
            return WriteResult::Missing;
        }
        self.check_report(n, &report);
        let version = self.api.next_version();
        let agent = &mut self.api.agents[n];
        agent.version = version;
        agent.written = Some(self.now);
        if report.self_check {
            (agent.vouched, agent.doubts) = (Some(self.now), None);
        } else {
            agent.doubts.get_or_insert(self.now);
        }
        agent.report = Some(Arc::new(report));
        self.api.changes.push((self.now, Change::Agent(n)));
        self.stats.reports += 1;
        self.told_of_change();
        WriteResult::Done
    }
}
