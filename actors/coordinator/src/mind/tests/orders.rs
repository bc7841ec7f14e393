//! What every agent is told, and how many of them at a time.

use super::*;

#[test]
fn shares_and_permits_are_given_renewed_and_withdrawn() {
    let mut rig = rig(4);
    rig.pass(3);
    let permits =
        |rig: &Rig| rig.view.agents.iter().map(|a| a.orders.permit.as_ref().map(|p| p.serial)).collect::<Vec<_>>();
    // Reports that were never seen to change are no quorum: no permit yet.
    assert_eq!(permits(&rig), [None; 4]);
    assert!(rig.view.agents.iter().all(|a| a.orders.share_milli_qps == Some(7500)));
    for n in 1..=4 {
        rig.report(n, |_| {});
    }
    rig.pass(10);
    assert_eq!(permits(&rig), [Some(1); 4]);
    let before = rig.out.len();
    rig.pass(280);
    assert_eq!(rig.out.len(), before, "{:?}", &rig.out[before..]);
    rig.pass(30);
    assert_eq!(permits(&rig), [Some(2); 4]);
    // Three of four nodes with one fault of the node's own layer: no repairs on any node.
    for n in 1..=3 {
        rig.claim(n, Cause::ForwardPolicyDrop, &node_subject(n));
    }
    rig.pass(10);
    assert_eq!(permits(&rig), [None; 4]);
    for n in 1..=3 {
        rig.report(n, |r| r.verdicts.clear());
    }
    // Not at once: what was a storm a moment ago may be one again.
    rig.pass(40);
    assert_eq!(permits(&rig), [None; 4]);
    rig.pass(30);
    assert!(permits(&rig).iter().all(Option::is_some));
    rig.tell(Input::KillSwitch(KillSwitch::On));
    rig.pass(10);
    assert_eq!(permits(&rig), [None; 4]);
}

#[test]
fn a_large_cluster_is_told_over_time_however_often_the_mind_is_stepped() {
    let mut rig = rig(500);
    rig.pass(1);
    let writes = |rig: &Rig| rig.out.iter().filter(|o| matches!(o, Output::WriteOrders { .. })).count();
    // Every result of a write is a step of its own, within the same moment.
    for n in 1..=500 {
        rig.tell(Input::Wrote { what: Written::Orders(NodeName(format!("node{n}"))), done: true });
    }
    assert!(writes(&rig) <= 50, "{} orders at once", writes(&rig));
    rig.pass(12);
    assert_eq!(writes(&rig), 500);
    assert!(rig.view.agents.iter().all(|a| a.orders.share_milli_qps == Some(58)));
    // A node that joins rewrites nobody else's orders.
    rig.view.nodes.push(NodeView { name: "node501".into(), ..rig.view.nodes[0].clone() });
    rig.pass(12);
    assert_eq!(writes(&rig), 500);
}

#[test]
fn shares_together_never_exceed_the_budget_and_seldom_change() {
    let share = crate::mind::orders::share;
    let mut changes = 0;
    for nodes in 1..=5000_u64 {
        let (one, next) = (share(30, usize::try_from(nodes).unwrap()), share(30, usize::try_from(nodes + 1).unwrap()));
        assert!(one * nodes <= 30_000, "{nodes}");
        assert!(one * nodes * 100 >= 30_000 * 80 || one <= 10, "{nodes}: {one} wastes the budget");
        changes += usize::from(one != next);
    }
    assert!(changes < 90, "{changes}");
    assert_eq!((share(30, 0), share(0, 5)), (30_000, 1));
}

#[test]
fn one_node_does_not_fill_the_book_for_all() {
    let mut rig = rig(2);
    rig.pass(5);
    let pod = |n: usize| Subject::pod(&ObjectKey::new("shop", format!("web-{n}")), &"u".into());
    rig.claim(1, Cause::PodRouteMissing, &pod(0));
    let one = rig.view.agents[0].report.as_ref().unwrap().verdicts[0].clone();
    rig.report(1, |r| r.verdicts = (0..300).map(|n| ReportedVerdict { subject: pod(n), ..one.clone() }).collect());
    rig.pass(30);
    assert_eq!(rig.view.incidents.len(), 16);
    rig.claim(2, Cause::UpstreamDead, &node_subject(2));
    rig.pass(10);
    assert_eq!(rig.view.incidents.len(), 17);
}
