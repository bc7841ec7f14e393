//! One plan, step by step, with one thing going wrong before each of its requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::ObjectKey;
use nameward_messages::cluster_view::{NodeAgentView, WorkloadKind, WorkloadView};
use nameward_messages::plan::{IncidentSpec, IncidentStatus, SharedAct};
use nameward_messages::remedy::RemedyKind;
use nameward_messages::report::{NodeOrders, NodeReport, ReportedVerdict};
use nameward_messages::verdict::{Cause, Confidence, Scope, Subject};

use super::call::{IncidentRead, PodRead, Reply, WorkloadRead};
use super::*;

mod left_over;
mod replica;

struct Rig {
    mind: SharedMind,
    now: Now,
    status: IncidentStatus,
    pod: PodRead,
    workload: WorkloadRead,
    others: Vec<IncidentRead>,
    /// Requests in order, each by its first word.
    calls: Vec<&'static str>,
    under_way: Option<(u64, ApiCall)>,
    tells: Vec<SharedRemedyTells>,
}

fn key() -> ObjectKey {
    ObjectKey::new("kube-system", "coredns-a")
}

fn plan() -> Plan {
    Plan {
        incident: "one".into(),
        cause: Cause::CorednsUdpDead,
        subject: Subject::pod(&key(), &"u1".into()),
        act: SharedAct::EvictPod { pod: key(), uid: "u1".into(), resource_version: "5".into() },
        deadline: Mono(Duration::from_secs(1008)),
    }
}

fn view(now: Now, status: &IncidentStatus) -> Arc<ClusterView> {
    let incident = IncidentView {
        name: "one".into(),
        uid: "i".into(),
        resource_version: "1".into(),
        created_at: None,
        spec: IncidentSpec { cause: Cause::CorednsUdpDead, scope: Scope::CorednsPod, subject: plan().subject },
        status: status.clone(),
    };
    let workload = WorkloadView {
        kind: WorkloadKind::Deployment,
        key: ObjectKey::new("kube-system", "coredns"),
        uid: "w".into(),
        resource_version: "7".into(),
        replicas: 2,
        ready: 2,
        updated: 2,
        available: 2,
        generation: 1,
        observed_generation: 1,
        container: Some("coredns".into()),
        memory_limit: Some(1 << 20),
        paused: false,
        memory_owner: None,
        replicas_owner: None,
    };
    Arc::new(ClusterView {
        complete: true,
        fresh_as_of: now.mono,
        workload: Some(workload),
        incidents: vec![incident],
        agents: vec![agent(now)],
        ..ClusterView::default()
    })
}

/// The pod's own node says so.
fn agent(now: Now) -> NodeAgentView {
    let verdict = ReportedVerdict {
        cause: Cause::CorednsUdpDead,
        scope: Scope::CorednsPod,
        subject: plan().subject,
        confidence: Confidence::Certain,
        evidence: vec![],
        ruled_out: vec![],
        since: now.wall,
    };
    NodeAgentView {
        name: "node1".into(),
        uid: "n".into(),
        resource_version: "1".into(),
        orders: NodeOrders::default(),
        report: Some(Arc::new(NodeReport { self_check: true, verdicts: vec![verdict], ..NodeReport::default() })),
        changed_at: now.mono,
    }
}

fn leads(now: Now) -> Input {
    let act_until = Some(now.mono + Duration::from_secs(5));
    Input::Lease(LeaseState { identity: "me".into(), leading: true, act_until })
}

fn rig() -> Rig {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    let mut rig = Rig {
        mind: SharedMind::new(Arc::new(config)),
        now: Now::at(Duration::from_secs(900)),
        status: IncidentStatus::default(),
        pod: PodRead { uid: "u1".into(), resource_version: "5".into(), ready: true, terminating: false },
        workload: WorkloadRead {
            resource_version: "7".into(),
            replicas: 2,
            ready: 2,
            rolls_away: 1,
            rollout: None,
            paused: false,
            memory_limits: [("coredns".to_owned(), 1 << 20)].into(),
            memory_owner: None,
            replicas_owner: None,
            scaled_by_us: false,
        },
        others: vec![],
        calls: vec![],
        under_way: None,
        tells: vec![],
    };
    rig.tell(leads(rig.now));
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    rig.now = rig.now + Duration::from_secs(100);
    rig.tell(leads(rig.now));
    rig.tell(Input::View(view(rig.now, &rig.status)));
    rig
}

