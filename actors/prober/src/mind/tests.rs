#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::namespaces::{NamespaceSource, Resolv};
use nameward_messages::probe::{NotAsked, Outcome, ProbeItem, Purpose, QuestionKind};
use nameward_messages::targets::{DnsPod, Target, TargetKind, Transport};
use nameward_messages::{ObjectKey, RequestId};

use super::*;

/// A mind with a world that answers as `answer` says, driven by its own deadlines.
struct World {
    mind: ProberMind,
    now: Now,
    tells: Vec<ProberTells>,
    closed: Vec<NetnsCookie>,
    shots: Vec<(Mono, Shot)>,
    answer: fn(&Shot) -> Outcome,
}

/// Nothing but the cluster's own name.
fn plain() -> Arc<Config> {
    let mut config = Config::default();
    config.probe.also.clear();
    Arc::new(config)
}

fn good(_: &Shot) -> Outcome {
    Outcome::Answered
}

fn dead(_: &Shot) -> Outcome {
    Outcome::Timeout
}

fn target() -> Target {
    let key = ObjectKey::new("kube-system", "coredns-1");
    let kind = TargetKind::Pod { uid: "dns-1".into(), key, node: Some("node1".into()) };
    Target { kind, ip: [10, 244, 1, 2].into() }
}

fn targets() -> Arc<Targets> {
    let TargetKind::Pod { uid, key, node } = target().kind else { panic!("a pod") };
    let (udp_port, tcp_port) = (Some(53), Some(53));
    let pod = DnsPod { uid, key, node, ips: vec![target().ip], udp_port, tcp_port, ready: true, terminating: false };
    Arc::new(Targets { pods: vec![pod], cluster_domain: "cluster.local".to_owned(), ..Targets::default() })
}

fn namespace(cookie: u64) -> Namespace {
    Namespace {
        pod: "pod-1".into(),
        key: ObjectKey::new("default", "web"),
        cookie: NetnsCookie(cookie),
        path: "/run/netns/a".into(),
        ips: Vec::new(),
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv::default(),
        source: NamespaceSource::Folder,
    }
}

fn gone(cookie: u64) -> Input {
    Input::Namespace(NamespaceChanged::Gone { pod: "pod-1".into(), cookie: NetnsCookie(cookie) })
}

impl World {
    fn new() -> Self {
        let mind = ProberMind::new(plain(), "node1".into(), 1, Memory::default());
        let mut world = Self {
            mind,
            now: Now::at(Duration::from_secs(100)),
            tells: Vec::new(),
            closed: Vec::new(),
            shots: Vec::new(),
            answer: good,
        };
        world.tell(Input::Orders(NodeOrders { share_milli_qps: Some(15_000), ..NodeOrders::default() }));
        world.tell(Input::Targets(targets()));
        world.tell(Input::Namespace(NamespaceChanged::Found(namespace(7))));
        world
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.mind.step(self.now, input, &mut out);
        for one in out {
            match one {
                Output::Tell(tell) => self.tells.push(tell),
                Output::Close(cookie) => self.closed.push(cookie),
                Output::Run(job) => {
                    let observations = job.shots.iter().map(|shot| self.observe(shot)).collect();
                    self.shots.extend(job.shots.into_iter().map(|shot| (self.now.mono, shot)));
                    self.tell(Input::Done { job: job.id, observations });
                }
            }
        }
    }

    fn observe(&self, shot: &Shot) -> Observation {
        Observation {
            at: self.now.mono,
            path: shot.path.clone(),
            port: shot.port,
            outcome: (self.answer)(shot),
            latency: Duration::ZERO,
            connect: None,
            purpose: shot.purpose.clone(),
        }
    }

    fn run(&mut self, for_: Duration) {
        let end = self.now.mono + for_;
        while let Some(due) = self.mind.deadline().filter(|due| *due <= end) {
            let ahead = due.since(self.now.mono);
            self.now = self.now + ahead;
            self.tell(Input::Tick);
        }
        self.now = self.now + end.since(self.now.mono);
    }

    fn rounds(&self) -> Vec<Arc<Round>> {
        self.tells
            .iter()
            .filter_map(|tell| match tell {
                ProberTells::Round(round) => Some(Arc::clone(round)),
                _ => None,
            })
            .collect()
    }

    fn suspected(&self) -> usize {
        self.tells.iter().filter(|tell| matches!(tell, ProberTells::Suspected(_))).count()
    }

