//! What only all nodes together show: complaints, dead nodes, broken pairs.

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::QuestionKind;
use nameward_messages::report::{Complaint, MatrixRow};
use nameward_messages::targets::{DnsPod, Targets, Transport};

use super::*;

/// Three nodes; CoreDNS pod `a` on node1 and `b` on node2; every node says what it sees.
pub(super) fn cluster() -> Rig {
    let mut rig = rig(3);
    rig.view.pods = vec![dns_pod("a", "node1"), dns_pod("b", "node2")];
    let listed = |pod: &DnsPodView| DnsPod {
        uid: pod.uid.clone(),
        key: pod.key.clone(),
        node: pod.node.clone(),
        ips: vec![],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready: true,
        terminating: false,
    };
    let pods = rig.view.pods.iter().map(listed).collect();
    rig.view.targets = Arc::new(Targets { pods, ..Targets::default() });
    for node in 1..=3 {
        rig.report(node, |r| r.matrix.rows = ["a", "b"].iter().flat_map(|pod| rows(pod, true)).collect());
    }
    rig.pass(5);
    rig
}

fn dns_pod(name: &str, node: &str) -> DnsPodView {
    crate::testing::pod(name, node)
}

pub(super) fn rows(pod: &str, udp: bool) -> Vec<MatrixRow> {
    let row = |transport, from, good| MatrixRow {
        target: "pod".into(),
        pod: Some(pod.into()),
        ip: [10, 244, 1, 2].into(),
        transport,
        question: QuestionKind::Internal,
        from,
        good: if good { 2 } else { 0 },
        bad: if good { 0 } else { 2 },
        outcome: None,
        latency_us: None,
    };
    use {Transport::Tcp, Transport::Udp, VantageKind::Host, VantageKind::Pod};
    vec![row(Udp, Host, udp), row(Udp, Pod, udp), row(Tcp, Host, true), row(Tcp, Pod, true)]
}

impl Rig {
    /// `node` cannot reach `pod` of `host` over UDP and knows no reason.
    pub(super) fn defers(&mut self, node: usize, pod: &str, host: &str) {
        let deferral = Deferral {
            subject: Subject::pod(&ObjectKey::new("kube-system", pod), &pod.into()),
            to_node: host.into(),
            because: format!("no answer ({})", self.now.mono.0.as_secs()),
        };
        self.report(node, |r| {
            r.matrix.rows.retain(|row| row.pod.as_ref().unwrap().as_str() != pod);
            r.matrix.rows.extend(rows(pod, false));
            r.deferred = vec![deferral];
        });
    }

    fn complaints(&self, node: usize) -> &[Complaint] {
        &self.view.agents[node - 1].orders.complaints
    }

    fn writes(&self) -> usize {
        self.out.iter().filter(|o| matches!(o, Output::WriteOrders { .. })).count()
    }
}

#[test]
fn a_deferral_becomes_a_complaint_at_once_and_ends_with_it() {
    let mut rig = cluster();
    rig.defers(3, "a", "node1");
    rig.pass(1);
    let told = rig.complaints(1);
    assert_eq!((told.len(), &told[0].pod), (1, &PodUid::from("a")));
    assert_eq!(told[0].transports, [Transport::Udp]);
    assert_eq!(told[0].from, [NodeName::from("node3")]);
    assert!(rig.complaints(2).is_empty() && rig.complaints(3).is_empty());
    // The figures in its text are no news, and a heartbeat is none.
    let before = rig.writes();
    for _ in 0..20 {
        rig.defers(3, "a", "node1");
        rig.pass(1);
    }
    assert_eq!(rig.writes(), before);
    rig.report(3, |r| {
        r.deferred.clear();
        r.matrix.rows = rows("a", true);
    });
    rig.pass(7);
    assert!(rig.complaints(1).is_empty());
}

