//! The world: everything there is, and the queue that moves it.

use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::targets::Targets;
use nameward_messages::{Mono, NodeName};

use crate::agent::{Agent, AgentEvent};
use crate::api::{Api, Workload};
use crate::check::Checker;
use crate::clock::Clock;
use crate::kube::Kube;
use crate::net::{Answer, Envelope, Ways, Who};
use crate::process::{Process, ProcessEvent};
use crate::queue::Queue;
use crate::sabotage::Sabotage;
use crate::spec::Spec;
use crate::trace::Trace;
use crate::truth::{Node, Weather};

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Process {
        p: usize,
        life: u32,
        what: ProcessEvent,
    },
    Agent {
        n: usize,
        life: u32,
        what: AgentEvent,
    },
    Arrive(Box<Envelope>),
    Answer {
        who: Who,
        answer: Box<Answer>,
    },
    Restart {
        p: usize,
        life: u32,
    },
    Kube(Kube),
    /// The fault with this number of the history.
    Fault(usize),
    /// A datagram is lost at a bad moment: a path of this node fails for a round.
    Glitch(usize),
}

/// What a history held: a history in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events played.
    pub events: u64,
    /// Evictions carried out.
    pub evictions: u32,
    /// Memory limits raised.
    pub raises: u32,
    /// Other acts of ours on shared objects.
    pub others: u32,
    /// Plans handed to an executor.
    pub plans: u32,
    /// Processes that died.
    pub crashes: u32,
    /// Reports that agents wrote.
    pub reports: u64,
    /// Times that a person was called.
    pub calls: u32,
    /// Changes that node repairs made, undone ones included.
    pub repairs: u32,
    /// Node remedies told by the nodes' minds, of whatever outcome.
    pub node_remedies: u32,
}

/// One history in the making.
#[derive(Debug)]
pub struct World {
    pub(crate) now: Mono,
    pub(crate) queue: Queue<Event>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) spec: Spec,
    /// What the minds are configured with: the history's settings, unless a guard was taken away by them.
    pub(crate) minds_config: Arc<Config>,
    pub(crate) sabotage: Sabotage,
    pub(crate) nodes: Vec<Node>,
    pub(crate) weather: Weather,
    pub(crate) api: Api,
    pub(crate) ways: Ways,
    pub(crate) processes: Vec<Process>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) uids: u64,
    pub(crate) check: Checker,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    /// The endpoints, by the version at which they were made.
    pub(crate) targets: (u64, Arc<Targets>),
    /// Views are told this long after a change.
    coalesce: Duration,
    /// The last moment at which something was under way, or out of order with nobody called.
    unsettled: Mono,
    /// Where the history ends.
    end: Duration,
    /// When it is looked next whether anything is.
    look: Mono,
}

/// A history begins here, so that what happened "before" has a time.
pub(crate) const BEGIN: Duration = Duration::from_secs(1_000);

