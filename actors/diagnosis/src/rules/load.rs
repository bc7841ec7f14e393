//! F18, F19, F04: CoreDNS is asked more than it can answer.

use std::time::Duration;

use nameward_kernel::cgroup::figures::CgroupFigures;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Outcome, QuestionKind};
use nameward_messages::targets::{DnsPod, TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject, SubjectKind};

use crate::finding::{Finding, RuleResult, View, confidence, dns_subject, not, probe_line};
use crate::matrix::{Pick, target_pod};
use crate::process;
use crate::record::{EvidenceRecord, Health, Held, Sample};
use crate::rules::coredns::{each, own_node, queue_line, udp_listeners};

/// A quota that ran out in this share of the periods, in per cent, makes every answer late.
const THROTTLED: u64 = 50;
/// So many periods must have passed: those in which a process wants no processor are not counted, and a burst of our own
/// reading ends one or two.
const PERIODS: u64 = 5;
/// It must have waited for this share of the time between two samples, in per cent.
const WAITED: u128 = 25;
/// Answers for names that do not exist, in per cent of all, that search lists make: with `ndots:5` and three search domains
/// three of four answers to an external lookup are of no use.
const ABSENT: u64 = 66;
/// Answers per second of one process below which their kind tells nothing.
const BUSY: u64 = 20;
/// Search domains from which on a lookup is multiplied.
const SEARCH: usize = 3;

/// `coredns-throttled`.
pub fn throttled(view: &View<'_>) -> RuleResult {
    each(view, slow)
}

/// `coredns-receive-overflow`.
pub fn overflow(view: &View<'_>) -> RuleResult {
    each(view, overflows)
}

fn slow(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let record = view.record;
    let from_host = Pick {
        pod: Some(&pod.uid),
        from: Some(VantageKind::Host),
        question: Some(QuestionKind::Internal),
        ..Pick::default()
    };
    let late = |outcome: &Outcome| matches!(outcome, Outcome::Timeout | Outcome::ConnectedOnly);
    let Some((path, state)) = view.bad(from_host).find(|(_, s)| late(s.failing.as_ref().unwrap_or(&s.last))) else {
        return RuleResult::NotApplicable;
    };
    if let Some(excuse) = record.excuse(pod) {
        return RuleResult::RuledOut(excuse);
    }
    let share = |before: &Sample, after: &Sample| {
        let (before, after) = (figures(before, pod)?, figures(after, pod)?);
        CgroupFigures::throttled_percent(before, after)
    };
    let held = record.moved(|before, after| {
        let long = waits_long(before, after, pod)?;
        share(before, after).map(|percent| percent >= THROTTLED && long)
    });
    // A process that is stopped and goes on by turns looks the same from outside: its cgroup alone tells.
    let sure = match confidence(record, held, false, "its processor quota does not run out") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let (Some(before), Some(after)) = (&record.previous, &record.current) else { return RuleResult::NotApplicable };
    let percent = share(before, after).unwrap_or(0);
    let for_us = || {
        let (before, after) = (figures(before, pod)?.throttled_us?, figures(after, pod)?.throttled_us?);
        after.checked_sub(before)
    };
    let mut evidence = vec![
        Evidence::new(
            format!("{} cpu.stat", pod.key),
            format!(
                "throttled in {percent} % of the periods between two samples, for {} ms",
                for_us().unwrap_or(0) / 1000
            ),
        ),
        probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
    ];
    if record.pod(&pod.uid).and_then(|p| p.health.value()) == Some(&Health::Silent) {
        evidence.push(Evidence::new(format!("{} http :8080/health", pod.key), "connects, no answer in time"));
    }
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::CorednsThrottled,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsHung, "it gets no processor time, by its cgroup's own count"),
            not(Cause::CorednsUdpStuck, "it gets no processor time, by its cgroup's own count"),
        ],
        explains: view
            .explained(&[Pick { pod: Some(&pod.uid), ..Pick::default() }, Pick { service: true, ..Pick::default() }]),
    }])
}

