//! One row per reason to refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::ObjectKey;
use nameward_messages::cluster_view::{BudgetView, IncidentView, WorkloadKind, WorkloadView};
use nameward_messages::plan::{AddedReplica, IncidentSpec, IncidentStatus};
use nameward_messages::pods::RolloutObserved;
use nameward_messages::remedy::Mode;
use nameward_messages::verdict::{Cause, Scope, Subject, SubjectKind};

use super::*;
use crate::budget::Spent;

const MI: u64 = 1 << 20;

/// Everything that the guard rails look at, as it is on a good day.
struct Day {
    now: Now,
    settings: Remedy,
    lease: LeaseState,
    switch: Option<KillSwitch>,
    paused_here: bool,
    calm_since: Mono,
    budget: Budget,
    view: Option<ClusterView>,
    plan: Plan,
}

fn secs_at(s: u64) -> Mono {
    Mono(Duration::from_secs(s))
}

fn pod() -> Subject {
    Subject::pod(&ObjectKey::new("kube-system", "coredns-a"), &"u1".into())
}

fn deployment() -> Subject {
    Subject::object(SubjectKind::Deployment, &ObjectKey::new("kube-system", "coredns"))
}

fn workload() -> WorkloadView {
    WorkloadView {
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
        memory_limit: Some(170 * MI),
        paused: false,
        memory_owner: None,
        replicas_owner: None,
    }
}

fn good_day() -> Day {
    let now = Now::at(Duration::from_secs(1000));
    let view =
        ClusterView { complete: true, fresh_as_of: now.mono, workload: Some(workload()), ..ClusterView::default() };
    Day {
        now,
        settings: Remedy { mode: Mode::Act, ..Remedy::default() },
        lease: LeaseState { identity: "me".into(), leading: true, act_until: Some(secs_at(1005)) },
        switch: Some(KillSwitch::Off),
        paused_here: false,
        calm_since: secs_at(900),
        budget: Budget::default(),
        view: Some(view),
        plan: Plan {
            incident: "one".into(),
            cause: Cause::CorednsUdpDead,
            subject: pod(),
            act: SharedAct::EvictPod {
                pod: ObjectKey::new("kube-system", "coredns-a"),
                uid: "u1".into(),
                resource_version: "5".into(),
            },
            deadline: secs_at(1020),
        },
    }
}

impl Day {
    fn judge(&self) -> Result<(), Refusal> {
        let guard = Guard {
            now: self.now,
            settings: &self.settings,
            lease: &self.lease,
            switch: self.switch,
            paused_here: self.paused_here,
            calm_since: self.calm_since,
            budget: &self.budget,
        };
        guard.plan(&self.plan, self.view.as_ref())
    }

    fn seen(&mut self) -> &mut ClusterView {
        self.view.as_mut().unwrap()
    }

    fn raise(&mut self, from: u64, to: u64) {
        self.plan.cause = Cause::CorednsOomKilled;
        self.plan.subject = deployment();
        self.plan.act = SharedAct::RaiseMemory {
            workload: ObjectKey::new("kube-system", "coredns"),
            resource_version: "7".into(),
            container: "coredns".into(),
            from,
            to,
            resize: vec![],
        };
    }
}

fn other(phase: IncidentPhase) -> IncidentView {
    IncidentView {
        name: "two".into(),
        uid: "i".into(),
        resource_version: "1".into(),
        created_at: None,
        spec: IncidentSpec { cause: Cause::CorednsOomKilled, scope: Scope::Cluster, subject: deployment() },
        status: IncidentStatus { phase, ..IncidentStatus::default() },
    }
}

fn covering(n: usize) -> Vec<BudgetView> {
    let budget = |n: usize| BudgetView {
        key: ObjectKey::new("kube-system", format!("pdb-{n}")),
        disruptions_allowed: 1,
        current_healthy: 2,
        desired_healthy: 1,
        observed: true,
        always_allow_unhealthy: false,
        matches: vec!["u1".into()],
    };
    (0..n).map(budget).collect()
}

/// A day gone wrong in one way, and how the refusal begins.
type Row = (&'static str, fn(&mut Day), &'static str);

