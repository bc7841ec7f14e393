//! Did the act help? The nodes are asked until they say so, or the time is up.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, DnsPodView};
use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::verdict::Subject;
use nameward_messages::{Mono, Now, PodUid};

use super::doubt::line;
use super::incident::{Incident, Shared};
use super::shared::{Stage, good_count};
use super::{CoordinatorMind, Output, notes};
use crate::judge::answers::gather;
use crate::judge::claims::replaced;

/// Time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// An answer older than this says nothing of the end of a verification.
const LATELY: Duration = Duration::from_secs(30);
/// Within this time after an intent its act is taken over by another leader.
const TAKEN_OVER: Duration = Duration::from_secs(120);
/// After an act that made things worse, shared remedies rest.
const BREAKER: Duration = nameward_config::ceilings::BREAKER;
/// How the ladder says so: the breaker is found again by it.
const WORSE: &str = "fewer CoreDNS pods are good than before: shared remedies rest for 10 minutes";
/// The same where it is not known how many were good before (the act of another leader, or of an earlier life) or are now.
const PERHAPS_WORSE: &str =
    "fewer CoreDNS pods are good than may have been before the act: shared remedies rest for 10 minutes";
/// Wall clocks of those who led one after another differ by this much at most.
const CLOCKS: Duration = Duration::from_secs(15 * 60);

impl CoordinatorMind {
    pub(super) fn verify(&mut self, now: Now, view: &ClusterView, until: Mono, next: Mono, out: &mut Vec<Output>) {
        let Some(active) = self.active.clone() else { return };
        let Some(incident) = self.book.get(&active.incident).cloned() else {
            self.active = None;
            return;
        };
        let kind = active.act.map(|(kind, _)| kind).or_else(|| incident.last_act());
        let kind = kind.or_else(|| self.config.remedy.shared_remedy(incident.spec.cause));
        let kind = kind.unwrap_or(RemedyKind::CallPerson);
        if kind == RemedyKind::RestartKubeProxy {
            if !self.claims.all().contains_key(&incident.key()) {
                self.verified(now, &active.incident, kind, out);
            } else if now.mono >= until {
                self.ineffective(now, &active.incident, (kind, None), view, out);
            }
            return;
        }
        let (mut answered, mut good_after) = (true, active.good_after);
        if let Some(asking) = &active.asking {
            let heard = gather(view, &asking.request, &asking.nodes);
            let good = good_count(view, asking, &heard);
            answered = now.mono >= asking.until || heard.len() == asking.nodes.len();
            // Nodes that have not answered yet do not say that a pod is bad.
            if answered && heard.len() * 2 > asking.nodes.len() {
                good_after = Some((good, now.mono));
            }
            let gone = !view.pods.iter().any(|p| Some(&p.uid) == incident.spec.subject.uid.as_ref());
            if kind == RemedyKind::AddReplica {
                // None was good before: any that is, is what the replica was added for.
                if answered && good > 0 {
                    self.one_is_good(now, &active.incident, good, out);
                    return;
                }
            } else if gone && recovered(view, good, &self.sick_before(&incident)) {
                self.verified(now, &active.incident, kind, out);
                return;
            }
        }
        if let Some(active) = &mut self.active {
            active.good_after = good_after;
        }
        if now.mono >= until {
            let before = active.good_before.unwrap_or_else(|| self.good_at_most(view, &incident, kind));
            // Where the majority said nothing lately, nobody knows that it did no harm: right after the act it may not show yet.
            let good_after = good_after.filter(|(_, at)| now.mono.since(*at) <= LATELY).map(|(good, _)| good);
            let worse = good_after.unwrap_or(0) < before;
            let known = active.good_before.is_some() && good_after.is_some();
            let worse = worse.then_some(if known { WORSE } else { PERHAPS_WORSE });
            self.ineffective(now, &active.incident, (kind, worse), view, out);
            return;
        }
        if answered && now.mono >= next {
            // Only a ready one can be good, and the newest first: the replacement is asked about however many pods there are.
            let mut pods: Vec<_> = view.pods.iter().filter(|p| !p.terminating).collect();
            pods.sort_by_key(|p| (!p.ready, std::cmp::Reverse(p.created_at)));
            let pods: Vec<PodUid> = pods.into_iter().map(|p| p.uid.clone()).collect();
            let asking = self.question(now, view, &active.incident, None, pods);
            if let Some(active) = &mut self.active {
                active.asking = Some(asking);
                active.stage = Stage::Verifying { until, next: now.mono + ASK_EVERY };
            }
        }
    }

    /// An act that made things worse under another leader or in an earlier life holds the breaker open here, too. It counts
    /// from when it is first seen: whoever wrote it had another clock, and a rest too long is safe.
    pub(super) fn take_breaker(&mut self, now: Now, view: &ClusterView) {
        let worse = |r: &&RemedyRecord| {
            r.outcome == RemedyOutcome::Ineffective && (r.detail == WORSE || r.detail == PERHAPS_WORSE)
        };
        let told: BTreeSet<_> =
            view.incidents.iter().flat_map(|i| &i.status.ladder).filter(worse).map(|r| r.at).collect();
        // Of a time that is yet to come, the age is nought.
        let age = |at| Duration::try_from(now.wall.duration_since(at)).unwrap_or_default();
        if told.difference(&self.worse_seen).any(|at| age(*at) < BREAKER + CLOCKS) {
            self.breaker_until = Some(now.mono + BREAKER);
        }
        self.worse_seen = told;
    }

