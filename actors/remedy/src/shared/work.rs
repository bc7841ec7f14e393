//! The step machine of one plan, or of one intent that was found without an executor behind it.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::cluster_view::WorkloadKind;
use nameward_messages::plan::{IncidentPhase, Intent, Plan, PlanEnd, SharedAct};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::time::{Mono, Now};
use nameward_messages::verdict::Subject;
use nameward_messages::{ObjectKey, PodUid};

use super::call::{ApiCall, CallError, CallResult, IncidentRead, PodRead, Reply};
use super::record;
use crate::guard::{Guard, Refusal, floor, kind_of, memory_target, pod_target};

/// What follows a step.
#[derive(Debug)]
pub(super) enum Next {
    /// Make this request.
    Call(ApiCall),
    /// Come back after this time.
    Wait(Duration),
    /// It is over.
    End(PlanEnd, Duration),
}

/// Where the work stands: which request is under way or due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    ReadIncident,
    WriteIntent,
    LookAround,
    ReadPod,
    ReadWorkload,
    DryRun,
    Resize,
    Act,
    /// The outcome is not known: what does the target say?
    Reread,
    /// The outcome is known; the incident is read again to write it.
    ReadToRecord,
    WriteRecord,
}

/// What the work is to settle.
#[derive(Debug)]
enum Job {
    /// Carry out.
    Plan(Plan),
    /// Verify what somebody else may have carried out.
    Intent,
}

/// One piece of work.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) incident: String,
    /// Why it was given up, if it was.
    pub(super) refusal: Option<Refusal>,
    job: Job,
    intent: Intent,
    mode: Mode,
    workload: Option<(ObjectKey, WorkloadKind)>,
    deadline: Mono,
    step: Step,
    /// `true`: the request of `step` is to be made; `false`: its result is awaited.
    due: bool,
    read: Option<IncidentRead>,
    pod: Option<PodRead>,
    /// Precondition of the act, as re-read.
    version: String,
    resize: VecDeque<(ObjectKey, PodUid)>,
    notes: Vec<String>,
    intent_written: bool,
    acted: bool,
    outcome: Option<(RemedyOutcome, PlanEnd, Duration)>,
    /// To be written with the outcome.
    records: Vec<RemedyRecord>,
    /// To be told now.
    fresh: Vec<RemedyRecord>,
    tries: u32,
    conflicts: u32,
}

/// Reads and record writes that fail are tried this often before the intent is left for a later verification.
const TRIES: u32 = 6;
/// Time until the coordinator may plan anew after a definite failure.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

impl Work {
    /// To carry out a plan that passed the guard rails.
    pub(super) fn of_plan(plan: Plan, mode: Mode, workload: (ObjectKey, WorkloadKind), by: &str, now: Now) -> Self {
        let (version, from, to, resize) = match &plan.act {
            SharedAct::EvictPod { resource_version, .. } => (resource_version.clone(), None, None, VecDeque::new()),
            SharedAct::RaiseMemory { resource_version, from, to, resize, .. } => {
                (resource_version.clone(), Some(*from), Some(*to), resize.iter().cloned().collect())
            }
            SharedAct::AddReplica { resource_version, .. } => (resource_version.clone(), None, None, VecDeque::new()),
        };
        let intent = Intent {
            kind: kind_of(&plan.act),
            subject: plan.subject.clone(),
            by: by.to_owned(),
            resource_version: version.clone(),
            from,
            to,
            at: now.wall,
        };
        Self {
            incident: plan.incident.clone(),
            deadline: plan.deadline,
            resize,
            version,
            ..Self::blank(plan.incident.clone(), Job::Plan(plan), intent, mode, Some(workload))
        }
    }

    /// To verify an intent; `None` if it names nothing that can be read.
    pub(super) fn of_intent(
        incident: String, intent: Intent, mode: Mode, workload: Option<(ObjectKey, WorkloadKind)>, now: Now,
    ) -> Option<Self> {
        if intent.kind == RemedyKind::RaiseMemory && workload.is_none() {
            return None;
        }
        let mut work = Self::blank(incident, Job::Intent, intent, mode, workload);
        work.intent_written = true;
        work.acted = true;
        work.deadline = now.mono;
        Some(work)
    }

