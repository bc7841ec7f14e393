#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use nameward_kernel::facts::{Reading, SocketTable};
use nameward_messages::NetnsCookie;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, ProbeAnswer, Purpose, QuestionKind, Round, Suspicion};
use nameward_messages::status::Passes;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence, Verdict};

use super::*;
use crate::testing::{self, CLIENT, DNS_A, DNS_B, UPSTREAM, dns, namespace, observation, socket, targets, uid};

mod calm;
mod complaints;
mod tracing;

struct Play {
    mind: DiagnosisMind,
    now: Now,
    out: Vec<Output>,
    /// What was to be traced.
    traced: Vec<WantTrace>,
}

fn settings() -> Settings {
    Settings { collect_timeout: Duration::from_secs(3), places: crate::process::Places::default(), trace: false }
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            mind: DiagnosisMind::new("node1".into(), settings()),
            now: Now::at(Duration::from_secs(200)),
            out: Vec::new(),
            traced: Vec::new(),
        };
        play.tell(Input::Targets(Arc::new(targets())));
        let coredns = "coredns-74c7b86f9f-7tsjn";
        for (pod, ns, name, ip, veth, server) in [
            (DNS_A, "kube-system", coredns, "10.244.1.51", "veth97ef3b4e", UPSTREAM),
            (CLIENT, "default", "client", "10.244.1.52", "veth2fe33054", "10.96.0.10"),
        ] {
            play.tell(Input::Namespace(NamespaceChanged::Found(namespace(pod, ns, name, ip, veth, &[server]))));
        }
        assert!(play.out.is_empty());
        play
    }

    fn tell(&mut self, input: Input) {
        self.mind.step(self.now, input, &mut self.out);
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        if self.mind.deadline().is_some_and(|at| at <= self.now.mono) {
            self.tell(Input::Tick);
        }
    }

    fn suspect(&mut self, path: &PathKey, outcome: &Outcome) {
        let failed = testing::observation(path.clone(), outcome.clone(), self.ms(), Purpose::Confirm);
        let suspicion = Suspicion { at: self.now, path: path.clone(), observations: vec![failed] };
        self.tell(Input::Prober(ProberTells::Suspected(Arc::new(suspicion))));
    }

    fn clear(&mut self, path: &PathKey, recovered: bool) {
        self.tell(Input::Prober(ProberTells::Cleared { at: self.now, path: path.clone(), recovered }));
    }

    fn ms(&self) -> u64 {
        u64::try_from(self.now.mono.0.as_millis()).unwrap()
    }

    /// Answers every probe that was asked for, and hands over every sample, as a world with a deaf CoreDNS A would.
    fn answer(&mut self, change: impl Fn(&mut Sample)) -> Vec<DiagnosisTells> {
        let mut tells = Vec::new();
        while !self.out.is_empty() {
            for output in std::mem::take(&mut self.out) {
                match output {
                    Output::Tell(tell) => tells.push(tell),
                    Output::Probe(request) => {
                        let deaf =
                            |p: &PathKey| p.target.ip == testing::ip("10.244.1.51") && p.transport == Transport::Udp;
                        let by = Some(testing::ip("10.244.1.51"));
                        let outcome = |p: &PathKey| if deaf(p) { Outcome::Refused { by } } else { Outcome::Answered };
                        let ms = self.ms();
                        let observations = request
                            .items
                            .iter()
                            .map(|i| observation(i.path.clone(), outcome(&i.path), ms, i.purpose.clone()))
                            .collect();
                        let answer = ProbeAnswer { id: request.id, at: self.now, observations };
                        self.tell(Input::Prober(ProberTells::Answer(Arc::new(answer))));
                    }
                    Output::Collect(want) => {
                        let mut sample = testing::sample(self.ms());
                        change(&mut sample);
                        sample.pods.retain(|uid, _| want.pods.iter().any(|p| &p.uid == uid));
                        self.tell(Input::Evidence { id: want.id, sample: Box::new(sample) });
                    }
                    Output::Trace(want) => self.traced.push(want),
                }
            }
        }
        tells
    }

    /// Lets time pass until the mind tells something, at most `within` ms; returns how long it took.
    fn until_told(&mut self, within: u64, change: impl Fn(&mut Sample)) -> (u64, Vec<DiagnosisTells>) {
        let mut passed = 0;
        loop {
            let tells = self.answer(&change);
            if !tells.is_empty() || passed >= within {
                return (passed, tells);
            }
            self.pass(100);
            passed += 100;
        }
    }
}

