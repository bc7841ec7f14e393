//! A process with the coordinator's half: its mind, the shared executor's, the election, wired as their shells wire them.

use std::sync::Arc;
use std::time::Duration;

use nameward_cluster::lease::{Asked, Election, Rules};
use nameward_coordinator::mind::{CoordinatorMind, Input as Told, Output as Want};
use nameward_messages::Mono;
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::plan::LeaseState;
use nameward_remedy::shared::call::ApiCall;
use nameward_remedy::shared::{Input, Output, SharedMind};

use crate::clock::Clock;
use crate::net::{Answer, Request, Who};
use crate::sabotage::Sabotage;
use crate::view::Watch;
use crate::world::{Event, World};

/// When the Lease is lost, where that guard is taken away.
const LEASE_LOST: Duration = Duration::from_secs(1_130);

/// What a process is told.
#[derive(Clone, Debug)]
pub(crate) enum ProcessEvent {
    /// A deadline of one of its minds; void unless it is the one that was set last.
    Tick,
    /// Its watches bring a view.
    View,
    /// The policy ConfigMap, as its watch shows it.
    Switch,
    /// The coordinator's actor panics, where a guard is taken away by that.
    Forget,
    Executor(Box<Input>),
    Coordinator(Box<Told>),
}

/// The process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) coordinator: CoordinatorMind,
    pub(crate) executor: SharedMind,
    election: Election,
    pub(crate) identity: String,
    pub(crate) clock: Clock,
    pub(crate) life: u32,
    pub(crate) alive: bool,
    pub(crate) started: Mono,
    /// It is stopped (SIGSTOP) until then.
    pub(crate) stopped_until: Mono,
    pub(crate) cut_until: Mono,
    /// The policy ConfigMap cannot be read until then.
    pub(crate) policy_lost_until: Mono,
    pub(crate) pause_file: bool,
    pub(crate) switch: Option<KillSwitch>,
    pub(crate) watch: Watch,
    told: Option<LeaseState>,
    tick: Option<Mono>,
    /// Requests of the executor in this life: crashes are counted by them.
    pub(crate) calls: u64,
    /// The process ends when its executor makes this request: before it leaves, or right after.
    pub(crate) dies: Option<(u64, Death)>,
}

/// When a process ends about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The request never leaves.
    Before,
    /// It leaves, and nobody is there for the answer.
    After,
}

impl World {
    pub(crate) fn new_process(&mut self, clock: Clock, life: u32) -> Process {
        let config = Arc::clone(&self.minds_config);
        let number = self.processes.len();
        let rules = rules(&config);
        Process {
            coordinator: self.coordinator_mind(),
            executor: SharedMind::new(Arc::clone(&config)),
            election: Election::new(format!("coordinator-{number}_{}", self.rng.u32(..)), rules, self.rng.u64(..)),
            identity: String::new(),
            clock,
            life,
            alive: true,
            started: self.now,
            stopped_until: Mono::default(),
            cut_until: Mono::default(),
            policy_lost_until: Mono::default(),
            pause_file: false,
            switch: None,
            watch: Watch::new(Duration::from_millis(self.rng.u64(5..400))),
            told: None,
            tick: None,
            calls: 0,
            dies: None,
        }
    }

    fn coordinator_mind(&self) -> CoordinatorMind {
        let mind = CoordinatorMind::new(Arc::clone(&self.minds_config));
        if self.spec.restless { mind.restless() } else { mind }
    }

    /// A process begins: its watches list, its clock ticks.
    pub(crate) fn start(&mut self, p: usize) {
        let (now, life) = (self.now, self.processes[p].life);
        let identity = format!("coordinator-{p}-{life}_{:08x}", self.rng.u32(..));
        let rules = rules(&self.minds_config);
        let process = &mut self.processes[p];
        process.election = Election::new(identity.clone(), rules, self.rng.u64(..));
        process.identity = identity;
        process.watch.due = None;
        self.push_process(p, Duration::from_millis(1), ProcessEvent::Tick);
        self.processes[p].tick = Some(now + Duration::from_millis(1));
        let listed = Duration::from_millis(self.rng.u64(50..3000));
        self.view_at(p, now + listed);
        self.push_process(p, listed, ProcessEvent::Switch);
    }

