#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::net::IpAddr;

use nameward_messages::namespaces::Resolv;
use nameward_messages::pods::DnsPolicy;
use nameward_messages::{NetnsCookie, ObjectKey};
use proptest::prelude::*;

use super::*;

const RESCAN: Duration = Duration::from_secs(30);

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 244, 1, n])
}

fn pod(n: u8) -> LocalPod {
    LocalPod {
        uid: PodUid(format!("uid-{n}")),
        key: ObjectKey::new("default", format!("pod-{n}")),
        ips: vec![ip(n)],
        host_network: false,
        dns_policy: DnsPolicy::ClusterFirst,
        dns_nameservers: Vec::new(),
        running: true,
        terminating: false,
        ignored: false,
    }
}

fn seen(n: u8, cookie: u64) -> Sighting {
    Sighting {
        source: NamespaceSource::CniCache,
        path: format!("/run/netns/{n}-{cookie}").into(),
        cookie: NetnsCookie(cookie),
        whose: Whose::Uid(PodUid(format!("uid-{n}"))),
        ips: vec![ip(n)],
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv::default(),
    }
}

/// A mind with a clock, and a machine that answers its scans.
struct World {
    mind: NetnsMind,
    now: Now,
    machine: Vec<Sighting>,
    whole: bool,
    tells: Vec<NamespaceChanged>,
    scans: usize,
    summary: Summary,
}

impl World {
    fn new(limit: usize) -> Self {
        Self {
            mind: NetnsMind::new(Settings { rescan: RESCAN, limit }),
            now: Now::at(Duration::from_secs(100)),
            machine: Vec::new(),
            whole: true,
            tells: Vec::new(),
            scans: 0,
            summary: Summary::default(),
        }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.mind.step(self.now, input, &mut out);
            for output in out {
                match output {
                    Output::Tell(tell) => self.tells.push(tell),
                    Output::Summary(summary) => self.summary = summary,
                    Output::Scan(request) => {
                        self.scans += 1;
                        let (sightings, whole) = (self.machine.clone(), self.whole);
                        let scan = Scan { number: request.number, sightings, whole, troubles: Vec::new() };
                        inputs.push(Input::Scanned(scan));
                    }
                }
            }
        }
    }

    fn pod(&mut self, change: PodChanged) {
        self.step(Input::Pod(change));
    }

    /// Time passes, with a tick at every deadline on the way.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.mind.deadline().filter(|d| *d <= end.mono) {
            let wait = deadline.since(self.now.mono).max(Duration::from_millis(1));
            self.now = self.now + wait;
            self.step(Input::Tick);
        }
        self.now = end;
    }

    fn told(&mut self) -> Vec<String> {
        let text = |tell: NamespaceChanged| match tell {
            NamespaceChanged::Found(n) => format!("found {} {}", n.pod, n.cookie.0),
            NamespaceChanged::Gone { pod, cookie } => format!("gone {pod} {}", cookie.0),
        };
        self.tells.drain(..).map(text).collect()
    }
}

fn started(pods: &[u8], limit: usize) -> World {
    let mut world = World::new(limit);
    for n in pods {
        world.machine.push(seen(*n, u64::from(*n)));
        world.pod(PodChanged::Applied(pod(*n)));
    }
    world.pod(PodChanged::Synced);
    world.pass(Duration::from_secs(1));
    world
}

#[test]
fn pods_are_found_after_one_scan_for_the_whole_burst() {
    let mut world = started(&[1, 2, 3], 10);
    assert_eq!(world.told(), ["found uid-1 1", "found uid-2 2", "found uid-3 3"]);
    assert_eq!(world.scans, 1);
    world.pass(Duration::from_secs(29));
    assert_eq!(world.scans, 1);
    world.pass(Duration::from_secs(2));
    assert_eq!((world.scans, world.told().len()), (2, 0));
}

#[test]
fn a_pod_that_is_not_there_yet_is_looked_for_again_ever_more_patiently() {
    let mut world = started(&[], 10);
    world.pod(PodChanged::Applied(pod(1)));
    world.pass(Duration::from_secs(10));
    assert!((3..=5).contains(&world.scans), "{}", world.scans);
    assert_eq!(world.summary.unfound, [PodUid::from("uid-1")]);
    world.machine.push(seen(1, 7));
    world.step(Input::FoldersChanged);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.told(), ["found uid-1 7"]);
}

