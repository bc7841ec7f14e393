//! What the pages show from now on.

use std::sync::Arc;

use nameward_messages::Now;

use super::{MetricsMind, Output, PUBLISH_EVERY};
use crate::state::Snapshot;

impl MetricsMind {
    /// Publishes what is known if anything changed, once a second at most.
    pub(super) fn publish(&mut self, now: Now, out: &mut Vec<Output>) {
        let due = self.published.is_none_or(|at| now.mono.since(at) >= PUBLISH_EVERY);
        if !self.dirty || !due {
            return;
        }
        self.dirty = false;
        self.published = Some(now.mono);
        out.push(Output::Publish(Arc::new(Snapshot {
            at: Some(now),
            namespaces: self.namespaces.values().cloned().collect(),
            targets: Arc::clone(&self.targets),
            matrix: self.paths.entries(),
            matrix_left_out: self.paths.left_out(),
            suspected: self.paths.suspects(),
            verdicts: self.verdicts.values().cloned().collect(),
            deferred: Arc::clone(&self.deferred),
            recovered: self.recovered.iter().cloned().collect(),
            remedies: self.remedies.iter().cloned().collect(),
            incidents: self.incidents.iter().map(|(name, about)| (name.clone(), Arc::clone(about))).collect(),
            orders: self.orders.clone(),
            report: self.report.clone(),
            round: self.round,
            leader: self.leader,
            api_reachable: self.api_reachable,
            config_hash: self.config_hash.clone(),
            config_error: self.config_error.clone(),
            losses: Arc::clone(&self.losses),
            unmodelled: Arc::clone(&self.unmodelled),
            ways: self.ways.clone(),
            kill_switch: self.kill_switch,
            breakers: self.breakers.iter().filter(|(_, open)| **open).map(|(breaker, _)| *breaker).collect(),
            view: self.view.clone(),
            stale_after: self.stale_after,
            mode: self.mode,
            history: Arc::new(self.hour.history(now)),
        })));
    }
}