    /// The process ends, and another life begins after a while.
    pub(crate) fn crash(&mut self, p: usize, back_after: Duration) {
        let old = &self.processes[p];
        if !old.alive {
            return;
        }
        self.trace.line(self.now, format_args!("process {p}"), || "dies".to_owned());
        let (clock, life, cut) = (old.clock, old.life + 1, old.cut_until);
        let fresh = self.new_process(clock, life);
        self.processes[p] = Process { alive: false, cut_until: cut, ..fresh };
        self.stats.crashes += 1;
        self.queue.push(self.now + back_after, Event::Restart { p, life });
    }

    pub(crate) fn restart(&mut self, p: usize, life: u32) {
        if self.processes[p].life == life && !self.processes[p].alive {
            self.processes[p].alive = true;
            self.processes[p].started = self.now;
            self.forget_process(p);
            self.start(p);
        }
    }

    /// One of its actors panics and is rebuilt: what its inbox retains is told again, the message in hand is lost.
    pub(crate) fn panic(&mut self, p: usize, executor: bool) {
        let config = Arc::clone(&self.minds_config);
        let process = &mut self.processes[p];
        let (view, switch, told) = (Arc::clone(&process.watch.view), process.switch, process.told.clone());
        if executor {
            process.executor = SharedMind::new(config);
            if let Some(lease) = told {
                self.push_executor(p, Input::Lease(lease));
            }
            if view.complete {
                self.push_executor(p, Input::View(view));
            }
            if let Some(switch) = switch {
                self.push_executor(p, Input::KillSwitch(switch));
            }
        } else {
            self.processes[p].coordinator = self.coordinator_mind();
            let rules = rules(&self.minds_config);
            let (identity, seed) = (self.processes[p].identity.clone(), self.rng.u64(..));
            // The same claimant: it reads the Lease and takes it up at once.
            self.processes[p].election = Election::new(identity, rules, seed);
            self.processes[p].told = None;
            if view.complete {
                let view = self.tampered_view(p, view);
                self.push_coordinator(p, Told::View(view));
            }
            if let Some(switch) = switch {
                self.push_coordinator(p, Told::KillSwitch(switch));
            }
        }
        self.reschedule(p);
    }

    pub(crate) fn process(&mut self, p: usize, what: ProcessEvent) {
        match what {
            ProcessEvent::Tick => {
                if self.processes[p].tick != Some(self.now) {
                    // Set anew meanwhile, unless the process was stopped over it.
                    if self.processes[p].tick.is_none_or(|at| at > self.now) {
                        return;
                    }
                }
                self.processes[p].tick = None;
                self.tick(p);
            }
            ProcessEvent::View => {
                if self.processes[p].watch.due.is_none_or(|due| due > self.now) {
                    return;
                }
                self.processes[p].watch.due = None;
                let view = self.look_at_cluster(p);
                let local = self.processes[p].clock.now(self.now).mono;
                self.note_view(p, view.complete && view.fresh_as_of == local);
                self.trace.line(self.now, format_args!("process {p}"), || {
                    let verdicts =
                        view.agents.iter().filter_map(|a| a.report.as_ref()).flat_map(|r| &r.verdicts).count();
                    format!(
                        "sees {} agents with {verdicts} verdicts, {} incidents, fresh as of {:?}",
                        view.agents.len(),
                        view.incidents.len(),
                        view.fresh_as_of.0
                    )
                });
                let view = self.tampered_view(p, view);
                self.step_executor(p, Input::View(Arc::clone(&view)));
                self.step_coordinator(p, Told::View(view));
                let again = self.now + Duration::from_secs(5);
                self.view_at(p, again);
            }
            ProcessEvent::Switch => self.read_switch(p),
            ProcessEvent::Forget => self.panic(p, false),
            ProcessEvent::Executor(input) => self.step_executor(p, *input),
            ProcessEvent::Coordinator(input) => self.step_coordinator(p, *input),
        }
        self.reschedule(p);
    }

    pub(crate) fn answered(&mut self, p: usize, answer: Answer) {
        match answer {
            Answer::Shared { id, result } => self.step_executor(p, Input::CallDone { call: id, result }),
            Answer::Lease { serial, result } => {
                let now = self.processes[p].clock.now(self.now);
                let asked = self.processes[p].election.done(now, serial, result);
                self.keep_lease(p, asked);
                self.step_coordinator(p, Told::Tick);
            }
            Answer::Wrote { what, done } => self.step_coordinator(p, Told::Wrote { what, done }),
            Answer::NodeRead { node, state } => self.step_coordinator(p, Told::NodeRead { node, state }),
            Answer::AgentRead(_) | Answer::AgentWrote(_) => {}
        }
        self.reschedule(p);
    }

