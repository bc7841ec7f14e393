//! One constructed fault per row, each with the one cause that must be found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::{Reading, SocketTable};
use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::{Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence};

use crate::matrix::{target_pod, vantage_pod};
use crate::record::{Health, Sample};
use crate::testing::*;

pub(crate) struct Scenario {
    pub name: &'static str,
    pub world: World,
    pub cause: Cause,
    pub confidence: Confidence,
    pub subject: &'static str,
}

pub(crate) fn row(
    name: &'static str,
    cause: Cause,
    confidence: Confidence,
    subject: &'static str,
    world: World,
) -> Scenario {
    Scenario { name, world, cause, confidence, subject }
}

pub(crate) fn to(path: &PathKey, pod: &str) -> bool {
    target_pod(path) == Some(&uid(pod))
}

pub(crate) fn from(path: &PathKey, pod: &str) -> bool {
    vantage_pod(path) == Some(&uid(pod))
}

pub(crate) fn is_service(path: &PathKey) -> bool {
    matches!(path.target.kind, TargetKind::Service)
}

fn udp(path: &PathKey) -> bool {
    path.transport == Transport::Udp
}

pub(crate) fn external(path: &PathKey) -> bool {
    path.question == QuestionKind::External
}

fn is_self(path: &PathKey) -> bool {
    from(path, DNS_A) && to(path, DNS_A)
}

/// What CoreDNS A's UDP paths say, and a share of the Service's.
fn deaf(outcome: &Outcome) -> World {
    World::healthy()
        .paths(|p| (udp(p) && (to(p, DNS_A) || (is_service(p) && from(p, CLIENT)))).then(|| outcome.clone()))
}

fn refused_by_pod() -> Outcome {
    Outcome::Refused { by: Some(ip("10.244.1.51")) }
}

fn sockets(sample: &mut Sample, table: SocketTable) {
    sample.pods.get_mut(&uid(DNS_A)).unwrap().sockets = Reading::Read(table);
}

fn no_udp(sample: &mut Sample) {
    sockets(sample, SocketTable { udp: vec![socket(41_000, 0, 0)], tcp_listen: vec![socket(53, 0, 0)] });
}

fn unread(queue: u64) -> impl Fn(&mut Sample) {
    move |s| sockets(s, SocketTable { udp: vec![socket(53, queue, 0)], tcp_listen: vec![socket(53, 0, 0)] })
}

pub(crate) fn counters(sample: &mut Sample, received: u64, sent: u64) {
    if let Reading::Read(counters) = &mut sample.pods.get_mut(&uid(DNS_A)).unwrap().counters {
        counters.0.insert("Udp.InDatagrams".to_owned(), received);
        counters.0.insert("Udp.OutDatagrams".to_owned(), sent);
    }
}

fn hung() -> World {
    let silent = |p: &PathKey| if udp(p) { Outcome::Timeout } else { Outcome::ConnectedOnly };
    // Four seconds of patience did not help.
    let patiently = |transport| {
        let path = PathKey { vantage: Vantage::Host, target: dns(DNS_A), transport, question: QuestionKind::Internal };
        let outcome = silent(&path);
        observation(path, outcome, 98_000, Purpose::Patience)
    };
    World::healthy()
        .paths(|p| to(p, DNS_A).then(|| silent(p)))
        .with(|record| record.probes.extend(BOTH.iter().copied().map(patiently)))
}

fn health(health: Health) -> impl Fn(&mut Sample) {
    move |s| s.pods.get_mut(&uid(DNS_A)).unwrap().health = Reading::Read(health)
}

pub(crate) fn rules(text: String) -> impl Fn(&mut Sample) {
    move |s| s.host.netfilter.iptables_nft = parsed(&text)
}

fn service_lost(transports: &[Transport]) -> World {
    World::healthy().paths(|p| (is_service(p) && transports.contains(&p.transport)).then_some(Outcome::Timeout))
}

const BOTH: &[Transport] = &[Transport::Udp, Transport::Tcp];

