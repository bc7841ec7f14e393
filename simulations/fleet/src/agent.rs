//! A node's agent: the reporter's mind and the node remedy's, told what diagnosis would tell them.

mod lie;
mod look;
mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nameward_coordinator::reporter::{Input, Output, ReporterMind};
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::health::{ActorName, Stage};
use nameward_messages::namespaces::{Namespace, NamespaceChanged, NamespaceSource, Resolv};
use nameward_messages::probe::ProbeAnswer;
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::report::MatrixDigest;
use nameward_messages::targets::Targets;
use nameward_messages::verdict::{Deferral, Verdict, VerdictKey};
use nameward_messages::{Mono, NetnsCookie, ObjectKey, PodUid};
use nameward_remedy::node::{Input as NodeInput, Job, NodeMind, Output as NodeOutput};

pub(crate) use lie::Lie;
pub(crate) use machine::Machine;

use crate::clock::Clock;
use crate::net::{Answer, Request, Who};
use crate::world::{Event, World};

/// What an agent is told.
#[derive(Clone, Debug)]
pub(crate) enum AgentEvent {
    /// A deadline of one of its minds.
    Tick,
    /// Diagnosis has come to a conclusion from what stands now.
    Look,
    /// The watch of its own object brings its orders.
    Orders,
    /// The watch of the endpoints.
    Targets,
    /// The policy ConfigMap.
    Switch,
    /// The journal is opened.
    Journal,
    /// A job of the node remedy is done; its agent may die over it.
    Job {
        /// Its number.
        task: u64,
        /// What.
        job: Box<Job>,
        /// The agent dies right after.
        dies: bool,
    },
    /// The prober has asked.
    Probed(Arc<ProbeAnswer>),
}

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) reporter: ReporterMind,
    pub(crate) node: NodeMind,
    pub(crate) clock: Clock,
    pub(crate) life: u32,
    pub(crate) alive: bool,
    pub(crate) cut_until: Mono,
    pub(crate) lie: Lie,
    /// What it stands on.
    pub(crate) machine: Machine,
    /// Its own fellows are not well: it does not vouch for itself.
    pub(crate) unwell: bool,
    /// Pod namespaces that it probes from.
    pub(crate) namespaces: u32,
    /// Its minds know them.
    listed: bool,
    targets: Arc<Targets>,
    tick: Option<Mono>,
    look: Option<Mono>,
    switch: Option<KillSwitch>,
    standing: BTreeMap<VerdictKey, Verdict>,
    deferred: Vec<Deferral>,
    examined: Vec<PodUid>,
    matrix: Option<MatrixDigest>,
    /// A path that fails for want of luck, until then.
    glitch: Option<(PodUid, Mono)>,
}

impl World {
    pub(crate) fn new_agent(&mut self, n: usize) -> Agent {
        let config = Arc::clone(&self.minds_config);
        let origin = Duration::from_secs(self.rng.u64(0..100_000));
        let wall_ahead = jiff::SignedDuration::from_secs(self.rng.i64(-600..600));
        let ppm = self.rng.i64(-100..100);
        Agent {
            reporter: ReporterMind::new(Arc::clone(&config), "simulated", self.rng.u64(..)),
            node: NodeMind::new(config),
            clock: Clock { origin, wall_ahead, ppm },
            life: 0,
            alive: false,
            cut_until: Mono::default(),
            lie: Lie::Honest,
            machine: Machine::default(),
            unwell: false,
            namespaces: if self.spec.lonely == Some(n) { 0 } else { self.rng.u32(1..4) },
            listed: false,
            targets: Arc::default(),
            tick: None,
            look: None,
            switch: None,
            standing: BTreeMap::new(),
            deferred: Vec::new(),
            examined: Vec::new(),
            matrix: None,
            glitch: None,
        }
    }

    /// Begins an agent's next life.
    pub(crate) fn start_agent(&mut self, n: usize, after: Duration) {
        let fresh = self.new_agent(n);
        let old = &self.agents[n];
        let Agent { life, clock, cut_until, namespaces, .. } = *old;
        let (lie, machine, life) = (old.lie.clone(), old.machine.clone(), life + 1);
        self.agents[n] = Agent { life, clock, cut_until, lie, machine, namespaces, alive: true, ..fresh };
        for event in
            [AgentEvent::Switch, AgentEvent::Journal, AgentEvent::Targets, AgentEvent::Orders, AgentEvent::Tick]
        {
            self.push_agent(n, after, event);
        }
        self.agents[n].tick = Some(self.now + after);
        let sweep = after + Duration::from_millis(self.rng.u64(2_000..12_000));
        self.look_at(n, self.now + sweep);
    }

