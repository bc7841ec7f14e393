//! F13: packets arrive with bad checksums; offloading of an overlay or a driver is broken.

use nameward_kernel::facts::{ConntrackStat, Reading};
use nameward_kernel::filter::Place;
use nameward_kernel::iptables::RuleSet;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, View, not, pod_name};
use crate::record::{EvidenceRecord, Held, Sample};
use crate::rules::arrival::{lost, rose};
use crate::rules::filter_survey::Hit;

/// Datagrams whose checksum was wrong, of `/proc/net/snmp`.
const BAD: &str = "Udp.InCsumErrors";

/// `checksum-errors`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let Some(lost) = lost(view) else { return RuleResult::NotApplicable };
    if !lost.transports.contains(&Transport::Udp) {
        return RuleResult::NotApplicable;
    }
    let counted = lost.moved(record, |before, after| counted(record, before, after));
    let refused = lost.moved(record, |before, after| {
        let invalid = invalid(&before.host.conntrack, &after.host.conntrack)?;
        let dropped = dropped_invalid(after)?.saturating_sub(dropped_invalid(before)?);
        Some(invalid >= 2 && dropped >= 2)
    });
    let sure = match (counted, refused) {
        (Held::Twice, _) => Confidence::Certain,
        // Connections that a rule cuts off leave segments behind that conntrack counts as invalid too.
        (_, Held::Twice | Held::Once) if let Some(place) = dropped_by(view) => {
            return RuleResult::RuledOut(format!("{place} drops what gets lost"));
        }
        // Segments of connections that a process far away has left hanging are invalid, too: they tell nothing of silence there.
        (_, Held::Twice | Held::Once) if !lost.complained => {
            return RuleResult::RuledOut(
                "no checksum error is counted, and what is invalid may be of connections".to_owned(),
            );
        }
        // conntrack calls a datagram invalid for its checksum or its length alone, and does not say which.
        (_, Held::Twice) => Confidence::Probable,
        (Held::Once, _) | (_, Held::Once) => return RuleResult::Waiting("a second sample is awaited".to_owned()),
        (Held::Unread, Held::Unread) if !record.two_samples() => {
            return RuleResult::Waiting("counters are being read".to_owned());
        }
        _ => return RuleResult::RuledOut("no checksum error is counted".to_owned()),
    };
    let Some((before, after)) = lost.since(record).zip(record.current.as_deref()) else {
        return RuleResult::NotApplicable;
    };
    let mut evidence = Vec::new();
    for (place, by) in places(record, before, after) {
        evidence.push(Evidence::new(
            format!("{place} /proc/net/snmp"),
            format!("{BAD} rose by {by} while probes were lost"),
        ));
    }
    if let Some(by) = invalid(&before.host.conntrack, &after.host.conntrack).filter(|by| *by > 0) {
        let says = format!("invalid rose by {by}: datagrams of a wrong checksum or length");
        evidence.push(Evidence::new(format!("{} /proc/net/stat/nf_conntrack", record.node), says));
    }
    let dropped = dropped_invalid(after).zip(dropped_invalid(before)).map(|(a, b)| a.saturating_sub(b));
    if let Some(by) = dropped.filter(|by| *by > 0) {
        let says = format!("the rules that drop --ctstate INVALID counted {by} packets");
        evidence.push(Evidence::new(format!("{} iptables-save -t filter", record.node), says));
    }
    evidence.extend(lost.seen.iter().take(3).cloned());
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::ChecksumErrors,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::NodePairBlocked, "the packets arrive, damaged"),
            not(Cause::PacketFilterDrop, "what is dropped is dropped for being damaged, not for what it asks"),
        ],
        explains: lost.explains,
    }])
}

/// A rule or policy on the way of what gets lost that drops all of it, moving or not.
fn dropped_by<'a>(view: &'a View<'_>) -> Option<&'a Place> {
    let certain = |hit: &&Hit| hit.verdict.is_loss() && hit.doubt.is_none();
    view.filters().hits.iter().find(certain).map(|hit| &hit.place)
}

/// Whether some namespace that queries or replies come to counts bad checksums; `None`: none of them was read.
fn counted(record: &EvidenceRecord, before: &Sample, after: &Sample) -> Option<bool> {
    let host = rose(before.host.counters.value(), after.host.counters.value(), BAD);
    let pods = after.pods.iter().filter_map(|(uid, now)| {
        record.dns_pod(uid)?;
        rose(before.pods.get(uid)?.counters.value(), now.counters.value(), BAD)
    });
    host.into_iter().chain(pods).map(|by| by >= 2).reduce(|a, b| a || b)
}

/// Where they are counted, and how many.
fn places(record: &EvidenceRecord, before: &Sample, after: &Sample) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    if let Some(by) = rose(before.host.counters.value(), after.host.counters.value(), BAD).filter(|by| *by > 0) {
        found.push((record.node.to_string(), by));
    }
    for (uid, now) in &after.pods {
        let by = before.pods.get(uid).and_then(|old| rose(old.counters.value(), now.counters.value(), BAD));
        if let Some(by) = by.filter(|by| *by > 0) {
            found.push((pod_name(record, uid), by));
        }
    }
    found
}

fn invalid(before: &Reading<ConntrackStat>, after: &Reading<ConntrackStat>) -> Option<u64> {
    let of = |stat: &Reading<ConntrackStat>| stat.value().and_then(|s| s.0.get("invalid").copied());
    Some(of(after)?.saturating_sub(of(before)?))
}

/// Packets that met a rule which drops what conntrack calls invalid, in both backends; `None`: no such rule, or not read.
fn dropped_invalid(sample: &Sample) -> Option<u64> {
    let netfilter = &sample.host.netfilter;
    let of = |set: &RuleSet| {
        let table = set.table("filter")?;
        let rules = table.chains.iter().flat_map(|chain| &chain.rules).filter(|rule| {
            let states = rule.words.iter().zip(rule.words.iter().skip(1)).any(|(option, value)| {
                matches!(option.as_str(), "--ctstate" | "--state") && value.split(',').any(|state| state == "INVALID")
            });
            states && rule.target.as_deref() == Some("DROP")
        });
        rules.map(|rule| rule.packets).reduce(u64::saturating_add)
    };
    let backends = [&netfilter.iptables_nft, &netfilter.iptables_legacy];
    backends.into_iter().filter_map(|reading| of(reading.value()?)).reduce(u64::saturating_add)
}
