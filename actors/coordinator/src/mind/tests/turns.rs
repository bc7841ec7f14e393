//! Repairs of nodes are permitted one after the other, and what many nodes have is permitted to none.

use nameward_messages::plan::Permit;
use nameward_messages::remedy::Mode;

use super::*;
use crate::testing::workload;

/// So many nodes with standing permits, none sick; repairs act.
fn well(nodes: usize) -> Rig {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    let mut rig = rig(nodes);
    rig.mind = CoordinatorMind::new(Arc::new(config));
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    rig.view.workload = Some(workload());
    rig.pass(70);
    (1..=nodes).for_each(|n| rig.report(n, |_| {}));
    rig.pass(10);
    assert!(rig.view.agents.iter().all(|agent| agent.orders.permit.is_some()));
    assert!(turns(&rig).is_empty());
    rig
}

/// Which nodes may be repaired, by what stands in their orders.
fn turns(rig: &Rig) -> Vec<usize> {
    let turn = |permit: &Permit| !permit.causes.is_empty();
    let agents = rig.view.agents.iter().enumerate();
    agents.filter(|(_, agent)| agent.orders.permit.as_ref().is_some_and(turn)).map(|(n, _)| n + 1).collect()
}

fn sick(rig: &mut Rig, nodes: impl Iterator<Item = usize>) {
    nodes.for_each(|n| rig.claim(n, Cause::IpForwardOff, &node_subject(n)));
}

#[test]
fn nodes_are_repaired_one_after_the_other_however_many_are_sick() {
    let mut rig = well(100);
    // A fifth is no storm yet.
    sick(&mut rig, 61..=80);
    rig.pass(13);
    assert!(turns(&rig).is_empty(), "no turn before half of the wait is over");
    let mut before = Vec::new();
    for second in 0..230 {
        rig.pass(1);
        let now = turns(&rig);
        assert!(now.len() <= before.len() + 1, "{before:?}, then {now:?}");
        let most = second / 10 + 2;
        assert!(now.len() <= most, "{} turns after {second} s", now.len());
        before = now;
    }
    assert_eq!(before, (61..=80).collect::<Vec<_>>(), "everybody has had a turn");
    let permit = rig.view.agents[60].orders.permit.clone().unwrap();
    assert_eq!(permit.causes, [Cause::IpForwardOff]);
    // Repaired: the standing permit is renewed as everybody's, and allows no repair.
    (61..=80).for_each(|n| rig.report(n, |r| r.verdicts.clear()));
    rig.pass(310);
    assert!(turns(&rig).is_empty());
    assert!(rig.view.agents.iter().all(|agent| agent.orders.permit.is_some()));
}

#[test]
fn a_node_that_is_drained_has_no_turn_until_it_takes_pods_again() {
    let mut rig = well(4);
    sick(&mut rig, 2..=2);
    rig.pass(1);
    let read = |output: &Output| matches!(output, Output::ReadNode(node) if node.0 == "node2");
    assert!(rig.out.iter().any(read), "whether it is cordoned is looked at before it has its turn");
    let state = |unschedulable| Some(NodeState { ready: Some(true), unschedulable });
    for _ in 0..10 {
        rig.tell(Input::NodeRead { node: "node2".into(), state: state(true) });
        rig.pass(10);
        assert!(turns(&rig).is_empty());
    }
    rig.tell(Input::NodeRead { node: "node2".into(), state: state(false) });
    rig.pass(15);
    assert_eq!(turns(&rig), [2]);
}

#[test]
fn what_befalls_many_nodes_at_once_is_permitted_to_none() {
    let mut rig = well(60);
    sick(&mut rig, 1..=60);
    for _ in 0..120 {
        rig.pass(1);
        assert!(turns(&rig).is_empty());
    }
    assert!(rig.view.agents.iter().all(|agent| agent.orders.permit.is_none()));
}

#[test]
fn a_turn_is_taken_back_first_when_a_storm_begins() {
    let mut rig = well(200);
    // Their names come last.
    sick(&mut rig, 96..=99);
    rig.pass(60);
    assert_eq!(turns(&rig).len(), 4);
    sick(&mut rig, 1..=60);
    rig.pass(1);
    assert!(turns(&rig).is_empty());
    let standing = rig.view.agents.iter().filter(|agent| agent.orders.permit.is_some()).count();
    assert!(standing >= 140, "all others are told over seconds: {standing} have a permit still");
    rig.pass(10);
    assert!(rig.view.agents.iter().all(|agent| agent.orders.permit.is_none()));
}

#[test]
fn who_gets_no_turn() {
    type Change = fn(&mut Rig);
    let rows: [(&str, Cause, Change); 5] = [
        ("nothing is repaired on the node for it", Cause::ForwardPolicyDrop, |_| {}),
        ("it is CoreDNS's", Cause::CorednsUdpDead, |_| {}),
        ("only probable", Cause::IpForwardOff, |rig| {
            rig.report(1, |r| r.verdicts[0].confidence = Confidence::Probable);
        }),
        ("the agent does not vouch for itself", Cause::IpForwardOff, |rig| rig.report(1, |r| r.self_check = false)),
        ("switched off", Cause::IpForwardOff, |rig| {
            let mut config = (*rig.mind.config).clone();
            config.remedy.modes.insert(RemedyKind::WriteSysctl, Mode::Off);
            rig.tell(Input::Configure(Arc::new(config)));
        }),
    ];
    for (what, cause, change) in rows {
        let mut rig = well(8);
        rig.claim(1, cause, &node_subject(1));
        change(&mut rig);
        rig.pass(60);
        assert!(turns(&rig).is_empty(), "{what}");
    }
}

#[test]
fn who_has_waited_longest_is_next_and_a_turn_that_came_to_nothing_comes_again() {
    let mut rig = well(120);
    let mut seen: BTreeMap<usize, u32> = BTreeMap::new();
    // Twenty that nobody can repair; then one more.
    sick(&mut rig, 1..=20);
    let mut serials: BTreeMap<usize, u64> = BTreeMap::new();
    for second in 0..500 {
        if second == 320 {
            sick(&mut rig, 119..=119);
        }
        rig.pass(1);
        for n in turns(&rig) {
            let serial = rig.view.agents[n - 1].orders.permit.as_ref().map_or(0, |permit| permit.serial);
            if serials.insert(n, serial) != Some(serial) {
                *seen.entry(n).or_default() += 1;
            }
        }
        if second == 350 {
            assert!(seen.contains_key(&119), "the newcomer is not behind those that had theirs");
        }
    }
    assert_eq!(seen.len(), 21);
    assert!(seen.values().all(|times| *times <= 2) && seen.values().any(|times| *times == 2), "{seen:?}");
}
