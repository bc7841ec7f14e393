//! Which rule of the node's packet filters each failing path meets: every one is walked as a packet through the rules as they
//! were read, and its answer back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nameward_kernel::filter::{
    Device, Filters, Ground, Owner, Packet, Place, Verdict, Walk, Way, answer, journey, owner,
};
use nameward_messages::PodUid;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::probe::{Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Transport};

use super::links::failed;
use super::traced::{self, Told};
use crate::matrix::target_pod;
use crate::record::{EvidenceRecord, Sample};

/// Most packets that are walked for one judgement: on a large node each meets some ten thousand rules.
const MOST_WALKS: usize = 32;
/// Rules in doubt that are named where nothing explains a failure.
const MOST_DOUBTS: usize = 4;
/// The agent's probes are sent by root: entering a namespace needs it.
const OWN_UID: u32 = 0;

/// A failing path and the rule that it meets.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    /// Which path; for what other nodes complain of there is none.
    pub(crate) path: Option<PathKey>,
    /// How it fails; for complaints, a time-out.
    pub(crate) outcome: Outcome,
    /// The CoreDNS pod that others complain of.
    pub(crate) complained: Option<PodUid>,
    /// The packet.
    pub(crate) packet: Packet,
    /// The rule.
    pub(crate) place: Place,
    /// What it does.
    pub(crate) verdict: Verdict,
    /// Whether the packet meets it for certain; else why not.
    pub(crate) doubt: Option<String>,
    /// It is the answer that meets it.
    pub(crate) answer: bool,
    /// What traces say of it.
    pub(crate) told: Told,
}

/// What came of walking.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Who meets what.
    pub(crate) hits: Vec<Hit>,
    /// There were more failing paths than are walked.
    pub(crate) more: bool,
}

impl Survey {
    /// Rules that may lose what fails, with what is not understood of them.
    pub(crate) fn in_doubt(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for hit in self.hits.iter().filter(|hit| hit.verdict.is_loss()) {
            let Some(why) = &hit.doubt else { continue };
            let line = format!("{} ({why})", hit.place);
            if found.len() < MOST_DOUBTS && !found.contains(&line) {
                found.push(line);
            }
        }
        found
    }
}

/// A packet to walk, with the way that it takes.
struct Trip {
    way: Way,
    packet: Packet,
}

/// Walks the failing paths.
pub(crate) fn survey(record: &EvidenceRecord) -> Survey {
    let mut survey = Survey::default();
    let Some(sample) = &record.current else { return survey };
    if sample.host.netfilter == nameward_kernel::facts::Netfilter::default() {
        return survey;
    }
    let mut known: BTreeMap<(&Vantage, IpAddr, Transport), Vec<Hit>> = BTreeMap::new();
    for (path, state) in record.matrix.suspected() {
        let outcome = failed(state);
        let key = (&path.vantage, path.target.ip, path.transport);
        if !known.contains_key(&key) {
            if known.len() >= MOST_WALKS {
                survey.more = true;
                continue;
            }
            let hits = trip(record, sample, path, state.port).map(|trip| met(sample, &trip)).unwrap_or_default();
            known.insert(key, hits);
        }
        let hits = known.get(&key).into_iter().flatten().filter(|hit| fits(outcome, hit));
        let own = |hit: &Hit| {
            let told = traced::told(record, path, None, &hit.place);
            // What a trace has seen is no doubt any more, either way.
            let doubt = hit.doubt.clone().filter(|_| told < Told::Once);
            Hit { path: Some(path.clone()), outcome: outcome.clone(), told, doubt, ..hit.clone() }
        };
        let mut hits: Vec<Hit> = hits.map(own).filter(|hit| hit.doubt.is_none() || hit.told != Told::NotHere).collect();
        hits.extend(dropped(record, sample, path, state.port, outcome, &hits));
        survey.hits.extend(hits);
    }
    for (uid, trip) in complaints(record, sample) {
        survey.hits.extend(met(sample, &trip).into_iter().map(|hit| Hit { complained: Some(uid.clone()), ..hit }));
    }
    survey.hits.extend(upstreams(record, sample));
    survey
}

/// The rule that a path's packet meets in another sample.
pub(crate) fn again(record: &EvidenceRecord, sample: &Sample, hit: &Hit) -> bool {
    let trip = match (&hit.path, &hit.complained) {
        (Some(path), _) => {
            let port = record.matrix.get(path).map_or(53, |state| state.port);
            trip(record, sample, path, port)
        }
        (None, Some(uid)) => complaints(record, sample).into_iter().find(|(pod, _)| pod == uid).map(|(_, trip)| trip),
        (None, None) => None,
    };
    trip.is_some_and(|trip| met(sample, &trip).iter().any(|other| other.place == hit.place))
}

