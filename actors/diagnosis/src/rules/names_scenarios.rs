//! Constructed faults of names, answers, upstreams and resolvers, each with the one cause that must be found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::namespaces::Vantage;
use nameward_messages::pods::HostNetworkPod;
use nameward_messages::probe::{Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence};
use nameward_messages::{Mono, ObjectKey};

use super::scenarios::{Scenario, is_service, row, to};
use crate::testing::links::{host, look, via};
use crate::testing::*;

const A: &str = "coredns-74c7b86f9f-7tsjn";
const SERVICES: &str = "default.svc.cluster.local";

pub(super) fn nxdomain() -> Outcome {
    Outcome::Rcode { rcode: 3 }
}

pub(super) fn wrong() -> Outcome {
    Outcome::WrongAnswer { got: vec![ip("10.96.0.99")] }
}

pub(super) fn path(vantage: Vantage, target: Target, transport: Transport, question: QuestionKind) -> PathKey {
    PathKey { vantage, target, transport, question }
}

pub(super) fn host_udp(target: Target, question: QuestionKind) -> PathKey {
    path(Vantage::Host, target, Transport::Udp, question)
}

/// Healthy, with the other kinds of questions as the prober puts them.
pub(super) fn asked_all() -> World {
    let mut world = World::healthy();
    for target in [dns(DNS_A), dns(DNS_B)] {
        for question in [QuestionKind::OtherType, QuestionKind::Reverse, QuestionKind::Absent] {
            world = world.path(host_udp(target.clone(), question), Outcome::Answered);
        }
    }
    for vantage in world.vantages() {
        for question in [QuestionKind::Held, QuestionKind::OtherType] {
            world = world.path(path(vantage.clone(), service(), Transport::Udp, question), Outcome::Answered);
        }
    }
    world.with(searching)
}

fn searching(record: &mut crate::record::EvidenceRecord) {
    for namespace in record.namespaces.values_mut().filter(|n| n.pod != uid(DNS_A)) {
        namespace.resolv.search = vec![SERVICES.to_owned(), "svc.cluster.local".to_owned()];
    }
}

/// Healthy, with a big answer asked for everywhere.
pub(super) fn asked_large() -> World {
    let mut world = asked_all();
    for vantage in world.vantages() {
        for target in [dns(DNS_A), dns(DNS_B), service()] {
            for transport in [Transport::Udp, Transport::Tcp] {
                let large = path(vantage.clone(), target.clone(), transport, QuestionKind::Large);
                world = world.path(large, Outcome::Answered);
            }
        }
    }
    world
}

fn own(path: &PathKey) -> bool {
    matches!(path.question, QuestionKind::Internal | QuestionKind::Held)
}

/// Direct queries of CoreDNS's pod to the upstream: what came of each, at these times.
pub(super) fn direct(world: World, outcomes: &[Outcome], times: &[u64]) -> World {
    let upstream = server(TargetKind::Upstream, UPSTREAM);
    outcomes.iter().fold(world, |world, outcome| world.asked(pod_vantage(DNS_A), upstream.clone(), outcome, times))
}

/// External names fail now and then.
pub(super) fn flaky_outside() -> World {
    asked_all().paths(|p| (p.question == QuestionKind::External && to(p, DNS_A)).then_some(Outcome::Timeout))
}

/// A pod's resolv.conf, and what its nameservers say.
pub(super) fn resolver(world: World, servers: &[&str], said: &Outcome) -> World {
    let ips: Vec<_> = servers.iter().map(|s| ip(s)).collect();
    let mut world = world.with(|r| r.namespaces.get_mut(&uid(CLIENT)).unwrap().resolv.nameservers = ips);
    for address in servers.iter().take(3).filter(|a| **a != "10.96.0.10") {
        for transport in [Transport::Udp, Transport::Tcp] {
            let target = server(TargetKind::Nameserver, address);
            world = world.path(path(pod_vantage(CLIENT), target, transport, QuestionKind::Internal), said.clone());
        }
    }
    world
}

/// A host-network pod that is told a name, and what the node's resolver says at these times.
pub(super) fn misfit(said: &Outcome, times: &[u64]) -> World {
    let mut world = asked_all().with(|r| {
        r.misfits = std::sync::Arc::new(vec![HostNetworkPod {
            uid: uid("33333333-agent"),
            key: ObjectKey::new("shop", "agent"),
            dns_nameservers: Vec::new(),
            container: "agent".to_owned(),
            name: "cart.shop.svc".to_owned(),
        }]);
    });
    let resolver = host_udp(server(TargetKind::Nameserver, UPSTREAM), QuestionKind::Internal);
    let seen = times.iter().map(|ms| observation(resolver.clone(), said.clone(), *ms, Purpose::Diagnosis));
    world.record.probes.extend(seen);
    world
}

