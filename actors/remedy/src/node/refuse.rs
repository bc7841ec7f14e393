//! What forbids a repair, and saying so once per reason.

use nameward_messages::guarding::RefusalReason;
use nameward_messages::verdict::SubjectKind;

use super::*;

/// Why nothing is changed: in a word for metrics, in a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) reason: RefusalReason,
    pub(super) says: String,
}

impl Held {
    pub(super) fn new(reason: RefusalReason, says: impl Into<String>) -> Self {
        Self { reason, says: says.into() }
    }

    /// What was read, or what is recorded, does not allow the repair.
    pub(super) fn unfit(says: impl Into<String>) -> Self {
        let says = says.into();
        let reason = if says == plan::NOT_SO { RefusalReason::VerdictEnded } else { RefusalReason::Unfit };
        Self { reason, says }
    }
}

impl NodeMind {
    /// What forbids any change of a kind at this moment, by those who may forbid it.
    pub(super) fn forbidden(&self, now: Mono, kind: RemedyKind) -> Option<Held> {
        let mode = self.config.remedy.mode_of(kind);
        let (reason, why) = if self.halted(now) {
            (RefusalReason::KillSwitch, "the kill switch stops every change")
        } else if mode == Mode::Act && self.switch.is_none() {
            (RefusalReason::KillSwitch, "the kill switch has not been read yet")
        } else if !self.permitted(now) {
            (
                RefusalReason::NoPermit,
                "no permit: the coordinator has given this node none yet, withholds it, or is not there",
            )
        } else {
            return None;
        };
        Some(Held::new(reason, why))
    }

    /// Whether it is not this node's turn to be repaired for a cause. The standing permit that every node has is none for that: it
    /// was given before anybody knew how many others name the same.
    pub(super) fn not_its_turn(&self, cause: Cause) -> Option<Held> {
        let turn = self.permit.as_ref().is_some_and(|(permit, _)| permit.causes.contains(&cause));
        let says = "no permit for this cause yet: the coordinator lets nodes be repaired one after the other, and none where many \
                    have the same fault";
        (!turn).then(|| Held::new(RefusalReason::NoPermit, says))
    }

    /// What forbids that a repair is begun; without times, so that it is told once.
    pub(super) fn refused(&self, now: Mono, kind: RemedyKind, verdict: &Verdict) -> Option<Held> {
        self.guarded(now, kind, verdict.confidence)
            .or_else(|| self.not_its_turn(verdict.cause))
            .or_else(|| self.spent(now, kind, &verdict.subject))
            .or_else(|| self.busy(now))
    }

    /// What forbids that after-care is begun. It spends no tries, and waits for a slot of its own as well as for the repairs'.
    pub(super) fn care_refused(&self, now: Mono, kind: RemedyKind) -> Option<Held> {
        let lately = || {
            let lately = self.cared.is_some_and(|at| now.since(at) < EVERY);
            lately.then(|| Held::new(RefusalReason::Spacing, "the last after-care was less than ten minutes ago"))
        };
        self.guarded(now, kind, Confidence::Certain).or_else(|| self.busy(now)).or_else(lately)
    }

    /// What forbids to begin anything, whatever was tried before.
    fn guarded(&self, now: Mono, kind: RemedyKind, confidence: Confidence) -> Option<Held> {
        use RefusalReason as Why;
        let held = |reason, says: &str| Some(Held::new(reason, says));
        if let Some(why) = self.forbidden(now, kind) {
            return Some(why);
        }
        if confidence != Confidence::Certain {
            return held(Why::Probable, "the cause is only probable: the deciding evidence could not be read");
        }
        match &self.journal {
            JournalState::Open => {}
            JournalState::Awaited => return held(Why::NoJournal, "the journal has not been opened yet"),
            JournalState::Unusable(why) => {
                return Some(Held::new(Why::NoJournal, format!("without a journal nothing is changed: {why}")));
            }
        }
        let calm = self.calm_since.map_or(Duration::ZERO, |since| now.since(since));
        if calm < self.config.remedy.cool_down.0 {
            return held(Why::CoolDown, "cool-down after the start, or after permits were withheld");
        }
        if self.breaker.is_some_and(|until| now < until) {
            return held(Why::BreakerOpen, "the last repair made something worse: none for ten minutes");
        }
        None
    }

