#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::namespaces::{Namespace, NamespaceSource, Resolv};
use nameward_messages::probe::{Observation, Outcome, OutcomeKind, QuestionKind};
use nameward_messages::report::{MatrixRow, RequestOrder};
use nameward_messages::targets::{DnsPod, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence, Scope, Subject};
use nameward_messages::{NetnsCookie, ObjectKey, RequestId};

use super::*;

struct Rig {
    mind: ReporterMind,
    now: Now,
    out: Vec<Output>,
    /// Every write with its time.
    writes: Vec<(Mono, NodeReport)>,
    answer: WriteResult,
}

fn rig() -> Rig {
    let mind = ReporterMind::new(Arc::new(Config::default()), "0.1.0", 1);
    let now = Now::at(Duration::from_secs(100));
    let mut rig = Rig { mind, now, out: vec![], writes: vec![], answer: WriteResult::Done };
    rig.tell(Input::Tick);
    assert_eq!(rig.out, [Output::Read]);
    rig.out.clear();
    rig.tell(Input::WasRead(ReadResult::Found(None)));
    rig
}

impl Rig {
    fn tell(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = vec![];
            self.mind.step(self.now, input, &mut out);
            for output in out {
                if let Output::Write(report) = &output {
                    self.writes.push((self.now.mono, (**report).clone()));
                    inputs.push_back(Input::Wrote(self.answer.clone()));
                } else {
                    self.out.push(output);
                }
            }
        }
    }

    /// Lets time pass as the shell does: a tick at every deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        let mut ticks = 0;
        while let Some(due) = self.mind.deadline().filter(|due| *due <= end) {
            ticks += 1;
            assert!(ticks < 10_000, "a hot loop");
            self.now = self.now + due.since(self.now.mono);
            self.tell(Input::Tick);
        }
        self.now = self.now + end.since(self.now.mono);
    }

    fn matrix(&mut self, good: u32, bad: u32) {
        let row = MatrixRow {
            target: "pod".into(),
            pod: Some("u1".into()),
            ip: [10, 244, 1, 2].into(),
            transport: Transport::Udp,
            question: QuestionKind::Internal,
            from: nameward_messages::namespaces::VantageKind::Pod,
            good,
            bad,
            outcome: (bad > 0).then_some(OutcomeKind::Timeout),
            latency_us: None,
        };
        self.tell(Input::Diagnosis(DiagnosisTells::Matrix(MatrixDigest { rows: vec![row] })));
    }

    fn last(&self) -> &NodeReport {
        &self.writes.last().unwrap().1
    }
}

fn verdict(now: Now) -> Verdict {
    Verdict {
        cause: Cause::CorednsUdpDead,
        scope: Scope::CorednsPod,
        subject: Subject::pod(&ObjectKey::new("kube-system", "coredns-a"), &"u1".into()),
        confidence: Confidence::Certain,
        evidence: vec![],
        ruled_out: vec![],
        since: now,
        at: now,
    }
}

#[test]
fn a_quiet_node_writes_once_per_heartbeat_whatever_its_counts_do() {
    let mut rig = rig();
    rig.matrix(3, 0);
    rig.pass(Duration::from_secs(10));
    let before = rig.writes.len();
    for round in 0..360 {
        rig.pass(Duration::from_secs(10));
        rig.matrix(3 + round % 7, 0);
    }
    let beats = rig.writes.len() - before;
    assert!((10..=14).contains(&beats), "{beats} writes in an hour");
    for pair in rig.writes[before..].windows(2) {
        let gap = pair[1].0.since(pair[0].0);
        assert!((Duration::from_secs(270)..=Duration::from_secs(331)).contains(&gap), "{gap:?}");
    }
    let sequences: Vec<u64> = rig.writes.iter().map(|(_, r)| r.sequence).collect();
    assert!(sequences.windows(2).all(|p| p[1] == p[0] + 1));
}