fn forward_drop() -> World {
    World::healthy().paths(|p| {
        let lost = p.vantage.kind() == VantageKind::Pod && !is_self(p);
        let no_upstream = external(p) && to(p, DNS_A);
        if lost || is_self(p) && external(p) {
            Some(Outcome::Timeout)
        } else if no_upstream {
            Some(Outcome::Rcode { rcode: 2 })
        } else {
            None
        }
    })
}

pub(crate) fn policy(packets: u64) -> String {
    iptables_rules()
        .replacen(":FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-EXTERNAL", "@@", 1)
        .replace("@@", &format!(":FORWARD DROP [{packets}:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-EXTERNAL"))
}

fn wrong_nameserver() -> World {
    let mut world = World::healthy();
    let wrong = namespace(CLIENT, "default", "client", "10.244.1.52", "veth2fe33054", &["10.3.0.1"]);
    world.record.namespaces.insert(uid(CLIENT), wrong);
    for transport in [Transport::Udp, Transport::Tcp] {
        let target = server(TargetKind::Nameserver, "10.3.0.1");
        let path = PathKey { vantage: pod_vantage(CLIENT), target, transport, question: QuestionKind::Internal };
        world = world.path(path, Outcome::Timeout);
    }
    world
}

fn upstream_dead() -> World {
    let up = || server(TargetKind::Upstream, UPSTREAM);
    World::healthy()
        .paths(|p| external(p).then(|| if udp(p) { Outcome::Timeout } else { Outcome::ConnectedOnly }))
        .asked(Vantage::Host, up(), &Outcome::Timeout, &[95_500, 97_000])
        .asked(pod_vantage(DNS_A), up(), &Outcome::Timeout, &[95_500, 97_000])
}

fn no_endpoints() -> World {
    let text = std::fs::read_to_string(recordings().join("faults/no-endpoints.iptables-save.txt")).unwrap();
    let mut world = World::healthy();
    world.record.namespaces.remove(&uid(DNS_A));
    world.targets(|t| t.pods.clear()).both(rules(text)).paths(|p| {
        let by = Some(ip("10.244.1.1"));
        is_service(p)
            .then(|| if p.vantage == Vantage::Host && udp(p) { Outcome::NotPermitted } else { Outcome::Refused { by } })
    })
}

fn off_bridge(sample: &mut Sample) {
    if let Reading::Read(topology) = &mut sample.host.topology {
        let link = topology.links.iter_mut().find(|l| l.name == "veth2fe33054").unwrap();
        link.master = None;
        link.port = None;
    }
}

