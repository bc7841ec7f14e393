//! F01a and F01b: a CoreDNS pod is deaf on UDP while TCP answers.

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{DnsPod, Target, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Evidence, Scope};

use nameward_kernel::facts::{Counters, SocketRow};

use crate::finding::{Finding, RuleResult, Tally, View, confidence, dns_subject, not, probe_line};
use crate::matrix::{PathState, Pick};
use crate::process;
use crate::record::{EvidenceRecord, Held, Sample};

/// What the host of a CoreDNS pod's own node sees of it.
pub(super) struct OwnNode<'a> {
    /// The failing UDP path.
    pub udp: PathKey,
    /// Its state.
    pub udp_state: &'a PathState,
    /// The failing outcome.
    pub udp_outcome: &'a Outcome,
    /// The TCP path to the same address.
    pub tcp: PathKey,
    /// Its newest outcome.
    pub tcp_outcome: &'a Outcome,
    /// TCP failed until just now: the process may be coming back, and what UDP said is of before.
    pub tcp_returns: bool,
}

impl OwnNode<'_> {
    /// Whether it is too early to say that TCP answers and UDP does not.
    pub(super) fn settling(&self) -> Option<RuleResult> {
        self.tcp_returns.then(|| RuleResult::Waiting("TCP is only just answering again".to_owned()))
    }
}

/// The symptoms that every process rule starts from, or the result that ends it.
pub(super) fn own_node<'a>(view: &View<'a>, pod: &DnsPod) -> Result<OwnNode<'a>, RuleResult> {
    let from_host =
        Pick { pod: Some(&pod.uid), from: Some(nameward_messages::namespaces::VantageKind::Host), ..Pick::default() };
    let udp = Pick { transport: Some(Transport::Udp), question: Some(QuestionKind::Internal), ..from_host };
    let Some((path, state)) = view.bad(udp).next() else { return Err(RuleResult::NotApplicable) };
    let outcome = state.failing.as_ref().unwrap_or(&state.last);
    if !matches!(outcome, Outcome::Timeout | Outcome::Refused { .. }) {
        return Err(RuleResult::NotApplicable);
    }
    if let Some(excuse) = view.record.excuse(pod) {
        return Err(RuleResult::RuledOut(excuse));
    }
    if let Some(full) = conntrack_full(view.record) {
        return Err(RuleResult::RuledOut(full));
    }
    let tcp = PathKey { transport: Transport::Tcp, ..path.clone() };
    // What TCP said before UDP failed says nothing of the process as it is now.
    let Some(seen) = view.latest(&tcp).filter(|seen| Some(seen.at) >= state.suspected) else {
        return Err(RuleResult::Waiting("TCP is being asked again".to_owned()));
    };
    let suspected = view.record.matrix.get(&tcp).is_some_and(|state| state.suspected.is_some());
    let tcp_returns = suspected && seen.outcome.replied();
    Ok(OwnNode {
        udp: path.clone(),
        udp_state: state,
        udp_outcome: outcome,
        tcp,
        tcp_outcome: seen.outcome,
        tcp_returns,
    })
}

/// The node's own trouble that looks like a silent server.
fn conntrack_full(record: &EvidenceRecord) -> Option<String> {
    let sysctls = record.current.as_ref()?.host.sysctls.value()?;
    let (count, max) = (sysctls.conntrack_count?, sysctls.conntrack_max?);
    (max > 0 && count.saturating_mul(100) >= max.saturating_mul(95))
        .then(|| format!("the node's conntrack table is full ({count} of {max})"))
}

/// `coredns-udp-dead`.
pub fn udp_dead(view: &View<'_>) -> RuleResult {
    each(view, dead)
}

/// `coredns-udp-stuck`.
pub fn udp_stuck(view: &View<'_>) -> RuleResult {
    each(view, stuck)
}

pub(super) fn each(view: &View<'_>, rule: fn(&View<'_>, &DnsPod) -> RuleResult) -> RuleResult {
    let mut tally = Tally::default();
    for pod in view.record.local_dns_pods() {
        tally.add(rule(view, pod));
    }
    tally.done()
}