#[test]
fn every_reason_refuses_by_its_name() {
    assert_eq!(good_day().judge(), Ok(()));
    let rows: [Row; 24] = [
        ("wrong cause", |d| d.plan.cause = Cause::UpstreamDead, "evict-pod is no remedy for upstream-dead"),
        ("local file", |d| d.paused_here = true, "the kill switch stops every change: the file"),
        (
            "policy",
            |d| d.switch = Some(KillSwitch::On),
            "the kill switch stops every change: the policy ConfigMap says",
        ),
        ("policy not told", |d| d.switch = None, "the kill switch stops every change: the policy ConfigMap has not"),
        (
            "policy unreadable",
            |d| d.switch = Some(KillSwitch::UnreadableSince(secs_at(939))),
            "the kill switch stops every change: the policy ConfigMap could not",
        ),
        ("no lease", |d| d.lease.leading = false, "the Lease is not held"),
        ("lease about to end", |d| d.lease.act_until = Some(secs_at(1000)), "the Lease is not held"),
        ("lease never told", |d| d.lease = LeaseState::default(), "the Lease is not held"),
        ("late", |d| d.plan.deadline = secs_at(1000), "the plan is past its deadline"),
        ("no view", |d| d.view = None, "the cluster is not known"),
        ("incomplete view", |d| d.seen().complete = false, "the cluster is not known"),
        ("old view", |d| d.seen().fresh_as_of = secs_at(939), "the cluster is not known"),
        ("no workload", |d| d.seen().workload = None, "the cluster is not known"),
        ("cool-down", |d| d.calm_since = secs_at(950), "cool-down, 10 s left"),
        (
            "paused workload",
            |d| d.seen().workload.as_mut().unwrap().paused = true,
            "the workload carries the annotation",
        ),
        (
            "rollout",
            |d| d.seen().rollout = RolloutObserved { in_progress: true, because: "1 of 2".into() },
            "a rollout of the workload is under way: 1 of 2",
        ),
        (
            "other verifies",
            |d| d.seen().incidents = vec![other(IncidentPhase::Verifying)],
            "another shared remedy is in flight: two",
        ),
        (
            "spacing",
            |d| d.budget.spend(Now::at(Duration::from_secs(800)), RemedyKind::RaiseMemory, &deployment()),
            "the last shared remedy was too short a time ago, 100 s left",
        ),
        (
            "hour",
            |d| {
                d.settings.shared_per_hour = 1;
                d.budget.spend(Now::at(Duration::from_secs(100)), RemedyKind::RaiseMemory, &deployment());
            },
            "the budget of shared remedies for this hour is spent, 2700 s left",
        ),
        (
            "tries",
            |d| {
                d.settings.tries_per_target = 1;
                d.budget.spend(Now::at(Duration::from_secs(100)), RemedyKind::EvictPod, &pod());
            },
            "this target had its 1 tries",
        ),
        ("two budgets", |d| d.seen().budgets = covering(2), "2 PodDisruptionBudgets cover the pod"),
        ("memory above the cap", |d| d.raise(700 * MI, 1400 * MI), "a limit of 1468006400 bytes is above the cap"),
        ("memory lowered", |d| d.raise(170 * MI, 100 * MI), "a limit of 104857600 bytes would not raise"),
        ("no limit", |d| d.raise(0, 100 * MI), "the container has no memory limit"),
    ];
    for (name, spoil, begins) in rows {
        let mut day = good_day();
        spoil(&mut day);
        let refusal = day.judge().expect_err(name).to_string();
        assert!(refusal.starts_with(begins), "{name}: {refusal}");
    }
}

#[test]
fn one_budget_none_and_a_switch_lately_unreadable_do_not_refuse() {
    let mut day = good_day();
    day.seen().budgets = covering(1);
    day.switch = Some(KillSwitch::UnreadableSince(secs_at(950)));
    assert_eq!(day.judge(), Ok(()));
}

#[test]
fn a_replica_is_added_where_nobody_owns_their_number_and_none_stands_already() {
    let mut day = good_day();
    let (workload, resource_version) = (ObjectKey::new("kube-system", "coredns"), "7".into());
    day.plan.act = SharedAct::AddReplica { workload, resource_version, from: 2 };
    assert_eq!(day.judge(), Ok(()));
    day.seen().workload.as_mut().unwrap().replicas_owner = Some("KEDA".into());
    assert_eq!(day.judge(), Err(Refusal::OwnedBy("KEDA".into())));
    day.seen().workload.as_mut().unwrap().replicas_owner = None;
    day.seen().workload.as_mut().unwrap().kind = WorkloadKind::DaemonSet;
    assert_eq!(day.judge(), Err(Refusal::NotScalable));
    day.seen().workload.as_mut().unwrap().kind = WorkloadKind::Deployment;
    day.seen().workload.as_mut().unwrap().replicas = 3;
    assert!(matches!(day.judge(), Err(Refusal::TargetChanged(_))));
    day.seen().workload.as_mut().unwrap().replicas = 2;
    let mut standing = other(IncidentPhase::Open);
    standing.status.added = Some(AddedReplica {
        workload: ObjectKey::new("kube-system", "coredns"),
        before: 2,
        after: 3,
        at: day.now.wall,
    });
    day.seen().incidents = vec![standing];
    assert_eq!(day.judge(), Err(Refusal::AlreadyAdded("two".into())));
}

