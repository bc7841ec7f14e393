use super::*;

fn rests(rig: &Rig) -> bool {
    rig.mind.rest_until.is_some_and(|until| until > rig.now.mono)
}

#[test]
fn a_mind_rests_where_nothing_can_come_of_a_decision_and_no_longer_than_that() {
    let mut rig = rig(3);
    rig.pass(70);
    assert!(rests(&rig), "every node speaks and says nothing");
    let upstream = Subject { kind: SubjectKind::Upstream, namespace: None, name: "192.0.2.53".into(), uid: None };
    rig.claim(1, Cause::UpstreamDead, &upstream);
    rig.pass(1);
    assert!(!rests(&rig), "a word is to become old enough");
    rig.pass(5);
    assert_eq!(rig.phases(), [(Cause::UpstreamDead, IncidentPhase::Escalated)]);
    rig.pass(70);
    assert!(rests(&rig), "a person was called, and time alone changes nothing");
    // The reports become too old to be listened to: the rest ends by then.
    let stale_after = Config::default().coordinator.stale_after.0;
    let oldest = rig.view.agents.iter().map(|agent| agent.changed_at).min().unwrap();
    assert!(rig.mind.rest_until.unwrap() <= oldest + stale_after);
}

#[test]
fn a_write_that_ended_and_a_tick_before_its_time_decide_nothing() {
    let mut rig = rig(2);
    rig.pass(3);
    let told = rig.out.len();
    rig.report(1, |report| report.sequence += 1);
    rig.now = rig.now + Duration::from_millis(1);
    rig.tell(Input::Wrote { what: Written::Orders(NodeName("node1".into())), done: false });
    rig.tell(Input::Tick);
    rig.tell(Input::PausedHere(false));
    assert_eq!(rig.out.len(), told);
    assert!(rig.mind.hold.contains_key(&Written::Orders(NodeName("node1".into()))), "it is not tried again at once");
}
