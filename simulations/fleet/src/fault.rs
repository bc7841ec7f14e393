//! What happens to a cluster, and how it is done to the model.

use std::time::Duration;

use nameward_messages::PodUid;
use nameward_messages::verdict::Cause;

use crate::agent::{AgentEvent, Lie};
use crate::api::Change;
use crate::kube::Kube;
use crate::process::Death;
use crate::world::{Event, World};

/// What happens. Pods are numbered as they stand at that moment, in the order of their creation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the name of each is its documentation, and the arms of `World::fault` say the rest")]
pub enum Fault {
    PodSick(usize, Cause),
    PodWell(usize),
    PodUnready(usize),
    AllPodsSick(Cause),
    Corefile(bool),
    Upstream(bool),
    Relapse(Option<Cause>),
    Contagion(bool),
    Needs(u64),
    NodeSick(usize, Cause),
    NodeWell(usize),
    NodeDown(usize),
    NodeUp(usize),
    AgentSilent(usize),
    AgentRestart(usize),
    AgentUnwell(usize, bool),
    AgentCut(usize, Duration),
    Honest(usize),
    Accuses(usize, usize),
    AccusesAll(usize),
    Praises(usize),
    Forges(usize),
    Crash(usize, Duration),
    CrashLeader(Duration),
    DieAtCall(u64, Death),
    ExecutorPanics(usize),
    CoordinatorPanics(usize),
    Stop(usize, Duration),
    StopLeader(Duration),
    Cut(usize, Duration),
    CutLeader(Duration),
    ApiDown(Duration),
    Throttle(Duration),
    Lossy {
        permille: u32,
        slow: Duration,
        long: Duration,
    },
    Freeze(Duration),
    BreakWatch(usize, Duration),
    Policy(bool),
    PolicyLost(usize, Duration),
    PauseFile(usize, bool),
    Rollout,
    Drain(usize),
    Uncordon(usize),
    Scale(u32),
    Touch(usize),
    Blocked(bool),
    Budgets(usize),
    WorkloadPaused(bool),
    MemoryOwner(Option<&'static str>),
    /// Whatever was in the way is not any more; what is sick stays sick.
    Calm,
}

impl World {
    pub(crate) fn fault(&mut self, number: usize) {
        let Some((_, fault)) = self.spec.faults.get(number).cloned() else { return };
        self.trace.line(self.now, "FAULT", || format!("{fault:?}"));
        self.happen(fault);
    }

