//! How many incidents there are, and of which kind.

use std::collections::BTreeMap;

use nameward_messages::plan::IncidentPhase;

use super::{MOST_INCIDENTS, MetricsMind, Output, number};
use crate::names::{Metric, PHASES, phase_label};

impl MetricsMind {
    pub(super) fn incident_phases(&self) -> [Output; 2] {
        let of = |phase| self.incidents.values().filter(|incident| incident.1.phase == phase).count();
        let series = PHASES.map(|phase| (vec![phase_label(phase).into()], number(of(phase)))).into();
        let mut unresolved: BTreeMap<_, usize> = BTreeMap::new();
        for (spec, status) in self.incidents.values().map(AsRef::as_ref) {
            if status.phase != IncidentPhase::Resolved {
                *unresolved.entry((spec.cause, status.phase)).or_default() += 1;
            }
        }
        let about = unresolved
            .into_iter()
            .map(|((cause, phase), n)| (vec![cause.id().into(), phase_label(phase).into()], number(n)))
            .collect();
        [
            Output::Replace { metric: Metric::Incidents, series },
            Output::Replace { metric: Metric::IncidentsUnresolved, series: about },
        ]
    }

    /// The ones that were opened first go first.
    pub(super) fn bound_incidents(&mut self) {
        while self.incidents.len() > MOST_INCIDENTS {
            let oldest = self.incidents.iter().min_by_key(|(_, incident)| incident.1.opened_at).map(|(name, _)| name);
            let Some(oldest) = oldest.cloned() else { return };
            self.incidents.remove(&oldest);
        }
    }
}
