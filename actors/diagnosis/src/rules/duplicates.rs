//! F37 and F38: two pods of the node have the same address, or the same link-layer address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nameward_kernel::facts::Link;
use nameward_messages::PodUid;
use nameward_messages::namespaces::Namespace;
use nameward_messages::verdict::{Cause, Evidence};

use super::links::{bounded, carried, excuse, failed, host_end, no_answer, scope, subject};
use crate::finding::{Finding, RuleResult, Tally, View, confidence, not, pod_name, probe_line};
use crate::matrix::{PathState, Pick};
use crate::record::{EvidenceRecord, Sample};

/// Something that two pods have, and must not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Clash<T> {
    what: T,
    one: PodUid,
    other: PodUid,
}

/// `duplicate-pod-ip`.
pub fn ip(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(current) = &record.current else { return RuleResult::NotApplicable };
    let mut tally = Tally::default();
    for clash in addresses(record, current) {
        let there = record.held(|sample| Some(addresses(record, sample).contains(&clash)));
        let to_it = record.targets.pods.iter().find(|p| p.ips.contains(&clash.what));
        let concerned = |uid: &PodUid| {
            worst(view, Pick { vantage: Some(uid), ..Pick::default() })
                .or_else(|| worst(view, Pick { pod: Some(uid), ..Pick::default() }))
        };
        let Some((path, state)) = concerned(&clash.one).or_else(|| concerned(&clash.other)) else { continue };
        let blamed = usurper(record, &clash);
        let Some(namespace) = record.namespaces.get(blamed) else { continue };
        let rightful = if *blamed == clash.one { &clash.other } else { &clash.one };
        if let Some(excused) = excuse(record, blamed).or_else(|| excuse(record, rightful)) {
            tally.add(excused);
            continue;
        }
        let sure = match confidence(record, there, false, "no two pods of the node have the same address") {
            Ok(sure) => sure,
            Err(result) => {
                tally.add(result);
                continue;
            }
        };
        let address_line = |uid: &PodUid| {
            let says = format!("has {}, in two samples", clash.what);
            Evidence::new(format!("{} rtnetlink addresses", pod_name(record, uid)), says)
        };
        let mut evidence = vec![probe_line(path, failed(state)), address_line(blamed), address_line(rightful)];
        if let Some(dns) = to_it {
            evidence.push(Evidence::new("EndpointSlices", format!("{} is the address of {}", clash.what, dns.key)));
        }
        let mut picks = carried(record, blamed);
        picks.extend(carried(record, rightful));
        tally.add(RuleResult::Verdicts(vec![Finding {
            cause: Cause::DuplicatePodIp,
            scope: scope(record, blamed),
            subject: subject(namespace),
            confidence: sure,
            evidence,
            ruled_out: vec![
                not(Cause::WrongNeighbour, "the neighbour entry may be right: two pods answer for the address"),
                not(Cause::CorednsUdpDead, "who refuses may be the other pod with the address"),
            ],
            explains: view.explained(&picks),
        }]));
    }
    bounded(tally)
}

/// `duplicate-mac`.
pub fn mac(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(current) = &record.current else { return RuleResult::NotApplicable };
    let mut tally = Tally::default();
    for clash in link_addresses(record, current) {
        let paths = |uid: &PodUid| {
            let (from_it, to_it) =
                (Pick { vantage: Some(uid), ..Pick::default() }, Pick { pod: Some(uid), ..Pick::default() });
            let lost = |pick| view.bad(pick).find(|(_, s)| no_answer(failed(s)));
            lost(from_it).or_else(|| lost(to_it))
        };
        let Some((path, state)) = paths(&clash.one).or_else(|| paths(&clash.other)) else { continue };
        // Both suffer; a CoreDNS pod is not the one to be replaced, nor one whose paths are good.
        let blamed =
            if record.dns_pod(&clash.one).is_some() || paths(&clash.one).is_none() { &clash.other } else { &clash.one };
        let rest = if *blamed == clash.one { &clash.other } else { &clash.one };
        let Some(namespace) = record.namespaces.get(blamed) else { continue };
        if let Some(excused) = excuse(record, blamed).or_else(|| excuse(record, rest)) {
            tally.add(excused);
            continue;
        }
        let there = record.held(|sample| Some(link_addresses(record, sample).contains(&clash)));
        let sure = match confidence(record, there, false, "no two pods of a bridge have the same link-layer address") {
            Ok(sure) => sure,
            Err(result) => {
                tally.add(result);
                continue;
            }
        };
        let mac_line = |uid: &PodUid| {
            let says = format!("has {}, in two samples", clash.what.1);
            Evidence::new(format!("{} rtnetlink links", pod_name(record, uid)), says)
        };
        let mut evidence = vec![probe_line(path, failed(state)), mac_line(blamed), mac_line(rest)];
        evidence.extend(port_line(record, current, &clash.what));
        let mut picks = carried(record, blamed);
        picks.extend(carried(record, rest));
        tally.add(RuleResult::Verdicts(vec![Finding {
            cause: Cause::DuplicateMac,
            scope: scope(record, blamed),
            subject: subject(namespace),
            confidence: sure,
            evidence,
            ruled_out: vec![
                not(Cause::WrongNeighbour, "the entries name the link-layer address that the pods have"),
                not(Cause::VethOffBridge, "both pods are on the bridge"),
            ],
            explains: view.explained(&picks),
        }]));
    }
    bounded(tally)
}

