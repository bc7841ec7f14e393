//! What is known becomes what is shown: the page's model, and the page.

use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::cluster_view::{ClusterView, KillSwitch, NodeAgentView, NodeView};
use nameward_messages::guarding::Breaker;
use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::plan::IncidentPhase;
use nameward_messages::probe::{NotAsked, Outcome, OutcomeKind, QuestionKind};
use nameward_messages::remedy::{RemedyOutcome, RemedyRecord};
use nameward_messages::report::{MatrixDigest, MatrixRow, NodeOrders, NodeReport, ReportedVerdict};
use nameward_messages::status::{
    EventKind, Health, MINUTES, MOST_ACTS, MOST_CELLS, MOST_INCIDENTS, MOST_ROWS, MOST_TARGETS, MatrixOf, NoteKind,
    PacketWay, Passes, PathState, Status, WayStep,
};
use nameward_messages::targets::{Targets, Transport};
use nameward_messages::verdict::{Cause, DiagnosisTells, Layer};
use nameward_messages::{Mono, NodeName};
use nameward_metrics::mind::Output;
use nameward_metrics::state::Snapshot;
use nameward_metrics::status::{Around, stations, status};
use nameward_metrics::{About, MetricsInput, MetricsMind, html};

use crate::common::*;

/// What is shown after these inputs, each told at its second.
fn shown(role: &str, inputs: impl IntoIterator<Item = (u64, MetricsInput)>) -> Status {
    let mut mind = MetricsMind::new(at(0), "node1", &Config::default());
    let mut snapshot = Arc::new(Snapshot::default());
    let mut last = 0;
    let mut tell = |mind: &mut MetricsMind, second, input| {
        let mut out = Vec::new();
        mind.step(at(second), input, &mut out);
        for output in out {
            if let Output::Publish(published) = output {
                snapshot = published;
            }
        }
    };
    for (second, input) in inputs {
        tell(&mut mind, second, input);
        last = second;
    }
    tell(&mut mind, last + 2, MetricsInput::Tick);
    let about = About { version: "1.2.3".into(), node: "node1".into(), role: role.into() };
    status(&snapshot, &about, &Around::default())
}

fn now(inputs: impl IntoIterator<Item = MetricsInput>) -> Status {
    shown("agent", inputs.into_iter().map(|input| (10, input)))
}

fn bad_day() -> Status {
    now(a_bad_day())
}

fn way() -> PacketWay {
    let step = |at: &str, says: &str, passes| WayStep { at: at.into(), says: says.into(), passes };
    PacketWay {
        path: "shop/web-1 -> coredns-a (10.244.1.2) over udp".into(),
        steps: vec![
            step("shop/web-1", "eth0 is up", Passes::Yes),
            step("node1 rules", "a match is not understood", Passes::Unknown),
            step("kube-system/coredns-a", "nobody listens on udp 53", Passes::No),
        ],
    }
}

#[test]
fn an_agent_shows_who_sees_what() {
    let status = bad_day();
    let matrix = &status.matrices[0];
    assert_eq!((matrix.of, status.matrices.len()), (MatrixOf::Node, 1));
    let heads: Vec<&str> = matrix.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(heads, ["DNS Service", "coredns-a"]);
    let rows: Vec<(&str, PathState)> = matrix.rows.iter().map(|row| (row.from.as_str(), row.state)).collect();
    assert_eq!(rows, [("host", PathState::Failing), ("shop/web-1", PathState::Failing)]);
    let of = |row: usize, column: usize| &matrix.rows[row].cells[column];
    assert_eq!((&of(0, 0).udp, &of(0, 0).tcp), (&None, &None), "the host did not ask the Service");
    let udp = of(0, 1).udp.as_ref().unwrap();
    assert_eq!((udp.state, udp.outcome, udp.bad), (PathState::Failing, Some(OutcomeKind::Refused), 1));
    assert_eq!(udp.says.as_deref(), Some("refused by 10.244.1.2"));
    let tcp = of(0, 1).tcp.as_ref().unwrap();
    assert_eq!((tcp.state, tcp.latency_us, tcp.says.as_deref()), (PathState::Well, Some(2000), None));
    // It failed once, and nobody has confirmed it.
    assert_eq!(of(1, 0).udp.as_ref().unwrap().state, PathState::Doubtful);
    assert_eq!(
        status.headline,
        "2 of 4 paths from 2 vantages of node1 fail: coredns-udp-dead on pod kube-system/coredns-a."
    );
}

