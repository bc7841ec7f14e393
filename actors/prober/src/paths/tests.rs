#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::ObjectKey;
use nameward_messages::namespaces::{NamespaceSource, Resolv};
use nameward_messages::targets::{DnsService, ServicePort};

use super::*;

fn port(port: u16) -> Option<ServicePort> {
    Some(ServicePort { name: "dns".to_owned(), port })
}

fn pod(number: u8, node: &str) -> DnsPod {
    DnsPod {
        uid: PodUid(format!("dns-{number}")),
        key: ObjectKey::new("kube-system", format!("coredns-{number}")),
        node: Some(node.into()),
        ips: vec![[10, 244, 1, number].into()],
        udp_port: Some(5353),
        tcp_port: Some(5353),
        ready: true,
        terminating: false,
    }
}

fn targets() -> Targets {
    Targets {
        service: Some(DnsService {
            key: ObjectKey::new("kube-system", "kube-dns"),
            cluster_ips: vec![[10, 96, 0, 10].into()],
            udp_port: port(53),
            tcp_port: port(53),
            internal_traffic_local: false,
        }),
        pods: vec![pod(2, "node1"), pod(3, "node2")],
        cluster_domain: "cluster.local".to_owned(),
        kubernetes_service: vec![[10, 96, 0, 1].into()],
        api_endpoints: Vec::new(),
    }
}

fn namespace(nameserver: IpAddr, search: &[&str]) -> Namespace {
    Namespace {
        pod: "pod-1".into(),
        key: ObjectKey::new("default", "web"),
        cookie: NetnsCookie(7),
        path: "/run/netns/a".into(),
        ips: vec![[10, 244, 1, 9].into()],
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv {
            nameservers: vec![nameserver],
            search: search.iter().map(|s| (*s).to_owned()).collect(),
            read_from: Some("sandbox".to_owned()),
            ..Resolv::default()
        },
        source: NamespaceSource::CniCache,
    }
}

fn laid_out(config: &Config, targets: &Targets, namespaces: Vec<Namespace>) -> Paths {
    let namespaces = namespaces.into_iter().map(|namespace| (namespace.cookie, namespace)).collect();
    lay_out(config, &"node1".into(), targets, &namespaces)
}

const CLUSTER: &[&str] = &["default.svc.cluster.local", "svc.cluster.local", "cluster.local"];

/// Nothing but the cluster's own name.
fn plain() -> Config {
    let mut config = Config::default();
    config.probe.also.clear();
    config
}

#[test]
fn every_vantage_asks_every_target_over_both_transports() {
    let paths = laid_out(&plain(), &targets(), vec![namespace([10, 96, 0, 10].into(), CLUSTER)]);
    assert_eq!(paths.len(), 2 * 3 * 2);
    let always: Vec<_> = paths.iter().filter(|(_, p)| p.always).map(|(path, _)| path).collect();
    assert_eq!(always.len(), 2);
    for path in always {
        assert_eq!(path.vantage, Vantage::Host);
        assert_eq!(path.target.ip, IpAddr::from([10, 244, 1, 2]), "the node's own CoreDNS pod");
    }
    for (path, planned) in &paths {
        let service = path.target.kind == TargetKind::Service;
        assert_eq!(planned.port, if service { 53 } else { 5353 });
        assert_eq!(planned.costs.len(), if service { 2 } else { 1 });
        assert_eq!(planned.place.is_some(), path.vantage != Vantage::Host);
    }
}

#[test]
fn terminating_pods_are_not_asked_and_unready_ones_are() {
    let mut targets = targets();
    targets.pods[0].terminating = true;
    targets.pods[1].ready = false;
    let paths = laid_out(&Config::default(), &targets, vec![]);
    let asked: BTreeMap<IpAddr, ()> = paths.keys().map(|path| (path.target.ip, ())).collect();
    assert_eq!(asked.into_keys().collect::<Vec<_>>(), [IpAddr::from([10, 96, 0, 10]), [10, 244, 1, 3].into()]);
}

