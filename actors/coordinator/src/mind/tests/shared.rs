//! The one shared remedy: what is lost, late, half said or never ends.

use nameward_messages::cluster_view::{DnsContainerView, WorkloadView};
use nameward_messages::plan::{PlanEnd, SharedAct};
use nameward_messages::remedy::Mode;
use nameward_messages::report::RequestAnswer;

use super::*;

use nameward_messages::RequestId;

pub(super) const MI: u64 = 1 << 20;

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("kube-system", name)
}

pub(super) fn pod(name: &str, node: &str, limit: Option<u64>) -> DnsPodView {
    DnsPodView {
        containers: vec![DnsContainerView {
            name: "coredns".into(),
            memory_limit: limit,
            memory_applied: limit,
            restarts: 0,
            oom_killed_at: None,
        }],
        ..crate::testing::pod(name, node)
    }
}

pub(super) fn workload(limit: u64) -> WorkloadView {
    WorkloadView { memory_limit: Some(limit), ..crate::testing::workload() }
}

/// Two nodes, a CoreDNS pod on each; every report is fresh and the cool-down is over.
pub(super) fn acting() -> Rig {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    let mut rig = rig(2);
    rig.mind = CoordinatorMind::new(Arc::new(config));
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    rig.view.pods = vec![pod("a", "node1", Some(170 * MI)), pod("b", "node2", Some(170 * MI))];
    rig.view.workload = Some(workload(170 * MI));
    rig.pass(70);
    (1..=2).for_each(|n| rig.report(n, |_| {}));
    rig
}

pub(super) fn plans(rig: &Rig) -> Vec<&Plan> {
    rig.out.iter().filter_map(|o| if let Output::Plan(plan) = o { Some(plan) } else { None }).collect()
}

fn asked(rig: &Rig, node: usize) -> Option<RequestId> {
    rig.view.agents[node - 1].orders.requests.first().map(|r| r.id.clone())
}

/// What one node's host and two pods say of one CoreDNS pod.
fn rows(pod: &str, udp: bool) -> Vec<nameward_messages::report::MatrixRow> {
    use nameward_messages::namespaces::VantageKind::{Host, Pod};
    use nameward_messages::targets::Transport::{Tcp, Udp};
    let row = |transport, from, count, good| nameward_messages::report::MatrixRow {
        target: "pod".into(),
        pod: Some(pod.into()),
        ip: [10, 244, 1, 2].into(),
        transport,
        question: nameward_messages::probe::QuestionKind::Internal,
        from,
        good: if good { count } else { 0 },
        bad: if good { 0 } else { count },
        outcome: None,
        latency_us: None,
    };
    vec![row(Udp, Host, 1, udp), row(Udp, Pod, 2, udp), row(Tcp, Host, 1, true), row(Tcp, Pod, 2, true)]
}

pub(super) fn answer(rig: &mut Rig, bad: &[&str]) {
    let pods: Vec<String> = rig.view.pods.iter().map(|p| p.uid.0.clone()).collect();
    for node in 1..=2 {
        let Some(id) = asked(rig, node) else { continue };
        let rows = pods.iter().flat_map(|uid| rows(uid, !bad.contains(&uid.as_str()))).collect();
        rig.report(node, |r| r.answers = vec![RequestAnswer { id, rows }]);
    }
}

/// Pod `a` is deaf; time passes until the nodes are asked.
fn until_asked() -> Rig {
    let mut rig = acting();
    rig.claim(1, Cause::CorednsUdpDead, &Subject::pod(&key("a"), &"a".into()));
    rig.pass(35);
    assert!(asked(&rig, 1).is_some());
    rig
}

fn until_planned() -> Rig {
    let mut rig = until_asked();
    answer(&mut rig, &["a"]);
    rig.pass(2);
    assert_eq!(plans(&rig).len(), 1);
    rig
}

pub(super) fn end(rig: &mut Rig, end: PlanEnd) {
    let incident = rig.view.incidents[0].name.clone();
    let retry_after = Duration::from_secs(600);
    rig.tell(Input::Shared(SharedRemedyTells::Ended { incident, end, retry_after }));
}

