//! Which incident's shared remedy is taken up, and whom to ask about it.

use std::collections::BTreeSet;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::verdict::{Subject, SubjectKind};
use nameward_messages::{NodeName, Now, PodUid, RequestId};

use super::incident::{Incident, Shared};
use super::shared::{ANSWERS_STAND, Active, Asking, Stage};
use super::{CoordinatorMind, Output, memory};
use crate::judge::claims::ripe;
use crate::judge::quorum::{ASKED, listened_to};

/// Of the hosts of the other CoreDNS pods so many are asked at a time: they may be as many as are asked at all, and always the same.
const HOSTS: usize = 4;

impl CoordinatorMind {
    pub(super) fn begin(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        // An act of an earlier life that is not verified yet comes first, and alone.
        let unsettled = |i: &&Incident| {
            i.intent.is_some() || matches!(i.phase, IncidentPhase::Remediating | IncidentPhase::Verifying)
        };
        if let Some(incident) = self.book.values().find(unsettled) {
            let (name, verifying) = (incident.name.clone(), incident.phase == IncidentPhase::Verifying);
            let until = now.mono + self.config.remedy.verify_within.0;
            let stage = if verifying && incident.intent.is_none() {
                Stage::Verifying { until, next: now.mono }
            } else {
                Stage::Handed { since: now.mono, left: incident.intent.is_some() }
            };
            let act = incident.intent.as_ref().map(|i| i.kind).or_else(|| incident.last_act());
            let undo = incident.intent.as_ref().is_some_and(|i| i.kind == RemedyKind::AddReplica && i.to < i.from);
            self.active = Some(Active { act: act.map(|kind| (kind, undo)), ..Active::new(name, stage) });
            return;
        }
        if self.lower_again(now, view, out) {
            return;
        }
        let mut candidates: Vec<(u8, jiff::Timestamp, String)> = Vec::new();
        for incident in self.book.values().filter(|i| i.phase == IncidentPhase::Open) {
            let settings = &self.config.remedy;
            let Some(kind) = settings.shared_remedy(incident.spec.cause) else { continue };
            let wanted = settings.ladder(incident.spec.cause).iter().any(|k| settings.mode_of(*k) != Mode::Off);
            let due = match incident.shared {
                Shared::From(at) => now.mono >= at && wanted,
                Shared::Observed(kind) => settings.mode_of(kind) == Mode::Act,
                Shared::Over => false,
            };
            // What holds for many nodes is no one node's kube-proxy.
            let due = due && !(kind == RemedyKind::RestartKubeProxy && incident.spec.subject.kind != SubjectKind::Node);
            if due && incident.version.is_some() {
                let rank = u8::from(kind != RemedyKind::RaiseMemory);
                candidates.push((rank, incident.opened_at, incident.name.clone()));
            }
        }
        candidates.sort();
        for (_, _, name) in candidates {
            let Some(incident) = self.book.get(&name).cloned() else { continue };
            let begun = match self.config.remedy.shared_remedy(incident.spec.cause) {
                Some(RemedyKind::RaiseMemory) => self.raise_memory(now, view, &incident, out),
                Some(RemedyKind::RestartKubeProxy) => self.restart_proxy(now, view, &incident, out),
                _ => self.ask_about(now, view, &incident, out),
            };
            if begun {
                return;
            }
        }
    }

    /// Memory needs no witnesses: container status is the API's own truth. Those who will say whether it helped must speak, though.
    fn raise_memory(&mut self, now: Now, view: &ClusterView, incident: &Incident, out: &mut Vec<Output>) -> bool {
        let wait = self.config.remedy.wait.0;
        let since = view.workload.as_ref().and_then(|w| self.kills.since(now.mono, w));
        if since.is_some_and(|since| now.mono.since(since) < wait) {
            return false;
        }
        let kills = view.workload.as_ref().map_or_else(Vec::new, |w| self.kills.standing(now.mono, w));
        let calm = self.calm(now).and_then(|()| self.quorum(now, view));
        let planned = calm.and_then(|_| memory::raise(&self.config.remedy, view, &kills));
        match planned {
            Ok(act) => {
                self.hand_over(now, incident, act, now.mono + ANSWERS_STAND, out);
                true
            }
            Err(doubt) => {
                self.doubt(now, &incident.name, &doubt, true, view, out);
                false
            }
        }
    }