    /// The last repair was a moment ago, or one is under way.
    fn busy(&self, now: Mono) -> Option<Held> {
        if self.tries.iter().any(|t| now.since(t.at) < EVERY) {
            let says = "the last node repair was less than ten minutes ago";
            return Some(Held::new(RefusalReason::Spacing, says));
        }
        let says = "another repair is under way on this node";
        self.work.is_some().then(|| Held::new(RefusalReason::InFlight, says))
    }

    /// Why this target is not tried any more, if its tries are spent.
    fn spent(&self, now: Mono, kind: RemedyKind, subject: &Subject) -> Option<Held> {
        let most = TRIES.min(self.config.remedy.tries_per_target);
        // A pod is gone one day, and its tries with it; a node is the same for years.
        let counts = |t: &&Try| {
            let lives = subject.kind != SubjectKind::Node || now.since(t.at) < TRIES_OF_NODE;
            t.kind == kind && t.subject == *subject && lives
        };
        let tried = self.tries.iter().filter(counts).count();
        let says = || format!("this target had its {most} tries: a person is needed");
        (tried >= usize::try_from(most).unwrap_or(usize::MAX)).then(|| Held::new(RefusalReason::TargetBudget, says()))
    }

    pub(super) fn judge(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut keys: Vec<(Mono, VerdictKey)> =
            self.standing.iter().map(|(key, s)| (s.verdict.since.mono, key.clone())).collect();
        keys.sort();
        for (since, key) in keys {
            let Some(kind) = node_rung(&self.config.remedy, key.cause) else { continue };
            let mode = self.config.remedy.mode_of(kind);
            let Some(standing) = self.standing.get(&key) else { continue };
            let ours = self.work.as_ref().is_some_and(|work| work.is_about(&key));
            if mode == Mode::Off || now.mono.since(since) < self.config.remedy.wait.0 || standing.settled || ours {
                continue;
            }
            let verdict = standing.verdict.clone();
            let held = match (mode, self.refused(now.mono, kind, &verdict)) {
                (Mode::Act, None) => {
                    if now.mono < standing.again_at {
                        continue;
                    }
                    if let Err(why) = self.begin(now, kind, verdict.clone(), out) {
                        if let Some(standing) = self.standing.get_mut(&key) {
                            standing.again_at = now.mono + AGAIN;
                        }
                        self.say(now, kind, &key, Some(Held::unfit(why)), out);
                    }
                    continue;
                }
                (Mode::Act, held) => held,
                (_, _) => self.forbidden(now.mono, kind).or_else(|| self.not_its_turn(key.cause)),
            };
            self.say(now, kind, &key, held, out);
        }
    }

    /// Tells why nothing is done about a standing verdict, or that it would be done now: once per reason.
    pub(super) fn say(
        &mut self,
        now: Now,
        kind: RemedyKind,
        key: &VerdictKey,
        held: Option<Held>,
        out: &mut Vec<Output>,
    ) {
        let mode = self.config.remedy.mode_of(kind);
        let Some(standing) = self.standing.get_mut(key) else { return };
        let outcome = if held.is_some() { RemedyOutcome::Refused } else { RemedyOutcome::WouldAct };
        let reason = held.as_ref().map_or("", |held| held.says.as_str());
        if standing.told == Some(outcome) && standing.reason == reason {
            return;
        }
        let namespace = key.subject.uid.as_ref().and_then(|uid| self.namespaces.get(uid));
        let command = command(key.cause, &key.subject, namespace);
        let detail = match &held {
            None => format!("would run: {command}"),
            Some(held) => format!("{}; by hand: {command}", held.says),
        };
        standing.told = Some(outcome);
        reason.clone_into(&mut standing.reason);
        out.push(Output::Tell(record(kind, &key.subject, mode, outcome, detail, now.wall)));
        if let Some(held) = held {
            out.push(Output::Refused { kind, reason: held.reason });
        }
    }
}