    fn blank(
        incident: String, job: Job, intent: Intent, mode: Mode, workload: Option<(ObjectKey, WorkloadKind)>,
    ) -> Self {
        Self {
            incident,
            refusal: None,
            job,
            intent,
            mode,
            workload,
            deadline: Mono::default(),
            step: Step::ReadIncident,
            due: true,
            read: None,
            pod: None,
            version: String::new(),
            resize: VecDeque::new(),
            notes: Vec::new(),
            intent_written: false,
            acted: false,
            outcome: None,
            records: Vec::new(),
            fresh: Vec::new(),
            tries: 0,
            conflicts: 0,
        }
    }

    pub(super) fn kind(&self) -> RemedyKind {
        self.intent.kind
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.intent.subject
    }

    pub(super) fn intent_at(&self) -> Timestamp {
        self.intent.at
    }

    /// The records that were not told yet.
    pub(super) fn take_records(&mut self) -> Vec<RemedyRecord> {
        std::mem::take(&mut self.fresh)
    }

    /// Whether this request is the one that spends the budget.
    pub(super) fn begins_act(&self, call: &ApiCall) -> bool {
        match call {
            ApiCall::Evict { dry_run, .. } | ApiCall::PatchMemory { dry_run, .. } => !dry_run,
            ApiCall::ResizePod { .. } => true,
            ApiCall::ReadIncident { .. }
            | ApiCall::WriteIncident { .. }
            | ApiCall::ListIncidents
            | ApiCall::ReadPod { .. }
            | ApiCall::ReadWorkload { .. } => false,
        }
    }

    /// One step: takes the result of the request under way, if there is one, and says what follows.
    pub(super) fn next(&mut self, guard: &Guard<'_>, result: Option<CallResult>) -> Next {
        if let Some(result) = result
            && !self.due
        {
            self.due = true;
            if let Some(next) = self.take(guard, result) {
                return next;
            }
        }
        // Up to the act every request asks the guard rails again; after it, the outcome must be found and written.
        if matches!(self.job, Job::Plan(_))
            && !self.acted
            && self.outcome.is_none()
            && let Err(refusal) = guard.still(self.deadline)
            && let Some(next) = self.give_up(refusal)
        {
            return next;
        }
        self.request().map_or(Next::End(PlanEnd::Failed, AFTER_FAILURE), |call| {
            self.due = false;
            if self.step == Step::Act {
                self.acted = true;
            }
            Next::Call(call)
        })
    }

    /// The request of the step that is due.
    fn request(&mut self) -> Option<ApiCall> {
        let name = self.incident.clone();
        Some(match self.step {
            Step::ReadIncident | Step::ReadToRecord => ApiCall::ReadIncident { name },
            Step::WriteIntent => {
                let read = self.read.as_ref()?;
                let mut status = read.status.clone();
                status.intent = Some(self.intent.clone());
                status.phase = IncidentPhase::Remediating;
                let resource_version = read.resource_version.clone();
                ApiCall::WriteIncident { name, resource_version, status: Box::new(status) }
            }
            Step::LookAround => ApiCall::ListIncidents,
            Step::ReadPod => ApiCall::ReadPod { pod: self.pod_key()? },
            Step::ReadWorkload => self.read_workload()?,
            Step::DryRun => self.act(true)?,
            Step::Act => self.act(false)?,
            Step::Resize => {
                let (pod, uid) = self.resize.front()?.clone();
                let (container, to) = self.memory()?;
                ApiCall::ResizePod { pod, uid, container, to }
            }
            Step::Reread if self.intent.kind == RemedyKind::EvictPod => ApiCall::ReadPod { pod: self.pod_key()? },
            Step::Reread => self.read_workload()?,
            Step::WriteRecord => {
                let read = self.read.as_ref()?;
                let mut status = read.status.clone();
                status.intent = None;
                let done = self.outcome.is_some_and(|(_, end, _)| end == PlanEnd::Done);
                status.phase = if done { IncidentPhase::Verifying } else { IncidentPhase::Open };
                record::append(&mut status.ladder, &self.records);
                let resource_version = read.resource_version.clone();
                ApiCall::WriteIncident { name, resource_version, status: Box::new(status) }
            }
        })
    }