#[test]
fn what_was_only_observed_is_taken_up_when_the_mode_becomes_act() {
    for restarted in [false, true] {
        let mut rig = until_planned();
        let incident = rig.view.incidents[0].name.clone();
        let record = RemedyRecord {
            kind: RemedyKind::EvictPod,
            subject: Subject::pod(&key("a"), &"a".into()),
            mode: Mode::Observe,
            outcome: RemedyOutcome::WouldAct,
            detail: "would evict".into(),
            at: rig.now.wall,
        };
        rig.tell(Input::Shared(SharedRemedyTells::Record { incident, record, reason: None }));
        end(&mut rig, PlanEnd::WouldAct);
        let (observing, acting) = (Config::default(), Arc::clone(&rig.mind.config));
        rig.tell(Input::Configure(Arc::new(observing)));
        rig.pass(100);
        assert_eq!(plans(&rig).len(), 1, "observed once");
        if restarted {
            rig.mind = CoordinatorMind::new(acting);
            rig.tell(Input::KillSwitch(KillSwitch::Off));
            rig.pass(5);
            (1..=2).for_each(|n| rig.report(n, |_| {}));
        } else {
            rig.tell(Input::Configure(acting));
        }
        for _ in 0..100 {
            answer(&mut rig, &["a"]);
            rig.pass(1);
        }
        assert_eq!(plans(&rig).len(), 2, "restarted: {restarted}");
    }
}

#[test]
fn a_verification_that_ends_worse_or_without_answers_opens_the_breaker() {
    // The pod that was good before is deaf now, too; nobody says anything; it was good just after the act, and then nobody says more.
    for (answers, deaf) in [(50, &["b", "c"][..]), (0, &[]), (5, &["c"])] {
        let mut rig = until_planned();
        end(&mut rig, PlanEnd::Done);
        rig.view.pods[0] = pod("c", "node1", Some(170 * MI));
        for _ in 0..answers {
            answer(&mut rig, deaf);
            rig.pass(1);
        }
        rig.pass(70);
        assert_eq!(rig.phases()[0].1, IncidentPhase::Escalated);
        assert!(rig.mind.breaker_until.is_some(), "{:#?}", rig.view.incidents[0].status.ladder);
        // A new leader finds the breaker where the old one left it.
        let mut next = acting();
        next.now = rig.now;
        next.view = rig.view.clone();
        next.mind = CoordinatorMind::new(Arc::clone(&rig.mind.config));
        next.pass(2);
        assert!(next.mind.breaker_until.is_some_and(|until| until > next.now.mono));
    }
}

#[test]
fn a_remedy_that_is_refused_for_ten_minutes_calls_a_person_once_and_is_still_tried() {
    let mut rig = until_asked();
    for _ in 0..1300 {
        // Node 2 never answers: no answer is the last word.
        if let Some(id) = asked(&rig, 1) {
            let seen = rows("a", false).into_iter().chain(rows("b", true)).collect();
            rig.report(1, |r| r.answers = vec![RequestAnswer { id, rows: seen }]);
        }
        rig.report(2, |_| {});
        rig.pass(1);
    }
    assert_eq!(rig.events("DnsNeedsAPerson"), 1);
    assert_eq!(rig.phases(), [(Cause::CorednsUdpDead, IncidentPhase::Open)]);
    assert!(plans(&rig).is_empty());
    // It answers after all.
    for _ in 0..60 {
        answer(&mut rig, &["a"]);
        rig.pass(1);
    }
    assert_eq!(plans(&rig).len(), 1);
}

#[test]
fn an_hour_whose_budget_is_spent_calls_a_person_at_once_and_a_short_wait_does_not() {
    for (left, called) in [(Duration::from_secs(300), 0), (Duration::from_secs(1800), 1)] {
        let mut rig = until_planned();
        let incident = rig.view.incidents[0].name.clone();
        let tells = SharedRemedyTells::Ended { incident, end: PlanEnd::Refused, retry_after: left };
        rig.tell(Input::Shared(tells));
        rig.pass(5);
        assert_eq!(rig.events("DnsNeedsAPerson"), called, "{left:?}");
        assert_eq!(rig.phases(), [(Cause::CorednsUdpDead, IncidentPhase::Open)], "it is tried all the same");
    }
}

#[test]
fn the_word_of_an_act_that_was_lost_does_not_cost_its_verification() {
    let mut rig = until_planned();
    // The executor's record reached the API server; what it told was dropped from a full inbox.
    rig.view.incidents[0].status.phase = IncidentPhase::Verifying;
    rig.view.pods[0] = pod("c", "node1", Some(170 * MI));
    rig.pass(130);
    assert_eq!(rig.phases()[0].1, IncidentPhase::Verifying);
    for _ in 0..10 {
        answer(&mut rig, &[]);
        rig.pass(1);
    }
    let ladder = &rig.view.incidents[0].status.ladder;
    assert!(ladder.iter().any(|r| r.outcome == RemedyOutcome::Verified), "{ladder:#?}");
}

