//! The breakers of the two layers. Many nodes with the same fault of their own forbid repairs of nodes: three of them and more than a fifth,
//! or, where nodes would be changed for it, half. Nodes that were repaired for it within ten minutes count as if they had it still, as long as
//! one has. An act that made CoreDNS worse forbids shared acts for ten minutes. Which are open is told to metrics, and stands in incidents.

use std::collections::{BTreeMap, BTreeSet};

use nameward_config::ceilings::{STORM_NODES, STORM_PERCENT};
use nameward_config::ladders::changes_nodes;
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::guarding::Breaker;
use nameward_messages::verdict::{Cause, Evidence, Subject};
use nameward_messages::{Mono, NodeName, Now};

use super::{CoordinatorMind, Output};

/// A fault of more nodes and pods than this, if it is no storm in a large cluster, is one incident all the same.
const GROUPED: usize = 20;
/// If so many nodes name it: one alone says what it likes.
const GROUPED_NODES: usize = STORM_NODES as usize;

/// Nodes that share a fault of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storm {
    pub(super) cause: Cause,
    /// In this zone; `None`: counted over the whole cluster.
    pub(super) zone: Option<String>,
    pub(super) nodes: BTreeSet<NodeName>,
    /// Others that were repaired for it lately.
    pub(super) repaired: BTreeSet<NodeName>,
    /// Nodes there.
    pub(super) of: u32,
}

/// Where a storm stands or stood a moment ago: looked up once for all nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Stormy {
    everywhere: bool,
    nodes: BTreeSet<NodeName>,
}

impl Stormy {
    pub(super) fn has(&self, node: &NodeName) -> bool {
        self.everywhere || self.nodes.contains(node)
    }
}

/// The storms that stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Storms {
    pub(super) standing: Vec<Storm>,
    /// Causes that were a storm, or of very many subjects, and that some node names still: they stay one incident until the last
    /// node is well.
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

    /// No storm stands, and none has ended within the cool-down.
    pub(super) fn quiet(&self) -> bool {
        self.last.is_empty() && self.standing.is_empty()
    }

    /// When the last storm that concerns this zone was seen.
    pub(super) fn last_over(&self, zone: Option<&String>) -> Option<Mono> {
        let of_zone = zone.and_then(|zone| self.last.get(&Some(zone.clone())));
        self.last.get(&None).into_iter().chain(of_zone).max().copied()
    }

    /// What a person reads about a grouped cause.
    pub(super) fn summary(&self, cause: Cause, nodes: &BTreeSet<NodeName>, of: usize) -> String {
        let says = cause.about().says;
        let storm = self.standing.iter().find(|storm| storm.cause == cause);
        let where_to = match storm.and_then(|s| s.zone.as_ref()) {
            Some(zone) => format!(" (zone {zone})"),
            None => String::new(),
        };
        let (repaired, no_node) = match storm.map_or(0, |s| s.repaired.len()) {
            0 => (String::new(), "no node"),
            n => (format!(", and {n} more had it until they were repaired less than ten minutes ago"), "no other node"),
        };
        if storm.is_none() {
            let nodes = nodes.len();
            return format!(
                "{nodes} of {of} nodes have the same fault, each {says}: too many for an incident each; it may come from elsewhere"
            );
        }
        format!(
            "{} of {of} nodes{where_to} have the same fault, each {says}{repaired}; {no_node} is repaired, since a fault of many nodes comes from elsewhere",
            nodes.len()
        )
    }

    /// The evidence that makes it one incident.
    pub(super) fn evidence(&self, cause: Cause) -> Vec<Evidence> {
        let line = |storm: &Storm| {
            let of = storm.zone.as_ref().map_or("the cluster".to_owned(), |zone| format!("zone {zone}"));
            let repaired = match storm.repaired.len() {
                0 => String::new(),
                n => format!("; {n} more were repaired in the last ten minutes as they would be"),
            };
            Evidence::new(
                "reports of the nodes",
                format!("{} of {} nodes of {of} name {cause}{repaired}", storm.nodes.len(), storm.of),
            )
        };
        self.standing.iter().filter(|storm| storm.cause == cause).map(line).collect()
    }
}