#[test]
fn a_port_that_is_missing_is_not_asked_unless_it_is_configured() {
    let mut targets = targets();
    targets.pods[0].tcp_port = None;
    let own = |path: &&PathKey| path.target.ip == IpAddr::from([10, 244, 1, 2]);
    assert_eq!(laid_out(&plain(), &targets, vec![]).keys().filter(own).count(), 1);
    let mut config = plain();
    config.discovery.tcp_port = 1053;
    config.discovery.udp_port = 1053;
    let paths = laid_out(&config, &targets, vec![]);
    assert_eq!(paths.keys().filter(own).count(), 2);
    assert!(paths.iter().filter(|(path, _)| own(path)).all(|(_, planned)| planned.port == 1053));
}

#[test]
fn the_internal_name_is_asked_in_the_family_that_the_api_has() {
    let v6: IpAddr = "fd00::1".parse().unwrap();
    let v4: IpAddr = [10, 96, 0, 1].into();
    let table = [
        (vec![], QueryType::A, Expect::SomeAddress),
        (vec![v4], QueryType::A, Expect::Addresses(vec![v4])),
        (vec![v6, v4], QueryType::A, Expect::Addresses(vec![v4])),
        (vec![v6], QueryType::Aaaa, Expect::Addresses(vec![v6])),
    ];
    for (known, qtype, expect) in table {
        let targets = Targets { kubernetes_service: known, cluster_domain: "corp.example".to_owned(), ..targets() };
        let question = Questions::new(&Config::default(), &targets).internal;
        assert_eq!((question.qtype, &question.expect), (qtype, &expect));
        assert_eq!(question.name, "kubernetes.default.svc.corp.example.");
    }
}

#[test]
fn a_vantage_asks_its_own_families_alone() {
    let mut targets = targets();
    targets.pods[0].ips.push("fd00::2".parse().unwrap());
    let paths = laid_out(&plain(), &targets, vec![namespace([10, 96, 0, 10].into(), CLUSTER)]);
    let v6: Vec<_> = paths.keys().filter(|path| path.target.ip.is_ipv6()).collect();
    assert_eq!(v6.len(), 2);
    assert!(v6.iter().all(|path| path.vantage == Vantage::Host));
}

#[test]
fn a_pods_own_nameserver_is_asked_if_the_pod_uses_cluster_dns() {
    let wrong: IpAddr = [10, 96, 0, 99].into();
    let count = |namespace| {
        let paths = laid_out(&Config::default(), &targets(), vec![namespace]);
        paths.keys().filter(|path| path.target.kind == TargetKind::Nameserver).count()
    };
    assert_eq!(count(namespace(wrong, CLUSTER)), 2);
    assert_eq!(count(namespace([10, 96, 0, 10].into(), CLUSTER)), 0, "the Service is asked anyway");
    assert_eq!(count(namespace([10, 244, 1, 3].into(), CLUSTER)), 0, "so is a CoreDNS pod");
    assert_eq!(count(namespace(wrong, &["corp.example"])), 0, "dnsPolicy Default or None");
    let mut unread = namespace(wrong, CLUSTER);
    unread.resolv.read_from = None;
    assert_eq!(count(unread), 0);
}

#[test]
fn more_names_are_asked_when_configured() {
    let mut config = plain();
    config.probe.external_name = "example.com".to_owned();
    config.probe.extra_names = vec!["a.example.".to_owned(), "b.example.".to_owned()];
    let paths = laid_out(&config, &targets(), vec![]);
    assert_eq!(paths.len(), 3 * 2 * 3);
    for (path, planned) in &paths {
        assert_eq!(planned.questions.len(), if path.question == QuestionKind::Extra { 2 } else { 1 });
        assert!(planned.questions.iter().all(|q| q.name.ends_with('.')));
    }
}

