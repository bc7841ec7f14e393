//! When a request is sent: the Lease (I8), the cool-down (I12), what is known (I14), the kill switch (I20).

use std::time::Duration;

use nameward_cluster::lease::{Call, CallResult};
use nameward_remedy::shared::call::ApiCall;

use super::{Act, Invariant};
use crate::world::World;

/// A view may be a minute old when a plan is made, and the plan half a minute when its act is sent.
const BLIND: Duration = Duration::from_secs(60 + 30 + 10);
/// From the switch to the last mutation.
const SWITCH: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn sent_lease(&mut self, p: usize, serial: u64) {
        let now = self.now;
        self.check.seen.entry(p).or_default().lease_sent.insert(serial, now);
    }

    /// A claimant's call is at the API server.
    pub(crate) fn check_lease(&mut self, p: usize, life: u32, serial: u64, call: &Call, result: &CallResult) {
        let process = &self.processes[p];
        let identity = process.identity.clone();
        let (now, current) = (self.now, process.life == life);
        let seen = self.check.seen.entry(p).or_default();
        let sent = seen.lease_sent.get(&serial).copied();
        seen.lease_sent.retain(|_, at| now.since(*at) < Duration::from_secs(30));
        let (Call::Create(record) | Call::Replace(record), CallResult::Record(_)) = (call, result) else { return };
        if !current || record.holder != identity {
            return;
        }
        seen.renewed = sent;
        if seen.leading_since.as_ref().is_none_or(|(holder, _)| *holder != identity) {
            seen.leading_since = Some((identity.clone(), now));
        }
        // Whoever led before leads no longer.
        for (other, seen) in &mut self.check.seen {
            if *other != p {
                seen.leading_since = None;
            }
        }
    }

    /// An executor sends a request.
    pub(crate) fn check_send(&mut self, p: usize, call: &ApiCall) -> Act {
        let process = &self.processes[p];
        let stands = self.api.incidents.iter().filter_map(|(name, incident)| {
            incident.status.intent.as_ref().map(|intent| (name.clone(), intent.clone()))
        });
        let intents: Vec<_> = stands.collect();
        let own = intents.iter().find(|(_, intent)| intent.by == process.identity).or(intents.first()).cloned();
        let act = Act { sent: self.now, intent: own };
        if call.touches_dns() {
            self.check_fences(p);
        }
        act
    }

    fn check_fences(&mut self, p: usize) {
        let (now, process) = (self.now, &self.processes[p]);
        let (started, identity, good) = (process.started, process.identity.clone(), process.watch.good_at);
        let (pause_file, policy_lost) = (process.pause_file, self.check.policy_lost.get(&p).copied());
        let frozen = now < process.watch.frozen_until || now < process.watch.broken_until;
        let config = &self.spec.config;
        let window = config.coordinator.renew_deadline.0.saturating_sub(config.kubernetes.call_timeout.0);
        let (window, cool) = (self.true_span(p, window), self.true_span(p, config.remedy.cool_down.0));
        let seen = self.check.seen.get(&p).cloned().unwrap_or_default();
        // I8.
        let holder = self.api.lease.as_ref().map(|record| record.holder.clone());
        if seen.renewed.is_none_or(|renewed| now.since(renewed) > window + Duration::from_millis(2)) {
            self.violate(Invariant::I8, format!("process {p} acts, and renewed the Lease last at {:?}", seen.renewed));
        } else if holder.as_deref() != Some(identity.as_str()) {
            self.violate(Invariant::I8, format!("process {p} acts, and {holder:?} holds the Lease"));
        }
        // I12.
        let slack = Duration::from_secs(2);
        if now.since(started) + slack < cool {
            self.violate(
                Invariant::I12,
                format!("process {p} acts {} s after its start", now.since(started).as_secs()),
            );
        }
        match &seen.leading_since {
            Some((_, since)) if now.since(*since) + slack < cool => {
                let led = now.since(*since).as_secs();
                self.violate(Invariant::I12, format!("process {p} acts after leading for {led} s"));
            }
            _ => {}
        }
        if let Some(rollout) = self.last_rollout().filter(|at| !frozen && *at <= good && now.since(*at) + SWITCH < cool)
        {
            let ago = now.since(rollout).as_secs();
            self.violate(Invariant::I12, format!("process {p} acts {ago} s after a rollout"));
        }
        // I14.
        if seen.seemed_good.is_none_or(|at| now.since(at) > self.true_span(p, BLIND)) {
            self.violate(Invariant::I14, format!("process {p} acts on a view that was good at {:?}", seen.seemed_good));
        }
        // I20.
        if pause_file {
            self.violate(Invariant::I20, format!("process {p} acts beside the file that stops it"));
        }
        let unread = Duration::from_secs(60) + SWITCH;
        let on = self.check.policy_on.filter(|since| now.since(*since) > SWITCH);
        match (on, policy_lost) {
            (Some(since), None) if !frozen => {
                self.violate(
                    Invariant::I20,
                    format!("process {p} acts {} s after the switch", now.since(since).as_secs()),
                );
            }
            (_, Some(lost)) if now.since(lost) > self.true_span(p, unread) => {
                let ago = now.since(lost).as_secs();
                self.violate(Invariant::I20, format!("process {p} acts, and the switch is unreadable for {ago} s"));
            }
            _ => {}
        }
    }

    /// A view is told that does not say of itself that it is old.
    pub(crate) fn note_view(&mut self, p: usize, seems_good: bool) {
        if seems_good {
            let now = self.now;
            self.check.seen.entry(p).or_default().seemed_good = Some(now);
        }
    }

    pub(crate) fn note_policy(&mut self, on: bool) {
        let now = self.now;
        self.check.policy_on = if on { self.check.policy_on.or(Some(now)) } else { None };
    }

    pub(crate) fn note_policy_read(&mut self, p: usize, lost: bool) {
        let now = self.now;
        if lost {
            self.check.policy_lost.entry(p).or_insert(now);
        } else {
            self.check.policy_lost.remove(&p);
        }
    }

    /// An earlier life's reads, renewals and views are not this one's.
    pub(crate) fn forget_process(&mut self, p: usize) {
        self.check.seen.remove(&p);
        self.check.policy_lost.remove(&p);
    }
}
