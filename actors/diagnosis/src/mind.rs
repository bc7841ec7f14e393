//! The mind of diagnosis: opens a case when something is suspected, asks for evidence and probes, judges, and keeps
//! the history of what stands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nameward_kernel::facts::Netfilter;
use nameward_kernel::trace::Followed;
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::namespaces::{Namespace, NamespaceChanged};
use nameward_messages::pods::{ContainerOomKilled, HostNetworkPod, RolloutObserved};
use nameward_messages::probe::{Observation, ProbeRequest, ProberTells};
use nameward_messages::report::Complaint;
use nameward_messages::targets::{DnsService, Targets};
use nameward_messages::verdict::{Deferral, DiagnosisTells, VerdictKey};
use nameward_messages::workload::CorednsPodState;
use nameward_messages::{Mono, NodeName, Now, PodUid};

use crate::finding::Finding;
use crate::judge::judge;
use crate::matrix::Matrix;
use crate::process::Places;
use crate::record::{EvidenceRecord, Sample};
use crate::rules::{crashing, oom, unmodelled};

mod about;
mod asking;
mod case;
mod complained;
mod destinations;
mod intake;
mod links;
mod names;
mod processes;
mod recheck;
mod recovered;
mod standing;
#[cfg(test)]
mod tests;
mod tracing;
mod ways;

pub use asking::{Want, WantPod};
use case::Case;
use standing::{Known, Ledger};
pub use tracing::WantTrace;

/// A CoreDNS pod that was never ready counts as starting for this long after it was first seen.
const STARTING: Duration = Duration::from_secs(120);
/// A case is judged again at least this often.
const REVIEW: Duration = Duration::from_secs(2);

/// What of the configuration diagnosis goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest time for one collector.
    pub collect_timeout: Duration,
    /// Where CoreDNS's own pages are, and the node's cgroups.
    pub places: Places,
    /// Whether a probe may be traced.
    pub trace: bool,
}

impl From<&nameward_config::Config> for Settings {
    fn from(config: &nameward_config::Config) -> Self {
        let diagnosis = &config.diagnosis;
        let places = Places {
            ready_port: diagnosis.coredns_ready_port,
            metrics_port: diagnosis.coredns_metrics_port,
            cgroups: diagnosis.cgroups.clone(),
        };
        Self { collect_timeout: diagnosis.collect_timeout.0, places, trace: diagnosis.trace }
    }
}

/// What diagnosis is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// By the prober.
    Prober(ProberTells),
    /// By the watcher: all targets.
    Targets(Arc<Targets>),
    /// By netns.
    Namespace(NamespaceChanged),
    /// By the watcher.
    OomKilled(ContainerOomKilled),
    /// By the watcher: what the containers of this node's CoreDNS pods do, whole.
    Coredns(Arc<Vec<CorednsPodState>>),
    /// By the watcher: pods of this node that get the node's resolver and need the cluster's, whole.
    Misfits(Arc<Vec<HostNetworkPod>>),
    /// By the watcher.
    Rollout(RolloutObserved),
    /// By the coordinator: what other nodes cannot reach here. Replaces the last list.
    Complaints(Vec<Complaint>),
    /// By the collectors: what [`Output::Collect`] asked for.
    Evidence {
        /// [`Want::id`].
        id: u64,
        /// What was read.
        sample: Box<Sample>,
    },
    /// What came of [`Output::Trace`]; `None`: nothing, or it was not done.
    Traced {
        /// [`WantTrace::id`].
        id: u64,
        /// What was told.
        followed: Option<Box<Followed>>,
    },
    /// The kill switch of the policy ConfigMap. Until it is told, nothing is traced.
    KillSwitch(KillSwitch),
    /// The configuration changed.
    Configure(Settings),
    /// The deadline has passed.
    Tick,
}

/// What diagnosis wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Read this.
    Collect(Want),
    /// Ask this.
    Probe(ProbeRequest),
    /// Trace this.
    Trace(WantTrace),
    /// Tell this.
    Tell(DiagnosisTells),
}

/// When to judge: a whole node that fails tells of hundreds of paths at once, and each judgement looks at them all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judging {
    Now,
    Soon,
}

/// The mind. See the module.
#[derive(Debug)]
pub struct DiagnosisMind {
    node: NodeName,
    settings: Settings,
    matrix: Matrix,
    targets: Arc<Targets>,
    targets_since: Mono,
    /// The DNS Service as it last was.
    last_service: Option<DnsService>,
    /// When a CoreDNS pod was first seen, and whether it was ever ready.
    pods: BTreeMap<PodUid, (Mono, bool)>,
    namespaces: BTreeMap<PodUid, Namespace>,
    rollout: RolloutObserved,
    kills: VecDeque<ContainerOomKilled>,
    coredns: Arc<Vec<CorednsPodState>>,
    misfits: Arc<Vec<HostNetworkPod>>,
    probes: VecDeque<Observation>,
    case: Option<Case>,
    ledger: Ledger,
    deferred: Vec<Deferral>,
    complaints: complained::Complaints,
    unmodelled: Vec<String>,
    switch: Option<KillSwitch>,
    /// Numbers of requests and collections, never reused in a process's life of this mind.
    serial: u64,
}

