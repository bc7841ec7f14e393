//! F23: NodeLocal DNSCache answers no more, or has left its rules behind.
//!
//! It takes an address of its own (169.254.20.10 by custom) and, where kube-proxy writes iptables rules, the Service's own, puts them
//! on a link of the node, and exempts both from conntrack, so that kube-proxy's rules do not see them
//! (kubernetes/dns `cmd/node-cache/app/cache_app.go`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use nameward_kernel::facts::{Netfilter, SocketTable};
use nameward_kernel::iptables::{Rule, RuleSet};
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, Tally, View, confidence, not, probe_line};
use crate::matrix::{PathState, Pick};
use crate::record::{EvidenceRecord, Sample};
use crate::rules::service::pods_answer;

/// The address that its manifests take unless told otherwise.
pub const CUSTOM: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
/// IPVS has every Service's address on this link: that is no cache.
const IPVS_LINK: &str = "kube-ipvs0";

/// `node-local-dns-dead`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let mut tally = Tally::default();
    let asked: BTreeSet<IpAddr> = view
        .bad(Pick { question: Some(QuestionKind::Internal), ..Pick::default() })
        .filter(|(path, _)| matches!(path.target.kind, TargetKind::Service | TargetKind::Nameserver))
        .map(|(path, _)| path.target.ip)
        .collect();
    let mut findings = Vec::new();
    for ip in asked {
        match one(view, ip) {
            RuleResult::Verdicts(found) => findings.extend(found),
            other => tally.add(other),
        }
    }
    // It is one cache, whatever the number of its addresses.
    let Some(mut first) = findings.pop() else { return tally.done() };
    for more in findings {
        first.confidence = first.confidence.min(more.confidence);
        first.explains.extend(more.explains);
        for line in more.evidence {
            if !first.evidence.contains(&line) {
                first.evidence.push(line);
            }
        }
    }
    first.subject = Subject::node(&record.node);
    RuleResult::Verdicts(vec![first])
}

/// What is wrong with the cache for one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// The address is there, and nobody listens.
    Deaf,
    /// Somebody listens and does not read.
    Hung,
    /// The address is gone; rules still keep it from kube-proxy's.
    LeftBehind,
}

fn one(view: &View<'_>, ip: IpAddr) -> RuleResult {
    let record = view.record;
    let to_it = |path: &PathKey| {
        path.target.ip == ip && matches!(path.target.kind, TargetKind::Service | TargetKind::Nameserver)
    };
    let refused_or_lost = |state: &PathState| {
        matches!(
            state.failing.as_ref().unwrap_or(&state.last),
            Outcome::Timeout | Outcome::Refused { .. } | Outcome::ConnectedOnly | Outcome::HostUnreachable { .. }
        )
    };
    let found = view.bad(Pick::default()).find(|(path, state)| to_it(path) && refused_or_lost(state));
    let Some((path, state)) = found else { return RuleResult::NotApplicable };
    let Some(sample) = &record.current else { return RuleResult::Waiting("evidence is being read".to_owned()) };
    if !is_cache(sample, ip).unwrap_or(ip == IpAddr::V4(CUSTOM)) {
        return RuleResult::NotApplicable;
    }
    let held = record.held(|sample| wrong(sample, ip).map(|found| found.is_some()));
    let sure = match confidence(record, held, false, "something listens on the cache's address and reads") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let Some(what) = wrong(sample, ip).flatten() else { return RuleResult::NotApplicable };
    let mut evidence = vec![probe_line(path, state.failing.as_ref().unwrap_or(&state.last))];
    evidence.extend(lines(record, sample, ip, what));
    evidence.extend(pods_answer(record));
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::NodeLocalDnsDead,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ServiceRulesMissing, format!("queries to {ip} do not come to kube-proxy's rules on this node")),
            not(Cause::WrongNameserver, format!("{ip} is the address of a cache on this node")),
        ],
        explains: view.open.iter().filter(|path| to_it(path)).cloned().collect(),
    }])
}

