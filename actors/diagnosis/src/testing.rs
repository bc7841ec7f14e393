//! A small world for tests: node1 with two clients and one of two CoreDNS pods, healthy unless told otherwise. Values
//! are spelled as in the recordings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nameward_kernel::facts::{Netfilter, Reading};
use nameward_kernel::{iptables, nft};
use nameward_messages::namespaces::{Namespace, NamespaceSource, Resolv, Vantage};
use nameward_messages::pods::{ContainerOomKilled, RolloutObserved};
use nameward_messages::probe::{Observation, Outcome, PathKey, Purpose, QuestionKind, Round, Suspicion};
use nameward_messages::targets::{DnsPod, DnsService, ServicePort, Target, TargetKind, Targets, Transport};
use nameward_messages::{Mono, NetnsCookie, Now, ObjectKey, PodUid};

use crate::matrix::Matrix;
use crate::record::{EvidenceRecord, Sample};

pub(crate) mod arrival;
pub(crate) mod links;
pub(crate) mod process;
mod readings;
pub(crate) mod service;
pub(crate) use readings::{sample, socket, topology};

pub(crate) const DNS_A: &str = "c8657e03-3c27-447f-8bf3-c773c77e2db9";
pub(crate) const DNS_B: &str = "a3d322b6-0594-42ac-b122-eee5ce9c83c1";
pub(crate) const CLIENT: &str = "11111111-client";
pub(crate) const CLIENT2: &str = "22222222-client2";
pub(crate) const UPSTREAM: &str = "172.30.0.254";

pub(crate) fn recordings() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn uid(text: &str) -> PodUid {
    PodUid::from(text)
}

pub(crate) fn at(ms: u64) -> Mono {
    Mono(Duration::from_millis(ms))
}

/// node1's rules in iptables mode, with the second endpoint on node2.
pub(crate) fn iptables_rules() -> String {
    let text = std::fs::read_to_string(recordings().join("iptables/node1.iptables-save.txt")).unwrap();
    text.replace("10.244.1.53", "10.244.2.21")
}

/// node2's rules in nftables mode, seen from a node1 of the same shape.
pub(crate) fn nft_rules() -> String {
    let text = std::fs::read_to_string(recordings().join("nftables/node2.nft-ruleset.json")).unwrap();
    text.replace("10.244.1.56", "10.244.1.51")
}

pub(crate) fn parsed(text: &str) -> Reading<iptables::RuleSet> {
    Reading::Read(iptables::parse(text).unwrap())
}

pub(crate) fn parsed_nft(text: &str) -> Netfilter {
    let ruleset = nft::parse(text.as_bytes()).unwrap();
    let plain = std::fs::read_to_string(recordings().join("nftables/node2.iptables-save.txt")).unwrap();
    Netfilter {
        iptables_nft: parsed(&plain),
        iptables_legacy: Reading::NotPresent("no legacy table is in use".to_owned()),
        kube_proxy_nft: ruleset
            .kube_proxy
            .map_or_else(|| Reading::NotPresent("there is no table ip kube-proxy".to_owned()), Reading::Read),
        other_base_chains: Reading::Read(ruleset.other_base_chains),
        native: Reading::Read(ruleset.native),
    }
}

/// Drops lines that contain a text.
pub(crate) fn without(rules: &str, text: &str) -> String {
    rules.lines().filter(|line| !line.contains(text)).collect::<Vec<_>>().join("\n")
}

pub(crate) struct World {
    pub record: EvidenceRecord,
    pub previous: Sample,
    pub current: Sample,
    outcomes: BTreeMap<PathKey, Outcome>,
    suspected_for: Duration,
}

