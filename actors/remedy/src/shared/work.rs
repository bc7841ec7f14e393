//! The step machine of one plan, or of one intent that was found without an executor behind it.

mod result;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::cluster_view::{ClusterView, WorkloadKind};
use nameward_messages::plan::{AddedReplica, IncidentPhase, Intent, Plan, PlanEnd, SharedAct};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::time::{Mono, Now};
use nameward_messages::verdict::{Subject, SubjectKind};
use nameward_messages::{ObjectKey, PodUid};

use super::call::{ApiCall, CallResult, IncidentRead, PodRead};
use super::record;
use crate::guard::{Guard, Refusal, kind_of};

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
    /// The container whose memory limit is meant.
    container: Option<String>,
    deadline: Mono,
    step: Step,
    /// `true`: the request of `step` is to be made; `false`: its result is awaited.
    due: bool,
    read: Option<IncidentRead>,
    pod: Option<PodRead>,
    /// Precondition of the act, as re-read.
    version: String,
    resize: VecDeque<(ObjectKey, PodUid)>,
    /// A running pod has, or may have, another limit already.
    resized: bool,
    notes: Vec<String>,
    intent_written: bool,
    /// The incident's phase before the intent was written.
    phase_before: IncidentPhase,
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
            SharedAct::AddReplica { resource_version, from, .. } => {
                let (from, to) = (u64::from(*from), u64::from(from.saturating_add(1)));
                (resource_version.clone(), Some(from), Some(to), VecDeque::new())
            }
            SharedAct::LowerReplicas { from, to, .. } => {
                (String::new(), Some(u64::from(*from)), Some(u64::from(*to)), VecDeque::new())
            }
            SharedAct::RestartKubeProxy { resource_version, .. } => {
                (resource_version.clone(), None, None, VecDeque::new())
            }
        };
        let target = match &plan.act {
            SharedAct::RestartKubeProxy { pod, uid, .. } => Some(Subject::pod(pod, uid)),
            _ => None,
        };
        let intent = Intent {
            kind: kind_of(&plan.act),
            subject: plan.subject.clone(),
            target,
            by: by.to_owned(),
            resource_version: version.clone(),
            from,
            to,
            at: now.wall,
        };
        let container = match &plan.act {
            SharedAct::RaiseMemory { container, .. } => Some(container.clone()),
            _ => None,
        };
        Self {
            incident: plan.incident.clone(),
            deadline: plan.deadline,
            container,
            resize,
            version,
            ..Self::blank(plan.incident.clone(), Job::Plan(plan), intent, mode, Some(workload))
        }
    }

    /// To verify an intent. The Deployment that it names is read, whichever serves DNS now; `container`: the one that
    /// answers DNS.
    pub(super) fn of_intent(incident: String, intent: Intent, mode: Mode, container: Option<String>, now: Now) -> Self {
        let subject = &intent.subject;
        let named = subject.namespace.clone().filter(|_| subject.kind == SubjectKind::Deployment);
        let workload = named.map(|space| (ObjectKey::new(space, subject.name.clone()), WorkloadKind::Deployment));
        let mut work = Self::blank(incident, Job::Intent, intent, mode, workload);
        work.container = container;
        work.intent_written = true;
        work.acted = true;
        work.deadline = now.mono;
        work
    }

    fn blank(
        incident: String,
        job: Job,
        intent: Intent,
        mode: Mode,
        workload: Option<(ObjectKey, WorkloadKind)>,
    ) -> Self {
        Self {
            incident,
            refusal: None,
            job,
            intent,
            mode,
            workload,
            container: None,
            deadline: Mono::default(),
            step: Step::ReadIncident,
            due: true,
            read: None,
            pod: None,
            version: String::new(),
            resize: VecDeque::new(),
            resized: false,
            notes: Vec::new(),
            intent_written: false,
            phase_before: IncidentPhase::Open,
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

    /// Whether the verdict that the act rests on stands in no report any more. Memory is raised on the API's own word, and
    /// an undo needs no verdict.
    pub(super) fn verdict_ended(&self, view: &ClusterView) -> bool {
        let Job::Plan(Plan { cause, subject, act, .. }) = &self.job else { return false };
        let mut verdicts = view.agents.iter().filter_map(|agent| agent.report.as_ref()).flat_map(|r| &r.verdicts);
        match act {
            SharedAct::EvictPod { .. } | SharedAct::RestartKubeProxy { .. } => {
                !verdicts.any(|verdict| verdict.cause == *cause && verdict.subject == *subject)
            }
            SharedAct::AddReplica { .. } => !verdicts.any(|verdict| verdict.cause == *cause),
            SharedAct::RaiseMemory { .. } | SharedAct::LowerReplicas { .. } => false,
        }
    }

    /// Takes an added replica away again: no try, and no budget is spent.
    pub(super) fn undoes(&self) -> bool {
        self.intent.kind == RemedyKind::AddReplica && self.intent.to < self.intent.from
    }

    /// The pod that the act is about, if it is about one.
    fn evicts(&self) -> bool {
        matches!(self.intent.kind, RemedyKind::EvictPod | RemedyKind::RestartKubeProxy)
    }

    fn target(&self) -> &Subject {
        self.intent.target.as_ref().unwrap_or(&self.intent.subject)
    }

    /// The records that were not told yet.
    pub(super) fn take_records(&mut self) -> Vec<RemedyRecord> {
        std::mem::take(&mut self.fresh)
    }

    /// Whether this request is the one that spends the budget.
    pub(super) fn begins_act(&self, call: &ApiCall) -> bool {
        match call {
            ApiCall::Scale { dry_run, .. } => !dry_run && !self.undoes(),
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
    /// `ended`: nobody claims any more what the plan is to remedy.
    pub(super) fn next(&mut self, guard: &Guard<'_>, result: Option<CallResult>, ended: bool) -> Next {
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
            && let Err(refusal) = guard.still(self.deadline).and_then(|()| self.configured(guard)).and(if ended {
                Err(Refusal::VerdictEnded)
            } else {
                Ok(())
            })
            && let Some(next) = self.give_up(refusal)
        {
            return next;
        }
        let call = self.request().or_else(|| {
            // An intent that names nothing that this release can read must not stand in the way for ever.
            self.unverifiable();
            self.request()
        });
        call.map_or(Next::End(PlanEnd::Failed, AFTER_FAILURE), |call| {
            self.due = false;
            if self.step == Step::Act {
                self.acted = true;
            }
            Next::Call(call)
        })
    }

    /// Whether the settings still let it act: they may have been read anew since the plan was made.
    fn configured(&self, guard: &Guard<'_>) -> Result<(), Refusal> {
        let Job::Plan(plan) = &self.job else { return Ok(()) };
        let kind = self.kind();
        if guard.settings.mode_of(kind) != Mode::Act {
            return Err(Refusal::NotActing(kind));
        }
        // What was added is taken away whatever the ladder says.
        let off = !self.undoes() && !guard.settings.ladder(plan.cause).contains(&kind);
        if off { Err(Refusal::NotOnLadder { cause: plan.cause.id(), kind }) } else { Ok(()) }
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
            Step::Reread if self.evicts() => ApiCall::ReadPod { pod: self.pod_key()? },
            Step::Reread => self.read_workload()?,
            Step::WriteRecord => {
                let read = self.read.as_ref()?;
                let mut status = read.status.clone();
                // Another's intent, and the phase that whoever settled ours has set, are not ours to clear.
                if status.intent.as_ref() == Some(&self.intent) {
                    status.intent = None;
                    let end = self.outcome.map(|(_, end, _)| end);
                    let done = end == Some(PlanEnd::Done);
                    // An undo changes nothing about whether a person was called.
                    let before = if self.undoes() { self.phase_before } else { IncidentPhase::Open };
                    status.phase = if done { IncidentPhase::Verifying } else { before };
                    self.note_replica(&mut status.added, end);
                }
                record::append(&mut status.ladder, &self.records);
                let resource_version = read.resource_version.clone();
                ApiCall::WriteIncident { name, resource_version, status: Box::new(status) }
            }
        })
    }

    fn pod_key(&self) -> Option<ObjectKey> {
        let subject = self.target();
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
            SharedAct::AddReplica { workload, .. } | SharedAct::LowerReplicas { workload, .. } => {
                Some(ApiCall::Scale {
                    workload: workload.clone(),
                    resource_version: self.version.clone(),
                    to: self.replicas()?.1,
                    dry_run,
                })
            }
            SharedAct::RestartKubeProxy { pod, uid, .. } => {
                let resource_version = self.version.clone();
                Some(ApiCall::Evict { pod: pod.clone(), uid: uid.clone(), resource_version, dry_run })
            }
        }
    }

    /// The numbers of replicas before and after the act.
    fn replicas(&self) -> Option<(u32, u32)> {
        Some((u32::try_from(self.intent.from?).ok()?, u32::try_from(self.intent.to?).ok()?))
    }

    /// What stands in the incident about a replica that was added.
    fn note_replica(&self, added: &mut Option<AddedReplica>, end: Option<PlanEnd>) {
        match (end, self.replicas(), self.workload.as_ref()) {
            (Some(PlanEnd::Done), Some((before, after)), Some((workload, _)))
                if self.intent.kind == RemedyKind::AddReplica =>
            {
                *added = Some(AddedReplica { workload: workload.clone(), before, after, at: self.intent.at });
            }
            (Some(PlanEnd::Undone), ..) => *added = None,
            _ => {}
        }
    }
}
