//! F01c: the whole process of a CoreDNS pod hangs.

use std::time::Duration;

use nameward_messages::probe::{Outcome, Purpose};
use nameward_messages::targets::DnsPod;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope};

use crate::finding::{Finding, RuleResult, View, confidence, dns_subject, not};
use crate::matrix::Pick;
use crate::process;
use crate::record::{Health, Held, Sample};
use crate::rules::coredns::{each, own_node, queue_line, swallowed, symptom_lines, unread, unread_queue};

/// A probe with four seconds of patience has come back by then, unless it was never sent.
const PATIENCE_OVER: Duration = Duration::from_secs(10);

/// `coredns-hung`.
pub fn judge(view: &View<'_>) -> RuleResult {
    each(view, one)
}

fn one(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let symptoms = match own_node(view, pod) {
        Ok(symptoms) => symptoms,
        Err(result) => return result,
    };
    if !matches!(symptoms.udp_outcome, Outcome::Timeout) {
        return RuleResult::RuledOut(format!("UDP is not silent: {}", symptoms.udp_outcome));
    }
    let record = view.record;
    // Four seconds of patience tell what is slow from what hangs.
    let patient = |path| view.in_another_way(path, &Purpose::Patience).filter(|o| o.outcome.replied());
    if let Some(late) = [&symptoms.udp, &symptoms.tcp].into_iter().find_map(patient) {
        let after = late.latency.as_millis();
        return RuleResult::RuledOut(format!(
            "it is slow and does not hang: it answered over {} after {after} ms",
            late.path.transport
        ));
    }
    // The kernel completes the handshake for a process that hangs, until the queue of connections that nobody accepts is
    // full: then it is silent on TCP as well, and only the queue tells this from a lost path.
    let full = match symptoms.tcp_outcome {
        Outcome::ConnectedOnly => false,
        Outcome::Timeout => true,
        _ => return RuleResult::RuledOut(format!("TCP is not accepted in silence: {}", symptoms.tcp_outcome)),
    };
    let (udp, tcp) = (symptoms.udp_state.port, dns_tcp_port(pod));
    let health = record.held(|sample| health_of(sample, pod).map(|h| matches!(h, Health::Silent)));
    let accept = record.moved(|before, after| accept_queue(before, after, pod, tcp));
    let queue = record.moved(|before, after| unread_queue(before, after, pod, udp));
    let took = record.moved(|before, after| swallowed(before, after, pod));
    if full && accept != Held::Twice {
        return match accept {
            Held::Once => RuleResult::Waiting("a second sample is awaited".to_owned()),
            _ => RuleResult::RuledOut("TCP does not connect, and no connections wait to be accepted".to_owned()),
        };
    }
    // Until then nothing is said about a process that may be slow.
    let patience = |path| view.in_another_way(path, &Purpose::Patience).is_some();
    let heard = patience(&symptoms.udp) && patience(&symptoms.tcp);
    let fails_for = symptoms.udp_state.suspected.map(|since| record.now.mono.since(since)).unwrap_or_default();
    if !heard && fails_for < PATIENCE_OVER {
        return RuleResult::Waiting("it is being asked with four seconds of patience".to_owned());
    }
    let decided = [health, accept, queue].into_iter().max().unwrap_or(Held::Unread);
    // A process that is asked too much has full queues too, and answers others.
    if let Some(answers) = process::rise(record, pod, |m| Some(m.all_responses())).filter(|n| *n > 0) {
        return RuleResult::RuledOut(format!("it does not hang: it gave {answers} answers between two samples"));
    }
    if decided == Held::Unread && health == Held::No {
        return RuleResult::RuledOut("/health answers, and its queues could not be read".to_owned());
    }
    let (confidence, held) = match confidence(record, decided, true, "its queues are empty") {
        Ok(confidence) => (confidence, decided),
        // It reads, and answers nothing on either transport: the process lives, but not for its clients.
        Err(RuleResult::RuledOut(_)) if took == Held::Twice => (Confidence::Probable, took),
        Err(RuleResult::RuledOut(_)) if took == Held::Once => {
            return RuleResult::Waiting("a second sample is awaited".to_owned());
        }
        Err(result) => return result,
    };
    let confidence = if heard { confidence } else { Confidence::Probable };
    let mut evidence = symptom_lines(&symptoms);
    if let Some(said) = record.current.as_ref().and_then(|s| health_of(s, pod)) {
        evidence.push(Evidence::new(format!("{} http :8080/health", pod.key), health_line(said)));
    }
    if accept == Held::Twice {
        let line = format!("port {tcp}: connections wait to be accepted in two samples");
        evidence.push(Evidence::new(format!("{} /proc/net/tcp", pod.key), line));
    }
    evidence.push(if held == Held::Unread { unread(record, pod) } else { queue_line(record, pod, udp) });
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::CorednsHung,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsUdpDead, "UDP is silent, not refused, and TCP does not answer either"),
            not(Cause::CorednsUdpStuck, "TCP does not answer either"),
            not(
                Cause::VethOffBridge,
                if full {
                    "connections have reached the pod: they fill the queue of its listener"
                } else {
                    "the pod's kernel still completes TCP's handshake"
                },
            ),
            not(
                Cause::ForwardPolicyDrop,
                "the host of the pod's own node, whose queries do not pass FORWARD, gets no answer",
            ),
        ],
        explains: view
            .explained(&[Pick { pod: Some(&pod.uid), ..Pick::default() }, Pick { service: true, ..Pick::default() }]),
    }])
}

fn dns_tcp_port(pod: &DnsPod) -> u16 {
    pod.tcp_port.or(pod.udp_port).unwrap_or(53)
}

fn health_of(sample: &Sample, pod: &DnsPod) -> Option<Health> {
    sample.pods.get(&pod.uid)?.health.value().copied()
}

fn health_line(said: Health) -> String {
    match said {
        Health::Status(status) => format!("answers {status}"),
        Health::Refused => "refused: nobody listens".to_owned(),
        Health::Silent => "connects, no answer in time".to_owned(),
        Health::Unreachable => "does not connect in time".to_owned(),
    }
}

/// Whether connections wait that nobody accepts.
fn accept_queue(before: &Sample, after: &Sample, pod: &DnsPod, port: u16) -> Option<bool> {
    let waiting = |sample: &Sample| -> Option<u64> {
        Some(sample.pods.get(&pod.uid)?.sockets.value()?.tcp_on(port).map(|row| row.rx_queue).sum())
    };
    let (old, new) = (waiting(before)?, waiting(after)?);
    Some(old > 0 && new >= old)
}
