//! The mind of the reporter: when this node's report is written, and what stands in it.

mod compare;
mod conditions;
mod content;
mod pace;
mod requests;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::health::{ActorName, Stage};
use nameward_messages::namespaces::{NamespaceChanged, Vantage};
use nameward_messages::probe::{ProbeAnswer, ProbeRequest};
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::report::{MatrixDigest, NodeOrders, NodeReport};
use nameward_messages::targets::Targets;
use nameward_messages::verdict::{Deferral, DiagnosisTells, Verdict, VerdictKey};
use nameward_messages::{Mono, Now, PodUid};

use pace::Pace;
use requests::Requests;

/// What the mind is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// What diagnosis concludes.
    Diagnosis(DiagnosisTells),
    /// What a node remedy did or would have done.
    Remedy(RemedyRecord),
    /// This node's orders.
    Orders(NodeOrders),
    /// What can be asked.
    Targets(Arc<Targets>),
    /// From where it can be asked.
    Namespace(NamespaceChanged),
    /// What the prober answers.
    Answer(Arc<ProbeAnswer>),
    /// How the fellow actors fare, with the sentences about those that are dead or stuck.
    Fellows {
        /// Their stages.
        stages: BTreeMap<ActorName, Stage>,
        /// What is wrong with the process itself.
        troubles: Vec<String>,
    },
    /// What came of [`Output::Read`].
    WasRead(ReadResult),
    /// What came of [`Output::Create`] or [`Output::Write`].
    Wrote(WriteResult),
    /// New settings.
    Configure(Arc<Config>),
    /// The deadline passed.
    Tick,
}

/// What came of reading this node's own object.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadResult {
    /// It is there, with or without a report of an earlier life.
    Found(Option<Box<NodeReport>>),
    /// It is not there.
    Missing,
    /// It could not be read; why.
    Failed(String),
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// Written.
    Done,
    /// The object is not there: it must be created.
    Missing,
    /// Somebody else wrote, or created it: it must be read again.
    Conflict,
    /// Not written; why.
    Failed(String),
}

/// What the mind wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Read this node's own object and tell [`Input::WasRead`].
    Read,
    /// Create it and tell [`Input::Wrote`].
    Create,
    /// Write its status and tell [`Input::Wrote`].
    Write(Box<NodeReport>),
    /// To the prober.
    Probe(ProbeRequest),
}

/// Which call is under way or due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// It has not been read since the start.
    Unread,
    /// It is not there.
    Missing,
    /// It is there and can be written.
    Known,
}

/// The reporter's mind.
#[derive(Debug)]
pub struct ReporterMind {
    config: Arc<Config>,
    version: String,
    object: Object,
    /// A call is under way since then.
    calling: Option<Mono>,
    pace: Pace,
    sequence: u64,
    /// What was written last, to tell a meaningful change.
    written: Option<content::Shape>,
    /// What is being written.
    writing: Option<content::Shape>,
    /// Something was told since the report was last compared with what was written.
    touched: bool,
    /// What came of that comparison.
    differs: Option<pace::Weight>,
    /// Whether the process was starved then.
    was_starved: bool,
    conditions: conditions::Conditions,
    verdicts: BTreeMap<VerdictKey, Verdict>,
    deferred: Vec<Deferral>,
    examined: Vec<PodUid>,
    unmodelled: Vec<String>,
    matrix: Option<MatrixDigest>,
    remedies: Vec<RemedyRecord>,
    vantages: BTreeMap<PodUid, Vantage>,
    targets: Option<Arc<Targets>>,
    requests: Requests,
    stages: BTreeMap<ActorName, Stage>,
    process_troubles: Vec<String>,
    /// The process was late by seconds at this moment: its judgement of time-outs is not worth much.
    starved_at: Option<Mono>,
    due: Option<Mono>,
}

/// A call whose result never comes is given up after this many times `kubernetes.call_timeout`.
const CALL_PATIENCE: u32 = 3;
/// A tick that is later than this says that the process is starved.
const LATE: Duration = Duration::from_secs(5);
/// And does so for this long.
const STARVED: Duration = Duration::from_secs(60);
/// How often the clock is looked at when nothing happens.
const LOOK: Duration = Duration::from_secs(30);

