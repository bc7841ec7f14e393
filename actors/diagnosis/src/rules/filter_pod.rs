//! F01d and F57: a packet filter inside a pod's own namespace loses what it is asked, or what it asks.

use std::net::IpAddr;

use nameward_kernel::facts::Netfilter;
use nameward_kernel::filter::{
    Backend, Device, Filters, Ground, Packet, Place, Verdict, Walk, Way, answer, journey, packets_at,
};
use nameward_messages::PodUid;
use nameward_messages::namespaces::Namespace;
use nameward_messages::probe::{Outcome, PathKey};
use nameward_messages::targets::{DnsPod, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope};

use super::coredns::{swallowed, udp_listeners};
use super::filter::risen;
use super::links::{self, failed};
use super::traced::{self, Told};
use crate::finding::{Finding, RuleResult, Tally, View, dns_subject, not, probe_line};
use crate::matrix::{PathState, Pick, target_pod, vantage_pod};
use crate::record::{EvidenceRecord, Held, Sample};

/// Failing paths that are looked at for rules in doubt, and those that are named at most.
const MOST_WALKS: usize = 32;
const MOST_DOUBTS: usize = 4;

/// What is looked for.
#[derive(Clone, Copy)]
enum Side {
    /// A server is asked.
    Asked,
    /// A client asks.
    Asks,
}

/// A rule inside that a packet meets.
struct Inside {
    place: Place,
    verdict: Verdict,
    doubt: Option<String>,
}

/// `coredns-udp-filtered`.
pub fn coredns(view: &View<'_>) -> RuleResult {
    let mut tally = Tally::default();
    for pod in view.record.local_dns_pods() {
        tally.add(filtered(view, pod));
    }
    links::bounded(tally)
}

/// `pod-filter-drop`.
pub fn client(view: &View<'_>) -> RuleResult {
    links::each(view, asks)
}

fn filtered(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let record = view.record;
    if links::excuse(record, &pod.uid).is_some() {
        return RuleResult::NotApplicable;
    }
    let mut tally = Tally::default();
    for transport in [Transport::Udp, Transport::Tcp] {
        let pick = Pick { pod: Some(&pod.uid), transport: Some(transport), ..Pick::default() };
        let lost = view.bad(pick).find(|(path, state)| {
            vantage_pod(path) != Some(&pod.uid)
                && matches!(
                    failed(state),
                    Outcome::Timeout
                        | Outcome::Refused { .. }
                        | Outcome::HostUnreachable { .. }
                        | Outcome::ConnectedOnly
                )
        });
        let Some((path, state)) = lost else { continue };
        tally.add(asked(view, pod, path, state));
    }
    match tally.done() {
        // One rule for both transports is one verdict; two rules are two lines of one.
        RuleResult::Verdicts(findings) => {
            let mut merged: Option<Finding> = None;
            for finding in findings {
                match &mut merged {
                    Some(first) => {
                        first.explains.extend(finding.explains);
                        first.evidence.extend(finding.evidence);
                        first.evidence.dedup();
                        first.confidence = first.confidence.max(finding.confidence);
                    }
                    None => merged = Some(finding),
                }
            }
            RuleResult::Verdicts(merged.into_iter().collect())
        }
        other => other,
    }
}