impl Rig {
    fn tell(&mut self, input: Input) {
        let mut out = vec![];
        self.mind.step(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Tell(tells) => self.tells.push(tells),
                Output::Call { id, call } => {
                    assert!(self.under_way.is_none(), "two requests at once");
                    self.calls.push(word(&call));
                    self.under_way = Some((id, call));
                }
            }
        }
    }

    /// The settings are read anew.
    fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = (*self.mind.config).clone();
        change(&mut config);
        self.tell(Input::Configure(Arc::new(config)));
    }

    /// Carries out the request under way as an API server would.
    fn reply(&mut self) -> CallResult {
        let Some((_, call)) = &self.under_way else { panic!("no request") };
        Ok(match call {
            ApiCall::ReadIncident { name } => Reply::Incident(Some(IncidentRead {
                name: name.clone(),
                resource_version: "1".into(),
                status: self.status.clone(),
            })),
            ApiCall::WriteIncident { status, .. } => {
                self.status = (**status).clone();
                Reply::Written { resource_version: "2".into() }
            }
            ApiCall::ListIncidents => {
                let mine =
                    IncidentRead { name: "one".into(), resource_version: "1".into(), status: self.status.clone() };
                Reply::Incidents(self.others.iter().cloned().chain([mine]).collect())
            }
            ApiCall::ReadPod { .. } => Reply::Pod(Some(self.pod.clone())),
            ApiCall::ReadWorkload { .. } => Reply::Workload(Some(self.workload.clone())),
            ApiCall::Evict { .. } | ApiCall::PatchMemory { .. } | ApiCall::Scale { .. } | ApiCall::ResizePod { .. } => {
                Reply::Accepted
            }
        })
    }

    fn answer(&mut self, result: CallResult) {
        let (call, _) = self.under_way.take().expect("a request under way");
        self.tell(Input::CallDone { call, result });
    }

    /// Answers whatever is asked, letting pauses pass, until nothing is under way.
    fn finish(&mut self) {
        for _ in 0..40 {
            if self.under_way.is_some() {
                let result = self.reply();
                self.answer(result);
            } else if self.mind.busy() {
                self.now = self.now + Duration::from_secs(2);
                self.tell(Input::Tick);
            }
        }
        assert!(!self.mind.busy(), "{:?}", self.calls);
    }

    fn end(&self) -> Option<PlanEnd> {
        self.tells.iter().rev().find_map(|t| match t {
            SharedRemedyTells::Ended { end, .. } => Some(*end),
            SharedRemedyTells::Record { .. } => None,
        })
    }

    fn outcomes(&self) -> Vec<RemedyOutcome> {
        let outcome = |t: &SharedRemedyTells| match t {
            SharedRemedyTells::Record { record, .. } => Some(record.outcome),
            SharedRemedyTells::Ended { .. } => None,
        };
        self.tells.iter().filter_map(outcome).collect()
    }

    fn acts(&self) -> usize {
        self.calls.iter().filter(|c| **c == "evict").count()
    }
}

fn word(call: &ApiCall) -> &'static str {
    match call {
        ApiCall::ReadIncident { .. } => "read-incident",
        ApiCall::WriteIncident { status, .. } if status.intent.is_some() => "write-intent",
        ApiCall::WriteIncident { .. } => "write-record",
        ApiCall::ListIncidents => "list-incidents",
        ApiCall::ReadPod { .. } => "read-pod",
        ApiCall::ReadWorkload { .. } => "read-workload",
        ApiCall::Evict { dry_run: true, .. } => "rehearse",
        ApiCall::Evict { .. } => "evict",
        ApiCall::PatchMemory { .. } => "patch",
        ApiCall::Scale { dry_run: true, .. } => "rehearse-scale",
        ApiCall::Scale { .. } => "scale",
        ApiCall::ResizePod { .. } => "resize",
    }
}

