//! The mind of the node remedy. For a verdict that has stood for long enough and whose ladder has a node repair, it carries
//! that repair out if its mode is `act`, and tells with the exact command what it would do if it is `observe`.
//!
//! A repair goes: everything that could forbid it is asked; what is concerned is read afresh, and must still be what was
//! judged ([`plan`]); then for each change the before-image is read, both are journalled and synced, what could forbid it is
//! asked again, the change is made and read back, and that is journalled. Then probing from the vantage concerned says
//! whether it helped. If it did, the journal says so; if it did not, or something got worse, it is undone where what is
//! there is still what was written, and a person is called ([`work`]). Where nothing could be asked, nobody knows: it is asked
//! for ten minutes at most, and then stays, and a person is called.
//!
//! **After-care** ([`after`]): when a CoreDNS pod is gone, whoever evicted it, and conntrack of this node still sends UDP to its
//! address a while later, those entries are deleted, as a repair like any other (`drop-conntrack`). The agent's own watch
//! names the address: what is dead is known here no later than to the coordinator.
//!
//! What holds whatever the configuration says:
//! - One repair at a time on a node, one in ten minutes ([`EVERY`]), three tries per target ([`TRIES`]; of the node itself: in a
//!   day). After-care has a slot of its own, once in ten minutes, and leaves theirs to the repairs.
//! - No repair without an unexpired permit that came while this process ran (an older one may have run out long ago), on a verdict that is only probable, in the cool-down, while the kill switch is
//!   thrown or has not been read, or while the journal cannot be written.
//! - When the permit is withdrawn in the middle, no further change is made; what was made is verified, or undone.
//! - When the kill switch is thrown in the middle, nothing at all is changed, not even back: probing goes on, since it
//!   changes nothing, and an undo waits until the switch is released, and then looks again first. A person is told what stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nameward_config::Config;
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::namespaces::{Namespace, NamespaceChanged};
use nameward_messages::plan::Permit;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::Targets;
use nameward_messages::time::{Mono, Now};
use nameward_messages::verdict::{Cause, Confidence, DiagnosisTells, Subject, Verdict, VerdictKey};
use nameward_messages::{NodeName, PodUid};

use crate::ladder::node_rung;

mod after;
mod plan;
mod refuse;
mod told;
mod verify;
mod work;

use after::Gone;
use plan::Known;
use work::{Failing, Work};

pub use told::{Input, Job, JobResult, Output};

/// No node repair within this time after the last one of this node. No configuration shortens it.
pub const EVERY: Duration = Duration::from_secs(600);
/// Most tries of one remedy on one target. No configuration raises it.
pub const TRIES: u32 = 3;
/// A node outlives its faults: tries on the node itself count for this long. A pod's count for as long as it lives.
pub const TRIES_OF_NODE: Duration = Duration::from_secs(24 * 3600);
/// How long nothing is repaired on this node after a repair that made something worse.
pub const BREAKER: Duration = Duration::from_secs(600);
/// How often what could stop a repair is looked at while one is under way.
const LOOK_EVERY: Duration = crate::pause::LOOK_EVERY;
/// After a look that spoke against a repair, the next one.
const AGAIN: Duration = Duration::from_secs(30);
/// Two watches that lost the API together find it again within this time of each other.
const LATE: Duration = Duration::from_secs(120);
/// The least time between two ticks.
const TICK: Duration = Duration::from_millis(200);
/// Verdicts of one node; diagnosis reports fewer.
const MOST: usize = 256;
/// Tries that are remembered.
const MOST_TRIES: usize = 256;

