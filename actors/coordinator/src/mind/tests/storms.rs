//! How many nodes with the same fault are too many, and for how long a repaired one counts.

use nameward_messages::remedy::Mode;

use super::*;
use crate::testing::workload;

/// So many nodes with permits, none sick.
fn permitted(nodes: usize) -> Rig {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    let mut rig = rig(nodes);
    rig.tell(Input::Configure(Arc::new(config)));
    rig.view.workload = Some(workload());
    rig.pass(70);
    (1..=nodes).for_each(|n| rig.report(n, |_| {}));
    rig.pass(10);
    assert_eq!(without_permit(&rig), Vec::<usize>::new());
    rig
}

fn without_permit(rig: &Rig) -> Vec<usize> {
    let agents = rig.view.agents.iter().enumerate();
    agents.filter(|(_, agent)| agent.orders.permit.is_none()).map(|(n, _)| n + 1).collect()
}

/// The agent says that it has changed its node, so many seconds ago.
fn repaired(rig: &mut Rig, n: usize, kind: RemedyKind, outcome: RemedyOutcome, ago: i64) {
    let at = rig.now.wall - jiff::SignedDuration::from_secs(ago);
    let subject = node_subject(n);
    let record = RemedyRecord { kind, subject, mode: Mode::Act, outcome, detail: "did it".into(), at };
    rig.report(n, |r| {
        r.verdicts.clear();
        r.remedies.push(record);
    });
}

#[test]
fn half_of_few_or_three_and_a_fifth_of_many_are_no_fault_of_single_nodes() {
    use Cause::{ForwardPolicyDrop, IpForwardOff, StaleConntrack, VethDown};
    // Nodes, sick ones, the cause, whether permits are withdrawn.
    let rows = [
        (2, 1, IpForwardOff, false),
        (2, 2, IpForwardOff, true),
        (3, 1, IpForwardOff, false),
        (3, 2, IpForwardOff, true),
        (4, 2, IpForwardOff, true),
        (4, 3, IpForwardOff, true),
        (5, 2, VethDown, false),
        (5, 3, VethDown, true),
        (14, 3, VethDown, true),
        (15, 3, VethDown, false),
        // Nobody would change a node for it: three at least.
        (4, 2, ForwardPolicyDrop, false),
        (4, 3, ForwardPolicyDrop, true),
        // One pod that goes leaves such entries on many nodes.
        (4, 2, StaleConntrack, false),
    ];
    for (nodes, sick, cause, withdrawn) in rows {
        let mut rig = permitted(nodes);
        (1..=sick).for_each(|n| rig.claim(n, cause, &node_subject(n)));
        rig.pass(15);
        let wanted: Vec<usize> = if withdrawn { (1..=nodes).collect() } else { Vec::new() };
        assert_eq!(without_permit(&rig), wanted, "{sick} of {nodes}: {cause}");
        let incidents = rig.view.incidents.iter().filter(|i| i.status.phase != IncidentPhase::Resolved).count();
        assert_eq!(incidents, if withdrawn { 1 } else { sick }, "{sick} of {nodes}: {cause}");
    }
}

#[test]
fn a_repaired_node_counts_for_ten_minutes() {
    use RemedyKind::{RestoreRoute, WriteSysctl};
    use RemedyOutcome::{Done, Refused, Verified, WouldAct};
    // What the first node's report says, how long ago; whether the second's fault of forwarding is then one of many.
    let rows = [
        ("repaired", WriteSysctl, Verified, 20, true),
        ("not verified yet", WriteSysctl, Done, 2, true),
        ("repaired in another way", RestoreRoute, Verified, 20, false),
        ("would have been", WriteSysctl, WouldAct, 20, false),
        ("refused", WriteSysctl, Refused, 20, false),
        ("history", WriteSysctl, Verified, 3 * 3600, false),
    ];
    for (what, kind, outcome, ago, withdrawn) in rows {
        let mut rig = permitted(4);
        repaired(&mut rig, 1, kind, outcome, ago);
        rig.pass(20);
        assert_eq!(without_permit(&rig), Vec::<usize>::new(), "{what}: nobody is sick");
        rig.claim(2, Cause::IpForwardOff, &node_subject(2));
        rig.pass(10);
        assert_eq!(without_permit(&rig).len(), if withdrawn { 4 } else { 0 }, "{what}");
        let incident = rig.view.incidents.last().unwrap();
        assert_eq!(incident.spec.scope == Scope::Cluster, withdrawn, "{what}: {}", incident.status.summary);
    }
}

#[test]
fn a_node_that_was_held_back_is_repaired_when_the_repaired_one_has_been_well_for_long() {
    let mut rig = permitted(4);
    repaired(&mut rig, 1, RemedyKind::WriteSysctl, RemedyOutcome::Verified, 5);
    rig.pass(60);
    rig.claim(2, Cause::IpForwardOff, &node_subject(2));
    rig.pass(10);
    let summary = rig.view.incidents[0].status.summary.clone();
    assert!(summary.starts_with("1 of 4 nodes") && summary.contains("1 more had it until"), "{summary}");
    assert_eq!((rig.phases().len(), without_permit(&rig).len()), (1, 4));
    rig.pass(500);
    assert_eq!(without_permit(&rig).len(), 4);
    // Ten minutes, then the cool-down.
    (1..=4).for_each(|n| rig.report(n, |_| {}));
    rig.pass(200);
    assert_eq!(without_permit(&rig), Vec::<usize>::new());
}

#[test]
fn three_that_fall_sick_one_after_the_other_are_one_fault_of_many() {
    let mut rig = permitted(6);
    for n in 1..=2 {
        rig.claim(n, Cause::VethDown, &node_subject(n));
        rig.pass(20);
        repaired(&mut rig, n, RemedyKind::SetLinkUp, RemedyOutcome::Verified, 1);
        rig.pass(60);
        assert_eq!(without_permit(&rig), Vec::<usize>::new(), "after {n}");
    }
    rig.claim(3, Cause::VethDown, &node_subject(3));
    rig.pass(5);
    assert_eq!(without_permit(&rig).len(), 6);
}