#[test]
fn answers_leave_time_to_act_whatever_is_configured() {
    let mut rig = acting();
    let mut config = (*rig.mind.config).clone();
    config.coordinator.answer_within = nameward_config::Period::secs(120);
    rig.tell(Input::Configure(Arc::new(config)));
    rig.claim(1, Cause::CorednsUdpDead, &Subject::pod(&key("a"), &"a".into()));
    rig.pass(35);
    let at = rig.now.mono;
    let within = rig.view.agents[0].orders.requests[0].within_s;
    answer(&mut rig, &["a"]);
    rig.pass(2);
    assert!(within <= 15, "{within}");
    assert!(plans(&rig)[0].deadline.since(at) >= Duration::from_secs(10));
}

#[test]
fn a_raise_lowers_no_pod_and_answers_the_kills_before_it() {
    let mut rig = acting();
    rig.view.pods.push(pod("big", "node2", Some(1024 * MI)));
    rig.view.pods.push(pod("boundless", "node1", None));
    // The cool-down begins anew with them.
    rig.pass(60);
    rig.view.pods[0].containers[0].oom_killed_at = Some(rig.now.wall);
    rig.pass(40);
    let resized = |plan: &Plan| match &plan.act {
        SharedAct::RaiseMemory { resize, to, .. } => (resize.iter().map(|(k, _)| k.name.clone()).collect(), *to),
        _ => (vec![], 0),
    };
    assert_eq!(plans(&rig).iter().map(|p| resized(p)).collect::<Vec<_>>(), [(vec!["a".into(), "b".into()], 340 * MI)]);
    // Carried out; `a` was resized where it runs, and its status still shows the kill. Then another process leads.
    let record = RemedyRecord {
        kind: RemedyKind::RaiseMemory,
        subject: Subject::object(SubjectKind::Deployment, &key("coredns")),
        mode: Mode::Act,
        outcome: RemedyOutcome::Done,
        detail: "raised".into(),
        at: rig.now.wall,
    };
    rig.view.incidents[0].status.ladder.push(record);
    rig.view.incidents[0].status.phase = IncidentPhase::Resolved;
    rig.view.workload = Some(workload(340 * MI));
    rig.view.pods[0].containers[0].memory_limit = Some(340 * MI);
    rig.mind = CoordinatorMind::new(Arc::clone(&rig.mind.config));
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    rig.pass(500);
    assert_eq!(plans(&rig).len(), 1);
    // A kill at the new limit is another matter, once enough nodes are known to speak.
    rig.view.pods[1].containers[0].memory_limit = Some(340 * MI);
    rig.view.pods[1].containers[0].oom_killed_at = Some(rig.now.wall);
    rig.pass(40);
    assert_eq!(plans(&rig).len(), 1, "nobody could say whether it helped");
    (1..=rig.view.agents.len()).for_each(|n| rig.report(n, |_| {}));
    rig.pass(40);
    assert_eq!(resized(plans(&rig)[1]).1, 680 * MI);
}

#[test]
fn what_a_silent_node_said_of_a_pod_that_is_gone_holds_no_incident_open() {
    let mut rig = acting();
    rig.claim(1, Cause::CorednsUdpDead, &Subject::pod(&key("a"), &"a".into()));
    rig.pass(10);
    assert_eq!(rig.phases(), [(Cause::CorednsUdpDead, IncidentPhase::Open)]);
    // The node dies with its agent; the pod is replaced elsewhere.
    rig.report(1, |r| r.self_check = false);
    rig.pass(30);
    assert_eq!(rig.phases(), [(Cause::CorednsUdpDead, IncidentPhase::Open)]);
    rig.view.pods[0] = pod("c", "node2", Some(170 * MI));
    rig.pass(10);
    assert_eq!(rig.phases(), [(Cause::CorednsUdpDead, IncidentPhase::Resolved)]);
}

#[test]
fn what_is_unexplained_beside_a_named_cause_opens_no_incident_of_its_own() {
    let mut rig = acting();
    let subject = Subject::pod(&key("a"), &"a".into());
    rig.claim(1, Cause::CorednsUdpDead, &subject);
    rig.pass(5);
    for left_over in [subject, node_subject(1)] {
        let named = rig.view.agents[0].report.as_ref().unwrap().verdicts[0].clone();
        let strange = ReportedVerdict { cause: Cause::Unexplained, subject: left_over, ..named.clone() };
        rig.report(1, |r| r.verdicts = vec![named, strange]);
        rig.pass(10);
        assert_eq!(rig.phases(), [(Cause::CorednsUdpDead, IncidentPhase::Open)]);
    }
    // It is left alone when the named cause ends.
    rig.report(1, |r| r.verdicts.retain(|v| v.cause == Cause::Unexplained));
    rig.pass(10);
    assert_eq!(
        rig.phases(),
        [(Cause::CorednsUdpDead, IncidentPhase::Resolved), (Cause::Unexplained, IncidentPhase::Escalated)]
    );
}

