#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use nameward_messages::cluster_view::{DnsPodView, NodeAgentView, NodeView, WorkloadView};
use nameward_messages::pods::RolloutObserved;
use nameward_messages::report::{NodeOrders, NodeReport, ReportedVerdict};
use nameward_messages::verdict::Deferral;
use nameward_messages::workload::{HeldUp, Said};
use nameward_messages::{ObjectKey, PodUid};

use super::*;

fn now() -> Now {
    Now::at(Duration::from_secs(1_000))
}

/// One of its two pods is not ready.
fn workload() -> WorkloadView {
    WorkloadView { ready: 1, available: 1, ..crate::testing::workload() }
}

fn waits(name: &str, node: Option<&str>, seconds: u64, reason: &str) -> CorednsPodState {
    CorednsPodState {
        pod: PodUid::from(name),
        key: ObjectKey::new("kube-system", name),
        node: node.map(NodeName::from),
        phase: "Pending".into(),
        ready: false,
        terminating: false,
        created_at: Some(now().wall.checked_sub(Duration::from_secs(seconds)).unwrap()),
        container: "coredns".into(),
        restarts: 0,
        running_since: None,
        waiting: (!reason.is_empty()).then(|| Said { reason: reason.into(), message: String::new() }),
        ended: None,
        held_up: None,
    }
}

fn view(coredns: Vec<CorednsPodState>) -> ClusterView {
    ClusterView { complete: true, workload: Some(workload()), coredns, ..ClusterView::default() }
}

fn causes(view: &ClusterView) -> Vec<Cause> {
    judge(now(), view, &Claims::default(), &[]).into_iter().map(|l| l.cause).collect()
}

#[test]
fn a_pod_without_a_place_is_named_with_the_schedulers_words() {
    let held_up = Some(HeldUp {
        condition: "PodScheduled".into(),
        reason: "Unschedulable".into(),
        message: "0/2 nodes are available: 2 node(s) were unschedulable.".into(),
        since: None,
    });
    let view = view(vec![CorednsPodState { held_up, ..waits("coredns-a", None, 30, "") }]);
    let found = judge(now(), &view, &Claims::default(), &[]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].cause, found[0].subject.name.as_str()), (Cause::CorednsPending, "coredns"));
    assert!(found[0].evidence[0].says.contains("2 node(s) were unschedulable"), "{found:?}");
}

#[test]
fn patience_depends_on_what_is_said() {
    let one = |seconds, node: Option<&str>, reason| causes(&view(vec![waits("coredns-a", node, seconds, reason)]));
    let named = [Cause::CorednsPending];
    assert_eq!(one(15, None, ""), []);
    assert_eq!(one(25, None, ""), named);
    assert_eq!(one(25, Some("node1"), "ImagePullBackOff"), named);
    assert_eq!(one(25, Some("node1"), "CreateContainerConfigError"), named);
    assert_eq!(one(25, Some("node1"), "ContainerCreating"), [], "its image may be on its way");
    assert_eq!(one(65, Some("node1"), "ContainerCreating"), named);
    let mut rolling = view(vec![waits("coredns-a", None, 65, "")]);
    rolling.rollout = RolloutObserved { in_progress: true, because: "1 of 2".into() };
    assert_eq!(causes(&rolling), []);
}

#[test]
fn what_ran_once_ends_or_is_deleted_is_not_pending() {
    let pod = || waits("coredns-a", Some("node1"), 300, "CrashLoopBackOff");
    assert_eq!(causes(&view(vec![CorednsPodState { restarts: 2, ..pod() }])), []);
    assert_eq!(causes(&view(vec![CorednsPodState { phase: "Running".into(), ..pod() }])), []);
    assert_eq!(causes(&view(vec![CorednsPodState { terminating: true, ..pod() }])), []);
    assert_eq!(causes(&ClusterView { workload: None, ..view(vec![pod()]) }), []);
}

/// Two nodes; so many replicas on node1, one on node2 if `spread`; node2 cannot reach those of node1, which is sick.
fn crowded(replicas: u8, spread: bool, sick: bool) -> (ClusterView, Claims) {
    let pod = |name: String, node: &str| crate::testing::pod(&name, node);
    let pods: Vec<DnsPodView> = (0..replicas)
        .map(|n| pod(format!("coredns-{n}"), "node1"))
        .chain(spread.then(|| pod("coredns-z".into(), "node2")))
        .collect();
    let node = |name: &str| NodeView {
        name: name.into(),
        uid: String::new(),
        ready: Some(true),
        unschedulable: None,
        zone: None,
        terminating: false,
    };
    let agent = |name: &str, report: NodeReport| NodeAgentView {
        name: name.into(),
        uid: String::new(),
        resource_version: "1".into(),
        orders: NodeOrders::default(),
        report: Some(Arc::new(NodeReport { sequence: 1, self_check: true, ..report })),
        changed_at: now().mono,
    };
    let deferred = pods
        .iter()
        .filter(|pod| pod.node.as_ref().is_some_and(|n| n.as_str() == "node1"))
        .map(|pod| Deferral {
            subject: Subject::pod(&pod.key, &pod.uid),
            to_node: "node1".into(),
            because: "timeout".into(),
        })
        .collect();
    let verdict = ReportedVerdict {
        cause: Cause::ForwardPolicyDrop,
        scope: Scope::Node,
        subject: Subject::node(&"node1".into()),
        confidence: Confidence::Certain,
        evidence: Vec::new(),
        ruled_out: Vec::new(),
        since: now().wall,
    };
    let verdicts = if sick { vec![verdict] } else { Vec::new() };
    let view = ClusterView {
        pods,
        nodes: vec![node("node1"), node("node2")],
        agents: vec![
            agent("node1", NodeReport { verdicts, ..NodeReport::default() }),
            agent("node2", NodeReport { deferred, ..NodeReport::default() }),
        ],
        ..view(Vec::new())
    };
    let mut claims = Claims::default();
    claims.learn(now().mono, &view, Duration::from_secs(60));
    (view, claims)
}

#[test]
fn replicas_on_one_node_are_named_when_that_node_fails() {
    let found = |replicas, spread, sick| {
        let (view, claims) = crowded(replicas, spread, sick);
        judge(now(), &view, &claims, &[]).into_iter().map(|l| l.cause).collect::<Vec<_>>()
    };
    assert_eq!(found(2, false, true), [Cause::ReplicasOnOneNode]);
    assert_eq!(found(1, false, true), [], "a single replica is what its owner wanted");
    assert_eq!(found(2, true, true), [], "another replica is elsewhere");
    assert_eq!(found(2, false, false), [], "nobody says that the node is sick");
}

#[test]
fn replicas_on_a_node_that_is_gone_are_named_beside_it() {
    let (view, claims) = crowded(2, false, false);
    let dead = Located {
        cause: Cause::EndpointOnDeadNode,
        scope: Scope::CorednsPod,
        subject: Subject::pod(&view.pods[0].key, &view.pods[0].uid),
        confidence: Confidence::Certain,
        nodes: BTreeSet::new(),
        evidence: Vec::new(),
        ruled_out: Vec::new(),
        explains: BTreeSet::new(),
    };
    let found = judge(now(), &view, &claims, &[dead]);
    assert_eq!(found.len(), 1);
    assert!(found[0].evidence[1].says.contains("node1 is gone"));
}