/// Whether the quota ran out for long enough to lose queries, and not for an instant of a process that is idle.
fn waits_long(before: &Sample, after: &Sample, pod: &DnsPod) -> Option<bool> {
    let passed = after.at.since(before.at);
    let (before, after) = (figures(before, pod)?, figures(after, pod)?);
    let periods = after.periods?.checked_sub(before.periods?)?;
    let waited = after.throttled_us.zip(before.throttled_us).map(|(after, before)| after.saturating_sub(before));
    // cgroup v1 without the time: the periods alone decide.
    let long = waited.is_none_or(|us| u128::from(us) * 100 >= passed.as_micros() * WAITED);
    Some(periods >= PERIODS && long)
}

fn figures<'a>(sample: &'a Sample, pod: &DnsPod) -> Option<&'a CgroupFigures> {
    process::of(sample, pod)?.cgroup.value()
}

fn overflows(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let symptoms = match own_node(view, pod) {
        Ok(symptoms) => symptoms,
        Err(result) => return result,
    };
    if !matches!(symptoms.udp_outcome, Outcome::Timeout) || !symptoms.tcp_outcome.replied() {
        return RuleResult::NotApplicable;
    }
    if let Some(wait) = symptoms.settling() {
        return wait;
    }
    let record = view.record;
    let port = symptoms.udp_state.port;
    let lost = |before: &Sample, after: &Sample| dropped(before, after, pod, port);
    let drops = record.moved(|before, after| lost(before, after).map(|n| n > 0));
    if drops != Held::Twice {
        return match confidence(record, drops, false, "no datagram was dropped at its socket") {
            Ok(_) => RuleResult::NotApplicable,
            Err(result) => result,
        };
    }
    // A reader that has stopped overflows too: only one that goes on reading is too slow.
    let reads = record.moved(|before, after| {
        let (before, after) = (process::metrics(before, pod)?, process::metrics(after, pod)?);
        Some(after.udp_requests? > before.udp_requests?)
    });
    let answers = || {
        let over_udp = Pick { pod: Some(&pod.uid), transport: Some(Transport::Udp), ..Pick::default() };
        record.matrix.good(over_udp).any(|(_, state)| Some(state.at) >= symptoms.udp_state.suspected)
    };
    let sure = match reads {
        Held::Twice => Confidence::Certain,
        Held::Once => return RuleResult::Waiting("a second sample is awaited".to_owned()),
        Held::Unread if answers() => Confidence::Probable,
        Held::No | Held::Unread => return RuleResult::RuledOut("it does not read its socket".to_owned()),
    };
    let (Some(before), Some(after)) = (&record.previous, &record.current) else { return RuleResult::NotApplicable };
    let mut evidence = vec![
        Evidence::new(
            format!("{} /proc/net/udp, /proc/net/snmp", pod.key),
            format!("{} datagrams dropped for want of room between two samples", lost(before, after).unwrap_or(0)),
        ),
        queue_line(record, pod, port),
    ];
    if let Some(read) = process::arrived(record, pod) {
        let line = format!("{read} queries taken in over UDP between two samples");
        evidence.push(Evidence::new(format!("{} coredns_dns_requests_total", pod.key), line));
    }
    evidence.push(probe_line(&symptoms.udp, symptoms.udp_outcome));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::CorednsReceiveOverflow,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsUdpStuck, "it goes on reading its socket, too slowly"),
            not(Cause::CorednsUdpDead, format!("a UDP socket listens on port {port}")),
        ],
        explains: view.explained(&[
            Pick { pod: Some(&pod.uid), transport: Some(Transport::Udp), ..Pick::default() },
            Pick { service: true, transport: Some(Transport::Udp), ..Pick::default() },
        ]),
    }])
}

/// Datagrams that the kernel dropped at the pod's DNS socket for want of room.
fn dropped(before: &Sample, after: &Sample, pod: &DnsPod, port: u16) -> Option<u64> {
    let at_socket = |sample: &Sample| -> Option<u64> {
        let rows = udp_listeners(sample, pod, port)?;
        (!rows.is_empty()).then(|| rows.iter().map(|row| row.drops).sum())
    };
    let in_all = |sample: &Sample| sample.pods.get(&pod.uid)?.counters.value()?.get("Udp.RcvbufErrors");
    let rise = |of: &dyn Fn(&Sample) -> Option<u64>| of(after)?.checked_sub(of(before)?);
    rise(&at_socket).or_else(|| rise(&in_all))
}