#[test]
fn a_change_is_written_after_the_debounce_and_storms_are_paced() {
    let mut rig = rig();
    rig.matrix(3, 0);
    rig.pass(Duration::from_secs(60));
    let (before, at) = (rig.writes.len(), rig.now.mono);
    rig.tell(Input::Diagnosis(DiagnosisTells::Stands(verdict(rig.now))));
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.writes.len(), before + 1);
    let waited = rig.writes.last().unwrap().0.since(at);
    assert_eq!(waited, Duration::from_millis(500));
    assert_eq!(rig.last().conditions[0].status, "False");
    // A verdict that comes and goes every 300 ms for five minutes.
    let before = rig.writes.len();
    for n in 0..1000 {
        rig.pass(Duration::from_millis(300));
        let key = verdict(rig.now).key();
        let tells = if n % 2 == 0 {
            DiagnosisTells::Ended { key, at: rig.now, recovered: true }
        } else {
            DiagnosisTells::Stands(verdict(rig.now))
        };
        rig.tell(Input::Diagnosis(tells));
    }
    let writes = rig.writes.len() - before;
    assert!(writes <= 6 + 300 / 5 + 1, "{writes} writes in 300 s");
    for pair in rig.writes[before..].windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= Duration::from_secs(1));
    }
}

#[test]
fn a_flickering_matrix_does_not_hold_up_a_verdict() {
    let mut rig = rig();
    rig.matrix(3, 0);
    rig.pass(Duration::from_secs(60));
    // More and more paths fail, one by one, and some come back: every row of it is a change.
    for n in 0..40 {
        rig.matrix(n % 2, 3 - n % 2);
        rig.pass(Duration::from_millis(300));
    }
    let at = rig.now.mono;
    rig.tell(Input::Diagnosis(DiagnosisTells::Stands(verdict(rig.now))));
    rig.pass(Duration::from_secs(2));
    let (written, report) = rig.writes.last().unwrap();
    assert!(!report.verdicts.is_empty());
    assert!(written.since(at) <= Duration::from_millis(1500), "{:?} later", written.since(at));
}

#[test]
fn failures_back_off_and_a_lost_object_is_created() {
    let mut rig = rig();
    rig.matrix(3, 0);
    rig.answer = WriteResult::Failed("no API".into());
    rig.pass(Duration::from_secs(5));
    let before = rig.writes.len();
    rig.tell(Input::Diagnosis(DiagnosisTells::Stands(verdict(rig.now))));
    rig.pass(Duration::from_secs(600));
    let tries = rig.writes.len() - before;
    assert!((5..=25).contains(&tries), "{tries} tries in ten minutes");
    assert!(rig.mind.trouble().is_some());
    rig.answer = WriteResult::Missing;
    rig.pass(Duration::from_secs(120));
    assert!(rig.out.contains(&Output::Create));
    rig.answer = WriteResult::Done;
    let before = rig.writes.len();
    rig.tell(Input::Wrote(WriteResult::Done));
    rig.pass(Duration::from_secs(5));
    assert_eq!((rig.writes.len(), rig.mind.trouble()), (before + 1, None));
}

#[test]
fn the_sequence_and_the_condition_go_on_over_a_restart() {
    let mut first = rig();
    first.matrix(3, 0);
    first.pass(Duration::from_secs(5));
    let left = first.last().clone();
    let mut mind = ReporterMind::new(Arc::new(Config::default()), "0.1.0", 2);
    let later = first.now + Duration::from_secs(60);
    let mut out = vec![];
    mind.step(later, Input::Tick, &mut out);
    mind.step(later, Input::WasRead(ReadResult::Found(Some(Box::new(left.clone())))), &mut out);
    let Some(Output::Write(report)) = out.last() else { panic!("{out:?}") };
    assert_eq!(report.sequence, left.sequence + 1);
    assert!(!report.self_check, "nothing was probed yet");
    mind.step(later, Input::Wrote(WriteResult::Done), &mut out);
    mind.step(later, Input::Diagnosis(DiagnosisTells::Matrix(MatrixDigest::default())), &mut out);
    mind.step(later + Duration::from_secs(2), Input::Tick, &mut out);
    let Some(Output::Write(report)) = out.last() else { panic!("{out:?}") };
    assert!(report.self_check);
    assert_eq!(report.conditions[0].status, "True");
}