fn asked(view: &View<'_>, pod: &DnsPod, path: &PathKey, state: &PathState) -> RuleResult {
    let record = view.record;
    let Some(current) = &record.current else { return RuleResult::NotApplicable };
    let Some(readings) = record.pod(&pod.uid) else { return RuleResult::NotApplicable };
    let from = source_of(record, path);
    let packet = Packet::new(path.transport, from, path.target.ip, state.port);
    let picks = [
        Pick { pod: Some(&pod.uid), transport: Some(path.transport), ..Pick::default() },
        Pick { service: true, transport: Some(path.transport), ..Pick::default() },
    ];
    let found = meets(current, &pod.uid, Side::Asked, &packet).into_iter().next();
    let (confidence, evidence) = match found {
        Some(inside) => match confirm(record, &pod.uid, &pod.key.to_string(), Side::Asked, (path, &packet), &inside) {
            Ok(done) => done,
            Err(result) => return result,
        },
        None if Filters::unread(&readings.filters).is_empty() => return RuleResult::NotApplicable,
        None => match deaf_without_reason(view, pod, path, state) {
            Ok(evidence) => (Confidence::Probable, evidence),
            Err(result) => return result,
        },
    };
    let mut lines = evidence;
    lines.push(probe_line(path, failed(state)));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::CorednsUdpFiltered,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence,
        evidence: lines,
        ruled_out: vec![
            not(Cause::CorednsUdpDead, "a packet filter before the socket decides, whatever listens"),
            not(Cause::CorednsUdpStuck, "queries do not get as far as the process's queue"),
            not(Cause::PacketFilterDrop, "the rule is in the pod's own namespace, not in the node's"),
        ],
        explains: view.explained(&picks),
    }])
}

/// The rules inside cannot be read: the process listens, its queue is empty and no datagram comes in, though TCP answers.
fn deaf_without_reason(
    view: &View<'_>,
    pod: &DnsPod,
    path: &PathKey,
    state: &PathState,
) -> Result<Vec<Evidence>, RuleResult> {
    let record = view.record;
    if path.transport != Transport::Udp || !matches!(failed(state), Outcome::Timeout) {
        return Err(RuleResult::NotApplicable);
    }
    // Only from the host of the pod's own node nothing else lies between.
    if vantage_pod(path).is_some() || view.filters().hits.iter().any(|hit| hit.path.as_ref() == Some(path)) {
        return Err(RuleResult::NotApplicable);
    }
    let tcp = PathKey { transport: Transport::Tcp, ..path.clone() };
    if !view.latest(&tcp).is_some_and(|seen| seen.outcome.replied() && Some(seen.at) >= state.suspected) {
        return Err(RuleResult::NotApplicable);
    }
    let idle = record.held(|s| {
        let rows = udp_listeners(s, pod, state.port)?;
        Some(!rows.is_empty() && rows.iter().all(|r| r.rx_queue == 0))
    });
    let nothing_in = record.moved(|before, after| {
        let read = |s: &Sample| s.pods.get(&pod.uid)?.counters.value()?.get("Udp.InDatagrams");
        Some(read(after)? == read(before)?)
    });
    if idle != Held::Twice || nothing_in != Held::Twice || record.previous.is_none() {
        return Err(RuleResult::NotApplicable);
    }
    let swallowed = record.previous.as_ref().zip(record.current.as_ref()).and_then(|(a, b)| swallowed(a, b, pod));
    if swallowed == Some(true) {
        return Err(RuleResult::NotApplicable);
    }
    let unread = record.pod(&pod.uid).map(|p| Filters::unread(&p.filters).join("; ")).unwrap_or_default();
    Ok(vec![
        Evidence::new(
            format!("{} /proc/net/udp, /proc/net/snmp", pod.key),
            format!(
                "a socket listens on port {}, its queue is empty and no datagram came in between two samples",
                state.port
            ),
        ),
        Evidence::new(format!("{} packet filters", pod.key), format!("could not be read: {unread}")),
    ])
}

