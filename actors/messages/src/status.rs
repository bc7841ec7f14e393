//! What people are shown: the model of the status page, of its JSON twin `/status.json` and of `nameward status`.
//!
//! A model is bounded, ordered as it is to be read (what fails first) and holds no secret. All its text may come from the
//! world (names of pods, evidence): whoever renders it escapes it. What a reader does not know is absent, never zero.
//! Fields are added, never renamed: the JSON is a promise.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::NodeName;
use crate::remedy::{Mode, RemedyKind, RemedyOutcome};
use crate::verdict::Subject;

mod incident;
mod matrix;

pub use incident::{Incident, MOST_STEPS, PacketWay, Passes, Station, WayStep};
pub use matrix::{Cell, Matrix, MatrixOf, PathState, Row, Seen, TargetHead};

/// Most targets (columns) of a matrix.
pub const MOST_TARGETS: usize = 40;
/// Most vantages (rows) of a matrix.
pub const MOST_ROWS: usize = 200;
/// Most cells of a matrix: with many targets there are fewer rows.
pub const MOST_CELLS: usize = 2000;
/// Most incidents, the closed ones of the last hour included.
pub const MOST_INCIDENTS: usize = 50;
/// Most acts, refusals included.
pub const MOST_ACTS: usize = 50;
/// Minutes of history.
pub const MINUTES: usize = 60;
/// Most events of the history.
pub const MOST_EVENTS: usize = 200;

/// Everything that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who says so.
    pub source: Source,
    /// When what is said was true; `None`: nothing is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// In one word.
    pub health: Health,
    /// In one sentence.
    pub headline: String,
    /// What is wrong with the observer itself or holds its hands: no API, a missing capability, the kill switch, an open breaker.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The cluster in figures; only where the whole cluster is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterFigures>,
    /// Vantages by targets: one matrix of the node, one of the cluster, or both.
    #[serde(default)]
    pub matrices: Vec<Matrix>,
    /// Open ones first, newest first; then those closed within the last hour.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// Open incidents and recently closed ones that are not in the list, since it is full.
    #[serde(default)]
    pub incidents_left_out: u32,
    /// What was done, would have been done or was refused, newest first.
    #[serde(default)]
    pub acts: Vec<Act>,
    /// The last hour.
    #[serde(default)]
    pub history: History,
}

/// Who says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Nameward's version.
    pub version: String,
    /// The node it runs on; empty for a command that reads the API.
    #[serde(default)]
    pub node: String,
    /// `agent`, `coordinator`, `all`, or `command`.
    pub role: String,
    /// Whether it holds the Lease; absent where it does not try to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leading: Option<bool>,
    /// Seconds since the process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    /// Seconds between two probes of one path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_s: Option<u64>,
    /// What remedies may do unless a remedy's own mode says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// In one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It cannot be said: nothing was asked, or too little is known.
    #[default]
    Unknown,
    /// DNS answers on every path that was asked.
    Well,
    /// DNS fails somewhere, or an incident is open.
    Failing,
}

impl Health {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "not known",
            Self::Well => "well",
            Self::Failing => "failing",
        }
    }
}

/// Something about the observer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Of which kind.
    pub kind: NoteKind,
    /// For people.
    pub text: String,
}

/// Kinds of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// Part of the process does not work.
    Trouble,
    /// Nothing may be changed: the kill switch, or a breaker.
    Stopped,
    /// Something cannot be seen or done for want of a right, a mount or a model.
    Limit,
    /// Worth knowing.
    Info,
}

impl NoteKind {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Stopped => "stopped",
            Self::Limit => "limit",
            Self::Info => "note",
        }
    }
}

/// The cluster in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFigures {
    /// Nodes.
    pub nodes: u32,
    /// Nodes whose agent reports and vouches for itself.
    pub reporting: u32,
    /// Nodes whose agent says that it is not well itself.
    pub unwell: u32,
    /// Nodes whose agent has been silent for too long, or never spoke.
    pub silent: u32,
    /// Reporting nodes that see DNS fail.
    pub failing: u32,
    /// CoreDNS pods.
    pub coredns: u32,
    /// CoreDNS pods that the API calls ready.
    pub coredns_ready: u32,
}

/// What was done, would have been done or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Which remedy.
    pub kind: RemedyKind,
    /// On what.
    pub subject: Subject,
    /// In which mode.
    pub mode: Mode,
    /// What came of it.
    pub outcome: RemedyOutcome,
    /// Why, or what exactly.
    pub detail: String,
    /// The node that did it; absent for what the coordinator does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// How often the same was said; `at` is the last time.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// The last hour, kept in memory: it begins anew with the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Oldest first, at most [`MINUTES`]; the last one is not over. Minutes in which nothing was told are there, empty.
    pub minutes: Vec<Minute>,
    /// Newest first, at most [`MOST_EVENTS`].
    pub events: Vec<Event>,
}

/// One minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minute {
    /// When it began.
    pub at: Timestamp,
    /// Anything was told in it; else the rest says nothing.
    pub known: bool,
    /// Questions that were asked in it.
    pub asked: u32,
    /// Questions that failed.
    pub failed: u32,
    /// Most paths that were suspected at once.
    pub suspected: u32,
    /// Most incidents (or, without a coordinator, verdicts) that were open at once.
    pub incidents: u32,
    /// Median time of the answers, microseconds, as the middle of its bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_us: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Of which kind.
    pub kind: EventKind,
    /// For people.
    pub text: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A cause was named, or an incident opened.
    Named,
    /// It ended.
    Ended,
    /// Something healed before a cause was named.
    Healed,
    /// Something was done, would have been done or was taken back.
    Acted,
    /// Something was refused.
    Refused,
    /// A person is called.
    Escalated,
    /// About Nameward itself: configuration, kill switch, Lease.
    Own,
}

impl EventKind {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Ended => "ended",
            Self::Healed => "healed",
            Self::Acted => "acted",
            Self::Refused => "refused",
            Self::Escalated => "person called",
            Self::Own => "nameward",
        }
    }
}