    /// Takes a result; `Some` when something else than the request of the (new) step follows.
    fn take(&mut self, guard: &Guard<'_>, result: CallResult) -> Option<Next> {
        match self.step {
            Step::ReadIncident => match result {
                Ok(Reply::Incident(Some(read))) => self.incident_read(read),
                Ok(Reply::Incident(None)) | Err(CallError::NotFound) => self.give_up(Refusal::IncidentGone),
                Ok(_) => self.give_up(Refusal::Api("an answer of another kind".to_owned())),
                Err(error) => self.give_up(Refusal::Api(error.to_string())),
            },
            Step::WriteIntent => match result {
                Ok(Reply::Written { resource_version }) => {
                    self.intent_written = true;
                    if let Some(read) = &mut self.read {
                        read.resource_version = resource_version;
                        read.status.intent = Some(self.intent.clone());
                    }
                    self.go(Step::LookAround)
                }
                Ok(_) => self.give_up(Refusal::Api("an answer of another kind".to_owned())),
                // It may stand there: the withdrawal reads before it writes.
                Err(error @ CallError::Unknown(_)) => {
                    self.intent_written = true;
                    self.give_up(Refusal::Api(format!("the intent could not be written: {error}")))
                }
                Err(error) => self.give_up(Refusal::Api(format!("the intent could not be written: {error}"))),
            },
            Step::LookAround => match result {
                Ok(Reply::Incidents(all)) => {
                    let holds = |i: &&IncidentRead| {
                        i.name != self.incident
                            && (i.status.intent.is_some() || i.status.phase == IncidentPhase::Verifying)
                    };
                    let mine = all.iter().any(|i| i.name == self.incident && i.status.intent.as_ref() == Some(&self.intent));
                    match all.iter().find(holds) {
                        Some(other) => self.give_up(Refusal::InFlight(other.name.clone())),
                        // An empty or partial list is no permission.
                        None if !mine => self.give_up(Refusal::Api("the written intent is not listed".to_owned())),
                        None if self.intent.kind == RemedyKind::EvictPod => self.go(Step::ReadPod),
                        None => self.go(Step::ReadWorkload),
                    }
                }
                Ok(_) => self.give_up(Refusal::Api("an answer of another kind".to_owned())),
                Err(error) => self.give_up(Refusal::Api(error.to_string())),
            },
            Step::ReadPod => match result {
                Ok(Reply::Pod(read)) => {
                    let uid = self.intent.subject.uid.as_ref().map_or("", |u| u.as_str());
                    match pod_target(uid, &self.intent.resource_version, read.as_ref()) {
                        Ok(()) => {
                            self.pod = read;
                            self.go(Step::ReadWorkload)
                        }
                        Err(refusal) => self.give_up(refusal),
                    }
                }
                Ok(_) | Err(CallError::NotFound) => self.give_up(Refusal::TargetGone),
                Err(error) => self.give_up(Refusal::Api(error.to_string())),
            },
            Step::ReadWorkload => match result {
                Ok(Reply::Workload(read)) => {
                    let judged = match (&self.pod, self.memory(), self.intent.from) {
                        (Some(pod), _, _) => floor(pod, read.as_ref()),
                        (None, Some((container, to)), Some(from)) => {
                            memory_target(guard.settings, &container, from, to, read.as_ref())
                        }
                        _ => Err(Refusal::NotInThisRelease(self.intent.kind)),
                    };
                    if let Err(refusal) = judged {
                        return self.give_up(refusal);
                    }
                    if let (None, Some(workload)) = (&self.pod, read) {
                        self.version = workload.resource_version;
                    }
                    self.go(Step::DryRun)
                }
                Ok(_) | Err(CallError::NotFound) => self.give_up(Refusal::TargetGone),
                Err(error) => self.give_up(Refusal::Api(error.to_string())),
            },
            Step::DryRun => match result {
                Ok(_) => self.go(if self.resize.is_empty() { Step::Act } else { Step::Resize }),
                Err(CallError::Conflict(_)) if self.reads_again() => self.go(Step::ReadWorkload),
                Err(CallError::Conflict(_)) => self.give_up(Refusal::TargetChanged("it changed before the dry run")),
                Err(CallError::NotFound) => self.give_up(Refusal::TargetGone),
                Err(error) => self.give_up(Refusal::Api(format!("dry run: {error}"))),
            },
            Step::Resize => {
                if let Some((pod, _)) = self.resize.pop_front() {
                    // Best effort: where the cluster cannot, the new template brings new pods.
                    let said = result.map_or_else(|error| format!("not resized, {error}"), |_| "resized in place".into());
                    self.notes.push(format!("{pod}: {said}"));
                }
                if !self.resize.is_empty() {
                    return self.go(Step::Resize);
                }
                self.go(Step::Act)
            }
            Step::Act => self.act_result(result),
            Step::Reread => self.reread(result),
            Step::ReadToRecord => match result {
                Ok(Reply::Incident(Some(read))) => self.ready_to_record(read),
                Ok(Reply::Incident(None)) | Err(CallError::NotFound) => self.end(),
                Ok(_) | Err(_) => self.again(),
            },
            Step::WriteRecord => match result {
                Ok(_) => self.end(),
                Err(CallError::NotFound) => self.end(),
                Err(_) => {
                    self.step = Step::ReadToRecord;
                    self.again()
                }
            },
        }
    }

