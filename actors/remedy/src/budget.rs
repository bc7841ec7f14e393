//! How often a shared remedy may be tried. Rebuilt from the incidents' ladders, so that a restart does not reset it.

use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::cluster_view::IncidentView;
use nameward_messages::remedy::{RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::time::Now;
use nameward_messages::verdict::Subject;

/// The limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// No shared remedy within this time after the last.
    pub every: Duration,
    /// Most shared remedies in an hour.
    pub per_hour: u32,
    /// Most tries of one remedy on one target.
    pub per_target: u32,
}

/// Which limit is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The last shared remedy was too short a time ago; this much is left to wait.
    Spacing(Duration),
    /// The hour's number is spent; this much is left to wait.
    Hour(Duration),
    /// The target's tries are spent. Waiting does not help.
    Target(u32),
}

/// One try that was made, by whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Try {
    kind: RemedyKind,
    subject: Subject,
    at: Timestamp,
    /// On the monotonic clock of this process, in milliseconds; negative for what happened before its origin.
    mono_ms: i128,
    /// Only its intent is known: it is no try any more once a ladder says that the intent was taken back.
    intended: bool,
}

impl Try {
    /// An intent and the records of its outcome carry one moment: they are one try.
    fn is(&self, kind: RemedyKind, subject: &Subject, at: Timestamp) -> bool {
        self.kind == kind && self.subject == *subject && self.at.duration_since(at).unsigned_abs() < SAME_TRY
    }
}

/// The tries that are known.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    tries: Vec<Try>,
    /// The ladders were read before: what is new in them has happened since.
    watches: bool,
}

const HOUR: Duration = Duration::from_secs(3600);
/// Tries are kept for as long as incidents are.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
const MOST: usize = 1024;

impl Budget {
    /// Counts one try that starts now.
    pub fn spend(&mut self, now: Now, kind: RemedyKind, subject: &Subject) {
        self.spend_at(now, kind, subject, now.wall);
    }

    /// Counts one try that starts now, and whose intent was written at `at`, which its records carry. A try that seems to be the
    /// same may be another leader's of long ago, whose clock was ahead: what is done now counts from now.
    pub fn spend_at(&mut self, now: Now, kind: RemedyKind, subject: &Subject, at: Timestamp) {
        self.note_aged(now, kind, subject, at, Duration::ZERO);
        self.made(kind, subject, at);
        let now_ms = millis(now.mono.0);
        for tried in self.tries.iter_mut().filter(|tried| tried.is(kind, subject, at)) {
            tried.mono_ms = tried.mono_ms.max(now_ms);
        }
    }

    /// More than its intent is known.
    fn made(&mut self, kind: RemedyKind, subject: &Subject, at: Timestamp) {
        for tried in self.tries.iter_mut().filter(|tried| tried.is(kind, subject, at)) {
            tried.intended = false;
        }
    }

    /// Takes over what the incidents' ladders and standing intents say. A try that is known already is not counted
    /// twice. Wall-clock times are another machine's: what is new since the last look has happened just now, whatever its
    /// record says; what stands at the first look may be younger than it says by as much as clocks differ.
    pub fn learn(&mut self, now: Now, incidents: &[IncidentView]) {
        let trust = if self.watches { None } else { Some(CLOCKS_DIFFER) };
        self.watches = true;
        for incident in incidents {
            for (kind, subject, at) in tries_of(&incident.status.ladder) {
                self.note_read(now, kind, subject, at, trust);
                self.made(kind, subject, at);
            }
            let standing = incident.status.intent.as_ref();
            for record in incident.status.ladder.iter().filter(|r| r.outcome == RemedyOutcome::Refused) {
                let stands = standing.is_some_and(|i| i.at.duration_since(record.at).unsigned_abs() < SAME_TRY);
                self.tries.retain(|t| stands || !t.intended || !t.is(record.kind, &record.subject, record.at));
            }
            // An undo is no try.
            if let Some(intent) = standing.filter(|i| !(i.kind == RemedyKind::AddReplica && i.to < i.from)) {
                let known = self.tries.len();
                self.note_read(now, intent.kind, &intent.subject, intent.at, trust);
                if let Some(new) = self.tries.get_mut(known) {
                    new.intended = true;
                }
            }
        }
        let oldest = millis(now.mono.0) - i128::from(u32::try_from(KEEP.as_secs()).unwrap_or(u32::MAX)) * 1000;
        self.tries.retain(|tried| tried.mono_ms >= oldest);
        if self.tries.len() > MOST {
            self.tries.sort_by_key(|tried| tried.mono_ms);
            let surplus = self.tries.len() - MOST;
            self.tries.drain(..surplus);
        }
    }