/// A path that does answer although its packet would meet this rule for certain.
pub(crate) fn acquits<'a>(record: &'a EvidenceRecord, place: &Place, like: &Hit) -> Option<&'a PathKey> {
    let sample = record.current.as_ref()?;
    let path = like.path.as_ref()?;
    let alike = record.matrix.good(crate::matrix::Pick {
        from: Some(path.vantage.kind()),
        transport: Some(path.transport),
        ..crate::matrix::Pick::default()
    });
    let since = record.matrix.get(path)?.suspected;
    alike
        // What answered before the fault began says nothing.
        .filter(|(_, state)| Some(state.at) >= since)
        .filter(|(path, _)| path.question == QuestionKind::Internal)
        .take(MOST_WALKS / 2)
        .find(|(path, state)| {
            let Some(trip) = trip(record, sample, path, state.port) else { return false };
            let met = met(sample, &trip);
            !met.is_empty() && met.iter().all(|hit| hit.place == *place && hit.doubt.is_none())
        })
        .map(|(path, _)| path)
}

/// Everything that one packet, and the answer to it, meets that could lose it or divert it.
fn met(sample: &Sample, trip: &Trip) -> Vec<Hit> {
    let filters = Filters::of(&sample.host.netfilter);
    let ground = Ground { topology: sample.host.topology.value() };
    let mut hits = Vec::new();
    for walk in journey(filters, ground, &trip.way, trip.packet.clone()) {
        let lost = gather(&walk, false, &mut hits);
        if !lost && let Some(back) = answer(filters, ground, &trip.way, &walk) {
            gather(&back, true, &mut hits);
        }
    }
    hits
}

/// Whether the packet ends here.
fn gather(walk: &Walk, answer: bool, hits: &mut Vec<Hit>) -> bool {
    // As it was asked, not as it was sent on.
    let mut packet = walk.packet.clone();
    if let Some(asked) = packet.original.filter(|_| !answer) {
        (packet.destination, packet.destination_port) = (asked.ip(), Some(asked.port()));
    }
    let mut add = |place: &Place, verdict: &Verdict, doubt: Option<String>| {
        hits.push(Hit {
            path: None,
            outcome: Outcome::Timeout,
            complained: None,
            packet: packet.clone(),
            place: place.clone(),
            verdict: verdict.clone(),
            doubt,
            answer,
            told: Told::Nothing,
        });
    };
    let doubt = walk.not_understood();
    if let Some((verdict, place)) = &walk.translated
        && owner(place) != Owner::KubeProxy
        && !answer
    {
        add(place, verdict, doubt.clone());
    }
    if walk.fate.is_loss()
        && let Some(place) = &walk.place
    {
        add(place, &walk.fate, doubt);
    }
    for doubt in walk.doubts.iter().filter(|d| d.verdict.is_loss()) {
        add(&doubt.place, &doubt.verdict, Some(doubt.why.clone()));
    }
    !matches!(walk.fate, Verdict::Accept)
}

/// Rules that traced probes of a path were dropped by, although no walk leads there.
fn dropped(
    record: &EvidenceRecord,
    sample: &Sample,
    path: &PathKey,
    port: u16,
    outcome: &Outcome,
    walked: &[Hit],
) -> Vec<Hit> {
    let unknown = traced::places(record, path, None).into_iter();
    let unknown = unknown.filter(|(place, _)| !walked.iter().any(|hit| hit.place == *place));
    unknown
        .filter_map(|(place, answer)| {
            let told = traced::told(record, path, None, &place);
            let packet = trip(record, sample, path, port)?.packet;
            let (path, outcome) = (Some(path.clone()), outcome.clone());
            let verdict = Verdict::Drop;
            Some(Hit { path, outcome, complained: None, packet, place, verdict, doubt: None, answer, told })
        })
        .collect()
}

/// Whether a failure can be what a rule does.
fn fits(outcome: &Outcome, hit: &Hit) -> bool {
    match &hit.verdict {
        // Another server may answer anything, or nobody.
        Verdict::Redirect { .. } | Verdict::Dnat { .. } => outcome.good() == Some(false),
        Verdict::Drop => matches!(outcome, Outcome::Timeout | Outcome::NotPermitted | Outcome::ConnectedOnly),
        Verdict::Reject { .. } => matches!(
            outcome,
            Outcome::Refused { .. }
                | Outcome::HostUnreachable { .. }
                | Outcome::NetworkUnreachable
                | Outcome::NotPermitted
                | Outcome::Timeout
                | Outcome::ConnectedOnly
                | Outcome::Closed
        ),
        Verdict::Accept | Verdict::Elsewhere { .. } => false,
    }
}