fn no_udp(sample: &mut Sample) {
    let table = SocketTable { udp: Vec::new(), tcp_listen: vec![socket(53, 0, 0)] };
    sample.pods.get_mut(&uid(DNS_A)).unwrap().sockets = Reading::Read(table);
}

fn host_to_a() -> PathKey {
    PathKey { vantage: Vantage::Host, target: dns(DNS_A), transport: Transport::Udp, question: QuestionKind::Internal }
}

fn refused() -> Outcome {
    Outcome::Refused { by: Some(testing::ip("10.244.1.51")) }
}

fn stands(tells: &[DiagnosisTells]) -> Vec<&Verdict> {
    tells.iter().filter_map(|t| if let DiagnosisTells::Stands(v) = t { Some(v) } else { None }).collect()
}

#[test]
fn a_suspicion_is_collected_at_once_named_in_time_and_ended_with_its_paths() {
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    assert!(play.out.iter().any(|o| matches!(o, Output::Collect(w) if w.pods.iter().any(|p| p.health.is_some()))));
    let ways: Vec<Purpose> = play
        .out
        .iter()
        .filter_map(|o| if let Output::Probe(r) = o { Some(r) } else { None })
        .flat_map(|r| r.items.iter().map(|i| i.purpose.clone()))
        .collect();
    for way in [Purpose::Patience, Purpose::Both, Purpose::Diagnosis] {
        assert!(ways.contains(&way), "{way:?}");
    }
    let (took, tells) = play.until_told(8_000, no_udp);
    let verdicts = stands(&tells);
    assert_eq!((verdicts[0].cause, verdicts[0].confidence), (Cause::CorednsUdpDead, Confidence::Certain));
    assert!(took <= 1_500, "named after {took} ms");
    let since = verdicts[0].since;
    // With it comes the way of a packet, up to where it ends.
    let ways =
        tells.iter().filter_map(|t| if let DiagnosisTells::Way { key, way } = t { Some((key, way)) } else { None });
    let [(key, way)] = ways.collect::<Vec<_>>()[..] else { panic!("{tells:?}") };
    assert_eq!(*key, verdicts[0].key());
    assert_eq!(way.path, host_to_a().to_string());
    let end = way.steps.last().unwrap();
    assert_eq!((end.passes, end.says.as_str()), (Passes::No, "nobody listens on udp 53"), "{way:?}");

    // It stands on, and says so now and then with the same beginning.
    let (_, tells) = play.until_told(15_000, no_udp);
    assert_eq!(stands(&tells)[0].since, since);

    play.clear(&host_to_a(), true);
    let tells = play.answer(no_udp);
    assert!(
        matches!(&tells[..], [DiagnosisTells::Ended { key, recovered: true, .. }] if key.cause == Cause::CorednsUdpDead)
    );
    assert_eq!(play.mind.deadline(), None);
}

#[test]
fn what_answers_again_after_the_sample_is_not_named_any_more() {
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    let first = play.answer(no_udp);
    assert!(stands(&first).is_empty(), "nothing is a verdict after a single sample");
    // The second sample shows the fault still, but what is asked after it is answered.
    let mut asked = 0;
    for _ in 0..60 {
        play.pass(100);
        for output in std::mem::take(&mut play.out) {
            match output {
                Output::Tell(tell) => assert!(stands(std::slice::from_ref(&tell)).is_empty(), "{tell:?}"),
                Output::Probe(request) => {
                    asked += 1;
                    let observations = request
                        .items
                        .iter()
                        .map(|i| observation(i.path.clone(), Outcome::Answered, play.ms(), i.purpose.clone()))
                        .collect();
                    let answer = ProbeAnswer { id: request.id, at: play.now, observations };
                    play.tell(Input::Prober(ProberTells::Answer(Arc::new(answer))));
                }
                Output::Collect(want) => {
                    let mut sample = testing::sample(play.ms());
                    no_udp(&mut sample);
                    sample.pods.retain(|uid, _| want.pods.iter().any(|p| &p.uid == uid));
                    play.tell(Input::Evidence { id: want.id, sample: Box::new(sample) });
                }
                Output::Trace(want) => panic!("{want:?}"),
            }
        }
    }
    assert!(asked >= 2, "asked {asked} times");
    // It was but one answer: it fails again, and is named.
    assert_eq!(stands(&play.until_told(8_000, no_udp).1)[0].cause, Cause::CorednsUdpDead);
}

