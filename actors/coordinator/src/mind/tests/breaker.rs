//! Breakers per layer, the one incident of many nodes, kube-proxy of one node, and the opt-in condition of nodes.

use nameward_messages::guarding::{Breaker, RefusalReason};
use nameward_messages::plan::{PlanEnd, SharedAct};
use nameward_messages::remedy::Mode;

use super::*;
use crate::testing::workload;

/// So many nodes; every report is fresh and the cool-down is over.
fn acting(nodes: usize, change: impl FnOnce(&mut Config)) -> Rig {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    change(&mut config);
    let mut rig = rig(nodes);
    rig.mind = CoordinatorMind::new(Arc::new(config));
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    rig.view.workload = Some(workload());
    rig.pass(70);
    (1..=nodes).for_each(|n| rig.report(n, |_| {}));
    rig.pass(10);
    rig
}

fn permitted(rig: &Rig) -> Vec<usize> {
    let with = |(n, agent): (usize, &NodeAgentView)| agent.orders.permit.as_ref().map(|_| n + 1);
    rig.view.agents.iter().enumerate().filter_map(with).collect()
}

fn breakers(rig: &Rig) -> Vec<(Breaker, bool)> {
    let told = |o: &Output| if let Output::Breaker { breaker, open } = o { Some((*breaker, *open)) } else { None };
    rig.out.iter().filter_map(told).collect()
}

#[test]
fn a_fault_of_many_nodes_is_one_incident_and_no_node_is_repaired() {
    let mut rig = acting(6, |_| {});
    assert_eq!(permitted(&rig), [1, 2, 3, 4, 5, 6]);
    // They do not fall ill in one moment: the first has its own incident for a while.
    rig.claim(1, Cause::IpForwardOff, &node_subject(1));
    rig.pass(8);
    assert_eq!(rig.phases(), [(Cause::IpForwardOff, IncidentPhase::Open)]);
    rig.claim(2, Cause::IpForwardOff, &node_subject(2));
    rig.claim(3, Cause::IpForwardOff, &node_subject(3));
    rig.pass(15);
    let open: Vec<_> = rig.view.incidents.iter().filter(|i| i.status.phase != IncidentPhase::Resolved).collect();
    assert_eq!(open.len(), 1, "{:#?}", rig.phases());
    assert_eq!((open[0].spec.subject.kind, open[0].spec.scope), (SubjectKind::Deployment, Scope::Cluster));
    assert!(open[0].status.summary.contains("3 of 6 nodes"), "{}", open[0].status.summary);
    assert_eq!(open[0].status.nodes.len(), 3);
    assert_eq!(open[0].status.phase, IncidentPhase::Escalated);
    assert!(permitted(&rig).is_empty());
    assert_eq!(rig.events("DnsRecovered"), 0, "the first node is not well: it is one of many");
    assert!(breakers(&rig).contains(&(Breaker::Node, true)));
    // One is well: it stays one incident, until the last is.
    rig.report(3, |r| r.verdicts.clear());
    rig.pass(20);
    assert_eq!(rig.view.incidents.iter().filter(|i| i.status.phase != IncidentPhase::Resolved).count(), 1);
    rig.report(1, |r| r.verdicts.clear());
    rig.report(2, |r| r.verdicts.clear());
    rig.pass(90);
    assert!(rig.view.incidents.iter().all(|i| i.status.phase == IncidentPhase::Resolved));
    assert_eq!(breakers(&rig).last(), Some(&(Breaker::Node, false)));
    assert_eq!(permitted(&rig).len(), 6);
}

#[test]
fn a_storm_that_stands_forbids_repairs_however_short_the_cool_down_is() {
    let mut rig = acting(6, |config| config.remedy.cool_down.0 = Duration::ZERO);
    (1..=3).for_each(|n| rig.claim(n, Cause::IpForwardOff, &node_subject(n)));
    rig.pass(40);
    assert!(permitted(&rig).is_empty());
    assert_eq!(breakers(&rig).last(), Some(&(Breaker::Node, true)));
    (1..=3).for_each(|n| rig.report(n, |r| r.verdicts.clear()));
    rig.pass(20);
    assert_eq!(breakers(&rig).last(), Some(&(Breaker::Node, false)));
}

#[test]
fn a_storm_in_one_zone_leaves_the_others_their_permits() {
    let mut rig = acting(20, |_| {});
    for (n, node) in rig.view.nodes.iter_mut().enumerate() {
        node.zone = Some(if n < 10 { "a" } else { "b" }.to_owned());
    }
    for n in 1..=3 {
        rig.claim(n, Cause::IpForwardOff, &node_subject(n));
    }
    rig.pass(15);
    // 3 of 10 in zone a, 3 of 20 in all.
    assert_eq!(permitted(&rig), (11..=20).collect::<Vec<_>>());
    let summary = &rig.view.incidents.last().unwrap().status.summary;
    assert!(summary.contains("zone a"), "{summary}");
}

