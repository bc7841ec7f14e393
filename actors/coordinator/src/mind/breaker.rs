//! The breakers of the two layers. Many nodes with the same fault of their own forbid repairs of nodes; an act that made
//! CoreDNS worse forbids shared acts for ten minutes. Which are open is told to metrics, and stands in incidents.

use std::collections::{BTreeMap, BTreeSet};

use nameward_config::ceilings::{STORM_NODES, STORM_PERCENT};
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::guarding::Breaker;
use nameward_messages::verdict::{Cause, Evidence, Subject};
use nameward_messages::{Mono, NodeName, Now};

use super::{CoordinatorMind, Output};

/// Nodes that share a fault of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storm {
    pub(super) cause: Cause,
    /// In this zone; `None`: counted over the whole cluster.
    pub(super) zone: Option<String>,
    pub(super) nodes: BTreeSet<NodeName>,
    /// Nodes there.
    pub(super) of: u32,
}

/// The storms that stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Storms {
    pub(super) standing: Vec<Storm>,
    /// Causes that were a storm and that some node names still: they stay one incident until the last node is well.
    grouped: BTreeSet<Cause>,
    /// When permits were last withdrawn, by zone and (`None`) for all.
    last: BTreeMap<Option<String>, Mono>,
    told: BTreeMap<Breaker, bool>,
}

impl Storms {
    /// Whether incidents of this cause are one.
    pub(super) fn groups(&self, cause: Cause) -> bool {
        self.grouped.contains(&cause)
    }

    /// When the last storm that concerns this zone was seen.
    pub(super) fn last_over(&self, zone: Option<&String>) -> Option<Mono> {
        let of_zone = zone.and_then(|zone| self.last.get(&Some(zone.clone())));
        self.last.get(&None).into_iter().chain(of_zone).max().copied()
    }

    /// What a person reads about a grouped cause.
    pub(super) fn summary(&self, cause: Cause, nodes: &BTreeSet<NodeName>, of: usize) -> String {
        let says = cause.about().says;
        let where_to = match self.standing.iter().find(|storm| storm.cause == cause).and_then(|s| s.zone.as_ref()) {
            Some(zone) => format!(" (zone {zone})"),
            None => String::new(),
        };
        format!(
            "{} of {of} nodes{where_to} have the same fault, each {says}; no node is repaired, since a fault of many nodes comes from elsewhere",
            nodes.len()
        )
    }

    /// The evidence that makes it one incident.
    pub(super) fn evidence(&self, cause: Cause) -> Vec<Evidence> {
        let line = |storm: &Storm| {
            let of = storm.zone.as_ref().map_or("the cluster".to_owned(), |zone| format!("zone {zone}"));
            Evidence::new(
                "reports of the nodes",
                format!("{} of {} nodes of {of} name {cause}", storm.nodes.len(), storm.of),
            )
        };
        self.standing.iter().filter(|storm| storm.cause == cause).map(line).collect()
    }
}

/// Whether so many of so many are no fault of single nodes any more.
fn many(alike: usize, of: usize) -> bool {
    alike >= STORM_NODES as usize && alike * 100 > of * STORM_PERCENT as usize
}

/// Every storm: per zone where nodes have one, and over the whole cluster.
fn storms(alike: &BTreeMap<Cause, BTreeSet<NodeName>>, view: &ClusterView) -> Vec<Storm> {
    let mut zones: BTreeMap<Option<String>, BTreeSet<&NodeName>> = BTreeMap::new();
    for node in view.nodes.iter().filter(|node| !node.terminating) {
        zones.entry(None).or_default().insert(&node.name);
        if node.zone.is_some() {
            zones.entry(node.zone.clone()).or_default().insert(&node.name);
        }
    }
    let mut found = Vec::new();
    for (cause, nodes) in alike {
        for (zone, members) in &zones {
            let there: BTreeSet<NodeName> = nodes.iter().filter(|node| members.contains(node)).cloned().collect();
            if many(there.len(), members.len()) {
                let of = u32::try_from(members.len()).unwrap_or(u32::MAX);
                found.push(Storm { cause: *cause, zone: zone.clone(), nodes: there, of });
            }
        }
    }
    found
}

impl CoordinatorMind {
    /// Looks which breakers are open, and tells when that changes.
    pub(super) fn watch_breakers(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let alike = self.claims.alike();
        let standing = storms(&alike, view);
        let book = &mut self.storms;
        book.grouped.extend(standing.iter().map(|storm| storm.cause));
        book.grouped.retain(|cause| alike.contains_key(cause));
        for storm in &standing {
            book.last.insert(storm.zone.clone(), now.mono);
        }
        book.standing = standing;
        let cool_down = self.config.remedy.cool_down.0;
        book.last.retain(|_, last| now.mono.since(*last) < cool_down);
        let coredns = self.breaker_until.is_some_and(|until| now.mono < until);
        for (breaker, open) in [(Breaker::Node, !book.last.is_empty()), (Breaker::Coredns, coredns)] {
            if book.told.insert(breaker, open) != Some(open) {
                out.push(Output::Breaker { breaker, open });
            }
        }
    }

    /// Whether this node may hold no permit: a storm in its zone or everywhere, now or a cool-down ago.
    pub(super) fn stormy(&self, view: &ClusterView, node: &NodeName) -> bool {
        let zone = view.nodes.iter().find(|n| n.name == *node).and_then(|n| n.zone.as_ref());
        self.storms.last_over(zone).is_some()
    }
}

/// What the one incident of many nodes is about: the DNS Service, which all of them cannot use.
pub(super) fn subject_of_many(view: &ClusterView) -> Option<Subject> {
    use nameward_messages::verdict::SubjectKind;
    let service = view.targets.service.as_ref().map(|s| Subject::object(SubjectKind::Service, &s.key));
    service.or_else(|| view.workload.as_ref().map(|w| Subject::object(SubjectKind::Deployment, &w.key)))
}
