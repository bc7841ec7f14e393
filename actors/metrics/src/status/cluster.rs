//! The cluster: figures, and the matrix of what every node reports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::QuestionKind;
use nameward_messages::report::{MatrixRow, NodeReport};
use nameward_messages::status::{ClusterFigures, Matrix, MatrixOf, PathState, Seen};
use nameward_messages::targets::{Targets, Transport};
use nameward_messages::{Mono, NodeName, PodUid};

use super::grid::{Column, Grid, Line};

/// A node and what its agent reports. For whoever has read the resources and no [`ClusterView`].
#[derive(Clone, Copy, Debug)]
pub struct Reported<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// What its agent last wrote.
    pub report: Option<&'a NodeReport>,
    /// That was too long ago.
    pub silent: bool,
}

impl Reported<'_> {
    fn current(&self) -> Option<&NodeReport> {
        self.report.filter(|_| !self.silent)
    }
}

pub(super) fn reported(view: &ClusterView, now: Mono, stale_after: Duration) -> Vec<Reported<'_>> {
    let agents: BTreeMap<_, _> = view.agents.iter().map(|agent| (&agent.name, agent)).collect();
    let nodes = view.nodes.iter().filter(|node| !node.terminating);
    nodes
        .map(|node| {
            let agent = agents.get(&node.name);
            let report = agent.and_then(|agent| agent.report.as_deref());
            let silent = agent.is_none_or(|agent| now.since(agent.changed_at) > stale_after) || report.is_none();
            Reported { node: &node.name, report, silent }
        })
        .collect()
}

pub(super) fn of_view(view: &ClusterView, now: Mono, stale_after: Duration) -> ClusterFigures {
    figures(&view.targets, &reported(view, now, stale_after))
}

pub(super) fn matrix_of(view: &ClusterView, now: Mono, stale_after: Duration) -> Option<Matrix> {
    matrix(&view.targets, &reported(view, now, stale_after))
}

/// What agents say that no rule knows how to read, each with the nodes that say so.
pub(super) fn unmodelled(view: &ClusterView) -> Vec<String> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for agent in &view.agents {
        for what in agent.report.iter().flat_map(|report| &report.unmodelled) {
            found.entry(what).or_default().push(agent.name.as_str());
        }
    }
    found.into_iter().map(|(what, nodes)| format!("not modelled, {}: {what}", some(&nodes))).collect()
}

fn some(nodes: &[&str]) -> String {
    match nodes {
        [one] => format!("on {one}"),
        [one, ..] => format!("on {one} and {} more nodes", nodes.len() - 1),
        [] => "somewhere".to_owned(),
    }
}

/// The cluster in figures.
#[must_use]
pub fn figures(targets: &Targets, nodes: &[Reported<'_>]) -> ClusterFigures {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let current = || nodes.iter().filter_map(Reported::current);
    ClusterFigures {
        nodes: count(nodes.len()),
        reporting: count(current().filter(|report| report.self_check).count()),
        unwell: count(current().filter(|report| !report.self_check).count()),
        silent: count(nodes.iter().filter(|node| node.current().is_none()).count()),
        failing: count(current().filter(|report| report.self_check && fails(report)).count()),
        coredns: count(targets.pods.len()),
        coredns_ready: count(targets.pods.iter().filter(|pod| pod.ready && !pod.terminating).count()),
    }
}

fn fails(report: &NodeReport) -> bool {
    !report.verdicts.is_empty() || report.matrix.rows.iter().any(|row| row.bad > 0)
}

/// The matrix, if any node is known: two rows a node.
#[must_use]
pub fn matrix(targets: &Targets, nodes: &[Reported<'_>]) -> Option<Matrix> {
    let mut grid = Grid::default();
    for node in nodes {
        let line = |kind: VantageKind, from: String| Line { node: Some(node.node.clone()), kind, from, more: 0 };
        let Some(report) = node.current() else {
            let why = if node.report.is_some() { "silent" } else { "no report" };
            grid.line(&line(VantageKind::Host, format!("{} ({why})", node.node)));
            continue;
        };
        type Place = (VantageKind, String, Option<PodUid>, IpAddr, Transport);
        let mut cells: BTreeMap<Place, Vec<&MatrixRow>> = BTreeMap::new();
        for row in &report.matrix.rows {
            let place = (row.from, row.target.clone(), row.pod.clone(), row.ip, row.transport);
            cells.entry(place).or_default().push(row);
        }
        let known: BTreeSet<VantageKind> = cells.keys().map(|place| place.0).collect();
        if known.is_empty() {
            grid.line(&line(VantageKind::Host, format!("{} (nothing asked)", node.node)));
        }
        for ((from, target, pod, ip, transport), rows) in cells {
            let name = match from {
                VantageKind::Host => format!("{}: host", node.node),
                VantageKind::Pod => format!("{}: pods", node.node),
            };
            grid.put(&line(from, name), &column(targets, &target, pod.as_ref(), ip), transport, seen(&rows));
        }
    }
    grid.matrix(MatrixOf::Cluster)
}

fn column(targets: &Targets, kind: &str, pod: Option<&PodUid>, ip: IpAddr) -> Column {
    let known = pod.and_then(|uid| targets.pods.iter().find(|pod| pod.uid == *uid));
    match (known, pod, kind) {
        (Some(pod), ..) => Column::new(kind, &pod.key.name, ip, pod.node.clone()),
        // Replaced since the report was written.
        (None, Some(uid), _) => Column::new(kind, &format!("pod {uid}"), ip, None),
        (None, None, "service") => Column::new(kind, "DNS Service", ip, None),
        (None, None, _) => Column::new(kind, kind, ip, None),
    }
}

/// All kinds of questions over one transport. Vantages are counted by the cluster's own name, which all are asked.
fn seen(rows: &[&MatrixRow]) -> Seen {
    let internal = rows.iter().find(|row| row.question == QuestionKind::Internal).or(rows.first());
    let worst = rows.iter().max_by_key(|row| row.bad);
    let bad = worst.map_or(0, |row| row.bad);
    let vantages = rows.iter().map(|row| row.good.saturating_add(row.bad)).max().unwrap_or_default();
    let good = vantages.saturating_sub(bad);
    Seen {
        state: match (bad, internal.map_or(0, |row| row.good)) {
            (1.., _) => PathState::Failing,
            (0, 1..) => PathState::Well,
            (0, 0) => PathState::Unknown,
        },
        good,
        bad,
        latency_us: internal.and_then(|row| row.latency_us).map(u64::from),
        outcome: worst.filter(|row| row.bad > 0).and_then(|row| row.outcome),
        says: None,
        failing: rows.iter().filter(|row| row.bad > 0).map(|row| row.question).collect(),
        age_s: None,
    }
}
