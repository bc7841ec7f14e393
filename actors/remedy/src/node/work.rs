//! A repair under way, from the first look to its end. One job at a time, each with an answer; whatever comes between is
//! found again by the journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use nameward_kernel::repair::{Change, Image, RepairError, Seen, Undone};
use nameward_messages::RequestId;
use nameward_messages::guarding::RefusalReason;
use nameward_messages::probe::ProbeAnswer;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome};
use nameward_messages::time::{Mono, Now};
use nameward_messages::verdict::{Cause, Subject, Verdict, VerdictKey};

use super::refuse::Held;
use super::verify::{self, Sight};
use super::{BREAKER, Job, JobResult, JournalState, LOOK_EVERY, NodeMind, Output, Try, record};
use crate::journal::{Entry, Found, Replay, State, replay};

mod care;
mod ending;
mod resume;
mod steps;
mod worse;

use worse::Before;
pub(super) use worse::Failing;

/// A job that has not ended after this long never will: the shell bounds each to less.
const LOST: Duration = Duration::from_secs(60);
/// Time between two looks while it is verified.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// An answer that does not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// Looks in a row at which everything must answer.
const GOOD_LOOKS: u32 = 2;
/// For as long as this it is asked again when nothing can be concluded.
const PATIENCE: Duration = Duration::from_secs(600);

/// A repair, or what is left of one that a crash cut off.
#[derive(Debug)]
pub(super) struct Work {
    kind: RemedyKind,
    cause: Cause,
    subject: Subject,
    /// For a new repair: what was judged.
    verdict: Option<Verdict>,
    /// It is after-care for those who asked these addresses, in this mode, and for no verdict.
    after: Option<(BTreeSet<IpAddr>, Mode)>,
    /// Changes that are still to be made.
    steps: VecDeque<Change>,
    /// What was journalled, in its order, as it stands.
    entries: Vec<Entry>,
    phase: Phase,
    /// The job under way, and when it counts as lost.
    job: Option<(u64, Mono)>,
    /// What the node looked like before the first change, if that is known.
    before: Option<Before>,
    /// Why it was given up, if it was.
    held: Option<RefusalReason>,
    wake: Mono,
}

#[derive(Clone, Debug)]
enum Phase {
    /// What is concerned is read.
    Looking,
    /// The next change's place is read.
    Reading,
    /// The intent is on its way to the disk.
    Intending,
    /// The change is being made.
    Applying,
    /// It is not known whether it was made: what is there is read.
    Settling(String),
    /// That it was made is on its way to the disk.
    Noting,
    /// Probing says whether it helped.
    Verifying(Verifying),
    /// The end is on its way to the disk.
    Closing(Ending),
    /// Changes are taken back, the last one first.
    Undoing(Undoing),
    /// After a start: the open entries are compared with what is there, the last one first.
    Replaying { at: usize, standing: Vec<usize>, left: Vec<String> },
}

#[derive(Clone, Debug)]
struct Verifying {
    until: Mono,
    asked: Option<(RequestId, Mono)>,
    good: u32,
    /// A look came to its end, whatever it said.
    looked: bool,
    /// What the last look said that said anything.
    last: Option<Sight>,
    again_at: Mono,
    /// Nothing is asked after this.
    end: Mono,
}

impl Verifying {
    fn begin(now: Mono, within: Duration) -> Self {
        let end = now + within.max(PATIENCE);
        Self { until: now + within, asked: None, good: 0, looked: false, last: None, again_at: now, end }
    }
}

#[derive(Clone, Debug)]
struct Undoing {
    /// The next one to take back, counted from the end.
    at: usize,
    why: String,
    worse: bool,
    /// What could not be taken back.
    left: Vec<String>,
    /// It was told that the kill switch stops it.
    told: bool,
    /// Something was taken back, or is about to be.
    begun: bool,
}

/// How a repair ends.
#[derive(Clone, Debug)]
struct Ending {
    outcome: RemedyOutcome,
    detail: String,
    /// A person must look.
    call: Option<String>,
}

impl Work {
    pub(super) fn deadline(&self) -> Mono {
        let job = self.job.map(|(_, lost)| lost);
        let asked = match &self.phase {
            Phase::Verifying(v) => Some(v.asked.as_ref().map_or(v.again_at, |(_, until)| *until).min(v.until)),
            _ => None,
        };
        [Some(self.wake), job, asked].into_iter().flatten().min().unwrap_or(self.wake)
    }

    pub(super) fn is_about(&self, key: &VerdictKey) -> bool {
        self.cause == key.cause && self.subject == key.subject
    }

    fn commands(&self) -> String {
        let all: Vec<String> = self.entries.iter().map(|entry| entry.change.to_string()).collect();
        all.join("; ")
    }
}

impl NodeMind {
    /// Begins a repair.
    pub(super) fn begin(
        &mut self,
        now: Now,
        kind: RemedyKind,
        verdict: Verdict,
        out: &mut Vec<Output>,
    ) -> Result<(), String> {
        let wanted = self.known().wanted(&verdict)?;
        self.work = Some(Work {
            kind,
            cause: verdict.cause,
            subject: verdict.subject.clone(),
            verdict: Some(verdict),
            after: None,
            steps: VecDeque::new(),
            entries: Vec::new(),
            phase: Phase::Looking,
            job: None,
            before: Some(Before { verdicts: self.verdicts(), failing: self.failing.clone() }),
            held: None,
            wake: now.mono + LOOK_EVERY,
        });
        self.run(now, Job::Look(wanted), out);
        Ok(())
    }