/// Pod `a` was evicted and `c` came instead; then another process leads, whose clock is behind.
fn led_by_another(bad: &[&str]) -> Rig {
    let mut rig = until_planned();
    let record = RemedyRecord {
        kind: RemedyKind::EvictPod,
        subject: Subject::pod(&key("a"), &"a".into()),
        mode: Mode::Act,
        outcome: RemedyOutcome::Done,
        detail: "evicted".into(),
        at: rig.now.wall,
    };
    rig.view.incidents[0].status.ladder.push(record);
    rig.view.incidents[0].status.phase = IncidentPhase::Verifying;
    rig.view.pods[0] = pod("c", "node1", Some(170 * MI));
    rig.mind = CoordinatorMind::new(Arc::clone(&rig.mind.config));
    rig.now.wall -= jiff::SignedDuration::from_mins(10);
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    for _ in 0..70 {
        answer(&mut rig, bad);
        rig.pass(1);
    }
    rig
}

#[test]
fn an_act_of_another_leader_that_made_things_worse_opens_the_breaker() {
    for (bad, worse) in [(&["b", "c"][..], true), (&["c"][..], false)] {
        let rig = led_by_another(bad);
        assert_eq!(rig.phases()[0].1, IncidentPhase::Escalated);
        assert_eq!(rig.mind.breaker_until.is_some(), worse, "{:#?}", rig.view.incidents[0].status.ladder);
    }
}

#[test]
fn what_fell_ill_before_an_act_was_taken_over_may_be_what_it_brought() {
    let mut rig = acting();
    rig.view.pods[0].containers[0].oom_killed_at = Some(rig.now.wall);
    rig.pass(40);
    assert!(matches!(plans(&rig)[0].act, SharedAct::RaiseMemory { .. }));
    rig.claim(2, Cause::CorednsUdpDead, &Subject::pod(&key("b"), &"b".into()));
    rig.pass(20);
    assert!(rig.phases().contains(&(Cause::CorednsUdpDead, IncidentPhase::Open)), "{:?}", rig.phases());
    // Whoever takes it over writes down when it found the act.
    let raise = rig.view.incidents.iter_mut().find(|i| i.spec.cause == Cause::CorednsOomKilled).unwrap();
    raise.status.ladder.push(RemedyRecord {
        kind: RemedyKind::RaiseMemory,
        subject: raise.spec.subject.clone(),
        mode: Mode::Act,
        outcome: RemedyOutcome::Done,
        detail: "raised".into(),
        at: rig.now.wall,
    });
    raise.status.phase = IncidentPhase::Verifying;
    rig.view.workload = Some(workload(340 * MI));
    rig.mind = CoordinatorMind::new(Arc::clone(&rig.mind.config));
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    for _ in 0..70 {
        answer(&mut rig, &["b"]);
        rig.pass(1);
    }
    assert!(rig.mind.breaker_until.is_some(), "{:#?}", rig.view.incidents);
}

#[test]
fn the_breaker_of_another_leader_holds_whatever_the_clocks_say() {
    for minutes in [-10, 0, 10] {
        let before = led_by_another(&["b", "c"]);
        let mut rig = acting();
        rig.now = before.now;
        rig.now.wall += jiff::SignedDuration::from_mins(minutes);
        rig.view = before.view.clone();
        rig.mind = CoordinatorMind::new(Arc::clone(&before.mind.config));
        rig.tell(Input::KillSwitch(KillSwitch::Off));
        rig.pass(590);
        let open = |rig: &Rig| rig.mind.breaker_until.is_some_and(|until| rig.now.mono < until);
        assert!(open(&rig), "{minutes}");
        // Seen once, it counts once.
        rig.pass(20);
        assert!(!open(&rig), "{minutes}");
    }
}