#[test]
fn the_health_in_one_word() {
    let path = || path(Vantage::Host, service(), Transport::Udp);
    let good = || round(1, 10, vec![saw(10, path(), Outcome::Answered, 1)]);
    let bad = || round(1, 10, vec![saw(10, path(), Outcome::Timeout, 700)]);
    let unasked = || round(1, 10, vec![saw(10, path(), Outcome::NotAsked { why: NotAsked::NoPermission }, 0)]);
    let cases: Vec<(Vec<MetricsInput>, Health, &str)> = vec![
        (vec![], Health::Unknown, "Nothing has been asked yet."),
        (vec![unasked()], Health::Unknown, "Nothing has been asked yet."),
        (vec![good()], Health::Well, "1 of 1 paths from 1 vantage of node1 answer."),
        (
            vec![bad()],
            Health::Well,
            "1 of 1 paths from 1 vantage of node1 answer. The last probe of some of them failed; that is not confirmed.",
        ),
        (
            vec![bad(), suspected(path())],
            Health::Failing,
            "1 of 1 paths from 1 vantage of node1 fail: no cause is named yet.",
        ),
        (
            vec![good(), stands(Cause::CorednsOomKilled, "coredns-a", 9)],
            Health::Failing,
            "All paths answer from node1, but something is wrong: coredns-oom-killed on pod kube-system/coredns-a.",
        ),
    ];
    for (inputs, health, headline) in cases {
        let status = now(inputs);
        assert_eq!((status.health, status.headline.as_str()), (health, headline));
    }
}

#[test]
fn a_verdict_is_shown_with_its_evidence_and_its_way_and_goes_with_it() {
    let key = verdict(Cause::CorednsUdpDead, "coredns-a", 2).key();
    let told = MetricsInput::Verdict(DiagnosisTells::Way { key: key.clone(), way: way() });
    let before = now([told.clone(), stands(Cause::CorednsUdpDead, "coredns-a", 2)]);
    assert_eq!(before.incidents[0].way, None, "the way of no verdict is not kept");
    let status = now([stands(Cause::CorednsUdpDead, "coredns-a", 2), told.clone()]);
    let incident = &status.incidents[0];
    assert_eq!((incident.name.as_deref(), incident.open, incident.phase), (None, true, None));
    assert_eq!(incident.says, "pod kube-system/coredns-a does not listen on UDP while TCP answers");
    assert_eq!(incident.evidence.len(), 1);
    assert_eq!(incident.way, Some(way()));
    assert_eq!(incident.runbook, "runbooks/coredns-udp-dead.md");
    assert!(incident.command.starts_with("kubectl -n kube-system delete pod coredns-a"), "{}", incident.command);
    let gone = now([stands(Cause::CorednsUdpDead, "coredns-a", 2), told, ended(Cause::CorednsUdpDead, "coredns-a")]);
    assert!(gone.incidents.is_empty());
    assert_eq!(gone.history.events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::Ended, EventKind::Named]);
}

#[test]
fn an_incident_and_a_verdict_of_the_same_are_one() {
    let verdict = || stands(Cause::CorednsUdpDead, "coredns-a", 2);
    let open = now([verdict(), incident("dns-1", IncidentPhase::Verifying, 2)]);
    assert_eq!(open.incidents.len(), 1);
    let one = &open.incidents[0];
    assert_eq!((one.name.as_deref(), one.phase), (Some("dns-1"), Some(IncidentPhase::Verifying)));
    assert_eq!(
        (one.evidence.len(), one.nodes.as_slice()),
        (1, &[NodeName::from("node1")][..]),
        "what it lacks, the verdict has"
    );
    // An incident that is over says nothing of a verdict that stands again.
    let again = now([verdict(), incident("dns-1", IncidentPhase::Resolved, 2)]);
    let open: Vec<_> = again.incidents.iter().map(|incident| (incident.open, incident.name.is_some())).collect();
    assert_eq!(open, [(true, false), (false, true)]);
}

#[test]
fn where_a_cause_lies_is_marked() {
    for layer in [Layer::Pod, Layer::Node, Layer::Service, Layer::Underlay, Layer::Coredns, Layer::Upstream] {
        assert_eq!(stations(layer).iter().filter(|station| station.here).count(), 1, "{layer:?}");
    }
    assert!(stations(Layer::Unknown).iter().all(|station| !station.here));
}

fn report(bad: u32, verdicts: Vec<ReportedVerdict>) -> NodeReport {
    let row = |transport, from, question, good, bad: u32| MatrixRow {
        target: "pod".into(),
        pod: Some(uid("coredns-a")),
        ip: ip(2),
        transport,
        question,
        from,
        good,
        bad,
        outcome: (bad > 0).then_some(OutcomeKind::Timeout),
        latency_us: (good > 0).then_some(1234),
    };
    let rows = vec![
        row(Transport::Udp, VantageKind::Pod, QuestionKind::Internal, 7 - bad, bad),
        row(Transport::Udp, VantageKind::Pod, QuestionKind::External, 7, 0),
        row(Transport::Tcp, VantageKind::Host, QuestionKind::Internal, 1, 0),
    ];
    NodeReport { self_check: true, matrix: MatrixDigest { rows }, verdicts, ..NodeReport::default() }
}

