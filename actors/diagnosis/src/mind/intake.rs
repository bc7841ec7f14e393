//! What diagnosis is told, and what is kept of it.

use std::sync::Arc;
use std::time::Duration;

use nameward_messages::namespaces::{NamespaceChanged, Vantage};
use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::probe::{Observation, PathKey, Purpose};
use nameward_messages::targets::{TargetKind, Targets};
use nameward_messages::{NetnsCookie, Now, PodUid};

use super::DiagnosisMind;

/// Results of asked probes that are kept, and for how long.
const PROBES: usize = 256;
const PROBES_FOR: Duration = Duration::from_secs(120);
/// OOM kills that are kept.
const KILLS: usize = 32;

impl DiagnosisMind {
    pub(super) fn note(&mut self, now: Now, observations: &[Observation]) {
        self.probes.extend(observations.iter().cloned());
        // What was asked in another way is not asked with every sample.
        let mut surplus = self.probes.len().saturating_sub(PROBES);
        self.probes.retain(|o| {
            let goes = surplus > 0 && o.purpose == Purpose::Diagnosis;
            surplus -= usize::from(goes);
            !goes
        });
        let surplus = self.probes.len().saturating_sub(PROBES);
        self.probes.drain(..surplus);
        self.probes.retain(|o| now.mono.since(o.at) <= PROBES_FOR);
    }

    pub(super) fn take_targets(&mut self, now: Now, targets: Arc<Targets>) {
        if self.targets.pods != targets.pods || self.targets.service != targets.service {
            self.targets_since = now.mono;
        }
        if targets.service.is_some() {
            self.last_service.clone_from(&targets.service);
        }
        self.pods.retain(|uid, _| targets.pods.iter().any(|p| &p.uid == uid));
        for pod in &targets.pods {
            let seen = self.pods.entry(pod.uid.clone()).or_insert((now.mono, false));
            seen.1 |= pod.ready;
        }
        self.targets = targets;
        let targets = Arc::clone(&self.targets);
        self.matrix.keep(|path| match &path.target.kind {
            TargetKind::Pod { uid, .. } => {
                targets.pods.iter().any(|p| &p.uid == uid && p.ips.contains(&path.target.ip))
            }
            TargetKind::Service => targets.service.as_ref().is_some_and(|s| s.cluster_ips.contains(&path.target.ip)),
            TargetKind::Nameserver | TargetKind::Upstream => true,
        });
    }

    pub(super) fn take_namespace(&mut self, change: NamespaceChanged) {
        match change {
            NamespaceChanged::Found(namespace) => {
                let (pod, cookie) = (namespace.pod.clone(), namespace.cookie);
                let nameservers = namespace.resolv.nameservers.clone();
                self.namespaces.insert(pod.clone(), namespace);
                self.matrix.keep(|path| {
                    let gone = is_from(path, &pod, None) && !is_from(path, &pod, Some(cookie));
                    let other = is_from(path, &pod, None)
                        && matches!(path.target.kind, TargetKind::Nameserver)
                        && !nameservers.contains(&path.target.ip);
                    !gone && !other
                });
            }
            NamespaceChanged::Gone { pod, cookie } => {
                if self.namespaces.get(&pod).is_some_and(|n| n.cookie == cookie) {
                    self.namespaces.remove(&pod);
                }
                self.matrix.keep(|path| !is_from(path, &pod, Some(cookie)));
            }
        }
    }

    pub(super) fn take_kill(&mut self, kill: ContainerOomKilled) {
        let known = self
            .kills
            .iter()
            .any(|k| (&k.pod, &k.container, k.finished_at) == (&kill.pod, &kill.container, kill.finished_at));
        if !known {
            self.kills.push_back(kill);
            let surplus = self.kills.len().saturating_sub(KILLS);
            self.kills.drain(..surplus);
        }
    }
}

/// Whether a path starts in a pod, in a certain namespace of it if one is named.
fn is_from(path: &PathKey, pod: &PodUid, at: Option<NetnsCookie>) -> bool {
    match &path.vantage {
        Vantage::Pod { uid, cookie, .. } => uid == pod && at.is_none_or(|at| at == *cookie),
        Vantage::Host => false,
    }
}
