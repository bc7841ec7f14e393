//! The decision: from pods and sightings to namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::namespaces::{Namespace, NamespaceChanged, NamespaceSource};
use nameward_messages::pods::{LocalPod, PodChanged};
use nameward_messages::{Mono, Now, PodUid};

use crate::sighting::{Scan, ScanRequest, Seen, Sighting, WantedPod, Whose};

#[cfg(test)]
mod tests;

/// Pods come in bursts: the scan waits this long for the rest of a burst.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A pod whose namespace was not found is looked for again after this time, then twice as long, up to the rescan period.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A scan that has not come back after this time is given up.
const SCAN_LOST: Duration = Duration::from_secs(60);

/// The settings that the mind follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between scans when nothing happens.
    pub rescan: Duration,
    /// Most namespaces.
    pub limit: usize,
}

impl Settings {
    /// Out of the configuration.
    #[must_use]
    pub fn of(config: &nameward_config::Config) -> Self {
        Self { rescan: config.netns.rescan.0, limit: usize::try_from(config.netns.limit).unwrap_or(usize::MAX) }
    }
}

/// What the mind is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// By the watcher.
    Pod(PodChanged),
    /// A scan came back.
    Scanned(Scan),
    /// The cache or a folder changed.
    FoldersChanged,
    /// New settings.
    Settings(Settings),
    /// After a restart, once and first: what was told as found before it.
    Known(Vec<Namespace>),
    /// The deadline has passed.
    Tick,
}

/// What the mind wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be told to prober and diagnosis.
    Tell(NamespaceChanged),
    /// Look at the machine.
    Scan(ScanRequest),
    /// Where things stand; told when it changes.
    Summary(Summary),
}

/// Where discovery stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The first complete list of pods has come.
    pub synced: bool,
    /// Namespaces that are probed from.
    pub found: usize,
    /// Pods of this node without a namespace that could be found.
    pub unfound: Vec<PodUid>,
    /// Pods left out because of the limit.
    pub surplus: Vec<PodUid>,
    /// What the last scan could not read.
    pub troubles: Vec<String>,
}

/// The mind of the netns actor.
#[derive(Clone, Debug)]
pub struct NetnsMind {
    settings: Settings,
    pods: BTreeMap<PodUid, LocalPod>,
    synced: bool,
    known: BTreeMap<PodUid, Namespace>,
    seen: Seen,
    numbers: u64,
    /// The scan under way and when it was asked for.
    pending: Option<(u64, Mono)>,
    /// Something happened that the scan under way may have missed.
    again: bool,
    /// When the next scan is due; `None`: nothing to look for.
    next_scan: Option<Mono>,
    patience: Duration,
    summary: Summary,
}

