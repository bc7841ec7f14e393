#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use nameward_config::Config;
use nameward_messages::cluster_view::{DnsPodView, WorkloadView};
use nameward_messages::targets::{DnsPod, DnsService, Targets};
use nameward_messages::verdict::{Layer, SubjectKind};
use nameward_messages::{ObjectKey, PodUid};

use super::*;

const MI: u64 = 1 << 20;
/// What only a node can tell, or a person has to choose.
const LEFT: [&str; 13] = [
    "ADDRESS",
    "BRIDGE",
    "BYTES",
    "DEAD_IP",
    "DEV",
    "ENTRY",
    "GATEWAY",
    "MORE",
    "NETNS",
    "PODCIDR",
    "PREFIX",
    "SERVICE_RANGE",
    "VETH",
];
/// Capitals that stand for themselves.
const PLAIN: [&str; 15] = [
    "ACCEPT",
    "API",
    "AAAA",
    "CNI",
    "DNS",
    "FORWARD",
    "ICMP",
    "KUBE",
    "MASQUERADE",
    "MTU",
    "NOERROR",
    "NOTRACK",
    "POSTROUTING",
    "TCP",
    "UDP",
];

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("dns-system", name)
}

fn view() -> ClusterView {
    let pod = |name: &str, node: &str| DnsPodView { key: key(name), ..crate::testing::pod(name, node) };
    let endpoint = |name: &str, node: &str, last| DnsPod {
        uid: name.into(),
        key: key(name),
        node: Some(node.into()),
        ips: vec![[10, 244, 0, last].into()],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready: true,
        terminating: false,
    };
    let service = DnsService {
        key: key("the-dns"),
        cluster_ips: vec![[10, 96, 0, 10].into()],
        udp_port: None,
        tcp_port: None,
        internal_traffic_local: false,
    };
    let targets = Targets {
        service: Some(service),
        pods: vec![endpoint("a", "node1", 2), endpoint("b", "node2", 3)],
        ..Targets::default()
    };
    let workload = WorkloadView { key: key("dns"), memory_limit: Some(170 * MI), ..crate::testing::workload() };
    ClusterView {
        complete: true,
        targets: Arc::new(targets),
        pods: vec![pod("a", "node1"), pod("b", "node2")],
        workload: Some(workload),
        ..ClusterView::default()
    }
}

/// What an incident of this cause is about.
fn subjects(cause: Cause) -> Vec<Subject> {
    let pod = Subject::pod(&key("a"), &PodUid::from("a"));
    let service = Subject::object(SubjectKind::Service, &key("the-dns"));
    let about = match cause.about().scope {
        Scope::CorednsPod => pod,
        Scope::Pod => Subject::pod(&ObjectKey::new("shop", "cart"), &PodUid::from("cart")),
        Scope::Node => Subject::node(&NodeName::from("node1")),
        Scope::Cluster if cause.about().layer == Layer::Service => service.clone(),
        Scope::Cluster => Subject::object(SubjectKind::Deployment, &key("dns")),
    };
    // And where many nodes have it.
    let of_many = matches!(cause.about().scope, Scope::Node | Scope::Pod);
    std::iter::once(about).chain(of_many.then_some(service)).collect()
}

fn told(cause: Cause, subject: &Subject, view: &ClusterView) -> String {
    command(cause, subject, &["node1".into()], &Config::default().remedy, view)
}

/// Words of capitals, which stand where something is not known.
fn placeholders(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let capitals = |word: &&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    words.filter(capitals).filter(|word| !PLAIN.contains(word)).collect()
}

#[test]
fn no_advice_of_an_incident_leaves_open_what_the_cluster_tells() {
    let view = view();
    for cause in Cause::ALL {
        for subject in subjects(*cause) {
            let told = told(*cause, &subject, &view);
            let open: Vec<&str> = placeholders(&told).into_iter().filter(|word| !LEFT.contains(word)).collect();
            assert_eq!(open, Vec::<&str>::new(), "{cause} of {subject}: {told}");
        }
    }
}

#[test]
fn what_is_known_stands_in_its_place() {
    let view = view();
    for (cause, words) in [
        (
            Cause::CorednsOomKilled,
            "kubectl -n dns-system set resources deployment/dns -c coredns --limits=memory=340Mi",
        ),
        (Cause::CorednsReceiveOverflow, "scale deployment/dns --replicas=3; on node1: "),
        (Cause::EndpointOnDeadNode, "kubectl taint node node1 "),
        (Cause::WrongAnswer, "dig @10.244.0.2 "),
        (Cause::AaaaBroken, "dig @10.244.0.3 AAAA "),
        (Cause::NodeRouteMissing, "ip route get 10.244.0.3 on node1"),
        (Cause::NoLocalEndpoint, "kubectl -n dns-system patch service the-dns -p"),
        (Cause::StaleConntrack, "--orig-dst 10.96.0.10 "),
        (Cause::NetworkPolicyDrop, "kubectl -n shop get networkpolicy"),
    ] {
        let told = told(cause, &subjects(cause)[0], &view);
        assert!(told.contains(words), "{cause}: {told}");
    }
}

#[test]
fn the_limit_that_is_advised_goes_to_the_cap_and_beyond_it_only_where_it_is_reached() {
    let mut settings = Config::default().remedy;
    for (limit, cap, factor, advised) in [
        (170, 1024, 2.0, 340),
        (170, 200, 2.0, 200),
        (170, 170, 2.0, 340),
        (1024, 1024, 1.5, 1536),
        (170, 1024, 1.0, 340),
    ] {
        (settings.memory_cap.0, settings.memory_factor) = (cap * MI, factor);
        assert_eq!(more(&settings, limit * MI), advised * MI, "{limit} {cap} {factor}");
    }
}

#[test]
fn a_daemon_set_is_called_one_and_what_is_not_known_stays_open() {
    let mut view = view();
    let subject = subjects(Cause::CorednsOomKilled).remove(0);
    let workload = view.workload.as_mut().unwrap();
    (workload.kind, workload.memory_limit) = (WorkloadKind::DaemonSet, None);
    let advice = told(Cause::CorednsOomKilled, &subject, &view);
    assert!(advice.contains("daemonset/dns -c coredns --limits=memory=LIMIT"), "{advice}");
    let nothing = told(Cause::CorednsOomKilled, &subject, &ClusterView::default());
    assert!(nothing.contains("-n dns-system set resources deployment/WORKLOAD"), "{nothing}");
}