fn asks(view: &View<'_>, namespace: &Namespace) -> RuleResult {
    let record = view.record;
    let Some(current) = &record.current else { return RuleResult::NotApplicable };
    let uid = &namespace.pod;
    let Some(readings) = record.pod(uid) else { return RuleResult::NotApplicable };
    let pick = Pick { vantage: Some(uid), ..Pick::default() };
    let mut tally = Tally::default();
    for transport in [Transport::Udp, Transport::Tcp] {
        let pick = Pick { transport: Some(transport), ..pick };
        let mut seen: Vec<IpAddr> = Vec::new();
        for (path, state) in view.bad(pick).filter(|(path, _)| target_pod(path) != Some(uid)) {
            if seen.contains(&path.target.ip) || seen.len() >= 4 {
                continue;
            }
            seen.push(path.target.ip);
            let Some(from) = namespace.ips.iter().copied().find(|ip| ip.is_ipv4() == path.target.ip.is_ipv4()) else {
                continue;
            };
            let packet = Packet { uid: Some(0), ..Packet::new(transport, from, path.target.ip, state.port) };
            let inside = meets(current, uid, Side::Asks, &packet).into_iter().find(|inside| {
                leads_nowhere(current, uid, transport, inside, state.port) && can_be(failed(state), inside)
            });
            let result = match inside {
                Some(inside) => confirm(record, uid, &namespace.key.to_string(), Side::Asks, (path, &packet), &inside),
                // The kernel itself says that a hook refused; which one cannot be read.
                None if *failed(state) == Outcome::NotPermitted && !Filters::unread(&readings.filters).is_empty() => {
                    not_permitted(record, namespace)
                }
                None => continue,
            };
            tally.add(match result {
                Err(result) => result,
                Ok((confidence, mut evidence)) => {
                    evidence.push(probe_line(path, failed(state)));
                    let same = |p: &PathKey| vantage_pod(p) == Some(uid) && p.transport == transport;
                    // One rule for one server explains no more than that server.
                    let explains =
                        view.open.iter().filter(|p| same(p) && p.target.ip == path.target.ip).cloned().collect();
                    RuleResult::Verdicts(vec![Finding {
                        cause: Cause::PodFilterDrop,
                        scope: Scope::Pod,
                        subject: links::subject(namespace),
                        confidence,
                        evidence,
                        ruled_out: vec![
                            not(Cause::CorednsHung, "the query is lost before it leaves the pod"),
                            not(Cause::NetworkPolicyDrop, "the rule is in the pod's own namespace, not in the node's"),
                        ],
                        explains,
                    }])
                }
            });
        }
    }
    one_per_subject(tally.done())
}

/// Findings about the same pod are one.
fn one_per_subject(result: RuleResult) -> RuleResult {
    let RuleResult::Verdicts(findings) = result else { return result };
    let mut merged: Vec<Finding> = Vec::new();
    for finding in findings {
        match merged.iter_mut().find(|f| f.subject == finding.subject) {
            Some(first) => {
                first.explains.extend(finding.explains);
                first.confidence = first.confidence.max(finding.confidence);
                for line in finding.evidence {
                    if !first.evidence.contains(&line) {
                        first.evidence.push(line);
                    }
                }
            }
            None => merged.push(finding),
        }
    }
    RuleResult::Verdicts(merged)
}

fn not_permitted(record: &EvidenceRecord, namespace: &Namespace) -> Result<(Confidence, Vec<Evidence>), RuleResult> {
    let Some(current) = &record.current else { return Err(RuleResult::NotApplicable) };
    let full = current.host.sysctls.value().and_then(|s| Some(s.conntrack_count? >= s.conntrack_max?));
    if full != Some(false) || !record.two_samples() {
        return Err(RuleResult::Waiting("whether the conntrack table is full is not known".to_owned()));
    }
    let unread = record.pod(&namespace.pod).map(|p| Filters::unread(&p.filters).join("; ")).unwrap_or_default();
    let lines =
        vec![Evidence::new(format!("{} packet filters", namespace.key), format!("could not be read: {unread}"))];
    Ok((Confidence::Probable, lines))
}

