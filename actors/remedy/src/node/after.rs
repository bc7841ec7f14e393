//! After-care: a CoreDNS pod is gone, and conntrack of this node may still send UDP to its address (F02). kube-proxy removes such
//! entries itself with its next sync; what is left a while later is removed here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::NodeName;
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::targets::Targets;
use nameward_messages::time::{Mono, Now};
use nameward_messages::verdict::Subject;

use super::{NodeMind, Output};

/// kube-proxy gets this long to do it.
const SYNCED: Duration = Duration::from_secs(30);
/// An address that is gone for longer need not be looked after: entries over UDP have run out by then.
const FORGET: Duration = Duration::from_secs(900);
/// Addresses that are looked after at once.
const MOST: usize = 8;

/// Addresses of CoreDNS pods that are gone.
#[derive(Debug, Default)]
pub(super) struct Gone {
    node: Option<NodeName>,
    since: BTreeMap<IpAddr, Mono>,
}

impl Gone {
    pub(super) fn on(&mut self, node: &NodeName) {
        self.node = Some(node.clone());
    }

    /// The targets changed. That there are none at all says nothing of any.
    pub(super) fn learn(&mut self, now: Mono, before: &Targets, after: &Targets) {
        let ips = |targets: &Targets| -> BTreeSet<IpAddr> {
            targets.pods.iter().flat_map(|pod| pod.ips.iter().copied()).collect()
        };
        let living = ips(after);
        self.since.retain(|ip, _| !living.contains(ip));
        if living.is_empty() || self.node.is_none() {
            return;
        }
        for ip in ips(before).difference(&living) {
            if self.since.len() < MOST {
                self.since.insert(*ip, now);
            }
        }
    }

    /// When the next address is due.
    pub(super) fn due(&self) -> Option<Mono> {
        self.since.values().min().map(|since| *since + SYNCED)
    }
}

impl NodeMind {
    /// Looks after those who asked what is gone, once nothing else is under way.
    pub(super) fn after_care(&mut self, now: Now, out: &mut Vec<Output>) {
        const KIND: RemedyKind = RemedyKind::DropConntrack;
        self.gone.since.retain(|_, since| now.mono.since(*since) < FORGET);
        let due = |(ip, since): (&IpAddr, &Mono)| (now.mono.since(*since) >= SYNCED).then_some(*ip);
        let gone: BTreeSet<IpAddr> = self.gone.since.iter().filter_map(due).collect();
        let Some(node) = self.gone.node.clone().filter(|_| !gone.is_empty() && self.work.is_none()) else { return };
        let mode = self.config.remedy.mode_of(KIND);
        let subject = Subject::node(&node);
        let held_back = match mode {
            Mode::Off => true,
            Mode::Observe => self.forbidden(now.mono, KIND).is_some(),
            Mode::Act => self.care_refused(now.mono, KIND).is_some(),
        };
        if held_back {
            // Its time comes, or it does not: a stale entry that is felt is a verdict of its own.
            return;
        }
        self.gone.since.retain(|ip, _| !gone.contains(ip));
        self.begin_care(now, subject, gone, mode, out);
    }
}