    fn cleared(&self, as_recovered: bool) -> usize {
        let that =
            |tell: &&ProberTells| matches!(tell, ProberTells::Cleared { recovered, .. } if *recovered == as_recovered);
        self.tells.iter().filter(that).count()
    }
}

#[test]
fn rounds_come_at_the_interval_with_jitter_and_are_numbered() {
    let mut world = World::new();
    world.run(Duration::from_secs(100));
    let rounds = world.rounds();
    assert!((10..=12).contains(&rounds.len()), "{}", rounds.len());
    for (number, round) in rounds.iter().enumerate() {
        assert_eq!(round.number, u64::try_from(number).unwrap() + 1);
        assert_eq!(round.observations.len(), 4, "host and pod over both transports");
        assert_eq!(round.period, Duration::from_secs(10));
    }
    let gaps: Vec<_> = rounds.windows(2).map(|w| w[1].began.mono.since(w[0].began.mono)).collect();
    assert!(gaps.iter().all(|gap| (9..=10).contains(&gap.as_secs())), "{gaps:?}");
    assert!(gaps.windows(2).any(|w| w[0] != w[1]), "jitter");
}

#[test]
fn a_dead_server_is_suspected_once_per_path_and_cleared_when_it_answers_again() {
    let mut world = World::new();
    world.run(Duration::from_secs(20));
    world.answer = dead;
    world.run(Duration::from_secs(60));
    assert_eq!(world.suspected(), 4);
    let confirmations = world.shots.iter().filter(|(_, shot)| shot.purpose == Purpose::Confirm).count();
    assert_eq!(confirmations, 12);
    let failed =
        world.rounds().iter().find(|r| r.observations.iter().any(|o| o.outcome == Outcome::Timeout)).unwrap().ended;
    let confirmed = world.shots.iter().find(|(_, shot)| shot.purpose == Purpose::Confirm).unwrap().0;
    assert_eq!(confirmed.since(failed.mono), Duration::from_millis(200));
    world.answer = good;
    world.run(Duration::from_secs(30));
    assert_eq!((world.cleared(true), world.cleared(false)), (4, 0));
}

#[test]
fn our_own_trouble_is_never_a_failure() {
    let mut world = World::new();
    world.answer = |_| Outcome::NotAsked { why: NotAsked::NamespaceGone };
    world.run(Duration::from_secs(60));
    assert_eq!(world.suspected(), 0);
    assert!(world.shots.iter().all(|(_, shot)| shot.purpose == Purpose::Round));
}

#[test]
fn a_namespace_that_goes_takes_its_suspicions_and_sockets_with_it() {
    let mut world = World::new();
    world.answer = dead;
    world.run(Duration::from_secs(15));
    assert_eq!(world.suspected(), 4);
    world.tell(gone(7));
    assert_eq!(world.cleared(false), 2);
    assert_eq!(world.closed, [NetnsCookie(7)]);
    world.shots.clear();
    world.run(Duration::from_secs(30));
    assert!(world.shots.iter().all(|(_, shot)| shot.path.vantage == Vantage::Host));
}

#[test]
fn a_target_that_goes_is_cleared_and_asked_no_more() {
    let mut world = World::new();
    world.answer = dead;
    world.run(Duration::from_secs(15));
    let mut rolled = Targets::clone(&targets());
    rolled.pods[0].terminating = true;
    world.tell(Input::Targets(Arc::new(rolled)));
    assert_eq!(world.cleared(false), 4);
    world.shots.clear();
    world.run(Duration::from_secs(30));
    assert!(world.shots.is_empty());
}

#[test]
fn a_sweep_that_never_ends_is_given_up() {
    let mut mind = ProberMind::new(plain(), "node1".into(), 1, Memory::default());
    let mut out = Vec::new();
    let mut now = Now::at(Duration::from_secs(1));
    mind.step(now, Input::Targets(targets()), &mut out);
    let mut sweeps = 0;
    while let Some(due) = mind.deadline().filter(|due| due.0 < Duration::from_secs(200)) {
        now = now + due.since(now.mono);
        out.clear();
        mind.step(now, Input::Tick, &mut out);
        sweeps += out.iter().filter(|one| matches!(one, Output::Run(_))).count();
    }
    assert!(sweeps > 3, "{sweeps}");
}

