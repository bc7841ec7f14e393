//! One process with both minds, wired as the shells wire them, with a request's time in between.

use std::sync::Arc;
use std::time::Duration;

use nameward_coordinator::mind::{CoordinatorMind, Input as Told, Output as Wants};
use nameward_messages::Mono;
use nameward_messages::cluster_view::{ClusterView, KillSwitch, NodeAgentView};
use nameward_messages::plan::LeaseState;
use nameward_remedy::shared::call::{ApiCall, CallResult};
use nameward_remedy::shared::{Input, Output, SharedMind};

use super::World;

pub struct Process {
    pub coordinator: CoordinatorMind,
    pub executor: SharedMind,
    pub identity: String,
    pub alive: bool,
    pub started: Mono,
    pub leading_since: Option<Mono>,
    pub lease: LeaseState,
    pub told_switch: Option<KillSwitch>,
    pub view: Option<Arc<ClusterView>>,
    /// Views wait here until they are as old as a watch's.
    pub views: Vec<(Mono, Arc<ClusterView>)>,
    /// Requests under way: when their results arrive.
    pub results: Vec<(Mono, u64, ApiCall, CallResult)>,
    /// Every request that touched CoreDNS, with the state in which it was made.
    pub touched: Vec<Touch>,
    /// When a plan was told, and whether the view it came from was complete.
    pub plans: Vec<(Mono, bool)>,
    /// Whether the view that the coordinator was told last was complete.
    pub told_complete: bool,
    /// When a view was last complete, and when it last had a quorum.
    pub complete_at: Option<Mono>,
    pub quorum_at: Option<Mono>,
    /// Panics on the n-th call: the executor is rebuilt.
    pub die_at_call: Option<u64>,
    pub calls: u64,
    pub log: Vec<(Mono, String)>,
}

#[derive(Clone, Debug)]
pub struct Touch {
    #[expect(dead_code, reason = "shown where an invariant is broken")]
    pub at: Mono,
    pub call: ApiCall,
    pub may_act: bool,
    pub switch_allows: bool,
    pub complete_ago: Duration,
    pub quorum_ago: Duration,
    pub leading_for: Duration,
    pub up_for: Duration,
}

/// A view is this old when it is told.
const LAG: Duration = Duration::from_millis(500);

impl World {
    pub fn start_process(&mut self) {
        let n = self.processes.len();
        self.processes.push(Process {
            coordinator: CoordinatorMind::new(Arc::clone(&self.config)),
            executor: SharedMind::new(Arc::clone(&self.config)),
            identity: format!("process-{n}"),
            alive: true,
            started: self.now.mono,
            leading_since: None,
            lease: LeaseState::default(),
            told_switch: None,
            view: None,
            views: vec![],
            results: vec![],
            touched: vec![],
            plans: vec![],
            told_complete: false,
            complete_at: None,
            quorum_at: None,
            die_at_call: None,
            calls: 0,
            log: vec![],
        });
    }

    /// Kills every mind of a process and begins another in its place, which wins the Lease when the old one has run out.
    pub fn restart(&mut self, n: usize) {
        self.processes[n].alive = false;
        self.start_process();
    }

    /// A leader renews every two seconds and may act for five more; another takes over after fifteen without a renewal.
    pub fn lease_step(&mut self) {
        let now = self.now.mono;
        let (holder, until) = self.lease;
        let renews = self.processes.get(holder).is_some_and(|p| p.alive);
        if renews {
            self.lease.1 = now + Duration::from_secs(15);
        } else if now >= until
            && let Some(next) = (0..self.processes.len()).find(|n| self.processes[*n].alive)
        {
            self.lease = (next, now + Duration::from_secs(15));
        }
    }

