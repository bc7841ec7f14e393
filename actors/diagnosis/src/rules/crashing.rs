//! F16 and F46: a CoreDNS container ends as soon as it has started, again and again.
//!
//! The API keeps how a container ended last, and how often: no Event and no log is needed. Most manifests leave the
//! termination message empty; then the pod's own resolver configuration tells a loop from a refused Corefile.

use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::Now;
use nameward_messages::targets::DnsPod;
use nameward_messages::verdict::{Cause, Confidence, Evidence, RuledOut, Scope};
use nameward_messages::workload::{CorednsPodState, Ended};

use crate::finding::{Finding, RuleResult, Tally, View, dns_subject, not, probe_line};
use crate::matrix::Pick;
use crate::record::EvidenceRecord;
use crate::rules::service::STEADY;

/// A container that is ready and has been up for this long is up for good, as far as this rule is concerned: what cannot
/// start ends at once, and plugin `loop` meets its own query within seconds.
const UP: Duration = Duration::from_secs(20);
/// What could not start has ended this soon: CoreDNS reads its Corefile and binds its ports at once, and its plugin `loop`
/// listens for its own query during the first 30 seconds (plugin/loop, README).
const SOON: Duration = Duration::from_secs(35);
/// What cannot even start has ended this soon.
const AT_ONCE: Duration = Duration::from_secs(5);

/// `coredns-loop`.
pub fn looping(view: &View<'_>) -> RuleResult {
    each(view, Cause::CorednsLoop)
}

/// `corefile-broken`.
pub fn corefile(view: &View<'_>) -> RuleResult {
    each(view, Cause::CorefileBroken)
}

/// Whether a container crashes again and again as things stand.
#[must_use]
pub fn stands(state: &CorednsPodState, now: Now) -> bool {
    let up = state.running_since.and_then(|since| Duration::try_from(now.wall.duration_since(since)).ok());
    !state.terminating && state.crashes_again_and_again() && !(state.ready && up.is_some_and(|up| up >= UP))
}

/// What of the status names the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Loop,
    Corefile,
}

/// What the process itself left as its last words.
fn by_message(ended: &Ended) -> Option<Reason> {
    let text = ended.message.to_lowercase();
    // plugin/loop: `[FATAL] plugin/loop: Loop (127.0.0.1:… -> :53) detected for zone "."`.
    if text.contains("plugin/loop") && text.contains("loop (") {
        return Some(Reason::Loop);
    }
    // The server's parser and plugins (`Corefile:7 - Error during parsing: Unknown directive …`, `plugin/forward: …`), and
    // what it says when a port is taken or not allowed.
    let fatal = ["error during parsing", "unknown directive", "unknown property", "corefile:", "bind: ", "plugin/"];
    fatal.iter().any(|part| text.contains(part)).then_some(Reason::Corefile)
}

fn each(view: &View<'_>, wanted: Cause) -> RuleResult {
    let mut tally = Tally::default();
    for state in view.record.coredns.iter().filter(|state| stands(state, view.record.now)) {
        tally.add(one(view, state, wanted));
    }
    tally.done()
}

fn one(view: &View<'_>, state: &CorednsPodState, wanted: Cause) -> RuleResult {
    let record = view.record;
    let Some(ended) = &state.ended else { return RuleResult::NotApplicable };
    if ended.reason == "OOMKilled" || ended.exit_code == 137 {
        return RuleResult::RuledOut(format!("{} was killed, it did not end by itself", state.key));
    }
    if ended.exit_code == 0 || ended.exit_code == 2 {
        return RuleResult::RuledOut(format!(
            "{} ended with exit status {}: it was asked to, or it panicked",
            state.key, ended.exit_code
        ));
    }
    let ran = ran(ended);
    let stub = loopback(record, state);
    let (reason, confidence) = match by_message(ended) {
        Some(reason) => (reason, Confidence::Certain),
        None if !ended.message.is_empty() => {
            return RuleResult::RuledOut(format!("{} ended with other words: {}", state.key, ended.message));
        }
        None if ran.is_none_or(|ran| ran > SOON) => {
            return RuleResult::RuledOut(format!("{} ran for longer than a start takes", state.key));
        }
        // Without a word: what it would forward to decides.
        None if stub.is_some() => (Reason::Loop, Confidence::Probable),
        None if ran.is_some_and(|ran| ran <= AT_ONCE) => (Reason::Corefile, Confidence::Probable),
        None => {
            return RuleResult::RuledOut(format!("{} left no words, and forwards to no loopback address", state.key));
        }
    };
    let cause = match reason {
        Reason::Loop => Cause::CorednsLoop,
        Reason::Corefile => Cause::CorefileBroken,
    };
    if cause != wanted {
        return RuleResult::NotApplicable;
    }
    RuleResult::Verdicts(vec![finding(view, state, ended, (cause, confidence), stub)])
}