fn trip(record: &EvidenceRecord, sample: &Sample, path: &PathKey, port: u16) -> Option<Trip> {
    let to = path.target.ip;
    match &path.vantage {
        Vantage::Pod { uid, .. } => {
            // What a pod asks of itself never leaves it.
            if target_pod(path) == Some(uid) {
                return None;
            }
            let namespace = record.namespaces.get(uid)?;
            let from = namespace.ips.iter().copied().find(|ip| ip.is_ipv4() == to.is_ipv4())?;
            if bridged(record, namespace, path) && bridge_filter_off(sample) {
                return None;
            }
            Some(Trip {
                way: Way::Through { iif: device_of(namespace) },
                packet: Packet::new(path.transport, from, to, port),
            })
        }
        Vantage::Host => {
            let ground = Ground { topology: sample.host.topology.value() };
            let from = own_address(sample, &ground.device_to(to), to.is_ipv4());
            let packet = Packet { uid: Some(OWN_UID), ..Packet::new(path.transport, from, to, port) };
            Some(Trip { way: Way::Out, packet })
        }
    }
}

/// What other nodes complain of: their queries come in here for a CoreDNS pod of this node.
fn complaints(record: &EvidenceRecord, sample: &Sample) -> Vec<(PodUid, Trip)> {
    let Some(topology) = sample.host.topology.value() else { return Vec::new() };
    let uplink = topology
        .default_routes(true)
        .find_map(|route| topology.link_at(route.out_link?))
        .map_or(Device::Unknown, |link| Device::Named(link.name.clone()));
    let mut trips = Vec::new();
    for (pod, complaint) in record.complained() {
        let Some(to) = pod.ips.first().copied() else { continue };
        // A pod that is known to be on that node stands for all of its pods.
        let theirs = complaint.from.iter().find_map(|node| {
            let other = record.targets.pods.iter().find(|p| p.node.as_ref() == Some(node))?;
            other.ips.iter().copied().find(|ip| ip.is_ipv4() == to.is_ipv4())
        });
        for transport in &complaint.transports {
            let port = match transport {
                Transport::Udp => pod.udp_port,
                Transport::Tcp => pod.tcp_port,
            };
            let from = theirs.unwrap_or_else(|| unknown(to.is_ipv4()));
            let packet = Packet::new(*transport, from, to, port.unwrap_or(53));
            trips.push((pod.uid.clone(), Trip { way: Way::Through { iif: uplink.clone() }, packet }));
        }
    }
    trips
}

/// What CoreDNS pods of this node ask of their upstreams and get no answer to, while external names fail.
fn upstreams(record: &EvidenceRecord, sample: &Sample) -> Vec<Hit> {
    let mut found = Vec::new();
    let external = |path: &PathKey| matches!(path.question, QuestionKind::External | QuestionKind::Extra);
    if !record.matrix.suspected().any(|(path, _)| external(path)) {
        return found;
    }
    for (ip, uid) in record.upstreams() {
        let Some(namespace) = record.namespaces.get(&uid) else { continue };
        let from = Vantage::Pod { uid: uid.clone(), key: namespace.key.clone(), cookie: namespace.cookie };
        let last = record.asked(&from, ip).filter(|o| o.purpose == Purpose::Diagnosis).last();
        // Not asked yet: what is certain to be lost is.
        let (path, port, outcome) = match last {
            Some(last) if last.outcome.good() != Some(false) => continue,
            Some(last) => (last.path.clone(), last.port, Some(&last.outcome)),
            None => {
                let target = Target { kind: TargetKind::Upstream, ip };
                let question = QuestionKind::External;
                (PathKey { vantage: from.clone(), target, transport: Transport::Udp, question }, 53, None)
            }
        };
        let Some(trip) = trip(record, sample, &path, port) else { continue };
        let hits = met(sample, &trip).into_iter().filter(|hit| match outcome {
            Some(outcome) => fits(outcome, hit),
            None => hit.doubt.is_none() && hit.verdict.is_loss(),
        });
        let outcome = outcome.cloned().unwrap_or(Outcome::Timeout);
        found.extend(hits.map(|hit| Hit { path: Some(path.clone()), outcome: outcome.clone(), ..hit }));
    }
    found
}

/// The device that packets of a pod come in by, as the node's rules see it.
fn device_of(namespace: &Namespace) -> Device {
    namespace.bridge.as_ref().or(namespace.host_veth.as_ref()).map_or(Device::Unknown, |d| Device::Named(d.clone()))
}

/// Whether a path stays on the pods' bridge.
fn bridged(record: &EvidenceRecord, from: &Namespace, path: &PathKey) -> bool {
    let Some(to) = target_pod(path).and_then(|uid| record.namespaces.get(uid)) else { return false };
    from.bridge.is_some() && from.bridge == to.bridge
}

fn bridge_filter_off(sample: &Sample) -> bool {
    sample.host.sysctls.value().is_some_and(|s| s.bridge_nf_call_iptables != Some(1))
}

fn own_address(sample: &Sample, device: &Device, v4: bool) -> IpAddr {
    let address = || {
        let topology = sample.host.topology.value()?;
        let Device::Named(name) = device else { return None };
        let link = topology.link(name)?.index;
        topology.addresses.iter().find(|a| a.link == link && a.ip.is_ipv4() == v4).map(|a| a.ip)
    };
    address().unwrap_or_else(|| unknown(v4))
}

fn unknown(v4: bool) -> IpAddr {
    if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
}