#[test]
fn an_upstream_need_only_reply_to_an_internal_name() {
    let questions = Questions::new(&Config::default(), &targets());
    let target = Target { kind: TargetKind::Upstream, ip: [172, 30, 0, 254].into() };
    for question in [QuestionKind::Internal, QuestionKind::External] {
        let path = PathKey { vantage: Vantage::Host, target: target.clone(), transport: Transport::Udp, question };
        let asked = questions.for_path(&path);
        assert_eq!((asked.kind, &asked.expect), (question, &Expect::AnyReply));
    }
}

#[test]
fn other_kinds_are_put_where_they_say_something_new() {
    let count = |paths: &Paths, kind, host| {
        paths.keys().filter(|p| p.question == kind && (p.vantage == Vantage::Host) == host).count()
    };
    let mut config = Config::default();
    config.probe.large_name = "many.default.svc.cluster.local.".to_owned();
    let paths = laid_out(&config, &targets(), vec![namespace([10, 96, 0, 10].into(), CLUSTER)]);
    let table = [
        (QuestionKind::Held, 1, 1),
        (QuestionKind::OtherType, 3, 1),
        (QuestionKind::Reverse, 3, 0),
        (QuestionKind::Absent, 3, 0),
        (QuestionKind::Large, 6, 6),
    ];
    for (kind, host, pod) in table {
        assert_eq!((count(&paths, kind, true), count(&paths, kind, false)), (host, pod), "{kind:?}");
    }
    for (path, planned) in &paths {
        let asked = &planned.questions[0];
        let right = match path.question {
            QuestionKind::Held => asked.expect == Expect::Addresses(vec![[10, 96, 0, 1].into()]),
            QuestionKind::OtherType => (asked.qtype, &asked.expect) == (QueryType::Aaaa, &Expect::NoError),
            QuestionKind::Reverse => asked.name == "1.0.96.10.in-addr.arpa." && asked.qtype == QueryType::Ptr,
            QuestionKind::Absent => asked.expect == Expect::NoSuchName,
            QuestionKind::Large => asked.qtype == QueryType::A,
            _ => true,
        };
        assert!(right, "{path}: {asked:?}");
        assert!(!planned.always || path.question == QuestionKind::Internal, "the others wait for their turn");
    }
    config.probe.large_name = "big.example.".to_owned();
    let question = Questions::new(&config, &targets()).kinds.pop().unwrap().1[0].clone();
    assert_eq!((question.kind, question.qtype), (QuestionKind::Large, QueryType::Txt));
    assert_eq!(reverse("fd00::1".parse().unwrap()).len(), 32 * 2 + "ip6.arpa.".len());
}

#[test]
fn an_absent_name_is_new_each_time() {
    let questions = Questions::new(&Config::default(), &targets());
    let absent = &questions.kinds.iter().find(|(kind, _)| *kind == QuestionKind::Absent).unwrap().1[0];
    assert_eq!(fresh(absent, 10).name, "nameward-absent-000000000000000a.cluster.local.");
    assert_ne!(fresh(absent, 10), fresh(absent, 11));
    assert_eq!(fresh(&questions.internal, 10), questions.internal);
}

#[test]
fn a_loopback_nameserver_is_asked_whatever_the_pod_is_meant_to_use() {
    let stub: IpAddr = [127, 0, 0, 53].into();
    let asked = |namespace: Namespace| {
        let paths = laid_out(&plain(), &targets(), vec![namespace]);
        let to_it = paths.into_iter().filter(|(path, _)| path.target.kind == TargetKind::Nameserver);
        to_it.map(|(_, planned)| planned.questions[0].expect.clone()).collect::<Vec<_>>()
    };
    assert_eq!(asked(namespace(stub, &["corp.example"])), [Expect::AnyReply, Expect::AnyReply], "dnsPolicy Default");
    assert_ne!(asked(namespace(stub, CLUSTER)), [Expect::AnyReply, Expect::AnyReply], "it must know cluster names");
    let mut coredns = namespace(stub, &["corp.example"]);
    coredns.pod = "dns-2".into();
    assert_eq!(asked(coredns), []);
}
