//! A node remedy with a kernel, a disk and DNS that do as they are told.

use std::collections::{BTreeMap, VecDeque};

use nameward_messages::guarding::RefusalReason;
use nameward_messages::probe::{Observation, Outcome};

use nameward_kernel::repair::{Change, Image, RepairError, Seen, Undone};
use nameward_messages::probe::{ProbeAnswer, ProbeRequest};

use super::super::*;
use super::facts::{self, Case};
use crate::journal::simulated::SimulatedDisk;
use crate::journal::{Entry, Found, Journal};

pub(super) struct Rig {
    pub(super) mind: NodeMind,
    pub(super) now: Mono,
    pub(super) disk: SimulatedDisk,
    journal: Journal<SimulatedDisk>,
    /// What is there, by the command of the change.
    pub(super) kernel: BTreeMap<String, Image>,
    initial: BTreeMap<String, Image>,
    pub(super) seen: Seen,
    healthy: Seen,
    case: Case,
    pub(super) jobs: VecDeque<(u64, Job)>,
    probes: VecDeque<ProbeRequest>,
    pub(super) told: Vec<RemedyRecord>,
    pub(super) refused: Vec<RefusalReason>,
    pub(super) dns_good: bool,
    /// The host is answered. If not, what pods lose says nothing of them.
    pub(super) host_good: bool,
    /// The last permit.
    serial: u64,
    /// Somebody else changes what was just changed.
    pub(super) foreign: bool,
    pub(super) applied_at: Vec<u64>,
    pub(super) undone: usize,
    pub(super) steps: usize,
    /// The process ends at this point; points are counted.
    pub(super) crash_at: Option<usize>,
    pub(super) points: usize,
    pub(super) crashed: bool,
}

fn config() -> Arc<Config> {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    Arc::new(config)
}

impl Rig {
    pub(super) fn new(case: &Case) -> Self {
        let disk = SimulatedDisk::default();
        let (journal, found) = Journal::open(disk.clone(), "b").unwrap();
        let kernel: BTreeMap<String, Image> =
            case.commands.iter().map(|c| (*c).to_owned()).zip(case.before.iter().cloned()).collect();
        let mut rig = Self {
            mind: NodeMind::new(config()),
            now: Mono(Duration::from_secs(100)),
            disk,
            journal,
            initial: kernel.clone(),
            kernel,
            seen: case.seen.clone(),
            healthy: facts::healthy(),
            case: case.clone(),
            jobs: VecDeque::new(),
            probes: VecDeque::new(),
            told: vec![],
            refused: vec![],
            dns_good: true,
            host_good: true,
            serial: 0,
            foreign: false,
            applied_at: vec![],
            undone: 0,
            steps: 0,
            crash_at: None,
            points: 0,
            crashed: false,
        };
        rig.begin(found);
        rig.tell(Input::Diagnosis(DiagnosisTells::Stands(case.verdict.clone())));
        rig
    }

    /// One that is told of no verdict.
    pub(super) fn quiet(case: &Case, mode: Mode) -> Self {
        let mut rig = Self::new(case);
        let mut config = Config::default();
        config.remedy.mode = mode;
        rig.mind = NodeMind::new(Arc::new(config)).on(&"node1".into());
        (rig.jobs, rig.told) = (VecDeque::new(), vec![]);
        rig.begin(Found::default());
        rig
    }

    fn begin(&mut self, found: Found) {
        self.tell(Input::KillSwitch(KillSwitch::Off));
        // What is found at the start is none; then it is renewed.
        for serial in [self.serial, self.serial + 1] {
            let permit = Some(Permit { serial, valid_s: 100_000, causes: Cause::ALL.to_vec() });
            self.tell(Input::Orders(NodeOrders { permit, ..NodeOrders::default() }));
        }
        self.serial += 1;
        for namespace in facts::namespaces() {
            self.tell(Input::Namespace(NamespaceChanged::Found(namespace)));
        }
        self.tell(Input::Targets(Arc::new(facts::targets())));
        self.tell(Input::Journal { boot: "b".into(), found: Ok(found) });
    }

    /// The process ends and is started again; what was not synced is lost.
    pub(super) fn restart(&mut self) {
        self.disk = self.disk.after_power_failure();
        let (journal, found) = Journal::open(self.disk.clone(), "b").unwrap();
        self.journal = journal;
        self.mind = NodeMind::new(config());
        (self.jobs, self.probes) = (VecDeque::new(), VecDeque::new());
        (self.crash_at, self.crashed) = (None, false);
        self.begin(found);
    }

