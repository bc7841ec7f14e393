//! The mind of the shared executor: one plan at a time, one request per step.

pub mod call;
mod record;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::cluster_view::{ClusterView, IncidentView, KillSwitch};
use nameward_messages::guarding::RefusalReason;
use nameward_messages::plan::{IncidentPhase, Intent, LeaseState, Plan, PlanEnd, SharedRemedyTells};
use nameward_messages::remedy::{Mode, RemedyOutcome, RemedyRecord};
use nameward_messages::time::{Mono, Now};

use crate::budget::Budget;
use crate::guard::{Guard, Refusal, VIEW_STALE, kind_of};
use crate::pause::LOOK_EVERY;
use call::{ApiCall, CallError, CallResult};
use work::{Next, Work};

/// What the mind is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The cluster.
    View(Arc<ClusterView>),
    /// The Lease, after every try to take or renew it.
    Lease(LeaseState),
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// Whether the local file [`crate::pause::PAUSE_FILE`] is there. Told before anything else that is told.
    PausedHere(bool),
    /// What to do.
    Plan(Plan),
    /// What came of the request with this number.
    CallDone {
        /// Its number.
        call: u64,
        /// What came of it.
        result: CallResult,
    },
    /// New settings.
    Configure(Arc<Config>),
    /// The deadline passed.
    Tick,
}

/// What the mind wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make this request and tell what came of it. At most one is under way.
    Call {
        /// Its number.
        id: u64,
        /// The request.
        call: ApiCall,
    },
    /// To the coordinator, metrics and people.
    Tell(SharedRemedyTells),
}

/// The shared executor's mind.
#[derive(Debug)]
pub struct SharedMind {
    config: Arc<Config>,
    began: Option<Mono>,
    calm_since: Mono,
    lease: LeaseState,
    switch: Option<KillSwitch>,
    paused_here: bool,
    view: Option<Arc<ClusterView>>,
    budget: Budget,
    work: Option<Work>,
    /// The request that is under way.
    call: Option<(u64, Mono)>,
    calls: u64,
    /// A pause between two tries to read or write a record.
    resume_at: Option<Mono>,
    /// When to look again without being told anything.
    look_at: Option<Mono>,
    /// The last act that was carried out, until its verification is over.
    verifying: Option<(String, Mono)>,
    /// Intents in the view that no work of ours explains, and since when.
    strays: BTreeMap<String, (Intent, Mono)>,
    told: Told,
}

/// What was told already, so that it is told once.
#[derive(Debug, Default)]
struct Told {
    would_act: BTreeSet<String>,
    refused: BTreeMap<String, Refusal>,
}

/// Incidents are at most 200; this bounds memory if they are not.
const REMEMBER: usize = 512;