/// The node remedy's mind.
#[derive(Debug)]
pub struct NodeMind {
    config: Arc<Config>,
    /// The permit, and when its serial was seen to come; `None`: it was there before this process was told anything, and
    /// nobody here knows how old it is.
    permit: Option<(Permit, Option<Mono>)>,
    /// When this process was told the first thing.
    started: Option<Mono>,
    /// Orders were told: what changes from now on is news.
    ordered: bool,
    /// Since when the API was away, and when it was back: what comes late may be as old.
    away: Option<(Mono, Option<Mono>)>,
    switch: Option<KillSwitch>,
    paused_here: bool,
    namespaces: BTreeMap<PodUid, Namespace>,
    targets: Arc<Targets>,
    /// CoreDNS pods that are gone, for after-care.
    gone: Gone,
    standing: BTreeMap<VerdictKey, Standing>,
    /// What the matrix says of failing paths.
    failing: Failing,
    journal: JournalState,
    boot: String,
    /// The highest id of the journal.
    last_id: u64,
    tries: Vec<Try>,
    /// The last after-care.
    cared: Option<Mono>,
    /// When the cool-down began: at the start, and when a permit comes back.
    calm_since: Option<Mono>,
    breaker: Option<Mono>,
    last_task: u64,
    work: Option<Work>,
    /// When the last step was taken.
    stepped: Mono,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum JournalState {
    /// Not opened yet.
    Awaited,
    Open,
    /// Why not.
    Unusable(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Try {
    at: Mono,
    kind: RemedyKind,
    subject: Subject,
}

#[derive(Debug)]
struct Standing {
    verdict: Verdict,
    told: Option<RemedyOutcome>,
    /// The reason that was told, without the command; empty when nothing forbade it.
    reason: String,
    /// It was repaired and verified: diagnosis will end it.
    settled: bool,
    /// What was read spoke against a repair: it is not read again before this.
    again_at: Mono,
}

impl NodeMind {
    /// A mind that knows nothing yet.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            permit: None,
            started: None,
            ordered: false,
            away: None,
            switch: None,
            paused_here: false,
            namespaces: BTreeMap::new(),
            targets: Arc::default(),
            gone: Gone::default(),
            standing: BTreeMap::new(),
            failing: Failing::default(),
            journal: JournalState::Awaited,
            boot: String::new(),
            last_id: 0,
            tries: Vec::new(),
            cared: None,
            calm_since: None,
            breaker: None,
            last_task: 0,
            work: None,
            stepped: Mono::default(),
        }
    }

    /// The same on a node with a name: without one, nobody could be told of after-care, and there is none.
    #[must_use]
    pub fn on(mut self, node: &NodeName) -> Self {
        self.gone.on(node);
        self
    }

    /// When [`Input::Tick`] is due: when the next verdict has stood for long enough, or while something is under way.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let settings = &self.config.remedy;
        let considered = |cause| node_rung(settings, cause).is_some_and(|kind| settings.mode_of(kind) != Mode::Off);
        let next = self
            .standing
            .values()
            .filter(|s| s.told.is_none() && !s.settled && considered(s.verdict.cause))
            .map(|s| s.verdict.since.mono + settings.wait.0)
            .min();
        // What forbids a repair may pass without anybody telling.
        let refused = |s: &Standing| {
            let kind = node_rung(settings, s.verdict.cause);
            let acts = kind.map(|kind| settings.mode_of(kind)) == Some(Mode::Act);
            acts && !s.settled && s.told == Some(RemedyOutcome::Refused)
        };
        let again = self.standing.values().any(refused).then(|| self.stepped + LOOK_EVERY);
        let care = self.gone.due().map(|due| due.max(self.stepped + LOOK_EVERY));
        let due = [next, again, care, self.work.as_ref().map(Work::deadline)].into_iter().flatten().min()?;
        Some(due.max(self.stepped + TICK))
    }