fn agent(name: &str, seen: u64, report: Option<NodeReport>) -> NodeAgentView {
    NodeAgentView {
        name: name.into(),
        uid: String::new(),
        resource_version: String::new(),
        orders: NodeOrders::default(),
        report: report.map(Arc::new),
        changed_at: Mono(Duration::from_secs(seen)),
    }
}

fn node(name: &str) -> NodeView {
    NodeView { name: name.into(), uid: String::new(), ready: None, unschedulable: None, zone: None, terminating: false }
}

fn reported(cause: Cause) -> ReportedVerdict {
    let verdict = verdict(cause, "coredns-a", 2);
    ReportedVerdict {
        cause,
        scope: verdict.scope,
        subject: verdict.subject,
        confidence: verdict.confidence,
        evidence: verdict.evidence,
        ruled_out: vec![],
        since: verdict.since.wall,
    }
}

fn cluster(agents: Vec<NodeAgentView>) -> MetricsInput {
    let MetricsInput::Targets(targets) = targets(&[("coredns-a", 2)]) else { panic!("targets") };
    let nodes = agents.iter().map(|agent| node(agent.name.as_str())).collect();
    MetricsInput::View(Arc::new(ClusterView { complete: true, targets, nodes, agents, ..ClusterView::default() }))
}

#[test]
fn a_coordinator_shows_every_node() {
    let stale = Config::default().coordinator.stale_after.0.as_secs();
    let second = stale + 100;
    let agents = vec![
        agent("node1", second, Some(report(0, vec![]))),
        agent("node2", second, Some(report(3, vec![reported(Cause::CorednsUdpDead)]))),
        agent("node3", 1, Some(report(0, vec![]))),
        agent("node4", second, None),
    ];
    let status = shown("coordinator", [(second, cluster(agents))]);
    let figures = status.cluster.unwrap();
    assert_eq!((figures.nodes, figures.reporting, figures.silent, figures.failing), (4, 2, 2, 1));
    assert_eq!(status.headline, "1 of 2 reporting nodes see DNS fail: coredns-udp-dead on pod kube-system/coredns-a.");
    let matrix = &status.matrices[0];
    let rows: Vec<(&str, PathState)> = matrix.rows.iter().map(|row| (row.from.as_str(), row.state)).collect();
    let expected = [
        ("node2: pods", PathState::Failing),
        ("node1: host", PathState::Well),
        ("node1: pods", PathState::Well),
        ("node2: host", PathState::Well),
        ("node3 (silent)", PathState::Unknown),
        ("node4 (no report)", PathState::Unknown),
    ];
    assert_eq!(rows, expected);
    let udp = matrix.rows[0].cells[0].udp.as_ref().unwrap();
    assert_eq!((udp.good, udp.bad, udp.outcome), (4, 3, Some(OutcomeKind::Timeout)));
    assert_eq!(udp.failing, [QuestionKind::Internal]);
    assert_eq!(matrix.rows[1].cells[0].tcp.as_ref().unwrap().latency_us, Some(1234));
    assert_eq!(status.incidents[0].nodes, [NodeName::from("node2")]);
    // What is not complete is not shown as the cluster.
    let half = MetricsInput::View(Arc::new(ClusterView::default()));
    let status = shown("coordinator", [(second, half)]);
    assert_eq!((status.health, status.cluster, status.matrices.len()), (Health::Unknown, None, 0));
}

#[test]
fn one_that_is_both_shows_both() {
    let view = cluster(vec![agent("node1", 10, Some(report(0, vec![reported(Cause::CorednsUdpDead)])))]);
    let status = shown("all", a_bad_day().into_iter().chain([view]).map(|input| (10, input)));
    assert_eq!(status.matrices.iter().map(|matrix| matrix.of).collect::<Vec<_>>(), [MatrixOf::Cluster, MatrixOf::Node]);
    assert_eq!(status.incidents.len(), 1, "its own report says what it says itself");
}

#[test]
fn what_is_refused_again_and_again_is_said_once() {
    let refused = |second: u64| match remedy(RemedyOutcome::Refused) {
        MetricsInput::Remedy(record) => (
            second,
            MetricsInput::Remedy(RemedyRecord { at: at(second).wall, detail: "no other pod is good".into(), ..record }),
        ),
        other => (second, other),
    };
    let status = shown("agent", [refused(3), (4, remedy(RemedyOutcome::Done)), refused(5), refused(9)]);
    let acts: Vec<_> = status.acts.iter().map(|act| (act.outcome, act.times, act.at)).collect();
    assert_eq!(acts, [(RemedyOutcome::Refused, 3, at(9).wall), (RemedyOutcome::Done, 1, at(3).wall)]);
    let refusals = status.history.events.iter().filter(|event| event.kind == EventKind::Refused).count();
    assert_eq!(refusals, 1);
}

