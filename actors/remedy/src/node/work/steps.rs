//! The changes of a repair, one after the other: read, written down, made, read back.

use super::*;

impl NodeMind {
    /// The next change of the repair, or its verification.
    pub(super) fn next_step(&mut self, now: Now, out: &mut Vec<Output>) {
        let within = self.config.remedy.verify_within.0;
        let Some(work) = &mut self.work else { return };
        if let Some(change) = work.steps.front() {
            let job = Job::Read(change.clone());
            work.phase = Phase::Reading;
            return self.run(now, job, out);
        }
        if work.entries.is_empty() {
            return self.give_up(now, Held::unfit(crate::node::plan::NOT_SO), out);
        }
        let detail = format!("did: {}", work.commands());
        let told = record(work.kind, &work.subject, Mode::Act, RemedyOutcome::Done, detail, now.wall);
        out.push(Output::Tell(told));
        if work.after.is_some() {
            // Nothing was said to fail: there is nothing to verify.
            for entry in &mut work.entries {
                entry.state = State::Confirmed;
            }
            let entries = work.entries.clone();
            let detail = format!("conntrack sends nobody to the dead address any more: {}", work.commands());
            work.phase = Phase::Closing(Ending { outcome: RemedyOutcome::Verified, detail, call: None });
            return self.run(now, Job::Journal(entries), out);
        }
        work.phase = Phase::Verifying(Verifying::begin(now.mono, within));
    }

    /// The before-image was read: both images go to the disk.
    pub(super) fn intend(&mut self, now: Now, read: Result<Image, RepairError>, out: &mut Vec<Output>) {
        let last = self.last_id;
        let boot = self.boot.clone();
        let Some(work) = &mut self.work else { return };
        let Some(change) = work.steps.pop_front() else { return };
        let before = match read {
            Ok(before) => before,
            Err(error) => return self.give_up(now, Held::unfit(error.to_string()), out),
        };
        let wrote = match change.writes(&before) {
            Ok(wrote) => wrote,
            // Somebody was faster, or the change before it brought it along.
            Err(nameward_kernel::repair::Unfit::AsWanted) => return self.next_step(now, out),
            Err(why) => return self.give_up(now, Held::unfit(why.to_string()), out),
        };
        let id = last + 1;
        let entry = Entry {
            id,
            repair: work.entries.first().map_or(id, |first| first.repair),
            boot,
            kind: work.kind,
            cause: work.cause,
            subject: work.subject.clone(),
            change,
            before,
            wrote,
            state: State::Intended,
            worse: false,
            care: work.after.is_some(),
            began_ms: u64::try_from(now.mono.0.as_millis()).unwrap_or(u64::MAX),
            at: now.wall,
        };
        let (first, care) = (work.entries.is_empty(), work.after.is_some());
        let (kind, subject) = (work.kind, work.subject.clone());
        work.entries.push(entry.clone());
        work.phase = Phase::Intending;
        self.last_id = id;
        if care {
            self.cared = Some(now.mono);
        } else if first {
            self.tried(now.mono, kind, &subject);
        }
        self.run(now, Job::Journal(vec![entry]), out);
    }

    /// The intent is on the disk. What could forbid the change is asked a last time.
    pub(super) fn make(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(work) = &self.work else { return };
        let key = VerdictKey { cause: work.cause, subject: work.subject.clone() };
        let kind = work.kind;
        let forbidden = self.forbidden(now.mono, kind).or_else(|| {
            let acts = self.config.remedy.mode_of(kind) == Mode::Act;
            let stands = work.after.is_some() || self.standing.contains_key(&key);
            let (reason, why) = if acts {
                (RefusalReason::VerdictEnded, "the verdict ended")
            } else {
                (RefusalReason::OffLadder, "its mode is not act any more")
            };
            (!acts || !stands).then(|| Held::new(reason, why))
        });
        let Some(work) = &mut self.work else { return };
        if let Some(why) = forbidden {
            if let Some(entry) = work.entries.last_mut() {
                entry.state = State::Undone;
            }
            return self.give_up(now, why, out);
        }
        let Some(entry) = work.entries.last() else { return };
        let job = Job::Apply { change: entry.change.clone(), before: entry.before.clone() };
        work.phase = Phase::Applying;
        self.run(now, job, out);
    }

    pub(super) fn made(&mut self, now: Now, result: Result<Image, RepairError>, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        let Some(entry) = work.entries.last_mut() else { return };
        match result {
            Ok(image) if entry.change.stands(&image, &entry.wrote) => {
                entry.state = State::Applied;
                let job = Job::Journal(vec![entry.clone()]);
                work.phase = Phase::Noting;
                self.run(now, job, out);
            }
            Ok(image) => {
                let why = format!("there is {image}, where {} was written", entry.wrote);
                let job = Job::Read(entry.change.clone());
                work.phase = Phase::Settling(why);
                self.run(now, job, out);
            }
            // Nothing was done, by the kernel crate's word.
            Err(error @ (RepairError::Changed(_) | RepairError::Gone(_) | RepairError::NotPermitted(_))) => {
                entry.state = State::Undone;
                self.give_up(now, Held::unfit(error.to_string()), out);
            }
            Err(error @ (RepairError::Failed(_) | RepairError::TimedOut(_))) => {
                let job = Job::Read(entry.change.clone());
                work.phase = Phase::Settling(error.to_string());
                self.run(now, job, out);
            }
        }
    }

    /// What is there after a change of which nobody knows whether it was made. It is never made a second time.
    pub(super) fn settled(&mut self, now: Now, why: String, result: Result<Image, RepairError>, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        let Some(entry) = work.entries.last_mut() else { return };
        match replay(entry, result) {
            Replay::Verify => {
                entry.state = State::Applied;
                let job = Job::Journal(vec![entry.clone()]);
                work.phase = Phase::Noting;
                self.run(now, job, out);
            }
            Replay::Nothing | Replay::Gone | Replay::Over => {
                entry.state = State::Undone;
                self.give_up(now, Held::unfit(why), out);
            }
            Replay::LeaveAlone(_) | Replay::Unread(_) => {
                entry.state = State::Left;
                self.give_up(now, Held::unfit(why), out);
            }
        }
    }

    /// No further change is made. What was made is taken back; if nothing was, that is the end.
    pub(super) fn give_up(&mut self, now: Now, held: Held, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        work.steps.clear();
        work.held = Some(held.reason);
        let why = held.says;
        if work.entries.iter().any(|entry| entry.state == State::Applied) {
            let at = work.entries.len();
            let undoing = Undoing { at, why, worse: false, left: Vec::new(), told: false, begun: false };
            work.phase = Phase::Undoing(undoing);
            return self.go_on(now, out);
        }
        let left = work.entries.iter().any(|entry| entry.state == State::Left);
        let call = left.then(|| format!("look at it: {} was begun, and what is there is not ours", work.commands()));
        // Nothing that was written down was done: a refusal, and no failure.
        let tried = work.entries.iter().any(|entry| entry.state != State::Undone);
        let outcome = if tried { RemedyOutcome::Failed } else { RemedyOutcome::Refused };
        self.close(now, Ending { outcome, detail: why, call }, out);
    }
}