/// The rules inside that lose or divert a packet, or the answer to it.
fn meets(sample: &Sample, uid: &PodUid, side: Side, packet: &Packet) -> Vec<Inside> {
    let Some(readings) = sample.pods.get(uid) else { return Vec::new() };
    let filters = Filters::of(&readings.filters);
    let ground = Ground { topology: readings.topology.value() };
    let way = match side {
        Side::Asked => Way::In { iif: ground.device_to(packet.source) },
        Side::Asks => Way::Out,
    };
    let mut found = Vec::new();
    for walk in journey(filters, ground, &way, packet.clone()) {
        note(&walk, &mut found);
        if walk.fate == Verdict::Accept
            && let Some(back) = answer(filters, ground, &way, &walk)
        {
            note(&back, &mut found);
        }
    }
    found.sort_by_key(|inside| inside.doubt.is_some());
    found
}

fn note(walk: &Walk, found: &mut Vec<Inside>) {
    let doubt = walk.not_understood();
    if let Some((verdict, place)) = &walk.translated {
        found.push(Inside { place: place.clone(), verdict: verdict.clone(), doubt: doubt.clone() });
    }
    if walk.fate.is_loss()
        && let Some(place) = &walk.place
    {
        found.push(Inside { place: place.clone(), verdict: walk.fate.clone(), doubt });
    }
    for doubt in walk.doubts.iter().filter(|d| d.verdict.is_loss()) {
        found.push(Inside {
            place: doubt.place.clone(),
            verdict: doubt.verdict.clone(),
            doubt: Some(doubt.why.clone()),
        });
    }
}

/// Failing paths that a rule inside the pod at one of their ends may lose, of which that is not certain; with that pod.
pub(crate) fn in_doubt(record: &EvidenceRecord) -> Vec<(PathKey, PodUid)> {
    let Some(current) = &record.current else { return Vec::new() };
    let mut found = Vec::new();
    let mut doubts = |path: &PathKey, uid: &PodUid, side: Side, packet: &Packet| {
        // iptables-legacy is not told of by nftrace.
        let doubtful = |inside: &Inside| {
            inside.doubt.is_some() && inside.verdict.is_loss() && inside.place.backend != Backend::IptablesLegacy
        };
        if found.len() < MOST_DOUBTS && meets(current, uid, side, packet).iter().any(doubtful) {
            found.push((path.clone(), uid.clone()));
        }
    };
    let known = |uid: &PodUid| current.pods.get(uid).is_some_and(|p| p.filters != Netfilter::default());
    for (path, state) in record.matrix.suspected().take(MOST_WALKS) {
        let (from, to) = (vantage_pod(path), target_pod(path));
        if from.is_some() && from == to {
            continue;
        }
        if let Some(uid) = to.filter(|uid| known(uid) && record.namespaces.contains_key(uid)) {
            doubts(
                path,
                uid,
                Side::Asked,
                &Packet::new(path.transport, source_of(record, path), path.target.ip, state.port),
            );
        }
        if let Some(uid) = from.filter(|uid| known(uid)) {
            let packet = Packet::new(path.transport, source_of(record, path), path.target.ip, state.port);
            doubts(path, uid, Side::Asks, &Packet { uid: Some(0), ..packet });
        }
    }
    found
}

/// A redirect is a service mesh's ordinary way, unless nobody listens where it leads.
fn leads_nowhere(sample: &Sample, uid: &PodUid, transport: Transport, inside: &Inside, asked: u16) -> bool {
    let port = match &inside.verdict {
        Verdict::Drop | Verdict::Reject { .. } => return true,
        Verdict::Redirect { port } => port.unwrap_or(asked),
        Verdict::Dnat { to } if to.iter().all(|to| to.ip().is_loopback()) => to.first().map_or(asked, |to| to.port()),
        Verdict::Dnat { .. } | Verdict::Accept | Verdict::Elsewhere { .. } => return false,
    };
    let Some(sockets) = sample.pods.get(uid).and_then(|p| p.sockets.value()) else { return false };
    match transport {
        Transport::Udp => sockets.udp_on(port).next().is_none(),
        Transport::Tcp => sockets.tcp_on(port).next().is_none(),
    }
}