    fn incident_read(&mut self, read: IncidentRead) -> Option<Next> {
        let standing = read.status.intent.clone();
        self.read = Some(read);
        match (&self.job, standing) {
            (Job::Plan(_), None) => self.go(Step::WriteIntent),
            (Job::Plan(_), Some(_)) => {
                let text = format!("{}: an intent without an outcome stands there and is verified first", self.incident);
                self.give_up(Refusal::InFlight(text))
            }
            (Job::Intent, Some(intent)) if intent == self.intent => self.go(Step::Reread),
            // Settled by somebody else meanwhile.
            (Job::Intent, _) => Some(Next::End(PlanEnd::Refused, Duration::from_secs(2))),
        }
    }

    fn act_result(&mut self, result: CallResult) -> Option<Next> {
        match result {
            Ok(_) => self.settle(RemedyOutcome::Done, &record::did(&self.intent), PlanEnd::Done),
            Err(CallError::Unknown(says)) => {
                let detail = format!("no clear answer ({says}); the target is read again, the act is not repeated");
                self.tell(RemedyOutcome::Unknown, detail);
                self.go(Step::Reread)
            }
            // Certainly not carried out: the workload's status moved on. Its limit is read and judged again.
            Err(CallError::Conflict(_)) if self.reads_again() => {
                self.acted = false;
                self.go(Step::ReadWorkload)
            }
            Err(CallError::NotFound) => self.settle(RemedyOutcome::Failed, "the target is gone", PlanEnd::Failed),
            Err(error) => self.settle(RemedyOutcome::Failed, &error.to_string(), PlanEnd::Failed),
        }
    }

    /// Decides by the target itself whether the act was carried out.
    fn reread(&mut self, result: CallResult) -> Option<Next> {
        let found = match (result, self.intent.kind) {
            (Ok(Reply::Pod(pod)), RemedyKind::EvictPod) => {
                Some(pod.is_none_or(|p| p.terminating || Some(&p.uid) != self.intent.subject.uid.as_ref()))
            }
            (Err(CallError::NotFound), RemedyKind::EvictPod) => Some(true),
            (Ok(Reply::Workload(Some(workload))), RemedyKind::RaiseMemory) => self
                .intent
                .to
                .map(|to| workload.memory_limits.values().any(|limit| *limit >= to)),
            _ => None,
        };
        match found {
            Some(true) => {
                let detail = format!("{}, as the target shows", record::did(&self.intent));
                self.settle(RemedyOutcome::Done, &detail, PlanEnd::Done)
            }
            Some(false) => {
                self.settle(RemedyOutcome::Failed, "not carried out, as the target shows", PlanEnd::Failed)
            }
            None => self.again(),
        }
    }

    fn ready_to_record(&mut self, read: IncidentRead) -> Option<Next> {
        let mine = read.status.intent.as_ref() == Some(&self.intent);
        let known = self.records.iter().all(|r| read.status.ladder.contains(r));
        self.read = Some(read);
        // A withdrawn intent, or a record that arrived although the answer was lost.
        if !mine && (known || self.outcome.is_some_and(|(o, ..)| o == RemedyOutcome::Refused)) {
            return self.end();
        }
        self.go(Step::WriteRecord)
    }