#[test]
fn an_hour_and_no_more() {
    let path = || path(Vantage::Host, service(), Transport::Udp);
    let mut inputs = Vec::new();
    for minute in 0..90u64 {
        let second = minute * 60 + 5;
        // Nothing is told for ten minutes.
        if (60..70).contains(&minute) {
            continue;
        }
        let failed = minute == 80;
        let outcome = if failed { Outcome::Timeout } else { Outcome::Answered };
        inputs.push((second, round(minute, second, vec![saw(second, path(), outcome, 2)])));
        if failed {
            inputs.push((second, suspected(path())));
            inputs.push((second + 1, stands(Cause::CorednsUdpDead, "coredns-a", second)));
            inputs.push((second + 20, MetricsInput::Cleared { path: path() }));
            inputs.push((second + 21, ended(Cause::CorednsUdpDead, "coredns-a")));
        }
        if minute == 10 {
            inputs.push((second, MetricsInput::Leader(true)));
        }
    }
    let history = shown("agent", inputs).history;
    assert_eq!(history.minutes.len(), MINUTES);
    let known: Vec<bool> = history.minutes.iter().map(|minute| minute.known).collect();
    assert_eq!(known.iter().filter(|known| !**known).count(), 10);
    let bad: Vec<_> = history.minutes.iter().filter(|minute| minute.suspected > 0).collect();
    assert_eq!((bad.len(), bad[0].failed, bad[0].incidents, bad[0].median_us), (1, 1, 1, None));
    let last = history.minutes.last().unwrap();
    assert!((1750..2250).contains(&last.median_us.unwrap()), "{last:?}");
    assert!(history.minutes.windows(2).all(|two| two[1].at.duration_since(two[0].at).as_secs() == 60));
    assert!(
        history.events.iter().all(|event| event.kind != EventKind::Own),
        "it is older than an hour: {:?}",
        history.events
    );
}

#[test]
fn it_is_bounded() {
    let mut inputs = vec![];
    let mut seen = Vec::new();
    for n in 0..600 {
        for target in 0..60 {
            let target = coredns(&format!("coredns-{target}"), target);
            seen.push(saw(10, path(workload(n), target, Transport::Udp), Outcome::Answered, 1));
        }
    }
    let failing = path(workload(4), coredns("coredns-59", 59), Transport::Udp);
    inputs.push((10, round(1, 10, seen)));
    inputs.push((10, suspected(failing)));
    for n in 0..120 {
        inputs.push((10, incident(&format!("dns-{n}"), IncidentPhase::Open, n)));
        inputs.push((10 + n, remedy(RemedyOutcome::Done)));
    }
    let status = shown("agent", inputs);
    let matrix = &status.matrices[0];
    assert!(matrix.targets.len() <= MOST_TARGETS && matrix.rows.len() <= MOST_ROWS);
    assert!(matrix.targets.len() * matrix.rows.len() <= MOST_CELLS);
    assert!(matrix.rows_left_out > 0 && matrix.targets_left_out > 0);
    assert_eq!(matrix.rows[0].state, PathState::Failing, "what fails is kept");
    assert!(matrix.targets.iter().any(|target| target.name == "coredns-59"), "what fails is kept");
    assert!(matrix.rows.iter().all(|row| row.cells.len() == matrix.targets.len()));
    assert_eq!((status.incidents.len(), status.incidents_left_out), (MOST_INCIDENTS, 70));
    assert!(status.acts.len() <= MOST_ACTS);
    assert!(html::page(&status).len() < 1_000_000);
}

#[test]
fn what_holds_its_hands_is_noted() {
    let status = now([
        MetricsInput::KillSwitch(KillSwitch::On),
        MetricsInput::Breaker { breaker: Breaker::Node, open: true },
        MetricsInput::Breaker { breaker: Breaker::Coredns, open: false },
        MetricsInput::Api { reachable: false },
        MetricsInput::Losses(vec!["no NET_ADMIN".to_owned()]),
        MetricsInput::Verdict(DiagnosisTells::Unmodelled(vec!["IPVS".to_owned()])),
    ]);
    let kinds: Vec<NoteKind> = status.notes.iter().map(|note| note.kind).collect();
    use NoteKind::{Limit, Stopped, Trouble};
    assert_eq!(kinds, [Trouble, Stopped, Stopped, Limit, Limit]);
}

#[test]
fn the_json_can_be_read_back() {
    let status = bad_day();
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    let bare = r#"{"source":{"version":"2","role":"agent"},"health":"unknown","headline":"?"}"#;
    assert_eq!(serde_json::from_str::<Status>(bare).unwrap().matrices, []);
    let _: Arc<Targets> = Arc::default();
}
