//! Things to tell.

#![allow(dead_code, unreachable_pub, reason = "not every test tells everything")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nameward_messages::namespaces::{Namespace, NamespaceChanged, NamespaceSource, Resolv, Vantage};
use nameward_messages::plan::{IncidentPhase, IncidentSpec, IncidentStatus};
use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::probe::{Observation, Outcome, PathKey, Purpose, QuestionKind, Round, Suspicion};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::targets::{DnsPod, DnsService, Target, TargetKind, Targets, Transport};
use nameward_messages::verdict::{Cause, Confidence, DiagnosisTells, Evidence, Scope, Subject, Verdict};
use nameward_messages::{NetnsCookie, NodeName, Now, ObjectKey, PodUid};
use nameward_metrics::{ConfigReload, MetricsInput};

pub fn at(seconds: u64) -> Now {
    Now::at(Duration::from_secs(seconds))
}

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::new("kube-system", name)
}

pub fn uid(name: &str) -> PodUid {
    PodUid(format!("uid-{name}"))
}

pub fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 244, 1, last])
}

pub fn service_ip() -> IpAddr {
    IpAddr::from([10, 96, 0, 10])
}

pub fn workload(n: u64) -> Vantage {
    let key = ObjectKey::new("shop", format!("web-{n}"));
    Vantage::Pod { uid: PodUid(format!("uid-web-{n}")), key, cookie: NetnsCookie(n) }
}

pub fn coredns(name: &str, last: u8) -> Target {
    Target {
        kind: TargetKind::Pod { uid: uid(name), key: key(name), node: Some(NodeName::from("node1")) },
        ip: ip(last),
    }
}

pub fn service() -> Target {
    Target { kind: TargetKind::Service, ip: service_ip() }
}

pub fn path(vantage: Vantage, target: Target, transport: Transport) -> PathKey {
    PathKey { vantage, target, transport, question: QuestionKind::Internal }
}

pub fn saw(second: u64, path: PathKey, outcome: Outcome, ms: u64) -> Observation {
    Observation {
        at: at(second).mono,
        path,
        port: 53,
        outcome,
        latency: Duration::from_millis(ms),
        connect: None,
        purpose: Purpose::Round,
    }
}

pub fn round(number: u64, second: u64, observations: Vec<Observation>) -> MetricsInput {
    MetricsInput::Round(Arc::new(Round {
        number,
        began: at(second),
        ended: at(second) + Duration::from_millis(700),
        period: Duration::from_secs(10),
        observations,
    }))
}

pub fn targets(pods: &[(&str, u8)]) -> MetricsInput {
    let pod = |(name, last): &(&str, u8)| DnsPod {
        uid: uid(name),
        key: key(name),
        node: Some(NodeName::from("node1")),
        ips: vec![ip(*last)],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready: true,
        terminating: false,
    };
    MetricsInput::Targets(Arc::new(Targets {
        service: Some(DnsService {
            key: key("kube-dns"),
            cluster_ips: vec![service_ip()],
            udp_port: None,
            tcp_port: None,
            internal_traffic_local: false,
        }),
        pods: pods.iter().map(pod).collect(),
        cluster_domain: "cluster.local".to_owned(),
        kubernetes_service: vec![],
        api_endpoints: vec![],
    }))
}

pub fn namespace(n: u64) -> MetricsInput {
    MetricsInput::Namespace(NamespaceChanged::Found(Namespace {
        pod: PodUid(format!("uid-web-{n}")),
        key: ObjectKey::new("shop", format!("web-{n}")),
        cookie: NetnsCookie(n),
        path: "/run/netns/x".into(),
        ips: vec![],
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv::default(),
        source: NamespaceSource::CniCache,
    }))
}

pub fn namespace_gone(n: u64) -> MetricsInput {
    MetricsInput::Namespace(NamespaceChanged::Gone { pod: PodUid(format!("uid-web-{n}")), cookie: NetnsCookie(n) })
}

pub fn suspected(path: PathKey) -> MetricsInput {
    MetricsInput::Suspected(Arc::new(Suspicion { at: at(1), path, observations: vec![] }))
}

pub fn verdict(cause: Cause, name: &str, second: u64) -> Verdict {
    Verdict {
        cause,
        scope: Scope::CorednsPod,
        subject: Subject::pod(&key(name), &uid(name)),
        confidence: Confidence::Certain,
        evidence: vec![Evidence::new("probe", "udp refused, tcp answers \"well\"\nand more")],
        ruled_out: vec![],
        since: at(second),
        at: at(second),
    }
}

pub fn stands(cause: Cause, name: &str, second: u64) -> MetricsInput {
    MetricsInput::Verdict(DiagnosisTells::Stands(verdict(cause, name, second)))
}

pub fn ended(cause: Cause, name: &str) -> MetricsInput {
    let key = verdict(cause, name, 0).key();
    MetricsInput::Verdict(DiagnosisTells::Ended { key, at: at(9), recovered: true })
}

pub fn remedy(outcome: RemedyOutcome) -> MetricsInput {
    MetricsInput::Remedy(RemedyRecord {
        kind: RemedyKind::EvictPod,
        subject: Subject::pod(&key("coredns-a"), &uid("coredns-a")),
        mode: Mode::Act,
        outcome,
        detail: String::new(),
        at: at(3).wall,
    })
}

pub fn oom() -> MetricsInput {
    MetricsInput::Oom(ContainerOomKilled {
        pod: uid("coredns-a"),
        key: key("coredns-a"),
        node: None,
        container: "coredns".to_owned(),
        finished_at: at(2).wall,
        restarts: 3,
        memory_limit: None,
    })
}

pub fn incident(name: &str, phase: IncidentPhase, second: u64) -> MetricsInput {
    let subject = Subject::pod(&key("coredns-a"), &uid("coredns-a"));
    MetricsInput::Incident {
        name: name.to_owned(),
        spec: IncidentSpec { cause: Cause::CorednsUdpDead, scope: Scope::CorednsPod, subject },
        status: IncidentStatus { phase, opened_at: Some(at(second).wall), ..IncidentStatus::default() },
    }
}

/// A bit of everything.
pub fn a_bad_day() -> Vec<MetricsInput> {
    let host_udp = path(Vantage::Host, coredns("coredns-a", 2), Transport::Udp);
    let host_tcp = path(Vantage::Host, coredns("coredns-a", 2), Transport::Tcp);
    let pod_udp = path(workload(1), coredns("coredns-a", 2), Transport::Udp);
    let pod_service = path(workload(1), service(), Transport::Udp);
    vec![
        targets(&[("coredns-a", 2), ("coredns-b", 3)]),
        namespace(1),
        round(
            1,
            1,
            vec![
                saw(1, host_udp.clone(), Outcome::Refused { by: Some(ip(2)) }, 1),
                saw(1, host_tcp, Outcome::Answered, 2),
                saw(1, pod_udp.clone(), Outcome::Timeout, 700),
                saw(1, pod_service, Outcome::Rcode { rcode: 2 }, 3),
            ],
        ),
        suspected(host_udp),
        suspected(pod_udp),
        stands(Cause::CorednsUdpDead, "coredns-a", 2),
        MetricsInput::Leader(true),
        MetricsInput::Api { reachable: true },
        incident("dns-1", IncidentPhase::Verifying, 2),
        remedy(RemedyOutcome::Done),
        remedy(RemedyOutcome::Verified),
        oom(),
        MetricsInput::Losses(vec!["no NET_ADMIN: netfilter cannot be read".to_owned()]),
        MetricsInput::ConfigReload(ConfigReload::Failed { because: "line 3: unknown key".to_owned() }),
    ]
}
