//! After-care: a CoreDNS pod is gone, and conntrack of this node may still send UDP to its address (F02). kube-proxy removes such
//! entries itself with its next sync; what is left a while later is removed here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::NodeName;
use nameward_messages::guarding::RefusalReason;
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
    /// Those that were there when any were.
    living: BTreeSet<IpAddr>,
    since: BTreeMap<IpAddr, Mono>,
    /// Why it is held back, as it was counted.
    held: Option<RefusalReason>,
}

impl Gone {
    pub(super) fn on(&mut self, node: &NodeName) {
        self.node = Some(node.clone());
    }

    /// The targets changed. That there are none at all says nothing of any.
    pub(super) fn learn(&mut self, now: Mono, targets: &Targets) {
        let living: BTreeSet<IpAddr> = targets.pods.iter().flat_map(|pod| pod.ips.iter().copied()).collect();
        self.since.retain(|ip, _| !living.contains(ip));
        if living.is_empty() {
            return;
        }
        for ip in self.living.difference(&living) {
            if self.since.len() < MOST {
                self.since.insert(*ip, now);
            }
        }
        self.living = living;
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
        if self.gone.since.is_empty() {
            self.gone.held = None;
        }
        let due = |(ip, since): (&IpAddr, &Mono)| (now.mono.since(*since) >= SYNCED).then_some(*ip);
        let gone: BTreeSet<IpAddr> = self.gone.since.iter().filter_map(due).collect();
        let Some(node) = self.gone.node.clone().filter(|_| !gone.is_empty() && self.work.is_none()) else { return };
        let mode = self.config.remedy.mode_of(KIND);
        let subject = Subject::node(&node);
        let held = match mode {
            Mode::Off => return,
            Mode::Observe => self.forbidden(now.mono, KIND),
            Mode::Act => self.care_refused(now.mono, KIND),
        };
        if let Some(held) = held {
            // Its time comes, or it does not: a stale entry that is felt is a verdict of its own. So it is counted once, and no Event is
            // made of it: with the kill switch on, every node would make one whenever a CoreDNS pod goes.
            if mode == Mode::Act && self.gone.held.replace(held.reason) != Some(held.reason) {
                out.push(Output::Refused { kind: KIND, reason: held.reason });
            }
            return;
        }
        self.gone.held = None;
        self.gone.since.retain(|ip, _| !gone.contains(ip));
        self.begin_care(now, subject, gone, mode, out);
    }
}