#[test]
fn the_agent_does_not_vouch_for_itself_while_its_watcher_or_prober_is_not_ready() {
    let mut rig = rig();
    rig.matrix(3, 0);
    let stage = |name, stage| Input::Fellows { stages: BTreeMap::from([(name, stage)]), troubles: vec![] };
    let rows = [
        (stage(ActorName::Watcher, Stage::Degraded("no API".into())), false),
        (stage(ActorName::Prober, Stage::Starting("opening".into())), false),
        (stage(ActorName::Netns, Stage::Degraded("no SYS_ADMIN".into())), true),
        (stage(ActorName::Diagnosis, Stage::Degraded("no NET_ADMIN".into())), true),
        (stage(ActorName::Watcher, Stage::Ready), true),
        (Input::Fellows { stages: BTreeMap::new(), troubles: vec!["prober is stuck".into()] }, false),
    ];
    for (told, vouches) in rows {
        rig.tell(told.clone());
        rig.pass(Duration::from_secs(12));
        assert_eq!(rig.last().self_check, vouches, "{told:?}");
    }
    assert_eq!(rig.last().troubles, ["prober is stuck"]);
}

fn order(id: &str, pods: &[&str]) -> NodeOrders {
    let pods = pods.iter().map(|uid| (*uid).into()).collect();
    let request = RequestOrder { id: id.into(), pods, service: false, within_s: 10 };
    NodeOrders { requests: vec![request], ..NodeOrders::default() }
}

fn with_pods(rig: &mut Rig, namespaces: u64) {
    let pod = DnsPod {
        uid: "u1".into(),
        key: ObjectKey::new("kube-system", "coredns-a"),
        node: Some("node1".into()),
        ips: vec![[10, 244, 1, 2].into()],
        udp_port: Some(5353),
        tcp_port: None,
        ready: true,
        terminating: false,
    };
    rig.tell(Input::Targets(Arc::new(Targets { pods: vec![pod], ..Targets::default() })));
    for n in 0..namespaces {
        let namespace = Namespace {
            pod: PodUid(format!("p{n}")),
            key: ObjectKey::new("shop", format!("web-{n}")),
            cookie: NetnsCookie(n),
            path: "/run/netns/x".into(),
            ips: vec![],
            gateway: None,
            host_veth: None,
            bridge: None,
            resolv: Resolv::default(),
            source: NamespaceSource::CniCache,
        };
        rig.tell(Input::Namespace(NamespaceChanged::Found(namespace)));
    }
}

fn probes(rig: &Rig) -> Vec<ProbeRequest> {
    let probe = |o: &Output| if let Output::Probe(request) = o { Some(request.clone()) } else { None };
    rig.out.iter().filter_map(probe).collect()
}

fn answer(request: &ProbeRequest, now: Now) -> Arc<ProbeAnswer> {
    let observe = |item: &nameward_messages::probe::ProbeItem| Observation {
        at: now.mono,
        path: item.path.clone(),
        port: item.port,
        outcome: if item.path.transport == Transport::Udp { Outcome::Timeout } else { Outcome::Answered },
        latency: Duration::from_millis(1),
        connect: None,
        purpose: item.purpose.clone(),
    };
    Arc::new(ProbeAnswer { id: request.id.clone(), at: now, observations: request.items.iter().map(observe).collect() })
}

#[test]
fn a_question_is_asked_from_the_host_and_eight_pods_answered_once_and_at_once() {
    let mut rig = rig();
    rig.matrix(3, 0);
    with_pods(&mut rig, 20);
    rig.pass(Duration::from_secs(60));
    rig.tell(Input::Orders(order("q1", &["u1"])));
    let asked = probes(&rig);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].items.len(), 2 * 9);
    assert!(asked[0].items.iter().all(|i| matches!(&i.path.target.kind, TargetKind::Pod { .. })));
    let port = |t| asked[0].items.iter().find(|i| i.path.transport == t).unwrap().port;
    assert_eq!((port(Transport::Udp), port(Transport::Tcp)), (5353, 53));
    let (before, told) = (rig.writes.len(), rig.now.mono);
    rig.tell(Input::Answer(answer(&asked[0], rig.now)));
    // What failed is asked again before anything is said.
    let again = probes(&rig).remove(1);
    assert_eq!((again.id.clone(), again.items.len(), rig.writes.len()), (asked[0].id.clone(), 9, before));
    assert!(again.items.iter().all(|i| i.path.transport == Transport::Udp && i.port == 5353));
    rig.tell(Input::Answer(answer(&again, rig.now)));
    assert_eq!((rig.writes.len(), rig.writes.last().unwrap().0), (before + 1, told));
    let rows = &rig.last().answers[0].rows;
    let udp: Vec<(u32, u32)> = rows.iter().filter(|r| r.transport == Transport::Udp).map(|r| (r.good, r.bad)).collect();
    assert_eq!(udp, [(0, 1), (0, 8)]);
    // The same orders again, and the same answer again: nothing more.
    rig.tell(Input::Orders(order("q1", &["u1"])));
    rig.tell(Input::Answer(answer(&asked[0], rig.now)));
    rig.pass(Duration::from_secs(20));
    assert_eq!((probes(&rig).len(), rig.writes.len()), (2, before + 1));
    // The next question is asked from other pods.
    rig.tell(Input::Orders(order("q2", &["u1"])));
    let vantages =
        |r: &ProbeRequest| r.items.iter().map(|i| i.path.vantage.clone()).collect::<std::collections::BTreeSet<_>>();
    assert_ne!(vantages(&probes(&rig)[2]), vantages(&asked[0]));
}