/// `search-amplification`: what nothing before explains, while most answers are for names that do not exist.
pub fn amplification(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let suffers = view.bad(Pick::default()).find(|(path, state)| {
        let load = matches!(
            state.failing.as_ref().unwrap_or(&state.last),
            Outcome::Timeout | Outcome::ConnectedOnly | Outcome::Rcode { rcode: 2 }
        );
        let here = target_pod(path).is_some_and(|uid| record.local_dns_pods().any(|pod| pod.uid == *uid));
        load && (here || matches!(path.target.kind, TargetKind::Service))
    });
    let Some((path, state)) = suffers else { return RuleResult::NotApplicable };
    let Some(service) = &record.targets.service else { return RuleResult::NotApplicable };
    let Some(pod) = record
        .local_dns_pods()
        .find(|pod| record.current.as_ref().is_some_and(|sample| process::metrics(sample, pod).is_some()))
    else {
        return RuleResult::NotApplicable;
    };
    if let Some(excuse) = record.excuse(pod) {
        return RuleResult::RuledOut(excuse);
    }
    let held = record.moved(|before, after| {
        let answers = answers(before, after, pod)?;
        Some(answers.per_second >= BUSY && answers.absent_percent >= ABSENT)
    });
    match confidence(record, held, false, "most answers are for names that exist, or few are asked") {
        Ok(_) => {}
        Err(result) => return result,
    }
    let searching = searching(record);
    let Some((example, domains)) = searching.first() else {
        return RuleResult::RuledOut("no pod of this node has a search list that multiplies lookups".to_owned());
    };
    let (Some(before), Some(after)) = (&record.previous, &record.current) else { return RuleResult::NotApplicable };
    let figures = answers(before, after, pod).unwrap_or_default();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::SearchAmplification,
        scope: Scope::Cluster,
        subject: Subject::object(SubjectKind::Service, &service.key),
        // That the load is what makes it fail is the likeliest reading, not a reading.
        confidence: Confidence::Probable,
        evidence: vec![
            Evidence::new(
                format!("{} coredns_dns_responses_total", pod.key),
                format!("{} answers a second, {} % of them NXDOMAIN", figures.per_second, figures.absent_percent),
            ),
            Evidence::new(
                format!("{example} resolv.conf"),
                format!("{domains} search domains; {} pods of this node search {SEARCH} or more", searching.len()),
            ),
            probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
        ],
        ruled_out: vec![
            not(Cause::CorednsHung, "it answers part of what it is asked"),
            not(Cause::CorednsUdpStuck, "it answers part of what it is asked"),
        ],
        explains: view
            .explained(&[Pick { pod: Some(&pod.uid), ..Pick::default() }, Pick { service: true, ..Pick::default() }]),
    }])
}

#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    per_second: u64,
    absent_percent: u64,
}

fn answers(before: &Sample, after: &Sample, pod: &DnsPod) -> Option<Answers> {
    let passed = after.at.since(before.at).max(Duration::from_millis(1));
    let (before, after) = (process::metrics(before, pod)?, process::metrics(after, pod)?);
    let all = after.all_responses().checked_sub(before.all_responses())?;
    let absent = after.responses_of("NXDOMAIN").checked_sub(before.responses_of("NXDOMAIN"))?;
    Some(Answers {
        per_second: all.saturating_mul(1000) / u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1),
        absent_percent: absent.saturating_mul(100).checked_div(all).unwrap_or(0),
    })
}

/// Pods that ask cluster DNS and whose search lists multiply lookups, with their number of domains, most first.
fn searching(record: &EvidenceRecord) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = record
        .namespaces
        .values()
        .filter(|ns| ns.resolv.nameservers.iter().any(|ip| record.is_cluster_dns(*ip)))
        .filter(|ns| ns.resolv.search.len() >= SEARCH && ndots(&ns.resolv.options) > 2)
        .map(|ns| (ns.key.to_string(), ns.resolv.search.len()))
        .collect();
    found.sort_by_key(|(name, domains)| (std::cmp::Reverse(*domains), name.clone()));
    found
}

/// `ndots` as resolvers read it: 1 unless it is stated, 15 at most.
fn ndots(options: &[String]) -> u32 {
    options.iter().rev().find_map(|option| option.strip_prefix("ndots:")?.parse().ok()).map_or(1, |n: u32| n.min(15))
}

#[cfg(test)]
#[path = "load/tests.rs"]
pub(super) mod tests;
