//! F02, F03 with F42, F15: what conntrack does to the queries of this node.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nameward_kernel::facts::Reading;
use nameward_kernel::flows::FlowGroup;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Observation, Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, Tally, View, confidence, not, probe_line};
use crate::matrix::{PathState, Pick};
use crate::record::{EvidenceRecord, Held, Sample};

/// A table counts as full from this share on, per cent: entries come and go while it is read.
const FULL: i64 = 95;
/// Most evidence lines about entries.
const MOST: usize = 4;
/// So many times as many clashes as queries of ours that were lost are mostly of others.
const OTHERS: u64 = 4;

/// After a change of the endpoints kube-proxy removes such entries itself, with its next sync.
const SYNCED: Duration = Duration::from_secs(15);

/// `stale-conntrack`.
pub fn stale(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let held =
        Pick { service: true, question: Some(QuestionKind::Held), transport: Some(Transport::Udp), ..Pick::default() };
    let mut tally = Tally::default();
    let mut caught: Vec<(&PathKey, &PathState)> = Vec::new();
    for (path, state) in view.bad(held) {
        let fresh = PathKey { question: QuestionKind::Internal, ..path.clone() };
        match record.matrix.get(&fresh) {
            Some(seen) if seen.suspected.is_none() && seen.last.good() == Some(true) => caught.push((path, state)),
            Some(_) => tally.add(RuleResult::RuledOut(format!(
                "fresh source ports fail as well from {}: it is not an old entry",
                path.vantage
            ))),
            None => {}
        }
    }
    if caught.is_empty() {
        return tally.done();
    }
    let leads = |sample: &Sample| -> Option<bool> {
        let groups = sample.host.flows.value()?;
        Some(caught.iter().any(|(path, state)| !astray(record, sample, groups, path, state.port).is_empty()))
    };
    let sure =
        match confidence(record, record.held(leads), false, "no conntrack entry leads elsewhere than the API says") {
            Ok(sure) => sure,
            Err(result) => return result,
        };
    let Some(sample) = &record.current else { return RuleResult::NotApplicable };
    let groups = sample.host.flows.value().map(Vec::as_slice).unwrap_or_default();
    let mut evidence = Vec::new();
    let mut explains = std::collections::BTreeSet::new();
    for (path, state) in &caught {
        let found = astray(record, sample, groups, path, state.port);
        if found.is_empty() {
            continue;
        }
        explains.insert((*path).clone());
        if evidence.len() < MOST {
            evidence.push(Evidence::new(
                format!("probe {path} from a kept source port"),
                state.failing.as_ref().unwrap_or(&state.last).to_string(),
            ));
            let fresh = PathKey { question: QuestionKind::Internal, ..(*path).clone() };
            evidence.extend(
                record
                    .matrix
                    .get(&fresh)
                    .map(|seen| Evidence::new(format!("probe {path} from fresh source ports"), seen.last.to_string())),
            );
        }
        for (group, client) in found {
            let line = entry_line(record, group, client);
            if !evidence.contains(&line) {
                evidence.push(line);
            }
        }
    }
    if record.now.mono.since(record.targets_since) < SYNCED {
        return RuleResult::Waiting(
            "the endpoints changed a moment ago: kube-proxy may still remove the entries".to_owned(),
        );
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::StaleConntrack,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesStale, "fresh source ports reach the Service: the rules are right"),
            not(Cause::CorednsUdpDead, "the same question is answered from fresh source ports"),
        ],
        explains,
    }])
}

/// Entries of the path's vantage that lead elsewhere than to an endpoint of today. Whether they were ever answered does not
/// matter: an endpoint may have died under a client that asks from one port all the time.
fn astray<'a>(
    record: &EvidenceRecord,
    sample: &Sample,
    groups: &'a [FlowGroup],
    path: &PathKey,
    port: u16,
) -> Vec<(&'a FlowGroup, SocketAddr)> {
    let own = own_addresses(record, sample, &path.vantage);
    groups
        .iter()
        .filter(|g| g.transport == path.transport && g.destination == SocketAddr::new(path.target.ip, port))
        .filter(|g| g.untranslated() || !is_endpoint(record, g.endpoint))
        .filter_map(|g| {
            let own = g.clients.iter().find(|client| own.contains(&client.ip()));
            own.or(g.clients.first().filter(|_| g.is_cut())).map(|client| (g, *client))
        })
        .collect()
}

/// Ready or not: a pod that has ceased to be ready is still the one that the entry means.
fn is_endpoint(record: &EvidenceRecord, endpoint: SocketAddr) -> bool {
    record.targets.pods.iter().any(|pod| {
        pod.ips.contains(&endpoint.ip())
            && [pod.udp_port, pod.tcp_port].into_iter().flatten().any(|port| port == endpoint.port())
    })
}