fn ran(ended: &Ended) -> Option<Duration> {
    let (from, to) = (ended.started_at?, ended.finished_at?);
    Some(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

/// The loopback address that the pod's resolver configuration names, if it names one.
fn loopback(record: &EvidenceRecord, state: &CorednsPodState) -> Option<IpAddr> {
    record.namespaces.get(&state.pod)?.resolv.nameservers.iter().copied().find(IpAddr::is_loopback)
}

fn finding(
    view: &View<'_>,
    state: &CorednsPodState,
    ended: &Ended,
    (cause, confidence): (Cause, Confidence),
    stub: Option<IpAddr>,
) -> Finding {
    let record = view.record;
    let mut evidence = status_lines(state, ended);
    if let (Some(ip), Some(namespace)) = (stub, record.namespaces.get(&state.pod)) {
        let read = namespace.resolv.read_from.clone().unwrap_or_else(|| "resolv.conf".to_owned());
        let line = format!("nameserver {ip}: inside the pod that is CoreDNS itself");
        evidence.push(Evidence::new(format!("{} {read}", state.key), line));
    }
    let to_it = Pick { pod: Some(&state.pod), ..Pick::default() };
    evidence.extend(view.bad(to_it).next().map(|(p, s)| probe_line(p, s.failing.as_ref().unwrap_or(&s.last))));
    let others: Vec<&DnsPod> =
        record.targets.pods.iter().filter(|p| p.uid != state.pod && p.ready && !p.terminating).collect();
    if cause == Cause::CorefileBroken && !others.is_empty() {
        let names: Vec<&str> = others.iter().take(4).map(|p| p.key.name.as_str()).collect();
        let line = format!("{} ready: they run on with the configuration they have read", names.join(", "));
        evidence.push(Evidence::new("EndpointSlices", line));
    }
    let pod = record.dns_pod(&state.pod);
    let mut picks = vec![to_it];
    // The Service suffers while nobody is ready, and until kube-proxy has followed.
    if others.is_empty() || record.now.mono.since(record.targets_since) < STEADY * 3 {
        picks.push(Pick { service: true, ..Pick::default() });
    }
    let mut explains = view.explained(&picks);
    // What its resolver configuration names inside the pod is the process itself.
    let own = Pick { vantage: Some(&state.pod), ..Pick::default() };
    explains.extend(view.explained(&[own]).into_iter().filter(|path| path.target.ip.is_loopback()));
    Finding {
        cause,
        scope: Scope::CorednsPod,
        subject: pod.map_or_else(|| nameward_messages::verdict::Subject::pod(&state.key, &state.pod), dns_subject),
        confidence,
        evidence,
        ruled_out: ruled_out(cause, stub),
        explains,
    }
}

/// What the API says of a container that ended, in lines.
pub(super) fn status_lines(state: &CorednsPodState, ended: &Ended) -> Vec<Evidence> {
    let read = format!("{} status of container {}", state.key, state.container);
    let now = state.waiting.as_ref().map_or_else(
        || if state.running_since.is_some() { "running".to_owned() } else { "ended".to_owned() },
        |waiting| waiting.reason.clone(),
    );
    let ran = ran(ended).map_or_else(String::new, |ran| format!(" after {} s", ran.as_secs()));
    let mut lines = vec![Evidence::new(
        read.clone(),
        format!(
            "{now}, {} restarts; ended last with exit status {} ({}){ran}",
            state.restarts, ended.exit_code, ended.reason
        ),
    )];
    if ended.message.is_empty() {
        lines.push(Evidence::new(read, "it left no termination message".to_owned()));
    } else {
        lines.push(Evidence::new(read, format!("its last words: {}", ended.message)));
    }
    lines
}

fn ruled_out(cause: Cause, stub: Option<IpAddr>) -> Vec<RuledOut> {
    let mut list = vec![
        not(Cause::CorednsOomKilled, "the container was not killed: it ended by itself"),
        not(Cause::CorednsUdpDead, "the process ends altogether"),
    ];
    if cause == Cause::CorednsLoop {
        list.push(not(Cause::CorefileBroken, "it starts, and ends when it meets its own query"));
    } else if stub.is_none() {
        list.push(not(
            Cause::CorednsLoop,
            "its last words are not those of plugin loop, and it names no loopback address",
        ));
    }
    list
}

#[cfg(test)]
#[path = "crashing/tests.rs"]
pub(super) mod tests;
