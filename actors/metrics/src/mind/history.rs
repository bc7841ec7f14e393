//! The last hour, minute by minute, and what happened in it. In memory alone, and bounded.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::guarding::Breaker;
use nameward_messages::plan::{IncidentPhase, IncidentSpec, IncidentStatus};
use nameward_messages::probe::{Observation, QuestionKind};
use nameward_messages::remedy::{RemedyOutcome, RemedyRecord};
use nameward_messages::status::{Event, EventKind, History, MINUTES, MOST_EVENTS, Minute};
use nameward_messages::verdict::{DiagnosisTells, Verdict, VerdictKey};
use nameward_messages::{Mono, Now};

use crate::input::{ConfigReload, MetricsInput};

const MINUTE: u64 = 60;
const HOUR: Duration = Duration::from_secs(3600);
/// Longest text of an event, in characters.
const LINE: usize = 300;

type Incidents = BTreeMap<String, Arc<(IncidentSpec, IncidentStatus)>>;

/// The last hour.
#[derive(Debug, Default)]
pub(super) struct Hour {
    /// By the number of the minute on the monotonic clock.
    minutes: BTreeMap<u64, Minute>,
    /// Times of the answers of the minute that is not over.
    times: Times,
    events: VecDeque<Event>,
    phases: BTreeMap<String, IncidentPhase>,
    leading: Option<bool>,
    reachable: Option<bool>,
    switch: Option<KillSwitch>,
    breakers: BTreeMap<Breaker, bool>,
    /// Failing vantages that the agents of the cluster report, where this process sees it.
    reported: u32,
}

impl Hour {
    /// Takes in what was told, before the mind does: `verdicts` are those that stood until now.
    pub(super) fn hear(&mut self, now: Now, input: &MetricsInput, verdicts: &BTreeMap<VerdictKey, Arc<Verdict>>) {
        self.turn(now);
        match input {
            MetricsInput::Round(round) => self.asked(now.mono, &round.observations),
            MetricsInput::Answer(answer) => self.asked(now.mono, &answer.observations),
            MetricsInput::Verdict(tells) => self.diagnosis(tells, verdicts),
            MetricsInput::Remedy(record) => self.remedy(record),
            MetricsInput::View(view) => self.reported = failing(view),
            MetricsInput::Incident { name, spec, status } => self.incident(now, name, spec, status),
            MetricsInput::IncidentGone { name } => {
                self.phases.remove(name);
            }
            MetricsInput::Leader(leading) => {
                let before = self.leading.replace(*leading);
                match (before, leading) {
                    (None | Some(false), true) => self.tell(now.wall, EventKind::Own, "holds the Lease now"),
                    (Some(true), false) => self.tell(now.wall, EventKind::Own, "no longer holds the Lease"),
                    (None | Some(false), false) | (Some(true), true) => {}
                }
            }
            // At the start it has not answered yet, and that is no news.
            MetricsInput::Api { reachable } => match (self.reachable, *reachable) {
                (None, false) | (Some(true), true) | (Some(false), false) => {}
                (None, true) => self.reachable = Some(true),
                (Some(true), false) => {
                    self.reachable = Some(false);
                    self.tell(now.wall, EventKind::Own, "the Kubernetes API does not answer");
                }
                (Some(false), true) => {
                    self.reachable = Some(true);
                    self.tell(now.wall, EventKind::Own, "the Kubernetes API answers again");
                }
            },
            MetricsInput::KillSwitch(switch) => {
                let before = self.switch.replace(*switch).unwrap_or_default();
                match (before, switch) {
                    (KillSwitch::On, KillSwitch::On) => {}
                    (_, KillSwitch::On) => self.tell(now.wall, EventKind::Own, "the kill switch was thrown"),
                    (KillSwitch::On, KillSwitch::Off) => {
                        self.tell(now.wall, EventKind::Own, "the kill switch was released");
                    }
                    _ => {}
                }
            }
            MetricsInput::Breaker { breaker, open } => {
                let before = self.breakers.insert(*breaker, *open).unwrap_or(false);
                if before != *open {
                    let what = if *open { "opens" } else { "is closed again" };
                    self.tell(now.wall, EventKind::Own, &format!("the breaker of {} {what}", breaker.label()));
                }
            }
            MetricsInput::ConfigReload(ConfigReload::Ok { .. }) => {
                self.tell(now.wall, EventKind::Own, "a new configuration is in force");
            }
            MetricsInput::ConfigReload(ConfigReload::Failed { .. }) => {
                self.tell(now.wall, EventKind::Own, "a new configuration is bad and not in force");
            }
            MetricsInput::Oom(kill) => {
                let text = format!("container {} of {} was killed for want of memory", kill.container, kill.key);
                self.tell(kill.finished_at, EventKind::Own, &text);
            }
            MetricsInput::Suspected(_)
            | MetricsInput::Cleared { .. }
            | MetricsInput::Refused { .. }
            | MetricsInput::Targets(_)
            | MetricsInput::Namespace(_)
            | MetricsInput::Orders(_)
            | MetricsInput::Report(_)
            | MetricsInput::Losses(_)
            | MetricsInput::Reconfigure(_)
            | MetricsInput::Tick => {}
        }
    }