    /// The outcome is known: tell it, then write it.
    fn settle(&mut self, outcome: RemedyOutcome, detail: &str, end: PlanEnd) -> Option<Next> {
        let detail = self.with_notes(detail.to_owned());
        self.tell(outcome, detail);
        self.outcome = Some((outcome, end, AFTER_FAILURE));
        self.tries = 0;
        self.go(Step::ReadToRecord)
    }

    /// Nothing was changed. An intent that was written is taken back.
    fn give_up(&mut self, refusal: Refusal) -> Option<Next> {
        let end = if refusal.lasting() { PlanEnd::Failed } else { PlanEnd::Refused };
        let retry_after = refusal.retry_after();
        if matches!(self.job, Job::Plan(_)) {
            let detail = self.with_notes(refusal.to_string());
            self.tell(RemedyOutcome::Refused, detail);
        }
        self.refusal = Some(refusal);
        self.outcome = Some((RemedyOutcome::Refused, end, retry_after));
        if !self.intent_written {
            return Some(Next::End(end, retry_after));
        }
        self.tries = 0;
        self.go(Step::ReadToRecord)
    }

    fn with_notes(&mut self, mut text: String) -> String {
        for note in self.notes.drain(..) {
            text.push_str("; ");
            text.push_str(&note);
        }
        text
    }

    /// A workload's version changes with every change of its status, a pod's only with its own: after a conflict the
    /// workload is read and judged again, a few times.
    fn reads_again(&mut self) -> bool {
        self.conflicts += 1;
        self.intent.kind == RemedyKind::RaiseMemory && self.conflicts <= 3
    }

    fn tell(&mut self, outcome: RemedyOutcome, detail: String) {
        let record = record::of_intent(&self.intent, self.mode, outcome, detail);
        self.fresh.push(record.clone());
        self.records.push(record);
    }

    fn end(&self) -> Option<Next> {
        let (_, end, retry) = self.outcome?;
        Some(Next::End(end, retry))
    }

    /// Tries the step again after a growing pause; in the end the intent is left for a later verification.
    fn again(&mut self) -> Option<Next> {
        self.tries += 1;
        if self.tries >= TRIES {
            let (end, retry) = self.outcome.map_or((PlanEnd::Failed, AFTER_FAILURE), |(_, end, retry)| (end, retry));
            return Some(Next::End(end, retry));
        }
        Some(Next::Wait(Duration::from_secs(1 << self.tries.min(4))))
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads as the other outcomes of a step do")]
    fn go(&mut self, step: Step) -> Option<Next> {
        self.step = step;
        self.due = true;
        None
    }

    fn pod_key(&self) -> Option<ObjectKey> {
        let subject = &self.intent.subject;
        Some(ObjectKey::new(subject.namespace.clone()?, subject.name.clone()))
    }

    fn read_workload(&self) -> Option<ApiCall> {
        let (workload, kind) = self.workload.clone()?;
        Some(ApiCall::ReadWorkload { workload, kind })
    }

    fn memory(&self) -> Option<(String, u64)> {
        match &self.job {
            Job::Plan(Plan { act: SharedAct::RaiseMemory { container, to, .. }, .. }) => Some((container.clone(), *to)),
            Job::Plan(_) | Job::Intent => None,
        }
    }

    fn act(&self, dry_run: bool) -> Option<ApiCall> {
        let Job::Plan(plan) = &self.job else { return None };
        match &plan.act {
            SharedAct::EvictPod { pod, uid, .. } => {
                let resource_version = self.version.clone();
                Some(ApiCall::Evict { pod: pod.clone(), uid: uid.clone(), resource_version, dry_run })
            }
            SharedAct::RaiseMemory { workload, container, to, .. } => Some(ApiCall::PatchMemory {
                workload: workload.clone(),
                kind: self.workload.as_ref()?.1,
                resource_version: self.version.clone(),
                container: container.clone(),
                to: *to,
                dry_run,
            }),
            SharedAct::AddReplica { .. } => None,
        }
    }
}