    /// Which limit forbids one more try now, if one does.
    #[must_use]
    pub fn forbids(&self, now: Now, limits: Limits, kind: RemedyKind, subject: &Subject) -> Option<Spent> {
        let on_target = self.tries.iter().filter(|t| t.kind == kind && t.subject == *subject).count();
        if on_target >= limits.per_target as usize {
            return Some(Spent::Target(limits.per_target));
        }
        let now_ms = millis(now.mono.0);
        let left = |tried: &Try, window: Duration| {
            let left = tried.mono_ms + millis(window) - now_ms;
            u64::try_from(left).ok().filter(|ms| *ms > 0).map(Duration::from_millis)
        };
        if let Some(wait) = self.tries.iter().filter_map(|tried| left(tried, limits.every)).max() {
            return Some(Spent::Spacing(wait));
        }
        let mut in_hour: Vec<Duration> = self.tries.iter().filter_map(|tried| left(tried, HOUR)).collect();
        in_hour.sort_unstable();
        let surplus = in_hour.len().checked_sub(limits.per_hour.max(1) as usize)?;
        in_hour.get(surplus).copied().map(Spent::Hour)
    }

    /// A try of whoever made it. `trust`: its time counts, but for so much; `None`: it does not.
    fn note_read(&mut self, now: Now, kind: RemedyKind, subject: &Subject, at: Timestamp, trust: Option<Duration>) {
        let said = Duration::try_from(now.wall.duration_since(at)).unwrap_or_default();
        let age = trust.map_or(Duration::ZERO, |differ| said.saturating_sub(differ));
        self.note_aged(now, kind, subject, at, age);
    }

    fn note_aged(&mut self, now: Now, kind: RemedyKind, subject: &Subject, at: Timestamp, age: Duration) {
        if self.tries.iter().any(|tried| tried.is(kind, subject, at)) {
            return;
        }
        let mono_ms = millis(now.mono.0) - millis(age);
        self.tries.push(Try { kind, subject: subject.clone(), at, mono_ms, intended: false });
    }
}

/// The records of a try carry the moment at which its intent was written; this allows for a rounded copy.
const SAME_TRY: Duration = Duration::from_secs(1);

/// Two machines' wall clocks may differ by this much, ten minutes each from the time, and a leader's successor still keeps to the
/// budget.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1200);

/// The tries that a ladder records. `Unknown` and the record that settles it are one.
fn tries_of(ladder: &[RemedyRecord]) -> impl Iterator<Item = (RemedyKind, &Subject, Timestamp)> {
    ladder
        .iter()
        .filter(|r| {
            r.kind.shared() && matches!(r.outcome, RemedyOutcome::Done | RemedyOutcome::Unknown | RemedyOutcome::Failed)
        })
        .map(|r| (r.kind, &r.subject, r.at))
}

