//! F27: big answers of CoreDNS pods of other nodes get lost on the way, small ones arrive.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nameward_kernel::facts::{FibResult, Link, Topology};
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Held, Sample};
use crate::rules::arrival::rose;

/// Datagrams that should have been cut to pieces and may not be, of `/proc/net/snmp`.
const FAILS: &str = "Ip.FragFails";

/// `fragments-lost`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let pick = Pick { question: Some(QuestionKind::Large), transport: Some(Transport::Udp), ..Pick::default() };
    let small_arrives = |path: &PathKey| {
        let small = PathKey { question: QuestionKind::Internal, ..path.clone() };
        record.matrix.get(&small).is_some_and(|s| s.suspected.is_none() && s.last.good() == Some(true))
    };
    let lost: Vec<(&PathKey, &Outcome)> = view
        .bad(pick)
        .map(|(path, state)| (path, state.failing.as_ref().unwrap_or(&state.last)))
        .filter(|(path, seen)| **seen == Outcome::Timeout && small_arrives(path))
        .collect();
    let far = |path: &PathKey| match &path.target.kind {
        TargetKind::Pod { node, .. } => node.as_ref().is_some_and(|node| *node != record.node),
        TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => false,
    };
    if lost.is_empty() {
        return RuleResult::NotApplicable;
    }
    if let Some((path, _)) = lost.iter().find(|(path, _)| !far(path) && path.target.kind != TargetKind::Service) {
        return RuleResult::RuledOut(format!("{path} does not leave the node and gets no big answer either"));
    }
    let ends: BTreeSet<IpAddr> = lost.iter().filter(|(path, _)| far(path)).map(|(path, _)| path.target.ip).collect();
    let narrow = record.held(|sample| {
        let found: Vec<bool> = ends.iter().filter_map(|ip| Some(narrow(sample, *ip)?.is_some())).collect();
        if found.is_empty() { None } else { Some(found.contains(&true)) }
    });
    let fails = record.moved(|before, after| Some(failed(before, after)? > 0));
    // One of them is enough; that both were read and say no is needed to rule it out.
    let held = match (narrow, fails) {
        (Held::Twice, _) | (_, Held::Twice) => Held::Twice,
        (Held::Once, _) | (_, Held::Once) => Held::Once,
        (Held::No, _) | (_, Held::No) => Held::No,
        (Held::Unread, Held::Unread) => Held::Unread,
    };
    let contradicted = "no link of this node on the way is narrower than the pods', and nothing failed to be cut here";
    let sure = match confidence(record, held, true, contradicted) {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence: Vec<Evidence> = lost.iter().take(3).map(|(path, seen)| probe_line(path, seen)).collect();
    if let Some((path, _)) = lost.first() {
        let small = PathKey { question: QuestionKind::Internal, ..(*path).clone() };
        evidence.extend(record.matrix.get(&small).map(|s| probe_line(&small, &s.last)));
    }
    evidence.extend(record.matrix.good(pick).find(|(p, _)| !far(p)).map(|(p, s)| probe_line(p, &s.last)));
    evidence.extend(what_was_read(record, &ends));
    let large = |path: &&PathKey| path.question == QuestionKind::Large;
    let explains = view
        .open
        .iter()
        .filter(large)
        .filter(|path| path.target.kind == TargetKind::Service || ends.contains(&path.target.ip))
        .cloned()
        .collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::FragmentsLost,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::NodePairBlocked, "small answers arrive on the same ways"),
            not(Cause::PacketFilterDrop, "small answers arrive on the same ways"),
            not(Cause::CorednsHung, "it answers small questions at once"),
        ],
        explains,
    }])
}

/// The link towards an address, if it takes less than what pods send; `None` if that was not read.
fn narrow(sample: &Sample, ip: IpAddr) -> Option<Option<(&Link, u32)>> {
    let host = sample.host.topology.value()?;
    let Some(FibResult::Route { out_link: Some(out), .. }) = host.lookup(ip) else { return None };
    let link = host.link_at(*out)?;
    let pods = sample.pods.values().filter_map(|pod| pod.topology.value()).filter_map(widest).max()?;
    Some((link.mtu > 0 && link.mtu < pods).then_some((link, pods)))
}

/// What a pod's own link takes.
fn widest(topology: &Topology) -> Option<u32> {
    topology.links.iter().filter(|link| link.kind.as_deref() == Some("veth")).map(|link| link.mtu).max()
}

fn failed(before: &Sample, after: &Sample) -> Option<u64> {
    rose(before.host.counters.value(), after.host.counters.value(), FAILS)
}

fn what_was_read(record: &EvidenceRecord, ends: &BTreeSet<IpAddr>) -> Vec<Evidence> {
    let Some(sample) = record.current.as_deref() else { return Vec::new() };
    let mut lines: Vec<Evidence> = ends
        .iter()
        .filter_map(|ip| Some((ip, narrow(sample, *ip)??)))
        .map(|(ip, (link, pods))| {
            let says = format!("{} towards {ip} has MTU {}, the pods' links have {pods}", link.name, link.mtu);
            Evidence::new(format!("{} rtnetlink links and routes", record.node), says)
        })
        .collect();
    let by = record.previous.as_deref().and_then(|before| failed(before, sample)).filter(|by| *by > 0);
    lines.extend(by.map(|by| {
        let says = format!("{FAILS} rose by {by}: datagrams were too long for the next link and may not be cut");
        Evidence::new(format!("{} /proc/net/snmp", record.node), says)
    }));
    lines
}
