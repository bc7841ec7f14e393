//! One incident as the coordinator keeps it, and what of it is written.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nameward_messages::cluster_view::IncidentView;
use nameward_messages::plan::{AddedReplica, IncidentPhase, IncidentSpec, IncidentStatus, Intent};
use nameward_messages::remedy::{RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::verdict::{Evidence, RuledOut, VerdictKey};
use nameward_messages::{Mono, NodeName};

const EVIDENCE: usize = IncidentStatus::EVIDENCE;
const RULED_OUT: usize = IncidentStatus::RULED_OUT;
const LADDER: usize = IncidentStatus::LADDER;
const NODES: usize = IncidentStatus::NODES;

/// What is to be done about an incident's shared remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    /// May be corroborated and planned from this moment on.
    From(Mono),
    /// It was said what would be done (mode `observe` or `off`): taken up again when that remedy's mode becomes `act`.
    Observed(RemedyKind),
    /// Nothing more will be planned for it.
    Over,
}

/// An incident.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    pub(super) name: String,
    pub(super) spec: IncidentSpec,
    pub(super) phase: IncidentPhase,
    pub(super) summary: String,
    pub(super) evidence: Vec<Evidence>,
    pub(super) ruled_out: Vec<RuledOut>,
    pub(super) nodes: Vec<NodeName>,
    pub(super) ladder: Vec<RemedyRecord>,
    pub(super) opened_at: Timestamp,
    pub(super) closed_at: Option<Timestamp>,
    /// The executor's: only ever read here.
    pub(super) intent: Option<Intent>,
    /// A replica that stands because of it: written by the executor, only read here.
    pub(super) added: Option<AddedReplica>,
    /// It is not tried to take that away before this moment.
    pub(super) undo_from: Mono,
    /// As in the view: `None` until it is created there.
    pub(super) version: Option<String>,
    pub(super) shared: Shared,
    /// Nobody claims it any more since then.
    pub(super) gone_since: Option<Mono>,
    /// Final doubts in a row.
    pub(super) doubts: u32,
    /// The last refusal that was told, without its figures.
    pub(super) told: Option<String>,
    /// An act was carried out and did not help: it ends only when CoreDNS is well everywhere.
    pub(super) stubborn: bool,
    /// Event of its opening was told.
    pub(super) announced: bool,
    /// Since when it has stood without an act, as far as this process knows.
    pub(super) idle_since: Mono,
    /// A person was called about it.
    pub(super) called: bool,
}

impl Incident {
    pub(super) fn new(name: String, spec: IncidentSpec, summary: String, opened_at: Timestamp, at: Mono) -> Self {
        Self {
            name,
            spec,
            phase: IncidentPhase::Open,
            summary,
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            nodes: Vec::new(),
            ladder: Vec::new(),
            opened_at,
            closed_at: None,
            intent: None,
            added: None,
            undo_from: at,
            version: None,
            shared: Shared::From(at),
            gone_since: None,
            doubts: 0,
            told: None,
            stubborn: false,
            announced: false,
            idle_since: at,
            called: false,
        }
    }

    /// Takes up an incident of an earlier life or of another leader.
    pub(super) fn adopt(view: &IncidentView, now: nameward_messages::Now) -> Self {
        let opened = view.status.opened_at.or(view.created_at).unwrap_or(now.wall);
        let status = &view.status;
        let tried = |o: RemedyOutcome| status.ladder.iter().any(|r| r.outcome == o && r.kind.shared());
        let would = |r: &&RemedyRecord| r.outcome == RemedyOutcome::WouldAct && r.kind.shared();
        let shared = if status.phase == IncidentPhase::Escalated {
            Shared::Over
        } else if let Some(would) = status.ladder.iter().rev().find(would) {
            Shared::Observed(would.kind)
        } else {
            Shared::From(now.mono)
        };
        Self {
            phase: status.phase,
            evidence: status.evidence.clone(),
            ruled_out: status.ruled_out.clone(),
            nodes: status.nodes.clone(),
            ladder: status.ladder.clone(),
            closed_at: status.closed_at,
            intent: status.intent.clone(),
            added: status.added.clone(),
            version: Some(view.resource_version.clone()),
            shared,
            stubborn: tried(RemedyOutcome::Ineffective),
            // An object that was made and got no status was told by nobody who could stay: it is told again.
            announced: status.opened_at.is_some(),
            called: status.ladder.iter().any(|r| r.outcome == RemedyOutcome::Escalated),
            ..Self::new(view.name.clone(), view.spec.clone(), status.summary.clone(), opened, now.mono)
        }
    }