fn millis(d: Duration) -> i128 {
    i128::try_from(d.as_millis()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nameward_messages::verdict::SubjectKind;

    const LIMITS: Limits = Limits { every: Duration::from_secs(300), per_hour: 3, per_target: 3 };

    fn pod(name: &str) -> Subject {
        Subject {
            kind: SubjectKind::Pod,
            namespace: Some("kube-system".into()),
            name: name.into(),
            uid: Some(name.into()),
        }
    }

    fn at(s: u64) -> Now {
        Now::at(Duration::from_secs(s))
    }

    #[test]
    fn two_tries_are_five_minutes_apart_and_three_fill_an_hour() {
        let mut budget = Budget::default();
        for (n, s) in [1000, 1300, 1600].into_iter().enumerate() {
            let subject = pod(&format!("coredns-{n}"));
            assert_eq!(budget.forbids(at(s), LIMITS, RemedyKind::EvictPod, &subject), None);
            budget.spend(at(s), RemedyKind::EvictPod, &subject);
            assert_eq!(
                budget.forbids(at(s + 299), LIMITS, RemedyKind::RaiseMemory, &pod("other")),
                Some(Spent::Spacing(Duration::from_secs(1)))
            );
        }
        assert_eq!(
            budget.forbids(at(1900), LIMITS, RemedyKind::EvictPod, &pod("x")),
            Some(Spent::Hour(Duration::from_secs(2700)))
        );
        assert_eq!(budget.forbids(at(4600), LIMITS, RemedyKind::EvictPod, &pod("x")), None);
    }

    #[test]
    fn a_target_has_its_own_number_of_tries() {
        let mut budget = Budget::default();
        for s in [0, 10_000, 20_000] {
            budget.spend(at(s), RemedyKind::EvictPod, &pod("a"));
        }
        assert_eq!(budget.forbids(at(90_000), LIMITS, RemedyKind::EvictPod, &pod("a")), Some(Spent::Target(3)));
        assert_eq!(budget.forbids(at(90_000), LIMITS, RemedyKind::EvictPod, &pod("b")), None);
    }

    fn intended(kind: RemedyKind, subject: &Subject, at: Timestamp) -> IncidentView {
        let intent = nameward_messages::plan::Intent {
            kind,
            subject: subject.clone(),
            by: "another".into(),
            resource_version: "1".into(),
            target: None,
            from: None,
            to: None,
            at,
        };
        IncidentView {
            name: "incident".into(),
            uid: "incident".into(),
            resource_version: "1".into(),
            created_at: None,
            spec: nameward_messages::plan::IncidentSpec {
                cause: nameward_messages::verdict::Cause::CorednsUdpDead,
                scope: nameward_messages::verdict::Scope::CorednsPod,
                subject: subject.clone(),
            },
            status: nameward_messages::plan::IncidentStatus { intent: Some(intent), ..Default::default() },
        }
    }

    /// Found by virtual time: the clock of the leader before was four minutes ahead, and its try on the same pod failed.
    #[test]
    fn what_is_done_now_counts_from_now_whatever_another_clock_has_said() {
        let mut budget = Budget::default();
        budget.learn(at(1000), &[intended(RemedyKind::EvictPod, &pod("a"), at(1321).wall)]);
        assert_eq!(budget.forbids(at(1321), LIMITS, RemedyKind::EvictPod, &pod("a")), None);
        budget.spend(at(1321), RemedyKind::EvictPod, &pod("a"));
        assert!(budget.forbids(at(1391), LIMITS, RemedyKind::EvictPod, &pod("b")).is_some());
    }

    /// Found by virtual time: the leader's clock was ten minutes behind that of its successor.
    #[test]
    fn a_leader_whose_clock_was_behind_has_not_acted_long_ago() {
        let mut budget = Budget::default();
        let behind = |s: u64| at(s).wall.checked_sub(jiff::SignedDuration::from_secs(600)).unwrap();
        // Seen as it happens: now, whatever it says.
        budget.learn(at(10_000), &[]);
        budget.learn(at(10_005), &[intended(RemedyKind::EvictPod, &pod("a"), behind(10_000))]);
        assert_eq!(
            budget.forbids(at(10_105), LIMITS, RemedyKind::EvictPod, &pod("b")),
            Some(Spent::Spacing(Duration::from_secs(200)))
        );
        // Found at the start: as young as both clocks may have lied.
        for (s, left) in [(10_100, 300), (10_700, 200)] {
            let mut budget = Budget::default();
            budget.learn(at(s), &[intended(RemedyKind::EvictPod, &pod("a"), behind(10_000))]);
            assert_eq!(
                budget.forbids(at(s), LIMITS, RemedyKind::EvictPod, &pod("b")),
                Some(Spent::Spacing(Duration::from_secs(left)))
            );
        }
    }

    #[test]
    fn an_intent_that_was_taken_back_was_no_try() {
        let line = |outcome, s| RemedyRecord {
            kind: RemedyKind::EvictPod,
            subject: pod("a"),
            mode: nameward_messages::remedy::Mode::Act,
            outcome,
            detail: String::new(),
            at: at(s).wall,
        };
        let standing = intended(RemedyKind::EvictPod, &pod("a"), at(1000).wall);
        let mut after = standing.clone();
        after.status.intent = None;
        let forbidden = |budget: &Budget| budget.forbids(at(1010), LIMITS, RemedyKind::EvictPod, &pod("b")).is_some();
        let seen = |ladder: Vec<RemedyRecord>, views: &[&IncidentView]| {
            let mut budget = Budget::default();
            budget.learn(at(1000), &[]);
            for view in views {
                let mut view = (*view).clone();
                if view.status.intent.is_none() {
                    view.status.ladder.clone_from(&ladder);
                }
                budget.learn(at(1001), std::slice::from_ref(&view));
            }
            budget
        };
        let refused = || vec![line(RemedyOutcome::Refused, 1000)];
        assert!(forbidden(&seen(Vec::new(), &[&standing])), "it may be carried out at any moment");
        assert!(!forbidden(&seen(refused(), &[&standing, &after])), "it was taken back");
        assert!(forbidden(&seen(Vec::new(), &[&standing, &after])), "nothing says so");
        assert!(forbidden(&seen(vec![line(RemedyOutcome::Refused, 990)], &[&standing, &after])), "of another time");
        let failed = vec![line(RemedyOutcome::Failed, 1000), line(RemedyOutcome::Refused, 1000)];
        assert!(forbidden(&seen(failed, &[&standing, &after])), "it was carried out, or may have been");
        let mut own = seen(Vec::new(), &[&standing]);
        own.spend_at(at(1002), RemedyKind::EvictPod, &pod("a"), at(1000).wall);
        after.status.ladder = refused();
        own.learn(at(1003), &[after]);
        assert!(forbidden(&own), "this process carried it out");
    }

    #[test]
    fn what_happened_before_this_process_counts_by_its_age() {
        let mut budget = Budget::default();
        let now = at(20);
        let ago = |s: i64| now.wall.checked_sub(jiff::SignedDuration::from_secs(s)).unwrap();
        budget.note_read(now, RemedyKind::EvictPod, &pod("old"), ago(400), Some(Duration::ZERO));
        assert_eq!(budget.forbids(now, LIMITS, RemedyKind::EvictPod, &pod("b")), None);
        budget.note_read(now, RemedyKind::EvictPod, &pod("late"), ago(100), Some(Duration::ZERO));
        assert_eq!(
            budget.forbids(now, LIMITS, RemedyKind::EvictPod, &pod("b")),
            Some(Spent::Spacing(Duration::from_secs(200)))
        );
    }
}