fn dead(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let symptoms = match own_node(view, pod) {
        Ok(symptoms) => symptoms,
        Err(result) => return result,
    };
    if !symptoms.tcp_outcome.replied() {
        return RuleResult::RuledOut(format!("TCP does not answer either ({})", symptoms.tcp_outcome));
    }
    if let Some(wait) = symptoms.settling() {
        return wait;
    }
    let by_itself = match symptoms.udp_outcome {
        Outcome::Refused { by } => match by {
            Some(by) if !pod.ips.contains(by) => {
                return RuleResult::RuledOut(format!("refused by {by}, not by the pod itself"));
            }
            Some(_) | None => true,
        },
        _ => false,
    };
    let port = symptoms.udp_state.port;
    let held = view.record.held(|sample| udp_listeners(sample, pod, port).map(|rows| rows.is_empty()));
    let contradicted = format!("the pod has a UDP listener on port {port}");
    let confidence = match confidence(view.record, held, by_itself, &contradicted) {
        Ok(confidence) => confidence,
        Err(result) => return result,
    };
    let mut evidence = symptom_lines(&symptoms);
    evidence.push(match held {
        Held::Twice => {
            Evidence::new(format!("{} /proc/net/udp", pod.key), format!("no UDP socket on port {port} in two samples"))
        }
        _ => unread(view.record, pod),
    });
    evidence.extend(no_ports(view.record, pod));
    RuleResult::Verdicts(vec![finding(
        view,
        pod,
        Cause::CorednsUdpDead,
        confidence,
        evidence,
        vec![
            not(Cause::CorednsUdpStuck, format!("nothing listens on UDP port {port}")),
            not(Cause::CorednsHung, "TCP answers"),
            not(
                Cause::ForwardPolicyDrop,
                "TCP from the same vantage answers, and the host's queries do not pass FORWARD",
            ),
            not(Cause::ServiceRulesMissing, "the pod fails by its own address"),
        ],
    )])
}

fn stuck(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let symptoms = match own_node(view, pod) {
        Ok(symptoms) => symptoms,
        Err(result) => return result,
    };
    if !matches!(symptoms.udp_outcome, Outcome::Timeout) {
        return RuleResult::RuledOut(format!("UDP is not silent: {}", symptoms.udp_outcome));
    }
    if !symptoms.tcp_outcome.replied() {
        return RuleResult::RuledOut(format!("TCP does not answer either ({})", symptoms.tcp_outcome));
    }
    if let Some(wait) = symptoms.settling() {
        return wait;
    }
    let port = symptoms.udp_state.port;
    let listens = view.record.held(|sample| udp_listeners(sample, pod, port).map(|rows| !rows.is_empty()));
    if listens == Held::No {
        return RuleResult::RuledOut(format!("nothing listens on UDP port {port}"));
    }
    // A queue stands at a reader that is too slow as well: one that has taken queries in meanwhile has not stopped.
    let reads = process::arrived(view.record, pod).is_some_and(|queries| queries > 0);
    let standing = view.record.moved(|before, after| match unread_queue(before, after, pod, port) {
        Some(true) if !reads => Some(true),
        other => swallowed(before, after, pod).or(other),
    });
    let contradicted = "queries do not reach the pod's socket, or are answered: its queue is empty";
    let confidence = match confidence(view.record, standing, true, contradicted) {
        Ok(confidence) => confidence,
        Err(result) => return result,
    };
    let mut evidence = symptom_lines(&symptoms);
    evidence.push(match standing {
        Held::Twice => queue_line(view.record, pod, port),
        _ => unread(view.record, pod),
    });
    RuleResult::Verdicts(vec![finding(
        view,
        pod,
        Cause::CorednsUdpStuck,
        confidence,
        evidence,
        vec![
            not(Cause::CorednsUdpDead, format!("a UDP socket listens on port {port}")),
            not(Cause::CorednsHung, "TCP answers"),
            not(
                Cause::ForwardPolicyDrop,
                "TCP from the same vantage answers, and the host's queries do not pass FORWARD",
            ),
        ],
    )])
}

/// A finding about a CoreDNS pod's process: it explains what is asked of the pod over UDP, and of the Service,
/// which sends a share of its queries there.
fn finding(
    view: &View<'_>,
    pod: &DnsPod,
    cause: Cause,
    confidence: nameward_messages::verdict::Confidence,
    evidence: Vec<Evidence>,
    ruled_out: Vec<nameward_messages::verdict::RuledOut>,
) -> Finding {
    let udp = Some(Transport::Udp);
    Finding {
        cause,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence,
        evidence,
        ruled_out,
        explains: view.explained(&[
            Pick { pod: Some(&pod.uid), transport: udp, ..Pick::default() },
            Pick { service: true, transport: udp, ..Pick::default() },
        ]),
    }
}

