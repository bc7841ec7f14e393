//! What is told beside incidents: repairs of nodes, and how budgets cover CoreDNS.

use nameward_messages::cluster_view::{BudgetView, WorkloadView};
use nameward_messages::remedy::{Mode, RemedyRecord};

use super::*;

fn record(rig: &Rig, outcome: RemedyOutcome, detail: &str) -> RemedyRecord {
    RemedyRecord {
        kind: RemedyKind::RestoreRoute,
        subject: Subject::pod(&ObjectKey::new("shop", "web"), &"u".into()),
        mode: Mode::Act,
        outcome,
        detail: detail.into(),
        at: rig.now.wall,
    }
}

#[test]
fn what_a_node_refuses_or_does_is_an_event_once() {
    let mut rig = rig(2);
    let early = record(&rig, RemedyOutcome::Refused, "no permit");
    rig.report(1, |r| r.remedies.push(early));
    rig.pass(5);
    assert_eq!(rig.events("RemedyHeldBack"), 0, "it was told by whoever led then");
    let held = record(&rig, RemedyOutcome::Refused, "cool-down after the start");
    rig.report(1, |r| r.remedies.push(held));
    rig.pass(10);
    assert_eq!(rig.events("RemedyHeldBack"), 1);
    let done = record(&rig, RemedyOutcome::Done, "did: ip route add");
    rig.report(1, |r| r.remedies.push(done));
    rig.pass(1);
    let verified = record(&rig, RemedyOutcome::Verified, "DNS answers again");
    rig.report(1, |r| r.remedies.push(verified));
    rig.pass(60);
    assert_eq!((rig.events("RemedyHeldBack"), rig.events("RemedyDone"), rig.events("DnsRecovered")), (1, 1, 1));
    // A broken agent that writes ever new lines does not fill the cluster with Events.
    for n in 0..200 {
        let line = record(&rig, RemedyOutcome::Refused, &format!("reason {n}"));
        rig.report(1, |r| r.remedies = vec![line]);
        rig.tell(Input::View(Arc::new(rig.view.clone())));
    }
    assert!(rig.events("RemedyHeldBack") <= 61, "{}", rig.events("RemedyHeldBack"));
}

#[test]
fn a_coredns_without_a_disruption_budget_is_told_of_once_with_the_command() {
    let mut rig = rig(2);
    let pod = |n: usize| DnsPodView {
        uid: format!("u{n}").as_str().into(),
        ..crate::testing::pod(&format!("coredns-{n}"), &format!("node{n}"))
    };
    let budget = |name: &str| BudgetView {
        key: ObjectKey::new("kube-system", name),
        disruptions_allowed: 1,
        current_healthy: 2,
        desired_healthy: 1,
        observed: true,
        always_allow_unhealthy: false,
        matches: vec!["u1".into(), "u2".into()],
    };
    rig.view.pods = vec![pod(1), pod(2)];
    rig.view.workload = Some(crate::testing::workload());
    rig.view.selector = [("k8s-app".to_owned(), "kube-dns".to_owned())].into();
    rig.pass(30);
    assert_eq!(rig.events("NoDisruptionBudget"), 0, "watches come one after the other");
    rig.pass(600);
    assert_eq!(rig.events("NoDisruptionBudget"), 1);
    let note = rig.out.iter().find_map(|o| match o {
        Output::Event { reason: "NoDisruptionBudget", note, .. } => Some(note.clone()),
        _ => None,
    });
    let command =
        "kubectl -n kube-system create poddisruptionbudget coredns --selector=k8s-app=kube-dns --max-unavailable=1";
    assert!(note.unwrap().ends_with(command));
    // Somebody follows the advice, and then one more does.
    rig.view.budgets = vec![budget("coredns")];
    rig.pass(120);
    rig.view.budgets = vec![budget("coredns"), budget("kube-dns")];
    rig.pass(120);
    assert_eq!((rig.events("NoDisruptionBudget"), rig.events("DisruptionBudgetsOverlap")), (1, 1));
    // Where nothing else happens, the mind rests and tells it all the same.
    rig.view.budgets.clear();
    rig.pass(120);
    assert_eq!(rig.events("NoDisruptionBudget"), 2);
}

#[test]
fn one_replica_needs_no_budget() {
    let mut rig = rig(1);
    rig.view.workload = Some(WorkloadView { replicas: 1, ready: 1, ..crate::testing::workload() });
    rig.view.selector = [("k8s-app".to_owned(), "kube-dns".to_owned())].into();
    rig.pass(300);
    assert_eq!(rig.events("NoDisruptionBudget"), 0);
}

#[test]
fn events_stand_where_kubectl_describe_finds_them() {
    use nameward_messages::targets::{DnsService, Targets};
    let mut rig = rig(1);
    let service = DnsService {
        key: ObjectKey::new("kube-system", "kube-dns"),
        cluster_ips: vec![],
        udp_port: None,
        tcp_port: None,
        internal_traffic_local: false,
    };
    rig.view.targets = Arc::new(Targets { service: Some(service), ..Targets::default() });
    rig.view.service_uid = "s".into();
    rig.view.workload = Some(crate::testing::workload());
    let upstream = Subject { kind: SubjectKind::Upstream, namespace: None, name: "192.0.2.1".into(), uid: None };
    let workload = Subject::object(SubjectKind::Deployment, &ObjectKey::new("kube-system", "coredns"));
    rig.pass(5);
    let rows = [
        (Cause::UpstreamDead, upstream, ("service kube-system/kube-dns", "s")),
        (Cause::CorefileBroken, workload, ("deployment kube-system/coredns", "w")),
        (Cause::ForwardPolicyDrop, node_subject(1), ("node node1", "node1")),
    ];
    for (cause, subject, expected) in rows {
        rig.claim(1, cause, &subject);
        rig.pass(10);
        let about = rig.out.iter().rev().find_map(|output| match output {
            Output::Event { subject, reason, .. } if *reason == cause.about().reason => Some(subject.clone()),
            _ => None,
        });
        let about = about.unwrap();
        assert_eq!((about.to_string().as_str(), about.uid.as_ref().unwrap().as_str()), expected);
    }
}
