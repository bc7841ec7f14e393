//! The decision: what to ask, from where, when, and what counts as a failure.

mod jobs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::namespaces::{Namespace, NamespaceChanged, Vantage};
use nameward_messages::probe::{Observation, PathKey, ProbeAnswer, ProbeRequest, ProberTells, Round, Suspicion};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::Targets;
use nameward_messages::{Mono, NetnsCookie, NodeName, Now};

use crate::confirm::{Change, Confirm};
use crate::paths::{Questions, lay_out};
use crate::schedule::{CLOSEST_PERCENT, Schedule};
use crate::share::share;
use jobs::Running;
pub use jobs::{Job, JobId, Shot};

/// What the prober is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// What can be asked.
    Targets(Arc<Targets>),
    /// A namespace was found or is gone.
    Namespace(NamespaceChanged),
    /// The coordinator's orders: of interest is the share.
    Orders(NodeOrders),
    /// Probes outside the rounds.
    Request(ProbeRequest),
    /// A new configuration.
    Reconfigure(Arc<Config>),
    /// A job ended.
    Done {
        /// Which.
        job: JobId,
        /// What came of its shots.
        observations: Vec<Observation>,
    },
    /// The deadline passed.
    Tick,
}

/// What the prober wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Probe, and answer with [`Input::Done`].
    Run(Job),
    /// Tell the others.
    Tell(ProberTells),
    /// Close every socket that is held open in this namespace.
    Close(NetnsCookie),
}

/// What outlives a mind that is rebuilt after a fault, so that no round is numbered twice and no suspicion is left standing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The number of the last round.
    pub round: u64,
    /// Suspicions that were told and not cleared.
    pub suspected: Vec<PathKey>,
}

/// The prober's decision. It holds no socket and reads no clock.
#[derive(Debug)]
pub struct ProberMind {
    config: Arc<Config>,
    node: NodeName,
    random: fastrand::Rng,
    targets: Arc<Targets>,
    namespaces: BTreeMap<NetnsCookie, Namespace>,
    given_share: Option<u64>,
    schedule: Schedule,
    confirm: Confirm,
    /// Targets, namespaces, share or configuration changed since the paths were laid out.
    stale: bool,
    round: u64,
    next_sweep: Option<Mono>,
    jobs: BTreeMap<JobId, Running>,
    next_job: u64,
}

impl ProberMind {
    /// For a node. `seed` decides every jitter and the order in which paths have their turn.
    #[must_use]
    pub fn new(config: Arc<Config>, node: NodeName, seed: u64, memory: Memory) -> Self {
        let mut confirm = Confirm::default();
        confirm.resume(memory.suspected);
        Self {
            config,
            node,
            random: fastrand::Rng::with_seed(seed),
            targets: Arc::default(),
            namespaces: BTreeMap::new(),
            given_share: None,
            schedule: Schedule::default(),
            confirm,
            stale: false,
            round: memory.round,
            next_sweep: None,
            jobs: BTreeMap::new(),
            next_job: 0,
        }
    }