impl World {
    pub(crate) fn healthy() -> Self {
        let (previous, current) = (sample(96_000), sample(97_500));
        let record = EvidenceRecord {
            now: Now::at(Duration::from_secs(100)),
            node: "node1".into(),
            targets: Arc::new(targets()),
            last_service: targets().service,
            targets_since: Mono::default(),
            namespaces: [
                namespace(DNS_A, "kube-system", "coredns-74c7b86f9f-7tsjn", "10.244.1.51", "veth97ef3b4e", &[UPSTREAM]),
                namespace(CLIENT, "default", "client", "10.244.1.52", "veth2fe33054", &["10.96.0.10"]),
                namespace(CLIENT2, "default", "client2", "10.244.1.54", "veth456dee19", &["10.96.0.10"]),
            ]
            .into_iter()
            .map(|n| (n.pod.clone(), n))
            .collect(),
            matrix: Matrix::default(),
            probes: Vec::new(),
            traces: Vec::new(),
            rollout: RolloutObserved::default(),
            starting: BTreeSet::new(),
            oom_kills: Vec::new(),
            coredns: Arc::default(),
            misfits: Arc::default(),
            complaints: Vec::new(),
            earlier: None,
            previous: None,
            current: None,
            samples: 2,
        };
        let mut world =
            Self { record, previous, current, outcomes: BTreeMap::new(), suspected_for: Duration::from_secs(5) };
        for vantage in world.vantages() {
            for target in [dns(DNS_A), dns(DNS_B), service()] {
                for transport in [Transport::Udp, Transport::Tcp] {
                    for question in [QuestionKind::Internal, QuestionKind::External] {
                        let path = PathKey { vantage: vantage.clone(), target: target.clone(), transport, question };
                        world.outcomes.insert(path, Outcome::Answered);
                    }
                }
            }
        }
        world
    }

    pub(crate) fn vantages(&self) -> Vec<Vantage> {
        [Vantage::Host].into_iter().chain([DNS_A, CLIENT, CLIENT2].map(pod_vantage)).collect()
    }

    /// Makes every path for which `outcome` says something fail, or be good.
    pub(crate) fn paths(mut self, outcome: impl Fn(&PathKey) -> Option<Outcome>) -> Self {
        for (path, state) in &mut self.outcomes {
            if let Some(new) = outcome(path) {
                *state = new;
            }
        }
        self
    }

    pub(crate) fn path(mut self, path: PathKey, outcome: Outcome) -> Self {
        self.outcomes.insert(path, outcome);
        self
    }

    /// Changes both samples.
    pub(crate) fn both(mut self, change: impl Fn(&mut Sample)) -> Self {
        change(&mut self.previous);
        change(&mut self.current);
        self
    }

    /// Changes the newest sample.
    pub(crate) fn newest(mut self, change: impl Fn(&mut Sample)) -> Self {
        change(&mut self.current);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut EvidenceRecord)) -> Self {
        change(&mut self.record);
        self
    }

    /// A result of a probe that diagnosis asked for.
    pub(crate) fn asked(mut self, vantage: Vantage, target: Target, outcome: &Outcome, times: &[u64]) -> Self {
        for time in times {
            let path = PathKey {
                vantage: vantage.clone(),
                target: target.clone(),
                transport: Transport::Udp,
                question: QuestionKind::External,
            };
            self.record.probes.push(observation(path, outcome.clone(), *time, Purpose::Diagnosis));
        }
        self
    }

    pub(crate) fn targets(self, change: impl FnOnce(&mut Targets)) -> Self {
        self.with(|record| change(Arc::make_mut(&mut record.targets)))
    }

    /// What fails has failed for 25 seconds.
    pub(crate) fn aged(self) -> Self {
        self.failing_for(25)
    }

    /// What fails has failed for so many seconds.
    pub(crate) fn failing_for(mut self, seconds: u64) -> Self {
        self.suspected_for = Duration::from_secs(seconds);
        self
    }

    /// The record, two samples in it.
    pub(crate) fn record(mut self) -> EvidenceRecord {
        let mut matrix = Matrix::default();
        let mut observations = Vec::new();
        let since = self.record.now.mono - self.suspected_for;
        let late = u64::try_from(self.record.now.mono.0.as_millis()).unwrap() - 2_000;
        for (path, outcome) in &self.outcomes {
            let seen = observation(path.clone(), outcome.clone(), late, Purpose::Round);
            if outcome.good() == Some(false) {
                matrix.suspect(&Suspicion {
                    at: Now::at(since.0),
                    path: path.clone(),
                    observations: vec![observation(path.clone(), outcome.clone(), 0, Purpose::Confirm)],
                });
            }
            observations.push(seen);
        }
        // Three rounds that say the same.
        for number in 1..=3 {
            matrix.round(&Round {
                number,
                began: self.record.now,
                ended: self.record.now,
                period: Duration::from_secs(10),
                observations: observations.clone(),
            });
        }
        self.record.matrix = matrix;
        self.record.previous = Some(Arc::new(self.previous));
        self.record.current = Some(Arc::new(self.current));
        self.record
    }
}

