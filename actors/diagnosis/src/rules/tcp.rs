//! F28: TCP to port 53 is blocked, and no rule that could be read does it. Where a rule does, it is named itself.

use std::collections::BTreeSet;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Observation, Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::finding::{Finding, RuleResult, View, not, probe_line};
use crate::matrix::Pick;
use crate::rules::answers::twice;

/// Rounds in a row.
const STEADY: u32 = 3;

/// `tcp-53-blocked`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let pick = Pick { transport: Some(Transport::Tcp), question: Some(QuestionKind::Internal), ..Pick::default() };
    // Answered since TCP fails: what answered before may be failing by now.
    let by_udp = |path: &PathKey, since: Option<nameward_messages::Mono>| {
        let udp = PathKey { transport: Transport::Udp, ..path.clone() };
        let seen = record.matrix.get(&udp);
        seen.is_some_and(|s| s.suspected.is_none() && s.last.good() == Some(true) && since.is_none_or(|t| s.at >= t))
    };
    // What fails over UDP as well is another matter, and gets its share of what the Service is asked over TCP.
    let servers = Pick { any_pod: true, ..pick };
    let met_a_dead_one = record.matrix.bad(servers).any(|(path, s)| !by_udp(path, s.suspected));
    let counts = |path: &PathKey| match path.target.kind {
        TargetKind::Pod { .. } => true,
        TargetKind::Service => !met_a_dead_one,
        TargetKind::Nameserver | TargetKind::Upstream => false,
    };
    let lost: Vec<&PathKey> = view
        .bad(pick)
        // Neither refused nor connected: no packet came back.
        .filter(|(path, s)| *s.failing.as_ref().unwrap_or(&s.last) == Outcome::Timeout && by_udp(path, s.suspected))
        .map(|(path, _)| path)
        .filter(|path| counts(path))
        .collect();
    let Some(first) = lost.first() else { return RuleResult::NotApplicable };
    let targets: BTreeSet<_> = lost.iter().map(|path| &path.target).collect();
    let far = |path: &&&PathKey| match &path.target.kind {
        TargetKind::Pod { node, .. } => node.as_ref() != Some(&record.node),
        TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => false,
    };
    // A server that fails gets its share of what the Service is asked.
    let servers = targets.iter().filter(|target| matches!(target.kind, TargetKind::Pod { .. })).count();
    let all_far = lost.iter().all(|path| far(&path) || matches!(path.target.kind, TargetKind::Service));
    // And so does a server that fails over both: then the Service alone is left here.
    let share = servers == 0 && record.matrix.bad(Pick { any_pod: true, ..pick }).next().is_some();
    if share {
        return RuleResult::RuledOut(
            "CoreDNS pods fail over TCP and UDP alike: the Service has its share of that".to_owned(),
        );
    }
    // Where the host gets through and its pods do not, it is lost between the two, on this node.
    let host_gets_through = lost.iter().filter(far).all(|path| {
        let by_host = PathKey { vantage: Vantage::Host, ..(**path).clone() };
        record.matrix.get(&by_host).is_some_and(|s| s.suspected.is_none() && s.last.good() == Some(true))
    });
    if servers == 0 {
        return RuleResult::RuledOut(
            "every CoreDNS pod answers over TCP: what is done to the Service alone decides".to_owned(),
        );
    }
    if servers == 1 && all_far && !host_gets_through {
        return RuleResult::RuledOut(format!("only {} cannot be reached over TCP: its node judges", first.target));
    }
    // What comes and goes on the way to one distant server meets either transport by chance: this one goes on and on.
    let steady = |path: &&PathKey| {
        let udp = PathKey { transport: Transport::Udp, ..(**path).clone() };
        let fails = record.matrix.get(path).is_some_and(|s| s.bad_run >= STEADY);
        fails && record.matrix.get(&udp).is_some_and(|s| s.good_run >= STEADY)
    };
    if servers == 1 && all_far && !lost.iter().filter(far).any(steady) {
        return RuleResult::Waiting("whether TCP alone goes on failing is awaited".to_owned());
    }
    if !lost.iter().any(|path| twice(record, path)) {
        return RuleResult::Waiting("a second sample is awaited".to_owned());
    }
    let froms: BTreeSet<&Vantage> = lost.iter().map(|path| &path.vantage).collect();
    let others = record.matrix.good(pick).any(|(path, _)| !froms.contains(&path.vantage));
    let (scope, subject) = match froms.first() {
        Some(Vantage::Pod { uid, key, .. }) if froms.len() == 1 && others => (Scope::Pod, Subject::pod(key, uid)),
        _ => (Scope::Node, Subject::node(&record.node)),
    };
    let cut = |o: &&Observation| o.path.question == QuestionKind::Large && o.outcome == Outcome::Truncated;
    let truncated = record.probes.iter().rev().find(cut);
    let mut evidence: Vec<Evidence> = lost.iter().take(4).map(|path| probe_line(path, &Outcome::Timeout)).collect();
    let udp = PathKey { transport: Transport::Udp, ..(*first).clone() };
    evidence.extend(record.matrix.get(&udp).map(|s| probe_line(&udp, &s.last)));
    evidence.push(match truncated {
        Some(seen) => probe_line(&seen.path, &seen.outcome),
        None => Evidence::new("probe", "whether answers are cut over UDP now is not known (probe.large_name)"),
    });
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::Tcp53Blocked,
        scope,
        subject,
        // What blocks it was not read.
        confidence: Confidence::Probable,
        evidence,
        ruled_out: vec![
            not(Cause::CorednsHung, "no connection is made at all, and UDP is answered"),
            not(Cause::PacketFilterDrop, "no rule that could be read loses it"),
            not(Cause::NodePairBlocked, "more than one CoreDNS pod or the Service is concerned, and UDP gets through"),
        ],
        explains: view
            .open
            .iter()
            .filter(|p| p.transport == Transport::Tcp && froms.contains(&p.vantage) && targets.contains(&p.target))
            .cloned()
            .collect(),
    }])
}