impl NetnsMind {
    /// Knows nothing; the first scan is due as soon as pods are known.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            pods: BTreeMap::new(),
            synced: false,
            known: BTreeMap::new(),
            seen: Seen::default(),
            numbers: 0,
            pending: None,
            again: false,
            next_scan: None,
            patience: LOOK_AGAIN,
            summary: Summary::default(),
        }
    }

    /// The namespaces that are told as found.
    pub fn known(&self) -> impl Iterator<Item = &Namespace> {
        self.known.values()
    }

    /// When [`Input::Tick`] is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match self.pending {
            Some((_, since)) => Some(since + SCAN_LOST),
            None => self.next_scan,
        }
    }

    /// Decides.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Pod(PodChanged::Applied(pod)) => self.applied(now, pod),
            Input::Pod(PodChanged::Gone(uid)) => {
                self.pods.remove(&uid);
                // Known without its pod: only from before a restart. The API says it is gone, so it is.
                self.leave(&uid, out);
            }
            Input::Pod(PodChanged::Synced) => {
                self.synced = true;
                self.soon(now);
            }
            Input::Scanned(scan) => self.scanned(now, scan),
            Input::FoldersChanged => self.soon(now),
            Input::Settings(settings) => {
                self.settings = settings;
                self.soon(now);
            }
            Input::Known(namespaces) => self.known.extend(namespaces.into_iter().map(|n| (n.pod.clone(), n))),
            Input::Tick => {}
        }
        self.settle(out);
        self.scan_if_due(now, out);
    }

    fn applied(&mut self, now: Now, pod: LocalPod) {
        let old = self.pods.insert(pod.uid.clone(), pod.clone());
        let changed = old.is_none_or(|old| old.ips != pod.ips || takes_part(&old) != takes_part(&pod));
        if changed && takes_part(&pod) {
            self.soon(now);
        }
    }

    fn scanned(&mut self, now: Now, scan: Scan) {
        if self.pending.is_none_or(|(number, _)| number != scan.number) {
            // Given up, or asked by an earlier life.
            return;
        }
        self.pending = None;
        self.seen = Seen::of(scan);
        let missing = self.wanted().any(|pod| self.best(pod).is_none());
        let pause = if missing { self.patience.min(self.settings.rescan) } else { self.settings.rescan };
        self.patience = if missing { (self.patience * 2).min(self.settings.rescan) } else { LOOK_AGAIN };
        self.next_scan = Some(now.mono + pause);
        if std::mem::take(&mut self.again) {
            self.soon(now);
        }
    }

    /// A scan is wanted shortly.
    fn soon(&mut self, now: Now) {
        self.patience = LOOK_AGAIN;
        if self.pending.is_some() {
            self.again = true;
        } else {
            let soon = now.mono + DEBOUNCE;
            self.next_scan = Some(self.next_scan.map_or(soon, |due| due.min(soon)));
        }
    }

    fn scan_if_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.pending.is_some_and(|(_, since)| now.mono >= since + SCAN_LOST) {
            self.pending = None;
            self.next_scan = Some(now.mono);
        }
        if self.pending.is_some() || self.next_scan.is_none_or(|due| now.mono < due) {
            return;
        }
        let pods: Vec<WantedPod> = self.wanted().map(WantedPod::of).collect();
        if pods.is_empty() {
            self.next_scan = None;
            return;
        }
        self.numbers += 1;
        self.pending = Some((self.numbers, now.mono));
        self.again = false;
        out.push(Output::Scan(ScanRequest { number: self.numbers, pods }));
    }

    fn wanted(&self) -> impl Iterator<Item = &LocalPod> {
        self.pods.values().filter(|pod| takes_part(pod))
    }

    /// Brings what is told in line with what is known now.
    fn settle(&mut self, out: &mut Vec<Output>) {
        let leaving: Vec<PodUid> = self.known.keys().filter(|uid| self.must_leave(uid)).cloned().collect();
        for uid in &leaving {
            self.leave(uid, out);
        }
        let (mut surplus, mut unfound) = (Vec::new(), Vec::new());
        // Those known first: the limit does not push out what is probed from.
        let (mut order, newcomers): (Vec<&LocalPod>, Vec<&LocalPod>) =
            self.wanted().partition(|pod| self.known.contains_key(&pod.uid));
        order.extend(newcomers);
        let mut taken = BTreeSet::new();
        let mut changes = Vec::new();
        let mut room = self.settings.limit.saturating_sub(self.orphans());
        for pod in order {
            let known = self.known.get(&pod.uid);
            let seen = self.best(pod).filter(|s| taken.insert(s.cookie));
            if seen.is_none() && (known.is_none() || self.seen.whole) {
                unfound.push(pod.uid.clone());
            } else if room == 0 {
                surplus.push(pod.uid.clone());
            } else {
                room -= 1;
                changes.extend(seen.map(|s| s.namespace_of(&WantedPod::of(pod))).filter(|n| known != Some(n)));
            }
        }
        for uid in surplus.iter().chain(&unfound) {
            self.leave(uid, out);
        }
        for namespace in changes {
            let old = self.known.insert(namespace.pod.clone(), namespace.clone());
            out.extend(old.filter(|old| old.cookie != namespace.cookie).as_ref().map(gone));
            out.push(Output::Tell(NamespaceChanged::Found(namespace)));
        }
        let summary = Summary {
            synced: self.synced,
            found: self.known.len(),
            unfound,
            surplus,
            troubles: self.seen.troubles.clone(),
        };
        if summary != self.summary {
            self.summary = summary.clone();
            out.push(Output::Summary(summary));
        }
    }

    /// Known from before a restart, with a pod that the API has not told of again yet.
    fn orphans(&self) -> usize {
        self.known.keys().filter(|uid| !self.pods.contains_key(uid)).count()
    }

    fn must_leave(&self, uid: &PodUid) -> bool {
        match self.pods.get(uid) {
            Some(pod) => !takes_part(pod),
            None => self.synced,
        }
    }

    fn leave(&mut self, uid: &PodUid, out: &mut Vec<Output>) {
        out.extend(self.known.remove(uid).as_ref().map(gone));
    }

    /// The sighting that is this pod's: the surest source; of two from one source the one whose addresses the API
    /// confirms, then the one already known (a sandbox that is being replaced leaves two for a moment).
    fn best(&self, pod: &LocalPod) -> Option<&Sighting> {
        let known = self.known.get(&pod.uid).map(|n| n.cookie);
        let rank = |s: &&Sighting| {
            let source = match s.source {
                NamespaceSource::CniCache => 2,
                NamespaceSource::Folder => 1,
                NamespaceSource::Proc => 0,
            };
            (source, s.meets(&pod.ips), known == Some(s.cookie))
        };
        let may_be = || self.seen.candidates(pod);
        let named = may_be().max_by_key(rank)?;
        // An address in two namespaces tells nothing.
        let ambiguous = named.whose == Whose::Addresses && may_be().any(|s| s.cookie != named.cookie);
        (!ambiguous).then_some(named)
    }
}

/// Whether a pod has a namespace to probe from: a sandbox of its own that is up, and nobody took it out.
fn takes_part(pod: &LocalPod) -> bool {
    !pod.host_network && !pod.ignored && !pod.terminating && (pod.running || !pod.ips.is_empty())
}

fn gone(namespace: &Namespace) -> Output {
    Output::Tell(NamespaceChanged::Gone { pod: namespace.pod.clone(), cookie: namespace.cookie })
}