    /// The same while there is no coordinator: what is found in the orders is not renewed.
    pub(super) fn restart_unrenewed(&mut self) {
        self.restart();
        self.mind = NodeMind::new(config());
        let permit = Some(Permit { serial: self.serial, valid_s: 100_000, causes: Cause::ALL.to_vec() });
        self.jobs = VecDeque::new();
        self.tell(Input::KillSwitch(KillSwitch::Off));
        self.tell(Input::Orders(NodeOrders { permit, ..NodeOrders::default() }));
        for namespace in facts::namespaces() {
            self.tell(Input::Namespace(NamespaceChanged::Found(namespace)));
        }
        self.tell(Input::Targets(Arc::new(facts::targets())));
        self.tell(Input::Journal { boot: "b".into(), found: Ok(Found::default()) });
    }

    pub(super) fn tell(&mut self, input: Input) {
        let mut out = vec![];
        self.steps += 1;
        let now = Now::at(self.now.0);
        self.mind.step(now, input, &mut out);
        for output in out {
            match output {
                Output::Tell(record) => self.told.push(record),
                Output::Do { task, job } => {
                    assert!(self.jobs.is_empty(), "one job at a time");
                    self.jobs.push_back((task, job));
                }
                Output::Probe(request) => self.probes.push_back(request),
                Output::Refused { reason, .. } => self.refused.push(reason),
            }
        }
    }

    /// The process may end here.
    fn point(&mut self) -> bool {
        self.crashed |= self.crash_at == Some(self.points);
        self.points += 1;
        self.crashed
    }

    /// A question is on its way.
    pub(super) fn waiting(&self) -> bool {
        !self.probes.is_empty()
    }

    /// The fault comes back, as it was.
    pub(super) fn spoil_again(&mut self) {
        self.kernel = self.initial.clone();
    }

    /// Does one thing. `false`: nothing is left before `until`.
    fn one(&mut self, until: Mono) -> bool {
        if self.crashed {
            return false;
        }
        if let Some((task, job)) = self.jobs.pop_front() {
            if self.point() {
                return false;
            }
            let result = self.perform(job);
            if self.crashed || self.point() {
                return false;
            }
            self.tell(Input::Done { task, result });
            return true;
        }
        if let Some(request) = self.probes.pop_front() {
            let outcome = if self.dns_good { Outcome::Answered } else { Outcome::Timeout };
            let observations = request.items.iter().map(|item| Observation {
                at: self.now,
                path: item.path.clone(),
                port: 53,
                // The host is well, but for what is the node's.
                outcome: match item.path.vantage.kind() {
                    nameward_messages::namespaces::VantageKind::Host if self.host_good => Outcome::Answered,
                    nameward_messages::namespaces::VantageKind::Host => Outcome::Timeout,
                    nameward_messages::namespaces::VantageKind::Pod => outcome.clone(),
                },
                latency: Duration::from_millis(1),
                connect: None,
                purpose: item.purpose.clone(),
            });
            let answer =
                ProbeAnswer { id: request.id.clone(), at: Now::at(self.now.0), observations: observations.collect() };
            self.tell(Input::Answer(Arc::new(answer)));
            return true;
        }
        match self.mind.deadline() {
            Some(due) if due <= until => {
                assert!(due > self.now, "a deadline in the past");
                self.now = due;
                self.tell(Input::Tick);
                true
            }
            _ => false,
        }
    }

