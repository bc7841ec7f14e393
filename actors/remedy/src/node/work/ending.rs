//! Whether a repair helped, and taking it back if it did not.

use super::*;

impl NodeMind {
    /// Asks, judges what was answered, and looks for what got worse.
    pub(super) fn verify(&mut self, now: Now, verifying: Verifying, out: &mut Vec<Output>) {
        let worse = self.worse();
        let within = self.config.remedy.verify_within.0;
        let Some(work) = &mut self.work else { return };
        // What helped stays: taken back, it would put its fault back for certain, for what something else may be the reason of.
        if verifying.good >= GOOD_LOOKS {
            for entry in work.entries.iter_mut().filter(|entry| entry.state == State::Applied) {
                entry.state = State::Confirmed;
            }
            let detail = format!("DNS answers again after: {}", work.commands());
            return self.close(now, Ending { outcome: RemedyOutcome::Verified, detail, call: None }, out);
        }
        // While the looks are good, the next one decides.
        let promising = !verifying.looked || verifying.last == Some(Sight::Good);
        if let Some(what) = worse.filter(|_| !promising || now.mono >= verifying.until) {
            let why = format!("something got worse: {what}");
            return self.take_back(now, why, true, out);
        }
        let mut verifying = verifying;
        if now.mono >= verifying.until {
            if verifying.last == Some(Sight::Bad) {
                return self.take_back(now, "probing says that it did not help".to_owned(), false, out);
            }
            // Nothing spoke against it: that it could not be asked is no sign that it did not help.
            if now.mono >= verifying.end {
                return self.leave(now, out);
            }
            verifying.until = (now.mono + within).min(verifying.end);
        }
        if verifying.asked.as_ref().is_some_and(|(_, until)| now.mono >= *until) {
            (verifying.asked, verifying.looked) = (None, true);
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
                if request.items.is_empty() {
                    verifying.looked = true;
                } else {
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
        (verifying.asked, verifying.looked) = (None, true);
        verifying.again_at = now.mono + ASK_EVERY;
        let sight = verify::sight(&subject, &answer.observations);
        match sight {
            Sight::Good => verifying.good += 1,
            Sight::Bad => verifying.good = 0,
            Sight::Unclear => return,
        }
        verifying.last = Some(sight);
    }

    /// Whether it helped could not be found out: it stays as it is.
    fn leave(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        for entry in work.entries.iter_mut().filter(|entry| entry.state == State::Applied) {
            entry.state = State::Left;
        }
        let what = work.commands();
        let detail = format!("whether it helped could not be found out: {what}; it stays");
        // A pod that is gone took it along.
        let gone = work.subject.uid.as_ref().is_some_and(|uid| !self.namespaces.contains_key(uid));
        let call =
            (!gone).then(|| format!("nothing could be asked after {what}, which stays: look whether DNS answers"));
        self.close(now, Ending { outcome: RemedyOutcome::Unknown, detail, call }, out);
    }

    pub(super) fn take_back(&mut self, now: Now, why: String, worse: bool, out: &mut Vec<Output>) {
        if worse {
            self.breaker = Some(now.mono + BREAKER);
        }
        let Some(work) = &mut self.work else { return };
        let at = work.entries.len();
        work.phase = Phase::Undoing(Undoing { at, why, worse, left: Vec::new(), told: false, begun: false });
        self.go_on(now, out);
    }

    /// Takes the last change back that stands; then the one before it.
    pub(super) fn undo_next(&mut self, now: Now, undoing: Undoing, out: &mut Vec<Output>) {
        let halted = self.halted(now.mono);
        let within = self.config.remedy.verify_within.0;
        let Some(work) = &mut self.work else { return };
        let mut undoing = undoing;
        // It was held back, and nothing was taken back yet: what was seen before says little of now.
        if undoing.told && !undoing.begun && !halted {
            work.phase = Phase::Verifying(Verifying::begin(now.mono, within));
            return;
        }
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
            undoing.begun = true;
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
