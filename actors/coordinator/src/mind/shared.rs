//! The one shared remedy that is under way: asking the nodes, the executor's turn, verification.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, IncidentView};
use nameward_messages::plan::{IncidentPhase, Plan, PlanEnd, SharedAct, SharedRemedyTells};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::report::RequestOrder;
use nameward_messages::{Mono, NodeName, Now, PodUid, RequestId};

use super::incident::{Incident, Shared};
use super::{CoordinatorMind, Output};
use crate::judge::answers::{Doubt, corroborate, gather};
use crate::judge::claims::ripe;
use crate::judge::quorum::Quorum;
use crate::judge::{advice, answers};

/// Answers are good for this long: an act must have begun by then.
pub(super) const ANSWERS_STAND: Duration = Duration::from_secs(30);
/// After answers that do not corroborate, the nodes are left in peace for this long.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The executor is given up on after this, unless its intent stands.
const HANDED_LONG: Duration = Duration::from_secs(120);
/// So many final doubts in a row call a person.
const FINAL_DOUBTS: u32 = 2;
/// An incident that stands for this long without an act calls a person.
const IDLE_LONG: Duration = Duration::from_secs(600);

/// The question under way.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) request: RequestId,
    pub(super) nodes: BTreeSet<NodeName>,
    pub(super) pods: Vec<PodUid>,
    pub(super) service: bool,
    pub(super) at: Mono,
    pub(super) until: Mono,
}

impl Asking {
    pub(super) fn order(&self) -> RequestOrder {
        let within = self.until.since(self.at).as_secs();
        RequestOrder {
            id: self.request.clone(),
            pods: self.pods.clone(),
            service: self.service,
            within_s: u32::try_from(within).unwrap_or(u32::MAX),
        }
    }
}

/// Where the shared remedy stands.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The nodes are asked whether the verdict holds.
    Asking,
    /// The executor has the plan.
    Handed { since: Mono },
    /// The act was carried out: the nodes are asked whether it helped.
    Verifying { until: Mono, next: Mono },
}

/// The shared remedy that is under way.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) incident: String,
    pub(super) stage: Stage,
    pub(super) asking: Option<Asking>,
    /// CoreDNS pods that were good before the act, if that was asked.
    pub(super) good_before: u32,
    /// CoreDNS pods that were good after it, by the last question that the majority answered.
    pub(super) good_after: Option<u32>,
}

impl Active {
    /// The incident is the executor's to write.
    pub(super) fn handed(&self) -> bool {
        matches!(self.stage, Stage::Handed { .. })
    }
}

impl CoordinatorMind {
    /// Carries the shared remedy that is under way one step further, or begins one.
    pub(super) fn drive(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        if self.active.as_ref().is_some_and(|a| !self.book.get(&a.incident).is_some_and(Incident::open)) {
            self.active = None;
        }
        match self.active.as_ref().map(|a| a.stage.clone()) {
            None => self.begin(now, view, out),
            Some(Stage::Asking) => self.hear(now, view, out),
            Some(Stage::Handed { since }) => self.wait_for_executor(now, view, since),
            Some(Stage::Verifying { until, next }) => self.verify(now, view, until, next, out),
        }
        self.call_about_idle(now, view, out);
    }

    /// An incident for which a remedy exists and none was carried out for long: a person is called, once, and it is still
    /// tried.
    fn call_about_idle(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let handed = self.active.as_ref().filter(|a| a.handed()).map(|a| a.incident.clone());
        let settings = &self.config.remedy;
        let idle = |i: &&mut Incident| {
            let meant = advice::shared_remedy(i.spec.cause).is_some_and(|kind| settings.mode_of(kind) != Mode::Off);
            meant
                && !i.called
                && i.phase == IncidentPhase::Open
                && matches!(i.shared, Shared::From(_))
                && i.gone_since.is_none()
                && handed.as_deref() != Some(i.name.as_str())
                && now.mono.since(i.idle_since) >= IDLE_LONG
        };
        for incident in self.book.values_mut().filter(idle) {
            incident.called = true;
            let command = advice::command(incident.spec.cause, &incident.spec.subject, &incident.nodes, view);
            let minutes = IDLE_LONG.as_secs() / 60;
            let detail = format!("nothing could be done for {minutes} minutes. A person is needed; by hand: {command}");
            let record =
                line(incident, RemedyKind::CallPerson, Mode::Observe, RemedyOutcome::Escalated, detail.clone(), now);
            incident.record(record.clone());
            let (subject, note) = (incident.spec.subject.clone(), format!("{}: {detail}", incident.summary));
            out.push(Output::Record { incident: incident.name.clone(), record });
            out.push(Output::Event { subject, warning: true, reason: "DnsNeedsAPerson", note });
        }
    }