    fn run(&mut self, now: Now, job: Job, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        self.last_task += 1;
        work.job = Some((self.last_task, now.mono + LOST));
        out.push(Output::Do { task: self.last_task, job });
    }

    /// Looks after the repair: time that passed, a switch that was thrown.
    pub(super) fn go_on(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        work.wake = now.mono + LOOK_EVERY;
        if let Some((_, lost)) = work.job {
            if now.mono >= lost {
                // Nobody knows what it did. Nothing is touched until a restart compares the journal with what is there.
                let why = "a step of a repair never ended; the journal is compared at the next start".to_owned();
                self.journal = JournalState::Unusable(why.clone());
                let ending = Ending { outcome: RemedyOutcome::Unknown, detail: why.clone(), call: Some(why) };
                self.finish(now, ending, out);
            }
            return;
        }
        match work.phase.clone() {
            Phase::Verifying(verifying) => self.verify(now, verifying, out),
            Phase::Undoing(undoing) => self.undo_next(now, undoing, out),
            Phase::Replaying { at, standing, left } => self.replay_next(now, at, standing, left, out),
            Phase::Looking
            | Phase::Reading
            | Phase::Intending
            | Phase::Applying
            | Phase::Settling(_)
            | Phase::Noting
            | Phase::Closing(_) => {}
        }
    }

    pub(super) fn done(&mut self, now: Now, task: u64, result: JobResult, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        if work.job.is_none_or(|(expected, _)| expected != task) {
            return;
        }
        work.job = None;
        match (work.phase.clone(), result) {
            (Phase::Looking, JobResult::Seen(seen)) => {
                if let Some((gone, mode)) = work.after.clone() {
                    return self.care(now, &gone, mode, &seen, out);
                }
                let Some(verdict) = work.verdict.clone() else {
                    return self.give_up(now, Held::unfit("no verdict"), out);
                };
                match self.known().changes(&verdict, &seen) {
                    Ok(changes) => {
                        if let Some(work) = &mut self.work {
                            work.steps = changes.into();
                        }
                        self.next_step(now, out);
                    }
                    Err(why) => self.give_up(now, Held::unfit(why), out),
                }
            }
            (Phase::Reading, JobResult::Image(read)) => self.intend(now, read, out),
            (Phase::Intending, JobResult::Journalled(Ok(()))) => self.make(now, out),
            (Phase::Intending, JobResult::Journalled(Err(why))) => {
                work.entries.pop();
                self.journal = JournalState::Unusable(why.clone());
                let says = format!("the journal cannot be written: {why}");
                self.give_up(now, Held::new(RefusalReason::NoJournal, says), out);
            }
            (Phase::Applying, JobResult::Image(result)) => self.made(now, result, out),
            (Phase::Settling(why), JobResult::Image(result)) => self.settled(now, why, result, out),
            (Phase::Noting, JobResult::Journalled(noted)) => {
                if let Err(why) = noted {
                    // The intent is on the disk: what stands will be found. No further change without a journal.
                    self.journal = JournalState::Unusable(why);
                    if let Some(work) = &mut self.work {
                        work.steps.clear();
                    }
                }
                self.next_step(now, out);
            }
            (Phase::Closing(ending), JobResult::Journalled(noted)) => {
                if let Err(why) = noted {
                    self.journal = JournalState::Unusable(why);
                }
                self.finish(now, ending, out);
            }
            (Phase::Undoing(undoing), JobResult::Undone(result)) => self.undone(undoing, result),
            (Phase::Replaying { at, standing, left }, JobResult::Image(result)) => {
                self.compared(at, standing, left, result);
            }
            (_, _) => self.give_up(now, Held::unfit("a step answered something else than it was asked"), out),
        }
    }

    /// How every change of the repair ended goes to the disk; then it is told.
    fn close(&mut self, now: Now, ending: Ending, out: &mut Vec<Output>) {
        let Some(work) = &mut self.work else { return };
        let entries = work.entries.clone();
        work.phase = Phase::Closing(ending.clone());
        if entries.is_empty() {
            return self.finish(now, ending, out);
        }
        self.run(now, Job::Journal(entries), out);
    }

    fn finish(&mut self, now: Now, ending: Ending, out: &mut Vec<Output>) {
        let Some(work) = self.work.take() else { return };
        let key = VerdictKey { cause: work.cause, subject: work.subject.clone() };
        if ending.outcome == RemedyOutcome::Refused {
            // Told once per reason, however often it is tried.
            if let Some(standing) = self.standing.get_mut(&key) {
                standing.again_at = now.mono + super::AGAIN;
            }
            let held = Held::new(work.held.unwrap_or(RefusalReason::Unfit), ending.detail);
            if work.after.is_some() {
                // No verdict stands behind it that could be told again: this is told once.
                let detail = held.says;
                let told = record(work.kind, &work.subject, Mode::Act, RemedyOutcome::Refused, detail, now.wall);
                out.push(Output::Tell(told));
                return out.push(Output::Refused { kind: work.kind, reason: held.reason });
            }
            return self.say(now, work.kind, &key, Some(held), out);
        }
        out.push(Output::Tell(record(work.kind, &work.subject, Mode::Act, ending.outcome, ending.detail, now.wall)));
        if let Some(standing) = self.standing.get_mut(&key) {
            standing.settled = ending.outcome == RemedyOutcome::Verified;
        }
        if let Some(call) = ending.call {
            let detail = format!("a person is needed: {call}");
            out.push(Output::Tell(record(
                work.kind,
                &work.subject,
                Mode::Act,
                RemedyOutcome::Escalated,
                detail,
                now.wall,
            )));
        }
    }
}