#[test]
fn no_complaint_of_a_silent_node_a_sick_one_or_during_a_rollout() {
    for which in 0..3 {
        let mut rig = cluster();
        match which {
            0 => rig.report(3, |r| r.self_check = false),
            1 => rig.claim(3, Cause::IpForwardOff, &node_subject(3)),
            _ => rig.view.rollout.in_progress = true,
        }
        rig.defers(3, "a", "node1");
        rig.pass(10);
        assert!(rig.complaints(1).is_empty(), "{which}");
    }
}

#[test]
fn a_broken_pair_is_one_incident_and_nothing_is_evicted() {
    let mut rig = cluster();
    rig.defers(1, "b", "node2");
    rig.defers(2, "a", "node1");
    rig.pass(20);
    assert!(rig.view.incidents.is_empty(), "both ends must have looked first");
    rig.report(1, |r| r.examined = vec!["a".into()]);
    rig.report(2, |r| r.examined = vec!["b".into()]);
    rig.pass(10);
    assert_eq!(rig.phases(), [(Cause::NodePairBlocked, IncidentPhase::Escalated)]);
    assert_eq!(rig.view.incidents[0].spec.subject, node_subject(1));
    rig.pass(120);
    assert_eq!(rig.phases().len(), 1, "no `unexplained` beside it: {:?}", rig.phases());
    assert!(!rig.out.iter().any(|o| matches!(o, Output::Plan(_))));
    for node in 1..=3 {
        rig.report(node, |r| {
            r.deferred.clear();
            r.examined.clear();
            r.matrix.rows = ["a", "b"].iter().flat_map(|pod| super::locality::rows(pod, true)).collect();
        });
    }
    rig.pass(20);
    assert_eq!(rig.phases(), [(Cause::NodePairBlocked, IncidentPhase::Resolved)]);
}

#[test]
fn an_endpoint_on_a_dead_node_is_named_when_the_api_says_that_the_node_is_not_ready() {
    let mut rig = cluster();
    let asked =
        |rig: &Rig| rig.out.iter().filter(|o| matches!(o, Output::ReadNode(n) if n.as_str() == "node2")).count();
    rig.pass(60);
    assert_eq!(asked(&rig), 0, "nothing is read while all is well");
    rig.defers(1, "b", "node2");
    rig.defers(3, "b", "node2");
    rig.pass(10);
    assert!((1..=3).contains(&asked(&rig)), "{}", asked(&rig));
    assert!(rig.view.incidents.is_empty());
    let state = Some(NodeState { ready: Some(false), unschedulable: false });
    rig.tell(Input::NodeRead { node: "node2".into(), state });
    rig.pass(10);
    assert_eq!(rig.phases(), [(Cause::EndpointOnDeadNode, IncidentPhase::Escalated)]);
    let incident = &rig.view.incidents[0];
    assert_eq!(incident.spec.subject.name, "b");
    assert!(incident.status.ladder[0].detail.contains("out-of-service"), "{:?}", incident.status.ladder);
    assert!(incident.status.evidence.iter().any(|e| e.read == "Node node2"), "{:?}", incident.status.evidence);
}

#[test]
fn a_node_that_is_known_to_be_dead_does_not_count_against_the_quorum() {
    use crate::judge::quorum::{Freshness, Quorum};
    let mut rig = rig(3);
    rig.view.agents[2].report = None;
    let mut freshness = Freshness::default();
    freshness.learn(rig.now.mono, &rig.view.agents);
    for node in 1..=2 {
        rig.report(node, |_| {});
    }
    freshness.learn(rig.now.mono, &rig.view.agents);
    let enough =
        |view: &ClusterView| Quorum::count(rig.now.mono, view, &freshness, Duration::from_secs(660)).enough(85);
    assert!(!enough(&rig.view), "nothing is known of the third");
    let mut dead = rig.view.clone();
    dead.nodes[2].ready = Some(false);
    assert!(enough(&dead));
    let mut drained = rig.view.clone();
    drained.nodes[2].unschedulable = Some(true);
    assert!(enough(&drained));
    drained.pods = vec![dns_pod("a", "node3")];
    assert!(!enough(&drained), "CoreDNS runs there: its word is needed");
}
