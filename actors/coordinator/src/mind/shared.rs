//! The one shared remedy that is under way: asking the nodes, the executor's turn, verification.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, DnsPodView, IncidentView};
use nameward_messages::plan::{IncidentPhase, Plan, PlanEnd, SharedAct, SharedRemedyTells};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome};
use nameward_messages::report::RequestOrder;
use nameward_messages::verdict::{Subject, SubjectKind};
use nameward_messages::{Mono, NodeName, Now, PodUid, RequestId};

use super::doubt::line;
use super::incident::{Incident, Shared};
use super::{CoordinatorMind, Output, notes};
use crate::judge::answers::{Doubt, corroborate, gather};
use crate::judge::claims::ripe;
use crate::judge::quorum::Quorum;
use crate::judge::{advice, answers};

/// Answers are good for this long: an act must have begun by then.
pub(super) const ANSWERS_STAND: Duration = Duration::from_secs(30);
/// After answers that do not corroborate, the nodes are left in peace for this long.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The executor is given up on after this, unless its intent stands.
const HANDED_LONG: Duration = Duration::from_secs(120);
/// Once an intent that was found is gone, its end is told by then, or was told before: an old view shows it for longer than it stands.
const SETTLED_LONG: Duration = Duration::from_secs(10);
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
    /// The executor has the plan; or an intent was found that it has to settle (`left`), which stood last at that moment.
    Handed { since: Mono, left: bool },
    /// The act was carried out: the nodes are asked whether it helped.
    Verifying { until: Mono, next: Mono },
}

/// The shared remedy that is under way.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) incident: String,
    pub(super) stage: Stage,
    pub(super) asking: Option<Asking>,
    /// The remedy that was handed over, and whether it takes a replica away again; `None` while the nodes are asked.
    pub(super) act: Option<(RemedyKind, bool)>,
    /// CoreDNS pods that were good before the act; `None` when another leader or an earlier life acted.
    pub(super) good_before: Option<u32>,
    /// CoreDNS pods that were good after it, by the last question that the majority answered, and when that was.
    pub(super) good_after: Option<(u32, Mono)>,
}

