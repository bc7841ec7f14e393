//! Looks around for one vantage: finds it, asks from it and from what it is compared with, reads, and lets the mind of
//! diagnosis judge.

mod asking;
mod ending;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nameward_cluster::connect::Connection;
use nameward_diagnosis::collect;
use nameward_diagnosis::matrix::Matrix;
use nameward_diagnosis::mind::{Settings, Want};
use nameward_diagnosis::{DiagnosisMind, EvidenceRecord, Input, Judgement, Output, Sample};
use nameward_kernel::collect::Limits;
use nameward_messages::health::Stage;
use nameward_messages::namespaces::{Namespace, NamespaceChanged, Vantage};
use nameward_messages::pods::{LocalPod, PodChanged};
use nameward_messages::probe::{Observation, PathKey, ProberTells};
use nameward_messages::targets::Targets;
use nameward_messages::{Mono, PodUid};
use nameward_prober::actor::ProberMessage;
use nameward_supervision::{Listener, Outlet, Supervisor, clock};
use nameward_watcher::Tell;
use tokio::sync::mpsc;

use super::subject::Place;
use super::{alone, progress};
use crate::exit::Failure;
use crate::wiring::{self, Around};

/// How long the API may take to name anything.
const FIRST_ANSWER: Duration = Duration::from_secs(12);
/// How long the namespace of a pod that the API names may take to be found.
const FINDING: Duration = Duration::from_secs(6);
/// How long a namespace given by its file may turn out to be a pod's.
const WHOSE: Duration = Duration::from_secs(2);
/// How long what fails may take to be named: confirmation, two samples, and the wait of `unexplained`.
const NAMING: Duration = Duration::from_secs(30);
/// After this time without a round there is nothing that rounds would ask.
const NO_ROUNDS: Duration = Duration::from_secs(4);
/// Whatever happens, it ends after this time.
const LONGEST: Duration = Duration::from_secs(40);
/// A moment more after the first cause, for a second one beside it.
const SECOND: Duration = Duration::from_secs(3);
/// Rounds that a healthy vantage is asked for.
const ROUNDS: u32 = 4;
/// Our own two samples lie this far apart.
const APART: Duration = Duration::from_millis(1200);
/// How often it is looked whether that is enough.
const LOOK: Duration = Duration::from_millis(500);
/// Other pods of the node that are asked from as well, to compare with.
const SIBLINGS: usize = 3;
/// Messages that may wait.
const WAITING: usize = 8192;
/// Names our own samples among those of the mind.
const OWN: u64 = u64::MAX;

/// What was found.
#[derive(Debug)]
pub(super) struct Surveyed {
    /// From where was asked.
    pub vantage: Vantage,
    /// Its namespace; `None`: the host's.
    pub namespace: Option<Namespace>,
    /// The pod that it is about, be it on the host's network.
    pub pod: Option<PodUid>,
    /// The API's address, or why it was not asked.
    pub api: Result<String, String>,
    /// What the mind saw.
    pub record: EvidenceRecord,
    /// Every path from every vantage that was asked.
    pub matrix: Matrix,
    /// What it makes of it.
    pub judgement: Judgement,
    /// Causes that stood while it was looked and do not any more.
    pub recovered: BTreeSet<nameward_messages::verdict::Cause>,
    /// Our own readings of the vantage, oldest first.
    pub samples: Vec<Sample>,
    /// What came of every way of asking from the vantage.
    pub asked: BTreeMap<(PathKey, &'static str), Tally>,
    /// For people.
    pub notes: Vec<String>,
}

/// What came of asking one thing in one way.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub asked: u32,
    pub failed: u32,
    /// The last failure, else the last answer.
    pub last: Observation,
    pub slowest: Duration,
}

/// What is heard.
enum Event {
    Watcher(Tell),
    Namespace(NamespaceChanged),
    Prober(ProberTells),
    Sample(u64, Box<Sample>),
}