pub(super) fn narrow_uplink(world: World) -> World {
    world.both(|sample| {
        let topology = host(sample);
        let mut uplink = topology.links.first().unwrap().clone();
        (uplink.index, uplink.name, uplink.kind, uplink.mtu) = (9, "eth0".to_owned(), None, 1000);
        topology.links.push(uplink);
        look(topology, "10.244.2.21", via(Some(("10.244.2.0", 24)), Some("172.30.0.3"), 9));
        for pod in sample.pods.values_mut() {
            if let nameward_kernel::facts::Reading::Read(topology) = &mut pod.topology {
                topology.links.iter_mut().for_each(|link| link.mtu = 1500);
            }
        }
    })
}

pub(super) fn big_lost() -> World {
    asked_large().paths(|p| {
        let far = to(p, DNS_B) || (is_service(p) && p.vantage == Vantage::Host);
        (p.question == QuestionKind::Large && p.transport == Transport::Udp && far).then_some(Outcome::Timeout)
    })
}

/// AAAA of pods gets lost on the way to the Service; both types were asked apart at these times.
pub(super) fn aaaa_of_pods_lost(times: &[u64]) -> World {
    let mut world = asked_all().paths(|p| {
        let pods = p.vantage != Vantage::Host;
        (p.question == QuestionKind::OtherType && pods).then_some(Outcome::Timeout)
    });
    let kinds = [(QuestionKind::OtherType, Outcome::Timeout), (QuestionKind::Internal, Outcome::Answered)];
    for (question, outcome) in kinds {
        let asked = path(pod_vantage(CLIENT), service(), Transport::Udp, question);
        let seen = times.iter().map(|ms| observation(asked.clone(), outcome.clone(), *ms, Purpose::Diagnosis));
        world.record.probes.extend(seen);
    }
    world
}

pub(super) fn tcp_lost() -> World {
    asked_all().paths(|p| {
        let pods = p.vantage != Vantage::Host;
        let goes_far = is_service(p) || to(p, DNS_B);
        (pods && goes_far && p.transport == Transport::Tcp).then_some(Outcome::Timeout)
    })
}

/// Every scenario.
pub(crate) fn scenarios() -> Vec<Scenario> {
    use Cause::*;
    use Confidence::{Certain, Probable};
    let zone =
        || asked_all().paths(|p| own(p).then(nxdomain).or((p.question == QuestionKind::OtherType).then(nxdomain)));
    let reverse = host_udp(dns(DNS_A), QuestionKind::Reverse);
    let good = |world: World| {
        world.with(|r| r.probes.push(observation(reverse.clone(), Outcome::Answered, 97_000, Purpose::Diagnosis)))
    };
    let lost = [Outcome::Answered, Outcome::Answered, Outcome::Timeout, Outcome::Timeout, Outcome::Timeout];
    let loopback = Outcome::Refused { by: Some(ip("127.0.0.53")) };
    vec![
        row("another zone", ZoneMismatch, Certain, "kube-dns", good(zone())),
        row("another zone, no reverse one", ZoneMismatch, Probable, "kube-dns", zone()),
        row("one replica lies", WrongAnswer, Certain, A, {
            asked_all().paths(|p| (to(p, DNS_A) && own(p)).then(wrong).or((is_service(p) && own(p)).then(wrong)))
        }),
        row("one replica has forgotten", WrongAnswer, Certain, A, {
            asked_all().paths(|p| (to(p, DNS_A) && own(p)).then(nxdomain))
        }),
        row("a wildcard everywhere", WrongAnswer, Certain, "kube-dns", {
            asked_all().paths(|p| (p.question == QuestionKind::Absent).then(wrong))
        }),
        row("no replica knows AAAA", AaaaBroken, Certain, "kube-dns", {
            asked_all().paths(|p| (p.question == QuestionKind::OtherType).then(nxdomain))
        }),
        row("one replica fails on AAAA", AaaaBroken, Certain, A, {
            let bad = Outcome::Rcode { rcode: 2 };
            asked_all().paths(|p| (p.question == QuestionKind::OtherType && to(p, DNS_A)).then(|| bad.clone()))
        }),
        row(
            "AAAA is lost between pods and CoreDNS",
            AaaaBroken,
            Probable,
            "node1",
            aaaa_of_pods_lost(&[96_000, 97_000, 98_000]),
        ),
        row("the upstream drops a part", UpstreamThrottled, Probable, UPSTREAM, {
            direct(flaky_outside(), &lost, &[93_000, 95_500, 98_000])
        }),
        row("a stub that is not there", LoopbackNameserver, Certain, "client", {
            resolver(asked_all(), &["127.0.0.53"], &loopback)
        }),
        row("too late to be read", ResolvConfLimits, Certain, "client", {
            resolver(asked_all(), &["10.3.0.1", "10.3.0.2", "10.3.0.3", "10.96.0.10"], &Outcome::Timeout)
        }),
        row("on the host's network", HostNetworkDnsPolicy, Certain, "agent", misfit(&nxdomain(), &[96_000, 98_500])),
        row("a narrow uplink", FragmentsLost, Certain, "node1", narrow_uplink(big_lost())),
        row("TCP of pods vanishes", Tcp53Blocked, Probable, "node1", tcp_lost()),
    ]
    .into_iter()
    .map(|scenario| Scenario { world: scenario.world.with(|r| r.targets_since = Mono::default()), ..scenario })
    .collect()
}