impl ReporterMind {
    /// A mind that knows nothing yet. `seed` spreads the heartbeats of many nodes; `version` is the agent's.
    #[must_use]
    pub fn new(config: Arc<Config>, version: impl Into<String>, seed: u64) -> Self {
        Self {
            config,
            version: version.into(),
            object: Object::Unread,
            calling: None,
            pace: Pace::new(seed),
            sequence: 0,
            written: None,
            writing: None,
            touched: true,
            differs: None,
            was_starved: false,
            conditions: conditions::Conditions::default(),
            verdicts: BTreeMap::new(),
            deferred: Vec::new(),
            examined: Vec::new(),
            unmodelled: Vec::new(),
            matrix: None,
            remedies: Vec::new(),
            vantages: BTreeMap::new(),
            targets: None,
            requests: Requests::default(),
            stages: BTreeMap::new(),
            process_troubles: Vec::new(),
            starved_at: None,
            due: None,
        }
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// What stops the report from being written, if something does: for this actor's own stage.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.pace.trouble()
    }

    /// Takes one input.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.touched |= self.touches(&input);
        match input {
            Input::Diagnosis(tells) => self.diagnosis(tells),
            Input::Remedy(record) => content::keep_last(&mut self.remedies, record),
            Input::Orders(orders) => self.requests.ordered(now, &orders.requests),
            Input::Targets(targets) => self.targets = Some(targets),
            Input::Namespace(NamespaceChanged::Found(ns)) => {
                let vantage = Vantage::Pod { uid: ns.pod.clone(), key: ns.key, cookie: ns.cookie };
                self.vantages.insert(ns.pod, vantage);
            }
            Input::Namespace(NamespaceChanged::Gone { pod, cookie }) => {
                let is = |v: &Vantage| matches!(v, Vantage::Pod { cookie: known, .. } if *known == cookie);
                if self.vantages.get(&pod).is_some_and(is) {
                    self.vantages.remove(&pod);
                }
            }
            Input::Answer(answer) => self.requests.answered(now, &answer),
            Input::Fellows { stages, troubles } => {
                self.stages = stages;
                self.process_troubles = troubles;
            }
            Input::WasRead(result) => self.was_read(now, result),
            Input::Wrote(result) => self.wrote(now, result),
            Input::Configure(config) => self.config = config,
            Input::Tick => self.lateness(now),
        }
        if self.requests.any() && !self.vouches(now) {
            self.requests.disown();
        }
        if let Some(targets) = self.targets.as_ref().filter(|_| self.requests.next().is_some()) {
            let vantages: Vec<&Vantage> = self.vantages.values().collect();
            out.extend(self.requests.ask(now, targets, &vantages).into_iter().map(Output::Probe));
        }
        self.write(now, out);
        self.plan_next(now);
    }

    fn diagnosis(&mut self, tells: DiagnosisTells) {
        match tells {
            DiagnosisTells::Stands(verdict) => {
                self.verdicts.insert(verdict.key(), verdict);
            }
            DiagnosisTells::Ended { key, .. } => {
                self.verdicts.remove(&key);
            }
            DiagnosisTells::Deferred(mut list) => {
                list.sort();
                list.truncate(content::DEFERRED);
                self.deferred = list;
            }
            DiagnosisTells::Examined(mut list) => {
                list.truncate(content::DEFERRED);
                self.examined = list;
            }
            DiagnosisTells::Matrix(matrix) => self.matrix = Some(matrix),
            DiagnosisTells::Unmodelled(mut list) => {
                list.truncate(content::UNMODELLED);
                self.unmodelled = list.iter().map(|line| content::clip(line)).collect();
            }
            // For this node's log and page.
            DiagnosisTells::Recovered(_) | DiagnosisTells::Way { .. } => {}
        }
    }

    fn was_read(&mut self, now: Now, result: ReadResult) {
        self.calling = None;
        match result {
            ReadResult::Found(report) => {
                self.object = Object::Known;
                self.pace.succeeded();
                if let Some(report) = report {
                    self.sequence = self.sequence.max(report.sequence);
                    self.conditions.adopt(&report.conditions);
                }
            }
            ReadResult::Missing => {
                self.object = Object::Missing;
                self.pace.succeeded();
            }
            ReadResult::Failed(why) => self.pace.failed(now.mono, why),
        }
    }

    fn wrote(&mut self, now: Now, result: WriteResult) {
        self.calling = None;
        let writing = self.writing.take();
        match result {
            WriteResult::Done => {
                self.object = Object::Known;
                self.pace.succeeded();
                if writing.is_some() {
                    self.written = writing;
                    self.pace.wrote(now.mono, self.config.coordinator.report_every.0);
                }
            }
            WriteResult::Missing => {
                self.object = Object::Missing;
                self.pace.failed(now.mono, "this node's NodeAgent is gone; it is created again".to_owned());
            }
            WriteResult::Conflict => {
                self.object = Object::Unread;
                self.pace.failed(now.mono, "this node's NodeAgent changed meanwhile; it is read again".to_owned());
            }
            WriteResult::Failed(why) => self.pace.failed(now.mono, why),
        }
    }

    fn lateness(&mut self, now: Now) {
        if self.due.is_some_and(|due| now.mono.since(due) > LATE) {
            self.starved_at = Some(now.mono);
        }
    }

    fn write(&mut self, now: Now, out: &mut Vec<Output>) {
        let patience = self.config.kubernetes.call_timeout.0 * CALL_PATIENCE;
        if self.calling.is_some_and(|since| now.mono.since(since) > patience) {
            self.calling = None;
            self.writing = None;
            self.pace.failed(now.mono, "a call about this node's NodeAgent never came back".to_owned());
        }
        if self.calling.is_some() {
            return;
        }
        if self.object != Object::Known {
            if self.pace.may_retry(now.mono) {
                self.calling = Some(now.mono);
                out.push(if self.object == Object::Unread { Output::Read } else { Output::Create });
            }
            return;
        }
        let made = self.compare(now);
        self.pace.changed(now.mono, self.differs);
        if self.pace.take(now.mono) {
            let (report, shape) = made.unwrap_or_else(|| self.shaped(now));
            self.sequence += 1;
            self.calling = Some(now.mono);
            self.writing = Some(shape);
            let report = NodeReport { sequence: self.sequence, written_at: Some(now.wall), ..report };
            out.push(Output::Write(Box::new(report)));
        }
    }

    fn report(&mut self, now: Now) -> NodeReport {
        let troubles = self.troubles(now);
        let self_check = self.vouches(now);
        let mut report = NodeReport {
            sequence: self.sequence,
            written_at: None,
            version: self.version.clone(),
            self_check,
            troubles: troubles.lines,
            namespaces: u32::try_from(self.vantages.len()).unwrap_or(u32::MAX),
            matrix: content::bounded(self.matrix.clone().unwrap_or_default()),
            verdicts: content::verdicts(&self.verdicts),
            deferred: self.deferred.clone(),
            examined: self.examined.clone(),
            unmodelled: self.unmodelled.clone(),
            answers: self.requests.answers(),
            remedies: self.remedies.clone(),
            conditions: Vec::new(),
        };
        let known = self.matrix.is_some();
        report.conditions = self.conditions.of(&report, known, self.stages.get(&ActorName::Watcher), now.wall);
        report
    }

    /// The agent vouches for what it measures.
    fn vouches(&self, now: Now) -> bool {
        self.matrix.is_some() && self.troubles(now).vouches
    }

    fn troubles(&self, now: Now) -> content::Troubles {
        content::troubles(&self.stages, &self.process_troubles, self.starved(now))
    }

    fn plan_next(&mut self, now: Now) {
        let next = [
            self.calling.map(|since| since + self.config.kubernetes.call_timeout.0 * (CALL_PATIENCE + 1)),
            if self.calling.is_none() { self.pace.next(now.mono, self.object == Object::Known) } else { None },
            self.requests.next().filter(|at| *at > now.mono),
            self.starved_at.map(|at| at + STARVED).filter(|at| *at > now.mono),
            Some(now.mono + LOOK),
        ];
        self.due = next.into_iter().flatten().min();
    }
}
