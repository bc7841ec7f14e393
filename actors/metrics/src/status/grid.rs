//! A matrix under way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nameward_messages::NodeName;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::status::{
    Cell, MOST_CELLS, MOST_ROWS, MOST_TARGETS, Matrix, MatrixOf, PathState, Row, Seen, TargetHead,
};
use nameward_messages::targets::Transport;

/// A column: in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Column {
    order: u8,
    name: String,
    ip: IpAddr,
    kind: String,
    node: Option<NodeName>,
}

impl Column {
    pub(super) fn new(kind: &str, name: &str, ip: IpAddr, node: Option<NodeName>) -> Self {
        // What pods ask comes first.
        let order = match kind {
            "service" => 0,
            "pod" => 1,
            "nameserver" => 2,
            _ => 3,
        };
        Self { order, name: name.to_owned(), ip, kind: kind.to_owned(), node }
    }
}

/// A row, with what tells two of one name apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) node: Option<NodeName>,
    /// The host sorts before pods.
    pub(super) kind: VantageKind,
    pub(super) from: String,
    pub(super) more: u64,
}

#[derive(Debug, Default)]
pub(super) struct Grid {
    columns: BTreeMap<Column, PathState>,
    lines: BTreeMap<Line, BTreeMap<Column, Cell>>,
}

impl Grid {
    /// A row is there even if nothing is known of it.
    pub(super) fn line(&mut self, line: &Line) {
        self.lines.entry(line.clone()).or_default();
    }

    /// What one path says, joined with what others of the same cell said.
    pub(super) fn put(&mut self, line: &Line, column: &Column, transport: Transport, seen: Seen) {
        let worst = self.columns.entry(column.clone()).or_default();
        *worst = (*worst).max(seen.state);
        let cell = self.lines.entry(line.clone()).or_default().entry(column.clone()).or_default();
        let place = match transport {
            Transport::Udp => &mut cell.udp,
            Transport::Tcp => &mut cell.tcp,
        };
        match place {
            Some(known) => join(known, seen),
            None => *place = Some(seen),
        }
    }

    /// The matrix, or nothing if there is no row. What fails is kept first.
    pub(super) fn matrix(self, of: MatrixOf) -> Option<Matrix> {
        if self.lines.is_empty() {
            return None;
        }
        let mut columns: Vec<(Column, PathState)> = self.columns.into_iter().collect();
        let targets_left_out = columns.len().saturating_sub(MOST_TARGETS);
        if targets_left_out > 0 {
            columns.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
            columns.truncate(MOST_TARGETS);
            columns.sort();
        }
        let kept: BTreeSet<&Column> = columns.iter().map(|(column, _)| column).collect();
        let mut rows: Vec<(Line, PathState, BTreeMap<Column, Cell>)> = self
            .lines
            .into_iter()
            .map(|(line, cells)| {
                let state = cells.values().map(Cell::state).max().unwrap_or_default();
                (line, state, cells)
            })
            .collect();
        rows.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
        let most = MOST_ROWS.min(MOST_CELLS / kept.len().max(1));
        let rows_left_out = rows.len().saturating_sub(most);
        rows.truncate(most);
        let rows = rows
            .into_iter()
            .map(|(line, state, mut cells)| Row {
                from: line.from,
                kind: line.kind,
                node: line.node,
                state,
                cells: kept.iter().map(|column| cells.remove(*column).unwrap_or_default()).collect(),
            })
            .collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let head =
            |column: Column| TargetHead { kind: column.kind, name: column.name, ip: column.ip, node: column.node };
        Some(Matrix {
            of,
            rows,
            rows_left_out: count(rows_left_out),
            targets_left_out: count(targets_left_out),
            targets: columns.into_iter().map(|(column, _)| head(column)).collect(),
        })
    }
}

/// The worst is told; what answers counts, too.
fn join(known: &mut Seen, seen: Seen) {
    known.good += seen.good;
    known.bad += seen.bad;
    known.latency_us = known.latency_us.or(seen.latency_us);
    known.age_s = known.age_s.into_iter().chain(seen.age_s).min();
    if seen.state > known.state {
        known.state = seen.state;
        known.outcome = seen.outcome;
        known.says = seen.says;
    }
    for kind in seen.failing {
        if !known.failing.contains(&kind) {
            known.failing.push(kind);
        }
    }
}