    /// What stands after that. Where the cluster is seen, its paths and incidents count, else this node's.
    pub(super) fn stands(&mut self, suspected: usize, verdicts: usize, incidents: &Incidents) {
        let Some(mut minute) = self.minutes.last_entry() else { return };
        let minute = minute.get_mut();
        let open = incidents.values().filter(|about| about.1.phase != IncidentPhase::Resolved).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        minute.suspected = minute.suspected.max(self.reported.max(count(suspected)));
        minute.incidents = minute.incidents.max(count(open.max(verdicts)));
    }

    /// As it is shown, gaps included.
    pub(super) fn history(&self, now: Now) -> History {
        let last = now.mono.0.as_secs() / MINUTE;
        let Some(first) = self.minutes.keys().next().copied() else { return History::default() };
        let first = first.max(last.saturating_sub(count_minutes() - 1));
        let minutes = (first..=last)
            .map(|n| {
                let at = began(now, n);
                self.minutes
                    .get(&n)
                    .copied()
                    .map_or(Minute { at, ..Minute::default() }, |minute| Minute { at, ..minute })
            })
            .collect();
        let young = |event: &&Event| now.wall.duration_since(event.at) <= HOUR.try_into().unwrap_or_default();
        let mut events: Vec<Event> = self.events.iter().filter(young).cloned().collect();
        events.sort_by_key(|event| Reverse(event.at));
        History { minutes, events }
    }

    /// Begins the minute that it is, and lets go of those that are over an hour old.
    fn turn(&mut self, now: Now) {
        let n = now.mono.0.as_secs() / MINUTE;
        if !self.minutes.contains_key(&n) {
            self.times = Times::default();
            self.minutes.insert(n, Minute { at: began(now, n), known: true, ..Minute::default() });
        }
        let oldest = n.saturating_sub(count_minutes() - 1);
        self.minutes = self.minutes.split_off(&oldest);
    }

    fn asked(&mut self, now: Mono, observations: &[Observation]) {
        let Some(minute) = self.minutes.get_mut(&(now.0.as_secs() / MINUTE)) else { return };
        for observation in observations {
            let Some(good) = observation.outcome.good() else { continue };
            minute.asked = minute.asked.saturating_add(1);
            minute.failed = minute.failed.saturating_add(u32::from(!good));
            if good && observation.path.question == QuestionKind::Internal {
                self.times.add(observation.latency);
            }
        }
        minute.median_us = self.times.median();
    }

    fn diagnosis(&mut self, tells: &DiagnosisTells, verdicts: &BTreeMap<VerdictKey, Arc<Verdict>>) {
        match tells {
            DiagnosisTells::Stands(verdict) if !verdicts.contains_key(&verdict.key()) => {
                let text = format!("{} on {}", verdict.cause, verdict.subject);
                self.tell(verdict.since.wall, EventKind::Named, &text);
            }
            DiagnosisTells::Ended { key, at, recovered } if verdicts.contains_key(key) => {
                let how = if *recovered { "DNS answers again" } else { "another verdict, or its subject is gone" };
                self.tell(at.wall, EventKind::Ended, &format!("{} on {}: {how}", key.cause, key.subject));
            }
            DiagnosisTells::Recovered(recovery) => {
                let paths = recovery.paths.len().saturating_add(usize::try_from(recovery.more).unwrap_or(usize::MAX));
                let took = recovery.ended.duration_since(recovery.began).as_secs();
                let text = format!("{paths} paths failed for {took} s and answer again; no cause was named");
                self.tell(recovery.ended, EventKind::Healed, &text);
            }
            DiagnosisTells::Stands(_)
            | DiagnosisTells::Ended { .. }
            | DiagnosisTells::Deferred(_)
            | DiagnosisTells::Examined(_)
            | DiagnosisTells::Matrix(_)
            | DiagnosisTells::Unmodelled(_)
            | DiagnosisTells::Way { .. } => {}
        }
    }

    fn remedy(&mut self, record: &RemedyRecord) {
        let kind = match record.outcome {
            RemedyOutcome::Refused => EventKind::Refused,
            RemedyOutcome::Escalated => EventKind::Escalated,
            RemedyOutcome::WouldAct
            | RemedyOutcome::Done
            | RemedyOutcome::Unknown
            | RemedyOutcome::Verified
            | RemedyOutcome::Ineffective
            | RemedyOutcome::Undone
            | RemedyOutcome::Failed => EventKind::Acted,
        };
        let text = format!("{} on {}: {}. {}", record.kind, record.subject, record.outcome.label(), record.detail);
        // What is refused again and again is told once.
        let clipped = clip(&text);
        let again = kind == EventKind::Refused && self.events.iter().any(|e| e.kind == kind && e.text == clipped);
        if !again {
            self.tell(record.at, kind, &text);
        }
    }