    fn hear(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let Some(active) = self.active.clone() else { return };
        let (Some(asking), Some(incident)) = (active.asking, self.book.get(&active.incident).cloned()) else {
            self.active = None;
            return;
        };
        let heard = gather(view, &asking.request, &asking.nodes);
        let all = heard.len() == asking.nodes.len();
        if !all && now.mono < asking.until {
            return;
        }
        match self.corroborated(now, view, &incident, &asking, &heard) {
            Ok((act, good)) => {
                if let Some(active) = &mut self.active {
                    active.good_before = good;
                }
                self.hand_over(now, &incident, act, asking.at + ANSWERS_STAND, out);
            }
            Err(doubt) => {
                self.active = None;
                self.doubt(now, &incident.name, &doubt, all, view, out);
            }
        }
    }

    fn corroborated(
        &self,
        now: Now,
        view: &ClusterView,
        incident: &Incident,
        asking: &Asking,
        heard: &std::collections::BTreeMap<NodeName, nameward_messages::report::RequestAnswer>,
    ) -> Result<(SharedAct, u32), Doubt> {
        let uid = incident.spec.subject.uid.clone().ok_or(Doubt::PodNotListed)?;
        let pod = view.pods.iter().find(|p| p.uid == uid).ok_or(Doubt::PodNotListed)?;
        if pod.terminating {
            return Err(Doubt::PodTerminating);
        }
        let own = pod.node.clone().ok_or(Doubt::PodNotListed)?;
        let stale_after = self.config.coordinator.stale_after.0;
        let quorum = Quorum::count(now.mono, view, &self.freshness, stale_after);
        if !quorum.enough(self.config.coordinator.quorum_percent) {
            return Err(Doubt::QuorumMissing { fresh: quorum.fresh, expected: quorum.expected });
        }
        let word = self.claims.get(&incident.key()).and_then(|words| words.get(&own));
        if !word.is_some_and(|w| ripe(w, now.mono, self.config.remedy.wait.0)) {
            return Err(Doubt::OwnNodeSeesItGood(own));
        }
        // Nodes that are not ready are not expected to speak, but count as nodes that should agree.
        let agreed = corroborate(view, &uid, &own, &asking.nodes, heard, quorum.expected)?;
        self.calm(now)?;
        let act = SharedAct::EvictPod {
            pod: pod.key.clone(),
            uid: uid.clone(),
            resource_version: pod.resource_version.clone(),
        };
        Ok((act, agreed.good_pods))
    }

    /// Cool-down and breaker.
    pub(super) fn calm(&self, now: Now) -> Result<(), Doubt> {
        if let Some(until) = self.breaker_until.filter(|until| now.mono < *until) {
            return Err(Doubt::BreakerOpen { left_s: until.since(now.mono).as_secs() });
        }
        let cooled = self.calm_since.map_or(Duration::ZERO, |since| now.mono.since(since));
        let left = self.config.remedy.cool_down.0.saturating_sub(cooled);
        if left.is_zero() { Ok(()) } else { Err(Doubt::Calm { left_s: left.as_secs() }) }
    }

