//! Who sees what: vantages by targets.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::NodeName;
use crate::namespaces::VantageKind;
use crate::probe::{OutcomeKind, QuestionKind};

/// Vantages by targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Of what.
    pub of: MatrixOf,
    /// The columns. Each row has one cell for each.
    pub targets: Vec<TargetHead>,
    /// The rows: failing ones first.
    pub rows: Vec<Row>,
    /// Rows that are not shown. They are the well ones unless more than [`super::MOST_ROWS`] fail.
    #[serde(default)]
    pub rows_left_out: u32,
    /// Columns that are not shown.
    #[serde(default)]
    pub targets_left_out: u32,
}

/// Of what a matrix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatrixOf {
    /// One node: its host and its pods, one by one.
    Node,
    /// The cluster: every node's host, and every node's pods taken together.
    Cluster,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHead {
    /// `pod`, `service`, `nameserver` or `upstream`.
    pub kind: String,
    /// The CoreDNS pod's name, or the kind.
    pub name: String,
    /// The address asked.
    pub ip: IpAddr,
    /// The CoreDNS pod's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `host`, or the pod as `namespace/name`; for a cluster `host of NODE`, or `pods of NODE`.
    pub from: String,
    /// Host or pods.
    pub kind: VantageKind,
    /// The node, in a cluster's matrix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The worst of its cells.
    pub state: PathState,
    /// One for each target.
    pub cells: Vec<Cell>,
}

/// What a vantage sees of a target. A transport that is not asked is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Over UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Seen>,
    /// Over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Seen>,
}

impl Cell {
    /// Both, in the order in which they are shown.
    #[must_use]
    pub fn both(&self) -> [Option<&Seen>; 2] {
        [self.udp.as_ref(), self.tcp.as_ref()]
    }

    /// The worst of both.
    #[must_use]
    pub fn state(&self) -> PathState {
        self.both().into_iter().flatten().map(|seen| seen.state).max().unwrap_or_default()
    }
}

/// What came of asking over one transport, all kinds of questions taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The worst.
    pub state: PathState,
    /// Paths (or, in a cluster's matrix, vantages) that answer.
    pub good: u32,
    /// Those that are confirmed to fail.
    pub bad: u32,
    /// Time of the last good answer to the internal name, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// How it fails, unless it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeKind>,
    /// The same with its details, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Which kinds of questions fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<QuestionKind>,
    /// Seconds since it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
}

/// How a path does. The order is from good to bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// Not asked, or nothing was learned.
    #[default]
    Unknown,
    /// Answers.
    Well,
    /// The last probe failed; not confirmed.
    Doubtful,
    /// Confirmed to fail.
    Failing,
}

impl PathState {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "not known",
            Self::Well => "ok",
            Self::Doubtful => "failed once",
            Self::Failing => "failing",
        }
    }
}
