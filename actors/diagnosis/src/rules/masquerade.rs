//! F43: what pods send out of the cluster leaves the node with their own address, and no answer finds its way back.

use std::net::{IpAddr, SocketAddr};

use nameward_kernel::flows::FlowGroup;
use nameward_kernel::iptables::{Rule, RuleSet};
use nameward_messages::PodUid;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Observation, Outcome, QuestionKind};
use nameward_messages::targets::DnsPod;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, Tally, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Sample};
use crate::rules::upstream::LATELY;
use crate::rules::upstream::fails_inside;

/// Deepest walk through chains.
const DEPTH: usize = 8;

/// `masquerade-missing`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let mut tally = Tally::default();
    for pod in record.local_dns_pods() {
        let Some(namespace) = record.namespaces.get(&pod.uid) else { continue };
        for ip in namespace.resolv.nameservers.iter().filter(|ip| !ip.is_loopback() && !record.is_cluster_dns(**ip)) {
            tally.add(one(view, pod, *ip));
        }
    }
    match tally.done() {
        // The node is what is wrong, however many upstreams show it.
        RuleResult::Verdicts(mut findings) => {
            findings.truncate(1);
            RuleResult::Verdicts(findings)
        }
        other => other,
    }
}

fn one(view: &View<'_>, pod: &DnsPod, upstream: IpAddr) -> RuleResult {
    let record = view.record;
    let outer = [QuestionKind::External, QuestionKind::Extra].into_iter().find_map(|question| {
        // Where an internal name fails on the same way it is not the name.
        let pick = Pick { pod: Some(&pod.uid), question: Some(question), ..Pick::default() };
        view.bad(pick).find(|(path, _)| !fails_inside(view, path))
    });
    let Some((path, state)) = outer else { return RuleResult::NotApplicable };
    // Nothing gets out without it, be it asked ever so often.
    let outside = Pick { pod: Some(&pod.uid), question: Some(path.question), ..Pick::default() };
    if let Some((good, _)) = record.matrix.good(outside).next() {
        return RuleResult::RuledOut(format!("{} resolves external names for {}", pod.key, good.vantage));
    }
    let inner = Pick { pod: Some(&pod.uid), question: Some(QuestionKind::Internal), ..Pick::default() };
    if record.matrix.good(inner).next().is_none() {
        return RuleResult::RuledOut(format!("{} does not resolve internal names either", pod.key));
    }
    let Some(from_pod) = vantage(record, &pod.uid) else { return RuleResult::NotApplicable };
    let (by_host, by_pod) = (record.asked(&Vantage::Host, upstream).last(), record.asked(&from_pod, upstream).last());
    let (Some(by_host), Some(by_pod)) = (by_host, by_pod) else {
        return RuleResult::Waiting("the upstream is being asked by the host and by CoreDNS".to_owned());
    };
    if !by_host.outcome.replied() {
        return RuleResult::RuledOut(format!("{upstream} does not answer the host either"));
    }
    let mut lately = record.asked(&from_pod, upstream).filter(|o| by_pod.at.since(o.at) <= LATELY);
    if lately.any(|o| o.outcome.replied()) {
        return RuleResult::RuledOut(format!("{upstream} answers part of what CoreDNS asks it"));
    }
    if by_pod.outcome != Outcome::Timeout {
        return RuleResult::RuledOut(format!("{upstream} and CoreDNS: {}", by_pod.outcome));
    }
    let both = |before: &Sample, after: &Sample| {
        let (before, after) = (before.host.flows.value()?, after.host.flows.value()?);
        Some(pod.ips.iter().find_map(|own| Some((*own, leaves_bare(before, after, *own, upstream)?))))
    };
    let bare = record.moved(|before, after| both(before, after).map(|found| found.is_some()));
    let against = "what CoreDNS sends to the upstream is masqueraded, answered, or does not leave the node";
    let mut sure = match confidence(record, bare, false, against) {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let (Some(before), Some(sample)) = (&record.previous, &record.current) else { return RuleResult::NotApplicable };
    let Some((own, client)) = both(before, sample).flatten() else { return RuleResult::NotApplicable };
    let mut evidence = vec![
        probe_line(path, state.failing.as_ref().unwrap_or(&state.last)),
        line(by_host),
        line(by_pod),
        Evidence::new(
            format!("{} conntrack", record.node),
            format!("{client} -> {upstream}:53 UNREPLIED and not masqueraded, in two samples: it has left the node so"),
        ),
    ];
    let place = format!("{} nat POSTROUTING", record.node);
    match masquerades(sample, own, upstream) {
        Some(true) => {
            // A rule that looks as if it applied did not: something else decides, and it is not known what.
            sure = sure.min(Confidence::Probable);
            evidence.push(Evidence::new(
                place,
                format!("a MASQUERADE or SNAT rule seems to be for {own}, and was not applied"),
            ));
        }
        Some(false) => evidence.push(Evidence::new(place, format!("no MASQUERADE or SNAT rule for {own}"))),
        None => sure = sure.min(Confidence::Probable),
    }
    // What this pod cannot resolve fails for everybody who asks it, and for a part of those who ask the Service.
    let outside = |question| question == QuestionKind::External || question == QuestionKind::Extra;
    let own_pods: Vec<&PodUid> = record.local_dns_pods().map(|p| &p.uid).collect();
    let explains = view
        .open
        .iter()
        .filter(|path| outside(path.question))
        .filter(|path| match crate::matrix::target_pod(path) {
            Some(uid) => own_pods.contains(&uid),
            None => true,
        })
        .cloned()
        .collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::MasqueradeMissing,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::UpstreamDead, format!("{upstream} answers the host of the same node")),
            not(Cause::PacketFilterDrop, "conntrack confirms an entry only when its packet leaves the node"),
        ],
        explains,
    }])
}

