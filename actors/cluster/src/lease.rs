//! Who leads: client-go's rule of leader election, on the monotonic clock.
//!
//! Another's claim is judged only by *changes* of the record that we ourselves observed: it has expired when the record did
//! not change for `lease_duration` by our own clock (kubernetes/client-go `tools/leaderelection`). A write is a
//! compare-and-swap on `resourceVersion`. What counts for our own leadership is the moment **before** the request of the last
//! write that is known to have succeeded: a reply that comes late proves nothing about now.
//!
//! A Lease elects and does not fence: acts are conditional on their targets besides. For `may_act` never to hold for two
//! at once, clocks may differ in rate by less than `lease_duration / renew_deadline`; their readings may differ at will.

use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::{Mono, Now};

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A leader whose record did not change for this long may be replaced.
    pub lease_duration: Duration,
    /// A leader that could not renew for this long stops acting.
    pub renew_deadline: Duration,
    /// Time between tries; up to a fifth is added by chance.
    pub retry_period: Duration,
    /// Longest time of any one call, also of the acts that `may_act` permits.
    pub call_timeout: Duration,
}

/// The Lease as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `spec.holderIdentity`; empty when it was given up.
    pub holder: String,
    /// `spec.leaseDurationSeconds`.
    pub duration_s: u32,
    /// `spec.leaseTransitions`.
    pub transitions: u32,
    /// `spec.acquireTime`, for people.
    pub acquired_at: Option<Timestamp>,
    /// `spec.renewTime`; only its changing counts.
    pub renewed_at: Option<Timestamp>,
    /// `metadata.resourceVersion`: what a replacement is conditional on. Empty: create.
    pub resource_version: String,
}

/// A call to make. One at a time; its result goes back by [`Election::done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read the Lease.
    Get,
    /// Create it.
    Create(Record),
    /// Replace it, conditional on `resource_version`.
    Replace(Record),
}

/// A call with the number that its result must bear: a result that comes too late is not taken for another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The number.
    pub serial: u64,
    /// The call.
    pub call: Call,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The record as it stands after the call.
    Record(Record),
    /// There is none.
    Absent,
    /// Somebody else wrote first.
    Conflict,
    /// Failed, or not known to have succeeded; why.
    Failed(String),
}

/// The election as one claimant sees it.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    rules: Rules,
    random: fastrand::Rng,
    /// The record, and when we first saw it in this form.
    observed: Option<(Record, Mono)>,
    /// Since before the request of the last write that succeeded.
    renewed: Option<Mono>,
    in_flight: Option<(Asked, Mono)>,
    serial: u64,
    next_try: Mono,
    trouble: Option<String>,
}

impl Election {
    /// A claimant. `identity` must be unlike every other's, also unlike that of an earlier life of this process.
    #[must_use]
    pub fn new(identity: impl Into<String>, rules: Rules, seed: u64) -> Self {
        Self {
            identity: identity.into(),
            rules,
            random: fastrand::Rng::with_seed(seed),
            observed: None,
            renewed: None,
            in_flight: None,
            serial: 0,
            next_try: Mono::default(),
            trouble: None,
        }
    }

    /// New rules, from the next decision on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Whether this claimant leads: it holds the Lease by a renewal that has not run out.
    #[must_use]
    pub fn leads(&self, now: Mono) -> bool {
        self.renewed.is_some_and(|renewed| now.since(renewed) < self.rules.renew_deadline)
    }

    /// Whether a call that lasts at most `call_timeout` may be started now. Ask immediately before the call.
    #[must_use]
    pub fn may_act(&self, now: Mono) -> bool {
        let window = self.rules.renew_deadline.saturating_sub(self.rules.call_timeout);
        self.renewed.is_some_and(|renewed| now >= renewed && now.since(renewed) < window)
    }

    /// Until when [`may_act`](Self::may_act) holds if nothing more succeeds.
    #[must_use]
    pub fn acts_until(&self) -> Option<Mono> {
        let window = self.rules.renew_deadline.saturating_sub(self.rules.call_timeout);
        self.renewed.map(|renewed| renewed + window)
    }