    /// Asks the nodes about a pod whose own node's verdict is ripe.
    fn ask_about(&mut self, now: Now, view: &ClusterView, incident: &Incident, out: &mut Vec<Output>) -> bool {
        let wait = self.config.remedy.wait.0;
        let own = self.own_node(view, &incident.spec.subject);
        let words = self.claims.get(&incident.key());
        let Some(own) = own.filter(|own| words.and_then(|w| w.get(own)).is_some_and(|w| ripe(w, now.mono, wait)))
        else {
            return false;
        };
        if let Err(doubt) = self.calm(now) {
            self.doubt(now, &incident.name, &doubt, false, view, out);
            return false;
        }
        let mut pods: Vec<_> = view.pods.iter().filter(|p| !p.terminating).collect();
        // The suspect is asked about in any case, however many pods there are; then those that may be good.
        pods.sort_by_key(|p| (Some(&p.uid) != incident.spec.subject.uid.as_ref(), !p.ready));
        let pods: Vec<PodUid> = pods.into_iter().map(|p| p.uid.clone()).collect();
        let asking = self.question(now, view, &incident.name, Some(&own), pods);
        self.active = Some(Active { asking: Some(asking), ..Active::new(incident.name.clone(), Stage::Asking) });
        true
    }

    /// A question to at most [`ASKED`] nodes: the pod's own, some of those of the other CoreDNS pods, and others, in turn.
    pub(super) fn question(
        &mut self,
        now: Now,
        view: &ClusterView,
        incident: &str,
        own: Option<&NodeName>,
        pods: Vec<PodUid>,
    ) -> Asking {
        let stale_after = self.config.coordinator.stale_after.0;
        let present: BTreeSet<&NodeName> =
            view.nodes.iter().filter(|n| !n.terminating && n.ready != Some(false)).map(|n| &n.name).collect();
        let able: Vec<&NodeName> = view
            .agents
            .iter()
            .filter(|a| present.contains(&a.name) && listened_to(now.mono, a, stale_after))
            .map(|a| &a.name)
            .collect();
        let hosting: BTreeSet<&NodeName> = view.pods.iter().filter_map(|p| p.node.as_ref()).collect();
        let hosts: Vec<&NodeName> = able.iter().copied().filter(|n| hosting.contains(n)).collect();
        let mut nodes: BTreeSet<NodeName> = own.into_iter().cloned().collect();
        let most = nodes.len() + HOSTS;
        for (from, most, each) in [(&hosts, most, HOSTS), (&able, ASKED, ASKED - HOSTS - 1)] {
            // Whoever was not asked last time is first this time.
            let turn = self.asked_before.wrapping_mul(each).checked_rem(from.len()).unwrap_or(0);
            for node in from.iter().cycle().skip(turn).take(from.len()) {
                if nodes.len() < most {
                    nodes.insert((*node).clone());
                }
            }
        }
        self.asked_before = self.asked_before.wrapping_add(1);
        self.requests = self.requests.wrapping_add(1);
        let request = RequestId(format!("{incident}-{}-{}", now.wall.as_millisecond(), self.requests));
        // Whatever is configured: time must be left to act on the answers while they stand.
        let until = now.mono + self.config.coordinator.answer_within.0.min(ANSWERS_STAND / 2);
        Asking { request, nodes, pods: pods.into_iter().take(8).collect(), service: true, at: now.mono, until }
    }

    /// The node that a CoreDNS pod runs on.
    pub(super) fn own_node(&self, view: &ClusterView, subject: &Subject) -> Option<NodeName> {
        let pod = view.pods.iter().find(|p| Some(&p.uid) == subject.uid.as_ref())?;
        pod.node.clone()
    }
}