    fn tick(&mut self, p: usize) {
        let now = self.processes[p].clock.now(self.now);
        if self.processes[p].executor.deadline().is_some_and(|due| due <= now.mono) {
            self.step_executor(p, Input::Tick);
        }
        let process = &mut self.processes[p];
        let due = process.coordinator.deadline();
        if due.is_none_or(|due| due <= now.mono) || process.election.deadline() <= now.mono {
            let asked = process.election.poll(now);
            self.keep_lease(p, asked);
            self.step_coordinator(p, Told::Tick);
        }
    }

    fn keep_lease(&mut self, p: usize, asked: Option<Asked>) {
        let Some(Asked { serial, call }) = asked else { return };
        // Nothing of it reaches the API server any more, and the minds are not told.
        if self.sabotage == Sabotage::EternalLease && self.now.0 > LEASE_LOST {
            return;
        }
        self.sent_lease(p, serial);
        self.send(self.who(p), Request::Lease { serial, call });
    }

    fn who(&self, p: usize) -> Who {
        Who::Process { p, life: self.processes[p].life }
    }

    /// As the coordinator's shell does it.
    pub(crate) fn step_coordinator(&mut self, p: usize, input: Told) {
        let now = self.processes[p].clock.now(self.now);
        let process = &mut self.processes[p];
        let mut out = Vec::new();
        let lease = LeaseState {
            identity: process.identity.clone(),
            leading: process.election.leads(now.mono),
            act_until: process.election.acts_until(),
        };
        let lease = self.sabotage.lease(lease, now.mono);
        let process = &mut self.processes[p];
        if process.told.as_ref() != Some(&lease) {
            if process.told.as_ref().is_none_or(|told| told.leading != lease.leading) {
                self.trace.line(self.now, format_args!("process {p}"), || format!("leading: {}", lease.leading));
            }
            process.told = Some(lease.clone());
            process.coordinator.step(now, Told::Lease(lease.clone()), &mut out);
            self.push_executor(p, Input::Lease(lease));
        }
        let process = &mut self.processes[p];
        let paused = self.sabotage.pause_file(process.pause_file);
        process.coordinator.step(now, Told::PausedHere(paused), &mut out);
        process.coordinator.step(now, input, &mut out);
        for want in out {
            self.want(p, want);
        }
    }

    fn want(&mut self, p: usize, want: Want) {
        match want {
            Want::Plan(plan) => {
                self.trace.line(self.now, format_args!("process {p}"), || format!("plan {:?}", plan.act));
                self.stats.plans += 1;
                self.push_executor(p, Input::Plan(plan));
            }
            Want::Event { reason, warning, note, .. } => {
                self.trace.line(self.now, format_args!("process {p}"), || format!("event {reason}: {note}"));
                self.told_people(reason, warning);
            }
            Want::Record { incident, record, .. } => {
                self.trace.line(self.now, format_args!("process {p}"), || {
                    format!("record {} {}: {}", record.kind, record.outcome.label(), record.detail)
                });
                self.recorded(p, &incident, &record);
            }
            Want::ReadNode(node) => self.send(self.who(p), Request::ReadNode(node)),
            want => {
                let Some(want) = self.tampered_want(want) else { return };
                if let Want::OpenIncident { name, .. } | Want::UpdateIncident { name, .. } = &want {
                    self.trace.line(self.now, format_args!("process {p}"), || format!("writes {name}"));
                }
                self.send(self.who(p), Request::Want(Box::new(want)));
            }
        }
    }

    /// As the shared executor's shell does it.
    pub(crate) fn step_executor(&mut self, p: usize, input: Input) {
        let now = self.processes[p].clock.now(self.now);
        let paused = self.sabotage.pause_file(self.processes[p].pause_file);
        let mut out = Vec::new();
        let process = &mut self.processes[p];
        process.executor.step(now, Input::PausedHere(paused), &mut out);
        process.executor.step(now, input, &mut out);
        for output in out {
            match output {
                Output::Tell(tells) => {
                    self.trace.line(self.now, format_args!("executor {p}"), || format!("{tells:?}"));
                    self.push_coordinator(p, Told::Shared(tells));
                }
                Output::Call { id, call } => self.make(p, id, call),
                #[allow(unreachable_patterns, reason = "an output that the simulation need not carry out")]
                _ => {}
            }
        }
    }

