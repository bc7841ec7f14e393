#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::{AddedReplica, IncidentPhase, IncidentSpec, IncidentStatus, Intent};
use nameward_messages::verdict::{Evidence, RuledOut};
use nameward_messages::{Now, ObjectKey, PodUid};

use super::*;
use crate::judge::answers::Doubt;
use crate::judge::{advice, names};

/// Names as short as in a test cluster, and as long as the API allows.
fn subjects() -> Vec<Subject> {
    let long = |most: usize| "n".repeat(most);
    let key = |namespace: &str, name: &str| ObjectKey::new(namespace, name);
    let (short, longest) = (key("kube-system", "coredns-74c7b86f9f-2xk5q"), key(&long(63), &long(253)));
    let mut all = Vec::new();
    for key in [short, longest] {
        all.push(Subject::pod(&key, &PodUid("5f0a1c3e-9d1b-4f55-8f0a-1c3e9d1b4f55".into())));
        all.push(Subject::node(&NodeName(key.name.clone())));
        all.push(Subject::object(SubjectKind::Service, &key));
        all.push(Subject::object(SubjectKind::Deployment, &key));
    }
    all
}

fn incident(cause: Cause, subject: &Subject) -> Incident {
    let now = Now::at(Duration::from_secs(500));
    let spec = IncidentSpec { cause, scope: cause.about().scope, subject: subject.clone() };
    let name = names::incident(cause, subject, now.wall);
    let mut incident = Incident::new(name, spec, advice::summary(cause, subject), now.wall, now.mono);
    let line = Evidence::new(
        format!("{}: /proc/net/udp\nin its namespace", subject.name),
        "no socket on port 53\u{7}".repeat(40),
    );
    incident.testify([NodeName(subject.name.clone())].into(), vec![line], Vec::new());
    incident
}

fn record(kind: RemedyKind, subject: &Subject, outcome: RemedyOutcome, detail: String) -> RemedyRecord {
    let at = Now::at(Duration::from_secs(501)).wall;
    RemedyRecord { kind, subject: subject.clone(), mode: Mode::Act, outcome, detail, at }
}

const OUTCOMES: [RemedyOutcome; 9] = [
    RemedyOutcome::WouldAct,
    RemedyOutcome::Refused,
    RemedyOutcome::Done,
    RemedyOutcome::Unknown,
    RemedyOutcome::Verified,
    RemedyOutcome::Ineffective,
    RemedyOutcome::Undone,
    RemedyOutcome::Failed,
    RemedyOutcome::Escalated,
];

fn doubts() -> Vec<Doubt> {
    let node = || NodeName("node1".into());
    vec![
        Doubt::NoAnswers,
        Doubt::OwnNodeSilent(node()),
        Doubt::OwnNodeSeesItGood(node()),
        Doubt::OwnNodeLosesMost(node()),
        Doubt::TooFewNodes { fail: 1, need: 3 },
        Doubt::MostSeeItGood { good: 2, fail: 1 },
        Doubt::TooFewNamespaces { fail: 1 },
        Doubt::AllBad,
        Doubt::NoGoodPod { asked: 3 },
        Doubt::QuorumMissing { fresh: 1, expected: 3 },
        Doubt::PodNotListed,
        Doubt::PodTerminating,
        Doubt::Calm { left_s: 12 },
        Doubt::BreakerOpen { left_s: 12 },
        Doubt::OomNotConfirmed,
        Doubt::NoLimit,
        Doubt::OwnedBy("argocd".into()),
        Doubt::AtCap(1 << 30),
        Doubt::OffLadder(RemedyKind::EvictPod),
        Doubt::NodeDrained(node()),
        Doubt::PodsMoving("kube-system/coredns-a".into()),
        Doubt::ReplicasOwned("keda".into()),
        Doubt::NotScalable,
        Doubt::ReplicaStands("coredns-hung-0a-1".into()),
        Doubt::AddedInVain,
        Doubt::PodUnexplained("kube-system/coredns-a".into()),
        Doubt::RestNotFine("node1 names upstream-dead".into()),
        Doubt::OtherNodesToo(2),
        Doubt::NoKubeProxy(node()),
    ]
}

