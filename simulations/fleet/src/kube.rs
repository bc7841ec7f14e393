//! The controllers and the kubelets: pods are replaced, become ready, are killed for want of memory; templates roll out.

use std::time::Duration;

use nameward_messages::verdict::Cause;
use nameward_messages::{Mono, ObjectKey, PodUid};

use crate::api::{Change, count};
use crate::truth::Pod;
use crate::world::{Event, World};

/// What happens to the workload by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kube {
    /// The controllers look.
    Reconcile,
    /// A pod's container is up.
    Up(PodUid),
    /// A pod's grace is over.
    Gone(PodUid),
    /// A container asks for more memory than it may have.
    Oom(PodUid),
    /// A node that does not answer is marked as such.
    NodeLost(usize),
    /// A drained node's CoreDNS pods are evicted, as `kubectl drain` does it: again and again until it may.
    Drain(usize),
}

impl World {
    pub(crate) fn workload_key() -> ObjectKey {
        ObjectKey::new("kube-system", "coredns")
    }

    pub(crate) fn kube(&mut self, what: Kube) {
        match what {
            Kube::Reconcile => self.reconcile(),
            Kube::Up(uid) => self.container_up(&uid),
            Kube::Gone(uid) => {
                self.api.pods.retain(|pod| pod.uid != uid);
                self.api.pods_changed(self.now, None);
                self.pods_moved();
            }
            Kube::Oom(uid) => self.oom(&uid),
            Kube::NodeLost(n) => {
                let lost = self.nodes[n].down;
                self.nodes[n].ready = !lost;
                self.api.changes.push((self.now, Change::Node(n)));
                let there: Vec<PodUid> = self.api.active().filter(|pod| pod.node == n).map(|p| p.uid.clone()).collect();
                for uid in there {
                    self.set_ready(&uid, !lost);
                }
            }
            Kube::Drain(n) => self.drain(n),
        }
    }

    /// One pod more or less, as the controllers would have it; they look again until nothing is left to do.
    fn reconcile(&mut self) {
        let workload = &mut self.api.workload;
        if workload.observed < workload.generation {
            workload.observed = workload.generation;
            self.api.pods_changed(self.now, None);
        }
        let (wanted, revision) = (self.api.workload.replicas, self.api.workload.revision);
        let active = count(self.api.active());
        let old = self.api.active().find(|pod| pod.revision != revision).map(|pod| pod.key.clone());
        match old {
            // One more than wanted while a template rolls out, and the old goes when the new is ready.
            Some(_) if active <= wanted => self.add_pod(),
            Some(key) => {
                let all_new_ready = self.api.active().filter(|pod| pod.revision == revision).all(|pod| pod.ready);
                if all_new_ready {
                    self.take_down(&key);
                } else {
                    return;
                }
            }
            None if active < wanted => self.add_pod(),
            None if active > wanted => {
                let newest = self.api.active().max_by_key(|pod| (!pod.ready, pod.created)).map(|pod| pod.key.clone());
                if let Some(key) = newest {
                    self.take_down(&key);
                }
            }
            None => {
                self.told_of_change();
                return;
            }
        }
        self.controllers_look();
    }

    pub(crate) fn controllers_look(&mut self) {
        let after = Duration::from_millis(self.rng.u64(50..800));
        self.queue.push(self.now + after, Event::Kube(Kube::Reconcile));
    }

    /// A new template: the Deployment rolls out.
    pub(crate) fn new_template(&mut self) {
        let workload = &mut self.api.workload;
        workload.revision += 1;
        workload.generation += 1;
        self.api.pods_changed(self.now, None);
        self.told_of_change();
        self.controllers_look();
    }

    pub(crate) fn add_pod(&mut self) {
        let Some(node) = self.place() else { return };
        self.uids += 1;
        let number = self.uids;
        let version = self.api.next_version();
        let sick = if self.weather.corefile_bad {
            Some((Cause::CorefileBroken, self.now))
        } else {
            self.weather.relapse.map(|cause| (cause, self.now))
        };
        let (high, low) = ((number / 250 % 250) as u8, (number % 250) as u8);
        let uid = PodUid(format!("uid-{number}"));
        self.api.pods.push(Pod {
            key: ObjectKey::new("kube-system", format!("coredns-{number}")),
            uid: uid.clone(),
            version,
            node,
            ip: [10, 244, high, low].into(),
            created: self.now,
            ready: false,
            terminating: None,
            revision: self.api.workload.revision,
            limit: self.api.workload.limit,
            restarts: 0,
            oom_at: None,
            coming: false,
            starving: false,
            sick,
            bad_until: None,
        });
        self.api.pods_changed(self.now, None);
        let after = Duration::from_millis(self.rng.u64(1500..6000));
        self.will_come_up(&uid, after);
        self.pods_moved();
    }

    /// A container has one start ahead of it at a time.
    pub(crate) fn will_come_up(&mut self, uid: &PodUid, after: Duration) {
        let pod = self.api.pods.iter_mut().find(|pod| pod.uid == *uid);
        if pod.is_some_and(|pod| !std::mem::replace(&mut pod.coming, true)) {
            self.queue.push(self.now + after, Event::Kube(Kube::Up(uid.clone())));
        }
    }

    /// And one end for want of memory.
    pub(crate) fn will_starve(&mut self, uid: &PodUid, after: Duration) {
        let pod = self.api.pods.iter_mut().find(|pod| pod.uid == *uid);
        if pod.is_some_and(|pod| !std::mem::replace(&mut pod.starving, true)) {
            self.queue.push(self.now + after, Event::Kube(Kube::Oom(uid.clone())));
        }
    }

