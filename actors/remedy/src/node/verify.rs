//! What is asked to find out whether a repair helped, and what the answers say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nameward_kernel::repair::Change;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::probe::{Observation, PathKey, ProbeItem, ProbeRequest, Purpose, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Targets, Transport};
use nameward_messages::verdict::{Subject, SubjectKind};
use nameward_messages::{Mono, PodUid, RequestId};

/// Most pods that are asked from when the node is the subject.
const VANTAGES: usize = 4;
/// Most CoreDNS pods that are asked.
const SERVERS: usize = 4;

/// What the answers of one look say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Every path that can be judged answers, and there is one at least.
    Good,
    /// Some path does not, though it does from elsewhere.
    Bad,
    /// Nothing can be concluded.
    Unclear,
}

/// Vantages whose paths the repair was for.
fn vantages(subject: &Subject, namespaces: &BTreeMap<PodUid, Namespace>) -> Vec<Vantage> {
    let of = |n: &Namespace| Vantage::Pod { uid: n.pod.clone(), key: n.key.clone(), cookie: n.cookie };
    match (&subject.kind, &subject.uid) {
        (SubjectKind::Pod, Some(uid)) => namespaces.get(uid).map(of).into_iter().collect(),
        _ => namespaces.values().take(VANTAGES).map(of).collect(),
    }
}

/// The addresses by which a repair is judged. Routes and addresses are restored for IPv4 alone, so where there is IPv4, IPv6 says
/// nothing of them: a link that was down has lost its IPv6 addresses (`addrconf_ifdown()` in net/ipv6/addrconf.c), and not by the repair.
fn meant(change: &Change, ips: Vec<IpAddr>) -> Vec<IpAddr> {
    let any = matches!(change, Change::DropFlows { .. } | Change::DropNeighbour { .. });
    if any || !ips.iter().any(IpAddr::is_ipv4) { ips } else { ips.into_iter().filter(IpAddr::is_ipv4).collect() }
}

/// The paths to ask. The host's own, which come last, tell what is not the repair's fault.
pub(super) fn request(
    id: RequestId,
    deadline: Mono,
    subject: &Subject,
    change: &Change,
    namespaces: &BTreeMap<PodUid, Namespace>,
    targets: &Targets,
) -> ProbeRequest {
    let mut servers: Vec<Target> = Vec::new();
    let ips = targets.service.iter().flat_map(|s| &s.cluster_ips).copied().collect();
    for ip in meant(change, ips).into_iter().take(2) {
        servers.push(Target { kind: TargetKind::Service, ip });
    }
    for pod in targets.pods.iter().filter(|pod| pod.ready && !pod.terminating).take(SERVERS) {
        let kind = TargetKind::Pod { uid: pod.uid.clone(), key: pod.key.clone(), node: pod.node.clone() };
        servers.extend(meant(change, pod.ips.clone()).first().map(|ip| Target { kind, ip: *ip }));
    }
    let purpose = Purpose::Verify { request: id.clone() };
    let mut items = Vec::new();
    for vantage in vantages(subject, namespaces).into_iter().chain([Vantage::Host]) {
        for target in &servers {
            let mut ask = |transport, question| {
                let path = PathKey { vantage: vantage.clone(), target: target.clone(), transport, question };
                items.push(ProbeItem { path, port: 0, purpose: purpose.clone() });
            };
            ask(Transport::Udp, QuestionKind::Internal);
            ask(Transport::Tcp, QuestionKind::Internal);
            // A stale entry is felt from a kept port alone.
            if target.kind == TargetKind::Service && matches!(change, Change::DropFlows { .. }) {
                ask(Transport::Udp, QuestionKind::Held);
            }
        }
    }
    ProbeRequest { id, items, deadline }
}