impl DiagnosisMind {
    /// A mind that knows nothing yet.
    #[must_use]
    pub fn new(node: NodeName, settings: Settings) -> Self {
        Self {
            node,
            settings,
            matrix: Matrix::default(),
            targets: Arc::default(),
            targets_since: Mono::default(),
            last_service: None,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            rollout: RolloutObserved::default(),
            kills: VecDeque::new(),
            coredns: Arc::default(),
            misfits: Arc::default(),
            probes: VecDeque::new(),
            case: None,
            ledger: Ledger::default(),
            deferred: Vec::new(),
            complaints: complained::Complaints::default(),
            unmodelled: Vec::new(),
            switch: None,
            serial: 0,
        }
    }

    /// Takes an input and says what follows from it.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Prober(ProberTells::Round(round)) => {
                self.matrix.round(&round);
                out.push(Output::Tell(DiagnosisTells::Matrix(self.matrix.digest())));
            }
            Input::Prober(ProberTells::Suspected(suspicion)) => {
                let known = self.matrix.get(&suspicion.path).is_some_and(|s| s.suspected.is_some());
                self.matrix.suspect(&suspicion);
                if let Some(case) = self.case.as_mut().filter(|_| !known) {
                    case.hurry(now);
                }
                return self.pursue(now, out, Judging::Soon);
            }
            Input::Prober(ProberTells::Cleared { path, recovered, .. }) => {
                self.matrix.clear(&path, recovered);
                return self.pursue(now, out, Judging::Soon);
            }
            Input::Prober(ProberTells::Answer(answer)) => {
                if !asking::is_ours(&answer.id) {
                    return;
                }
                self.note(now, &answer.observations);
                if let Some(recheck) = self.case.as_mut().and_then(|case| case.recheck.as_mut()) {
                    recheck.answered(&answer.id);
                }
            }
            Input::Targets(targets) => self.take_targets(now, targets),
            Input::Namespace(change) => self.take_namespace(change),
            Input::OomKilled(kill) => self.take_kill(kill),
            Input::Coredns(pods) => self.coredns = pods,
            Input::Misfits(pods) => self.misfits = pods,
            Input::Rollout(rollout) => self.rollout = rollout,
            Input::Complaints(list) => self.take_complaints(now, list),
            Input::Evidence { id, sample } => {
                let complained = !self.complaints_here().is_empty();
                let Some(case) = &mut self.case else { return };
                if !case.take(now, id, *sample, complained) {
                    return;
                }
                // What is asked now lies between this sample and the next, so that counters show it.
                let asked = self.ask_again(now, out);
                if let Some(case) = &mut self.case {
                    case.recheck = asked;
                }
            }
            Input::Traced { id, followed } => {
                let Some(case) = &mut self.case else { return };
                case.tracing.take(now, id, followed.map(|followed| *followed));
            }
            Input::KillSwitch(switch) => {
                self.switch = Some(switch);
                return;
            }
            Input::Configure(settings) => {
                self.settings = settings;
                return;
            }
            Input::Tick => {}
        }
        self.pursue(now, out, Judging::Now);
    }

    /// When to be asked again, told or not.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.case.as_ref().map(Case::deadline)
    }

    /// A mind for one examination by a command: it has a matrix already, of which what failed last is suspected.
    #[must_use]
    pub fn examine(
        node: NodeName,
        settings: Settings,
        targets: Arc<Targets>,
        namespaces: Vec<Namespace>,
        mut matrix: Matrix,
    ) -> Self {
        matrix.suspect_failing();
        let pods = targets.pods.iter().map(|p| (p.uid.clone(), (Mono::default(), p.ready))).collect();
        let namespaces = namespaces.into_iter().map(|n| (n.pod.clone(), n)).collect();
        Self { matrix, targets, pods, namespaces, ..Self::new(node, settings) }
    }

    /// What failing paths there are, for `/state`.
    #[must_use]
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// Opens, pursues, judges or closes the case.
    fn pursue(&mut self, now: Now, out: &mut Vec<Output>, judging: Judging) {
        let failing = self.matrix.suspected().next().is_some();
        let known = self.known();
        let complained = !self.complaints_here().is_empty();
        let misfits = !self.misfits.is_empty();
        if !failing && !complained && !misfits && !self.killed_lately(now) && !self.crashes(now) {
            if let Some(case) = self.case.take() {
                self.ledger.close(now, &self.matrix, &known, out);
                self.tell_deferred(Vec::new(), out);
                self.tell_examined(now, None, out);
                if let Some(recovery) = case.recovery(now, &self.matrix) {
                    out.push(Output::Tell(DiagnosisTells::Recovered(recovery)));
                }
            }
            return;
        }
        if self.case.is_none() {
            self.case = Some(Case::open(now));
            self.ask_again(now, out);
        }
        self.ask_in_other_ways(now, out);
        if failing || complained || misfits {
            if let Some(case) = self.case.as_mut().filter(|_| !failing && !complained) {
                case.calm();
            }
            self.collect(now, out);
        }
        if judging == Judging::Soon {
            if let Some(case) = &mut self.case {
                case.review_soon(now);
            }
            return;
        }
        let record = self.record(now);
        let judgement = judge(&record);
        let held_up: BTreeSet<VerdictKey> =
            judgement.findings.iter().filter(|f| !self.still_fails(now.mono, f)).map(Finding::key).collect();
        let before = out.len();
        self.ledger.settle(now, &judgement, &held_up, &self.matrix, &known, out);
        ways::tell(&record, &judgement, before, out);
        self.tell_examined(now, Some((&record, &judgement)), out);
        self.tell_unmodelled(&record, out);
        self.trace(now, &record, &judgement, out);
        if let Some(case) = &mut self.case {
            case.seen.note(&judgement.open, &self.matrix, self.ledger.stands());
            case.reviewed(now.mono + REVIEW, failing || complained || misfits);
        }
        self.tell_deferred(judgement.deferred, out);
    }

    fn tell_deferred(&mut self, deferred: Vec<Deferral>, out: &mut Vec<Output>) {
        // The counts in the text change with every round: that alone is no news.
        let same = |a: &[Deferral], b: &[Deferral]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.subject == b.subject && a.to_node == b.to_node)
        };
        if !same(&deferred, &self.deferred) {
            self.deferred.clone_from(&deferred);
            out.push(Output::Tell(DiagnosisTells::Deferred(deferred)));
        }
    }

    /// What is on this node that no rule knows how to read stays said: it was there when the last case was read.
    fn tell_unmodelled(&mut self, record: &EvidenceRecord, out: &mut Vec<Output>) {
        let Some(sample) = &record.current else { return };
        if sample.host.netfilter == Netfilter::default() {
            return;
        }
        let found = unmodelled::on_node(record, sample);
        if found != self.unmodelled {
            self.unmodelled.clone_from(&found);
            out.push(Output::Tell(DiagnosisTells::Unmodelled(found)));
        }
    }

    /// Asks for the next sample if it is due and none is under way.
    fn collect(&mut self, now: Now, out: &mut Vec<Output>) {
        let lost = self.settings.collect_timeout.saturating_mul(2) + Duration::from_secs(1);
        let Some(case) = &mut self.case else { return };
        if !case.due(now, lost) {
            return;
        }
        self.serial += 1;
        case.collecting(now, self.serial);
        out.push(Output::Collect(self.want(self.serial)));
    }

    /// The record as it is now.
    #[must_use]
    pub fn record(&self, now: Now) -> EvidenceRecord {
        let (previous, current, samples) = self.case.as_ref().map(Case::samples).unwrap_or_default();
        EvidenceRecord {
            now,
            node: self.node.clone(),
            targets: Arc::clone(&self.targets),
            last_service: self.last_service.clone(),
            targets_since: self.targets_since,
            namespaces: self.namespaces.clone(),
            matrix: self.matrix.clone(),
            probes: self.probes.iter().cloned().collect(),
            traces: self.case.as_ref().map(|case| case.tracing.done()).unwrap_or_default(),
            rollout: self.rollout.clone(),
            starting: self
                .pods
                .iter()
                .filter(|(_, (first, ready))| !ready && now.mono.since(*first) < STARTING)
                .map(|(uid, _)| uid.clone())
                .collect(),
            oom_kills: self.kills.iter().cloned().collect(),
            coredns: Arc::clone(&self.coredns),
            misfits: Arc::clone(&self.misfits),
            complaints: self.complaints_here(),
            earlier: self.case.as_ref().and_then(Case::earlier),
            previous,
            current,
            samples,
        }
    }

    fn known(&self) -> Known {
        let dns = self.targets.pods.iter().filter(|p| !p.terminating).map(|p| p.uid.clone()).collect();
        let complained = !self.complaints_here().is_empty();
        let misfits = self.misfits.iter().map(|pod| pod.uid.clone());
        let here = self.namespaces.keys().cloned().chain(misfits).collect();
        let samples = self.case.as_ref().map_or(0, |case| case.samples().2);
        Known { dns, here, samples, complained }
    }

    fn killed_lately(&self, now: Now) -> bool {
        self.kills.iter().any(|kill| {
            self.targets.pods.iter().any(|p| p.uid == kill.pod)
                && Duration::try_from(now.wall.duration_since(kill.finished_at)).unwrap_or_default() <= oom::AFTERWARDS
        })
    }

    fn crashes(&self, now: Now) -> bool {
        self.coredns.iter().any(|state| crashing::stands(state, now))
    }
}