#[test]
fn a_datagram_that_is_lost_once_makes_no_witness() {
    let mut rig = rig();
    rig.matrix(3, 0);
    with_pods(&mut rig, 2);
    rig.pass(Duration::from_secs(60));
    rig.tell(Input::Orders(order("q1", &["u1"])));
    rig.tell(Input::Answer(answer(&probes(&rig)[0], rig.now)));
    let again = &probes(&rig)[1];
    let mut found = Arc::unwrap_or_clone(answer(again, rig.now));
    // The second time one path answers, one fails, and of the third nothing is heard.
    found.observations[0].outcome = Outcome::Answered;
    found.observations.truncate(2);
    rig.tell(Input::Answer(Arc::new(found)));
    let rows = &rig.last().answers[0].rows;
    let of =
        |transport| rows.iter().filter(|r| r.transport == transport).fold((0, 0), |n, r| (n.0 + r.good, n.1 + r.bad));
    assert_eq!((of(Transport::Udp), of(Transport::Tcp)), ((1, 1), (3, 0)));
    // A question whose second look comes to nothing is not answered at all.
    rig.tell(Input::Orders(order("q2", &["u1"])));
    rig.tell(Input::Answer(answer(&probes(&rig)[2], rig.now)));
    rig.pass(Duration::from_secs(20));
    rig.tell(Input::Answer(answer(&probes(&rig)[3], rig.now)));
    assert!(rig.last().answers.is_empty());
}

#[test]
fn what_was_measured_while_the_agent_did_not_vouch_for_itself_is_never_said() {
    let fellows = |stage| Input::Fellows { stages: BTreeMap::from([(ActorName::Prober, stage)]), troubles: Vec::new() };
    let unwell = || fellows(Stage::Degraded("its own socket is deaf".to_owned()));
    for unwell_before in [true, false] {
        let mut rig = rig();
        rig.matrix(3, 0);
        with_pods(&mut rig, 20);
        rig.pass(Duration::from_secs(60));
        rig.tell(Input::Orders(order("q1", &["u1"])));
        let asked = probes(&rig);
        if unwell_before {
            rig.tell(unwell());
        }
        rig.tell(Input::Answer(answer(&asked[0], rig.now)));
        rig.tell(unwell());
        rig.tell(fellows(Stage::Ready));
        rig.pass(Duration::from_secs(20));
        assert!(rig.last().self_check && rig.last().answers.is_empty(), "{unwell_before}");
        // The next question is answered.
        let before = probes(&rig).len();
        rig.tell(Input::Orders(order("q2", &["u1"])));
        rig.tell(Input::Answer(answer(&probes(&rig)[before], rig.now)));
        rig.tell(Input::Answer(answer(&probes(&rig)[before + 1], rig.now)));
        assert_eq!(rig.last().answers.len(), 1);
    }
}

#[test]
fn a_late_answer_is_dropped_and_an_unknown_pod_is_waited_for_briefly() {
    let mut rig = rig();
    rig.matrix(3, 0);
    with_pods(&mut rig, 1);
    rig.tell(Input::Orders(order("q1", &["u1", "u9"])));
    assert!(probes(&rig).is_empty());
    rig.pass(Duration::from_secs(3));
    let asked = probes(&rig);
    assert_eq!(asked.len(), 1);
    rig.pass(Duration::from_secs(10));
    rig.tell(Input::Answer(answer(&asked[0], rig.now)));
    assert!(rig.last().answers.is_empty());
    assert_eq!(asked[0].id, RequestId::from("q1"));
}
