//! Where a fault lies that no single node can place: the smallest set of nodes and pairs that explains what all of them
//! see. A sick pod is its own node's to name; what is left is a node that is gone, a node that is cut off, a broken pair,
//! or everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::NodeName;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence, Evidence, RuledOut, Scope, Subject};

use super::sight::{Look, Looks, SeenPod, Sight};

/// A failure must have stood for this long: whoever sees it has read twice by then, and would have named its own reason.
const SETTLED: Duration = Duration::from_secs(6);
/// A node of which nothing is known but that its agent is silent is not called dead before this time.
const SILENT: Duration = Duration::from_secs(60);
/// Until something has failed for this long, it is not named while others that see something fail, or are asked to look into
/// it, have not settled: which end is to blame, or whether it is more than a pair, would go by who reports first.
const HELD: Duration = Duration::from_secs(10);
/// What would make a broken pair that stands a fault of its other end must have failed for this long: packets that were lost
/// in one moment are deferred until a few rounds have answered.
const WIDER: Duration = Duration::from_secs(30);
/// Lines of evidence.
const LINES: usize = 14;

/// A cause that only the view of all nodes shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What is wrong.
    pub cause: Cause,
    /// How far it reaches.
    pub scope: Scope,
    /// What it is about.
    pub subject: Subject,
    /// How sure.
    pub confidence: Confidence,
    /// The nodes that see it fail.
    pub nodes: BTreeSet<NodeName>,
    /// What was read.
    pub evidence: Vec<Evidence>,
    /// What it is not.
    pub ruled_out: Vec<RuledOut>,
    /// CoreDNS pods whose failing it explains.
    pub explains: BTreeSet<Subject>,
}

/// One direction of a pair: from a node to a CoreDNS pod of another.
struct Direction<'a> {
    from: &'a NodeName,
    pod: &'a SeenPod,
    looks: &'a Looks,
}

impl Direction<'_> {
    /// For how long it has failed.
    fn age(&self) -> Duration {
        self.looks.deferred.as_ref().map(|(age, _)| *age).unwrap_or_default()
    }
}

type Pair<'a> = (&'a NodeName, &'a NodeName);

/// Places what fails. `standing`: nodes that such a verdict names already, preferred where either end would do.
/// `everything` is the subject of what concerns all nodes.
#[must_use]
pub fn judge(sight: &Sight, standing: &BTreeSet<NodeName>, everything: Option<&Subject>) -> Vec<Located> {
    // Pods come and go: their paths say nothing of the network.
    if sight.moving {
        return Vec::new();
    }
    let mut found = dead_nodes(sight);
    let gone: BTreeSet<&NodeName> =
        sight.pods.iter().filter(|p| found.iter().any(|f| f.explains.contains(&p.subject))).map(|p| &p.node).collect();
    let mut pairs = broken_pairs(sight, &gone);
    let beside: Vec<Pair<'_>> = pairs.keys().filter(|pair| widens(**pair, &pairs, standing)).copied().collect();
    for pair in beside {
        pairs.remove(&pair);
    }
    let old = pairs.values().flatten().any(|d| d.age() >= HELD);
    if standing.is_empty() && !old && unsettled(sight, &gone) {
        return found;
    }
    found.extend(cover(sight, pairs, standing, everything));
    found
}