fn can_be(outcome: &Outcome, inside: &Inside) -> bool {
    match inside.verdict {
        Verdict::Drop => matches!(outcome, Outcome::NotPermitted | Outcome::Timeout | Outcome::ConnectedOnly),
        _ => !outcome.replied() && outcome.good() == Some(false),
    }
}

/// Whether a rule inside stands in both samples and does what fails.
fn confirm(
    record: &EvidenceRecord,
    uid: &PodUid,
    name: &str,
    side: Side,
    (path, packet): (&PathKey, &Packet),
    inside: &Inside,
) -> Result<(Confidence, Vec<Evidence>), RuleResult> {
    let (Some(current), Some(previous)) = (&record.current, &record.previous) else {
        return Err(RuleResult::Waiting("a second sample is awaited".to_owned()));
    };
    let stood = meets(previous, uid, side, packet).iter().any(|other| other.place == inside.place);
    if !record.two_samples() || !stood {
        return Err(RuleResult::Waiting("a second sample is awaited".to_owned()));
    }
    let of = |sample: &Sample| sample.pods.get(uid).and_then(|p| packets_at(&Filters::of(&p.filters), &inside.place));
    let by = risen(of(previous), of(current), &inside.place);
    let told = traced::told(record, path, Some(uid), &inside.place);
    let confidence = match (by, &inside.doubt) {
        _ if told == Told::Twice => Confidence::Certain,
        _ if told == Told::Once => Confidence::Probable,
        (_, Some(_)) if told == Told::NotHere => {
            return Err(RuleResult::RuledOut(format!("{}: traced probes are not dropped there", inside.place)));
        }
        (Some(0), _) if record.samples < 3 => {
            return Err(RuleResult::Waiting(format!("{}: its counter has not moved yet", inside.place)));
        }
        (Some(0), _) => return Err(RuleResult::RuledOut(format!("{}: its counter does not move", inside.place))),
        (Some(_), None) | (None, None) => Confidence::Certain,
        (Some(_), Some(_)) => Confidence::Probable,
        (None, Some(why)) => {
            return Err(RuleResult::RuledOut(format!("{}: it is not known whether it matches ({why})", inside.place)));
        }
    };
    let place = &inside.place;
    let rule = match &place.rule {
        Some(rule) => format!("chain {}: {rule}", place.chain),
        None => format!("the policy of chain {}", place.chain),
    };
    let counted = match by {
        Some(by) => format!("; its counter rose by {by} packets while probes were lost"),
        None => String::new(),
    };
    let read = format!("{name} {} -t {}, in its own namespace", place.backend.shown_by(), place.table);
    let nowhere = match &inside.verdict {
        Verdict::Redirect { .. } | Verdict::Dnat { .. } => ", where nobody listens",
        _ => "",
    };
    let decides = format!("decides about {packet}: {}{nowhere}", inside.verdict);
    let mut lines = vec![Evidence::new(read.clone(), format!("{rule}{counted}")), Evidence::new(read, decides)];
    lines.extend(traced::line(record, path, Some(uid), place));
    Ok((confidence, lines))
}

/// The address that a query comes from, as the pod that is asked sees it.
fn source_of(record: &EvidenceRecord, path: &PathKey) -> IpAddr {
    let v4 = path.target.ip.is_ipv4();
    let of_pod =
        vantage_pod(path).and_then(|uid| record.namespaces.get(uid)?.ips.iter().copied().find(|ip| ip.is_ipv4() == v4));
    let of_host = || {
        let topology = record.current.as_ref()?.host.topology.value()?;
        let Device::Named(name) = (Ground { topology: Some(topology) }).device_to(path.target.ip) else { return None };
        let link = topology.link(&name)?.index;
        topology.addresses.iter().find(|a| a.link == link && a.ip.is_ipv4() == v4).map(|a| a.ip)
    };
    let unknown =
        if v4 { IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) };
    of_pod.or_else(of_host).unwrap_or(unknown)
}