#[test]
fn to_take_a_replica_away_again_needs_no_budget_and_yet_the_kill_switch_holds() {
    let mut day = good_day();
    day.plan.act = SharedAct::LowerReplicas { workload: ObjectKey::new("kube-system", "coredns"), from: 3, to: 2 };
    day.budget.spend(day.now, RemedyKind::AddReplica, &deployment());
    assert_eq!(day.judge(), Ok(()));
    day.switch = Some(KillSwitch::On);
    assert!(matches!(day.judge(), Err(Refusal::KillSwitch(_))));
}

#[test]
fn a_rung_that_the_configuration_took_away_is_not_taken() {
    let mut day = good_day();
    day.settings.ladders.insert(Cause::CorednsUdpDead, vec![RemedyKind::AddReplica]);
    assert!(matches!(day.judge(), Err(Refusal::NotOnLadder { .. })));
}

#[test]
fn no_setting_lifts_a_ceiling() {
    let mut day = good_day();
    day.settings.shared_every = nameward_config::Period::secs(1);
    day.settings.shared_per_hour = 100;
    day.settings.tries_per_target = 100;
    day.settings.memory_cap = nameward_config::Bytes(1 << 50);
    assert_eq!(limits(&day.settings), Limits { every: Duration::from_secs(300), per_hour: 3, per_target: 3 });
    day.budget.spend(day.now, RemedyKind::EvictPod, &deployment());
    day.now = day.now + Duration::from_secs(2);
    assert!(matches!(day.judge(), Err(Refusal::Budget(Spent::Spacing(_)))));
    assert!(matches!(memory_values(&day.settings, 1 << 30, 1 << 40), Err(Refusal::AboveCap { .. })));
}