fn proxy(node: &str) -> ProxyPod {
    ProxyPod {
        key: ObjectKey::new("kube-system", format!("kube-proxy-{node}")),
        uid: "p1".into(),
        resource_version: "9".into(),
        terminating: false,
    }
}

fn plans(rig: &Rig) -> Vec<&Plan> {
    rig.out.iter().filter_map(|o| if let Output::Plan(plan) = o { Some(plan) } else { None }).collect()
}

fn switched_on(config: &mut Config) {
    config.remedy.modes.insert(RemedyKind::RestartKubeProxy, Mode::Act);
}

#[test]
fn kube_proxy_is_restarted_where_it_was_switched_on_and_on_one_sick_node_alone() {
    let mut rig = acting(4, switched_on);
    rig.claim(2, Cause::ServiceRulesMissing, &node_subject(2));
    rig.pass(40);
    assert!(rig.out.iter().any(|o| *o == Output::FindKubeProxy("node2".into())));
    assert!(plans(&rig).is_empty());
    rig.tell(Input::KubeProxyRead { node: "node2".into(), pod: Some(proxy("node2")) });
    rig.pass(1);
    let plan = plans(&rig)[0];
    assert_eq!(plan.subject, node_subject(2));
    assert!(matches!(&plan.act, SharedAct::RestartKubeProxy { uid, .. } if uid.as_str() == "p1"));
    let incident = plan.incident.clone();
    let ended = SharedRemedyTells::Ended { incident, end: PlanEnd::Done, retry_after: Duration::ZERO };
    rig.tell(Input::Shared(ended));
    rig.pass(5);
    assert_eq!(rig.phases(), [(Cause::ServiceRulesMissing, IncidentPhase::Verifying)]);
    rig.report(2, |r| r.verdicts.clear());
    rig.pass(5);
    assert_eq!(rig.phases(), [(Cause::ServiceRulesMissing, IncidentPhase::Resolved)]);
    let ladder = &rig.view.incidents[0].status.ladder;
    assert_eq!(
        ladder.last().map(|r| (r.kind, r.outcome)),
        Some((RemedyKind::RestartKubeProxy, RemedyOutcome::Verified))
    );
}

#[test]
fn kube_proxy_is_left_alone_where_another_node_shows_the_same_or_nobody_switched_it_on() {
    let mut rig = acting(12, switched_on);
    for n in [2, 3] {
        rig.claim(n, Cause::ServiceRulesMissing, &node_subject(n));
    }
    rig.pass(60);
    assert!(plans(&rig).is_empty());
    let refused = |o: &&Output| matches!(o, Output::Record { reason: Some(RefusalReason::OtherNodesToo), .. });
    assert_eq!(rig.out.iter().filter(refused).count(), 2, "once for each of the two");
    assert_eq!(rig.events("RemedyHeldBack"), 2);

    let mut rig = acting(4, |_| {});
    rig.claim(2, Cause::ServiceRulesMissing, &node_subject(2));
    rig.pass(60);
    assert!(plans(&rig).is_empty() && !rig.out.iter().any(|o| matches!(o, Output::FindKubeProxy(_))));
    assert_eq!(rig.phases(), [(Cause::ServiceRulesMissing, IncidentPhase::Escalated)]);
}

#[test]
fn conditions_are_told_on_transition_alone_and_only_where_they_are_asked_for() {
    let mut rig = acting(3, |config| config.coordinator.node_condition = true);
    let told = |rig: &Rig| {
        let told = |o: &Output| match o {
            Output::NodeCondition { node, healthy, reason, .. } => Some((node.0.clone(), *healthy, *reason)),
            _ => None,
        };
        rig.out.iter().filter_map(told).collect::<Vec<_>>()
    };
    rig.pass(30);
    assert_eq!(told(&rig).len(), 3, "once after the Lease was taken");
    rig.pass(600);
    assert_eq!(told(&rig).len(), 3);
    rig.claim(2, Cause::IpForwardOff, &node_subject(2));
    rig.pass(5);
    assert_eq!(told(&rig).len(), 3, "not before it has settled");
    rig.pass(20);
    assert_eq!(told(&rig)[3..], [("node2".to_owned(), false, "IpForwardOff")]);
    // What nobody hears of a silent agent changes nothing.
    rig.report(2, |r| {
        r.self_check = false;
        r.verdicts.clear();
    });
    rig.pass(60);
    assert_eq!(told(&rig).len(), 4);
    rig.report(2, |r| r.self_check = true);
    rig.pass(20);
    assert_eq!(told(&rig)[4..], [("node2".to_owned(), true, "ClusterDNSAnswers")]);
    let mut rig = acting(3, |_| {});
    rig.claim(2, Cause::IpForwardOff, &node_subject(2));
    rig.pass(60);
    assert!(told(&rig).is_empty());
}