/// What the probes from the pod's own host say.
pub(super) fn symptom_lines(symptoms: &OwnNode<'_>) -> Vec<Evidence> {
    vec![probe_line(&symptoms.udp, symptoms.udp_outcome), probe_line(&symptoms.tcp, symptoms.tcp_outcome)]
}

/// The UDP sockets of a pod that would receive a query; `None` if the table could not be read.
pub(super) fn udp_listeners(sample: &Sample, pod: &DnsPod, port: u16) -> Option<Vec<SocketRow>> {
    let table = sample.pods.get(&pod.uid)?.sockets.value()?;
    Some(table.udp_on(port).filter(|row| row.ip.is_unspecified() || pod.ips.contains(&row.ip)).cloned().collect())
}

/// Whether datagrams wait that nobody reads, or are dropped at the socket.
pub(super) fn unread_queue(before: &Sample, after: &Sample, pod: &DnsPod, port: u16) -> Option<bool> {
    let (old, new) = (udp_listeners(before, pod, port)?, udp_listeners(after, pod, port)?);
    let sum =
        |rows: &[SocketRow]| rows.iter().map(|r| (r.rx_queue, r.drops)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let ((old_queue, old_drops), (new_queue, new_drops)) = (sum(&old), sum(&new));
    Some((old_queue > 0 && new_queue >= old_queue) || (new_queue > 0 && new_drops > old_drops))
}

/// Whether the process took datagrams in and sent none.
pub(super) fn swallowed(before: &Sample, after: &Sample, pod: &DnsPod) -> Option<bool> {
    let read = |sample: &Sample, name: &str| sample.pods.get(&pod.uid)?.counters.value()?.get(name);
    let received = read(after, "Udp.InDatagrams")?.checked_sub(read(before, "Udp.InDatagrams")?)?;
    let sent = read(after, "Udp.OutDatagrams")?.checked_sub(read(before, "Udp.OutDatagrams")?)?;
    Some(received > 0 && sent == 0)
}

pub(super) fn queue_line(record: &EvidenceRecord, pod: &DnsPod, port: u16) -> Evidence {
    let counters =
        |sample: &Sample| sample.pods.get(&pod.uid).and_then(|p| p.counters.value()).cloned().unwrap_or_default();
    let rows = record.current.as_ref().and_then(|s| udp_listeners(s, pod, port)).unwrap_or_default();
    let queue: u64 = rows.iter().map(|r| r.rx_queue).sum();
    let drops: u64 = rows.iter().map(|r| r.drops).sum();
    let delta = |name: &str| match (&record.previous, &record.current) {
        (Some(before), Some(after)) => {
            let get = |c: &Counters| c.get(name).unwrap_or(0);
            get(&counters(after)).saturating_sub(get(&counters(before)))
        }
        _ => 0,
    };
    Evidence::new(
        format!("{} /proc/net/udp, /proc/net/snmp", pod.key),
        format!(
            "port {port}: {queue} bytes unread, {drops} dropped; between two samples {} datagrams in, {} out",
            delta("Udp.InDatagrams"),
            delta("Udp.OutDatagrams")
        ),
    )
}

fn no_ports(record: &EvidenceRecord, pod: &DnsPod) -> Option<Evidence> {
    let (before, after) = (record.previous.as_ref()?, record.current.as_ref()?);
    let read = |sample: &Sample| sample.pods.get(&pod.uid)?.counters.value()?.get("Udp.NoPorts");
    let rise = read(after)?.checked_sub(read(before)?)?;
    (rise > 0).then(|| Evidence::new(format!("{} /proc/net/snmp", pod.key), format!("Udp NoPorts rose by {rise}")))
}

pub(super) fn unread(record: &EvidenceRecord, pod: &DnsPod) -> Evidence {
    let why = record.pod(&pod.uid).and_then(|p| p.sockets.missing()).unwrap_or("its namespace is not known");
    Evidence::new(format!("{} /proc/net/udp", pod.key), format!("could not be read: {why}"))
}

/// The path from the host to a CoreDNS pod.
#[must_use]
pub fn host_path(pod: &DnsPod, ip: std::net::IpAddr, transport: Transport) -> PathKey {
    PathKey {
        vantage: Vantage::Host,
        target: Target {
            kind: TargetKind::Pod { uid: pod.uid.clone(), key: pod.key.clone(), node: pod.node.clone() },
            ip,
        },
        transport,
        question: QuestionKind::Internal,
    }
}