    pub(super) fn run(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while self.one(until) {}
        if !self.crashed {
            self.now = until;
        }
    }

    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let until = self.now + Duration::from_secs(1000);
        while !done(self) && self.one(until) {}
    }

    /// So many jobs are done. `false`: there were fewer.
    pub(super) fn run_steps(&mut self, jobs: usize) -> bool {
        let until = self.now + Duration::from_secs(200);
        let mut done = 0;
        while done < jobs {
            done += usize::from(!self.jobs.is_empty());
            if !self.one(until) {
                return false;
            }
        }
        true
    }

    fn at(&mut self, change: &Change) -> &mut Image {
        let (name, all) = (change.to_string(), self.kernel.keys().cloned().collect::<Vec<_>>());
        self.kernel.get_mut(&name).unwrap_or_else(|| panic!("{name} was not to be done, but {all:?}"))
    }

    fn perform(&mut self, job: Job) -> JobResult {
        match job {
            Job::Look(_) => {
                let whole = self.kernel != self.initial;
                JobResult::Seen(if whole { self.healthy.clone() } else { self.seen.clone() })
            }
            Job::Read(change) => JobResult::Image(Ok(self.at(&change).clone())),
            Job::Journal(entries) => {
                for entry in entries {
                    // Appended, and not yet synced.
                    if self.point() {
                        self.disk.fail_after(Some(1));
                        let _lost = self.journal.write(entry);
                        self.disk.fail_after(None);
                        return JobResult::Journalled(Ok(()));
                    }
                    if let Err(error) = self.journal.write(entry) {
                        return JobResult::Journalled(Err(error.to_string()));
                    }
                }
                JobResult::Journalled(Ok(()))
            }
            Job::Apply { change, before } => {
                let durable = self.journalled();
                let intended = durable.iter().find(|e| e.change == change && e.state == State::Intended);
                let intended = intended.unwrap_or_else(|| panic!("{change} is not on the disk: {durable:?}"));
                assert_eq!(intended.before, before, "with what was there before");
                let now = self.at(&change).clone();
                if now != before {
                    return JobResult::Image(Err(RepairError::Changed(now.to_string())));
                }
                let wrote = change.writes(&before).unwrap();
                *self.at(&change) = wrote;
                self.applied_at.push(self.now.0.as_secs());
                if self.foreign && self.applied_at.len() == self.case.commands.len() {
                    let foreign = foreign(&before);
                    let answer = JobResult::Image(Ok(self.at(&change).clone()));
                    *self.at(&change) = foreign;
                    return answer;
                }
                JobResult::Image(Ok(self.at(&change).clone()))
            }
            Job::Undo { change, before, wrote } => {
                let now = self.at(&change).clone();
                self.undone += 1;
                JobResult::Undone(Ok(if now == before {
                    Undone::NotNeeded
                } else if now != wrote {
                    Undone::LeftAlone(now)
                } else {
                    *self.at(&change) = before;
                    Undone::Done
                }))
            }
        }
    }

    pub(super) fn outcomes(&self) -> Vec<RemedyOutcome> {
        self.told.iter().map(|r| r.outcome).filter(|o| *o != RemedyOutcome::Refused).collect()
    }

    pub(super) fn commands(&self) -> Vec<String> {
        self.journalled().iter().map(|e| e.change.to_string()).collect()
    }

    /// What a restart would find.
    pub(super) fn journalled(&self) -> Vec<Entry> {
        Journal::open(self.disk.after_power_failure(), "b").unwrap().1.entries
    }

    pub(super) fn repaired(&self) -> bool {
        self.kernel.iter().all(|(name, image)| self.initial.get(name) != Some(image))
    }

    /// Conntrack's entries need not come back.
    pub(super) fn as_before(&self) -> bool {
        !self.case.reversible() || self.kernel == self.initial
    }

    /// Whether everything is either as it was or as it was to be.
    pub(super) fn one_or_the_other(&self) -> bool {
        let durable = self.journalled();
        self.kernel.iter().all(|(name, image)| {
            let wrote = durable.iter().find(|e| e.change.to_string() == *name).map(|e| &e.wrote);
            self.initial.get(name) == Some(image) || wrote == Some(image)
        })
    }
}

/// What neither we wrote nor was there before.
fn foreign(before: &Image) -> Image {
    match before {
        Image::Routes(_) => Image::Routes(vec![nameward_kernel::repair::DefaultVia {
            gateway: Some([10, 9, 9, 9].into()),
            link: Some(2),
            metric: 0,
            protocol: 3,
        }]),
        Image::Bridge(_) => Image::Bridge(Some(77)),
        Image::Hairpin(_) => Image::Hairpin(None),
        Image::Neighbour(_) => Image::Neighbour(Some(nameward_kernel::repair::NeighbourImage {
            mac: facts::WRONG.into(),
            permanent: false,
        })),
        Image::Addresses(_) => Image::Addresses(vec![([10, 9, 9, 9].into(), 8)]),
        Image::Value(_) | Image::Up(_) | Image::Flows(_) => Image::Value(7),
    }
}

use crate::journal::State;
