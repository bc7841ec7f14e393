//! Whether a repair helped, and taking it back if it did not.

use super::*;

impl NodeMind {
    /// Asks, judges what was answered, and looks for what got worse.
    pub(super) fn verify(&mut self, now: Now, verifying: Verifying, out: &mut Vec<Output>) {
        let (bad, verdicts) = (self.bad, self.verdicts());
        let Some(work) = &mut self.work else { return };
        let worse = if bad >= work.bad_before.saturating_add(WORSE_BY) {
            Some(format!("{bad} paths fail, where {} did before", work.bad_before))
        } else if work.verdict.is_some() {
            let new = verdicts.iter().find(|key| {
                !work.verdicts_before.contains(*key) && key.subject != work.subject && key.cause != Cause::Unexplained
            });
            new.map(|key| format!("{} on {} was not there before", key.cause, key.subject))
        } else {
            None
        };
        if let Some(what) = worse {
            let why = format!("something got worse: {what}");
            return self.take_back(now, why, true, out);
        }
        if verifying.good >= GOOD_LOOKS {
            for entry in work.entries.iter_mut().filter(|entry| entry.state == State::Applied) {
                entry.state = State::Confirmed;
            }
            let detail = format!("DNS answers again after: {}", work.commands());
            return self.close(now, Ending { outcome: RemedyOutcome::Verified, detail, call: None }, out);
        }
        if now.mono >= verifying.until {
            return self.take_back(now, "probing says that it did not help".to_owned(), false, out);
        }
        let mut verifying = verifying;
        if verifying.asked.as_ref().is_some_and(|(_, until)| now.mono >= *until) {
            verifying.asked = None;
        }
        if verifying.asked.is_none() && now.mono >= verifying.again_at {
            self.last_task += 1;
            let id = RequestId(format!("node-repair-{}", self.last_task));
            let until = now.mono + ANSWER_WITHIN;
            let change = work.entries.last().map(|entry| &entry.change);
            if let Some(change) = change {
                let (subject, targets) = (&work.subject, &self.targets);
                let request = verify::request(id.clone(), until, subject, change, &self.namespaces, targets);
                // After a start nothing may be known yet: then there is nothing to ask, and it is tried again.
                if !request.items.is_empty() {
                    out.push(Output::Probe(request));
                    verifying.asked = Some((id, until));
                }
            }
            verifying.again_at = now.mono + ASK_EVERY;
        }
        work.phase = Phase::Verifying(verifying);
    }

    pub(in crate::node) fn answered(&mut self, now: Now, answer: &ProbeAnswer) {
        let Some(work) = &mut self.work else { return };
        let subject = work.subject.clone();
        let Phase::Verifying(verifying) = &mut work.phase else { return };
        if verifying.asked.as_ref().is_none_or(|(id, _)| *id != answer.id) {
            return;
        }
        verifying.asked = None;
        verifying.again_at = now.mono + ASK_EVERY;
        match verify::sight(&subject, &answer.observations) {
            Sight::Good => verifying.good += 1,
            Sight::Bad => verifying.good = 0,
            Sight::Unclear => {}
        }
    }

    pub(super) fn take_back(&mut self, now: Now, why: String, worse: bool, out: &mut Vec<Output>) {
        if worse {
            self.breaker = Some(now.mono + BREAKER);
        }
        let Some(work) = &mut self.work else { return };
        let at = work.entries.len();
        work.phase = Phase::Undoing(Undoing { at, why, worse, left: Vec::new(), told: false });
        self.go_on(now, out);
    }

    /// Takes the last change back that stands; then the one before it.
    pub(super) fn undo_next(&mut self, now: Now, undoing: Undoing, out: &mut Vec<Output>) {
        let halted = self.halted(now.mono);
        let Some(work) = &mut self.work else { return };
        let mut undoing = undoing;
        while undoing.at > 0 {
            let Some(entry) = work.entries.get_mut(undoing.at - 1) else { break };
            if entry.state != State::Applied {
                undoing.at -= 1;
                continue;
            }
            if !entry.change.reversible() {
                // The entries are made again by the next packet.
                entry.state = State::Confirmed;
                undoing.at -= 1;
                continue;
            }
            if halted {
                if !undoing.told {
                    undoing.told = true;
                    let detail = format!(
                        "{}; the kill switch stops the undo as well, until it is released. It stands: {}",
                        undoing.why, entry.change
                    );
                    let told = record(work.kind, &work.subject, Mode::Act, RemedyOutcome::Escalated, detail, now.wall);
                    out.push(Output::Tell(told));
                }
                work.phase = Phase::Undoing(undoing);
                return;
            }
            let job =
                Job::Undo { change: entry.change.clone(), before: entry.before.clone(), wrote: entry.wrote.clone() };
            work.phase = Phase::Undoing(undoing);
            return self.run(now, job, out);
        }
        for entry in &mut work.entries {
            entry.worse |= undoing.worse;
        }
        let what = work.commands();
        let (back, call) = if undoing.left.is_empty() {
            ("taken back".to_owned(), format!("{}: {} was taken back", undoing.why, what))
        } else {
            let left = undoing.left.join("; ");
            (format!("not all of it could be taken back: {left}"), format!("{}; left as it is: {left}", undoing.why))
        };
        let detail = format!("{}: {what}; {back}", undoing.why);
        self.close(now, Ending { outcome: RemedyOutcome::Ineffective, detail, call: Some(call) }, out);
    }

    pub(super) fn undone(&mut self, undoing: Undoing, result: Result<Undone, RepairError>) {
        let Some(work) = &mut self.work else { return };
        let mut undoing = undoing;
        let Some(entry) = undoing.at.checked_sub(1).and_then(|at| work.entries.get_mut(at)) else { return };
        match result {
            Ok(Undone::Done | Undone::NotNeeded) | Err(RepairError::Gone(_)) => entry.state = State::Undone,
            Ok(Undone::LeftAlone(now)) => {
                entry.state = State::Left;
                // What was forgotten and rightly learned anew is nobody's business.
                if !entry.change.stands(&now, &entry.wrote) {
                    undoing.left.push(format!("{}: there is {now}, which we did not write", entry.change));
                }
            }
            Err(error) => {
                entry.state = State::Left;
                undoing.left.push(format!("{}: {error}", entry.change));
            }
        }
        undoing.at -= 1;
        work.phase = Phase::Undoing(undoing);
    }
}