fn own_addresses(record: &EvidenceRecord, sample: &Sample, vantage: &Vantage) -> Vec<IpAddr> {
    match vantage {
        Vantage::Pod { uid, .. } => record.namespaces.get(uid).map(|n| n.ips.clone()).unwrap_or_default(),
        Vantage::Host => {
            sample.host.topology.value().map(|t| t.addresses.iter().map(|a| a.ip).collect()).unwrap_or_default()
        }
    }
}

fn entry_line(record: &EvidenceRecord, group: &FlowGroup, client: SocketAddr) -> Evidence {
    let what = if group.untranslated() {
        "no rule was applied to it (its answer is awaited from the Service's own address)".to_owned()
    } else {
        format!("its answer is awaited from {}, which is no endpoint", group.endpoint)
    };
    Evidence::new(
        format!("{} conntrack", record.node),
        format!(
            "{} {client} -> {}: {what}; {} such entries ({} never answered), in two samples",
            group.transport,
            group.destination,
            group.replied.saturating_add(group.unreplied),
            group.unreplied
        ),
    )
}

/// `conntrack-full`.
pub fn full(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let lost = |outcome: &Outcome| matches!(outcome, Outcome::Timeout | Outcome::NotPermitted);
    let mut failing = view.bad(Pick::default()).filter(|(_, s)| lost(s.failing.as_ref().unwrap_or(&s.last)));
    let Some((path, state)) = failing.next() else { return RuleResult::NotApplicable };
    let near = |sample: &Sample| share(sample).map(|(_, _, share)| share >= FULL);
    match record.held(near) {
        Held::Twice => {}
        Held::Once => return RuleResult::Waiting("a second sample is awaited".to_owned()),
        Held::No | Held::Unread => return RuleResult::NotApplicable,
    }
    let dropping = record.moved(|before, now| Some(rise(before, now, "drop")? > 0));
    let sure = match confidence(record, dropping, true, "the conntrack table is nearly full, but nothing is dropped") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![probe_line(path, state.failing.as_ref().unwrap_or(&state.last))];
    if let (Some(before), Some(now)) = (&record.previous, &record.current) {
        evidence.extend(share(now).map(|(count, max, share)| {
            Evidence::new(
                format!("{} nf_conntrack_count", record.node),
                format!("{count} of {max} ({share} %), in two samples"),
            )
        }));
        evidence.extend(rise(before, now, "drop").map(|more| {
            Evidence::new(format!("{} nf_conntrack drop", record.node), format!("{more} more between two samples"))
        }));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ConntrackFull,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![not(Cause::PacketFilterDrop, "the conntrack table is full, and it is what drops")],
        explains: view
            .bad(Pick::default())
            .filter(|(_, s)| lost(s.failing.as_ref().unwrap_or(&s.last)))
            .map(|(path, _)| path.clone())
            .collect(),
    }])
}

/// Entries, the most that there may be, and the share in per cent.
fn share(sample: &Sample) -> Option<(i64, i64, i64)> {
    let sysctls = sample.host.sysctls.value()?;
    let (count, max) = (sysctls.conntrack_count?, sysctls.conntrack_max?);
    Some((count, max, count.saturating_mul(100).checked_div(max)?))
}

fn rise(before: &Sample, now: &Sample, counter: &str) -> Option<u64> {
    let value = |sample: &Sample| match &sample.host.conntrack {
        Reading::Read(stat) => stat.0.get(counter).copied(),
        _ => None,
    };
    value(now)?.checked_sub(value(before)?)
}