#[test]
fn other_nodes_pods_and_host_network_pods_are_left_alone() {
    let mut world = World::new(10);
    world.machine = vec![seen(1, 1), seen(9, 9)];
    world.pod(PodChanged::Applied(pod(1)));
    world.pod(PodChanged::Applied(LocalPod { host_network: true, ..pod(2) }));
    world.machine.push(seen(2, 1000));
    world.pod(PodChanged::Synced);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.told(), ["found uid-1 1"]);
}

#[test]
fn gone_terminating_and_ignored_pods_leave_at_once() {
    let mut world = started(&[1, 2, 3], 10);
    world.told();
    world.pod(PodChanged::Gone("uid-1".into()));
    assert_eq!(world.told(), ["gone uid-1 1"]);
    world.pod(PodChanged::Applied(LocalPod { terminating: true, ..pod(2) }));
    assert_eq!(world.told(), ["gone uid-2 2"]);
    world.pod(PodChanged::Applied(LocalPod { ignored: true, ..pod(3) }));
    assert_eq!(world.told(), ["gone uid-3 3"]);
    world.pod(PodChanged::Applied(pod(3)));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.told(), ["found uid-3 3"]);
}

#[test]
fn a_restarted_sandbox_is_a_gone_and_a_found_namespace() {
    let mut world = started(&[1], 10);
    world.told();
    world.machine = vec![seen(1, 50)];
    world.pass(RESCAN * 2);
    assert_eq!(world.told(), ["gone uid-1 1", "found uid-1 50"]);
}

#[test]
fn of_two_sandboxes_the_one_with_the_pods_address_counts_then_the_known_one() {
    let mut world = started(&[1], 10);
    world.told();
    world.machine.push(Sighting { ips: vec![ip(99)], ..seen(1, 60) });
    world.pass(RESCAN * 2);
    assert!(world.told().is_empty());
    world.machine = vec![seen(1, 1), seen(1, 61)];
    world.pass(RESCAN * 2);
    assert!(world.told().is_empty());
}

#[test]
fn a_vanished_namespace_is_noticed_within_one_rescan_if_the_scan_was_whole() {
    let mut world = started(&[1], 10);
    world.told();
    world.machine.clear();
    world.whole = false;
    world.pass(RESCAN * 3);
    assert!(world.told().is_empty());
    world.whole = true;
    world.pass(RESCAN);
    assert_eq!(world.told(), ["gone uid-1 1"]);
}

#[test]
fn nothing_is_gone_before_the_first_list_and_what_survived_a_restart_is_settled_by_it() {
    let mut world = started(&[1, 2], 10);
    world.told();
    let known: Vec<Namespace> = world.mind.known().cloned().collect();
    let machine = world.machine.clone();
    let mut world = World::new(10);
    world.machine = machine;
    world.step(Input::Known(known));
    world.pass(RESCAN * 3);
    world.pod(PodChanged::Applied(pod(1)));
    world.pass(Duration::from_secs(5));
    assert!(world.told().is_empty());
    world.pod(PodChanged::Synced);
    assert_eq!(world.told(), ["gone uid-2 2"]);
}

#[test]
fn the_limit_keeps_those_that_are_known_and_names_the_rest() {
    let mut world = started(&[5, 6], 2);
    world.told();
    world.machine.push(seen(1, 1));
    world.pod(PodChanged::Applied(pod(1)));
    world.pass(Duration::from_secs(1));
    assert!(world.told().is_empty());
    assert_eq!(world.summary.surplus, [PodUid::from("uid-1")]);
    world.pod(PodChanged::Gone("uid-5".into()));
    assert_eq!(world.told(), ["gone uid-5 5", "found uid-1 1"]);
    world.step(Input::Settings(Settings { rescan: RESCAN, limit: 1 }));
    assert_eq!(world.told().len(), 1);
    assert_eq!(world.mind.known().count(), 1);
}

