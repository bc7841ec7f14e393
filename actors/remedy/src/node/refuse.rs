//! What forbids a repair, and saying so once per reason.

use super::*;

impl NodeMind {
    /// What forbids any change of a kind at this moment, by those who may forbid it.
    pub(super) fn forbidden(&self, now: Mono, kind: RemedyKind) -> Option<String> {
        let mode = self.config.remedy.mode_of(kind);
        let why = if self.halted(now) {
            "the kill switch stops every change"
        } else if mode == Mode::Act && self.switch.is_none() {
            "the kill switch has not been read yet"
        } else if !self.permitted(now) {
            "no permit"
        } else {
            return None;
        };
        Some(why.to_owned())
    }

    /// What forbids that a repair is begun; without times, so that it is told once.
    pub(super) fn refused(&self, now: Mono, kind: RemedyKind, verdict: &Verdict) -> Option<String> {
        if let Some(why) = self.forbidden(now, kind) {
            return Some(why);
        }
        if verdict.confidence != Confidence::Certain {
            return Some("the cause is only probable: the deciding evidence could not be read".to_owned());
        }
        match &self.journal {
            JournalState::Open => {}
            JournalState::Awaited => return Some("the journal has not been opened yet".to_owned()),
            JournalState::Unusable(why) => return Some(format!("without a journal nothing is changed: {why}")),
        }
        let calm = self.calm_since.map_or(Duration::ZERO, |since| now.since(since));
        if calm < self.config.remedy.cool_down.0 {
            return Some("cool-down after the start, or after permits were withheld".to_owned());
        }
        if self.breaker.is_some_and(|until| now < until) {
            return Some("the last repair made something worse: none for ten minutes".to_owned());
        }
        let most = TRIES.min(self.config.remedy.tries_per_target);
        let tried = self.tries.iter().filter(|t| t.kind == kind && t.subject == verdict.subject).count();
        if tried >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Some(format!("this target had its {most} tries: a person is needed"));
        }
        if self.tries.iter().any(|t| now.since(t.at) < EVERY) {
            return Some("the last node repair was less than ten minutes ago".to_owned());
        }
        if self.work.is_some() {
            return Some("another repair is under way on this node".to_owned());
        }
        None
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
            let (outcome, reason) = match (mode, self.refused(now.mono, kind, &verdict)) {
                (Mode::Act, None) => {
                    if now.mono < standing.again_at {
                        continue;
                    }
                    if let Err(why) = self.begin(now, kind, verdict.clone(), out) {
                        if let Some(standing) = self.standing.get_mut(&key) {
                            standing.again_at = now.mono + AGAIN;
                        }
                        self.say(now, kind, &key, RemedyOutcome::Refused, why, out);
                    }
                    continue;
                }
                (Mode::Act, Some(why)) => (RemedyOutcome::Refused, why),
                (_, _) => match self.forbidden(now.mono, kind) {
                    Some(why) => (RemedyOutcome::Refused, why),
                    None => (RemedyOutcome::WouldAct, "would".to_owned()),
                },
            };
            self.say(now, kind, &key, outcome, reason, out);
        }
    }

    /// Tells why nothing is done about a standing verdict, once per reason.
    pub(super) fn say(
        &mut self,
        now: Now,
        kind: RemedyKind,
        key: &VerdictKey,
        outcome: RemedyOutcome,
        reason: String,
        out: &mut Vec<Output>,
    ) {
        let mode = self.config.remedy.mode_of(kind);
        let Some(standing) = self.standing.get_mut(key) else { return };
        if standing.told == Some(outcome) && standing.reason == reason {
            return;
        }
        let namespace = key.subject.uid.as_ref().and_then(|uid| self.namespaces.get(uid));
        let command = command(key.cause, &key.subject, namespace);
        let detail = match outcome {
            RemedyOutcome::WouldAct => format!("would run: {command}"),
            _ => format!("{reason}; by hand: {command}"),
        };
        standing.told = Some(outcome);
        standing.reason = reason;
        out.push(Output::Tell(record(kind, &key.subject, mode, outcome, detail, now.wall)));
    }
}
