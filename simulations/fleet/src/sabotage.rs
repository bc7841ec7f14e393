//! One guard taken away, from outside of the minds: they are lied to, or what they ask is changed on its way. The checker must
//! find what the guard was for; that proves that it can fail.

use std::sync::Arc;
use std::time::Duration;

use nameward_config::{Bytes, Config};
use nameward_coordinator::mind::Output as Want;
use nameward_messages::Mono;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::plan::{IncidentPhase, LeaseState};
use nameward_messages::remedy::RemedyOutcome;
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_remedy::shared::call::{ApiCall, CallResult, Reply};

use crate::world::World;

/// Which guard is taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// I1: the coordinator is shown two nodes of all.
    FewNodes,
    /// I2: the coordinator is shown the node faults of one node only.
    OneSickNode,
    /// I11: every node's permit is one for repairs.
    EveryNodesTurn,
    /// I3: every other pod is said to be good.
    AllOthersGood,
    /// I4: more pods are said to be ready than are, and no disruption budget stands in the way.
    MoreReady,
    /// I5: silent agents are said to have spoken a moment ago.
    FreshReports,
    /// I6: agents that should not vouch for themselves do, in the view of the coordinator and in their own.
    AllVouch,
    /// I7: other incidents' intents are not shown, and acts may follow on each other at once.
    AloneInTheWorld,
    /// I8: the Lease never runs out.
    EternalLease,
    /// I9: preconditions are taken off the requests.
    NoPreconditions,
    /// I10: an act without a clear answer is made again.
    ActsAgain,
    /// I11: the minds are given another budget than the history demands.
    NoBudget,
    /// I12: there is no cool-down.
    NoCoolDown,
    /// I13: what made things worse is forgotten.
    NoBreaker,
    /// I14: a watch that is broken looks good.
    OldViewLooksNew,
    /// I15: the journal says that it has written, and has not.
    NoJournal,
    /// I16: what the journal holds is not told after a crash.
    JournalUnread,
    /// I17: nobody owns the limit, and the cap is far away.
    NoOwnerNoCap,
    /// I18: evictions go to a pod of another workload.
    WrongPod,
    /// I20: the kill switch is never seen.
    NoKillSwitch,
    /// I20: agents never see the kill switch, nor that they cannot read it.
    AgentsSeeNoSwitch,
    /// I2: agents are told that permits are good for years.
    PermitsForYears,
    /// Liveness: people are never called.
    NobodyIsCalled,
}

impl Sabotage {
    /// The settings that the minds are given; the checker keeps to those of the history.
    pub(crate) fn config(self, mut config: Config) -> Config {
        let remedy = &mut config.remedy;
        match self {
            // The history demands an hour between two acts; the minds keep to what they would in any case.
            Self::NoBudget => remedy.shared_every.0 = Duration::from_secs(300),
            Self::AloneInTheWorld => {
                remedy.shared_every.0 = Duration::from_secs(1);
                remedy.shared_per_hour = 1000;
                remedy.tries_per_target = 1000;
            }
            Self::NoCoolDown => remedy.cool_down.0 = Duration::ZERO,
            Self::NoOwnerNoCap => remedy.memory_cap = Bytes(1 << 50),
            _ => {}
        }
        config
    }

    pub(crate) fn lease(self, lease: LeaseState, now: Mono) -> LeaseState {
        if self == Self::EternalLease {
            return LeaseState { leading: true, act_until: Some(now + Duration::from_secs(3600)), ..lease };
        }
        lease
    }

    pub(crate) fn switch(self, switch: KillSwitch) -> KillSwitch {
        if self == Self::NoKillSwitch { KillSwitch::Off } else { switch }
    }

    /// What an agent is shown of it.
    pub(crate) fn agents_switch(self, switch: KillSwitch) -> KillSwitch {
        if self == Self::AgentsSeeNoSwitch { KillSwitch::Off } else { switch }
    }

    /// The orders as an agent is shown them.
    pub(crate) fn orders(self, orders: &mut NodeOrders) {
        if let (Self::PermitsForYears, Some(permit)) = (self, &mut orders.permit) {
            permit.valid_s = u32::MAX;
        }
    }

    pub(crate) fn pause_file(self, there: bool) -> bool {
        there && self != Self::NoKillSwitch
    }
}