#[test]
fn a_raise_of_memory_that_made_things_worse_opens_the_breaker() {
    for (liar, bad, worse) in [(false, &["a", "b"][..], true), (true, &["a", "b"][..], true), (false, &[][..], false)] {
        let mut rig = acting();
        // What another node says of the pods does not make them sick before the act.
        // Nor does what its own node says, if the others reach it.
        for (node, uid) in [(2, "a"), (1, "b"), (1, "a")].into_iter().filter(|_| liar) {
            rig.claim(node, Cause::CorednsUdpDead, &Subject::pod(&key(uid), &uid.into()));
        }
        rig.view.pods[0].containers[0].oom_killed_at = Some(rig.now.wall);
        rig.pass(40);
        assert!(matches!(plans(&rig)[0].act, SharedAct::RaiseMemory { .. }));
        end(&mut rig, PlanEnd::Done);
        for _ in 0..65 {
            answer(&mut rig, bad);
            rig.pass(1);
        }
        assert_eq!(rig.mind.breaker_until.is_some(), worse, "{:#?}", rig.view.incidents[0].status.ladder);
    }
}

#[test]
fn a_rollout_that_no_view_shows_begins_the_cool_down_anew_and_a_step_of_an_autoscaler_does_not() {
    type Change = fn(&mut ClusterView);
    fn new(name: &str, ready: bool, owner: Option<&str>) -> DnsPodView {
        DnsPodView { ready, owner: owner.map(str::to_owned), ..pod(name, "node2", Some(170 * MI)) }
    }
    // What changes between two views; whether the eviction waits for a cool-down then.
    let changes: [(&str, Change, bool); 7] = [
        ("replaced", |view| view.pods[1] = new("c", true, None), true),
        ("another ReplicaSet", |view| view.pods.push(new("c", false, Some("ReplicaSet/coredns-2"))), true),
        ("the workload made anew", |view| view.workload.as_mut().unwrap().uid = "w2".into(), true),
        (
            "a DaemonSet's template",
            |view| {
                let workload = view.workload.as_mut().unwrap();
                workload.generation += 1;
                workload.kind = nameward_messages::cluster_view::WorkloadKind::DaemonSet;
            },
            true,
        ),
        ("a step of an autoscaler", |view| view.workload.as_mut().unwrap().generation += 1, false),
        ("one that does not come up", |view| view.pods.push(new("c", false, None)), false),
        ("one that went", |view| drop(view.pods.pop_if(|p| p.uid.as_str() == "extra")), false),
    ];
    for (what, change, waits) in changes {
        let mut rig = acting();
        rig.view.pods.push(new("extra", true, None));
        rig.pass(90);
        rig.claim(1, Cause::CorednsUdpDead, &Subject::pod(&key("a"), &"a".into()));
        rig.pass(35);
        assert!(asked(&rig, 1).is_some(), "{what}");
        change(&mut rig.view);
        rig.pass(1);
        answer(&mut rig, &["a"]);
        rig.pass(50);
        assert_eq!(plans(&rig).is_empty(), waits, "{what}");
        for _ in 0..60 {
            answer(&mut rig, &["a"]);
            rig.pass(1);
        }
        assert_eq!(plans(&rig).len(), 1, "{what}");
    }
}

#[test]
fn pods_that_come_and_go_all_the_time_hold_shared_remedies_back_for_minutes_and_not_for_ever() {
    // Once a minute the pod on node 2 is replaced: by one that becomes ready, by one that never does.
    for ready in [true, false] {
        let mut rig = acting();
        rig.claim(1, Cause::CorednsUdpDead, &Subject::pod(&key("a"), &"a".into()));
        let spare = |n: usize| DnsPodView { ready, ..pod(&format!("spare-{n}"), "node2", Some(170 * MI)) };
        rig.view.pods.push(spare(0));
        let mut planned = None;
        for second in 1..900 {
            if second % 30 == 0 {
                rig.view.pods[2] = spare(second);
            }
            answer(&mut rig, &["a"]);
            rig.pass(1);
            planned = planned.or((!plans(&rig).is_empty()).then_some(second));
        }
        let planned = planned.expect("an eviction in the end");
        let (least, most) = if ready { (120, 260) } else { (30, 60) };
        assert!((least..=most).contains(&planned), "ready: {ready}, planned after {planned} s");
    }
}

#[test]
fn the_nodes_are_asked_about_pods_that_may_be_good_before_those_that_cannot() {
    let mut rig = acting();
    for n in 0..9 {
        rig.view.pods.insert(1, DnsPodView { ready: false, ..pod(&format!("waits-{n}"), "node2", Some(170 * MI)) });
    }
    rig.claim(1, Cause::CorednsUdpDead, &Subject::pod(&key("a"), &"a".into()));
    rig.pass(40);
    let asked: Vec<&str> = rig.view.agents[0].orders.requests[0].pods.iter().map(|uid| uid.as_str()).collect();
    assert_eq!((asked[0], asked[1], asked.len()), ("a", "b", 8), "{asked:?}");
}