/// A client of an entry from the pod to the upstream that left the node as it was and was not answered, in both samples: what
/// is in one alone may have been sent just then.
fn leaves_bare(before: &[FlowGroup], after: &[FlowGroup], own: IpAddr, upstream: IpAddr) -> Option<SocketAddr> {
    let upstream = SocketAddr::new(upstream, 53);
    // One entry that was masqueraded would show that the rule is there: others are of before it was.
    if after.iter().any(|g| g.destination == upstream && g.masqueraded && g.replied > 0) {
        return None;
    }
    let old: Vec<&FlowGroup> = bare(before, upstream).collect();
    for group in bare(after, upstream) {
        let known = |client: &SocketAddr| old.iter().any(|g| g.clients.contains(client));
        // The network knows the pods' addresses if it has answered one since.
        let answered = |client: &&SocketAddr| !known(client) && !group.unanswered.contains(client);
        if group.clients.iter().filter(|client| client.ip() == own).any(|client| answered(&client)) {
            return None;
        }
    }
    let lost = |client: &&SocketAddr| client.ip() == own && old.iter().any(|g| g.unanswered.contains(*client));
    bare(after, upstream).flat_map(|g| &g.unanswered).find(lost).copied()
}

/// Entries to the upstream that were neither masqueraded nor sent elsewhere, to a proxy on this node perhaps.
fn bare(groups: &[FlowGroup], upstream: SocketAddr) -> impl Iterator<Item = &FlowGroup> {
    groups.iter().filter(move |g| g.destination == upstream && !g.masqueraded && g.untranslated())
}

fn vantage(record: &EvidenceRecord, uid: &PodUid) -> Option<Vantage> {
    let namespace = record.namespaces.get(uid)?;
    Some(Vantage::Pod { uid: uid.clone(), key: namespace.key.clone(), cookie: namespace.cookie })
}

fn line(seen: &Observation) -> Evidence {
    probe_line(&seen.path, &seen.outcome)
}

/// Whether a rule of nat POSTROUTING, or of a chain that it leads to, would change the source of a packet from a pod to an
/// address. Marks are passed by: kube-proxy marks what goes to Services.
fn masquerades(sample: &Sample, from: IpAddr, to: IpAddr) -> Option<bool> {
    let netfilter = &sample.host.netfilter;
    let sets: Vec<&RuleSet> =
        [&netfilter.iptables_nft, &netfilter.iptables_legacy].into_iter().filter_map(|r| r.value()).collect();
    (!sets.is_empty()).then(|| sets.iter().any(|set| walk(set, "POSTROUTING", from, to, 0)))
}

fn walk(set: &RuleSet, chain: &str, from: IpAddr, to: IpAddr, depth: usize) -> bool {
    let Some(chain) = set.chain("nat", chain).filter(|_| depth < DEPTH) else { return false };
    for rule in &chain.rules {
        let Some(target) = rule.target.as_deref() else { continue };
        let unmarked = rule.arg("--mark").is_none();
        let positive_mark = rule.has(&["-m", "mark"]) && !unmarked;
        if positive_mark || !may_match(rule, from, to) {
            continue;
        }
        match target {
            "MASQUERADE" | "SNAT" => return true,
            // `-m mark ! --mark X -j RETURN`: what is not marked goes back.
            "RETURN" | "ACCEPT" => return false,
            other if walk(set, other, from, to, depth + 1) => return true,
            _ => {}
        }
    }
    false
}

fn may_match(rule: &Rule, from: IpAddr, to: IpAddr) -> bool {
    let fits = |option: &str, ip: IpAddr| {
        let plain = rule.arg(option).map(|range| within(range, ip));
        let negated = rule.words.windows(3).find(|w| w[0] == "!" && w[1] == option).map(|w| !within(&w[2], ip));
        plain.unwrap_or(true) && negated.unwrap_or(true)
    };
    fits("-s", from) && fits("-d", to)
}

/// Whether an address lies in `ADDRESS/PREFIX`. What is not understood counts as lying in it.
fn within(range: &str, ip: IpAddr) -> bool {
    let (address, prefix) = range.split_once('/').unwrap_or((range, "32"));
    match (address.parse::<IpAddr>(), ip, prefix.parse::<u32>()) {
        (Ok(IpAddr::V4(net)), IpAddr::V4(ip), Ok(bits @ 0..=32)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(net) & mask == u32::from(ip) & mask
        }
        _ => true,
    }
}