impl SharedMind {
    /// A mind that knows nothing yet, and therefore refuses everything.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            began: None,
            calm_since: Mono::default(),
            lease: LeaseState::default(),
            switch: None,
            paused_here: false,
            view: None,
            budget: Budget::default(),
            work: None,
            call: None,
            calls: 0,
            resume_at: None,
            look_at: None,
            verifying: None,
            strays: BTreeMap::new(),
            told: Told::default(),
        }
    }

    /// Whether a plan is being carried out.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.work.is_some()
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let patience = self.call.map(|(_, since)| since + self.call_patience());
        [patience, self.resume_at, self.look_at].into_iter().flatten().min()
    }

    /// Takes one input.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if self.began.is_none() {
            self.began = Some(now.mono);
            self.calm_since = now.mono;
            // An answer to a request of an earlier life that still waits in the inbox must not bear a number of this one.
            self.calls = u64::try_from(now.mono.0.as_millis()).unwrap_or(0);
        }
        // The shell tells the file before anything else: what it leaves as it is, is looked at with what follows, once.
        if matches!(input, Input::PausedHere(paused) if paused == self.paused_here) {
            return;
        }
        match input {
            Input::View(view) => self.learn(now, view),
            Input::Lease(lease) => {
                if lease.leading && !self.lease.leading {
                    self.calm_since = now.mono;
                }
                self.lease = lease;
            }
            Input::KillSwitch(switch) => self.switch = Some(switch),
            Input::PausedHere(paused) => self.paused_here = paused,
            Input::Configure(config) => self.config = config,
            Input::Plan(plan) => self.take(now, plan, out),
            Input::CallDone { call, result } => {
                if self.call.is_some_and(|(id, _)| id == call) {
                    self.call = None;
                    self.advance(now, Some(result), out);
                }
            }
            Input::Tick => {}
        }
        self.time(now, out);
    }

    /// What only the clock decides: a request without an answer, a pause that is over, an intent to adopt.
    fn time(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.call.is_some_and(|(_, since)| now.mono.since(since) >= self.call_patience()) {
            self.call = None;
            self.advance(now, Some(Err(CallError::Unknown("no answer in time".to_owned()))), out);
        }
        if self.resume_at.is_some_and(|at| now.mono >= at) {
            self.resume_at = None;
            self.advance(now, None, out);
        }
        if self.work.is_none() {
            self.adopt(now, out);
        }
        // Also while a request is under way: the local file and the clock stop what follows it.
        let oldest = self.strays.values().map(|(_, since)| *since).min();
        self.look_at = match (self.work.is_some(), oldest) {
            (true, _) => Some(now.mono + LOOK_EVERY),
            (false, Some(since)) => Some((since + self.adopt_after()).max(now.mono + LOOK_EVERY)),
            (false, None) => None,
        };
    }

    fn learn(&mut self, now: Now, view: Arc<ClusterView>) {
        let blind = self.view.as_ref().is_some_and(|v| now.mono.since(v.fresh_as_of) > VIEW_STALE);
        if !view.complete || view.rollout.in_progress || blind {
            self.calm_since = now.mono;
        }
        if view.complete {
            self.budget.learn(now, &view.incidents);
            let mine = self.work.as_ref().map(|w| w.incident.clone());
            let stray = |i: &&IncidentView| i.status.intent.is_some() && mine.as_deref() != Some(i.name.as_str());
            let mut strays = BTreeMap::new();
            for incident in view.incidents.iter().filter(stray) {
                let Some(intent) = &incident.status.intent else { continue };
                let since = match self.strays.get(&incident.name) {
                    Some((known, since)) if known == intent => *since,
                    Some(_) | None => now.mono,
                };
                strays.insert(incident.name.clone(), (intent.clone(), since));
            }
            self.strays = strays;
        }
        self.view = Some(view);
    }

    fn guard(&self, now: Now) -> Guard<'_> {
        Guard {
            now,
            settings: &self.config.remedy,
            lease: &self.lease,
            switch: self.switch,
            paused_here: self.paused_here,
            calm_since: self.calm_since,
            budget: &self.budget,
        }
    }

    fn take(&mut self, now: Now, plan: Plan, out: &mut Vec<Output>) {
        if let Some(work) = &self.work {
            if work.incident != plan.incident {
                let refusal = Refusal::InFlight(work.incident.clone());
                self.refuse(now, &plan, &refusal, out);
            }
            return;
        }
        let kind = kind_of(&plan.act);
        let mode = self.config.remedy.mode_of(kind);
        if mode == Mode::Off {
            out.push(ended(&plan.incident, PlanEnd::Off, Duration::from_secs(600)));
            return;
        }
        let judged = self.verification_elsewhere(now, &plan.incident).map_or_else(
            || self.guard(now).plan(&plan, self.view.as_deref()),
            |other| Err(Refusal::InFlight(format!("{other} is under verification"))),
        );
        if let Err(refusal) = judged {
            self.refuse(now, &plan, &refusal, out);
            return;
        }
        self.told.refused.remove(&plan.incident);
        if mode == Mode::Observe {
            if self.first_would_act(&plan.incident) {
                let record = record::of_plan(&plan, mode, RemedyOutcome::WouldAct, record::would(&plan), now.wall);
                out.push(told(&plan.incident, record, None));
            }
            out.push(ended(&plan.incident, PlanEnd::WouldAct, Duration::from_secs(600)));
            return;
        }
        let kind = self.view.as_ref().and_then(|v| v.workload.as_ref()).map(|w| (w.key.clone(), w.kind));
        let Some(workload) = kind else {
            self.refuse(now, &plan, &Refusal::ViewUnknown, out);
            return;
        };
        self.work = Some(Work::of_plan(plan, mode, workload, &self.lease.identity, now));
        self.advance(now, None, out);
    }

    /// Another incident whose act was carried out by this process and is not settled in the view.
    fn verification_elsewhere(&self, now: Now, incident: &str) -> Option<String> {
        let (other, since) = self.verifying.as_ref()?;
        let settled = |i: &IncidentView| {
            i.name == *other && matches!(i.status.phase, IncidentPhase::Resolved | IncidentPhase::Escalated)
        };
        let over = now.mono.since(*since) > self.config.remedy.verify_within.0
            || self.view.as_ref().is_some_and(|v| v.incidents.iter().any(settled));
        (other != incident && !over).then(|| other.clone())
    }

    fn first_would_act(&mut self, incident: &str) -> bool {
        let said = |i: &IncidentView| {
            i.name == incident
                && i.status.ladder.iter().any(|r| r.outcome == RemedyOutcome::WouldAct && r.kind.shared())
        };
        if self.view.as_ref().is_some_and(|v| v.incidents.iter().any(said)) {
            return false;
        }
        while self.told.would_act.len() >= REMEMBER {
            self.told.would_act.pop_first();
        }
        self.told.would_act.insert(incident.to_owned())
    }

    fn refuse(&mut self, now: Now, plan: &Plan, refusal: &Refusal, out: &mut Vec<Output>) {
        let mode = self.config.remedy.mode_of(kind_of(&plan.act));
        if self.first_refusal(&plan.incident, refusal) {
            let record = record::of_plan(plan, mode, RemedyOutcome::Refused, refusal.to_string(), now.wall);
            out.push(told(&plan.incident, record, Some(refusal.reason())));
        }
        let end = if refusal.lasting() { PlanEnd::Failed } else { PlanEnd::Refused };
        out.push(ended(&plan.incident, end, refusal.retry_after()));
    }

    fn first_refusal(&mut self, incident: &str, refusal: &Refusal) -> bool {
        let reason = refusal.without_times();
        if self.told.refused.get(incident) == Some(&reason) {
            return false;
        }
        while self.told.refused.len() >= REMEMBER {
            self.told.refused.pop_first();
        }
        self.told.refused.insert(incident.to_owned(), reason);
        true
    }

    /// Takes up an intent that nobody carries on: verifies it, never repeats it.
    fn adopt(&mut self, now: Now, out: &mut Vec<Output>) {
        let patience = self.adopt_after();
        if !self.lease.may_act(now.mono) {
            return;
        }
        let due = self.strays.iter().find(|(_, (_, since))| now.mono.since(*since) >= patience);
        let Some((incident, intent)) = due.map(|(name, (intent, _))| (name.clone(), intent.clone())) else { return };
        self.strays.remove(&incident);
        let container = self.view.as_ref().and_then(|v| v.workload.as_ref()).and_then(|w| w.container.clone());
        let mode = self.config.remedy.mode_of(intent.kind);
        self.work = Some(Work::of_intent(incident, intent, mode, container, now));
        self.advance(now, None, out);
    }

    fn advance(&mut self, now: Now, result: Option<CallResult>, out: &mut Vec<Output>) {
        let Some(mut work) = self.work.take() else { return };
        let moot = self.view.as_ref().is_some_and(|view| work.verdict_ended(view));
        let next = work.next(&self.guard(now), result, moot);
        for record in work.take_records() {
            let mut why = None;
            if record.outcome == RemedyOutcome::Refused {
                // Judged by its text: the same refusal on the next try is not told again.
                let reason = work.refusal.clone().unwrap_or(Refusal::Api(record.detail.clone()));
                why = Some(reason.reason());
                if !self.first_refusal(&work.incident, &reason) {
                    continue;
                }
            }
            out.push(told(&work.incident, record, why));
        }
        match next {
            Next::Call(call) => {
                if work.begins_act(&call) {
                    self.budget.spend_at(now, work.kind(), work.subject(), work.intent_at());
                }
                self.calls += 1;
                self.call = Some((self.calls, now.mono));
                out.push(Output::Call { id: self.calls, call });
                self.work = Some(work);
            }
            Next::Wait(pause) => {
                self.resume_at = Some(now.mono + pause.min(LOOK_EVERY * 15));
                self.work = Some(work);
            }
            Next::End(end, retry_after) => {
                if end == PlanEnd::Done {
                    self.verifying = Some((work.incident.clone(), now.mono));
                }
                out.push(ended(&work.incident, end, retry_after));
            }
        }
    }

    /// A request is given up on, as unknown, when its answer is later than this.
    fn call_patience(&self) -> Duration {
        self.config.kubernetes.call_timeout.0 * 2
    }

    /// Whoever wrote an intent has lost the Lease and the time for its last call by then.
    fn adopt_after(&self) -> Duration {
        self.config.coordinator.lease_duration.0 + self.config.kubernetes.call_timeout.0
    }
}

fn told(incident: &str, record: RemedyRecord, reason: Option<RefusalReason>) -> Output {
    Output::Tell(SharedRemedyTells::Record { incident: incident.to_owned(), record, reason })
}

fn ended(incident: &str, end: PlanEnd, retry_after: Duration) -> Output {
    Output::Tell(SharedRemedyTells::Ended { incident: incident.to_owned(), end, retry_after })
}