#[test]
fn addresses_tell_unless_two_namespaces_have_the_same() {
    let mut world = World::new(10);
    let by_address = |cookie| Sighting { source: NamespaceSource::Folder, whose: Whose::Addresses, ..seen(1, cookie) };
    world.machine = vec![by_address(1), by_address(2)];
    world.pod(PodChanged::Applied(pod(1)));
    world.pod(PodChanged::Synced);
    world.pass(Duration::from_secs(5));
    assert!(world.told().is_empty());
    world.machine.pop();
    world.pass(RESCAN);
    assert_eq!(world.told(), ["found uid-1 1"]);
    world.machine.push(Sighting { whose: Whose::Key(pod(1).key), ..seen(1, 3) });
    world.pass(RESCAN * 2);
    assert_eq!(world.told(), ["gone uid-1 1", "found uid-1 3"]);
}

#[test]
fn a_scan_that_never_comes_back_is_asked_for_again() {
    let mut mind = NetnsMind::new(Settings { rescan: RESCAN, limit: 10 });
    let now = Now::at(Duration::from_secs(100));
    let mut out = Vec::new();
    mind.step(now, Input::Pod(PodChanged::Applied(pod(1))), &mut out);
    let later = now + Duration::from_secs(1);
    mind.step(later, Input::Tick, &mut out);
    let scans = |out: &[Output]| out.iter().filter(|o| matches!(o, Output::Scan(_))).count();
    assert_eq!(scans(&out), 1);
    assert_eq!(mind.deadline(), Some(later.mono + SCAN_LOST));
    mind.step(later + SCAN_LOST, Input::Tick, &mut out);
    assert_eq!(scans(&out), 2);
    mind.step(later + SCAN_LOST, Input::Scanned(Scan { number: 1, whole: true, ..Scan::default() }), &mut out);
    assert!(mind.pending.is_some(), "the answer to the scan that was given up is not the one that is waited for");
}

#[derive(Clone, Debug)]
enum Event {
    Applied(u8, bool, bool, bool),
    Gone(u8),
    Synced,
    Machine(Vec<(u8, u8)>, bool),
    Folders,
    Limit(usize),
    Pass(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u8..6, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(n, a, b, c)| Event::Applied(n, a && b, b && c, a && c)),
        1 => (0u8..6).prop_map(Event::Gone),
        1 => Just(Event::Synced),
        4 => (prop::collection::vec((0u8..8, 1u8..12), 0..8), any::<bool>()).prop_map(|(m, whole)| Event::Machine(m, whole)),
        1 => Just(Event::Folders),
        1 => (0usize..5).prop_map(Event::Limit),
        4 => (0u16..60_000).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn what_is_told_adds_up(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new(4);
        let mut limit = 4;
        let mut pods: BTreeMap<PodUid, LocalPod> = BTreeMap::new();
        let mut told: BTreeMap<PodUid, Namespace> = BTreeMap::new();
        for event in events {
            match event {
                Event::Applied(n, host_network, terminating, ignored) => {
                    let pod = LocalPod { host_network, terminating, ignored, ..pod(n) };
                    pods.insert(pod.uid.clone(), pod.clone());
                    world.pod(PodChanged::Applied(pod));
                }
                Event::Gone(n) => {
                    pods.remove(&pod(n).uid);
                    world.pod(PodChanged::Gone(pod(n).uid));
                }
                Event::Synced => world.pod(PodChanged::Synced),
                Event::Machine(pairs, whole) => {
                    world.machine = pairs.iter().map(|(n, cookie)| seen(*n, u64::from(*cookie))).collect();
                    world.whole = whole;
                }
                Event::Folders => world.step(Input::FoldersChanged),
                Event::Limit(to) => {
                    limit = to;
                    world.step(Input::Settings(Settings { rescan: RESCAN, limit }));
                }
                Event::Pass(ms) => world.pass(Duration::from_millis(u64::from(ms))),
            }
            for tell in world.tells.drain(..) {
                match tell {
                    NamespaceChanged::Found(n) => {
                        prop_assert!(pods.get(&n.pod).is_some_and(takes_part));
                        let old = told.insert(n.pod.clone(), n.clone());
                        prop_assert!(old.is_none_or(|old| old.cookie == n.cookie && old != n));
                    }
                    NamespaceChanged::Gone { pod, cookie } => {
                        prop_assert_eq!(told.remove(&pod).map(|n| n.cookie), Some(cookie));
                    }
                }
            }
            prop_assert!(told.values().eq(world.mind.known()));
            prop_assert!(told.len() <= limit);
            prop_assert!(told.keys().all(|uid| pods.get(uid).is_some_and(takes_part)));
            prop_assert!(world.scans < 5_000);
        }
    }
}