    /// Where a new pod goes: a node that takes pods, with as few of its kind as possible.
    fn place(&mut self) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        let start = self.rng.usize(0..self.nodes.len().max(1));
        for step in 0..self.nodes.len().min(64) {
            let n = (start + step) % self.nodes.len();
            let node = &self.nodes[n];
            if node.cordoned || !node.ready {
                continue;
            }
            let held = self.api.active().filter(|pod| pod.node == n).count();
            if best.is_none_or(|(least, _)| held < least) {
                best = Some((held, n));
            }
        }
        best.map(|(_, n)| n)
    }

    /// A pod is on its way out, by whoever's hand.
    pub(crate) fn take_down(&mut self, key: &ObjectKey) {
        let now = self.now;
        let Some(pod) = self.api.pods.iter_mut().find(|pod| pod.key == *key && pod.terminating.is_none()) else {
            return;
        };
        pod.terminating = Some(now);
        pod.ready = false;
        let uid = pod.uid.clone();
        self.api.pods_changed(now, Some(&uid));
        let grace = Duration::from_millis(self.rng.u64(300..7000));
        self.queue.push(now + grace, Event::Kube(Kube::Gone(uid)));
        self.controllers_look();
        self.pods_moved();
    }

    fn container_up(&mut self, uid: &PodUid) {
        let Some(pod) = self.api.pods.iter_mut().find(|pod| pod.uid == *uid) else { return };
        pod.coming = false;
        if pod.terminating.is_some() {
            return;
        }
        let broken = matches!(pod.sick, Some((Cause::CorefileBroken, _)));
        let node_works = !self.nodes[pod.node].down;
        let starved = pod.limit < self.weather.needs;
        if broken || !node_works {
            let after = Duration::from_secs(self.rng.u64(10..40));
            self.will_come_up(uid, after);
        }
        self.set_ready(uid, node_works && !broken);
        if starved && node_works && !broken {
            let after = Duration::from_secs(self.rng.u64(8..50));
            self.will_starve(uid, after);
        }
        self.controllers_look();
    }

    pub(crate) fn set_ready(&mut self, uid: &PodUid, ready: bool) {
        let now = self.now;
        let Some(pod) = self.api.pods.iter_mut().find(|pod| pod.uid == *uid) else { return };
        if pod.ready == ready || (ready && pod.terminating.is_some()) {
            return;
        }
        pod.ready = ready;
        if ready {
            pod.bad_until = Some(now);
        }
        self.api.pods_changed(now, Some(uid));
        self.pods_moved();
    }

    fn oom(&mut self, uid: &PodUid) {
        let (now, needs) = (self.now, self.weather.needs);
        let Some(pod) = self.api.pods.iter_mut().find(|pod| pod.uid == *uid) else { return };
        pod.starving = false;
        if pod.terminating.is_some() || pod.limit >= needs {
            return;
        }
        pod.oom_at = Some(now);
        pod.restarts += 1;
        pod.ready = false;
        self.api.pods_changed(now, Some(uid));
        let after = Duration::from_secs(self.rng.u64(4..16));
        self.will_come_up(uid, after);
        self.pods_moved();
    }

    fn drain(&mut self, n: usize) {
        if !self.nodes[n].cordoned {
            return;
        }
        let Some(key) = self.api.active().find(|pod| pod.node == n).map(|pod| pod.key.clone()) else { return };
        let allowed = self.api.budgets == 0 || self.api.ready() >= self.api.workload.replicas;
        if allowed {
            self.take_down(&key);
        }
        self.queue.push(self.now + Duration::from_secs(5), Event::Kube(Kube::Drain(n)));
    }

    /// A pod falls sick; it stays Ready, as the kubelet's probe does not see it.
    pub(crate) fn sicken(&mut self, uid: &PodUid, cause: Cause) {
        let now = self.now;
        if let Some(pod) = self.api.pods.iter_mut().find(|pod| pod.uid == *uid && pod.sick.is_none()) {
            pod.sick = Some((cause, now));
        }
        self.truth_changed();
    }

    pub(crate) fn cure(&mut self, uid: &PodUid) {
        let now = self.now;
        if let Some(pod) = self.api.pods.iter_mut().find(|pod| pod.uid == *uid && pod.sick.is_some()) {
            pod.sick = None;
            pod.bad_until = Some(now);
        }
        // One whose container could not start for what was wrong starts now.
        if self.api.pod(uid).is_some_and(|pod| !pod.ready) {
            self.will_come_up(uid, Duration::from_secs(5));
        }
        self.truth_changed();
    }

    /// Pods came, went or became ready: everybody is told, and the nodes will see it in their probes.
    pub(crate) fn pods_moved(&mut self) {
        self.told_of_change();
        self.tell_targets();
        self.truth_changed();
    }

    /// The first pods, ready from the start.
    pub(crate) fn first_pods(&mut self) {
        for _ in 0..self.api.workload.replicas {
            self.add_pod();
        }
        let now = self.now;
        let uids: Vec<PodUid> = self.api.pods.iter().map(|pod| pod.uid.clone()).collect();
        for uid in uids {
            self.set_ready(&uid, true);
        }
        for place in 0..self.api.pods.len() {
            let version = self.api.next_version();
            let mut stranger = self.api.pods[place].clone();
            stranger.key = ObjectKey::new("kube-system", format!("etcd-{place}"));
            stranger.uid = PodUid(format!("stranger-{place}"));
            stranger.version = version;
            stranger.created = Mono(Duration::ZERO);
            stranger.bad_until = Some(now);
            self.api.strangers.push(stranger);
        }
    }
}
