//! What must stand in an incident: that a remedy was refused and why, that a person was called, in which phase it is.

use nameward_config::Period;
use nameward_messages::plan::{IncidentPhase, IncidentSpec, IncidentStatus};
use nameward_messages::remedy::{RemedyKind, RemedyOutcome};
use nameward_messages::verdict::Cause;
use serde::{Deserialize, Serialize};

use super::Plane;

/// An incident that must stand in the end, before the faults are lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectIncident {
    /// Its cause.
    pub cause: Cause,
    /// Its subject, named as in a verdict; any, if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its phase; any, if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<IncidentPhase>,
    /// A remedy must have been refused, by a line of its ladder with these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Whether a person must have been called, or must not; either, if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<bool>,
    /// All of it within this time of the first fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Period>,
    /// Only in these data planes; in all of the scenario's if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planes: Vec<Plane>,
}

impl ExpectIncident {
    /// What an incident lacks of this; `None`: it is another one. `subject` is its subject in the scenario's names.
    pub(crate) fn missing(&self, subject: &str, spec: &IncidentSpec, status: &IncidentStatus) -> Option<Vec<String>> {
        if spec.cause != self.cause || self.subject.as_ref().is_some_and(|wanted| wanted != subject) {
            return None;
        }
        let mut missing = Vec::new();
        if let Some(phase) = self.phase.filter(|phase| *phase != status.phase) {
            missing.push(format!("is {:?}, expected {phase:?}", status.phase));
        }
        // An act that was given up for good is told as failed, with the reason.
        let refused = |outcome| matches!(outcome, RemedyOutcome::Refused | RemedyOutcome::Failed);
        if let Some(text) = &self.refused
            && !status.ladder.iter().any(|r| refused(r.outcome) && r.detail.contains(text.as_str()))
        {
            missing.push(format!("has no refusal that says `{text}`"));
        }
        let call = |(kind, outcome)| kind == RemedyKind::CallPerson && outcome == RemedyOutcome::Escalated;
        let called = status.ladder.iter().any(|r| call((r.kind, r.outcome)));
        if let Some(wanted) = self.called.filter(|wanted| *wanted != called) {
            missing.push(if wanted { "calls nobody".to_owned() } else { "calls a person".to_owned() });
        }
        Some(missing)
    }
}

impl std::fmt::Display for ExpectIncident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cause)?;
        self.subject.as_ref().map_or(Ok(()), |subject| write!(f, " on {subject}"))
    }
}

#[cfg(test)]
mod tests {
    use nameward_messages::remedy::{Mode, RemedyRecord};
    use nameward_messages::verdict::{Scope, Subject, SubjectKind};

    use super::*;

    #[test]
    fn what_an_incident_lacks_is_named() {
        let subject = Subject { kind: SubjectKind::Upstream, namespace: None, name: "x".into(), uid: None };
        let record = |kind, outcome, detail: &str| RemedyRecord {
            kind,
            subject: subject.clone(),
            mode: Mode::Act,
            outcome,
            detail: detail.to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let spec = IncidentSpec { cause: Cause::CorednsUdpDead, scope: Scope::CorednsPod, subject: subject.clone() };
        let refused = record(RemedyKind::EvictPod, RemedyOutcome::Refused, "the budget never allows it");
        let called = record(RemedyKind::CallPerson, RemedyOutcome::Escalated, "a person is needed");
        let status = |phase, ladder: &[&RemedyRecord]| IncidentStatus {
            phase,
            ladder: ladder.iter().map(|r| (*r).clone()).collect(),
            ..IncidentStatus::default()
        };
        let wanted: ExpectIncident = toml::from_str(
            "cause='coredns-udp-dead'\nsubject='coredns@node1'\nphase='Escalated'\nrefused='never allows'\ncalled=true",
        )
        .unwrap();
        use IncidentPhase::{Escalated, Open};
        for (status, lacks) in [
            (status(Escalated, &[&refused, &called]), 0),
            (status(Open, &[&refused, &called]), 1),
            (status(Escalated, &[&called]), 1),
            (status(Escalated, &[&refused]), 1),
            (status(Open, &[]), 3),
        ] {
            let missing = wanted.missing("coredns@node1", &spec, &status).unwrap();
            assert_eq!(missing.len(), lacks, "{missing:?}");
        }
        assert_eq!(wanted.missing("coredns@node2", &spec, &status(Open, &[])), None);
        let silent = ExpectIncident { called: Some(false), phase: None, refused: None, ..wanted };
        let lacks = |ladder: &[&RemedyRecord]| silent.missing("coredns@node1", &spec, &status(Open, ladder)).unwrap();
        assert_eq!((lacks(&[&refused]).len(), lacks(&[&called]).len()), (0, 1));
    }
}