    pub fn processes_step(&mut self) {
        let now = self.now;
        // A view a second: what a watch merges anyway.
        let whole = now.mono.0.subsec_millis() == 0;
        let view = whole.then(|| Arc::new(self.view()));
        let holder = self.lease.0;
        for n in 0..self.processes.len() {
            if !self.processes[n].alive {
                continue;
            }
            let process = &mut self.processes[n];
            let mut inputs: Vec<Told> = vec![];
            let mut orders: Vec<Input> = vec![];
            let renewed = holder == n;
            let lease = LeaseState {
                identity: process.identity.clone(),
                leading: renewed || process.lease.act_until.is_some_and(|u| now.mono < u + Duration::from_secs(5)),
                act_until: if renewed { Some(now.mono + Duration::from_secs(5)) } else { process.lease.act_until },
            };
            if lease.leading && !process.lease.leading {
                process.leading_since = Some(now.mono);
            }
            process.lease = lease.clone();
            inputs.push(Told::Lease(lease.clone()));
            orders.push(Input::Lease(lease));
            process.told_switch = Some(self.switch);
            inputs.extend([Told::KillSwitch(self.switch), Told::PausedHere(false)]);
            orders.extend([Input::KillSwitch(self.switch), Input::PausedHere(false)]);
            if let Some(view) = &view {
                process.views.push((now.mono + LAG, Arc::clone(view)));
            }
            while process.views.first().is_some_and(|(at, _)| *at <= now.mono) {
                let (_, view) = process.views.remove(0);
                if view.complete {
                    process.complete_at = Some(now.mono);
                    let fresh = |a: &&NodeAgentView| {
                        now.mono.since(a.changed_at) <= Duration::from_secs(660)
                            && a.report.as_ref().is_some_and(|r| r.self_check)
                    };
                    if view.agents.iter().filter(fresh).count() * 100 >= view.nodes.len() * 85 {
                        process.quorum_at = Some(now.mono);
                    }
                }
                process.view = Some(Arc::clone(&view));
                inputs.push(Told::View(Arc::clone(&view)));
                orders.push(Input::View(view));
            }
            let due: Vec<_> = process.results.extract_if(.., |(at, ..)| *at <= now.mono).collect();
            for (_, call, _, result) in due {
                // A duplicate must change nothing.
                orders.push(Input::CallDone { call, result: result.clone() });
                orders.push(Input::CallDone { call, result });
            }
            inputs.push(Told::Tick);
            orders.push(Input::Tick);
            for input in orders {
                self.tell_executor(n, input);
            }
            for input in inputs {
                self.tell_coordinator(n, input);
            }
        }
    }

    pub fn tell_coordinator(&mut self, n: usize, input: Told) {
        let mut out = vec![];
        let now = self.now;
        // It plans from what it was told, which may be older by one message than what is on its way to it.
        if let Told::View(view) = &input {
            self.processes[n].told_complete = view.complete;
        }
        self.processes[n].coordinator.step(now, input, &mut out);
        for want in out {
            match &want {
                Wants::Plan(plan) => {
                    let complete = self.processes[n].told_complete;
                    self.processes[n].plans.push((now.mono, complete));
                    self.processes[n].log.push((now.mono, format!("plan {:?}", plan.act)));
                    self.tell_executor(n, Input::Plan(plan.clone()));
                    // A duplicated message must not act twice.
                    self.tell_executor(n, Input::Plan(plan.clone()));
                }
                Wants::Event { reason, note, .. } => self.events.push((now.mono, format!("{reason}: {note}"))),
                Wants::Record { record, .. } => {
                    self.processes[n].log.push((now.mono, format!("{:?} {}", record.outcome, record.detail)));
                }
                _ => {
                    if let Some((what, done)) = self.grant(&want) {
                        self.tell_coordinator(n, Told::Wrote { what, done });
                    }
                }
            }
        }
    }

    pub fn tell_executor(&mut self, n: usize, input: Input) {
        let now = self.now;
        let mut out = vec![];
        self.processes[n].executor.step(now, input, &mut out);
        for output in out {
            match output {
                Output::Tell(tells) => {
                    self.processes[n].log.push((now.mono, format!("{tells:?}")));
                    self.tell_coordinator(n, Told::Shared(tells));
                }
                Output::Call { id, call } => self.make(n, id, call),
            }
        }
    }

    fn make(&mut self, n: usize, id: u64, call: ApiCall) {
        let now = self.now;
        self.processes[n].calls += 1;
        self.processes[n].log.push((now.mono, format!("{call:?}")));
        if call.touches_dns() {
            let process = &mut self.processes[n];
            let touch = Touch {
                at: now.mono,
                call: call.clone(),
                may_act: process.lease.may_act(now.mono),
                switch_allows: process.told_switch.is_some_and(|s| s.allows(now.mono)),
                complete_ago: process.complete_at.map_or(Duration::MAX, |at| now.mono.since(at)),
                quorum_ago: process.quorum_at.map_or(Duration::MAX, |at| now.mono.since(at)),
                leading_for: process.leading_since.map_or(Duration::ZERO, |at| now.mono.since(at)),
                up_for: now.mono.since(process.started),
            };
            process.touched.push(touch);
        }
        let result = self.carry_out(n, &call);
        let takes = Duration::from_millis(500 * self.rng.u64(1..4));
        self.processes[n].results.push((now.mono + takes, id, call, result));
        if self.processes[n].die_at_call == Some(self.processes[n].calls) {
            self.restart(n);
        }
    }
}