/// Endpoints whose node is gone: nobody reaches them, and the API says that the node is not ready, or its agent has been
/// silent for long.
fn dead_nodes(sight: &Sight) -> Vec<Located> {
    let mut found = Vec::new();
    for pod in sight.pods.iter().filter(|pod| pod.endpoint.is_some() && !pod.examined) {
        let Some(node) = sight.nodes.get(&pod.node) else { continue };
        let (confidence, long, says) = match (node.ready, node.heard) {
            (Some(false), _) => (Confidence::Certain, SETTLED, "the API says that it is not ready"),
            (None, false) => (Confidence::Probable, SILENT, "its agent is silent, and its status could not be read"),
            (Some(true), _) | (None, true) => continue,
        };
        let fails: Vec<(&NodeName, &Looks)> = sight.failing(pod, long).collect();
        if fails.is_empty() || sight.reaching(pod).next().is_some() {
            continue;
        }
        let listed = match pod.endpoint {
            Some(true) => "as ready: every node still sends queries to it",
            _ => "as not ready",
        };
        let mut evidence = vec![
            Evidence::new(format!("Node {}", pod.node), says),
            Evidence::new("EndpointSlices", format!("{} is listed {listed}", pod.subject)),
        ];
        evidence.extend(fails.iter().map(|(from, looks)| line(from, pod, looks)));
        evidence.truncate(LINES);
        found.push(Located {
            cause: Cause::EndpointOnDeadNode,
            scope: Scope::CorednsPod,
            subject: pod.subject.clone(),
            confidence,
            nodes: fails.iter().map(|(from, _)| (*from).clone()).collect(),
            evidence,
            ruled_out: vec![
                not(Cause::NodePairBlocked, "no node reaches it, and its own node does not speak"),
                not(Cause::CorednsHung, "not even its own node's host answers for it"),
            ],
            explains: BTreeSet::from([pod.subject.clone()]),
        });
    }
    found
}

/// Whether the network between may be blamed for what fails to reach a pod, once both ends have looked for a reason.
fn in_question(sight: &Sight, pod: &SeenPod, gone: &BTreeSet<&NodeName>) -> bool {
    let well = sight.look(&pod.node, &pod.uid).is_some_and(|own| own.host_udp == Look::Reaches);
    let drained = sight.nodes.get(&pod.node).is_none_or(|node| node.cordoned);
    !pod.explained && well && !drained && !gone.contains(&pod.node)
}

/// Whether a node that cannot reach a pod may be believed that it knows no reason of its own.
fn counts(sight: &Sight, from: &NodeName, looks: &Looks) -> bool {
    let sick = sight.nodes.get(from).is_none_or(|node| node.sick);
    !sick && !looks.failing().is_empty()
}

/// Directions that fail though both ends looked for a reason and found none, by pair of nodes.
fn broken_pairs<'a>(sight: &'a Sight, gone: &BTreeSet<&NodeName>) -> BTreeMap<Pair<'a>, Vec<Direction<'a>>> {
    let mut pairs: BTreeMap<Pair<'a>, Vec<Direction<'a>>> = BTreeMap::new();
    for pod in sight.pods.iter().filter(|pod| pod.examined && in_question(sight, pod, gone)) {
        for (from, looks) in sight.failing(pod, SETTLED).filter(|(from, looks)| counts(sight, from, looks)) {
            let pair = if *from < pod.node { (from, &pod.node) } else { (&pod.node, from) };
            pairs.entry(pair).or_default().push(Direction { from, pod, looks });
        }
    }
    pairs
}

/// Whether something fails that has only just begun, or that the pod's own node has not looked into yet.
fn unsettled(sight: &Sight, gone: &BTreeSet<&NodeName>) -> bool {
    let fails = |pod: &SeenPod, long: Duration| {
        sight.failing(pod, long).filter(|(from, looks)| counts(sight, from, looks)).count()
    };
    let mut asked = sight.pods.iter().filter(|pod| in_question(sight, pod, gone));
    asked.any(|pod| {
        let all = fails(pod, Duration::ZERO);
        all > 0 && (!pod.examined || fails(pod, SETTLED) < all)
    })
}

/// Whether a pair that has not failed for long shares the end that is not named with a pair that stands: with it, the blame
/// would move from one end to the other.
fn widens(pair: Pair<'_>, pairs: &BTreeMap<Pair<'_>, Vec<Direction<'_>>>, standing: &BTreeSet<NodeName>) -> bool {
    let named = |pair: Pair<'_>| standing.contains(pair.0) || standing.contains(pair.1);
    let shares = |known: Pair<'_>| [known.0, known.1].iter().any(|end| *end == pair.0 || *end == pair.1);
    let beside = || pairs.keys().any(|known| named(*known) && shares(*known));
    let long = || pairs.get(&pair).into_iter().flatten().any(|d| d.age() >= WIDER);
    !named(pair) && beside() && !long()
}