impl World {
    /// What a process's minds are shown of the cluster.
    pub(crate) fn tampered_view(&mut self, p: usize, view: Arc<ClusterView>) -> Arc<ClusterView> {
        let local = self.processes[p].clock.now(self.now).mono;
        let mut view = view;
        match self.sabotage {
            Sabotage::FewNodes => Arc::make_mut(&mut view).nodes.truncate(2),
            Sabotage::OneSickNode => {
                let mut seen = false;
                each_report(&mut view, |report| {
                    if seen {
                        report.verdicts.retain(|v| v.cause.about().remedy.is_some_and(|kind| kind.shared()));
                    }
                    seen |= !report.verdicts.is_empty();
                });
            }
            Sabotage::AllOthersGood => self.praise(&mut view),
            Sabotage::FreshReports => {
                let tick = local.0.as_secs() / 5;
                for agent in &mut Arc::make_mut(&mut view).agents {
                    agent.changed_at = local;
                    if let Some(report) = &mut agent.report {
                        Arc::make_mut(report).sequence += tick;
                    }
                }
            }
            Sabotage::AllVouch => each_report(&mut view, |report| report.self_check = true),
            Sabotage::AloneInTheWorld => {
                let view = Arc::make_mut(&mut view);
                // What is under way is not shown at all; the rest is open and without intent.
                view.incidents.retain(|incident| {
                    incident.status.intent.is_none() && incident.status.phase != IncidentPhase::Verifying
                });
            }
            Sabotage::NoBreaker => {
                for incident in &mut Arc::make_mut(&mut view).incidents {
                    incident.status.ladder.retain(|record| record.outcome != RemedyOutcome::Ineffective);
                }
            }
            Sabotage::OldViewLooksNew if view.complete => Arc::make_mut(&mut view).fresh_as_of = local,
            Sabotage::NoOwnerNoCap => {
                if let Some(workload) = &mut Arc::make_mut(&mut view).workload {
                    workload.memory_owner = None;
                }
            }
            _ => {}
        }
        view
    }

    /// Every pod but those that its own node names is good for everybody who was asked.
    fn praise(&self, view: &mut Arc<ClusterView>) {
        let named: Vec<_> = view
            .agents
            .iter()
            .filter_map(|agent| agent.report.as_ref())
            .flat_map(|report| report.verdicts.iter().filter_map(|v| v.subject.uid.clone()))
            .take(1)
            .collect();
        each_report(view, |report| {
            for row in report.answers.iter_mut().flat_map(|answer| &mut answer.rows) {
                if row.bad > 0 && row.pod.as_ref().is_some_and(|pod| !named.contains(pod)) {
                    (row.good, row.bad) = (row.bad, 0);
                }
            }
        });
    }

    /// What comes back to an executor.
    pub(crate) fn tampered_reply(&mut self, p: usize, call: &ApiCall, result: CallResult) -> CallResult {
        match (self.sabotage, result) {
            (Sabotage::MoreReady, Ok(Reply::Workload(Some(mut read)))) => {
                read.ready += 5;
                Ok(Reply::Workload(Some(read)))
            }
            (Sabotage::NoOwnerNoCap, Ok(Reply::Workload(Some(mut read)))) => {
                read.memory_owner = None;
                Ok(Reply::Workload(Some(read)))
            }
            (Sabotage::AloneInTheWorld, Ok(Reply::Incidents(mut all))) => {
                let own = self.processes[p].identity.clone();
                all.retain(|incident| incident.status.intent.as_ref().is_none_or(|intent| intent.by == own));
                for incident in &mut all {
                    if incident.status.phase == IncidentPhase::Verifying {
                        incident.status.phase = IncidentPhase::Open;
                    }
                }
                Ok(Reply::Incidents(all))
            }
            // The pod that will not be evicted is read as the one that was judged.
            (Sabotage::ActsAgain, result) => {
                self.again(p, call);
                result
            }
            (_, result) => result,
        }
    }

    /// A careless shell: an eviction is made a second time at once.
    fn again(&mut self, p: usize, call: &ApiCall) {
        if let ApiCall::Evict { dry_run: false, .. } = call {
            let act = self.check_send(p, call);
            self.check_act(p, call, &act, false);
        }
    }

    /// What an executor's request is on its way.
    pub(crate) fn tampered_call(&mut self, _p: usize, call: ApiCall) -> ApiCall {
        match (self.sabotage, call) {
            (Sabotage::NoPreconditions, ApiCall::Evict { pod, uid, dry_run, .. }) => {
                ApiCall::Evict { pod, uid, resource_version: String::new(), dry_run }
            }
            (Sabotage::WrongPod, call @ ApiCall::Evict { .. }) => match self.api.strangers.first() {
                Some(stranger) => ApiCall::Evict {
                    pod: stranger.key.clone(),
                    uid: stranger.uid.clone(),
                    resource_version: stranger.version.to_string(),
                    dry_run: matches!(call, ApiCall::Evict { dry_run: true, .. }),
                },
                None => call,
            },
            (_, call) => call,
        }
    }

    /// What the coordinator wants, as it reaches the API server.
    pub(crate) fn tampered_want(&mut self, mut want: Want) -> Option<Want> {
        if let (Sabotage::EveryNodesTurn, Want::WriteOrders { orders, .. }) = (self.sabotage, &mut want)
            && let Some(permit) = &mut orders.permit
        {
            permit.causes = nameward_messages::verdict::Cause::ALL.to_vec();
        }
        let told = matches!(want, Want::OpenIncident { .. } | Want::UpdateIncident { .. });
        (self.sabotage != Sabotage::NobodyIsCalled || !told).then_some(want)
    }
}

fn each_report(view: &mut Arc<ClusterView>, mut change: impl FnMut(&mut NodeReport)) {
    for agent in &mut Arc::make_mut(view).agents {
        if let Some(report) = &mut agent.report {
            change(Arc::make_mut(report));
        }
    }
}
