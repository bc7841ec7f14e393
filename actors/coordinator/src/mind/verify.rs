//! Did the act help? The nodes are asked until they say so, or the time is up.

use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::{Mono, Now, PodUid};

use super::incident::Shared;
use super::shared::{Stage, good_count, line};
use super::{CoordinatorMind, Output};
use crate::judge::advice;
use crate::judge::answers::gather;

/// Time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// After an act that made things worse, shared remedies rest.
const BREAKER: Duration = Duration::from_secs(600);
/// How the ladder says so: the breaker is found again by it.
const WORSE: &str = "fewer CoreDNS pods are good than before: shared remedies rest for 10 minutes";

impl CoordinatorMind {
    pub(super) fn verify(&mut self, now: Now, view: &ClusterView, until: Mono, next: Mono, out: &mut Vec<Output>) {
        let Some(active) = self.active.clone() else { return };
        let Some(incident) = self.book.get(&active.incident).cloned() else {
            self.active = None;
            return;
        };
        let (mut answered, mut good_after) = (true, active.good_after);
        if let Some(asking) = &active.asking {
            let heard = gather(view, &asking.request, &asking.nodes);
            let good = good_count(view, asking, &heard);
            answered = now.mono >= asking.until || heard.len() == asking.nodes.len();
            // Nodes that have not answered yet do not say that a pod is bad.
            if answered && heard.len() * 2 > asking.nodes.len() {
                good_after = Some(good);
            }
            let gone = !view.pods.iter().any(|p| Some(&p.uid) == incident.spec.subject.uid.as_ref());
            if gone && recovered(view, good) {
                self.verified(now, &active.incident, out);
                return;
            }
        }
        if let Some(active) = &mut self.active {
            active.good_after = good_after;
        }
        if now.mono >= until {
            let worse = good_after.is_some_and(|good| good < active.good_before);
            self.ineffective(now, &active.incident, worse, view, out);
            return;
        }
        if answered && now.mono >= next {
            // The newest first: the replacement is asked about however many pods there are.
            let mut pods: Vec<_> = view.pods.iter().filter(|p| !p.terminating).collect();
            pods.sort_by_key(|p| std::cmp::Reverse(p.created_at));
            let pods: Vec<PodUid> = pods.into_iter().map(|p| p.uid.clone()).collect();
            let asking = self.question(now, view, &active.incident, None, pods);
            if let Some(active) = &mut self.active {
                active.asking = Some(asking);
                active.stage = Stage::Verifying { until, next: now.mono + ASK_EVERY };
            }
        }
    }

    /// An act that made things worse under another leader or in an earlier life holds the breaker open here, too.
    pub(super) fn take_breaker(&mut self, now: Now, view: &ClusterView) {
        let worse = |r: &&RemedyRecord| r.outcome == RemedyOutcome::Ineffective && r.detail == WORSE;
        let last = view.incidents.iter().flat_map(|i| &i.status.ladder).filter(worse).map(|r| r.at).max();
        let Some(last) = last else { return };
        let age = Duration::try_from(now.wall.duration_since(last)).unwrap_or_default();
        let until = now.mono + BREAKER.saturating_sub(age);
        if age < BREAKER && self.breaker_until.is_none_or(|known| now.mono >= known) {
            self.breaker_until = Some(until);
        }
    }

    fn verified(&mut self, now: Now, name: &str, out: &mut Vec<Output>) {
        self.active = None;
        let Some(incident) = self.book.get_mut(name) else { return };
        self.quiet.insert(incident.key(), now.mono + self.config.remedy.verify_within.0);
        let kind = advice::shared_remedy(incident.spec.cause).unwrap_or(RemedyKind::CallPerson);
        let detail = "every CoreDNS pod answers the majority of the asked nodes over UDP and TCP".to_owned();
        let record = line(incident, kind, Mode::Act, RemedyOutcome::Verified, detail, now);
        incident.record(record.clone());
        incident.phase = IncidentPhase::Resolved;
        incident.closed_at = Some(now.wall);
        incident.shared = Shared::Over;
        let (subject, note) = (incident.spec.subject.clone(), format!("{}: recovered after {kind}", incident.summary));
        out.push(Output::Record { incident: name.to_owned(), record });
        out.push(Output::Event { subject, warning: false, reason: "DnsRecovered", note });
    }

    fn ineffective(&mut self, now: Now, name: &str, worse: bool, view: &ClusterView, out: &mut Vec<Output>) {
        self.active = None;
        if worse {
            self.breaker_until = Some(now.mono + BREAKER);
        }
        let within = self.config.remedy.verify_within.0.as_secs();
        let Some(incident) = self.book.get_mut(name) else { return };
        let kind = advice::shared_remedy(incident.spec.cause).unwrap_or(RemedyKind::CallPerson);
        let detail = if worse {
            WORSE.to_owned()
        } else {
            format!("CoreDNS does not answer as it should {within} s after the act")
        };
        let record = line(incident, kind, Mode::Act, RemedyOutcome::Ineffective, detail, now);
        incident.record(record.clone());
        incident.stubborn = true;
        out.push(Output::Record { incident: name.to_owned(), record });
        self.escalate(now, name, &format!("{kind} did not help"), view, out);
    }
}

/// As many ready pods as wanted, all of them good, and no rollout under way.
fn recovered(view: &ClusterView, good: u32) -> bool {
    let ready = view.pods.iter().filter(|p| p.ready && !p.terminating).count();
    let listed = view.pods.iter().filter(|p| !p.terminating).count();
    let wanted = view.workload.as_ref().map_or(1, |w| w.replicas.max(1)) as usize;
    let asked = listed.min(8);
    !view.rollout.in_progress && ready == listed && listed >= wanted && good as usize >= asked && asked > 0
}