#[test]
fn a_subject_that_is_gone_has_not_recovered() {
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    assert_eq!(stands(&play.until_told(8_000, no_udp).1).len(), 1);
    let mut left = targets();
    left.pods.retain(|p| p.uid == uid(DNS_B));
    play.tell(Input::Targets(Arc::new(left)));
    let tells = play.answer(no_udp);
    assert!(matches!(&tells[..], [DiagnosisTells::Ended { recovered: false, .. }]), "{tells:?}");
    assert_eq!(play.mind.deadline(), None);
}

#[test]
fn a_pod_that_is_being_evicted_has_not_recovered() {
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    assert_eq!(stands(&play.until_told(8_000, no_udp).1).len(), 1);
    let mut evicted = targets();
    evicted.pods[0].terminating = true;
    play.tell(Input::Targets(Arc::new(evicted)));
    let tells = play.until_told(10_000, no_udp).1;
    assert!(tells.is_empty() || !matches!(tells[0], DiagnosisTells::Ended { recovered: true, .. }), "{tells:?}");
    play.clear(&host_to_a(), false);
    let more = play.answer(no_udp);
    let ended =
        tells.iter().chain(&more).filter(|t| matches!(t, DiagnosisTells::Ended { recovered: false, .. })).count();
    assert_eq!(ended, 1);
}

#[test]
fn one_reading_that_fails_does_not_reset_since() {
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    let (_, tells) = play.until_told(8_000, no_udp);
    let since = stands(&tells)[0].since;
    for round in 0..6 {
        play.pass(500);
        let tells = play.answer(|s| {
            if round == 3 {
                s.pods.get_mut(&uid(DNS_A)).unwrap().sockets = Reading::Failed("too slow".to_owned());
            } else {
                no_udp(s);
            }
        });
        assert!(!tells.iter().any(|t| matches!(t, DiagnosisTells::Ended { .. })), "{tells:?}");
    }
    let (_, tells) = play.until_told(15_000, no_udp);
    assert_eq!((stands(&tells)[0].since, stands(&tells)[0].confidence), (since, Confidence::Certain));
}

#[test]
fn a_lost_collection_is_asked_for_again() {
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    let asked = |out: &[Output]| out.iter().filter(|o| matches!(o, Output::Collect(_))).count();
    assert_eq!(asked(&play.out), 1);
    play.out.clear();
    let mut waited = 0;
    while asked(&play.out) == 0 {
        play.pass(500);
        waited += 500;
        assert!(waited <= 10_000);
    }
}

#[test]
fn collecting_slows_down_but_goes_on() {
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    let mut collected = 0;
    for _ in 0..6_000 {
        collected += play.out.iter().filter(|o| matches!(o, Output::Collect(_))).count();
        play.answer(no_udp);
        // The path goes on failing.
        if play.ms().is_multiple_of(10_000) {
            let seen = observation(host_to_a(), refused(), play.ms(), Purpose::Round);
            let (began, ended) = (play.now, play.now);
            let round = Round { number: 1, began, ended, period: Duration::from_secs(10), observations: vec![seen] };
            play.tell(Input::Prober(ProberTells::Round(Arc::new(round))));
        }
        play.pass(100);
    }
    assert!((40..=90).contains(&collected), "{collected} samples in ten minutes");
}

#[test]
fn another_nodes_pod_is_deferred_once() {
    let mut play = Play::new();
    let path = PathKey { target: dns(DNS_B), ..host_to_a() };
    play.suspect(&path, &Outcome::Timeout);
    let (_, tells) = play.until_told(3_000, |_| {});
    assert!(matches!(&tells[..], [DiagnosisTells::Deferred(list)] if list[0].to_node.as_str() == "node2"), "{tells:?}");
    let (_, more) = play.until_told(30_000, |_| {});
    assert!(more.is_empty(), "{more:?}");
    play.clear(&path, true);
    assert!(matches!(&play.answer(|_| {})[..], [DiagnosisTells::Deferred(list)] if list.is_empty()));
}

#[test]
fn what_nothing_explains_is_named_after_twenty_seconds_and_not_before() {
    let mut play = Play::new();
    let path = PathKey { target: testing::service(), ..host_to_a() };
    play.suspect(&path, &Outcome::Timeout);
    let (took, tells) = play.until_told(40_000, |_| {});
    assert_eq!(stands(&tells)[0].cause, Cause::Unexplained);
    assert!((20_000..25_000).contains(&took), "{took}");
}

#[test]
fn a_round_tells_the_matrix_once_and_nothing_else_while_all_is_well() {
    let mut play = Play::new();
    let seen = observation(host_to_a(), Outcome::Answered, 200_000, Purpose::Round);
    let (began, ended) = (play.now, play.now);
    let round = Round { number: 1, began, ended, period: Duration::from_secs(10), observations: vec![seen] };
    play.tell(Input::Prober(ProberTells::Round(Arc::new(round))));
    assert!(matches!(&play.out[..], [Output::Tell(DiagnosisTells::Matrix(digest))] if digest.rows.len() == 1));
    assert_eq!(play.mind.deadline(), None);
}

