//! What a crash cut off: found in the journal, compared with what is there, and brought to an end.

use super::*;

impl NodeMind {
    /// The journal was opened: what was left open is compared with what is there.
    pub(in crate::node) fn opened(
        &mut self,
        now: Now,
        boot: String,
        found: Result<Found, String>,
        out: &mut Vec<Output>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                self.journal = JournalState::Unusable(why);
                return;
            }
        };
        if self.journal == JournalState::Open {
            return;
        }
        (self.journal, self.boot) = (JournalState::Open, boot);
        self.last_id = found.entries.iter().map(|e| e.id).max().unwrap_or_default();
        let mut repairs = BTreeSet::new();
        for entry in &found.entries {
            let at = Mono(Duration::from_millis(entry.began_ms));
            if entry.care {
                self.cared = self.cared.max(Some(at));
            } else if repairs.insert(entry.repair) {
                self.tries.push(Try { at, kind: entry.kind, subject: entry.subject.clone() });
            }
            if entry.worse {
                self.breaker = self.breaker.max(Some(at + BREAKER));
            }
        }
        if found.damaged > 0 {
            let last = found.entries.last();
            if let Some(entry) = last {
                let says = format!(
                    "{} lines of the journal were not whole and were passed over: what they announced was not begun",
                    found.damaged
                );
                let told = record(entry.kind, &entry.subject, Mode::Act, RemedyOutcome::Unknown, says, now.wall);
                out.push(Output::Tell(told));
            }
        }
        let open: Vec<Entry> = found.entries.into_iter().filter(|e| e.state.open()).collect();
        let Some(last) = open.last() else { return };
        let (kind, cause, subject) = (last.kind, last.cause, last.subject.clone());
        let entries: Vec<Entry> = open.iter().filter(|e| e.repair == last.repair).cloned().collect();
        let at = entries.len();
        self.work = Some(Work {
            kind,
            cause,
            subject,
            verdict: None,
            after: None,
            steps: VecDeque::new(),
            entries,
            phase: Phase::Replaying { at, standing: Vec::new(), left: Vec::new() },
            job: None,
            before: None,
            held: None,
            wake: now.mono,
        });
    }

    /// After a start: the next open entry, from the last to the first.
    pub(super) fn replay_next(
        &mut self,
        now: Now,
        at: usize,
        standing: Vec<usize>,
        left: Vec<String>,
        out: &mut Vec<Output>,
    ) {
        let within = self.config.remedy.verify_within.0;
        let Some(work) = &mut self.work else { return };
        if let Some(entry) = at.checked_sub(1).and_then(|at| work.entries.get(at)) {
            let job = Job::Read(entry.change.clone());
            return self.run(now, job, out);
        }
        if !standing.is_empty() {
            work.phase = Phase::Verifying(Verifying::begin(now.mono, within));
            return self.go_on(now, out);
        }
        let what = work.commands();
        let ending = if left.is_empty() {
            let detail = format!("a repair was cut off by the end of the agent, and nothing of it stands: {what}");
            Ending { outcome: RemedyOutcome::Failed, detail, call: None }
        } else {
            let detail = format!("a repair was cut off by the end of the agent: {}", left.join("; "));
            Ending { outcome: RemedyOutcome::Failed, detail, call: Some(left.join("; ")) }
        };
        self.close(now, ending, out);
    }

    pub(super) fn compared(
        &mut self,
        at: usize,
        mut standing: Vec<usize>,
        mut left: Vec<String>,
        result: Result<Image, RepairError>,
    ) {
        let Some(work) = &mut self.work else { return };
        let Some(entry) = at.checked_sub(1).and_then(|at| work.entries.get_mut(at)) else { return };
        match replay(entry, result) {
            Replay::Nothing | Replay::Gone => entry.state = State::Undone,
            Replay::Over => entry.state = State::Left,
            Replay::Verify => {
                entry.state = State::Applied;
                standing.push(at - 1);
            }
            Replay::LeaveAlone(now) => {
                entry.state = State::Left;
                left.push(format!("{}: there is {now}, which we did not write; it is left alone", entry.change));
            }
            Replay::Unread(error) => {
                entry.state = State::Left;
                left.push(format!("{}: {error}; it is left alone", entry.change));
            }
        }
        work.phase = Phase::Replaying { at: at - 1, standing, left };
    }
}