/// The smallest set that explains the broken pairs: nodes that are cut off from all others first, then the pairs that are
/// left, one verdict per node that cannot be reached.
fn cover<'a>(
    sight: &'a Sight,
    mut pairs: BTreeMap<Pair<'a>, Vec<Direction<'a>>>,
    standing: &BTreeSet<NodeName>,
    everything: Option<&Subject>,
) -> Vec<Located> {
    let mut found = Vec::new();
    let partners = partners(sight);
    let cut_off = |pairs: &BTreeMap<Pair<'a>, Vec<Direction<'a>>>| {
        let mut degree: BTreeMap<&'a NodeName, usize> = BTreeMap::new();
        for (a, b) in pairs.keys() {
            *degree.entry(*a).or_default() += 1;
            *degree.entry(*b).or_default() += 1;
        }
        let all = |node: &NodeName, n: usize| n >= 2 && partners.get(node).is_some_and(|p| p.len() == n);
        let alone: Vec<&'a NodeName> =
            degree.iter().filter(|(node, n)| all(node, **n)).map(|(node, _)| *node).collect();
        alone
    };
    let alone = cut_off(&pairs);
    if alone.len() >= 2
        && alone.len() == partners.len()
        && let Some(subject) = everything
    {
        let directions: Vec<Direction<'_>> = std::mem::take(&mut pairs).into_values().flatten().collect();
        found.push(located(sight, Scope::Cluster, subject.clone(), &directions, Confidence::Probable));
        return found;
    }
    // Where every pair of two nodes' fails, the one that stands already, or the first, is named.
    let mut alone = alone;
    alone.sort_by_key(|node| !standing.contains(*node));
    for node in alone {
        let mine: Vec<Pair<'_>> = pairs.keys().filter(|(a, b)| *a == node || *b == node).copied().collect();
        if mine.len() < 2 {
            continue;
        }
        let directions: Vec<Direction<'_>> = mine.iter().filter_map(|pair| pairs.remove(pair)).flatten().collect();
        found.push(located(sight, Scope::Node, Subject::node(node), &directions, Confidence::Probable));
    }
    let mut by_subject: BTreeMap<&'a NodeName, Vec<Direction<'a>>> = BTreeMap::new();
    let mut sure: BTreeMap<&'a NodeName, bool> = BTreeMap::new();
    for ((a, b), directions) in pairs {
        // One that stands already is kept; else the first whose pod the other cannot reach, be it examined yet or not, so
        // that the order in which agents report does not decide.
        let kept = [a, b].into_iter().find(|node| standing.contains(*node));
        let first = [(a, b), (b, a)].into_iter().find(|(to, from)| cannot_reach(sight, from, to)).map(|(to, _)| to);
        let Some(subject) = kept.or(first).or_else(|| directions.first().map(|d| &d.pod.node)) else { continue };
        let certain = between(sight, a, b, &directions) && plain(sight, a) && plain(sight, b);
        *sure.entry(subject).or_insert(true) &= certain;
        by_subject.entry(subject).or_default().extend(directions);
    }
    for (node, directions) in by_subject {
        let confidence = if sure.get(node) == Some(&true) { Confidence::Certain } else { Confidence::Probable };
        found.push(located(sight, Scope::Node, Subject::node(node), &directions, confidence));
    }
    found
}

/// For every node, the nodes with which it exchanges DNS in either direction, or should.
fn partners(sight: &Sight) -> BTreeMap<&NodeName, BTreeSet<&NodeName>> {
    let mut partners: BTreeMap<&NodeName, BTreeSet<&NodeName>> = BTreeMap::new();
    for pod in &sight.pods {
        for ((from, uid), looks) in &sight.looks {
            let known = !looks.failing().is_empty() || looks.reaches();
            if *uid == pod.uid && *from != pod.node && known {
                partners.entry(from).or_default().insert(&pod.node);
                partners.entry(&pod.node).or_default().insert(from);
            }
        }
    }
    partners
}