#[test]
fn kills_without_a_failing_path_are_judged_and_do_not_spin() {
    let mut play = Play::new();
    play.tell(Input::OomKilled(testing::kill(DNS_A, 60, play.now)));
    assert!(play.out.is_empty(), "one kill that hurt nobody: {:?}", play.out);
    play.tell(Input::OomKilled(testing::kill(DNS_A, 20, play.now)));
    assert_eq!(stands(&play.answer(|_| {}))[0].cause, Cause::CorednsOomKilled);
    assert!(play.mind.deadline().unwrap() > play.now.mono);
    // The same kill told again changes nothing.
    play.tell(Input::OomKilled(testing::kill(DNS_A, 20, play.now)));
    assert!(play.answer(|_| {}).is_empty());
    let (took, tells) = play.until_told(200_000, |_| {});
    assert!(took <= 12_000 && !stands(&tells).is_empty());
    let mut ended = false;
    for _ in 0..30 {
        let tells = play.until_told(12_000, |_| {}).1;
        ended |= tells.iter().any(|t| matches!(t, DiagnosisTells::Ended { recovered: true, .. }));
        if ended {
            break;
        }
    }
    assert!(ended);
}

#[test]
fn a_pod_that_was_never_ready_is_starting_for_a_while() {
    let mut play = Play::new();
    let mut all = targets();
    all.pods[0].uid = "new".into();
    all.pods[0].ready = false;
    play.tell(Input::Targets(Arc::new(all.clone())));
    assert!(play.mind.record(play.now).starting.contains(&uid("new")));
    play.pass(130_000);
    assert!(!play.mind.record(play.now).starting.contains(&uid("new")));
}

#[test]
fn a_sandbox_that_was_replaced_keeps_its_successor() {
    let mut play = Play::new();
    let old = play.mind.namespaces[&uid(CLIENT)].clone();
    let mut new = old.clone();
    new.cookie = NetnsCookie(99);
    play.tell(Input::Namespace(NamespaceChanged::Found(new)));
    play.tell(Input::Namespace(NamespaceChanged::Gone { pod: uid(CLIENT), cookie: old.cookie }));
    assert_eq!(play.mind.namespaces[&uid(CLIENT)].cookie, NetnsCookie(99));
}

#[test]
fn a_second_fault_of_a_long_case_is_named_as_quickly() {
    let mut play = Play::new();
    let other = PathKey { target: dns(DNS_B), ..host_to_a() };
    play.suspect(&other, &Outcome::Timeout);
    let tells = play.until_told(60_000, |_| {}).1;
    assert!(matches!(tells[..], [DiagnosisTells::Deferred(_)]));
    // The case is as old as it gets: it reads every ten seconds by now, and the other node's pod keeps failing.
    for _ in 0..60 {
        let seen = observation(other.clone(), Outcome::Timeout, play.ms(), Purpose::Round);
        let (began, ended) = (play.now, play.now);
        let round = Round { number: 1, began, ended, period: Duration::from_secs(10), observations: vec![seen] };
        play.tell(Input::Prober(ProberTells::Round(Arc::new(round))));
        for _ in 0..10 {
            play.answer(no_udp);
            play.pass(100);
        }
    }
    play.suspect(&host_to_a(), &refused());
    let mut took = 0;
    loop {
        let tells = play.answer(no_udp);
        if let Some(verdict) = stands(&tells).first() {
            assert_eq!(verdict.cause, Cause::CorednsUdpDead);
            break;
        }
        play.pass(100);
        took += 100;
        assert!(took <= 3_000, "not named within 3 s");
    }
}

#[test]
fn hundreds_of_suspicions_at_once_are_judged_together() {
    let mut play = Play::new();
    for n in 0..200u8 {
        let path = PathKey {
            target: testing::server(nameward_messages::targets::TargetKind::Nameserver, &format!("192.0.2.{n}")),
            ..host_to_a()
        };
        play.suspect(&path, &Outcome::Timeout);
    }
    let collections = play.out.iter().filter(|o| matches!(o, Output::Collect(_))).count();
    let probes: usize = play.out.iter().map(|o| if let Output::Probe(r) = o { r.items.len() } else { 0 }).sum();
    assert_eq!(collections, 1);
    assert!(probes <= 64, "{probes}");
}