pub(crate) fn observation(path: PathKey, outcome: Outcome, ms: u64, purpose: Purpose) -> Observation {
    Observation { at: at(ms), path, port: 53, outcome, latency: Duration::from_millis(2), connect: None, purpose }
}

pub(crate) fn pod_vantage(pod: &str) -> Vantage {
    let name = match pod {
        DNS_A => ObjectKey::new("kube-system", "coredns-74c7b86f9f-7tsjn"),
        CLIENT => ObjectKey::new("default", "client"),
        _ => ObjectKey::new("default", "client2"),
    };
    Vantage::Pod { uid: uid(pod), key: name, cookie: cookie(pod) }
}

fn cookie(pod: &str) -> NetnsCookie {
    NetnsCookie(match pod {
        DNS_A => 51,
        CLIENT => 52,
        _ => 54,
    })
}

pub(crate) fn dns(pod: &str) -> Target {
    let targets = targets();
    let found = targets.pods.iter().find(|p| p.uid == uid(pod)).unwrap();
    let kind = TargetKind::Pod { uid: found.uid.clone(), key: found.key.clone(), node: found.node.clone() };
    Target { kind, ip: found.ips[0] }
}

pub(crate) fn service() -> Target {
    Target { kind: TargetKind::Service, ip: ip("10.96.0.10") }
}

pub(crate) fn server(kind: TargetKind, address: &str) -> Target {
    Target { kind, ip: ip(address) }
}

pub(crate) fn targets() -> Targets {
    let pod = |id: &str, name: &str, node: &str, address: &str| DnsPod {
        uid: uid(id),
        key: ObjectKey::new("kube-system", name),
        node: Some(node.into()),
        ips: vec![ip(address)],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready: true,
        terminating: false,
    };
    let port = |name: &str| Some(ServicePort { name: name.to_owned(), port: 53 });
    Targets {
        service: Some(DnsService {
            key: ObjectKey::new("kube-system", "kube-dns"),
            cluster_ips: vec![ip("10.96.0.10")],
            udp_port: port("dns"),
            tcp_port: port("dns-tcp"),
            internal_traffic_local: false,
        }),
        pods: vec![
            pod(DNS_A, "coredns-74c7b86f9f-7tsjn", "node1", "10.244.1.51"),
            pod(DNS_B, "coredns-74c7b86f9f-92dzt", "node2", "10.244.2.21"),
        ],
        cluster_domain: "cluster.local".to_owned(),
        kubernetes_service: vec![ip("10.96.0.1")],
        api_endpoints: vec!["172.30.0.254:6443".parse().unwrap()],
    }
}

pub(crate) fn namespace(pod: &str, ns: &str, name: &str, address: &str, veth: &str, servers: &[&str]) -> Namespace {
    Namespace {
        pod: uid(pod),
        key: ObjectKey::new(ns, name),
        cookie: cookie(pod),
        path: format!("/run/netns/{name}").into(),
        ips: vec![ip(address)],
        gateway: Some(ip("10.244.1.1")),
        host_veth: Some(veth.to_owned()),
        bridge: Some("cni0".to_owned()),
        resolv: Resolv {
            nameservers: servers.iter().map(|s| ip(s)).collect(),
            search: Vec::new(),
            options: vec!["ndots:5".to_owned()],
            read_from: Some("resolv.conf of its sandbox".to_owned()),
            trouble: None,
        },
        source: NamespaceSource::CniCache,
    }
}

pub(crate) fn kill(pod: &str, seconds_ago: u64, now: Now) -> ContainerOomKilled {
    ContainerOomKilled {
        pod: uid(pod),
        key: ObjectKey::new("kube-system", "coredns-74c7b86f9f-7tsjn"),
        node: Some("node1".into()),
        container: "coredns".to_owned(),
        finished_at: now.wall.checked_sub(Duration::from_secs(seconds_ago)).unwrap(),
        restarts: 3,
        memory_limit: Some(7 << 20),
    }
}