    /// Ends an agent: it says nothing more.
    pub(crate) fn end_agent(&mut self, n: usize) {
        self.agents[n].alive = false;
        self.agents[n].life += 1;
    }

    pub(crate) fn agent(&mut self, n: usize, what: AgentEvent) {
        match what {
            AgentEvent::Tick => {
                if self.agents[n].tick.is_none_or(|at| at > self.now) {
                    return;
                }
                self.agents[n].tick = None;
                let agent = &self.agents[n];
                let now = agent.clock.now(self.now).mono;
                let due = |at: Option<Mono>| at.is_none_or(|at| at <= now);
                let (reporter, node) = (due(agent.reporter.deadline()), due(agent.node.deadline()));
                if reporter {
                    self.tell_reporter(n, Input::Tick);
                }
                if node {
                    self.tell_node(n, NodeInput::Tick);
                }
                self.agent_tick(n);
            }
            AgentEvent::Look => {
                if self.agents[n].look.is_some_and(|at| at <= self.now) {
                    self.agents[n].look = None;
                }
                self.look(n);
            }
            AgentEvent::Orders => self.orders(n),
            AgentEvent::Targets => {
                let first = !std::mem::replace(&mut self.agents[n].listed, true);
                for number in 0..if first { self.agents[n].namespaces } else { 0 } {
                    self.tell_node(n, NodeInput::Namespace(namespace(n, number)));
                    self.tell_reporter(n, Input::Namespace(namespace(n, number)));
                }
                let targets = self.targets();
                if first || !Arc::ptr_eq(&targets, &self.agents[n].targets) {
                    self.agents[n].targets = Arc::clone(&targets);
                    self.tell_node(n, NodeInput::Targets(Arc::clone(&targets)));
                    self.tell_reporter(n, Input::Targets(targets));
                }
            }
            AgentEvent::Switch => self.agent_switch(n),
            AgentEvent::Journal => self.open_journal(n),
            AgentEvent::Job { task, job, dies } => self.end_job(n, task, *job, dies),
            AgentEvent::Probed(answer) => {
                self.tell_node(n, NodeInput::Answer(Arc::clone(&answer)));
                self.tell_reporter(n, Input::Answer(answer));
            }
        }
    }

    pub(crate) fn agent_answered(&mut self, n: usize, answer: Answer) {
        match answer {
            Answer::AgentRead(result) => self.tell_reporter(n, Input::WasRead(result)),
            Answer::AgentWrote(result) => self.tell_reporter(n, Input::Wrote(result)),
            _ => {}
        }
    }

    fn cut(&self, n: usize) -> bool {
        self.now < self.agents[n].cut_until || self.now < self.ways.down_until || self.nodes[n].down
    }

    fn orders(&mut self, n: usize) {
        if self.cut(n) {
            self.push_agent(n, Duration::from_secs(5), AgentEvent::Orders);
            return;
        }
        let mut orders = self.api.agents[n].orders.clone();
        self.note_heard(n, &orders);
        self.sabotage.orders(&mut orders);
        if !orders.complaints.is_empty() {
            let at = self.now + Duration::from_millis(self.rng.u64(5_000..9_000));
            self.look_at(n, at);
        }
        self.tell_node(n, NodeInput::Orders(orders.clone()));
        self.tell_reporter(n, Input::Orders(orders));
    }

    fn agent_switch(&mut self, n: usize) {
        let local = self.agents[n].clock.now(self.now).mono;
        self.note_agent_read(n, self.cut(n));
        let switch = match (self.cut(n), self.agents[n].switch) {
            (true, Some(known @ (KillSwitch::On | KillSwitch::UnreadableSince(_)))) => known,
            // It was never read.
            (true, None) => KillSwitch::UnreadableSince(Mono::default()),
            (true, _) => KillSwitch::UnreadableSince(local),
            (false, _) if self.api.paused => KillSwitch::On,
            (false, _) => KillSwitch::Off,
        };
        let switch = self.sabotage.agents_switch(self.sabotage.switch(switch));
        if self.agents[n].switch != Some(switch) {
            self.agents[n].switch = Some(switch);
            self.tell_node(n, NodeInput::KillSwitch(switch));
        }
        if self.cut(n) {
            self.push_agent(n, Duration::from_secs(5), AgentEvent::Switch);
        }
    }

