//! What counts against a target's tries and against the slot of ten minutes, and what does not.

use super::*;

fn case() -> facts::Case {
    cases().pop().unwrap()
}

/// A CoreDNS pod comes and goes: its address is to be looked after.
fn rollout(rig: &mut Rig) {
    let mut before = facts::targets();
    before.pods.push(nameward_messages::targets::DnsPod {
        uid: "dns-9".into(),
        ips: vec![facts::dead_flow().reply.source.ip()],
        ..before.pods[0].clone()
    });
    rig.spoil_again();
    rig.tell(Input::Targets(Arc::new(before)));
    rig.tell(Input::Targets(Arc::new(facts::targets())));
}

fn done(rig: &Rig) -> usize {
    rig.outcomes().iter().filter(|o| **o == RemedyOutcome::Done).count()
}

fn verdict_now(rig: &Rig, case: &facts::Case) -> Input {
    let now = Now::at(rig.now.0);
    Input::Diagnosis(DiagnosisTells::Stands(Verdict { since: now, at: now, ..case.verdict.clone() }))
}

#[test]
fn after_care_leaves_the_repairs_their_tries_and_their_slot() {
    for restart in [false, true] {
        let case = case();
        let mut rig = Rig::quiet(&case, Mode::Act);
        for n in 1..=4 {
            rollout(&mut rig);
            rig.run(if n == 4 { 100 } else { 700 });
            assert_eq!(done(&rig), n, "{:?}", rig.told);
        }
        if restart {
            rig.restart();
        }
        rig.spoil_again();
        rig.tell(verdict_now(&rig, &case));
        rig.run(200);
        assert_eq!(done(&rig), 5, "restart: {restart}: {:?}", rig.told);
        assert!(rig.repaired());
    }
}

#[test]
fn after_care_waits_for_its_own_slot_and_for_the_repairs() {
    let case = case();
    let mut rig = Rig::quiet(&case, Mode::Act);
    rollout(&mut rig);
    rig.run(100);
    assert_eq!(done(&rig), 1, "{:?}", rig.told);
    rollout(&mut rig);
    rig.run(400);
    assert_eq!(done(&rig), 1, "ten minutes are not over: {:?}", rig.told);
    rig.run(300);
    assert_eq!(done(&rig), 2, "{:?}", rig.told);
    let (first, second) = (rig.applied_at[0], rig.applied_at[1]);
    assert!(second - first >= 600, "{first} and {second}");

    let mut rig = Rig::new(&case);
    rig.run(100);
    assert_eq!(done(&rig), 1, "a repair: {:?}", rig.told);
    assert!(rig.mind.cared.is_none() && rig.mind.tries.len() == 1);
}

#[test]
fn tries_of_a_node_age_and_those_of_a_pod_do_not() {
    for (case, wanted) in [(cases().remove(0), 0), (cases().remove(8), 1)] {
        for restart in [false, true] {
            let mut rig = Rig::new(&case);
            rig.dns_good = false;
            rig.run(7000);
            assert_eq!(done(&rig), 3, "{}: {:?}", case.name, rig.told);
            if restart {
                rig.restart();
                rig.told.clear();
            }
            let before = done(&rig);
            rig.dns_good = true;
            rig.run(24 * 3600);
            rig.tell(verdict_now(&rig, &case));
            rig.run(200);
            assert_eq!(done(&rig) - before, wanted, "{}, restart: {restart}: {:?}", case.name, rig.told);
        }
    }
}