const STEPS: [&str; 9] = [
    "read-incident",
    "write-intent",
    "list-incidents",
    "read-pod",
    "read-workload",
    "rehearse",
    "evict",
    "read-incident",
    "write-record",
];

#[test]
fn a_plan_goes_through_its_steps_in_order() {
    let mut rig = rig();
    rig.tell(Input::Plan(plan()));
    rig.finish();
    assert_eq!(rig.calls, STEPS);
    assert_eq!((rig.end(), rig.outcomes()), (Some(PlanEnd::Done), vec![RemedyOutcome::Done]));
    assert_eq!((rig.status.phase, rig.status.intent.clone()), (IncidentPhase::Verifying, None));
}

/// Something that goes wrong, and the step from which on it can no longer stop the act.
type Row = (&'static str, fn(&mut Rig), usize);

#[test]
fn whatever_goes_wrong_before_the_act_stops_it_and_takes_the_intent_back() {
    let rows: [Row; 15] = [
        ("mode observe", |r| r.configure(|c| c.remedy.mode = Mode::Observe), 5),
        ("mode off", |r| r.configure(|c| _ = c.remedy.modes.insert(RemedyKind::EvictPod, Mode::Off)), 5),
        ("off the ladder", |r| r.configure(|c| _ = c.remedy.ladders.insert(Cause::CorednsUdpDead, vec![])), 5),
        ("lease lost", |r| r.tell(Input::Lease(LeaseState::default())), 5),
        ("lease run out", |r| r.now = r.now + Duration::from_secs(5), 5),
        ("kill switch", |r| r.tell(Input::KillSwitch(KillSwitch::On)), 5),
        ("kill switch unreadable", |r| r.tell(Input::KillSwitch(KillSwitch::UnreadableSince(Mono::default()))), 5),
        ("local file", |r| r.tell(Input::PausedHere(true)), 5),
        (
            "deadline",
            |r| {
                r.now = r.now + Duration::from_secs(8);
                r.tell(leads(r.now));
            },
            5,
        ),
        (
            "the verdict ended",
            |r| r.tell(Input::View(Arc::new(ClusterView { agents: vec![], ..(*view(r.now, &r.status)).clone() }))),
            5,
        ),
        (
            "another intent",
            |r| {
                let status = IncidentStatus { phase: IncidentPhase::Verifying, ..IncidentStatus::default() };
                r.others = vec![IncidentRead { name: "two".into(), resource_version: "1".into(), status }];
            },
            2,
        ),
        ("pod replaced", |r| r.pod.uid = "u2".into(), 3),
        ("pod changed", |r| r.pod.resource_version = "6".into(), 3),
        ("too few ready", |r| r.workload.ready = 1, 4),
        ("rollout", |r| r.workload.rollout = Some("x".into()), 4),
    ];
    for (name, spoil, last) in rows {
        for (before, step) in STEPS.iter().enumerate().take(last + 1) {
            let mut rig = rig();
            rig.tell(Input::Plan(plan()));
            for _ in 0..before {
                let result = rig.reply();
                rig.answer(result);
            }
            // While the request of this step is under way.
            spoil(&mut rig);
            rig.finish();
            assert_eq!(rig.acts(), 0, "{name} during {step}");
            assert_eq!(rig.status.intent, None, "{name} during {step}");
            assert!(matches!(rig.end(), Some(PlanEnd::Refused | PlanEnd::Failed)), "{name}: {:?}", rig.tells);
            assert_eq!(rig.outcomes(), [RemedyOutcome::Refused], "{name} during {step}");
        }
    }
}

#[test]
fn an_act_without_a_clear_answer_is_looked_at_and_not_repeated() {
    for gone in [true, false] {
        let mut rig = rig();
        rig.tell(Input::Plan(plan()));
        for _ in 0..6 {
            let result = rig.reply();
            rig.answer(result);
        }
        assert_eq!(rig.calls.last(), Some(&"evict"));
        if gone {
            rig.pod.uid = "u2".into();
        }
        rig.answer(Err(CallError::Unknown("time-out".into())));
        assert_eq!(rig.calls.last(), Some(&"read-pod"));
        rig.finish();
        assert_eq!(rig.acts(), 1);
        let (end, outcome) =
            if gone { (PlanEnd::Done, RemedyOutcome::Done) } else { (PlanEnd::Failed, RemedyOutcome::Failed) };
        assert_eq!((rig.end(), rig.outcomes()), (Some(end), vec![RemedyOutcome::Unknown, outcome]));
        assert_eq!(rig.status.intent, None);
    }
}

#[test]
fn an_answer_that_never_comes_is_unknown_too_and_a_late_one_changes_nothing() {
    let mut rig = rig();
    rig.tell(Input::Plan(plan()));
    for _ in 0..6 {
        let result = rig.reply();
        rig.answer(result);
    }
    let (late, _) = rig.under_way.take().unwrap();
    rig.now = rig.now + Duration::from_secs(11);
    rig.tell(Input::Tick);
    assert_eq!(rig.calls.last(), Some(&"read-pod"));
    rig.tell(Input::CallDone { call: late, result: Ok(Reply::Accepted) });
    rig.finish();
    assert_eq!((rig.acts(), rig.end()), (1, Some(PlanEnd::Failed)));
}

fn intent_of_another(now: Now) -> Intent {
    Intent {
        kind: RemedyKind::EvictPod,
        subject: plan().subject,
        target: None,
        by: "another".into(),
        resource_version: "5".into(),
        from: None,
        to: None,
        at: now.wall,
    }
}

#[test]
fn a_standing_intent_is_verified_after_the_old_leaders_time_and_never_repeated() {
    for gone in [true, false] {
        let mut rig = rig();
        rig.status.intent = Some(intent_of_another(rig.now));
        rig.status.phase = IncidentPhase::Remediating;
        // The view does not show it yet: a plan for the same incident meets it when it reads, and gives way.
        rig.tell(Input::Plan(plan()));
        rig.finish();
        assert_eq!((rig.calls.as_slice(), rig.end()), (["read-incident"].as_slice(), Some(PlanEnd::Refused)));
        assert!(rig.status.intent.is_some());
        // Seen in the view it has spent the budget as well.
        rig.tell(Input::View(view(rig.now, &rig.status)));
        rig.tell(Input::Plan(plan()));
        assert_eq!(rig.calls.len(), 1);
        rig.calls.clear();
        rig.tells.clear();
        if gone {
            rig.pod.terminating = true;
        }
        rig.now = rig.now + Duration::from_secs(19);
        rig.tell(leads(rig.now));
        assert!(rig.calls.is_empty(), "too early");
        rig.now = rig.now + Duration::from_secs(2);
        rig.tell(leads(rig.now));
        rig.finish();
        assert_eq!(rig.calls, ["read-incident", "read-pod", "read-incident", "write-record"]);
        let (end, phase) =
            if gone { (PlanEnd::Done, IncidentPhase::Verifying) } else { (PlanEnd::Failed, IncidentPhase::Open) };
        assert_eq!((rig.end(), rig.status.phase, rig.status.intent.clone()), (Some(end), phase, None));
    }
}

#[test]
fn the_same_refusal_is_told_once() {
    let mut rig = rig();
    rig.tell(Input::PausedHere(true));
    for _ in 0..5 {
        rig.tell(Input::Plan(plan()));
    }
    assert_eq!(rig.outcomes(), [RemedyOutcome::Refused]);
    rig.tell(Input::PausedHere(false));
    rig.tell(Input::KillSwitch(KillSwitch::On));
    rig.tell(Input::Plan(plan()));
    assert_eq!(rig.outcomes().len(), 2);
}
