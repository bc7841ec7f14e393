//! A replica that is added, taken away again, or no longer ours; and kube-proxy's pod.

use nameward_messages::plan::AddedReplica;
use nameward_messages::verdict::SubjectKind;

use super::*;

fn deployment() -> (Subject, ObjectKey) {
    let key = ObjectKey::new("kube-system", "coredns");
    (Subject::object(SubjectKind::Deployment, &key), key)
}

fn add(rig: &Rig) -> Plan {
    let (subject, workload) = deployment();
    let act = SharedAct::AddReplica { workload, resource_version: "7".into(), from: 2 };
    Plan { subject, act, deadline: rig.now.mono + Duration::from_secs(20), ..plan() }
}

fn lower(rig: &Rig) -> Plan {
    let (subject, workload) = deployment();
    let act = SharedAct::LowerReplicas { workload, from: 3, to: 2 };
    Plan { subject, act, deadline: rig.now.mono + Duration::from_secs(20), ..plan() }
}

fn standing(rig: &mut Rig) {
    let (_, workload) = deployment();
    rig.status.added = Some(AddedReplica { workload, before: 2, after: 3, at: rig.now.wall });
    rig.workload.replicas = 3;
    rig.workload.scaled_by_us = true;
    rig.workload.ready = 3;
    rig.tell(Input::View(view(rig.now, &rig.status)));
}

#[test]
fn a_replica_is_added_by_the_scale_and_what_to_restore_is_written() {
    let mut rig = rig();
    rig.tell(Input::Plan(add(&rig)));
    rig.finish();
    let steps = ["read-incident", "write-intent", "list-incidents", "read-workload", "rehearse-scale", "scale"];
    assert_eq!(rig.calls[..6], steps);
    assert_eq!((rig.end(), rig.outcomes()), (Some(PlanEnd::Done), vec![RemedyOutcome::Done]));
    let added = rig.status.added.clone().unwrap();
    assert_eq!((added.before, added.after, rig.status.phase), (2, 3, IncidentPhase::Verifying));
}

#[test]
fn an_added_replica_without_a_clear_answer_is_looked_at_and_not_added_again() {
    // The number that is read then, and whether it is known to be ours: the third was lost, and a person set the same number.
    for (replicas, ours, there) in [(3, true, true), (2, false, false), (3, false, false)] {
        let mut rig = rig();
        rig.tell(Input::Plan(add(&rig)));
        while rig.calls.last() != Some(&"scale") {
            let result = rig.reply();
            rig.answer(result);
        }
        (rig.workload.replicas, rig.workload.scaled_by_us) = (replicas, ours);
        rig.answer(Err(CallError::Unknown("time-out".into())));
        assert_eq!(rig.calls.last(), Some(&"read-workload"));
        rig.finish();
        assert_eq!(rig.calls.iter().filter(|c| **c == "scale").count(), 1);
        assert_eq!(rig.status.added.is_some(), there);
        assert_eq!(rig.end(), Some(if there { PlanEnd::Done } else { PlanEnd::Failed }));
    }
}

#[test]
fn an_intent_to_add_that_a_crash_left_is_verified_and_what_was_added_is_known() {
    let mut rig = rig();
    let (subject, _) = deployment();
    rig.status.intent = Some(Intent {
        kind: RemedyKind::AddReplica,
        subject,
        from: Some(2),
        to: Some(3),
        ..intent_of_another(rig.now)
    });
    rig.status.phase = IncidentPhase::Remediating;
    (rig.workload.replicas, rig.workload.scaled_by_us) = (3, true);
    rig.tell(Input::View(view(rig.now, &rig.status)));
    rig.now = rig.now + Duration::from_secs(21);
    rig.tell(leads(rig.now));
    rig.finish();
    assert_eq!(rig.calls, ["read-incident", "read-workload", "read-incident", "write-record"]);
    assert_eq!(rig.status.added.as_ref().map(|a| (a.before, a.after)), Some((2, 3)));
}

#[test]
fn it_is_taken_away_again_also_when_a_person_was_called_and_no_budget_is_spent() {
    for phase in [IncidentPhase::Open, IncidentPhase::Escalated] {
        let mut rig = rig();
        rig.status.phase = phase;
        standing(&mut rig);
        rig.tell(Input::Plan(lower(&rig)));
        rig.finish();
        assert_eq!((rig.end(), rig.outcomes()), (Some(PlanEnd::Undone), vec![RemedyOutcome::Undone]));
        assert_eq!((rig.status.added.clone(), rig.status.phase), (None, phase));
        assert_eq!(rig.calls.iter().filter(|c| **c == "scale").count(), 1);
        rig.status.phase = IncidentPhase::Open;
        rig.tell(Input::View(view(rig.now, &rig.status)));
        rig.tell(leads(rig.now));
        rig.tell(Input::Plan(Plan { deadline: rig.now.mono + Duration::from_secs(20), ..plan() }));
        assert!(rig.mind.busy(), "an undo is no try: {:?}", rig.tells.last());
    }
}

#[test]
fn a_number_that_somebody_has_set_since_is_left_as_it_is() {
    // Another number, or the same by another hand.
    for (replicas, ours) in [(5, false), (5, true), (3, false)] {
        let mut rig = rig();
        standing(&mut rig);
        (rig.workload.replicas, rig.workload.scaled_by_us) = (replicas, ours);
        rig.tell(Input::Plan(lower(&rig)));
        rig.finish();
        assert!(!rig.calls.iter().any(|c| c.ends_with("scale")), "{:?}", rig.calls);
        assert_eq!((rig.end(), rig.status.added.clone()), (Some(PlanEnd::Undone), None));
    }
}

#[test]
fn the_pod_of_kube_proxy_is_evicted_as_a_coredns_pod_is_and_no_floor_is_asked() {
    let mut rig = rig();
    let node = Subject::node(&"node1".into());
    let (pod, uid, resource_version) = (ObjectKey::new("kube-system", "kube-proxy-x"), "u1".into(), "5".into());
    let act = SharedAct::RestartKubeProxy { node: "node1".into(), pod, uid, resource_version };
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    config.remedy.modes.insert(RemedyKind::RestartKubeProxy, Mode::Act);
    rig.tell(Input::Configure(Arc::new(config)));
    let cause = Cause::ServiceRulesMissing;
    let mut seen = (*view(rig.now, &rig.status)).clone();
    let mut report = (**seen.agents[0].report.as_ref().unwrap()).clone();
    report.verdicts[0].cause = cause;
    report.verdicts[0].subject = node.clone();
    seen.agents[0].report = Some(Arc::new(report));
    rig.tell(Input::View(Arc::new(seen)));
    rig.workload.ready = 0;
    rig.tell(Input::Plan(Plan { cause, subject: node, act, ..plan() }));
    rig.finish();
    let steps = ["read-incident", "write-intent", "list-incidents", "read-pod", "rehearse", "evict"];
    assert_eq!(rig.calls[..6], steps, "{:?}", rig.tells);
    assert_eq!(rig.outcomes(), [RemedyOutcome::Done]);
}
