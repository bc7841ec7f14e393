//! What others and earlier lives have left: intents, answers, incidents that went on meanwhile, acts that were half done.

use nameward_messages::verdict::SubjectKind;

use super::*;

#[test]
fn an_adopted_intent_is_not_taken_back_because_a_read_failed() {
    let mut rig = rig();
    rig.status.intent = Some(intent_of_another(rig.now));
    rig.status.phase = IncidentPhase::Remediating;
    rig.tell(Input::View(view(rig.now, &rig.status)));
    rig.now = rig.now + Duration::from_secs(21);
    rig.tell(leads(rig.now));
    assert_eq!(rig.calls, ["read-incident"]);
    rig.answer(Err(CallError::NotSent("no connection".into())));
    rig.finish();
    assert_eq!(rig.calls, ["read-incident", "read-incident", "read-pod", "read-incident", "write-record"]);
    assert_eq!((rig.end(), rig.outcomes()), (Some(PlanEnd::Failed), vec![RemedyOutcome::Failed]));
}

#[test]
fn an_intent_that_nothing_can_verify_does_not_stand_for_ever() {
    let deployment = Subject::object(SubjectKind::Deployment, &ObjectKey::new("kube-system", "coredns"));
    for (kind, subject) in [(RemedyKind::RaiseMemory, deployment.clone()), (RemedyKind::AddReplica, deployment)] {
        let mut rig = rig();
        rig.status.intent = Some(Intent { kind, subject, to: Some(2 << 20), ..intent_of_another(rig.now) });
        rig.status.phase = IncidentPhase::Remediating;
        // Cluster DNS has no workload any more.
        let gone = ClusterView { workload: None, ..(*view(rig.now, &rig.status)).clone() };
        rig.tell(Input::View(Arc::new(gone)));
        rig.now = rig.now + Duration::from_secs(21);
        rig.tell(leads(rig.now));
        for _ in 0..20 {
            match &rig.under_way {
                Some((_, ApiCall::ReadWorkload { .. })) => rig.answer(Ok(Reply::Workload(None))),
                Some(_) => {
                    let result = rig.reply();
                    rig.answer(result);
                }
                None => rig.tell(Input::Tick),
            }
        }
        assert_eq!((rig.status.intent.clone(), rig.status.phase), (None, IncidentPhase::Open), "{kind}");
        assert_eq!((rig.end(), rig.outcomes()), (Some(PlanEnd::Failed), vec![RemedyOutcome::Failed]), "{kind}");
    }
}

#[test]
fn the_limit_of_a_sidecar_says_nothing_about_an_unclear_raise() {
    let deployment = Subject::object(SubjectKind::Deployment, &ObjectKey::new("kube-system", "coredns"));
    let mut rig = rig();
    rig.status.intent = Some(Intent {
        kind: RemedyKind::RaiseMemory,
        subject: deployment,
        from: Some(1 << 20),
        to: Some(2 << 20),
        ..intent_of_another(rig.now)
    });
    rig.workload.memory_limits.insert("sidecar".into(), 1 << 30);
    rig.tell(Input::View(view(rig.now, &rig.status)));
    rig.now = rig.now + Duration::from_secs(21);
    rig.tell(leads(rig.now));
    rig.finish();
    assert_eq!(rig.outcomes(), [RemedyOutcome::Failed]);
}

#[test]
fn the_intent_of_another_is_not_cleared_with_our_record() {
    let mut rig = rig();
    rig.tell(Input::Plan(plan()));
    for _ in 0..7 {
        let result = rig.reply();
        rig.answer(result);
    }
    assert_eq!(rig.calls.last(), Some(&"read-incident"));
    // Another leader settled our intent and wrote its own while our act was slow.
    let theirs = intent_of_another(rig.now + Duration::from_secs(60));
    rig.status.intent = Some(theirs.clone());
    rig.finish();
    assert_eq!((rig.status.intent.clone(), rig.status.phase), (Some(theirs), IncidentPhase::Remediating));
    assert_eq!(rig.status.ladder.len(), 1);
}