/// Every Event that can be written, of every cause, about objects with short and with long names.
fn every_event() -> Vec<Output> {
    let (settings, view) = (nameward_config::Config::default().remedy, ClusterView::default());
    let mut all = Vec::new();
    for cause in Cause::ALL {
        for subject in subjects() {
            let incident = incident(*cause, &subject);
            let command = advice::command(*cause, &subject, &incident.nodes, &settings, &view);
            all.push(opened(&incident, Next::Person(&command)));
            all.push(opened(&incident, Next::Many(&command)));
            all.push(opened(&incident, Next::Nothing));
            for mode in [Mode::Off, Mode::Observe, Mode::Act] {
                all.push(opened(&incident, Next::Remedy(RemedyKind::EvictPod, mode, &command)));
            }
            all.push(needs_a_person(&incident, "evict-pod did not help", &command));
            all.push(recovered(&incident, "DNS recovered: no node says so any more"));
            all.push(replica_good(&incident, "2 CoreDNS pods answer the majority of the asked nodes"));
            for outcome in OUTCOMES {
                let said =
                    record(RemedyKind::RestoreRoute, &subject, outcome, format!("no permit; by hand: {command}"));
                all.extend(shared_record(&incident, &said));
                all.push(node_record(&NodeName(subject.name.clone()), Some(&incident), &said));
                all.push(node_record(&NodeName(subject.name.clone()), None, &said));
            }
        }
    }
    let incident = incident(Cause::CorednsHung, &subjects()[0]);
    for doubt in doubts() {
        let said = record(RemedyKind::EvictPod, &subjects()[0], RemedyOutcome::Refused, doubt.to_string());
        all.push(held_back(&incident, &said));
    }
    for (namespace, name) in [("kube-system".to_owned(), "coredns".to_owned()), ("n".repeat(63), "n".repeat(253))] {
        let key = ObjectKey::new(namespace, name);
        let workload = WorkloadView { key: key.clone(), ..crate::testing::workload() };
        let budget = |n: usize| BudgetView {
            key: ObjectKey::new(key.namespace.clone(), format!("{}{n}", &key.name[..key.name.len() - 1])),
            disruptions_allowed: 1,
            current_healthy: 2,
            desired_healthy: 1,
            observed: true,
            always_allow_unhealthy: false,
            matches: vec![],
        };
        let budgets: Vec<BudgetView> = (0..9).map(budget).collect();
        all.push(no_budget(&workload, "k8s-app=kube-dns"));
        all.push(overlapping_budgets(&workload, &budgets.iter().collect::<Vec<_>>()));
    }
    all
}

/// What `{:?}` of a type of ours would leave behind.
const DEBUG: &[&str] =
    &["Some(", "None", "Ok(", "Err(", "NodeName(", "PodUid(", "ObjectKey", "Subject {", "::", "\\\"", "{ ", " }"];

#[test]
fn every_event_is_short_enough_and_reads_as_sentences() {
    let mut reasons = BTreeSet::new();
    let all = every_event();
    for output in &all {
        let Output::Event { subject, reason, note, .. } = output else { panic!("{output:?}") };
        reasons.insert(*reason);
        assert!(note.len() <= LONGEST, "{} bytes: {note}", note.len());
        assert!(!note.chars().any(char::is_control), "{note}");
        assert!(reason.len() <= 128 && reason.chars().all(|c| c.is_ascii_alphanumeric()), "{reason}");
        assert!(reason.starts_with(|c: char| c.is_ascii_uppercase()), "{reason}");
        // A command may hold a template; the sentences may not.
        let sentences = note.split("kubectl").next().unwrap();
        for debug in DEBUG {
            assert!(!sentences.contains(debug), "{debug:?} in: {note}");
        }
        assert!(note.starts_with(|c: char| c.is_ascii_alphanumeric()), "{note}");
        assert!(!note.contains("  ") || note.contains("kubectl"), "{note}");
        assert!(subject.plausible());
    }
    // With names as they are, nothing is cut: least of all the command.
    let short = |output: &&Output| matches!(output, Output::Event { subject, .. } if subject.name.len() < 60);
    let cut = all.iter().filter(short).filter(|o| matches!(o, Output::Event { note, .. } if note.ends_with("...")));
    assert_eq!(cut.count(), 0);
    // Those that are not a cause's own.
    for reason in [
        "DnsFailureUnexplained",
        "DnsNeedsAPerson",
        "DnsRecovered",
        "DisruptionBudgetsOverlap",
        "NoDisruptionBudget",
        "RemedyDidNotHelp",
        "RemedyDone",
        "RemedyFailed",
        "RemedyHeldBack",
        "RemedyOutcomeUnknown",
        "RemedyUndone",
        "RemedyWouldAct",
        "ReplicaGood",
    ] {
        assert!(reasons.contains(reason), "{reason}");
    }
}