/// Whether an address is the cache's on this node. `None`: not to be told.
fn is_cache(sample: &Sample, ip: IpAddr) -> Option<bool> {
    let link = link_of(sample, ip);
    let exempt = exempt(&sample.host.netfilter, ip);
    if exempt.is_some_and(|rules| rules > 0) {
        return Some(true);
    }
    match link {
        Some(Some(_)) => Some(ip == IpAddr::V4(CUSTOM)),
        Some(None) => exempt.map(|_| false),
        None => None,
    }
}

fn wrong(sample: &Sample, ip: IpAddr) -> Option<Option<Wrong>> {
    match link_of(sample, ip)? {
        Some(_) => {
            let listeners = sample.host.listeners.value()?;
            let on = |socket: &&nameward_kernel::facts::SocketRow| socket.ip == ip || socket.ip.is_unspecified();
            let udp = listeners.udp.iter().filter(on);
            let unread = udp.clone().any(|socket| socket.rx_queue > 0);
            let queued = listeners.tcp_listen.iter().filter(on).any(|socket| socket.rx_queue > 0);
            Some(if udp.count() == 0 { Some(Wrong::Deaf) } else { (unread || queued).then_some(Wrong::Hung) })
        }
        None => Some((exempt(&sample.host.netfilter, ip)? > 0).then_some(Wrong::LeftBehind)),
    }
}

/// The link that has the address: `Some(None)` if none has it, `None` if links could not be read.
fn link_of(sample: &Sample, ip: IpAddr) -> Option<Option<&str>> {
    let topology = sample.host.topology.value()?;
    let links = topology.addresses.iter().filter(|address| address.ip == ip);
    let mut names = links.filter_map(|address| topology.link_at(address.link)).map(|link| link.name.as_str());
    Some(names.find(|name| *name != IPVS_LINK))
}

/// How many rules keep packets to the address out of conntrack. `None`: no rules could be read.
fn exempt(netfilter: &Netfilter, ip: IpAddr) -> Option<usize> {
    let sets: Vec<&RuleSet> =
        [&netfilter.iptables_nft, &netfilter.iptables_legacy].into_iter().filter_map(|r| r.value()).collect();
    if sets.is_empty() {
        return None;
    }
    let untracked = |rule: &&Rule| {
        let target = rule.target.as_deref();
        let exempts = target == Some("NOTRACK") || (target == Some("CT") && rule.has(&["--notrack"]));
        exempts && rule.is_to(ip) && rule.arg("--dport") == Some("53")
    };
    let chains = sets.iter().flat_map(|set| ["PREROUTING", "OUTPUT"].map(|chain| set.chain("raw", chain)));
    Some(chains.flatten().flat_map(|chain| &chain.rules).filter(untracked).count())
}

fn lines(record: &EvidenceRecord, sample: &Sample, ip: IpAddr, what: Wrong) -> Vec<Evidence> {
    let mut lines = Vec::new();
    let link = link_of(sample, ip).flatten();
    let links = format!("{} rtnetlink addresses", record.node);
    match (what, link) {
        (Wrong::LeftBehind, _) => lines.push(Evidence::new(links, format!("no link has {ip}, in two samples"))),
        (_, Some(link)) => lines.push(Evidence::new(links, format!("{link} has {ip}, in two samples"))),
        (_, None) => {}
    }
    let sockets = format!("{} /proc/net/udp", record.node);
    match what {
        Wrong::Deaf => lines.push(Evidence::new(sockets, format!("nothing listens on {ip}:53, in two samples"))),
        Wrong::Hung => lines.push(Evidence::new(
            sockets,
            format!(
                "{} bytes wait on {ip}:53 and are not read, in two samples",
                waiting(sample.host.listeners.value(), ip)
            ),
        )),
        Wrong::LeftBehind => {}
    }
    if let Some(rules) = exempt(&sample.host.netfilter, ip).filter(|rules| *rules > 0) {
        lines.push(Evidence::new(
            format!("{} table raw", record.node),
            format!("{rules} NOTRACK rules for {ip}: kube-proxy's DNAT does not apply"),
        ));
    }
    lines
}

fn waiting(listeners: Option<&SocketTable>, ip: IpAddr) -> u64 {
    let udp = listeners.into_iter().flat_map(|table| &table.udp);
    udp.filter(|socket| socket.ip == ip || socket.ip.is_unspecified()).map(|socket| socket.rx_queue).sum()
}
