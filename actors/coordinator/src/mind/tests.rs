//! What needs no executor: incidents, permits, shares. The whole loop is tested in the remedy room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::cluster_view::{DnsPodView, IncidentView, NodeAgentView, NodeView};
use nameward_messages::plan::{IncidentPhase, IncidentStatus};
use nameward_messages::remedy::{RemedyKind, RemedyOutcome};
use nameward_messages::report::{NodeReport, ReportedVerdict};
use nameward_messages::verdict::{Cause, Confidence, Deferral, Evidence, Scope, SubjectKind};
use nameward_messages::{ObjectKey, PodUid};

use super::*;

mod aside;
mod breaker;
mod leftover;
mod locality;
mod memory;
mod orders;
mod pairs;
mod rest;
mod shared;
mod storms;
mod turns;

struct Rig {
    mind: CoordinatorMind,
    now: Now,
    view: ClusterView,
    out: Vec<Output>,
}

fn rig(nodes: usize) -> Rig {
    let now = Now::at(Duration::from_secs(500));
    let names = (1..=nodes).map(|n| NodeName(format!("node{n}")));
    let node = |name: NodeName| NodeView {
        name,
        uid: String::new(),
        ready: None,
        unschedulable: None,
        zone: None,
        terminating: false,
    };
    let agent = |name: NodeName| NodeAgentView {
        name,
        uid: String::new(),
        resource_version: "1".into(),
        orders: NodeOrders::default(),
        report: Some(Arc::new(NodeReport { sequence: 1, self_check: true, ..NodeReport::default() })),
        changed_at: now.mono,
    };
    let view = ClusterView {
        complete: true,
        nodes: names.clone().map(node).collect(),
        agents: names.map(agent).collect(),
        ..ClusterView::default()
    };
    let mut rig = Rig { mind: CoordinatorMind::new(Arc::new(Config::default())), now, view, out: vec![] };
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    rig
}

impl Rig {
    fn tell(&mut self, input: Input) {
        let mut out = vec![];
        self.mind.step(self.now, input, &mut out);
        for output in out {
            self.store(&output);
            self.out.push(output);
        }
    }

    /// The API server keeps what it is told.
    fn store(&mut self, output: &Output) {
        match output {
            Output::OpenIncident { name, spec, status } => self.view.incidents.push(IncidentView {
                name: name.clone(),
                uid: name.clone(),
                resource_version: "1".into(),
                created_at: None,
                spec: spec.clone(),
                status: (**status).clone(),
            }),
            Output::UpdateIncident { name, status, .. } => {
                let stored = self.view.incidents.iter_mut().find(|i| i.name == *name).unwrap();
                stored.status = (**status).clone();
            }
            Output::WriteOrders { node, orders } => {
                let agent = self.view.agents.iter_mut().find(|a| a.name == *node).unwrap();
                agent.orders = (**orders).clone();
            }
            _ => {}
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            self.view.fresh_as_of = self.now.mono;
            let act_until = Some(self.now.mono + Duration::from_secs(5));
            self.tell(Input::Lease(LeaseState { identity: "me".into(), leading: true, act_until }));
            self.tell(Input::View(Arc::new(self.view.clone())));
        }
    }

    fn report(&mut self, node: usize, change: impl FnOnce(&mut NodeReport)) {
        let agent = &mut self.view.agents[node - 1];
        let mut report = (**agent.report.as_ref().unwrap()).clone();
        report.sequence += 1;
        change(&mut report);
        agent.report = Some(Arc::new(report));
        agent.changed_at = self.now.mono;
    }

    fn claim(&mut self, node: usize, cause: Cause, subject: &Subject) {
        let verdict = ReportedVerdict {
            cause,
            scope: crate::judge::advice::scope_of(cause),
            subject: subject.clone(),
            confidence: Confidence::Certain,
            evidence: vec![Evidence::new("iptables-save", "it says so")],
            ruled_out: vec![],
            since: self.now.wall,
        };
        self.report(node, |r| r.verdicts = vec![verdict]);
    }

    fn phases(&self) -> Vec<(Cause, IncidentPhase)> {
        self.view.incidents.iter().map(|i| (i.spec.cause, i.status.phase)).collect()
    }

    fn events(&self, reason: &str) -> usize {
        self.out.iter().filter(|o| matches!(o, Output::Event { reason: r, .. } if *r == reason)).count()
    }
}

fn node_subject(n: usize) -> Subject {
    Subject::node(&NodeName(format!("node{n}")))
}