/// Whether the subject's paths answer; from a CoreDNS pod to itself nothing passes the link. What a repair cannot have done is not
/// counted: a server that the host loses, too (of a repair of the node itself as long as its host reaches another server), and the
/// Service while such a server may be behind it.
pub(super) fn sight(subject: &Subject, observations: &[Observation]) -> Sight {
    let of_pod = subject.kind == SubjectKind::Pod;
    let of_host = |good: bool| {
        let seen =
            observations.iter().filter(move |o| o.path.vantage == Vantage::Host && o.outcome.good() == Some(good));
        seen.map(|o| (&o.path.target, o.path.transport))
    };
    let server = |target: &Target| matches!(target.kind, TargetKind::Pod { .. });
    let host_reaches = |transport| of_host(true).any(|(target, over)| over == transport && server(target));
    let lost: BTreeSet<(&Target, Transport)> =
        of_host(false).filter(|(target, over)| of_pod || (server(target) && host_reaches(*over))).collect();
    let excused = |path: &PathKey| {
        lost.contains(&(&path.target, path.transport))
            || (path.target.kind == TargetKind::Service
                && lost.iter().any(|(target, over)| *over == path.transport && server(target)))
    };
    let mut good = 0;
    for o in observations {
        let (from_subject, on_host) = match &o.path.vantage {
            Vantage::Pod { uid, .. } => (!of_pod || subject.uid.as_ref() == Some(uid), false),
            // A CoreDNS pod that is the subject must be reached from the host, too.
            Vantage::Host => match &o.path.target.kind {
                TargetKind::Pod { uid, .. } => (subject.uid.as_ref() == Some(uid), true),
                _ => (!of_pod, true),
            },
        };
        let to_itself = matches!((&o.path.vantage, &o.path.target.kind),
            (Vantage::Pod { uid: from, .. }, TargetKind::Pod { uid: to, .. }) if from == to);
        if !from_subject || to_itself {
            continue;
        }
        match o.outcome.good() {
            Some(true) => good += 1,
            Some(false) if excused(&o.path) && !(of_pod && on_host) => {}
            Some(false) => return Sight::Bad,
            None => {}
        }
    }
    if good > 0 { Sight::Good } else { Sight::Unclear }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use nameward_messages::NetnsCookie;
    use nameward_messages::ObjectKey;
    use nameward_messages::probe::Outcome;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "shop".into(), name: name.into() }
    }

    /// From `host` or a pod to `service` or a CoreDNS pod.
    fn seen(from: &str, to: &str, transport: Transport, good: bool) -> Observation {
        let vantage = match from {
            "host" => Vantage::Host,
            pod => Vantage::Pod { uid: pod.into(), key: key(pod), cookie: NetnsCookie(1) },
        };
        let (kind, last) = match to {
            "service" => (TargetKind::Service, 10),
            pod => (TargetKind::Pod { uid: pod.into(), key: key(pod), node: None }, pod.len()),
        };
        let target = Target { kind, ip: Ipv4Addr::new(10, 0, 0, u8::try_from(last).unwrap()).into() };
        let path = PathKey { vantage, target, transport, question: QuestionKind::Internal };
        Observation {
            at: Mono::default(),
            path,
            port: 53,
            outcome: if good { Outcome::Answered } else { Outcome::Timeout },
            latency: Duration::from_millis(1),
            connect: None,
            purpose: Purpose::Verify { request: RequestId("r".into()) },
        }
    }

    /// What is lost, of host and two pods to two servers and the Service.
    fn look(subject: &Subject, lost: &[(&str, &str)]) -> Sight {
        let mut all = Vec::new();
        for from in ["host", "web", "shop"] {
            for to in ["dns-a", "dns-bb", "service"] {
                for transport in [Transport::Udp, Transport::Tcp] {
                    all.push(seen(from, to, transport, !lost.contains(&(from, to))));
                }
            }
        }
        sight(subject, &all)
    }

    #[test]
    fn what_a_repair_cannot_have_done_does_not_count_against_it() {
        let (node, web) = (Subject::node(&"node-1".into()), Subject::pod(&key("web"), &"web".into()));
        let gone = [("host", "dns-a"), ("web", "dns-a"), ("shop", "dns-a")];
        for subject in [&node, &web] {
            assert_eq!(look(subject, &[]), Sight::Good);
            assert_eq!(look(subject, &[("web", "dns-a")]), Sight::Bad, "the host reaches it");
            assert_eq!(look(subject, &gone), Sight::Good, "nobody reaches it");
            assert_eq!(
                look(subject, &[&gone[..], &[("web", "service")]].concat()),
                Sight::Good,
                "it is behind the Service"
            );
            assert_eq!(
                look(subject, &[&gone[..], &[("web", "dns-bb")]].concat()),
                Sight::Bad,
                "the other one is there"
            );
            assert_eq!(look(subject, &[("web", "service")]), Sight::Bad);
        }
        let all = |from: &'static str| ["dns-a", "dns-bb", "service"].map(|to| (from, to));
        let none: Vec<_> = ["host", "web", "shop"].into_iter().flat_map(all).collect();
        assert_eq!(look(&node, &none), Sight::Bad, "its host reaches nobody either");
        assert_eq!(look(&web, &none), Sight::Unclear, "that is not the pod's own");
    }
}