#[test]
fn a_rebuilt_mind_goes_on_where_the_last_one_ended() {
    let mut world = World::new();
    world.answer = dead;
    world.run(Duration::from_secs(15));
    let memory = world.mind.memory();
    assert_eq!((memory.round, memory.suspected.len()), (2, 4));
    let mut next = World::new();
    next.mind = ProberMind::new(plain(), "node1".into(), 2, memory);
    next.tell(Input::Orders(NodeOrders { share_milli_qps: Some(15_000), ..NodeOrders::default() }));
    next.tell(Input::Targets(targets()));
    next.tell(Input::Namespace(NamespaceChanged::Found(namespace(7))));
    next.run(Duration::from_secs(30));
    assert_eq!(next.rounds()[0].number, 3);
    assert_eq!((next.suspected(), next.cleared(true), next.cleared(false)), (0, 4, 0));
}

fn item(vantage: Vantage, target: Target, purpose: Purpose) -> ProbeItem {
    let path = PathKey { vantage, target, transport: Transport::Udp, question: QuestionKind::Internal };
    ProbeItem { path, port: 0, purpose }
}

fn request(items: Vec<ProbeItem>, deadline: Mono) -> Input {
    Input::Request(ProbeRequest { id: RequestId("r".to_owned()), items, deadline })
}

#[test]
fn requests_are_answered_with_what_is_still_there() {
    let mut world = World::new();
    world.run(Duration::from_secs(5));
    let pod = |cookie: u64| Vantage::Pod {
        uid: "pod-1".into(),
        key: ObjectKey::new("default", "web"),
        cookie: NetnsCookie(cookie),
    };
    let replaced = Target { kind: target().kind, ip: [10, 244, 1, 77].into() };
    let upstream = Target { kind: TargetKind::Upstream, ip: [172, 30, 0, 254].into() };
    let items = vec![
        item(Vantage::Host, target(), Purpose::HeldPort),
        item(pod(7), target(), Purpose::Patience),
        item(pod(8), target(), Purpose::Edns),
        item(Vantage::Host, replaced, Purpose::Both),
        item(Vantage::Host, upstream, Purpose::Diagnosis),
    ];
    world.shots.clear();
    let deadline = world.now.mono + Duration::from_secs(5);
    world.tell(request(items, deadline));
    let Some(ProberTells::Answer(answer)) = world.tells.last() else { panic!("no answer") };
    let purposes: Vec<_> = answer.observations.iter().map(|one| one.purpose.clone()).collect();
    assert_eq!(purposes.len(), 3, "{purposes:?}");
    for (_, shot) in &world.shots {
        let patience = if shot.purpose == Purpose::Patience { 4000 } else { 700 };
        assert_eq!(shot.patience, Duration::from_millis(patience), "{:?}", shot.purpose);
        assert_eq!(shot.port, 53);
        assert_eq!(shot.place.is_some(), shot.path.vantage != Vantage::Host);
    }
}

#[test]
fn a_request_past_its_deadline_is_answered_without_asking() {
    let mut world = World::new();
    world.shots.clear();
    let past = world.now.mono - Duration::from_secs(1);
    world.tell(request(vec![item(Vantage::Host, target(), Purpose::Diagnosis)], past));
    assert!(world.shots.is_empty());
    assert!(matches!(world.tells.last(), Some(ProberTells::Answer(answer)) if answer.observations.is_empty()));
}

#[test]
fn without_orders_the_share_of_a_large_cluster_is_assumed() {
    let mut world = World::new();
    world.tell(Input::Orders(NodeOrders::default()));
    world.run(Duration::from_secs(300));
    let per_round: Vec<usize> = world.rounds().iter().skip(4).map(|round| round.observations.len()).collect();
    assert!(per_round.iter().all(|count| (2..=4).contains(count)), "{per_round:?}");
    assert!(world.rounds().last().unwrap().period > Duration::from_secs(10));
}

#[test]
fn a_name_that_must_not_exist_is_new_in_every_shot() {
    let mut world = World::new();
    world.answer = |shot| match shot.question.kind {
        QuestionKind::Absent => Outcome::WrongAnswer { got: Vec::new() },
        _ => Outcome::Answered,
    };
    world.tell(Input::Reconfigure(Arc::new(Config::default())));
    world.run(Duration::from_secs(30));
    let names: Vec<&str> = world
        .shots
        .iter()
        .filter(|(_, shot)| shot.question.kind == QuestionKind::Absent)
        .map(|(_, shot)| shot.question.name.as_str())
        .collect();
    let different: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert!(names.len() >= 5, "rounds and a confirmation: {names:?}");
    assert_eq!(different.len(), names.len());
    assert_eq!(world.suspected(), 1);
}