/// Every scenario.
pub(crate) fn scenarios() -> Vec<Scenario> {
    use Cause::*;
    use Confidence::{Certain, Probable};
    const A: &str = "coredns-74c7b86f9f-7tsjn";
    let silent_client = || World::healthy().paths(|p| from(p, CLIENT).then_some(Outcome::Timeout));
    let legacy = |text: String| {
        move |s: &mut Sample| {
            s.host.netfilter.iptables_nft = parsed("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n");
            s.host.netfilter.iptables_legacy = parsed(&text);
        }
    };
    let svc_udp = "-p udp -m comment --comment \"kube-system/kube-dns:dns cluster IP\" -m udp --dport 53 -j KUBE-SVC-";
    let mut all = vec![
        row("listener gone", CorednsUdpDead, Certain, A, deaf(&refused_by_pod()).both(no_udp)),
        row("listener gone, ICMP lost", CorednsUdpDead, Certain, A, deaf(&Outcome::Timeout).both(no_udp)),
        row(
            "listener gone, sockets unreadable",
            CorednsUdpDead,
            Probable,
            A,
            deaf(&refused_by_pod()).both(|s| {
                s.pods.get_mut(&uid(DNS_A)).unwrap().sockets = Reading::NotPermitted("CAP_SYS_ADMIN".to_owned());
            }),
        ),
        row("reader stuck, queue stands", CorednsUdpStuck, Certain, A, deaf(&Outcome::Timeout).both(unread(4352))),
        row("reader discards", CorednsUdpStuck, Certain, A, {
            deaf(&Outcome::Timeout).both(|s| counters(s, 100, 50)).newest(|s| counters(s, 104, 50))
        }),
        row("hung, /health hangs", CorednsHung, Certain, A, hung().both(health(Health::Silent))),
        row(
            "stopped, queues stand",
            CorednsHung,
            Certain,
            A,
            hung().both(|s| {
                sockets(s, SocketTable { udp: vec![socket(53, 768, 0)], tcp_listen: vec![socket(53, 3, 0)] });
            }),
        ),
        row("reads and answers nothing", CorednsHung, Probable, A, {
            hung().both(|s| counters(s, 100, 50)).newest(|s| counters(s, 104, 50))
        }),
        row("killed, paths fail", CorednsOomKilled, Certain, A, {
            let by = Some(ip("10.244.1.51"));
            World::healthy().paths(|p| to(p, DNS_A).then_some(Outcome::Refused { by })).both(no_udp).with(|r| {
                r.oom_kills.push(kill(DNS_A, 20, r.now));
            })
        }),
        row(
            "killed again and again, up just now",
            CorednsOomKilled,
            Certain,
            A,
            World::healthy().with(|r| {
                r.oom_kills.extend([kill(DNS_A, 90, r.now), kill(DNS_A, 30, r.now)]);
            }),
        ),
        row("every endpoint killed", CorednsOomKilled, Certain, A, no_endpoints_by_oom()),
        row("no default route", PodRouteMissing, Certain, "client", {
            World::healthy()
                .paths(|p| (from(p, CLIENT) && !to(p, DNS_A)).then_some(Outcome::NetworkUnreachable))
                .both(|s| topology(s, CLIENT).routes.retain(|r| r.destination.is_some()))
        }),
        row("veth without master", VethOffBridge, Certain, "client", silent_client().both(off_bridge)),
        row(
            "bridge port disabled",
            VethOffBridge,
            Certain,
            "client",
            silent_client().both(|s| {
                if let Reading::Read(topology) = &mut s.host.topology {
                    let link = topology.links.iter_mut().find(|l| l.name == "veth2fe33054").unwrap();
                    link.port.as_mut().unwrap().state = 0;
                }
            }),
        ),
        row("CoreDNS' own veth without master", VethOffBridge, Certain, A, {
            let world = World::healthy().paths(|p| {
                ((from(p, DNS_A) && !is_self(p)) || (to(p, DNS_A) && !is_self(p))).then_some(Outcome::Timeout)
            });
            world.both(|s| {
                if let Reading::Read(topology) = &mut s.host.topology {
                    topology.links.iter_mut().find(|l| l.name == "veth97ef3b4e").unwrap().master = None;
                }
            })
        }),
        row("forward drop", ForwardPolicyDrop, Certain, "node1", {
            forward_drop().both(rules(policy(10))).newest(rules(policy(16)))
        }),
        row("forward drop, legacy", ForwardPolicyDrop, Certain, "node1", {
            forward_drop().both(legacy(policy(10))).newest(legacy(policy(16)))
        }),
        row("forward drop, a chain without counters", ForwardPolicyDrop, Probable, "node1", {
            let more = policy(0).replace("[585:64161]", "[600:64161]").replace("[364:19320]", "[379:19320]");
            forward_drop().both(rules(policy(0))).newest(rules(more))
        }),
        row("KUBE-SERVICES flushed", ServiceRulesMissing, Certain, "node1", {
            service_lost(BOTH).both(rules(without(&iptables_rules(), "-A KUBE-SERVICES")))
        }),
        row("every rule flushed, nothing of kube-proxy left", ServiceRulesMissing, Probable, "node1", {
            service_lost(BOTH).both(rules("*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n".to_owned()))
        }),
        row("every rule flushed, kube-proxy's canary left", ServiceRulesMissing, Certain, "node1", {
            service_lost(BOTH).both(rules("*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n".to_owned()))
        }),
        row("the UDP jump alone", ServiceRulesMissing, Certain, "node1", {
            service_lost(&[Transport::Udp]).both(rules(without(&iptables_rules(), svc_udp)))
        }),
        row("the PREROUTING jump alone", ServiceRulesMissing, Certain, "node1", {
            let rule = "-A PREROUTING -m comment --comment \"kubernetes service portals\"";
            World::healthy()
                .paths(|p| (is_service(p) && p.vantage != Vantage::Host).then_some(Outcome::Timeout))
                .both(rules(without(&iptables_rules(), rule)))
        }),
        row("legacy rules flushed", ServiceRulesMissing, Certain, "node1", {
            service_lost(BOTH).both(legacy(without(&iptables_rules(), "-A KUBE-SERVICES")))
        }),
        row("nftables: element of service-ips", ServiceRulesMissing, Certain, "node1", {
            service_lost(&[Transport::Udp]).both(|s| {
                s.host.netfilter = parsed_nft(&nft_rules());
                let Reading::Read(table) = &mut s.host.netfilter.kube_proxy_nft else { panic!("no table") };
                table.service_ips.retain(|(.., chain)| !chain.ends_with("/udp/dns"));
            })
        }),
        row("nftables: whole table", ServiceRulesMissing, Probable, "node1", {
            service_lost(BOTH).both(|s| {
                s.host.netfilter = parsed_nft(&nft_rules());
                s.host.netfilter.kube_proxy_nft = Reading::NotPresent("there is no table ip kube-proxy".to_owned());
            })
        }),
        row("stale endpoint", ServiceRulesStale, Certain, "node1", {
            service_lost(BOTH).both(rules(
                iptables_rules()
                    .replace("10.244.1.51:53", "10.244.1.77:53")
                    .replace("10.244.2.21:53", "10.244.1.78:53"),
            ))
        }),
        row("an old REJECT restored", ServiceRulesStale, Certain, "node1", {
            let text = std::fs::read_to_string(recordings().join("faults/no-endpoints.iptables-save.txt")).unwrap();
            let by = Some(ip("10.244.1.1"));
            World::healthy().paths(|p| is_service(p).then_some(Outcome::Refused { by })).both(rules(text))
        }),
        row("scaled to zero", ServiceWithoutEndpoints, Certain, "kube-dns", no_endpoints()),
        row("wrong nameserver", WrongNameserver, Certain, "client", wrong_nameserver()),
        row("upstream silent", UpstreamDead, Certain, UPSTREAM, upstream_dead()),
        row("something else", Unexplained, Probable, "client", {
            let mut world = silent_client();
            world.record.now = nameward_messages::Now::at(std::time::Duration::from_secs(130));
            world.with(|r| r.samples = 9).aged()
        }),
    ];
    all.extend(super::arrival_tests::rows());
    all.extend(super::process_scenarios::rows());
    all.extend(super::filter_tests::rows());
    all.extend(super::service_scenarios::rows());
    all.extend(super::links_scenarios::scenarios());
    all.extend(super::names_scenarios::scenarios());
    all
}

fn no_endpoints_by_oom() -> World {
    let text = std::fs::read_to_string(recordings().join("faults/no-endpoints.iptables-save.txt")).unwrap();
    let by = Some(ip("10.244.1.1"));
    World::healthy()
        .targets(|t| {
            t.pods.truncate(1);
            t.pods[0].ready = false;
        })
        .paths(|p| (is_service(p) || to(p, DNS_A)).then_some(Outcome::Refused { by }))
        .path(
            PathKey {
                vantage: Vantage::Host,
                target: dns(DNS_B),
                transport: Transport::Udp,
                question: QuestionKind::Internal,
            },
            Outcome::Answered,
        )
        .both(rules(text))
        .with(|r| r.oom_kills.push(kill(DNS_A, 20, r.now)))
}
