//! Did the act help? The nodes are asked until they say so, or the time is up.

use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome};
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

impl CoordinatorMind {
    pub(super) fn verify(&mut self, now: Now, view: &ClusterView, until: Mono, next: Mono, out: &mut Vec<Output>) {
        let Some(active) = self.active.clone() else { return };
        let Some(incident) = self.book.get(&active.incident).cloned() else {
            self.active = None;
            return;
        };
        let mut good = None;
        if let Some(asking) = &active.asking {
            let heard = gather(view, &asking.request, &asking.nodes);
            good = Some(good_count(view, asking, &heard));
            let gone = !view.pods.iter().any(|p| Some(&p.uid) == incident.spec.subject.uid.as_ref());
            if gone && recovered(view, good.unwrap_or(0)) {
                self.verified(now, &active.incident, out);
                return;
            }
        }
        if now.mono >= until {
            let worse = good.is_some_and(|good| good < active.good_before);
            self.ineffective(now, &active.incident, worse, view, out);
            return;
        }
        let answered = active.asking.as_ref().is_none_or(|asking| {
            now.mono >= asking.until || gather(view, &asking.request, &asking.nodes).len() == asking.nodes.len()
        });
        if answered && now.mono >= next {
            let pods: Vec<PodUid> = view.pods.iter().filter(|p| !p.terminating).map(|p| p.uid.clone()).collect();
            let asking = self.question(now, view, &active.incident, None, pods);
            if let Some(active) = &mut self.active {
                active.asking = Some(asking);
                active.stage = Stage::Verifying { until, next: now.mono + ASK_EVERY };
            }
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
            "fewer CoreDNS pods are good than before: shared remedies rest for 10 minutes".to_owned()
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