    pub(super) fn hand_over(
        &mut self,
        now: Now,
        incident: &Incident,
        act: SharedAct,
        deadline: Mono,
        out: &mut Vec<Output>,
    ) {
        let good_before = self.active.as_ref().map_or(0, |active| active.good_before);
        let stage = Stage::Handed { since: now.mono };
        self.active =
            Some(Active { incident: incident.name.clone(), stage, asking: None, good_before, good_after: None });
        if let Some(known) = self.book.get_mut(&incident.name) {
            known.doubts = 0;
            known.told = None;
        }
        out.push(Output::Plan(Plan {
            incident: incident.name.clone(),
            cause: incident.spec.cause,
            subject: incident.spec.subject.clone(),
            act,
            deadline,
        }));
    }

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
        let kind = advice::shared_remedy(incident.spec.cause).unwrap_or(RemedyKind::CallPerson);
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
            out.push(Output::Record { incident: name.to_owned(), record });
        }
        incident.doubts = if all && doubt.final_word() { incident.doubts + 1 } else { 0 };
        if incident.doubts >= FINAL_DOUBTS {
            let because = doubt.to_string();
            self.escalate(now, name, &because, view, out);
        }
    }

    /// Calls a person; nothing more is done about this incident.
    pub(super) fn escalate(&mut self, now: Now, name: &str, because: &str, view: &ClusterView, out: &mut Vec<Output>) {
        let Some(incident) = self.book.get_mut(name) else { return };
        let command = advice::command(incident.spec.cause, &incident.spec.subject, &incident.nodes, view);
        let detail = format!("{because}. A person decides; by hand: {command}");
        let record =
            line(incident, RemedyKind::CallPerson, Mode::Observe, RemedyOutcome::Escalated, detail.clone(), now);
        incident.record(record.clone());
        incident.phase = IncidentPhase::Escalated;
        incident.called = true;
        incident.shared = Shared::Over;
        let subject = incident.spec.subject.clone();
        let note = format!("{}: {detail}", incident.summary);
        out.push(Output::Record { incident: name.to_owned(), record });
        out.push(Output::Event { subject, warning: true, reason: "DnsNeedsAPerson", note });
    }

    /// What the executor says.
    pub(super) fn shared_tells(&mut self, now: Now, tells: SharedRemedyTells, out: &mut Vec<Output>) {
        match tells {
            SharedRemedyTells::Record { incident, record } => {
                let Some(known) = self.book.get_mut(&incident) else { return };
                let told = matches!(record.outcome, RemedyOutcome::Done | RemedyOutcome::WouldAct);
                if told {
                    out.push(Output::Event {
                        subject: record.subject.clone(),
                        warning: false,
                        reason: if record.outcome == RemedyOutcome::Done { "RemedyDone" } else { "RemedyWouldAct" },
                        note: format!("{}: {}", known.summary, record.detail),
                    });
                }
                known.record(record);
            }
            SharedRemedyTells::Ended { incident, end, retry_after } => {
                self.ended(now, &incident, end, retry_after, out)
            }
        }
    }

    fn ended(&mut self, now: Now, name: &str, end: PlanEnd, retry_after: Duration, out: &mut Vec<Output>) {
        let verify = Stage::Verifying { until: now.mono + self.config.remedy.verify_within.0, next: now.mono };
        let view = self.view.clone();
        let Some(incident) = self.book.get_mut(name) else { return };
        let mine = self.active.as_ref().is_some_and(|a| a.incident == name && a.handed());
        match end {
            PlanEnd::Done => {
                incident.phase = IncidentPhase::Verifying;
                incident.intent = None;
                let good_before = self.active.as_ref().filter(|_| mine).map_or(0, |a| a.good_before);
                incident.idle_since = now.mono;
                let incident = name.to_owned();
                self.active = Some(Active { incident, stage: verify, asking: None, good_before, good_after: None });
                return;
            }
            PlanEnd::WouldAct | PlanEnd::Off => incident.shared = Shared::Observed,
            PlanEnd::Refused | PlanEnd::Failed => {
                incident.phase = IncidentPhase::Open;
                incident.shared = Shared::From(now.mono + retry_after);
            }
        }
        if mine {
            self.active = None;
        }
        // Nothing that waiting could change: a person is called.
        if end == PlanEnd::Failed
            && retry_after >= Duration::from_secs(600)
            && let Some(view) = view
        {
            self.escalate(now, name, "the remedy cannot be carried out", &view, out);
        }
    }

    fn wait_for_executor(&mut self, now: Now, view: &ClusterView, since: Mono) {
        let Some(active) = &self.active else { return };
        let standing = self.book.get(&active.incident).is_some_and(|i| i.intent.is_some());
        if !standing && now.mono.since(since) >= HANDED_LONG {
            if let Some(incident) = self.book.get_mut(&active.incident) {
                incident.shared = Shared::From(now.mono + ASK_AGAIN);
                // The act was carried out and the word of it was lost: the record stands, and is verified.
                let done = |i: &IncidentView| i.name == incident.name && i.status.phase == IncidentPhase::Verifying;
                if view.incidents.iter().any(done) {
                    incident.phase = IncidentPhase::Verifying;
                } else if incident.phase == IncidentPhase::Remediating {
                    incident.phase = IncidentPhase::Open;
                }
            }
            self.active = None;
        }
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

/// How many ready pods are good for the majority of the asked nodes.
pub(super) fn good_count(
    view: &ClusterView,
    asking: &Asking,
    heard: &std::collections::BTreeMap<NodeName, nameward_messages::report::RequestAnswer>,
) -> u32 {
    u32::try_from(answers::good_pods(view, &asking.nodes, heard).len()).unwrap_or(u32::MAX)
}