    pub(crate) fn tell_reporter(&mut self, n: usize, input: Input) {
        let agent = &mut self.agents[n];
        let now = agent.clock.now(self.now);
        let mut out = Vec::new();
        agent.reporter.step(now, input, &mut out);
        let who = Who::Agent { n, life: agent.life };
        for output in out {
            match output {
                Output::Read => self.send(who, Request::AgentRead),
                Output::Create => self.send(who, Request::AgentCreate),
                Output::Write(report) => self.send(who, Request::AgentWrite(report)),
                Output::Probe(request) => self.probe(n, request),
            }
        }
        self.agent_tick(n);
    }

    /// The agent's fellows are well, or not.
    pub(crate) fn tell_fellows(&mut self, n: usize) {
        let stage = if self.agents[n].unwell && self.sabotage != crate::sabotage::Sabotage::AllVouch {
            Stage::Degraded("its loopback canary does not answer".to_owned())
        } else {
            Stage::Ready
        };
        let stages = [(ActorName::Prober, stage)].into();
        self.tell_reporter(n, Input::Fellows { stages, troubles: Vec::new() });
    }

    pub(crate) fn tell_node(&mut self, n: usize, input: NodeInput) {
        let agent = &mut self.agents[n];
        let now = agent.clock.now(self.now);
        let mut out = Vec::new();
        agent.node.step(now, NodeInput::PausedHere(false), &mut out);
        agent.node.step(now, input, &mut out);
        for output in out {
            self.node_output(n, output);
        }
        self.agent_tick(n);
    }

    fn node_output(&mut self, n: usize, output: NodeOutput) {
        match output {
            NodeOutput::Tell(record) => self.node_record(n, record),
            NodeOutput::Do { task, job } => self.start_job(n, task, job),
            NodeOutput::Probe(request) => self.probe(n, request),
            NodeOutput::Refused { .. } => {}
        }
    }

    fn node_record(&mut self, n: usize, record: RemedyRecord) {
        self.trace.line(self.now, &self.nodes[n].name, || {
            format!("node remedy {} {}: {}", record.kind, record.outcome.label(), record.detail)
        });
        self.stats.node_remedies += 1;
        self.tell_reporter(n, Input::Remedy(record));
    }

    fn agent_tick(&mut self, n: usize) {
        let agent = &self.agents[n];
        let local = [agent.reporter.deadline(), agent.node.deadline()].into_iter().flatten().min();
        let Some(local) = local else { return };
        let at = agent.clock.when(local).max(self.now + Duration::from_millis(1));
        if agent.tick.is_none_or(|tick| tick > at) {
            self.agents[n].tick = Some(at);
            let life = self.agents[n].life;
            self.queue.push(at, Event::Agent { n, life, what: AgentEvent::Tick });
        }
    }

    pub(crate) fn push_agent(&mut self, n: usize, after: Duration, what: AgentEvent) {
        let life = self.agents[n].life;
        self.queue.push(self.now + after, Event::Agent { n, life, what });
    }

    /// The watch of a node's own object will bring its orders.
    pub(crate) fn tell_orders(&mut self, n: usize) {
        let after = Duration::from_millis(self.rng.u64(5..600));
        self.push_agent(n, after, AgentEvent::Orders);
    }

    pub(crate) fn tell_targets(&mut self) {
        for n in 0..self.agents.len() {
            let after = Duration::from_millis(self.rng.u64(5..900));
            self.push_agent(n, after, AgentEvent::Targets);
        }
    }

    pub(crate) fn tell_switch(&mut self) {
        for n in 0..self.agents.len() {
            let after = Duration::from_millis(self.rng.u64(5..900));
            self.push_agent(n, after, AgentEvent::Switch);
        }
        for p in 0..self.processes.len() {
            let after = Duration::from_millis(self.rng.u64(5..900));
            self.push_process(p, after, crate::process::ProcessEvent::Switch);
        }
    }
}

/// A workload pod of a node.
pub(crate) fn tenant(n: usize, number: u32) -> (PodUid, ObjectKey) {
    (PodUid(format!("tenant-{n}-{number}")), ObjectKey::new("shop", format!("web-{n}-{number}")))
}

fn namespace(n: usize, number: u32) -> NamespaceChanged {
    let (pod, key) = tenant(n, number);
    NamespaceChanged::Found(Namespace {
        pod,
        key,
        cookie: NetnsCookie(u64::from(number) + 1),
        path: "/run/netns/simulated".into(),
        ips: Vec::new(),
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv::default(),
        source: NamespaceSource::CniCache,
    })
}
