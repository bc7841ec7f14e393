//! What every agent is told, and how many of them at a time.

use nameward_messages::remedy::Mode;

use super::*;

fn acting(nodes: usize) -> Rig {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    let mut rig = rig(nodes);
    rig.tell(Input::Configure(Arc::new(config)));
    rig
}

fn dns_pod(name: &str) -> DnsPodView {
    DnsPodView {
        uid: name.into(),
        key: ObjectKey::new("kube-system", name),
        resource_version: "1".into(),
        node: None,
        phase: "Running".into(),
        ready: true,
        terminating: false,
        created_at: None,
        owner: None,
        containers: vec![],
    }
}

#[test]
fn shares_and_permits_are_given_renewed_and_withdrawn() {
    let mut rig = acting(4);
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
fn where_no_agent_may_change_anything_standing_permits_cost_no_writes() {
    for (act, permits) in [(None, 0), (Some(RemedyKind::EvictPod), 0), (Some(RemedyKind::DropConntrack), 6)] {
        let mut config = Config::default();
        config.remedy.mode = Mode::Observe;
        config.remedy.modes.extend(act.map(|kind| (kind, Mode::Act)));
        let mut rig = rig(6);
        rig.tell(Input::Configure(Arc::new(config)));
        rig.pass(70);
        (1..=6).for_each(|n| rig.report(n, |_| {}));
        rig.pass(10);
        let held = |rig: &Rig| rig.view.agents.iter().filter(|a| a.orders.permit.is_some()).count();
        assert_eq!(held(&rig), permits, "{act:?}");
        // Whoever names a cause is told when it would be its turn, so that its agent says what it would do.
        rig.claim(1, Cause::IpForwardOff, &node_subject(1));
        rig.pass(40);
        let permit = rig.view.agents[0].orders.permit.as_ref();
        assert!(permit.is_some_and(|permit| permit.causes == [Cause::IpForwardOff]), "{act:?}: {permit:?}");
        assert_eq!(held(&rig), permits.max(1), "{act:?}");
    }
}

#[test]
fn every_node_is_asked_in_turn_and_the_hosts_of_coredns_are_not_asked_alone() {
    // Nodes, and on how many of the first of them CoreDNS runs.
    for (nodes, hosts) in [(3, 2), (16, 16), (20, 18), (320, 2), (320, 30), (500, 500)] {
        let mut rig = rig(nodes);
        let pod = |n: usize| DnsPodView { node: Some(NodeName(format!("node{n}"))), ..dns_pod(&format!("p{n}")) };
        rig.view.pods = (1..=hosts).map(pod).collect();
        let own = NodeName::from("node1");
        let mut asked: BTreeMap<NodeName, u32> = BTreeMap::new();
        let questions = nodes.div_ceil(crate::judge::quorum::ASKED - 5) + 1;
        for _ in 0..questions {
            let asking = rig.mind.question(rig.now, &rig.view, "x", Some(&own), vec![]);
            assert_eq!(asking.nodes.len(), nodes.min(16));
            assert!(asking.nodes.contains(&own));
            asking.nodes.into_iter().for_each(|node| *asked.entry(node).or_default() += 1);
        }
        assert_eq!(asked.len(), nodes, "{nodes} nodes, {hosts} hosts: each is asked before long");
    }
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
    assert_eq!(rig.view.incidents.len(), 8);
    rig.claim(2, Cause::UpstreamDead, &node_subject(2));
    rig.pass(10);
    assert_eq!(rig.view.incidents.len(), 9);
}

#[test]
fn whatever_nodes_say_of_themselves_an_incident_of_coredns_gets_in() {
    let of_nodes: Vec<Cause> = Cause::ALL.iter().copied().filter(|c| crate::judge::claims::of_a_node(*c)).collect();
    let mut rig = rig(60);
    let key = ObjectKey::new("kube-system", "coredns-a");
    rig.view.workload = Some(crate::testing::workload());
    rig.view.pods = vec![DnsPodView { uid: "a".into(), node: Some("node60".into()), ..dns_pod("coredns-a") }];
    rig.pass(5);
    for n in 1..=50 {
        let pod = |m: usize| {
            Subject::pod(&ObjectKey::new("shop", format!("web-{n}-{m}")), &format!("u{n}-{m}").as_str().into())
        };
        // No cause is named by three of them, but for an upstream that does not answer.
        let cause = if n % 3 == 0 { Cause::UpstreamDead } else { of_nodes[n / 2 % of_nodes.len()] };
        rig.claim(n, cause, &pod(0));
        let one = rig.view.agents[n - 1].report.as_ref().unwrap().verdicts[0].clone();
        rig.report(n, |r| r.verdicts = (0..16).map(|m| ReportedVerdict { subject: pod(m), ..one.clone() }).collect());
    }
    rig.pass(60);
    let stood = rig.view.incidents.len();
    assert_eq!(stood, 140);
    rig.claim(60, Cause::CorednsUdpDead, &Subject::pod(&key, &"a".into()));
    rig.claim(59, Cause::CorefileBroken, &Subject::pod(&key, &"a".into()));
    rig.pass(20);
    let opened: Vec<_> = rig.view.incidents[stood..].iter().map(|i| i.spec.cause).collect();
    assert_eq!(opened.len(), 2, "{opened:?}");
    assert!(opened.contains(&Cause::CorednsUdpDead) && opened.contains(&Cause::CorefileBroken));
}

#[test]
fn a_fault_of_very_many_pods_is_one_incident_and_no_storm() {
    // Nodes that name it and pods on each; whether that is one incident.
    for (nodes, pods, one) in [(20, 1, false), (21, 1, true), (3, 7, true), (3, 6, false), (2, 16, false)] {
        let mut rig = rig(150);
        rig.view.workload = Some(crate::testing::workload());
        rig.pass(5);
        for n in 1..=nodes {
            rig.claim(n, Cause::PodRouteMissing, &node_subject(n));
            let word = rig.view.agents[n - 1].report.as_ref().unwrap().verdicts[0].clone();
            let pod = |m: usize| {
                Subject::pod(&ObjectKey::new("shop", format!("web-{n}-{m}")), &format!("u{n}-{m}").as_str().into())
            };
            rig.report(n, |r| {
                r.verdicts = (0..pods).map(|m| ReportedVerdict { subject: pod(m), ..word.clone() }).collect()
            });
        }
        rig.pass(20);
        let what = format!("{nodes} nodes with {pods} pods each");
        let open = rig.view.incidents.iter().filter(|i| i.status.phase != IncidentPhase::Resolved).count();
        assert_eq!(open == 1, one, "{what}: {open} incidents");
        assert!(!rig.out.iter().any(|o| matches!(o, Output::Breaker { open: true, .. })), "{what}");
    }
}