pub(super) async fn survey(
    supervisor: &mut Supervisor,
    around: &Around,
    place: &Place,
    connected: Result<Connection, Failure>,
) -> Result<Surveyed, Failure> {
    let (sender, mut events) = mpsc::channel(WAITING);
    let tells = wiring::Survey {
        watcher: ear(&sender, Event::Watcher),
        namespaces: ear(&sender, Event::Namespace),
        prober: ear(&sender, Event::Prober),
    };
    let prober = wiring::start_survey(supervisor, around, connected.as_ref().ok(), tells);
    let api = match &connected {
        Ok(connection) => Ok(connection.server.clone()),
        Err(failure) => Err(failure.line()),
    };
    let mut looking = Looking::new(around, place, prober, sender, api);
    match &looking.api {
        Ok(server) => progress(&format!("asking the API at {server} what there is")),
        Err(why) => {
            progress(&format!("going on without the API, with what the node itself knows: {why}"));
            for (pod, namespace) in alone::pods(around).await {
                looking.pods.insert(pod.uid.clone(), pod);
                looking.take_namespace(NamespaceChanged::Found(namespace));
            }
            looking.synced = Some(clock::now().mono);
        }
    }
    let began = clock::now().mono;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = clock::now().mono;
        let due = looking.mind.deadline().map_or(LOOK, |due| due.since(now)).min(LOOK);
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => looking.take(event),
                None => return Err(Failure::could_not("nothing more is heard of the actors", "a channel closed")),
            },
            () = tokio::time::sleep(due) => looking.step(Input::Tick),
            _ = look.tick() => {
                looking.settle_place(began).await?;
                looking.read_next();
                if looking.enough() {
                    return looking.done();
                }
            }
        }
    }
}

fn ear<T: 'static>(sender: &mpsc::Sender<Event>, event: impl Fn(T) -> Event + Send + Sync + 'static) -> Listener<T> {
    let sender = sender.clone();
    // What does not fit comes again with the next round.
    Arc::new(move |tell| drop(sender.try_send(event(tell))))
}

struct Looking<'a> {
    around: &'a Around,
    place: &'a Place,
    prober: Outlet<ProberMessage>,
    sender: mpsc::Sender<Event>,
    api: Result<String, String>,
    mind: DiagnosisMind,
    limits: Limits,
    matrix: Matrix,
    targets: Arc<Targets>,
    pods: BTreeMap<PodUid, LocalPod>,
    namespaces: BTreeMap<PodUid, Namespace>,
    /// Those that are asked from.
    chosen: BTreeSet<PodUid>,
    synced: Option<Mono>,
    trouble: Option<String>,
    vantage: Option<Vantage>,
    /// Since when there is one.
    placed: Mono,
    pod: Option<PodUid>,
    rounds: u32,
    request: Option<nameward_messages::RequestId>,
    answered: bool,
    samples: Vec<Sample>,
    reading: bool,
    next_sample: Mono,
    bad_since: Option<Mono>,
    named: Option<(EvidenceRecord, Judgement)>,
    asked: BTreeMap<(PathKey, &'static str), Tally>,
    notes: Vec<String>,
}