    /// An incident of the cluster: when it opened, was closed or needs a person. One that was there before this process
    /// is told with its own times.
    fn incident(&mut self, now: Now, name: &str, spec: &IncidentSpec, status: &IncidentStatus) {
        let what = format!("incident {} on {}", spec.cause, spec.subject);
        let before = self.phases.get(name).copied();
        if before.is_none() {
            if self.phases.len() >= super::MOST_INCIDENTS * 2 {
                return;
            }
            self.tell(status.opened_at.unwrap_or(now.wall), EventKind::Named, &format!("{what} is open"));
        }
        if before != Some(status.phase) {
            let at = status.closed_at.unwrap_or(now.wall);
            match status.phase {
                IncidentPhase::Resolved => self.tell(at, EventKind::Ended, &format!("{what} is resolved")),
                // Whoever called says more.
                IncidentPhase::Escalated if self.called(at) => {}
                IncidentPhase::Escalated => self.tell(at, EventKind::Escalated, &format!("{what} needs a person")),
                IncidentPhase::Open | IncidentPhase::Remediating | IncidentPhase::Verifying => {}
            }
            self.phases.insert(name.to_owned(), status.phase);
        }
    }

    fn called(&self, at: Timestamp) -> bool {
        let near = |event: &Event| at.duration_since(event.at).as_secs().abs() <= 10;
        self.events.iter().any(|event| event.kind == EventKind::Escalated && near(event))
    }

    fn tell(&mut self, at: Timestamp, kind: EventKind, text: &str) {
        self.events.push_back(Event { at, kind, text: clip(text) });
        if self.events.len() > MOST_EVENTS {
            self.events.pop_front();
        }
    }
}

fn failing(view: &ClusterView) -> u32 {
    let rows = view.agents.iter().flat_map(|agent| agent.report.iter().flat_map(|report| &report.matrix.rows));
    rows.fold(0, |sum, row| sum.saturating_add(row.bad))
}

fn clip(text: &str) -> String {
    text.trim().chars().take(LINE).collect()
}

fn count_minutes() -> u64 {
    u64::try_from(MINUTES).unwrap_or(u64::MAX)
}

/// The wall clock at the beginning of a minute that the monotonic clock counts: set anew, it moves the hour with it.
fn began(now: Now, minute: u64) -> Timestamp {
    let ago = now.mono.0.saturating_sub(Duration::from_secs(minute.saturating_mul(MINUTE)));
    now.wall.checked_sub(ago).unwrap_or(now.wall)
}

/// How often which time was seen: four buckets for each doubling, from a microsecond on.
#[derive(Debug)]
struct Times([u32; 100]);

impl Default for Times {
    fn default() -> Self {
        Self([0; 100])
    }
}

impl Times {
    fn add(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(4);
        let octave = us.ilog2();
        // The two bits after the first one.
        let quarter = (us >> (octave - 2)) & 3;
        let n = usize::try_from(u64::from(octave) * 4 + quarter).unwrap_or(usize::MAX);
        if let Some(bucket) = self.0.get_mut(n).or(None) {
            *bucket = bucket.saturating_add(1);
        } else if let Some(last) = self.0.last_mut() {
            *last = last.saturating_add(1);
        }
    }

    /// The middle of the bucket in which the median lies.
    fn median(&self) -> Option<u64> {
        let all: u64 = self.0.iter().map(|n| u64::from(*n)).sum();
        let mut before = 0;
        for (n, count) in self.0.iter().enumerate() {
            before += u64::from(*count);
            if *count > 0 && before * 2 >= all {
                let (octave, quarter) = (n / 4, u64::try_from(n % 4).unwrap_or(0));
                // From (4 + quarter) / 4 of the octave, a quarter of it wide.
                let unit = 1u64.checked_shl(u32::try_from(octave).unwrap_or(u32::MAX))?;
                return Some((unit * (9 + 2 * quarter)) / 8);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_within_an_eighth() {
        for us in [5u64, 100, 730, 1_200, 48_000, 700_000, 3_000_000] {
            let mut times = Times::default();
            for other in [us / 2, us, us * 3] {
                times.add(Duration::from_micros(other));
            }
            let median = times.median().unwrap_or_default();
            assert!(median.abs_diff(us) * 8 <= us, "{us} is told as {median}");
        }
        assert_eq!(Times::default().median(), None);
    }
}
