//! Liveness: at the end DNS is healthy, or a person was called.

use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::{RemedyOutcome, RemedyRecord};

use super::Invariant;
use crate::process::ProcessEvent;
use crate::sabotage::Sabotage;
use crate::world::World;

impl World {
    /// An Event for people.
    pub(crate) fn told_people(&mut self, reason: &str, _warning: bool) {
        if reason == "DnsNeedsAPerson" {
            self.stats.calls += 1;
            self.check.called = true;
        }
    }

    /// A line that the coordinator wrote itself.
    pub(crate) fn recorded(&mut self, p: usize, incident: &str, record: &RemedyRecord) {
        if record.outcome == RemedyOutcome::Verified {
            self.note_verified(incident);
        }
        if self.sabotage == Sabotage::NoBreaker && record.outcome == RemedyOutcome::Ineffective {
            // What it wrote of it is in its view by then.
            self.push_process(p, std::time::Duration::from_secs(2), ProcessEvent::Forget);
        }
    }

    /// An incident in the API server that is not resolved and calls for a person.
    #[must_use]
    pub fn person_called(&self) -> bool {
        self.api.incidents.values().any(|incident| {
            let status = &incident.status;
            status.phase != IncidentPhase::Resolved
                && (status.phase == IncidentPhase::Escalated
                    || status.ladder.iter().any(|record| record.outcome == RemedyOutcome::Escalated))
        })
    }

    /// No incident is open, or waits for anything.
    pub(crate) fn incidents_rest(&self) -> bool {
        self.api.incidents.values().all(|incident| {
            let status = &incident.status;
            let left = matches!(status.phase, IncidentPhase::Resolved | IncidentPhase::Escalated);
            left && status.intent.is_none() && status.added.is_none()
        })
    }

    pub(crate) fn check_end(&mut self) {
        if self.spec.must_settle {
            self.check_journals();
        }
        if self.spec.must_settle && !self.healthy() && !self.person_called() {
            let open: Vec<String> = self
                .api
                .incidents
                .iter()
                .map(|(name, incident)| format!("{name} {:?}", incident.status.phase))
                .collect();
            let pods: Vec<String> = self
                .api
                .pods
                .iter()
                .map(|pod| format!("{} ready {} sick {:?}", pod.uid, pod.ready, pod.sick))
                .collect();
            self.violate(Invariant::Liveness, format!("neither; incidents {open:?}, pods {pods:?}"));
        }
    }
}