    pub(super) fn key(&self) -> VerdictKey {
        VerdictKey { cause: self.spec.cause, subject: self.spec.subject.clone() }
    }

    /// When the intent of the last act was written.
    pub(super) fn last_act_at(&self) -> Option<Timestamp> {
        let done = |r: &&RemedyRecord| r.kind.shared() && r.outcome == RemedyOutcome::Done;
        self.ladder.iter().rev().find(done).map(|r| r.at)
    }

    /// The shared remedy that was carried out last.
    pub(super) fn last_act(&self) -> Option<RemedyKind> {
        let done = |r: &&RemedyRecord| r.kind.shared() && r.outcome == RemedyOutcome::Done;
        self.ladder.iter().rev().find(done).map(|r| r.kind)
    }

    /// The last act was verified, or did not help: what the API server holds of it is merely older.
    pub(super) fn judged(&self) -> bool {
        let last = self.ladder.iter().rev().find(|r| r.kind.shared() && r.outcome != RemedyOutcome::Refused);
        last.is_some_and(|r| matches!(r.outcome, RemedyOutcome::Verified | RemedyOutcome::Ineffective))
    }

    /// Not resolved.
    pub(super) fn open(&self) -> bool {
        self.phase != IncidentPhase::Resolved
    }

    /// Takes over what the API server holds: lines that others wrote, and the executor's intent.
    pub(super) fn learn(&mut self, view: &IncidentView) {
        self.version = Some(view.resource_version.clone());
        self.intent.clone_from(&view.status.intent);
        self.added.clone_from(&view.status.added);
        for record in &view.status.ladder {
            self.record(record.clone());
        }
    }

    /// One more line of the ladder, each once, in the order of time.
    pub(super) fn record(&mut self, record: RemedyRecord) {
        let record = RemedyRecord { detail: clip(&record.detail), ..record };
        if self.ladder.contains(&record) {
            return;
        }
        let place = self.ladder.partition_point(|known| known.at <= record.at);
        self.ladder.insert(place, record);
        while self.ladder.len() > LADDER {
            // What was tried goes last: the budgets are counted by it.
            let idle = |r: &RemedyRecord| matches!(r.outcome, RemedyOutcome::Refused | RemedyOutcome::WouldAct);
            let tried = |r: &RemedyRecord| {
                matches!(r.outcome, RemedyOutcome::Done | RemedyOutcome::Unknown | RemedyOutcome::Failed)
            };
            let oldest = self.ladder.iter().position(idle);
            let oldest = oldest.or_else(|| self.ladder.iter().position(|r| !tried(r))).unwrap_or(0);
            self.ladder.remove(oldest);
        }
    }

    /// What was read, by whom. Text that merely differs in its figures does not rewrite what stands.
    pub(super) fn testify(&mut self, nodes: BTreeSet<NodeName>, evidence: Vec<Evidence>, ruled_out: Vec<RuledOut>) {
        self.nodes = nodes.into_iter().take(NODES).collect();
        if self.evidence.is_empty() || self.evidence.len() < evidence.len().min(EVIDENCE) {
            let line = |e: Evidence| Evidence { read: clip(&e.read), says: clip(&e.says) };
            self.evidence = evidence.into_iter().take(EVIDENCE).map(line).collect();
        }
        if self.ruled_out.is_empty() {
            let line = |r: RuledOut| RuledOut { what: clip(&r.what), because: clip(&r.because) };
            self.ruled_out = ruled_out.into_iter().take(RULED_OUT).map(line).collect();
        }
    }

    /// What is to stand in the API server.
    pub(super) fn status(&self) -> IncidentStatus {
        IncidentStatus {
            phase: self.phase,
            summary: clip(&self.summary),
            evidence: self.evidence.clone(),
            ruled_out: self.ruled_out.clone(),
            nodes: self.nodes.clone(),
            ladder: self.ladder.clone(),
            intent: self.intent.clone(),
            added: self.added.clone(),
            opened_at: Some(self.opened_at),
            closed_at: self.closed_at,
        }
    }
}

fn clip(text: &str) -> String {
    nameward_messages::text::line(text, IncidentStatus::LINE)
}