#[test]
fn what_another_leader_has_settled_is_not_written_over_by_one_that_stood_still() {
    let mut rig = rig();
    rig.tell(Input::Plan(plan()));
    while rig.calls.last() != Some(&"evict") {
        let result = rig.reply();
        rig.answer(result);
    }
    // Stopped for a minute before the answer: the other leader has verified the act, and the incident is over.
    let intent = rig.status.intent.take().unwrap();
    let record = |outcome| RemedyRecord {
        kind: intent.kind,
        subject: intent.subject.clone(),
        mode: Mode::Act,
        outcome,
        detail: "as the target shows".into(),
        at: intent.at,
    };
    rig.status.ladder = vec![record(RemedyOutcome::Done)];
    rig.status.phase = IncidentPhase::Resolved;
    rig.now = rig.now + Duration::from_secs(60);
    rig.answer(Err(CallError::Unknown("no answer in time".into())));
    rig.finish();
    assert!(
        !rig.calls[rig.calls.iter().position(|c| *c == "evict").unwrap()..].contains(&"write-record"),
        "{:?}",
        rig.calls
    );
    assert_eq!((rig.status.ladder.len(), rig.status.phase), (1, IncidentPhase::Resolved));
}

#[test]
fn an_incident_that_is_under_verification_or_a_persons_is_not_acted_on_again() {
    for phase in [IncidentPhase::Verifying, IncidentPhase::Escalated, IncidentPhase::Resolved] {
        let mut rig = rig();
        rig.status.phase = phase;
        rig.tell(Input::Plan(plan()));
        rig.finish();
        assert_eq!((rig.calls.as_slice(), rig.end()), (["read-incident"].as_slice(), Some(PlanEnd::Refused)));
        assert_eq!(rig.status.phase, phase);
    }
}

#[test]
fn pods_that_were_resized_before_the_raise_was_stopped_are_recorded_as_a_try() {
    for (answer, outcome) in [
        (Ok(Reply::Accepted), RemedyOutcome::Failed),
        (Err(CallError::Unknown("time-out".into())), RemedyOutcome::Failed),
        (Err(CallError::NotFound), RemedyOutcome::Refused),
    ] {
        let mut rig = rig();
        let raise = Plan {
            cause: Cause::CorednsOomKilled,
            act: SharedAct::RaiseMemory {
                workload: ObjectKey::new("kube-system", "coredns"),
                resource_version: "7".into(),
                container: "coredns".into(),
                from: 1 << 20,
                to: 2 << 20,
                resize: vec![(key(), "u1".into())],
            },
            ..plan()
        };
        rig.tell(Input::Plan(raise));
        while rig.calls.last() != Some(&"resize") {
            let result = rig.reply();
            rig.answer(result);
        }
        rig.tell(Input::KillSwitch(KillSwitch::On));
        rig.answer(answer);
        rig.finish();
        assert_eq!((rig.outcomes(), rig.status.intent.clone()), (vec![outcome], None));
        assert_eq!(rig.calls.iter().filter(|c| **c == "patch").count(), 1, "the dry run alone");
        let ladder: Vec<_> = rig.status.ladder.iter().map(|r| r.outcome).collect();
        assert_eq!(ladder, [outcome]);
    }
}

#[test]
fn a_late_answer_of_an_earlier_life_is_not_taken_for_a_new_one() {
    let mut rig = rig();
    rig.tell(Input::Plan(plan()));
    let (old, _) = rig.under_way.take().unwrap();
    // Rebuilt after a panic: it is told again what is retained.
    rig.mind = SharedMind::new(Arc::clone(&rig.mind.config));
    for _ in 0..4 {
        rig.now = rig.now + Duration::from_secs(21);
        rig.tell(leads(rig.now));
        rig.tell(Input::KillSwitch(KillSwitch::Off));
        rig.tell(Input::View(view(rig.now, &rig.status)));
    }
    rig.tell(Input::Plan(Plan { deadline: rig.now.mono + Duration::from_secs(20), ..plan() }));
    rig.tell(Input::CallDone { call: old, result: Ok(Reply::Incident(None)) });
    assert!(rig.under_way.is_some() && rig.mind.busy());
    rig.finish();
    assert_eq!(rig.end(), Some(PlanEnd::Done));
}