#[test]
fn causes_that_are_a_persons_are_escalated_with_the_command_and_end_with_the_verdict() {
    let upstream = Subject { kind: SubjectKind::Upstream, namespace: None, name: "172.30.0.254".into(), uid: None };
    let service = Subject::object(SubjectKind::Service, &ObjectKey::new("kube-system", "kube-dns"));
    let pod = Subject::pod(&ObjectKey::new("shop", "web"), &"u".into());
    let rows = [
        (Cause::ForwardPolicyDrop, node_subject(1), "iptables -I FORWARD"),
        (Cause::ServiceRulesMissing, node_subject(1), "spec.nodeName=node1"),
        (Cause::ServiceRulesStale, node_subject(1), "spec.nodeName=node1"),
        (Cause::ServiceWithoutEndpoints, service, "get service,endpointslices,pods"),
        (Cause::WrongNameserver, pod.clone(), "clusterDNS"),
        (Cause::UpstreamDead, upstream, "configmap coredns"),
        (Cause::Unexplained, pod, "nameward diagnose"),
    ];
    for (cause, subject, command) in rows {
        let mut rig = rig(2);
        rig.pass(5);
        rig.claim(1, cause, &subject);
        rig.pass(2);
        assert!(rig.view.incidents.is_empty(), "{cause}: too early");
        rig.pass(5);
        assert_eq!(rig.phases(), [(cause, IncidentPhase::Escalated)]);
        let ladder = &rig.view.incidents[0].status.ladder;
        assert_eq!((ladder.len(), ladder[0].kind), (1, RemedyKind::CallPerson), "{cause}");
        assert_eq!(ladder[0].outcome, RemedyOutcome::Escalated);
        assert!(ladder[0].detail.contains(command), "{cause}: {}", ladder[0].detail);
        rig.pass(120);
        assert!(!rig.out.iter().any(|o| matches!(o, Output::Plan(_))), "{cause}");
        rig.report(1, |r| r.verdicts.clear());
        rig.pass(10);
        assert_eq!(rig.phases(), [(cause, IncidentPhase::Resolved)]);
        assert!(rig.view.incidents[0].status.closed_at.is_some());
        assert_eq!(rig.events("DnsRecovered"), 1);
    }
}

#[test]
fn nobody_is_called_for_a_coredns_pod_that_does_not_reach_itself() {
    let mut rig = rig(2);
    rig.pass(5);
    let pod = Subject::pod(&ObjectKey::new("kube-system", "coredns-a"), &"u".into());
    rig.claim(1, Cause::HairpinOff, &pod);
    rig.pass(300);
    assert_eq!(rig.phases(), [(Cause::HairpinOff, IncidentPhase::Open)]);
    assert!(rig.view.incidents[0].status.ladder.is_empty(), "{:?}", rig.view.incidents[0].status.ladder);
    assert!(!rig.out.iter().any(|o| matches!(o, Output::Event { warning: true, .. } | Output::Plan(_))));
}

#[test]
fn a_node_cause_stays_open_and_takes_the_agents_record() {
    let mut rig = rig(2);
    rig.pass(5);
    let pod = Subject::pod(&ObjectKey::new("shop", "web"), &"u".into());
    rig.claim(2, Cause::PodRouteMissing, &pod);
    rig.pass(10);
    let record = RemedyRecord {
        kind: RemedyKind::RestoreRoute,
        subject: pod,
        mode: nameward_messages::remedy::Mode::Observe,
        outcome: RemedyOutcome::WouldAct,
        detail: "would run".into(),
        at: rig.now.wall,
    };
    rig.report(2, |r| r.remedies = vec![record.clone()]);
    rig.pass(10);
    assert_eq!(rig.phases(), [(Cause::PodRouteMissing, IncidentPhase::Open)]);
    assert_eq!(rig.view.incidents[0].status.ladder, [record]);
    assert_eq!(rig.view.incidents[0].status.nodes, [NodeName::from("node2")]);
}

#[test]
fn a_silent_or_unvouching_agent_neither_opens_nor_resolves() {
    let mut rig = rig(2);
    rig.pass(5);
    rig.report(1, |r| r.self_check = false);
    rig.claim(1, Cause::ForwardPolicyDrop, &node_subject(1));
    rig.pass(30);
    assert!(rig.view.incidents.is_empty());
    rig.report(1, |r| r.self_check = true);
    rig.pass(10);
    assert_eq!(rig.phases().len(), 1);
    rig.report(1, |r| {
        r.self_check = false;
        r.verdicts.clear();
    });
    rig.pass(60);
    assert_eq!(rig.phases(), [(Cause::ForwardPolicyDrop, IncidentPhase::Escalated)]);
}

