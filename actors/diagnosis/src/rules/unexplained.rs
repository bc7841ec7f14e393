//! Something fails and no rule explains it: say what was read and what is not modelled.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_kernel::facts::Reading;
use nameward_messages::PodUid;
use nameward_messages::probe::{PathKey, Purpose};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, View, probe_line};
use crate::judge::Judgement;
use crate::matrix::{target_pod, vantage_pod};
use crate::record::{EvidenceRecord, Sample};
use crate::rules::{crashing, traced, unmodelled};

/// A path must have failed for this long.
pub const AFTER: Duration = Duration::from_secs(20);
/// A rule that still waits is waited for no longer than this.
const PATIENCE: Duration = Duration::from_secs(40);
/// The same while another cause stands.
const BESIDE: Duration = Duration::from_secs(60);
/// Samples that must have been taken.
const SAMPLES: u32 = 2;

/// `unexplained`, given what the rules made of everything else.
pub fn judge(view: &View<'_>, so_far: &Judgement) -> Option<Finding> {
    let record = view.record;
    if record.samples < SAMPLES {
        return None;
    }
    // Beside a cause that is named, or left to another node, what is left over may be of its making and clear with it.
    let beside = so_far.findings.iter().any(|found| !found.explains.is_empty()) || !so_far.deferred.is_empty();
    let least = match (beside, so_far.waiting.is_empty()) {
        (true, _) => BESIDE,
        (false, false) => PATIENCE,
        (false, true) => AFTER,
    };
    let old: Vec<(&PathKey, _)> = record
        .matrix
        .suspected()
        .filter(|(path, state)| {
            // A path that answers again is on its way to be cleared.
            let fails_still = state.good_run == 0;
            fails_still
                && view.open.contains(*path)
                // When the API has changed, what failed before is on its way to be cleared, or begins anew.
                && state.suspected.is_some_and(|since| record.now.mono.since(since.max(record.targets_since)) >= least)
        })
        .collect();
    if old.is_empty() {
        return None;
    }
    let explains: BTreeSet<PathKey> = old.iter().map(|(path, _)| (*path).clone()).collect();
    let (scope, subject) = subject_of(record, &explains);
    let mut evidence: Vec<Evidence> =
        old.iter().take(3).map(|(path, s)| probe_line(path, s.failing.as_ref().unwrap_or(&s.last))).collect();
    // Slow is not silent, and one of two queries lost is not both.
    let ways = [(Purpose::Patience, "with 4 s of patience"), (Purpose::Both, "A and AAAA from one socket")];
    for (purpose, how) in ways {
        let seen = old.iter().find_map(|(path, _)| view.in_another_way(path, &purpose));
        evidence.extend(seen.map(|seen| {
            let says = format!("{} after {} ms", seen.outcome, seen.latency.as_millis());
            Evidence::new(format!("probe {} {how}", seen.path), says)
        }));
    }
    if explains.len() > 3 {
        evidence.push(Evidence::new("probe", format!("{} more paths fail", explains.len() - 3)));
    }
    // A container that has ended of late, in a way that no rule knows, is the first thing that a person asks about.
    for state in record.coredns.iter().filter(|state| crashing::stands(state, record.now)).take(2) {
        evidence.extend(state.ended.iter().flat_map(|ended| crashing::status_lines(state, ended)));
    }
    if let Some(sample) = &record.current {
        evidence.push(Evidence::new(format!("{} read", record.node), what_was_read(sample)));
        let unmodelled = unmodelled::on_node(record, sample);
        if !unmodelled.is_empty() {
            evidence.push(Evidence::new(format!("{} not modelled", record.node), unmodelled.join("; ")));
        }
        let doubtful = view.filters().in_doubt();
        if !doubtful.is_empty() {
            let says = format!("may decide, and not understood: {}", doubtful.join("; "));
            evidence.push(Evidence::new(format!("{} packet filters", record.node), says));
        }
        evidence.extend(traced::passed(record, &explains));
    }
    Some(Finding {
        cause: Cause::Unexplained,
        scope,
        subject,
        confidence: Confidence::Probable,
        evidence,
        ruled_out: Vec::new(),
        explains,
    })
}

/// The smallest thing that all failing paths have in common.
fn subject_of(record: &EvidenceRecord, paths: &BTreeSet<PathKey>) -> (Scope, Subject) {
    let froms: BTreeSet<Option<&PodUid>> = paths.iter().map(vantage_pod).collect();
    let tos: BTreeSet<Option<&PodUid>> = paths.iter().map(target_pod).collect();
    let single =
        |set: &BTreeSet<Option<&PodUid>>| if set.len() == 1 { set.first().copied().flatten().cloned() } else { None };
    if let Some(pod) = single(&tos).and_then(|uid| record.dns_pod(&uid)) {
        return (Scope::CorednsPod, Subject::pod(&pod.key, &pod.uid));
    }
    if let Some(namespace) = single(&froms).and_then(|uid| record.namespaces.get(&uid)) {
        return (Scope::Pod, Subject::pod(&namespace.key, &namespace.pod));
    }
    (Scope::Node, Subject::node(&record.node))
}

fn what_was_read(sample: &Sample) -> String {
    let mut parts = Vec::new();
    let host = &sample.host;
    part(&mut parts, "links and routes", &host.topology);
    part(&mut parts, "iptables-nft", &host.netfilter.iptables_nft);
    part(&mut parts, "iptables-legacy", &host.netfilter.iptables_legacy);
    part(&mut parts, "kube-proxy nft", &host.netfilter.kube_proxy_nft);
    part(&mut parts, "sysctls", &host.sysctls);
    let pods = sample.pods.values().filter(|p| p.topology.value().is_some()).count();
    parts.push(format!("{pods} of {} pods' namespaces", sample.pods.len()));
    parts.join(", ")
}

fn part<T>(parts: &mut Vec<String>, name: &str, reading: &Reading<T>) {
    match reading {
        Reading::Read(_) => parts.push(name.to_owned()),
        Reading::NotRead => {}
        Reading::NotPresent(_) => parts.push(format!("{name}: not present")),
        Reading::NotPermitted(why) => parts.push(format!("{name}: not permitted ({why})")),
        Reading::Failed(why) => parts.push(format!("{name}: failed ({why})")),
    }
}