    /// How many CoreDNS pods can have been good before an act of which nobody here knows: all that are wanted, but the one
    /// that was evicted and those that are known to have been sick then.
    fn good_at_most(&self, view: &ClusterView, incident: &Incident, kind: RemedyKind) -> u32 {
        let wanted = view.workload.as_ref().map_or(1, |w| w.replicas.max(1));
        let sick = self.sick_before(incident);
        let listed = |p: &&DnsPodView| Some(&p.uid) != incident.spec.subject.uid.as_ref();
        let sick = view.pods.iter().filter(listed).filter(|p| sick.contains(&Subject::pod(&p.key, &p.uid))).count();
        let known = wanted.saturating_sub(u32::try_from(sick).unwrap_or(u32::MAX));
        match kind {
            RemedyKind::EvictPod => known.saturating_sub(1),
            RemedyKind::RaiseMemory => known,
            // A replica is added when none is good.
            _ => 0,
        }
    }

    /// CoreDNS pods that were known to be sick before the act: they are incidents of their own, and it was not to help them.
    /// One that fell ill since may be what the act brought. An act that was taken over was recorded when it was found, and made before.
    fn sick_before(&self, incident: &Incident) -> BTreeSet<Subject> {
        let Some(recorded_at) = incident.last_act_at() else { return BTreeSet::new() };
        let ours = self.active.as_ref().is_some_and(|active| active.good_before.is_some());
        let acted_at = if ours { Some(recorded_at) } else { recorded_at.checked_sub(TAKEN_OVER).ok() };
        let Some(acted_at) = acted_at else { return BTreeSet::new() };
        let other =
            |i: &&Incident| i.open() && replaced(i.spec.cause) && i.name != incident.name && i.opened_at < acted_at;
        self.book.values().filter(other).map(|i| i.spec.subject.clone()).collect()
    }

    /// The added replica is good: the sick pod may go now. The incident is open again, one rung further.
    fn one_is_good(&mut self, now: Now, name: &str, good: u32, out: &mut Vec<Output>) {
        self.active = None;
        let Some(incident) = self.book.get_mut(name) else { return };
        let detail = format!(
            "{good} CoreDNS pod answers the majority of the asked nodes over UDP and TCP: a sick one may be evicted"
        );
        let record = line(incident, RemedyKind::AddReplica, Mode::Act, RemedyOutcome::Verified, detail, now);
        incident.record(record.clone());
        incident.phase = IncidentPhase::Open;
        incident.shared = Shared::From(now.mono);
        incident.idle_since = now.mono;
        out.push(notes::replica_good(incident, &record.detail));
        out.push(Output::Record { incident: name.to_owned(), record, reason: None });
    }

    fn verified(&mut self, now: Now, name: &str, kind: RemedyKind, out: &mut Vec<Output>) {
        self.active = None;
        let Some(incident) = self.book.get_mut(name) else { return };
        self.quiet.insert(incident.key(), now.mono + self.config.remedy.verify_within.0);
        let detail = match kind {
            RemedyKind::RestartKubeProxy => "the node's agent finds the rules of the DNS Service complete".to_owned(),
            _ => "every CoreDNS pod answers the majority of the asked nodes over UDP and TCP".to_owned(),
        };
        let record = line(incident, kind, Mode::Act, RemedyOutcome::Verified, detail, now);
        incident.record(record.clone());
        incident.shared = Shared::Over;
        if incident.added.is_some() {
            // It stays until the replica that was added for it is taken away again.
            incident.phase = IncidentPhase::Open;
        } else {
            incident.phase = IncidentPhase::Resolved;
            incident.closed_at = Some(now.wall);
        }
        out.push(notes::recovered(incident, &format!("DNS recovered after {kind}: {}", record.detail)));
        out.push(Output::Record { incident: name.to_owned(), record, reason: None });
    }

    fn ineffective(
        &mut self,
        now: Now,
        name: &str,
        (kind, worse): (RemedyKind, Option<&str>),
        view: &ClusterView,
        out: &mut Vec<Output>,
    ) {
        self.active = None;
        if worse.is_some() {
            self.breaker_until = Some(now.mono + BREAKER);
        }
        let within = self.config.remedy.verify_within.0.as_secs();
        let Some(incident) = self.book.get_mut(name) else { return };
        let detail = if let Some(worse) = worse {
            worse.to_owned()
        } else if kind == RemedyKind::AddReplica {
            format!(
                "no CoreDNS pod answers the majority of the nodes {within} s after one was added: it is taken away again"
            )
        } else {
            format!("CoreDNS does not answer as it should {within} s after the act")
        };
        let record = line(incident, kind, Mode::Act, RemedyOutcome::Ineffective, detail, now);
        incident.record(record.clone());
        incident.stubborn = true;
        out.push(Output::Record { incident: name.to_owned(), record, reason: None });
        self.escalate(now, name, &format!("{kind} did not help"), view, out);
    }
}

/// As many pods as wanted, all of them ready and good but those that are known to be sick themselves, and no rollout.
fn recovered(view: &ClusterView, good: u32, sick: &BTreeSet<Subject>) -> bool {
    let is_sick = |p: &DnsPodView| sick.contains(&Subject::pod(&p.key, &p.uid));
    let ready = view.pods.iter().filter(|p| !p.terminating && (p.ready || is_sick(p))).count();
    let listed = view.pods.iter().filter(|p| !p.terminating).count();
    let sick = view.pods.iter().filter(|p| !p.terminating && is_sick(p)).count();
    let wanted = view.workload.as_ref().map_or(1, |w| w.replicas.max(1)) as usize;
    let asked = listed.min(8);
    !view.rollout.in_progress && ready == listed && listed >= wanted && good as usize + sick >= asked && good > 0
}