    /// Makes it happen now.
    pub fn happen(&mut self, fault: Fault) {
        match fault {
            Fault::PodSick(pod, cause) => self.with_pod(pod, |world, uid| world.sicken(uid, cause)),
            Fault::PodWell(pod) => self.with_pod(pod, |world, uid| world.cure(uid)),
            Fault::PodUnready(pod) => self.with_pod(pod, |world, uid| world.set_ready(uid, false)),
            Fault::AllPodsSick(cause) => {
                for uid in self.uids() {
                    self.sicken(&uid, cause);
                }
            }
            Fault::Corefile(bad) => self.corefile(bad),
            Fault::Upstream(dead) => {
                self.weather.upstream_dead = dead;
                self.truth_changed();
            }
            Fault::Relapse(cause) => self.weather.relapse = cause,
            Fault::Contagion(on) => self.weather.contagion = on,
            Fault::Needs(bytes) => {
                self.weather.needs = bytes;
                for uid in self.uids() {
                    let after = Duration::from_secs(self.rng.u64(1..20));
                    self.will_starve(&uid, after);
                }
            }
            Fault::NodeSick(..)
            | Fault::NodeWell(_)
            | Fault::NodeDown(_)
            | Fault::NodeUp(_)
            | Fault::Drain(_)
            | Fault::Uncordon(_) => self.node_fault(&fault),
            Fault::AgentSilent(n) => self.end_agent(n),
            Fault::AgentRestart(n) => {
                self.end_agent(n);
                let after = Duration::from_millis(self.rng.u64(500..5_000));
                self.start_agent(n, after);
            }
            Fault::AgentUnwell(n, unwell) => {
                self.agents[n].unwell = unwell;
                self.tell_fellows(n);
            }
            Fault::AgentCut(n, long) => {
                self.agents[n].cut_until = self.now + long;
                // Its watch of the policy breaks as well.
                self.push_agent(n, Duration::from_millis(300), AgentEvent::Switch);
            }
            Fault::Honest(n) => self.lies(n, Lie::Honest),
            Fault::Accuses(n, pod) => self.with_pod(pod, |world, uid| world.lies(n, Lie::Accuses(uid.clone()))),
            Fault::AccusesAll(n) => self.lies(n, Lie::AccusesAll),
            Fault::Praises(n) => self.lies(n, Lie::Praises),
            Fault::Forges(n) => self.lies(n, Lie::Forges),
            Fault::Rollout => self.new_template(),
            Fault::Scale(replicas) => {
                // Who writes what stands there already owns nothing by it.
                self.api.workload.scaled_by_us &= self.api.workload.replicas == replicas;
                self.api.workload.replicas = replicas;
                self.api.workload.generation += 1;
                self.api.pods_changed(self.now, None);
                self.told_of_change();
                self.controllers_look();
            }
            Fault::Touch(pod) => self.with_pod(pod, |world, uid| {
                world.api.pods_changed(world.now, Some(uid));
                world.told_of_change();
            }),
            Fault::Blocked(on) => self.api.blocked = on,
            Fault::Budgets(count) => {
                self.api.budgets = count;
                self.api.changes.push((self.now, Change::Pods));
                self.told_of_change();
            }
            Fault::WorkloadPaused(on) => {
                self.api.workload.paused = on;
                self.api.pods_changed(self.now, None);
                self.told_of_change();
            }
            Fault::MemoryOwner(owner) => {
                self.api.workload.memory_owner = owner.map(str::to_owned);
                self.api.pods_changed(self.now, None);
                self.told_of_change();
            }
            Fault::Calm => self.calm(),
            other => self.process_fault(other),
        }
    }

    fn process_fault(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::Crash(p, back) => self.crash(p, back),
            Fault::CrashLeader(back) => {
                if let Some(p) = self.leader() {
                    self.crash(p, back);
                }
            }
            Fault::DieAtCall(call, when) => {
                for process in &mut self.processes {
                    process.calls = 0;
                    process.dies = Some((call, when));
                }
            }
            Fault::ExecutorPanics(p) => self.panic(p, true),
            Fault::CoordinatorPanics(p) => self.panic(p, false),
            Fault::Stop(p, long) => self.processes[p].stopped_until = now + long,
            Fault::StopLeader(long) => {
                if let Some(p) = self.leader() {
                    self.processes[p].stopped_until = now + long;
                }
            }
            Fault::Cut(p, long) => {
                self.processes[p].cut_until = now + long;
                self.read_switch(p);
            }
            Fault::CutLeader(long) => {
                if let Some(p) = self.leader() {
                    self.processes[p].cut_until = now + long;
                    self.read_switch(p);
                }
            }
            Fault::ApiDown(long) => {
                self.ways.down_until = now + long;
                self.tell_switch();
            }
            Fault::Throttle(long) => self.ways.throttled_until = now + long,
            Fault::Lossy { permille, slow, long } => {
                self.ways.trouble = permille;
                self.ways.slow = slow;
                self.ways.lossy_until = now + long;
            }
            Fault::Freeze(long) => {
                for process in &mut self.processes {
                    process.watch.frozen_until = now + long;
                }
            }
            Fault::BreakWatch(p, long) => self.processes[p].watch.broken_until = now + long,
            Fault::Policy(paused) => {
                self.api.paused = paused;
                self.note_policy(paused);
                self.tell_switch();
            }
            Fault::PolicyLost(p, long) => {
                self.processes[p].policy_lost_until = now + long;
                self.read_switch(p);
            }
            Fault::PauseFile(p, there) => self.processes[p].pause_file = there,
            _ => {}
        }
    }