/// Whether so many of so many are no fault of single nodes any more. Of few nodes two can be half, and then nobody can tell which is the odd one.
fn many(cause: Cause, alike: usize, of: usize) -> bool {
    let several = alike >= STORM_NODES as usize && alike * 100 > of * STORM_PERCENT as usize;
    several || (changes_nodes(cause) && alike >= 2 && alike * 2 >= of)
}

/// Every storm: per zone where nodes have one, and over the whole cluster.
fn storms(
    alike: &BTreeMap<Cause, BTreeSet<NodeName>>,
    repaired: impl Fn(Cause) -> BTreeSet<NodeName>,
    view: &ClusterView,
) -> Vec<Storm> {
    let mut zones: BTreeMap<Option<String>, BTreeSet<&NodeName>> = BTreeMap::new();
    for node in view.nodes.iter().filter(|node| !node.terminating) {
        zones.entry(None).or_default().insert(&node.name);
        if node.zone.is_some() {
            zones.entry(node.zone.clone()).or_default().insert(&node.name);
        }
    }
    let mut found = Vec::new();
    for (cause, nodes) in alike {
        let repaired = repaired(*cause);
        for (zone, members) in &zones {
            let there: BTreeSet<NodeName> = nodes.iter().filter(|node| members.contains(node)).cloned().collect();
            let well = repaired.iter().filter(|node| members.contains(node) && !there.contains(*node));
            let well: BTreeSet<NodeName> = well.cloned().collect();
            if !there.is_empty() && many(*cause, there.len() + well.len(), members.len()) {
                let of = u32::try_from(members.len()).unwrap_or(u32::MAX);
                found.push(Storm { cause: *cause, zone: zone.clone(), nodes: there, repaired: well, of });
            }
        }
    }
    found
}

impl CoordinatorMind {
    /// Looks which breakers are open, and tells when that changes.
    pub(super) fn watch_breakers(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let alike = self.claims.alike();
        let standing = storms(&alike, |cause| self.repaired.lately(now.mono, cause), view);
        let book = &mut self.storms;
        book.grouped.extend(standing.iter().map(|storm| storm.cause));
        book.grouped.extend(
            alike
                .iter()
                .filter(|(cause, nodes)| nodes.len() >= GROUPED_NODES && self.claims.subjects(**cause) > GROUPED)
                .map(|(cause, _)| *cause),
        );
        book.grouped.retain(|cause| alike.contains_key(cause));
        let cool_down = self.config.remedy.cool_down.0;
        book.last.retain(|_, last| now.mono.since(*last) < cool_down);
        // After the others are forgotten: one that stands forbids, however short the cool-down.
        for storm in &standing {
            book.last.insert(storm.zone.clone(), now.mono);
        }
        book.standing = standing;
        let coredns = self.breaker_until.is_some_and(|until| now.mono < until);
        for (breaker, open) in [(Breaker::Node, !book.last.is_empty()), (Breaker::Coredns, coredns)] {
            if book.told.insert(breaker, open) != Some(open) {
                out.push(Output::Breaker { breaker, open });
            }
        }
    }

    /// The nodes that may hold no permit: a storm in their zone or everywhere, now or a cool-down ago.
    pub(super) fn stormy_nodes(&self, view: &ClusterView) -> Stormy {
        let everywhere = self.storms.last_over(None).is_some();
        let mut nodes = BTreeSet::new();
        if !everywhere && !self.storms.last.is_empty() {
            let there = view.nodes.iter().filter(|n| self.storms.last_over(n.zone.as_ref()).is_some());
            nodes.extend(there.map(|n| n.name.clone()));
        }
        Stormy { everywhere, nodes }
    }
}

/// What the one incident of many nodes is about: the DNS Service, which all of them cannot use.
pub(super) fn subject_of_many(view: &ClusterView) -> Option<Subject> {
    use nameward_messages::verdict::SubjectKind;
    let service = view.targets.service.as_ref().map(|s| Subject::object(SubjectKind::Service, &s.key));
    service.or_else(|| view.workload.as_ref().map(|w| Subject::object(SubjectKind::Deployment, &w.key)))
}