#[test]
fn a_budget_that_allows_nothing_is_recognised_with_what_would_help() {
    use nameward_messages::cluster_view::DnsPodView;
    let pod = |ready: bool| DnsPodView {
        uid: "u1".into(),
        key: ObjectKey::new("kube-system", "coredns-a"),
        resource_version: "5".into(),
        node: Some("node1".into()),
        phase: "Running".into(),
        ready,
        terminating: false,
        created_at: None,
        owner: None,
        containers: vec![],
    };
    // Ready or not, healthy, desired, allowed, always: what comes of it.
    type Row = (bool, i32, i32, i32, bool, &'static str);
    let rows: [Row; 7] = [
        (true, 2, 1, 1, false, "ok"),
        (true, 1, 1, 0, false, "not-now"),
        (true, 2, 2, 0, false, "never"),
        (false, 1, 1, 0, false, "ok"),
        (false, 0, 1, 0, false, "never"),
        (false, 0, 1, 0, true, "ok"),
        (false, 1, 2, 0, false, "not-now"),
    ];
    for (ready, healthy, desired, allowed, always, expected) in rows {
        let mut day = good_day();
        let budget = BudgetView {
            disruptions_allowed: allowed,
            current_healthy: healthy,
            desired_healthy: desired,
            always_allow_unhealthy: always,
            ..covering(1).remove(0)
        };
        day.seen().pods = vec![pod(ready)];
        day.seen().budgets = vec![budget];
        let judged = day.judge();
        let found = match &judged {
            Ok(()) => "ok",
            Err(refusal @ Refusal::BudgetNotNow { .. }) if !refusal.lasting() => "not-now",
            Err(refusal @ Refusal::BudgetNever { .. }) if refusal.lasting() => "never",
            Err(_) => "other",
        };
        assert_eq!(found, expected, "ready {ready}, {healthy} of {desired}: {judged:?}");
    }
    // No budget at all: the floor alone holds.
    assert_eq!(good_day().judge(), Ok(()));
}

#[test]
fn a_replica_is_taken_away_only_while_it_is_ours_and_enough_stay() {
    let read = |replicas, ready| read_workload(replicas, ready);
    assert_eq!(lower_target(3, 2, &read(3, 3)), Ok(true));
    assert_eq!(lower_target(3, 2, &read(4, 4)), Ok(false), "somebody has set another number");
    let owned = WorkloadRead { replicas_owner: Some("KEDA".into()), ..read(3, 3) };
    assert_eq!(lower_target(3, 2, &owned), Ok(false));
    let set_by_another = WorkloadRead { scaled_by_us: false, ..read(3, 3) };
    assert_eq!(lower_target(3, 2, &set_by_another), Ok(false), "the same number, and somebody means it");
    assert_eq!(lower_target(3, 2, &read(3, 0)), Err(Refusal::Floor { ready_after: 0, floor: 1 }));
    assert_eq!(lower_target(2, 1, &read(2, 1)), Ok(true), "the one that is not ready goes");
}

fn read_pod() -> PodRead {
    PodRead { uid: "u1".into(), resource_version: "5".into(), ready: true, terminating: false }
}

fn read_workload(replicas: u32, ready: u32) -> WorkloadRead {
    WorkloadRead {
        resource_version: "7".into(),
        replicas,
        ready,
        rolls_away: 1,
        rollout: None,
        paused: false,
        memory_limits: [("coredns".to_owned(), 170 * MI)].into(),
        memory_owner: None,
        replicas_owner: None,
        scaled_by_us: true,
    }
}

#[test]
fn the_pod_read_again_must_be_the_one_that_was_judged() {
    assert_eq!(pod_target("u1", "5", Some(&read_pod())), Ok(()));
    assert_eq!(pod_target("u1", "5", None), Err(Refusal::TargetGone));
    let changed = |read: PodRead| matches!(pod_target("u1", "5", Some(&read)), Err(Refusal::TargetChanged(_)));
    assert!(changed(PodRead { uid: "u2".into(), ..read_pod() }));
    assert!(changed(PodRead { terminating: true, ..read_pod() }));
    assert!(changed(PodRead { resource_version: "6".into(), ..read_pod() }));
    let unversioned = PodRead { resource_version: String::new(), ..read_pod() };
    assert!(pod_target("u1", "", Some(&unversioned)).is_err());
}

#[test]
fn enough_ready_pods_stay() {
    // Desired, ready, whether the pod itself counts as ready, allowed.
    let rows = [
        (1, 1, true, false),
        (1, 1, false, true),
        (2, 2, true, true),
        (2, 1, true, false),
        (2, 1, false, true),
        (2, 0, false, false),
        (3, 3, true, true),
        (3, 2, true, false),
        (5, 4, true, true),
        (5, 3, true, false),
        (0, 0, true, false),
    ];
    for (desired, ready, counts, allowed) in rows {
        let pod = PodRead { ready: counts, ..read_pod() };
        let judged = floor(&pod, Some(&read_workload(desired, ready)));
        assert_eq!(judged.is_ok(), allowed, "{desired} {ready} {counts}: {judged:?}");
    }
    assert_eq!(floor(&read_pod(), None), Err(Refusal::TargetGone));
    let rolling = WorkloadRead { rollout: Some("x".into()), ..read_workload(3, 3) };
    assert!(matches!(floor(&read_pod(), Some(&rolling)), Err(Refusal::Rollout(_))));
    let paused = WorkloadRead { paused: true, ..read_workload(3, 3) };
    assert_eq!(floor(&read_pod(), Some(&paused)), Err(Refusal::Paused));
}

#[test]
fn the_memory_limit_read_again_must_be_ours_to_raise() {
    let settings = Remedy::default();
    let judge = |read: Option<WorkloadRead>| memory_target(&settings, "coredns", 170 * MI, 340 * MI, read.as_ref());
    assert_eq!(judge(Some(read_workload(2, 0))), Ok(()));
    assert_eq!(judge(None), Err(Refusal::TargetGone));
    let owned = WorkloadRead { memory_owner: Some("Argo CD".into()), ..read_workload(2, 2) };
    assert_eq!(judge(Some(owned)), Err(Refusal::OwnedBy("Argo CD".into())));
    let raised = WorkloadRead { memory_limits: [("coredns".to_owned(), 340 * MI)].into(), ..read_workload(2, 2) };
    assert!(matches!(judge(Some(raised)), Err(Refusal::TargetChanged(_))));
    // Replicas, ready, taken away at a time, allowed: what is not ready cannot be lost.
    for (replicas, ready, rolls_away, allowed) in [
        (2, 2, 1, true),
        (2, 2, 2, false),
        (2, 0, 2, true),
        (1, 1, 1, false),
        (1, 0, 1, true),
        (1, 1, 0, true),
        (4, 4, 2, true),
        (4, 3, 3, false),
        (4, 1, 3, true),
    ] {
        let judged = judge(Some(WorkloadRead { rolls_away, ..read_workload(replicas, ready) }));
        assert_eq!(judged.is_ok(), allowed, "{replicas} {ready} {rolls_away}: {judged:?}");
    }
    let unlimited = WorkloadRead { memory_limits: [].into(), ..read_workload(2, 2) };
    assert_eq!(judge(Some(unlimited)), Err(Refusal::LimitUnknown));
}