/// Whether both ends are known to be well by a third: each exchanges DNS with some other node over what fails between them.
fn between(sight: &Sight, a: &NodeName, b: &NodeName, directions: &[Direction<'_>]) -> bool {
    let failing: BTreeSet<Transport> = directions.iter().flat_map(|d| d.looks.failing()).collect();
    let good = |looks: &Looks| failing.iter().all(|t| looks.over(*t) == Look::Reaches);
    let well = |node: &NodeName, other: &NodeName| {
        sight.pods.iter().any(|pod| {
            sight.looks.iter().any(|((from, uid), looks)| {
                let to_it = pod.node == *node && from != node && from != other;
                let from_it = from == node && pod.node != *node && pod.node != *other;
                *uid == pod.uid && (to_it || from_it) && good(looks)
            })
        })
    };
    well(a, b) && well(b, a)
}

/// Whether a node cannot reach some CoreDNS pod of another.
fn cannot_reach(sight: &Sight, from: &NodeName, to: &NodeName) -> bool {
    let fails = |pod: &SeenPod| sight.failing(pod, Duration::ZERO).any(|(node, _)| node == from);
    sight.pods.iter().any(|pod| pod.node == *to && fails(pod))
}

fn plain(sight: &Sight, node: &NodeName) -> bool {
    sight.nodes.get(node).is_some_and(|node| node.unmodelled.is_empty())
}

fn located(
    sight: &Sight,
    scope: Scope,
    subject: Subject,
    directions: &[Direction<'_>],
    confidence: Confidence,
) -> Located {
    let mut evidence: Vec<Evidence> = directions.iter().map(|d| line(d.from, d.pod, d.looks)).collect();
    evidence.truncate(LINES - 4);
    let ends: BTreeSet<&NodeName> = directions.iter().flat_map(|d| [d.from, &d.pod.node]).collect();
    let mut examined: Vec<&NodeName> = directions.iter().map(|d| &d.pod.node).collect();
    examined.dedup();
    for node in examined.iter().take(2) {
        let says = "its own host is answered; it looked into the complaints twice and found nothing that drops them";
        evidence.push(Evidence::new(format!("agent of {node}"), says));
    }
    let third = sight.pods.iter().find_map(|pod| {
        let reached = ends.contains(&pod.node).then(|| sight.reaching(pod).find(|from| !ends.contains(from)))?;
        Some((reached?, pod))
    });
    if let Some((from, pod)) = third {
        let says = "udp answers, tcp answers".to_owned();
        evidence.push(Evidence::new(format!("{from} → {} on {}", pod.subject, pod.node), says));
    } else if ends.len() == 2 && scope == Scope::Node {
        let says = "no third node exchanges DNS with either: which end it is cannot be told";
        evidence.push(Evidence::new("all reports", says));
    }
    for node in &ends {
        if let Some(what) = sight.nodes.get(*node).filter(|seen| !seen.unmodelled.is_empty()) {
            evidence.push(Evidence::new(format!("{node} not modelled"), what.unmodelled.join("; ")));
        }
    }
    evidence.truncate(LINES);
    Located {
        cause: Cause::NodePairBlocked,
        scope,
        subject,
        confidence,
        nodes: directions.iter().map(|d| d.from.clone()).collect(),
        evidence,
        ruled_out: vec![
            not(Cause::CorednsUdpDead, "the host of the pod's own node is answered"),
            not(Cause::EndpointOnDeadNode, "the agents of both ends speak"),
            not(Cause::PacketFilterDrop, "no rule of either node that is known how to read counts the packets"),
        ],
        explains: directions.iter().map(|d| d.pod.subject.clone()).collect(),
    }
}

fn line(from: &NodeName, pod: &SeenPod, looks: &Looks) -> Evidence {
    let word = |look: Look| match look {
        Look::Unknown => "not known",
        Look::Reaches => "answers",
        Look::Fails => "does not answer",
    };
    let because = looks.deferred.as_ref().map(|(_, because)| format!(" ({because})")).unwrap_or_default();
    let says = format!("udp {}, tcp {}{because}", word(looks.udp), word(looks.tcp));
    Evidence::new(format!("{from} → {} on {}", pod.subject, pod.node), says)
}

fn not(cause: Cause, because: &str) -> RuledOut {
    RuledOut { what: cause.id().to_owned(), because: because.to_owned() }
}

#[cfg(test)]
mod tests;