fn on_node2(key: &ObjectKey, uid: &PodUid) -> DnsPodView {
    DnsPodView { uid: uid.clone(), key: key.clone(), ..crate::testing::pod("", "node2") }
}

#[test]
fn a_deferred_failure_that_its_node_does_not_explain_becomes_an_incident_after_a_minute() {
    let mut rig = rig(2);
    let key = ObjectKey::new("kube-system", "coredns-a");
    let uid = PodUid::from("u1");
    rig.view.pods = vec![on_node2(&key, &uid)];
    rig.pass(5);
    let deferral = Deferral { subject: Subject::pod(&key, &uid), to_node: "node2".into(), because: "udp: TO".into() };
    rig.report(1, |r| r.deferred = vec![deferral]);
    rig.pass(55);
    assert!(rig.view.incidents.is_empty());
    rig.pass(15);
    assert_eq!(rig.phases(), [(Cause::Unexplained, IncidentPhase::Escalated)]);
    // The node names its own cause after all: that one stands instead.
    rig.claim(2, Cause::ForwardPolicyDrop, &node_subject(2));
    rig.pass(15);
    assert_eq!(
        rig.phases(),
        [(Cause::Unexplained, IncidentPhase::Resolved), (Cause::ForwardPolicyDrop, IncidentPhase::Escalated)]
    );
}

#[test]
fn a_deferred_failure_whose_cause_has_just_ended_is_not_unexplained() {
    let mut rig = rig(2);
    let (key, uid) = (ObjectKey::new("kube-system", "coredns-a"), PodUid::from("u1"));
    rig.view.pods = vec![on_node2(&key, &uid)];
    rig.pass(5);
    let deferral = Deferral { subject: Subject::pod(&key, &uid), to_node: "node2".into(), because: "udp: TO".into() };
    rig.report(1, |r| r.deferred = vec![deferral]);
    rig.claim(2, Cause::CorednsHung, &Subject::pod(&key, &uid));
    rig.pass(90);
    // The pod's node sees it well a few seconds before the others do.
    rig.report(2, |r| r.verdicts.clear());
    rig.pass(30);
    assert!(rig.phases().iter().all(|(cause, _)| *cause != Cause::Unexplained), "{:?}", rig.phases());
    rig.pass(40);
    assert!(rig.phases().iter().any(|(cause, _)| *cause == Cause::Unexplained), "it goes on: {:?}", rig.phases());
}

#[test]
fn without_the_lease_or_with_an_incomplete_view_nothing_is_written() {
    let mut rig = rig(2);
    rig.view.fresh_as_of = rig.now.mono;
    rig.tell(Input::View(Arc::new(rig.view.clone())));
    assert!(rig.out.is_empty());
    rig.view.complete = false;
    rig.tell(Input::View(Arc::new(rig.view.clone())));
    rig.pass(10);
    assert!(rig.out.is_empty());
    rig.view.complete = true;
    rig.pass(1);
    assert!(!rig.out.is_empty());
}

#[test]
fn closed_incidents_are_deleted_after_seven_days_and_beyond_two_hundred() {
    let mut rig = rig(1);
    let closed = |n: usize, days: i64, now: Now| IncidentView {
        name: format!("old-{n}"),
        uid: format!("uid-{n}"),
        resource_version: "1".into(),
        created_at: None,
        spec: IncidentSpec { cause: Cause::Unexplained, scope: Scope::Pod, subject: node_subject(1) },
        status: IncidentStatus {
            phase: IncidentPhase::Resolved,
            closed_at: Some(now.wall - jiff::SignedDuration::from_hours(24 * days + 1)),
            ..IncidentStatus::default()
        },
    };
    rig.view.incidents = (0..3).map(|n| closed(n, if n == 0 { 7 } else { 6 }, rig.now)).collect();
    rig.pass(1);
    let deleted = |rig: &Rig| rig.out.iter().filter(|o| matches!(o, Output::DeleteIncident { .. })).count();
    assert_eq!(deleted(&rig), 1);
    rig.out.clear();
    rig.view.incidents = (0..203).map(|n| closed(n + 10, 1, rig.now)).collect();
    rig.pass(1);
    assert_eq!(deleted(&rig), 3);
}
