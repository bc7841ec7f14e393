//! When there is provably nothing to decide until something is told or a certain moment comes: then a tick costs nothing.
//!
//! Every time that a decision compares with the clock is either excluded here, because what it belongs to is not there, or
//! one of the moments of which the earliest is taken. A mind that never rests must do the same at the same moments: the
//! histories in virtual time are played both ways to prove it. **Whoever adds a time to a decision adds it here.**

use std::collections::BTreeSet;

use nameward_messages::cluster_view::{ClusterView, IncidentView, KillSwitch, NodeAgentView};
use nameward_messages::plan::IncidentPhase;
use nameward_messages::{Mono, NodeName, Now};

use super::book::{KEEP, MOST, OPEN_AFTER};
use super::incident::Incident;
use super::{CoordinatorMind, Input, WRITE_FAILED};
use crate::judge::claims::UNEXPLAINED_AFTER;
use crate::judge::quorum::listened_to;

impl CoordinatorMind {
    /// The same mind without rest: it goes through everything at every tick. What it does must not differ; that is tested.
    #[must_use]
    pub fn restless(mut self) -> Self {
        self.restless = true;
        self
    }

    /// Takes what leaves nothing to decide at this moment. `true`: that was all.
    pub(super) fn passed_over(&mut self, now: Now, input: &Input) -> bool {
        match input {
            // The shell tells the file and the Lease before anything else: what they leave as it is, is decided on with what
            // follows, once.
            Input::PausedHere(paused) => *paused == self.paused_here,
            Input::Lease(lease) if lease.leading == self.lease.leading => {
                self.lease = lease.clone();
                true
            }
            // What was written comes with the view; a large cluster's orders are written by the hundred.
            Input::Wrote { what, done } => {
                if !done {
                    self.hold.insert(what.clone(), now.mono + WRITE_FAILED);
                }
                true
            }
            // Before its time: for the sake of the Lease alone.
            Input::Tick => self.due.is_some_and(|due| now.mono < due),
            _ => false,
        }
    }

    /// Until when a decision that found nothing to do would find nothing to do again; `None`: something is on its way.
    pub(super) fn rest(&self, now: Now, view: &ClusterView) -> Option<Mono> {
        let busy = self.active.is_some()
            || !self.quiet.is_empty()
            || !self.hold.is_empty()
            || !self.storms.quiet()
            || !self.turns.idle();
        let unsure =
            matches!(self.switch, Some(KillSwitch::UnreadableSince(_))) || self.config.coordinator.node_condition;
        let waits = view.coredns.iter().any(|state| state.phase == "Pending") || !self.located.settled(now.mono);
        // Nothing is counted from a word or a deferred failure beyond these.
        let stood = OPEN_AFTER.max(UNEXPLAINED_AFTER).max(self.config.remedy.wait.0);
        if busy
            || unsure
            || waits
            || !self.claims.stand_for(now.mono, stood)
            || !self.book.values().all(|i| self.stands(i))
        {
            return None;
        }
        let stale_after = self.config.coordinator.stale_after.0;
        let heard: BTreeSet<&NodeName> = view
            .agents
            .iter()
            .filter(|agent| listened_to(now.mono, agent, stale_after))
            .map(|agent| &agent.name)
            .collect();
        let silent: BTreeSet<&NodeName> =
            view.nodes.iter().filter(|n| !n.terminating && !heard.contains(&n.name)).map(|n| &n.name).collect();
        // How long a node has been silent counts where others fail to reach it.
        if !silent.is_empty() && self.claims.any_deferred() {
            return None;
        }
        let failing = self.claims.deferred_to();
        let reads = [(&failing, self.nodes.next_read(&failing)), (&silent, self.nodes.next_read_of_silent(&silent))];
        if reads.iter().any(|(nodes, next)| !nodes.is_empty() && next.is_none()) {
            return None;
        }
        let old = |agent: &NodeAgentView| heard.contains(&agent.name).then(|| agent.changed_at + stale_after);
        let ends = [
            view.agents.iter().filter_map(old).min(),
            self.freshness.next_stale(now.mono, stale_after),
            self.permits.next_renewal(now.mono),
            self.turns.next_end(),
            self.aside.next_word(now.mono),
            self.kills.next_over(now.mono),
            self.breaker_until.filter(|until| *until > now.mono),
            next_deletion(now, view)?,
            // In any case it is looked again before long.
            Some(now.mono + LONGEST),
        ];
        ends.into_iter().chain(reads.map(|(_, next)| next)).flatten().min()
    }

    /// Time alone does not change this incident.
    fn stands(&self, incident: &Incident) -> bool {
        let settings = &self.config.remedy;
        let nothing_shared = settings.shared_remedy(incident.spec.cause).is_none();
        let left =
            incident.phase == IncidentPhase::Escalated || (incident.phase == IncidentPhase::Open && nothing_shared);
        left && incident.gone_since.is_none() && incident.intent.is_none() && incident.added.is_none()
    }
}

/// No rest is longer.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(60);

/// When the next closed incident is to be deleted, if one is; `None`: one is due.
fn next_deletion(now: Now, view: &ClusterView) -> Option<Option<Mono>> {
    if view.incidents.len() > MOST {
        return None;
    }
    let closed = |i: &&IncidentView| i.status.phase == IncidentPhase::Resolved && i.status.intent.is_none();
    let mut next: Option<Mono> = None;
    for at in view.incidents.iter().filter(closed).filter_map(|i| i.status.closed_at.or(i.created_at)) {
        let left =
            std::time::Duration::try_from(KEEP - now.wall.duration_since(at)).ok().filter(|left| !left.is_zero())?;
        next = Some(next.map_or(now.mono + left, |next| next.min(now.mono + left)));
    }
    Some(next)
}