    fn make(&mut self, p: usize, id: u64, call: ApiCall) {
        self.trace.line(self.now, format_args!("executor {p}"), || brief(&call));
        let process = &mut self.processes[p];
        process.calls += 1;
        let dies = process.dies.filter(|(at, _)| *at == process.calls).map(|(_, when)| when);
        if dies != Some(Death::Before) {
            let call = self.tampered_call(p, call);
            let act = self.check_send(p, &call);
            self.send(self.who(p), Request::Shared { id, call, act });
        }
        if dies.is_some() {
            let back = Duration::from_millis(self.rng.u64(500..20_000));
            self.crash(p, back);
        }
    }

    /// The watch of the policy ConfigMap.
    pub(crate) fn read_switch(&mut self, p: usize) {
        let process = &self.processes[p];
        let lost =
            self.now < process.policy_lost_until || self.now < process.cut_until || self.now < self.ways.down_until;
        let frozen = self.now < process.watch.frozen_until;
        self.note_policy_read(p, lost);
        let process = &self.processes[p];
        let local = process.clock.now(self.now).mono;
        let switch = match (lost, frozen, process.switch) {
            (true, _, Some(KillSwitch::UnreadableSince(since))) => KillSwitch::UnreadableSince(since),
            (true, _, Some(KillSwitch::On)) => KillSwitch::On,
            (true, ..) => KillSwitch::UnreadableSince(local),
            (false, true, Some(switch)) => switch,
            (false, ..) if self.api.paused => KillSwitch::On,
            (false, ..) => KillSwitch::Off,
        };
        let switch = self.sabotage.switch(switch);
        if self.processes[p].switch != Some(switch) {
            self.processes[p].switch = Some(switch);
            self.push_executor(p, Input::KillSwitch(switch));
            self.push_coordinator(p, Told::KillSwitch(switch));
        }
        if lost || frozen {
            self.push_process(p, Duration::from_secs(3), ProcessEvent::Switch);
        }
    }

    pub(crate) fn push_executor(&mut self, p: usize, input: Input) {
        self.push_process(p, Duration::ZERO, ProcessEvent::Executor(Box::new(input)));
    }

    pub(crate) fn push_coordinator(&mut self, p: usize, input: Told) {
        self.push_process(p, Duration::ZERO, ProcessEvent::Coordinator(Box::new(input)));
    }

    pub(crate) fn push_process(&mut self, p: usize, after: Duration, what: ProcessEvent) {
        let life = self.processes[p].life;
        self.queue.push(self.now + after, Event::Process { p, life, what });
    }

    /// A view is told at `at`, or earlier if that is planned.
    pub(crate) fn view_at(&mut self, p: usize, at: Mono) {
        let watch = &mut self.processes[p].watch;
        if watch.due.is_none_or(|due| due > at) {
            watch.due = Some(at);
            let life = self.processes[p].life;
            self.queue.push(at, Event::Process { p, life, what: ProcessEvent::View });
        }
    }

    fn reschedule(&mut self, p: usize) {
        let process = &self.processes[p];
        if !process.alive {
            return;
        }
        let election = process.election.deadline();
        let local = [process.coordinator.deadline(), Some(election), process.executor.deadline()];
        let Some(local) = local.into_iter().flatten().min() else { return };
        let at = process.clock.when(local).max(self.now + Duration::from_micros(100));
        if process.tick.is_none_or(|tick| tick > at) {
            let life = process.life;
            self.processes[p].tick = Some(at);
            self.queue.push(at, Event::Process { p, life, what: ProcessEvent::Tick });
        }
    }
}

fn rules(config: &nameward_config::Config) -> Rules {
    Rules {
        lease_duration: config.coordinator.lease_duration.0,
        renew_deadline: config.coordinator.renew_deadline.0,
        retry_period: config.coordinator.retry_period.0,
        call_timeout: config.kubernetes.call_timeout.0,
    }
}

/// A request in a line.
pub(crate) fn brief(call: &ApiCall) -> String {
    match call {
        ApiCall::WriteIncident { name, resource_version, status } => {
            format!("WriteIncident {name} at {resource_version}: {:?}, intent {:?}", status.phase, status.intent)
        }
        call => format!("{call:?}"),
    }
}