impl<'a> Looking<'a> {
    fn new(
        around: &'a Around,
        place: &'a Place,
        prober: Outlet<ProberMessage>,
        sender: mpsc::Sender<Event>,
        api: Result<String, String>,
    ) -> Self {
        let config = &around.config;
        let limits = Limits { within: config.diagnosis.collect_timeout.0, bytes: config.diagnosis.collect_bytes.0 };
        Self {
            around,
            place,
            prober,
            sender,
            api,
            mind: DiagnosisMind::new(around.node.clone(), Settings::from(&**config)),
            limits,
            matrix: Matrix::default(),
            targets: Arc::default(),
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            chosen: BTreeSet::new(),
            synced: None,
            trouble: None,
            vantage: None,
            placed: Mono::default(),
            pod: None,
            rounds: 0,
            request: None,
            answered: false,
            samples: Vec::new(),
            reading: false,
            next_sample: Mono::default(),
            bad_since: None,
            named: None,
            asked: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Lets the mind decide. Without the API's word nothing is judged.
    fn step(&mut self, input: Input) {
        if self.api.is_err() && !matches!(input, Input::Namespace(_)) {
            return;
        }
        let mut out = Vec::new();
        self.mind.step(clock::now(), input, &mut out);
        for output in out {
            match output {
                Output::Collect(want) => self.read(want),
                Output::Probe(request) => {
                    self.prober.tell(ProberMessage::Request(request));
                }
                // A trace writes a table: not for a command that only looks.
                Output::Tell(_) | Output::Trace(_) => {}
            }
        }
    }

    fn read(&self, want: Want) {
        let (pool, limits, sender) = (self.around.pool.clone(), self.limits, self.sender.clone());
        tokio::spawn(async move {
            let sample = collect::sample(&pool, &want, limits).await;
            drop(sender.send(Event::Sample(want.id, Box::new(sample))).await);
        });
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Watcher(tell) => self.take_tell(tell),
            Event::Namespace(change) => self.take_namespace(change),
            Event::Prober(tells) => self.take_probes(tells),
            Event::Sample(OWN, sample) => {
                self.reading = false;
                self.next_sample = sample.at + APART;
                self.samples.push(*sample);
            }
            Event::Sample(id, sample) => self.step(Input::Evidence { id, sample }),
        }
    }

    fn take_tell(&mut self, tell: Tell) {
        match tell {
            Tell::Targets(targets) => {
                self.targets = Arc::clone(&targets);
                self.prober.tell(ProberMessage::Targets(Arc::clone(&targets)));
                self.step(Input::Targets(targets));
                self.choose();
            }
            Tell::Pod(PodChanged::Applied(pod)) => {
                self.pods.insert(pod.uid.clone(), pod);
            }
            Tell::Pod(PodChanged::Gone(uid)) => {
                self.pods.remove(&uid);
            }
            Tell::Pod(PodChanged::Synced) => {
                self.synced.get_or_insert(clock::now().mono);
            }
            Tell::OomKilled(kill) => self.step(Input::OomKilled(kill)),
            Tell::Rollout(rollout) => self.step(Input::Rollout(rollout)),
            Tell::Coredns(pods) => self.step(Input::Coredns(pods)),
            Tell::Misfits(pods) => self.step(Input::Misfits(pods)),
            // What other nodes cannot reach here is a symptom; the rest of the orders is the agent's.
            Tell::Orders(orders) => self.step(Input::Complaints(orders.complaints)),
            Tell::Stage(Stage::Starting(why) | Stage::Degraded(why)) => self.trouble = Some(why),
            Tell::Stage(Stage::Ready) => self.trouble = None,
            Tell::KillSwitch(_) | Tell::View(_) => {}
        }
    }

    fn take_namespace(&mut self, change: NamespaceChanged) {
        match &change {
            NamespaceChanged::Found(namespace) => {
                self.namespaces.insert(namespace.pod.clone(), namespace.clone());
                if self.chosen.contains(&namespace.pod) {
                    self.prober.tell(ProberMessage::Namespace(change.clone()));
                }
            }
            NamespaceChanged::Gone { pod, .. } => {
                self.namespaces.remove(pod);
                self.prober.tell(ProberMessage::Namespace(change.clone()));
            }
        }
        self.step(Input::Namespace(change));
        self.choose();
    }

    /// Asks from the subject, from CoreDNS pods of this node, and from a few others to compare with.
    fn choose(&mut self) {
        let Some(vantage) = &self.vantage else { return };
        let subject = uid_of(vantage);
        let others = self.chosen.iter().filter(|uid| Some(*uid) != subject && !self.is_dns(uid)).count();
        let mut room = SIBLINGS.saturating_sub(others);
        let mut fresh = Vec::new();
        for (uid, namespace) in self.namespaces.iter().filter(|(uid, _)| !self.chosen.contains(*uid)) {
            let compared = Some(uid) != subject && !self.is_dns(uid);
            if compared && room == 0 {
                continue;
            }
            room -= usize::from(compared);
            fresh.push(namespace.clone());
        }
        for namespace in fresh {
            self.chosen.insert(namespace.pod.clone());
            self.prober.tell(ProberMessage::Namespace(NamespaceChanged::Found(namespace)));
        }
    }

    fn is_dns(&self, uid: &PodUid) -> bool {
        self.targets.pods.iter().any(|pod| &pod.uid == uid)
    }
}

fn uid_of(vantage: &Vantage) -> Option<&PodUid> {
    match vantage {
        Vantage::Host => None,
        Vantage::Pod { uid, .. } => Some(uid),
    }
}
