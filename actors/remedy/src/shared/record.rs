//! The lines of a ladder, in words.

use jiff::Timestamp;
use nameward_messages::plan::{IncidentStatus, Intent, Plan, SharedAct};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::verdict::Subject;

use crate::guard::kind_of;

/// The most lines of a ladder.
const LINES: usize = IncidentStatus::LADDER;

/// A line about a plan.
pub(super) fn of_plan(plan: &Plan, mode: Mode, outcome: RemedyOutcome, detail: String, at: Timestamp) -> RemedyRecord {
    let (kind, subject, detail) = (kind_of(&plan.act), plan.subject.clone(), clip(&detail));
    RemedyRecord { kind, subject, mode, outcome, detail, at }
}

/// A line about an intent.
pub(super) fn of_intent(intent: &Intent, mode: Mode, outcome: RemedyOutcome, detail: String) -> RemedyRecord {
    RemedyRecord {
        kind: intent.kind,
        subject: intent.subject.clone(),
        mode,
        outcome,
        detail: clip(&detail),
        at: intent.at,
    }
}

/// Details may hold what a server said.
fn clip(text: &str) -> String {
    nameward_messages::text::line(text, IncidentStatus::LINE)
}

/// What would be done, with the command that does the same by hand.
pub(super) fn would(plan: &Plan) -> String {
    match &plan.act {
        SharedAct::EvictPod { pod, .. } => format!(
            "would evict pod {pod} (by hand: kubectl -n {} delete pod {} --wait=false; that asks no disruption budget)",
            pod.namespace, pod.name
        ),
        SharedAct::RaiseMemory { workload, container, from, to, .. } => format!(
            "would raise the memory limit of container {container} of {workload} from {} to {} (by hand: kubectl -n {} set resources \
             deployment {} -c {container} --limits=memory={})",
            bytes(*from),
            bytes(*to),
            workload.namespace,
            workload.name,
            bytes(*to)
        ),
        SharedAct::AddReplica { workload, from, .. } => format!(
            "would add one replica to {workload} (by hand: kubectl -n {} scale deployment {} --replicas={})",
            workload.namespace,
            workload.name,
            from.saturating_add(1)
        ),
        SharedAct::LowerReplicas { workload, from, to } => format!(
            "would lower the replicas of {workload} from {from} to {to} again (by hand: kubectl -n {} scale deployment {} --replicas={to})",
            workload.namespace, workload.name
        ),
        SharedAct::RestartKubeProxy { node, pod, .. } => format!(
            "would restart kube-proxy on {node} by evicting its pod {pod} (by hand: kubectl -n {} delete pod {} --wait=false)",
            pod.namespace, pod.name
        ),
    }
}

/// What was done.
pub(super) fn did(intent: &Intent) -> String {
    match (intent.from, intent.to) {
        (Some(from), Some(to)) if intent.kind == RemedyKind::AddReplica && to < from => {
            format!("replicas of {} lowered from {from} to {to} again", Named(&intent.subject))
        }
        (Some(from), Some(to)) if intent.kind == RemedyKind::AddReplica => format!(
            "one replica added to {}: {to} instead of {from}, to be {from} again when CoreDNS is well",
            Named(&intent.subject)
        ),
        (Some(from), Some(to)) => {
            format!("memory limit raised from {} to {} ({} was in force before)", bytes(from), bytes(to), bytes(from))
        }
        _ if intent.kind == RemedyKind::EvictPod => format!("{} evicted", Named(&intent.subject)),
        _ => match &intent.target {
            Some(pod) => format!("kube-proxy restarted on {}: {} evicted", intent.subject, Named(pod)),
            None => format!("{} carried out on {}", intent.kind, Named(&intent.subject)),
        },
    }
}

struct Named<'a>(&'a Subject);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match &self.0.uid {
            Some(uid) => write!(f, " (uid {uid})"),
            None => Ok(()),
        }
    }
}

/// An amount of memory as Kubernetes writes it.
pub(super) fn bytes(amount: u64) -> nameward_config::Bytes {
    nameward_config::Bytes(amount)
}

/// Adds lines to a ladder. When it is full, the oldest line that records no act goes first.
pub(super) fn append(ladder: &mut Vec<RemedyRecord>, records: &[RemedyRecord]) {
    for record in records {
        if !ladder.contains(record) {
            ladder.push(record.clone());
        }
    }
    while ladder.len() > LINES {
        let idle = |r: &RemedyRecord| matches!(r.outcome, RemedyOutcome::Refused | RemedyOutcome::WouldAct);
        // What was tried goes last: the budgets are counted by it.
        let tried = |r: &RemedyRecord| {
            matches!(r.outcome, RemedyOutcome::Done | RemedyOutcome::Unknown | RemedyOutcome::Failed)
        };
        let oldest = ladder.iter().position(idle);
        let oldest = oldest.or_else(|| ladder.iter().position(|r| !tried(r))).unwrap_or(0);
        ladder.remove(oldest);
    }
}