fn worst<'a>(view: &View<'a>, pick: Pick<'_>) -> Option<(&'a nameward_messages::probe::PathKey, &'a PathState)> {
    view.bad(pick).next()
}

/// Who has the address without being given it; of two that were, the one that is no CoreDNS pod.
fn usurper<'a>(record: &EvidenceRecord, clash: &'a Clash<IpAddr>) -> &'a PodUid {
    match (given(record, &clash.one, clash.what), given(record, &clash.other, clash.what)) {
        (true, false) => &clash.other,
        (false, true) => &clash.one,
        _ if record.dns_pod(&clash.one).is_some() => &clash.other,
        _ => &clash.one,
    }
}

/// Whether an address is one that the pod was given: by the CNI plugin's word, or the API's.
fn given(record: &EvidenceRecord, uid: &PodUid, ip: IpAddr) -> bool {
    record.dns_pod(uid).is_some_and(|p| p.ips.contains(&ip))
        || record.namespaces.get(uid).is_some_and(|n| n.ips.contains(&ip))
}

/// Every address that two pods have, and that one of them was given. What pods have beside that is their own business, and does
/// not leave them: Docker in a pod has 172.17.0.1 in each.
fn addresses(record: &EvidenceRecord, sample: &Sample) -> Vec<Clash<IpAddr>> {
    let all = record.namespaces.values().flat_map(|namespace| {
        let read = sample.pods.get(&namespace.pod).and_then(|p| p.topology.value());
        let cheap = sample.others.get(&namespace.pod).and_then(|r| r.value());
        let full = read.into_iter().flat_map(|t| t.addresses.iter().map(|a| a.ip));
        let ips: Vec<IpAddr> =
            full.chain(cheap.into_iter().flat_map(|i| i.addresses.iter().map(|(ip, _)| *ip))).collect();
        ips.into_iter().filter(|ip| is_unique(*ip)).map(move |ip| (ip, namespace))
    });
    pairs(all, |ip, namespace| given(record, &namespace.pod, *ip))
}

/// Loopback and link-local addresses may be there many times.
fn is_unique(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// Every link-layer address that two pods of one bridge have.
fn link_addresses(record: &EvidenceRecord, sample: &Sample) -> Vec<Clash<(u32, String)>> {
    let all = record.namespaces.values().filter_map(|namespace| {
        // Without a bridge between them, two pods may well have the same.
        let bridge = host_end(sample, namespace)?.master?;
        let read = sample.pods.get(&namespace.pod).and_then(|p| p.topology.value());
        let cheap = sample.others.get(&namespace.pod).and_then(|r| r.value());
        let links: &[Link] = read.map(|t| &t.links).or_else(|| cheap.map(|i| &i.links))?;
        let own = links.iter().find(|l| l.name == "eth0" && !l.mac.is_empty())?;
        Some(((bridge, own.mac.clone()), namespace))
    });
    pairs(all, |_, _| true)
}

/// What two have, of which `matters` says of one at least that it counts for it.
fn pairs<'a, T: Clone + Ord>(
    all: impl Iterator<Item = (T, &'a Namespace)>,
    matters: impl Fn(&T, &Namespace) -> bool,
) -> Vec<Clash<T>> {
    let mut owners: BTreeMap<T, Vec<&Namespace>> = BTreeMap::new();
    for (what, namespace) in all {
        let list = owners.entry(what).or_default();
        // Two names of one namespace are no two pods.
        if !list.iter().any(|n| n.cookie == namespace.cookie) {
            list.push(namespace);
        }
    }
    let pair = |(what, list): (T, Vec<&Namespace>)| {
        let first = list.iter().position(|namespace| matters(&what, namespace))?;
        let second = (0..list.len()).find(|at| *at != first)?;
        let (one, other) = (list.get(first.min(second))?, list.get(first.max(second))?);
        Some(Clash { what, one: one.pod.clone(), other: other.pod.clone() })
    };
    owners.into_iter().filter_map(pair).collect()
}

/// Where the bridge believes the address to be.
fn port_line(record: &EvidenceRecord, sample: &Sample, (bridge, mac): &(u32, String)) -> Option<Evidence> {
    let host = sample.host.topology.value()?;
    let entry = host.fdb.value()?.iter().find(|e| e.bridge == *bridge && e.mac == *mac && !e.permanent)?;
    let port = host.link_at(entry.port)?;
    Some(Evidence::new(format!("{} bridge table", record.node), format!("{mac} is behind {} now", port.name)))
}
