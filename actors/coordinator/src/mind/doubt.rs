//! What is said when a remedy is held back, and when a person is called.

use std::time::Duration;

use nameward_messages::Now;
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};

use super::incident::{Incident, Shared};
use super::shared::ASK_AGAIN;
use super::{CoordinatorMind, Output, notes};
use crate::judge::advice;
use crate::judge::answers::Doubt;

/// So many final doubts in a row call a person.
const FINAL_DOUBTS: u32 = 2;

impl CoordinatorMind {
    /// The answers do not carry the act: told once per reason, asked again later, and a person if it is final.
    pub(super) fn doubt(
        &mut self,
        now: Now,
        name: &str,
        doubt: &Doubt,
        all: bool,
        view: &ClusterView,
        out: &mut Vec<Output>,
    ) {
        let settings = self.config.remedy.clone();
        let Some(incident) = self.book.get_mut(name) else { return };
        let kind = settings.shared_remedy(incident.spec.cause).unwrap_or(RemedyKind::CallPerson);
        let rest = match doubt {
            Doubt::Calm { left_s } | Doubt::BreakerOpen { left_s } => Duration::from_secs(left_s + 1),
            _ => ASK_AGAIN,
        };
        incident.shared = Shared::From(now.mono + rest);
        let again = format!("{:?}", doubt.kind());
        if incident.told.as_ref() != Some(&again) {
            incident.told = Some(again);
            let record = line(incident, kind, settings.mode_of(kind), RemedyOutcome::Refused, doubt.to_string(), now);
            incident.record(record.clone());
            out.push(notes::held_back(incident, &record));
            out.push(Output::Record { incident: name.to_owned(), record, reason: Some(doubt.reason()) });
        }
        incident.doubts = if all && doubt.final_word() { incident.doubts + 1 } else { 0 };
        if incident.doubts >= FINAL_DOUBTS {
            let because = doubt.to_string();
            self.escalate(now, name, &because, view, out);
        }
    }

    /// Calls a person; nothing more is done about this incident.
    pub(super) fn escalate(&mut self, now: Now, name: &str, because: &str, view: &ClusterView, out: &mut Vec<Output>) {
        let settings = &self.config.remedy;
        let Some(incident) = self.book.get_mut(name) else { return };
        let command = advice::command(incident.spec.cause, &incident.spec.subject, &incident.nodes, settings, view);
        let detail = format!("{because}. A person decides; by hand: {command}");
        let record = line(incident, RemedyKind::CallPerson, Mode::Observe, RemedyOutcome::Escalated, detail, now);
        incident.record(record.clone());
        incident.phase = IncidentPhase::Escalated;
        incident.called = true;
        incident.shared = Shared::Over;
        out.push(Output::Record { incident: name.to_owned(), record, reason: None });
        out.push(notes::needs_a_person(incident, because, &command));
    }
}

/// A line of an incident's ladder.
pub(super) fn line(
    incident: &Incident,
    kind: RemedyKind,
    mode: Mode,
    outcome: RemedyOutcome,
    detail: String,
    now: Now,
) -> RemedyRecord {
    RemedyRecord { kind, subject: incident.spec.subject.clone(), mode, outcome, detail, at: now.wall }
}
