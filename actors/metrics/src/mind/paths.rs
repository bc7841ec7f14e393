//! The last result of every path, and which paths are suspected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind, Round};
use nameward_messages::targets::{TargetKind, Targets, Transport};
use nameward_messages::{Mono, NetnsCookie, PodUid};

use super::pods::Pods;
use super::tally::transport_label;
use super::{Output, bit};
use crate::names::Metric;
use crate::state::Entry;

/// Most paths in the matrix.
pub(super) const MOST_PATHS: usize = 5000;
/// A path that no round asked for this long, or for ten periods, has left the set of paths.
const STALE: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Paths {
    last: BTreeMap<Arc<PathKey>, Last>,
    suspected: BTreeMap<Arc<PathKey>, Timestamp>,
    left_out: u64,
}

#[derive(Debug)]
struct Last {
    outcome: Outcome,
    latency: Duration,
    at: Mono,
}

impl Paths {
    /// Takes in a round, and lets go of what was not asked for long.
    pub(super) fn saw(&mut self, round: &Round) {
        self.left_out = 0;
        for observation in &round.observations {
            let last = Last { outcome: observation.outcome.clone(), latency: observation.latency, at: observation.at };
            if let Some(known) = self.last.get_mut(&observation.path) {
                *known = last;
            } else if self.last.len() < MOST_PATHS {
                self.last.insert(Arc::new(observation.path.clone()), last);
            } else {
                self.left_out += 1;
            }
        }
        let stale = STALE.max(round.period.saturating_mul(10));
        let now = round.ended.mono;
        self.last.retain(|_, last| now.since(last.at) < stale);
    }

    pub(super) fn suspect(&mut self, path: PathKey, since: Timestamp) {
        if self.suspected.len() < MOST_PATHS {
            self.suspected.entry(Arc::new(path)).or_insert(since);
        }
    }

    pub(super) fn clear(&mut self, path: &PathKey) {
        self.suspected.remove(path);
    }

    pub(super) fn forget_vantage(&mut self, pod: &PodUid, cookie: NetnsCookie) {
        let elsewhere = |path: &Arc<PathKey>| match &path.vantage {
            Vantage::Host => true,
            Vantage::Pod { uid, cookie: of, .. } => uid != pod || *of != cookie,
        };
        self.retain(elsewhere);
    }

    /// CoreDNS pods and service addresses that are no targets any more are forgotten.
    pub(super) fn keep_targets(&mut self, targets: &Targets) {
        let pods: BTreeSet<_> = targets.pods.iter().map(|pod| &pod.uid).collect();
        let service = targets.service.as_ref();
        self.retain(|path| match &path.target.kind {
            TargetKind::Pod { uid, .. } => pods.contains(uid),
            TargetKind::Service => service.is_some_and(|service| service.cluster_ips.contains(&path.target.ip)),
            TargetKind::Nameserver | TargetKind::Upstream => true,
        });
    }

    fn retain(&mut self, keep: impl Fn(&Arc<PathKey>) -> bool) {
        self.last.retain(|path, _| keep(path));
        self.suspected.retain(|path, _| keep(path));
    }

    pub(super) fn suspected(&self) -> usize {
        self.suspected.len()
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn suspects(&self) -> Vec<(Arc<PathKey>, Timestamp)> {
        self.suspected.iter().map(|(path, since)| (Arc::clone(path), *since)).collect()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |(path, last): (&Arc<PathKey>, &Last)| Entry {
            path: Arc::clone(path),
            outcome: last.outcome.clone(),
            latency: last.latency,
            at: last.at,
        };
        self.last.iter().map(entry).collect()
    }

    /// Whether each CoreDNS pod answers this node's host the cluster's own name: of its addresses, every one that was asked must.
    pub(super) fn coredns_up(&self, pods: &Pods) -> Output {
        let mut up: BTreeMap<(&PodUid, Transport), bool> = BTreeMap::new();
        // The host sorts before every pod, so that this reads the host's paths alone.
        let host = self.last.iter().take_while(|(path, _)| path.vantage == Vantage::Host);
        for (path, last) in host.filter(|(path, _)| path.question == QuestionKind::Internal) {
            if let (TargetKind::Pod { uid, .. }, Some(good)) = (&path.target.kind, last.outcome.good()) {
                *up.entry((uid, path.transport)).or_insert(true) &= good;
            }
        }
        let mut series = Vec::new();
        for (uid, labels) in pods.labels() {
            for transport in [Transport::Udp, Transport::Tcp] {
                if let Some(good) = up.get(&(uid, transport)) {
                    let mut labels = labels.clone();
                    labels.push(transport_label(transport).into());
                    series.push((labels, bit(*good)));
                }
            }
        }
        Output::Replace { metric: Metric::CorednsUp, series }
    }
}