/// `conntrack-insert-failed`. Every node has clashes of others' now and then (a resolver that sends A and AAAA at once), so that its
/// counters say little of one path: it is asked after the rules that read their causes on the way itself.
pub fn insert_failed(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let udp = Pick { transport: Some(Transport::Udp), ..Pick::default() };
    let silent = |state: &PathState| matches!(state.failing.as_ref().unwrap_or(&state.last), Outcome::Timeout);
    // Where external names alone fail, queries do get out.
    let internal = Pick { question: Some(QuestionKind::Internal), ..udp };
    let own = |(path, state): &(&PathKey, &PathState)| silent(state) && !tcp_fails(record, path);
    let Some((path, state)) = view.bad(internal).find(own) else { return RuleResult::NotApplicable };
    let clashing = |before: &Sample, now: &Sample| -> Option<bool> {
        let (failed, dropped) = (rise(before, now, "insert_failed")?, rise(before, now, "drop")?);
        let far_from_full = share(now).is_none_or(|(_, _, share)| share < FULL);
        // Other traffic clashes too, and is sent again: it must be enough to account for our own losses.
        Some(failed > 0 && dropped >= failed && far_from_full && failed >= lost_between(record, before, now))
    };
    let held = match record.moved(clashing) {
        Held::No => return RuleResult::NotApplicable,
        // Between two samples nothing of ours may have been asked: that is no evidence.
        Held::Twice if lost_now(record) == 0 => {
            return RuleResult::Waiting("no query of ours was lost between the two samples".to_owned());
        }
        other => other,
    };
    let mut sure =
        match confidence(record, held, false, "conntrack's insert_failed does not move with our lost queries") {
            Ok(sure) => sure,
            Err(result) => return result,
        };
    // A race loses one query and lets the next one pass. Where all of a path are lost, and most of what clashes is not ours, the two
    // may be strangers.
    if all_lost(record, path) && mostly_others(record) {
        sure = Confidence::Probable;
    }
    let mut evidence = vec![probe_line(path, state.failing.as_ref().unwrap_or(&state.last))];
    if let (Some(before), Some(now)) = (&record.previous, &record.current) {
        let more = |counter| rise(before, now, counter).unwrap_or_default();
        evidence.push(Evidence::new(
            format!("{} nf_conntrack", record.node),
            format!(
                "insert_failed {} more and drop {} more between two samples, {} queries of ours lost meanwhile",
                more("insert_failed"),
                more("drop"),
                lost_between(record, before, now)
            ),
        ));
        evidence.extend(share(now).map(|(count, max, share)| {
            Evidence::new(format!("{} nf_conntrack_count", record.node), format!("{count} of {max} ({share} %)"))
        }));
    }
    // Two queries of one socket race where a single one does not.
    let pair = view.bad(udp).find_map(|(path, _)| view.in_another_way(path, &Purpose::Both));
    evidence.extend(pair.map(|seen| {
        Evidence::new(format!("probe {}, A and AAAA from one socket", seen.path), seen.outcome.to_string())
    }));
    let over_tcp = Pick { transport: Some(Transport::Tcp), ..Pick::default() };
    if let Some((good, seen)) = record.matrix.good(over_tcp).next() {
        evidence.push(probe_line(good, &seen.last));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ConntrackInsertFailed,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ConntrackFull, "the table is far from full"),
            not(Cause::CorednsUdpStuck, "conntrack drops the queries on their way out"),
        ],
        explains: view
            .bad(Pick::default())
            .filter(|(path, state)| hurts(path, state) && !tcp_fails(record, path))
            .map(|(path, _)| path.clone())
            .collect(),
    }])
}

/// What is lost on its way out by UDP; and what CoreDNS of this node cannot forward, whoever asks it and how.
fn hurts(path: &PathKey, state: &PathState) -> bool {
    let outcome = state.failing.as_ref().unwrap_or(&state.last);
    let outside = matches!(path.question, QuestionKind::External | QuestionKind::Extra);
    match outcome {
        Outcome::Timeout => path.transport == Transport::Udp || outside,
        Outcome::ConnectedOnly | Outcome::Closed | Outcome::Rcode { rcode: 2 } => outside,
        _ => false,
    }
}

/// Whether the same place fails over TCP by itself, whose connections do not clash as queries of one socket do.
fn tcp_fails(record: &EvidenceRecord, path: &PathKey) -> bool {
    let twin = PathKey { transport: Transport::Tcp, question: QuestionKind::Internal, ..path.clone() };
    record.matrix.get(&twin).is_some_and(|state| state.suspected.is_some())
}

/// Whether every query on the path between the two samples was lost.
fn all_lost(record: &EvidenceRecord, path: &PathKey) -> bool {
    let (Some(before), Some(now)) = (&record.previous, &record.current) else { return false };
    let mut seen = between(record, before, now).filter(|seen| seen.path == *path).peekable();
    seen.peek().is_some() && seen.all(|seen| seen.outcome == Outcome::Timeout)
}

/// Whether there are many more clashes between the two samples than queries of ours that were lost.
fn mostly_others(record: &EvidenceRecord) -> bool {
    let (Some(before), Some(now)) = (&record.previous, &record.current) else { return false };
    let ours = lost_between(record, before, now);
    rise(before, now, "insert_failed").is_some_and(|failed| failed > ours.saturating_mul(OTHERS))
}

/// Our own queries by UDP that were sent between two samples.
fn between<'a>(
    record: &'a EvidenceRecord,
    before: &'a Sample,
    now: &'a Sample,
) -> impl Iterator<Item = &'a Observation> {
    record.probes.iter().filter(|seen| {
        // They were sent before the newest sample was begun; the older sample was read by then.
        let sent = seen.at - seen.latency;
        seen.path.transport == Transport::Udp && sent >= before.at && sent <= now.at
    })
}

/// How many of our own queries by UDP were sent and lost between two samples.
fn lost_between(record: &EvidenceRecord, before: &Sample, now: &Sample) -> u64 {
    let lost = between(record, before, now).filter(|seen| seen.outcome == Outcome::Timeout);
    u64::try_from(lost.count()).unwrap_or(u64::MAX)
}

fn lost_now(record: &EvidenceRecord) -> u64 {
    match (&record.previous, &record.current) {
        (Some(before), Some(now)) => lost_between(record, before, now),
        _ => 0,
    }
}
