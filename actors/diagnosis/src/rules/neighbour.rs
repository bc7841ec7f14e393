//! F33: a neighbour entry names a link-layer address that its owner does not have.

use std::net::IpAddr;

use nameward_kernel::facts::{Link, Neighbour, Topology};
use nameward_messages::namespaces::Namespace;
use nameward_messages::verdict::{Cause, Evidence};

use super::links::{
    carried, each, excuse, failed, host_end, is_bridge, scope, silent, subject, topology_of, unresolved,
};
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};

/// NUD_PERMANENT.
const PERMANENT: u16 = 0x80;

/// `wrong-neighbour`.
pub fn judge(view: &View<'_>) -> RuleResult {
    each(view, one)
}

/// An entry that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wrong {
    /// The table is the node's; else the pod's.
    on_node: bool,
    ip: IpAddr,
    named: String,
    real: String,
    permanent: bool,
}

fn one(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let Some(wrong) = record.current.as_ref().and_then(|s| wrong(record, s, namespace)) else {
        return RuleResult::NotApplicable;
    };
    let uid = &namespace.pod;
    let target = record.targets.pods.iter().find(|p| p.ips.contains(&wrong.ip) && p.uid != *uid);
    let lost = match target.filter(|_| !wrong.on_node) {
        // The entry is for a CoreDNS pod beside it: no other path is concerned.
        Some(dns) => silent(view, Pick { vantage: Some(uid), pod: Some(&dns.uid), ..Pick::default() }),
        None => silent(view, Pick { vantage: Some(uid), ..Pick::default() })
            .or_else(|| silent(view, Pick { pod: Some(uid), ..Pick::default() })),
    };
    let Some((path, state)) = lost else { return RuleResult::NotApplicable };
    if let Some(excused) = excuse(record, uid) {
        return excused;
    }
    let held = record.held(|sample| {
        topology_of(sample, uid)?;
        sample.host.topology.value()?;
        Some(self::wrong(record, sample, namespace).is_some_and(|w| w.ip == wrong.ip && w.named == wrong.named))
    });
    let sure = match confidence(record, held, false, "neighbour entries name the addresses that pods have") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let (table, owner) = if wrong.on_node {
        (record.node.to_string(), namespace.key.to_string())
    } else {
        (namespace.key.to_string(), target.map_or_else(|| record.node.to_string(), |pod| pod.key.to_string()))
    };
    let lasting = if wrong.permanent { " (permanent)" } else { "" };
    let evidence = vec![
        probe_line(path, failed(state)),
        Evidence::new(
            format!("{table} rtnetlink neighbours"),
            format!("{} is {}{lasting}, in two samples", wrong.ip, wrong.named),
        ),
        Evidence::new(format!("{owner} rtnetlink links"), format!("the link of {} has {}", wrong.ip, wrong.real)),
    ];
    let explains = match target.filter(|_| !wrong.on_node) {
        Some(dns) => view.explained(&[
            Pick { vantage: Some(uid), pod: Some(&dns.uid), ..Pick::default() },
            Pick { vantage: Some(uid), service: true, ..Pick::default() },
        ]),
        None => view.explained(&carried(record, uid)),
    };
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::WrongNeighbour,
        scope: scope(record, uid),
        subject: subject(namespace),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::VethDown, "its link is up"),
            not(Cause::DuplicatePodIp, "no other pod of the node has the address"),
            not(Cause::CorednsHung, "packets go to a link-layer address that nobody has"),
        ],
        explains,
    }])
}

/// A wrong entry that concerns a pod, the node's before the pod's own.
fn wrong(record: &EvidenceRecord, sample: &Sample, namespace: &Namespace) -> Option<Wrong> {
    let host = sample.host.topology.value()?;
    let own = topology_of(sample, &namespace.pod)?;
    let veth = host_end(sample, namespace)?;
    for address in own.addresses.iter().filter(|a| !a.ip.is_loopback()) {
        let Some(real) = own.link_at(address.link).map(|l| l.mac.as_str()).filter(|mac| !mac.is_empty()) else {
            continue;
        };
        let links = [Some(veth.index), veth.master];
        let entries = host.neighbours.iter().filter(|n| n.ip == address.ip && links.contains(&Some(n.link)));
        let bad = entries.filter(|n| !elsewhere(record, sample, namespace, n.ip)).find_map(|n| differs(n, real, true));
        if bad.is_some() {
            return bad;
        }
    }
    // Without a bridge between them, something else may answer for the node on purpose, as eBPF data planes do.
    let bridge = veth.master.and_then(|index| host.link_at(index)).filter(|l| is_bridge(l))?;
    let asked = own.neighbours.iter().filter(|n| own.link_at(n.link).is_some_and(|l| l.name != "lo"));
    asked.into_iter().find_map(|entry| {
        // Whose address it is: the bridge's, or a pod's beside it.
        let macs = macs_of(record, sample, bridge, entry.ip);
        let first = macs.first()?;
        if macs.iter().any(|mac| entry.mac.as_deref() == Some(mac)) {
            return None;
        }
        differs(entry, first, false)
    })
}

fn differs(entry: &Neighbour, real: &str, on_node: bool) -> Option<Wrong> {
    let named = entry.mac.as_deref().filter(|_| !unresolved(entry))?;
    (named != real).then(|| Wrong {
        on_node,
        ip: entry.ip,
        named: named.to_owned(),
        real: real.to_owned(),
        permanent: entry.state & PERMANENT != 0,
    })
}

/// The link-layer addresses of who has an address on a bridge: the bridge itself or pods that were read.
fn macs_of(record: &EvidenceRecord, sample: &Sample, bridge: &Link, ip: IpAddr) -> Vec<String> {
    let host = sample.host.topology.value();
    let own = host.into_iter().flat_map(|t| &t.addresses).any(|a| a.ip == ip && a.link == bridge.index);
    let mut macs: Vec<String> = own.then(|| bridge.mac.clone()).filter(|mac| !mac.is_empty()).into_iter().collect();
    for namespace in record.namespaces.values() {
        if host_end(sample, namespace).and_then(|l| l.master) != Some(bridge.index) {
            continue;
        }
        macs.extend(topology_of(sample, &namespace.pod).into_iter().flat_map(|t| has(t, ip)));
        let identity = sample.others.get(&namespace.pod).and_then(|r| r.value());
        if let Some(identity) = identity.filter(|i| i.addresses.iter().any(|(own, _)| *own == ip)) {
            macs.extend(identity.links.iter().map(|l| l.mac.clone()));
        }
    }
    macs
}

fn has(topology: &Topology, ip: IpAddr) -> Vec<String> {
    let links = topology.addresses.iter().filter(|a| a.ip == ip).filter_map(|a| topology.link_at(a.link));
    links.map(|l| l.mac.clone()).filter(|mac| !mac.is_empty()).collect()
}

/// Whether another pod has the address, too: then the entry may be right.
fn elsewhere(record: &EvidenceRecord, sample: &Sample, namespace: &Namespace, ip: IpAddr) -> bool {
    record.namespaces.keys().filter(|uid| **uid != namespace.pod).any(|uid| {
        topology_of(sample, uid).is_some_and(|t| t.addresses.iter().any(|a| a.ip == ip))
            || sample
                .others
                .get(uid)
                .and_then(|r| r.value())
                .is_some_and(|i| i.addresses.iter().any(|(own, _)| *own == ip))
    })
}