    /// What a rebuilt mind must know.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory { round: self.round, suspected: self.confirm.suspected().cloned().collect() }
    }

    /// Decides.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Targets(targets) => {
                self.targets = targets;
                if self.next_sweep.is_some() {
                    self.lay_out(now, out);
                } else {
                    // The first time the namespaces may still be on their way: the first sweep lays out. The agents of
                    // a cluster are rolled out together: they begin apart.
                    self.stale = true;
                    let apart = self.interval().min(Duration::from_secs(1)).mul_f64(self.random.f64());
                    self.next_sweep = Some(now.mono + apart);
                }
            }
            Input::Namespace(NamespaceChanged::Found(namespace)) => {
                self.namespaces.insert(namespace.cookie, namespace);
                self.stale = true;
            }
            Input::Namespace(NamespaceChanged::Gone { cookie, .. }) => self.gone(now, cookie, out),
            Input::Orders(orders) => {
                if self.given_share != orders.share_milli_qps {
                    self.given_share = orders.share_milli_qps;
                    self.stale = true;
                }
            }
            Input::Reconfigure(config) => {
                self.config = config;
                self.stale = true;
            }
            Input::Request(request) => self.request(now, request, out),
            Input::Done { job, observations } => self.done(now, job, observations, out),
            Input::Tick => {}
        }
        self.lose_overdue(now, out);
        self.confirm_due(now, out);
        self.sweep_due(now, out);
    }

    /// When the mind wants to be asked again.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let sweep = if self.sweeping() { None } else { self.next_sweep };
        let overdue = self.jobs.values().map(|job| job.overdue).min();
        [sweep, self.confirm.due(), overdue].into_iter().flatten().min()
    }

    fn interval(&self) -> Duration {
        self.config.probe.interval.0.max(Duration::from_millis(100))
    }

    /// Lays the paths out anew and clears what is suspected of paths that are gone.
    fn lay_out(&mut self, now: Now, out: &mut Vec<Output>) {
        self.stale = false;
        let paths = lay_out(&self.config, &self.node, &self.targets, &self.namespaces);
        let share = share(self.given_share, self.config.probe.budget_per_pod);
        let interval = self.interval();
        let random = &mut self.random;
        self.schedule.set(paths, share, interval, now.mono, &mut || random.u64(..));
        self.confirm.set_budget(share, interval);
        let gone = self.confirm.forget(|path| !self.schedule.has(path));
        clear(now, gone, out);
    }

    fn gone(&mut self, now: Now, cookie: NetnsCookie, out: &mut Vec<Output>) {
        self.namespaces.remove(&cookie);
        let from_there = |path: &PathKey| matches!(&path.vantage, Vantage::Pod { cookie: c, .. } if *c == cookie);
        self.schedule.forget(from_there);
        clear(now, self.confirm.forget(from_there), out);
        self.stale = true;
        out.push(Output::Close(cookie));
    }

    fn sweep_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.sweeping() || self.next_sweep.is_none_or(|due| due > now.mono) {
            return;
        }
        if self.stale {
            self.lay_out(now, out);
        }
        let interval = self.interval();
        let jitter = f64::from(CLOSEST_PERCENT) / 100.0;
        let wait = interval.mul_f64(jitter + (1.0 - jitter) * self.random.f64());
        self.next_sweep = Some(now.mono + wait);
        let period = self.schedule.period(interval);
        let confirm = &self.confirm;
        let picked = self.schedule.pick(self.round + 1, now.mono, |path| confirm.suspects(path));
        let timeout = self.config.probe.timeout.0;
        let random = &mut self.random;
        let shots: Vec<Shot> = picked.iter().filter_map(|one| Shot::round(one, timeout, random.u64(..))).collect();
        if shots.is_empty() {
            return;
        }
        self.round += 1;
        self.run(now, shots, jobs::Kind::Sweep { number: self.round, period }, out);
    }

    fn confirm_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.confirm.due().is_none_or(|due| due > now.mono) {
            return;
        }
        let schedule = &self.schedule;
        let paths = self.confirm.take_due(now.mono, |path| schedule.last(path).map(|one| &*one.planned.costs));
        let timeout = self.config.probe.timeout.0;
        let random = &mut self.random;
        let shots: Vec<Shot> = paths
            .iter()
            .filter_map(|path| schedule.last(path))
            .flat_map(|one| Shot::confirm(&one, timeout, || random.u64(..)))
            .collect();
        if !shots.is_empty() {
            self.run(now, shots, jobs::Kind::Confirm { paths }, out);
        }
    }

    fn request(&mut self, now: Now, request: ProbeRequest, out: &mut Vec<Output>) {
        let questions = Questions::new(&self.config, &self.targets);
        let shots = if now.mono > request.deadline {
            Vec::new()
        } else {
            let known = jobs::Known {
                config: &self.config,
                targets: &self.targets,
                namespaces: &self.namespaces,
                schedule: &self.schedule,
                questions: &questions,
                random: self.random.u64(..),
            };
            request.items.into_iter().take(jobs::MOST_ITEMS).filter_map(|item| known.shot(item)).collect()
        };
        if shots.is_empty() {
            answer(now, request.id, Vec::new(), out);
        } else {
            self.run(now, shots, jobs::Kind::Request { id: request.id }, out);
        }
    }

    fn done(&mut self, now: Now, job: JobId, observations: Vec<Observation>, out: &mut Vec<Output>) {
        // One that was given up comes too late.
        let Some(running) = self.jobs.remove(&job) else { return };
        match running.kind {
            jobs::Kind::Sweep { number, period } => {
                let after = self.config.probe.confirm_after.0;
                for one in observations.iter().filter(|one| self.schedule.has(&one.path)) {
                    if self.confirm.observed(now.mono, after, one) == Some(Change::Cleared) {
                        out.push(cleared(now, one.path.clone(), true));
                    }
                }
                let round = Round { number, began: running.began, ended: now, period, observations };
                out.push(Output::Tell(ProberTells::Round(Arc::new(round))));
            }
            jobs::Kind::Confirm { paths } => {
                let mut by_path: BTreeMap<PathKey, Vec<Observation>> = BTreeMap::new();
                for one in observations {
                    by_path.entry(one.path.clone()).or_default().push(one);
                }
                for path in paths {
                    let results = by_path.remove(&path).unwrap_or_default();
                    if let Some(Change::Suspected(observations)) = self.confirm.confirmed(&path, results) {
                        let suspicion = Suspicion { at: now, path, observations };
                        out.push(Output::Tell(ProberTells::Suspected(Arc::new(suspicion))));
                    }
                }
            }
            jobs::Kind::Request { id } => answer(now, id, observations, out),
        }
    }
}

fn answer(now: Now, id: nameward_messages::RequestId, observations: Vec<Observation>, out: &mut Vec<Output>) {
    out.push(Output::Tell(ProberTells::Answer(Arc::new(ProbeAnswer { id, at: now, observations }))));
}

fn cleared(at: Now, path: PathKey, recovered: bool) -> Output {
    Output::Tell(ProberTells::Cleared { at, path, recovered })
}

fn clear(at: Now, paths: Vec<PathKey>, out: &mut Vec<Output>) {
    out.extend(paths.into_iter().map(|path| cleared(at, path, false)));
}

#[cfg(test)]
mod tests;