impl Active {
    /// Nothing is handed over yet.
    pub(super) fn new(incident: String, stage: Stage) -> Self {
        Self { incident, stage, asking: None, act: None, good_before: None, good_after: None }
    }

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
            Some(Stage::Handed { since, left }) => self.wait_for_executor(now, view, since, left),
            Some(Stage::Verifying { until, next }) => self.verify(now, view, until, next, out),
        }
        self.call_about_idle(now, view, out);
    }

    /// An incident for which a remedy exists and none was carried out for long, or can be for long, since the hour's budget is
    /// spent: a person is called, once, and it is still tried.
    fn call_about_idle(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let handed = self.active.as_ref().filter(|a| a.handed()).map(|a| a.incident.clone());
        let settings = &self.config.remedy;
        let idle_long = |i: &Incident| matches!(i.shared, Shared::From(_)) && now.mono.since(i.idle_since) >= IDLE_LONG;
        let nothing_before = |i: &Incident| match i.shared {
            Shared::From(at) => Some(at.since(now.mono)).filter(|left| *left >= IDLE_LONG),
            Shared::Observed(_) | Shared::Over => None,
        };
        let idle = |i: &&mut Incident| {
            let meant =
                settings.ladder(i.spec.cause).iter().any(|kind| kind.shared() && settings.mode_of(*kind) != Mode::Off);
            meant
                && !i.called
                && i.phase == IncidentPhase::Open
                && i.gone_since.is_none()
                && handed.as_deref() != Some(i.name.as_str())
                && (idle_long(i) || nothing_before(i).is_some())
        };
        for incident in self.book.values_mut().filter(idle) {
            incident.called = true;
            let spec = &incident.spec;
            let command = advice::command(spec.cause, &spec.subject, &incident.nodes, settings, view);
            let because = match nothing_before(incident) {
                Some(left) => format!("Nothing can be done for another {} minutes", left.as_secs() / 60),
                None => format!("Nothing could be done for {} minutes", IDLE_LONG.as_secs() / 60),
            };
            let detail = format!("{because}. A person is needed; by hand: {command}");
            let record = line(incident, RemedyKind::CallPerson, Mode::Observe, RemedyOutcome::Escalated, detail, now);
            incident.record(record.clone());
            out.push(Output::Record { incident: incident.name.clone(), record, reason: None });
            let because = format!(
                "{because}, and Nameward goes on trying unless nameward.dev/paused=true is set on the workload"
            );
            out.push(notes::needs_a_person(incident, &because, &command));
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
                    active.good_before = Some(good);
                }
                self.hand_over(now, &incident, act, asking.at + ANSWERS_STAND, out);
            }
            // No pod is good: make one before any is broken, or say why that cannot be done.
            Err(Doubt::AllBad | Doubt::NoGoodPod { .. })
                if self.config.remedy.has_rung(incident.spec.cause, RemedyKind::AddReplica) =>
            {
                match self.add_replica(now, view, &incident, &asking, &heard) {
                    Ok(act) => self.hand_over(now, &incident, act, asking.at + ANSWERS_STAND, out),
                    Err(doubt) => {
                        self.active = None;
                        self.doubt(now, &incident.name, &doubt, all, view, out);
                    }
                }
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
        if view.nodes.iter().any(|node| node.name == own && node.unschedulable == Some(true)) {
            return Err(Doubt::NodeDrained(own));
        }
        if let Some(moving) = view.pods.iter().find(|p| p.terminating) {
            return Err(Doubt::PodsMoving(moving.key.to_string()));
        }
        let quorum = self.quorum(now, view)?;
        let word = self.claims.get(&incident.key()).and_then(|words| words.get(&own));
        if !word.is_some_and(|w| ripe(w, now.mono, self.config.remedy.wait.0)) {
            return Err(Doubt::OwnNodeSeesItGood(own));
        }
        // Nodes that are not ready are not expected to speak, but count as nodes that should agree.
        let agreed = corroborate(view, &uid, &own, &asking.nodes, heard, quorum.expected)?;
        self.calm(now)?;
        if !self.config.remedy.has_rung(incident.spec.cause, RemedyKind::EvictPod) {
            return Err(Doubt::OffLadder(RemedyKind::EvictPod));
        }
        let act = SharedAct::EvictPod {
            pod: pod.key.clone(),
            uid: uid.clone(),
            resource_version: pod.resource_version.clone(),
        };
        Ok((act, agreed.good_pods))
    }

    /// Enough of the nodes speak to act on what all share.
    pub(super) fn quorum(&self, now: Now, view: &ClusterView) -> Result<Quorum, Doubt> {
        let quorum = Quorum::count(now.mono, view, &self.freshness, self.config.coordinator.stale_after.0);
        let enough = quorum.enough(self.config.coordinator.quorum_percent);
        if enough { Ok(quorum) } else { Err(Doubt::QuorumMissing { fresh: quorum.fresh, expected: quorum.expected }) }
    }

    /// Cool-down and breaker.
    pub(super) fn calm(&self, now: Now) -> Result<(), Doubt> {
        if let Some(until) = self.breaker_until.filter(|until| now.mono < *until) {
            return Err(Doubt::BreakerOpen { left_s: until.since(now.mono).as_secs() });
        }
        self.cooled(now)
    }

    /// The cool-down alone.
    pub(super) fn cooled(&self, now: Now) -> Result<(), Doubt> {
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
        let good_before = self.active.as_ref().and_then(|active| active.good_before);
        let undo = matches!(act, SharedAct::LowerReplicas { .. });
        let (kind, subject) = match &act {
            SharedAct::EvictPod { .. } => (RemedyKind::EvictPod, incident.spec.subject.clone()),
            SharedAct::RaiseMemory { .. } => (RemedyKind::RaiseMemory, incident.spec.subject.clone()),
            SharedAct::RestartKubeProxy { .. } => (RemedyKind::RestartKubeProxy, incident.spec.subject.clone()),
            SharedAct::AddReplica { workload, .. } | SharedAct::LowerReplicas { workload, .. } => {
                (RemedyKind::AddReplica, Subject::object(SubjectKind::Deployment, workload))
            }
        };
        let stage = Stage::Handed { since: now.mono, left: false };
        let active = Active::new(incident.name.clone(), stage);
        // Where nobody was asked, what is ready and not known to be sick passes for good.
        let good_before = good_before.or_else(|| (kind != RemedyKind::EvictPod).then(|| self.passing_for_good(kind)));
        self.active = Some(Active { act: Some((kind, undo)), good_before, ..active });
        if let Some(known) = self.book.get_mut(&incident.name) {
            known.doubts = 0;
            known.told = None;
        }
        out.push(Output::Plan(Plan {
            incident: incident.name.clone(),
            cause: incident.spec.cause,
            subject,
            act,
            deadline,
        }));
    }

    /// What the executor says.
    pub(super) fn shared_tells(&mut self, now: Now, tells: SharedRemedyTells, out: &mut Vec<Output>) {
        match tells {
            SharedRemedyTells::Record { incident, record, .. } => {
                let Some(known) = self.book.get_mut(&incident) else { return };
                out.extend(notes::shared_record(known, &record));
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
        let act = self.active.as_ref().filter(|_| mine).and_then(|a| a.act);
        let undo = act.is_some_and(|(_, undo)| undo);
        match end {
            PlanEnd::Done => {
                incident.phase = IncidentPhase::Verifying;
                incident.intent = None;
                let good_before = self.active.as_ref().filter(|_| mine).and_then(|a| a.good_before);
                incident.idle_since = now.mono;
                let act = act.or_else(|| incident.last_act().map(|kind| (kind, false)));
                self.active = Some(Active { act, good_before, ..Active::new(name.to_owned(), verify) });
                return;
            }
            PlanEnd::Undone => {
                incident.intent = None;
                incident.added = None;
                if incident.phase == IncidentPhase::Remediating {
                    incident.phase = IncidentPhase::Open;
                }
            }
            // It stays where it is, and is tried again.
            _ if undo => incident.undo_from = now.mono + retry_after,
            PlanEnd::WouldAct | PlanEnd::Off => {
                let kind = act.map(|(kind, _)| kind).or_else(|| self.config.remedy.shared_remedy(incident.spec.cause));
                incident.shared = Shared::Observed(kind.unwrap_or(RemedyKind::CallPerson));
            }
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
            let because =
                if undo { "the added replica cannot be taken away" } else { "the remedy cannot be carried out" };
            self.escalate(now, name, because, &view, out);
        }
    }

    /// CoreDNS pods that are ready and not known to be sick, before a raise of memory, about which nobody is asked. A pod's own
    /// node is believed here if another one fails to reach the pod: what was good and was taken for sick hides that an act made things worse.
    fn passing_for_good(&self, kind: RemedyKind) -> u32 {
        let Some(view) = self.view.as_ref().filter(|_| kind == RemedyKind::RaiseMemory) else { return 0 };
        let sick = |pod: &DnsPodView| {
            let subject = Subject::pod(&pod.key, &pod.uid);
            let named = self.book.values().filter(|i| i.open() && i.spec.subject == subject);
            let mut words = named.filter_map(|incident| self.claims.get(&incident.key()));
            let by_own = words.any(|words| pod.node.as_ref().is_some_and(|own| words.contains_key(own)));
            // Its own node may lie. Where there are others, one of them must fail to reach it as well.
            by_own && (view.agents.len() < 2 || self.claims.deferred_by(&subject).is_some())
        };
        let good = view.pods.iter().filter(|p| p.ready && !p.terminating && !sick(p)).count();
        u32::try_from(good).unwrap_or(u32::MAX)
    }

    fn wait_for_executor(&mut self, now: Now, view: &ClusterView, since: Mono, left: bool) {
        let Some(active) = &mut self.active else { return };
        let standing = self.book.get(&active.incident).is_some_and(|i| i.intent.is_some());
        if standing && left {
            active.stage = Stage::Handed { since: now.mono, left };
        }
        let long = if left { SETTLED_LONG } else { HANDED_LONG };
        if !standing && now.mono.since(since) >= long {
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

/// How many ready pods are good for the majority of the asked nodes.
pub(super) fn good_count(
    view: &ClusterView,
    asking: &Asking,
    heard: &std::collections::BTreeMap<NodeName, nameward_messages::report::RequestAnswer>,
) -> u32 {
    u32::try_from(answers::good_pods(view, &asking.nodes, heard).len()).unwrap_or(u32::MAX)
}