    /// Who holds the Lease, as last seen.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.observed.as_ref().map(|(record, _)| record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// Why the last call did not succeed, if it did not.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// When [`poll`](Self::poll) wants to be asked next.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        // A call that never reports back is given up after twice its time.
        self.in_flight.as_ref().map_or(self.next_try, |(_, since)| *since + self.rules.call_timeout * 2)
    }

    /// The call to make now, if any. It must be sent at once: `now` counts as the moment before the request.
    pub fn poll(&mut self, now: Now) -> Option<Asked> {
        if self.in_flight.is_some() {
            if now.mono < self.deadline() {
                return None;
            }
            self.in_flight = None;
            self.trouble = Some("a call about the Lease never came back".to_owned());
            self.observed = None;
        }
        if self.renewed.is_some() && !self.leads(now.mono) {
            self.renewed = None;
        }
        if now.mono < self.next_try {
            return None;
        }
        let call = match &self.observed {
            // As client-go: a leader writes on what it knows, others read first.
            Some((record, _)) if self.leads(now.mono) && record.holder == self.identity => self.claim(record, now),
            _ => Call::Get,
        };
        self.start(call, now)
    }

    /// What came of the call with this number. May ask for the next one at once.
    pub fn done(&mut self, now: Now, serial: u64, result: CallResult) -> Option<Asked> {
        let (Asked { call, .. }, started) = self.in_flight.take_if(|(asked, _)| asked.serial == serial)?;
        self.next_try = now.mono + self.pause();
        let was_write = !matches!(call, Call::Get);
        match result {
            CallResult::Record(record) => {
                self.trouble = None;
                let ours = record.holder == self.identity;
                self.observe(record, now.mono);
                if was_write {
                    self.renewed = ours.then_some(started);
                    return None;
                }
                let (record, seen) = self.observed.clone()?;
                if !ours && !record.holder.is_empty() && now.mono.since(seen) < self.patience(&record) {
                    self.renewed = None;
                    return None;
                }
                self.start(self.claim(&record, now), now)
            }
            CallResult::Absent => {
                self.observed = None;
                self.renewed = None;
                self.start(self.claim(&Record::default(), now), now)
            }
            CallResult::Conflict => {
                // Somebody wrote: what we know is old. Read at the next try; until then our last renewal stands.
                self.observed = None;
                self.next_try = now.mono + self.pause() / 4;
                None
            }
            CallResult::Failed(why) => {
                self.trouble = Some(why);
                // A write that failed may have been done: read before writing again.
                if was_write {
                    self.forget_version();
                }
                None
            }
        }
    }

    /// The record that gives the Lease up, if this claimant leads; afterwards it no longer does. Send it once, at the end.
    pub fn release(&mut self, now: Now) -> Option<Call> {
        let leads = self.leads(now.mono);
        self.renewed = None;
        let (record, _) = self.observed.take().filter(|(record, _)| leads && record.holder == self.identity)?;
        Some(Call::Replace(Record { holder: String::new(), duration_s: 1, renewed_at: Some(now.wall), ..record }))
    }

    fn start(&mut self, call: Call, now: Now) -> Option<Asked> {
        self.serial += 1;
        let asked = Asked { serial: self.serial, call };
        self.in_flight = Some((asked.clone(), now.mono));
        Some(asked)
    }

    fn claim(&self, over: &Record, now: Now) -> Call {
        let again = over.holder == self.identity;
        let record = Record {
            holder: self.identity.clone(),
            duration_s: u32::try_from(self.rules.lease_duration.as_secs().max(1)).unwrap_or(u32::MAX),
            transitions: if again || over.resource_version.is_empty() {
                over.transitions
            } else {
                over.transitions.saturating_add(1)
            },
            acquired_at: if again { over.acquired_at.or(Some(now.wall)) } else { Some(now.wall) },
            renewed_at: Some(now.wall),
            resource_version: over.resource_version.clone(),
        };
        if record.resource_version.is_empty() { Call::Create(record) } else { Call::Replace(record) }
    }

    fn observe(&mut self, record: Record, now: Mono) {
        match &self.observed {
            Some((known, _)) if *known == record => {}
            _ => self.observed = Some((record, now)),
        }
    }

    /// After a write of unknown outcome: the record we hold is not what to build on, yet when it was last seen to change still counts.
    fn forget_version(&mut self) {
        if self.renewed.is_none() {
            return;
        }
        self.observed = None;
    }

    /// How long the holder is given: its own duration or ours, whichever is longer, but not for ever.
    fn patience(&self, record: &Record) -> Duration {
        let theirs = Duration::from_secs(u64::from(record.duration_s));
        theirs.min(self.rules.lease_duration * 10).max(self.rules.lease_duration)
    }

    fn pause(&mut self) -> Duration {
        self.rules.retry_period.mul_f64(1.0 + self.random.f64() * 0.2)
    }
}

#[cfg(test)]
mod tests;
