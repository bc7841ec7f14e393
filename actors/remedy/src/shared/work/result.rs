//! What each result means: the next step, or the outcome.

use std::time::Duration;

use nameward_messages::plan::{IncidentPhase, PlanEnd};
use nameward_messages::remedy::{RemedyKind, RemedyOutcome, RemedyRecord};

use super::super::call::{CallError, CallResult, IncidentRead, Reply, WorkloadRead};
use super::super::record;
use super::{AFTER_FAILURE, Job, Next, Step, TRIES, Work};
use crate::guard::{Guard, Refusal, floor, lower_target, memory_target, pod_target, replica_target};

/// So many conflicts of one plan are answered by reading again.
const CONFLICTS: u32 = 8;

impl Work {
    /// Takes a result; `Some` when something else than the request of the (new) step follows.
    pub(super) fn take(&mut self, guard: &Guard<'_>, result: CallResult) -> Option<Next> {
        match self.step {
            Step::ReadIncident => match result {
                Ok(Reply::Incident(Some(read))) => self.incident_read(read),
                Ok(Reply::Incident(None)) | Err(CallError::NotFound) => self.give_up(Refusal::IncidentGone),
                // What may have been done is verified, however often the read fails: it is never taken back unseen.
                Ok(_) | Err(_) if matches!(self.job, Job::Intent) => self.again(),
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
                    let mine =
                        all.iter().any(|i| i.name == self.incident && i.status.intent.as_ref() == Some(&self.intent));
                    match all.iter().find(holds) {
                        Some(other) => self.give_up(Refusal::InFlight(other.name.clone())),
                        // An empty or partial list is no permission.
                        None if !mine => self.give_up(Refusal::Api("the written intent is not listed".to_owned())),
                        None if self.evicts() => self.go(Step::ReadPod),
                        None => self.go(Step::ReadWorkload),
                    }
                }
                Ok(_) => self.give_up(Refusal::Api("an answer of another kind".to_owned())),
                Err(error) => self.give_up(Refusal::Api(error.to_string())),
            },
            Step::ReadPod => match result {
                Ok(Reply::Pod(read)) => {
                    let uid = self.target().uid.as_ref().map_or("", |u| u.as_str());
                    match pod_target(uid, &self.intent.resource_version, read.as_ref()) {
                        // kube-proxy has one pod on a node: no floor of CoreDNS is concerned.
                        Ok(()) if self.intent.kind == RemedyKind::RestartKubeProxy => self.go(Step::DryRun),
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
                    if self.intent.kind == RemedyKind::AddReplica {
                        return self.judge_replicas(read);
                    }
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
                Err(error @ CallError::Refused(_)) => self.give_up(Refusal::ApiForGood(format!("dry run: {error}"))),
                Err(error) => self.give_up(Refusal::Api(format!("dry run: {error}"))),
            },
            Step::Resize => {
                if let Some((pod, _)) = self.resize.pop_front() {
                    self.resized |= matches!(result, Ok(_) | Err(CallError::Unknown(_)));
                    // Best effort: where the cluster cannot, the new template brings new pods.
                    let said =
                        result.map_or_else(|error| format!("not resized, {error}"), |_| "resized in place".into());
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

    /// The number of replicas as it was read again: to be changed, or not ours to change.
    fn judge_replicas(&mut self, read: Option<WorkloadRead>) -> Option<Next> {
        let Some((from, to)) = self.replicas() else { return self.give_up(Refusal::TargetGone) };
        if !self.undoes() {
            if let Err(refusal) = replica_target(from, read.as_ref()) {
                return self.give_up(refusal);
            }
        } else {
            let Some(found) = &read else {
                return self.settle(
                    RemedyOutcome::Undone,
                    "the workload is gone, and the replica with it",
                    PlanEnd::Undone,
                );
            };
            match lower_target(from, to, found) {
                Ok(true) => {}
                Ok(false) => {
                    let why = match &found.replicas_owner {
                        Some(owner) => format!("{owner} owns the number now"),
                        None if found.replicas == from => "somebody else has set the same number since".to_owned(),
                        None => {
                            let now = found.replicas;
                            format!("{now} are wanted now and {from} were written: somebody has set it since")
                        }
                    };
                    let detail = format!("the number of replicas is left as it is: {why}");
                    return self.settle(RemedyOutcome::Undone, &detail, PlanEnd::Undone);
                }
                Err(refusal) => return self.give_up(refusal),
            }
        }
        self.version = read.map(|found| found.resource_version).unwrap_or_default();
        self.go(Step::DryRun)
    }

    fn incident_read(&mut self, read: IncidentRead) -> Option<Next> {
        let (standing, phase) = (read.status.intent.clone(), read.status.phase);
        let to_undo = self.undoes() && read.status.added.is_some();
        self.phase_before = phase;
        self.read = Some(read);
        match (&self.job, standing) {
            (Job::Plan(_), None) if to_undo && matches!(phase, IncidentPhase::Open | IncidentPhase::Escalated) => {
                self.go(Step::WriteIntent)
            }
            (Job::Plan(_), None) if self.undoes() => {
                self.give_up(Refusal::InFlight(format!("{} has no replica to take away ({phase:?})", self.incident)))
            }
            (Job::Plan(_), None) if phase == IncidentPhase::Open => self.go(Step::WriteIntent),
            // Another leader acted, or called a person, since the view that the plan was made from.
            (Job::Plan(_), None) => {
                self.give_up(Refusal::InFlight(format!("{} is no longer open ({phase:?})", self.incident)))
            }
            (Job::Plan(_), Some(_)) => {
                let text =
                    format!("{}: an intent without an outcome stands there and is verified first", self.incident);
                self.give_up(Refusal::InFlight(text))
            }
            (Job::Intent, Some(intent)) if intent == self.intent => self.go(Step::Reread),
            // Settled by somebody else meanwhile.
            (Job::Intent, _) => Some(Next::End(PlanEnd::Refused, Duration::from_secs(2))),
        }
    }

    fn act_result(&mut self, result: CallResult) -> Option<Next> {
        match result {
            Ok(_) => self.carried_out(""),
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
            (Ok(Reply::Pod(pod)), RemedyKind::EvictPod | RemedyKind::RestartKubeProxy) => {
                Some(pod.is_none_or(|p| p.terminating || Some(&p.uid) != self.target().uid.as_ref()))
            }
            (Err(CallError::NotFound), RemedyKind::EvictPod | RemedyKind::RestartKubeProxy) => Some(true),
            (Ok(Reply::Workload(Some(workload))), RemedyKind::RaiseMemory) => Some(self.raised_in(&workload)),
            (Ok(Reply::Workload(Some(workload))), RemedyKind::AddReplica) => {
                // Whoever else wrote the same number meanwhile meant it: it is not ours to take back.
                self.replicas().map(|(_, to)| workload.replicas == to && workload.scaled_by_us)
            }
            (
                Ok(Reply::Workload(None)) | Err(CallError::NotFound),
                RemedyKind::RaiseMemory | RemedyKind::AddReplica,
            ) => {
                return self.settle(RemedyOutcome::Failed, "the workload is gone", PlanEnd::Failed);
            }
            _ => None,
        };
        match found {
            Some(true) => self.carried_out(", as the target shows"),
            Some(false) => {
                let detail = match self.intent.kind {
                    // The running pods come before the template.
                    RemedyKind::RaiseMemory => {
                        "not carried out, as the template shows; pods that run may have been resized in place"
                    }
                    _ => "not carried out, as the target shows",
                };
                self.settle(RemedyOutcome::Failed, detail, PlanEnd::Failed)
            }
            None => self.again(),
        }
    }

    fn carried_out(&mut self, as_read: &str) -> Option<Next> {
        let (outcome, end) =
            if self.undoes() { (RemedyOutcome::Undone, PlanEnd::Undone) } else { (RemedyOutcome::Done, PlanEnd::Done) };
        let detail = format!("{}{as_read}", record::did(&self.intent));
        self.settle(outcome, &detail, end)
    }

    /// Nothing tells whether such an intent was carried out: it is recorded as failed, which spends the budget.
    pub(super) fn unverifiable(&mut self) {
        if self.step == Step::Reread && self.outcome.is_none() {
            let detail = format!("this release cannot tell whether {} was carried out", self.intent.kind);
            self.settle(RemedyOutcome::Failed, &detail, PlanEnd::Failed);
        }
    }

    /// Whether the limit that the act was to set stands in the container whose limit it was.
    fn raised_in(&self, workload: &WorkloadRead) -> bool {
        let Some(to) = self.intent.to else { return false };
        let limits = &workload.memory_limits;
        let container = self.container.as_ref().and_then(|name| limits.get(name));
        match &self.container {
            Some(_) => container.is_some_and(|limit| *limit >= to),
            None => limits.values().any(|limit| *limit >= to),
        }
    }

    fn ready_to_record(&mut self, read: IncidentRead) -> Option<Next> {
        let mine = read.status.intent.as_ref() == Some(&self.intent);
        let known = self.records.iter().all(|r| read.status.ladder.contains(r));
        // Another leader found the intent, while this one stood still or could not write, and has recorded what came of it.
        let settled = read.status.ladder.iter().any(|r| self.settles(r));
        self.read = Some(read);
        // A withdrawn intent, or a record that arrived although the answer was lost.
        if !mine && (known || settled || self.outcome.is_some_and(|(o, ..)| o == RemedyOutcome::Refused)) {
            return self.end();
        }
        self.go(Step::WriteRecord)
    }

    /// Whether a record says what came of the intent: it bears its time.
    fn settles(&self, record: &RemedyRecord) -> bool {
        use RemedyOutcome::{Done, Failed, Undone};
        (record.kind, record.at) == (self.intent.kind, self.intent.at)
            && matches!(record.outcome, Done | Failed | Undone)
    }

    /// The outcome is known: tell it, then write it.
    fn settle(&mut self, outcome: RemedyOutcome, detail: &str, end: PlanEnd) -> Option<Next> {
        let detail = self.with_notes(detail.to_owned());
        self.tell(outcome, detail);
        self.outcome = Some((outcome, end, AFTER_FAILURE));
        self.tries = 0;
        self.go(Step::ReadToRecord)
    }

    /// The act is not made. An intent that was written is taken back.
    pub(super) fn give_up(&mut self, refusal: Refusal) -> Option<Next> {
        // Pods that were resized already are a change, and one try: whoever reads the ladder counts it.
        let resized = self.resized;
        let outcome = if resized { RemedyOutcome::Failed } else { RemedyOutcome::Refused };
        let end = if resized || refusal.lasting() { PlanEnd::Failed } else { PlanEnd::Refused };
        let retry_after = refusal.retry_after();
        if matches!(self.job, Job::Plan(_)) {
            let detail = self.with_notes(refusal.to_string());
            self.tell(outcome, detail);
        }
        self.refusal = Some(refusal);
        self.outcome = Some((outcome, end, retry_after));
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

    /// A workload's version changes with every change of its status, and while its pods die one after the other that is
    /// several times a second; a pod's changes only with its own. After a conflict the workload is read and judged again.
    fn reads_again(&mut self) -> bool {
        self.conflicts += 1;
        matches!(self.intent.kind, RemedyKind::RaiseMemory | RemedyKind::AddReplica) && self.conflicts <= CONFLICTS
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

    fn go(&mut self, step: Step) -> Option<Next> {
        self.step = step;
        self.due = true;
        None
    }
}