    /// Takes one input.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.calm_since.get_or_insert(now.mono);
        self.started.get_or_insert(now.mono);
        // The shell tells the file before anything else: what it leaves as it is, is looked at with what follows, once.
        if matches!(input, Input::PausedHere(paused) if paused == self.paused_here) {
            return;
        }
        self.stepped = now.mono;
        match input {
            Input::Diagnosis(DiagnosisTells::Stands(verdict)) => self.stands(verdict),
            Input::Diagnosis(DiagnosisTells::Ended { key, .. }) => {
                self.standing.remove(&key);
            }
            Input::Diagnosis(DiagnosisTells::Matrix(matrix)) => {
                self.failing = Failing::of(&matrix);
            }
            Input::Diagnosis(
                DiagnosisTells::Deferred(_)
                | DiagnosisTells::Examined(_)
                | DiagnosisTells::Unmodelled(_)
                | DiagnosisTells::Recovered(_)
                | DiagnosisTells::Way { .. },
            )
            | Input::Tick => {}
            Input::Orders(orders) => self.ordered(now, orders),
            Input::Namespace(NamespaceChanged::Found(ns)) => {
                self.namespaces.insert(ns.pod.clone(), ns);
            }
            Input::Namespace(NamespaceChanged::Gone { pod, cookie }) => {
                if self.namespaces.get(&pod).is_some_and(|ns| ns.cookie == cookie) {
                    self.namespaces.remove(&pod);
                }
            }
            Input::Targets(targets) => {
                self.gone.learn(now.mono, &targets);
                self.targets = targets;
            }
            Input::KillSwitch(switch) => self.switched(now.mono, switch),
            Input::PausedHere(paused) => self.paused_here = paused,
            Input::Configure(config) => self.config = config,
            Input::Journal { boot, found } => self.opened(now, boot, found, out),
            Input::Done { task, result } => self.done(now, task, result, out),
            Input::Answer(answer) => self.answered(now, &answer),
        }
        self.go_on(now, out);
        self.judge(now, out);
        self.after_care(now, out);
    }

    fn ordered(&mut self, now: Now, orders: NodeOrders) {
        let had = self.permitted(now.mono);
        let first = !std::mem::replace(&mut self.ordered, true);
        // What this process finds may be days old, and whoever gave it may be gone: only what is seen to change has an age.
        self.permit = match (orders.permit, self.permit.take()) {
            (Some(new), Some((old, since))) if new.serial == old.serial => Some((new, since)),
            (Some(new), _) => Some((new, (!first).then(|| self.seen_since(now.mono)))),
            (None, _) => None,
        };
        // A permit that was withheld and comes back says that a storm is over.
        if !had && self.permitted(now.mono) {
            self.calm_since = Some(now.mono);
        }
    }

    /// The watch of the kill switch says as well whether the API is there.
    fn switched(&mut self, now: Mono, switch: KillSwitch) {
        self.switch = Some(switch);
        self.away = match (switch, self.away) {
            (KillSwitch::UnreadableSince(_), Some((since, None))) => Some((since, None)),
            (KillSwitch::UnreadableSince(_), Some((since, Some(back)))) if now.since(back) < LATE => {
                Some((since, None))
            }
            // A switch that was never read is told as unreadable since ever: what was before this process, its first orders
            // stand for.
            (KillSwitch::UnreadableSince(since), _) => Some((since.max(self.started.unwrap_or(now)).min(now), None)),
            (KillSwitch::Off | KillSwitch::On, Some((since, None))) => Some((since, Some(now))),
            (KillSwitch::Off | KillSwitch::On, away) => away,
        };
    }

    /// The earliest moment at which what is told now can have been written.
    fn seen_since(&self, now: Mono) -> Mono {
        match self.away {
            Some((since, None)) => since,
            Some((since, Some(back))) if now.since(back) < LATE => since,
            _ => now,
        }
    }

    fn stands(&mut self, verdict: Verdict) {
        let key = verdict.key();
        if let Some(known) = self.standing.get_mut(&key) {
            known.verdict = verdict;
        } else if self.standing.len() < MOST {
            let again_at = Mono::default();
            let standing = Standing { verdict, told: None, reason: String::new(), settled: false, again_at };
            self.standing.insert(key, standing);
        }
    }

    fn permitted(&self, now: Mono) -> bool {
        let Some((permit, Some(since))) = &self.permit else { return false };
        now.since(*since).as_secs() < u64::from(permit.valid_s)
    }

    /// Whether a kill switch is thrown, or cannot be read.
    fn halted(&self, now: Mono) -> bool {
        self.paused_here || self.switch.is_some_and(|switch| !switch.allows(now))
    }

    fn known(&self) -> Known<'_> {
        Known { namespaces: &self.namespaces, targets: &self.targets }
    }

    fn verdicts(&self) -> BTreeSet<VerdictKey> {
        self.standing.keys().cloned().collect()
    }

    fn tried(&mut self, at: Mono, kind: RemedyKind, subject: &Subject) {
        self.tries.push(Try { at, kind, subject: subject.clone() });
        if self.tries.len() > MOST_TRIES {
            self.tries.remove(0);
        }
    }
}

fn record(
    kind: RemedyKind,
    subject: &Subject,
    mode: Mode,
    outcome: RemedyOutcome,
    detail: String,
    at: Timestamp,
) -> RemedyRecord {
    RemedyRecord { kind, subject: subject.clone(), mode, outcome, detail, at }
}

/// The exact command of a node repair; what is not known stands in angle brackets.
fn command(cause: Cause, subject: &Subject, namespace: Option<&Namespace>) -> String {
    let path = namespace.map_or_else(|| "<its network namespace>".to_owned(), |ns| ns.path.display().to_string());
    let gateway = namespace
        .and_then(|ns| ns.gateway)
        .map_or_else(|| "<the node's bridge address>".to_owned(), |gateway| gateway.to_string());
    let veth = namespace.and_then(|ns| ns.host_veth.as_deref()).unwrap_or("<host end of its veth>");
    let bridge = namespace.and_then(|ns| ns.bridge.as_deref()).unwrap_or("<bridge>");
    match cause {
        Cause::PodRouteMissing => format!("nsenter --net={path} ip route add default via {gateway} dev eth0"),
        Cause::VethOffBridge => format!("ip link set dev {veth} master {bridge}"),
        other => {
            let ip = namespace.and_then(|ns| ns.ips.first()).map(ToString::to_string);
            let known = [
                ("NETNS", namespace.map(|_| path)),
                ("GATEWAY", namespace.and_then(|ns| ns.gateway).map(|_| gateway)),
                ("VETH", namespace.and_then(|ns| ns.host_veth.clone())),
                ("BRIDGE", namespace.and_then(|ns| ns.bridge.clone())),
                ("ADDRESS", ip),
            ];
            let known: Vec<(&str, &str)> =
                known.iter().filter_map(|(word, is)| Some((*word, is.as_deref()?))).collect();
            other.command_with(subject, None, &known)
        }
    }
}

#[cfg(test)]
mod tests;