    fn node_fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::NodeSick(n, cause) => {
                self.nodes[n].sick.get_or_insert((cause, self.now));
                if cause == Cause::IpForwardOff {
                    self.set_forwarding(n, false);
                }
                self.truth_changed();
            }
            Fault::NodeWell(n) => self.node_well(n),
            Fault::NodeDown(n) => {
                self.nodes[n].down = true;
                self.end_agent(n);
                self.truth_changed();
                self.queue.push(self.now + Duration::from_secs(40), Event::Kube(Kube::NodeLost(n)));
            }
            Fault::NodeUp(n) if self.nodes[n].down => {
                self.nodes[n].down = false;
                self.nodes[n].bad_until = Some(self.now);
                self.rebooted(n);
                let after = Duration::from_secs(self.rng.u64(5..20));
                self.start_agent(n, after);
                self.queue.push(self.now + after, Event::Kube(Kube::NodeLost(n)));
                self.truth_changed();
            }
            Fault::Drain(n) => {
                self.nodes[n].cordoned = true;
                self.kube(Kube::Drain(n));
            }
            Fault::Uncordon(n) => {
                self.nodes[n].cordoned = false;
                self.nodes[n].drained_until = Some(self.now);
                self.controllers_look();
            }
            _ => {}
        }
    }

    pub(crate) fn node_well(&mut self, n: usize) {
        if self.nodes[n].sick.take().is_some() {
            self.set_forwarding(n, true);
            self.nodes[n].bad_until = Some(self.now);
            self.truth_changed();
        }
    }

    fn corefile(&mut self, bad: bool) {
        self.weather.corefile_bad = bad;
        for uid in self.uids() {
            if bad {
                self.sicken(&uid, Cause::CorefileBroken);
                self.set_ready(&uid, false);
            } else if self.api.pod(&uid).is_some_and(|pod| matches!(pod.sick, Some((Cause::CorefileBroken, _)))) {
                self.cure(&uid);
                self.will_come_up(&uid, Duration::from_secs(5));
            }
        }
    }

    fn lies(&mut self, n: usize, lie: Lie) {
        self.agents[n].lie = lie;
        let at = self.now + Duration::from_millis(self.rng.u64(500..9_000));
        self.look_at(n, at);
    }

    fn with_pod(&mut self, number: usize, act: impl FnOnce(&mut Self, &PodUid)) {
        let uids = self.uids();
        if !uids.is_empty() {
            let uid = uids[number % uids.len()].clone();
            act(self, &uid);
        }
    }

    fn uids(&self) -> Vec<PodUid> {
        self.api.active().map(|pod| pod.uid.clone()).collect()
    }

    /// The process whose name stands in the Lease.
    pub(crate) fn leader(&self) -> Option<usize> {
        let holder = &self.api.lease.as_ref()?.holder;
        self.processes.iter().position(|process| process.alive && process.identity == *holder)
    }

    fn calm(&mut self) {
        self.ways = crate::net::Ways { twice: self.ways.twice, ..Default::default() };
        self.api.blocked = false;
        self.api.budgets = self.spec.budgets.min(1);
        self.api.paused = false;
        self.note_policy(false);
        self.api.workload.paused = false;
        self.weather.relapse = None;
        self.weather.contagion = false;
        for p in 0..self.processes.len() {
            let process = &mut self.processes[p];
            process.cut_until = self.now;
            process.policy_lost_until = self.now;
            process.pause_file = false;
            process.dies = None;
            process.watch.frozen_until = self.now;
            process.watch.broken_until = self.now;
        }
        for n in 0..self.nodes.len() {
            self.agents[n].cut_until = self.now;
            if self.nodes[n].down {
                self.node_fault(&Fault::NodeUp(n));
            } else if !self.agents[n].alive {
                self.start_agent(n, Duration::from_secs(1));
            }
            if self.agents[n].unwell {
                self.agents[n].unwell = false;
                self.tell_fellows(n);
            }
            if self.agents[n].lie != Lie::Honest {
                self.lies(n, Lie::Honest);
            }
            if std::mem::replace(&mut self.nodes[n].cordoned, false) {
                self.nodes[n].drained_until = Some(self.now);
            }
            // Whether a node that has a remedy is healed depends on more than the machine of this model.
            if self.nodes[n]
                .sick
                .is_some_and(|(cause, _)| cause.about().remedy.is_some() && cause != Cause::IpForwardOff)
            {
                self.node_well(n);
            }
        }
        self.api.pods_changed(self.now, None);
        self.tell_switch();
        self.pods_moved();
        self.controllers_look();
    }
}