impl World {
    /// The world of a history, before its first event.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        let minds_config = Arc::new(spec.sabotage.config(spec.config.clone()));
        let workload = Workload {
            version: 50,
            generation: 1,
            observed: 1,
            replicas: spec.replicas,
            revision: 1,
            limit: spec.memory,
            paused: false,
            memory_owner: spec.memory_owner.clone(),
            replicas_owner: spec.replicas_owner.clone(),
            scaled_by_us: false,
        };
        let node = |n: usize| Node {
            name: NodeName(format!("node-{n:04}")),
            sick: None,
            bad_until: None,
            down: false,
            ready: true,
            cordoned: false,
            drained_until: None,
        };
        let coalesce = match spec.nodes {
            0..=60 => 250,
            61..=1000 => 1000,
            _ => 4000,
        };
        let mut world = Self {
            now: Mono(BEGIN),
            queue: Queue::new(),
            rng: fastrand::Rng::with_seed(spec.seed ^ 0x5eed),
            minds_config,
            sabotage: spec.sabotage,
            nodes: (0..spec.nodes).map(node).collect(),
            weather: Weather { loss: spec.loss, ..Weather::default() },
            api: Api::new(spec.nodes, workload),
            ways: Ways { twice: 20, ..Ways::default() },
            processes: Vec::new(),
            agents: Vec::new(),
            uids: 0,
            check: Checker::default(),
            trace: Trace::default(),
            stats: Stats::default(),
            targets: (0, Arc::default()),
            coalesce: Duration::from_millis(coalesce),
            unsettled: Mono(BEGIN),
            end: spec.long,
            look: Mono(BEGIN),
            spec,
        };
        world.api.budgets = world.spec.budgets;
        world.populate();
        world
    }

    fn populate(&mut self) {
        let clocks = self.spec.clocks.clone();
        let mut clocks = clocks.into_iter();
        for _ in 0..self.spec.coordinators {
            let clock = clocks.next().map_or(Clock::TRUE, |skew| skew.clock());
            let process = self.new_process(clock, 0);
            self.processes.push(process);
        }
        for n in 0..self.spec.nodes {
            let agent = self.new_agent(n);
            self.agents.push(agent);
        }
        self.first_pods();
        for p in 0..self.processes.len() {
            let after = self.spec.start_after.get(p).copied().unwrap_or_default();
            self.processes[p].alive = false;
            let life = self.processes[p].life;
            self.queue.push(self.now + after, Event::Restart { p, life });
        }
        // A large cluster's agents do not start in one moment.
        let spread = u64::try_from(self.spec.nodes).unwrap_or(0) * 12 + 3_000;
        for n in 0..self.spec.nodes {
            let after = Duration::from_millis(self.rng.u64(0..spread));
            self.start_agent(n, after);
        }
        for (number, (at, _)) in self.spec.faults.iter().enumerate() {
            self.queue.push(Mono(BEGIN + *at), Event::Fault(number));
        }
        if self.weather.loss > 0 {
            for n in 0..self.spec.nodes {
                self.next_glitch(n);
            }
        }
    }

    /// Plays on for this long.
    pub fn run(&mut self, long: Duration) {
        let until = self.now + long;
        while let Some((at, event)) = self.queue.pop(until) {
            self.now = at;
            self.stats.events += 1;
            self.dispatch(event);
            self.check_step();
        }
        self.now = until;
    }

    /// Plays to the end of its history, or until an invariant is broken.
    pub fn play(&mut self) {
        self.play_until(Duration::MAX);
    }

    /// The same up to this time of the history. `true`: it has come to its end. One that would end while something can still be
    /// done goes on for longer than it takes, by the slowest clock, until a person is called about an incident of the last minute.
    pub fn play_until(&mut self, part: Duration) -> bool {
        const EXTENDED: Duration = Duration::from_secs(1200);
        let end = self.end;
        let until = Mono(BEGIN + part.min(end));
        while let Some((at, event)) = self.queue.pop(until) {
            self.now = at;
            self.stats.events += 1;
            self.dispatch(event);
            self.check_step();
            if !self.check.violations.is_empty() {
                return true;
            }
            if self.spec.ends_settled && self.settled() {
                self.check_end();
                return true;
            }
        }
        self.now = until;
        if part < end {
            return false;
        }
        if self.spec.must_settle && end == self.spec.long && !self.healthy() && !self.person_called() {
            self.end += EXTENDED;
            return self.play_until(part);
        }
        self.check_end();
        true
    }

    /// Nothing is under way and nothing has been for so long that an act that was merely held back would have come: DNS is
    /// healthy or a person was called, every incident is closed or escalated, and everything that was to happen has.
    fn settled(&mut self) -> bool {
        /// Beyond the pause between two shared acts, by the slowest clock.
        const LONG: Duration = Duration::from_secs(420);
        const LOOK: Duration = Duration::from_secs(5);
        if self.now < self.look {
            return false;
        }
        self.look = self.now + LOOK;
        let over = self.spec.faults.last().is_none_or(|(at, _)| Mono(BEGIN + *at) < self.now);
        if !over || !(self.healthy() || self.person_called()) || !self.incidents_rest() {
            self.unsettled = self.now;
        }
        self.now.since(self.unsettled) >= LONG
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Process { p, life, what } => {
                let process = &self.processes[p];
                if process.life != life || !process.alive {
                    return;
                }
                if self.now < process.stopped_until {
                    let at = process.stopped_until;
                    self.queue.push(at, Event::Process { p, life, what });
                    return;
                }
                self.process(p, what);
            }
            Event::Agent { n, life, what } => {
                if self.agents[n].life == life && self.agents[n].alive {
                    self.agent(n, what);
                }
            }
            Event::Arrive(envelope) => self.arrive(*envelope),
            Event::Answer { who: who @ Who::Process { p, life }, answer } => {
                let process = &self.processes[p];
                if process.life != life || !process.alive {
                    return;
                }
                if self.now < process.stopped_until {
                    let at = process.stopped_until;
                    self.queue.push(at, Event::Answer { who, answer });
                    return;
                }
                self.answered(p, *answer);
            }
            Event::Answer { who: Who::Agent { n, life }, answer } => {
                if self.agents[n].life == life && self.agents[n].alive {
                    self.agent_answered(n, *answer);
                }
            }
            Event::Restart { p, life } => self.restart(p, life),
            Event::Kube(what) => self.kube(what),
            Event::Fault(number) => self.fault(number),
            Event::Glitch(n) => self.glitch(n),
        }
    }

    /// The watches of every coordinator will bring something.
    pub(crate) fn told_of_change(&mut self) {
        for p in 0..self.processes.len() {
            if self.processes[p].alive {
                let at = self.now + self.processes[p].watch.lag + self.coalesce;
                self.view_at(p, at);
            }
        }
    }

    pub(crate) fn node_number(&self, name: &NodeName) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.name.cmp(name)).ok()
    }

    /// What was wrong with everybody's DNS is over, as far as the truth goes.
    #[must_use]
    pub fn healthy(&self) -> bool {
        let wanted = self.api.workload.replicas as usize;
        let well = self.api.active().filter(|pod| pod.well() && self.nodes[pod.node].works()).count();
        let active = self.api.active().count();
        well >= wanted && well == active && self.nodes.iter().all(Node::works) && !self.weather.upstream_dead
    }

    /// What the history held.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