#[test]
fn an_event_says_what_is_wrong_what_was_done_and_what_comes_next() {
    let pod = &subjects()[0];
    let incident = incident(Cause::CorednsUdpDead, pod);
    let Output::Event { note, .. } = opened(&incident, Next::Remedy(RemedyKind::EvictPod, Mode::Observe, "kubectl x"))
    else {
        panic!()
    };
    for part in [
        "Pod kube-system/coredns-74c7b86f9f-2xk5q does not listen on UDP while TCP answers. Seen: ",
        "Details: kubectl describe dnsincident coredns-udp-dead-",
        "change nothing. By hand: kubectl x",
    ] {
        assert!(note.to_lowercase().contains(&part.to_lowercase()), "{part} in {note}");
    }
    let said = record(RemedyKind::RestoreRoute, pod, RemedyOutcome::Refused, "no permit; by hand: ip route".into());
    let Output::Event { note, .. } = node_record(&"node1".into(), None, &said) else { panic!() };
    assert_eq!(
        note,
        "Nothing was changed: the agent on node1 holds restore-route back, since no permit; by hand: ip route. \
         Details: kubectl describe nodeagent node1. It is tried again by itself when that has passed"
    );
}

/// The biggest incident there can be: every list full, every line as long as it may be, of characters that JSON escapes,
/// names as long as the API allows, many nodes, an intent and a replica.
#[test]
fn an_incident_stays_below_its_bound_whatever_was_read() {
    let at = Now::at(Duration::from_secs(500)).wall;
    let worst = "\"\\".repeat(5000);
    for subject in subjects() {
        let mut incident = incident(Cause::CorednsReceiveOverflow, &subject);
        (incident.evidence, incident.summary) = (Vec::new(), worst.clone());
        let nodes = (0..5000).map(|n| NodeName(format!("{n:0>253}"))).collect();
        let evidence = (0..5000).map(|n| Evidence::new(format!("{n}{worst}"), worst.clone())).collect();
        let ruled_out = (0..5000).map(|n| RuledOut { what: format!("{n}{worst}"), because: worst.clone() }).collect();
        incident.testify(nodes, evidence, ruled_out);
        for n in 0..5000 {
            let outcome = OUTCOMES[n % OUTCOMES.len()];
            incident.record(record(RemedyKind::RestoreBridgeAddress, &subject, outcome, format!("{n}{worst}")));
        }
        incident.phase = IncidentPhase::Remediating;
        incident.closed_at = Some(at);
        incident.added =
            Some(AddedReplica { workload: ObjectKey::new("n".repeat(63), "n".repeat(253)), before: 2, after: 3, at });
        incident.intent = Some(Intent {
            kind: RemedyKind::RestartKubeProxy,
            subject: subject.clone(),
            target: Some(subject.clone()),
            by: "n".repeat(300),
            resource_version: "9".repeat(20),
            from: Some(u64::MAX),
            to: Some(u64::MAX),
            at,
        });
        let status: IncidentStatus = incident.status();
        let bytes = serde_json::to_vec(&incident.spec).unwrap().len() + serde_json::to_vec(&status).unwrap().len();
        assert!(bytes <= IncidentStatus::MOST_BYTES, "{bytes} bytes");
        assert!(bytes > IncidentStatus::MOST_BYTES / 2, "{bytes} bytes: the bound says nothing");
        assert_eq!(
            (status.evidence.len(), status.ruled_out.len()),
            (IncidentStatus::EVIDENCE, IncidentStatus::RULED_OUT)
        );
        assert_eq!((status.nodes.len(), status.ladder.len()), (IncidentStatus::NODES, IncidentStatus::LADDER));
    }
}
