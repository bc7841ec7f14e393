//! What is wrong, where, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Act;
use crate::ids::NodeName;
use crate::plan::IncidentPhase;
use crate::remedy::RemedyKind;
use crate::verdict::{Cause, Confidence, Evidence, RuledOut, Scope, Subject};

/// One incident of the cluster, or a verdict of this node that no incident tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The `DnsIncident`'s name; absent for a node's own verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is wrong.
    pub cause: Cause,
    /// The same as a sentence with its subject.
    pub says: String,
    /// How far it reaches.
    pub scope: Scope,
    /// What it is about.
    pub subject: Subject,
    /// How sure; absent where it is not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Where it stands; absent for a node's own verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<IncidentPhase>,
    /// Not resolved.
    pub open: bool,
    /// Nodes that say so.
    #[serde(default)]
    pub nodes: Vec<NodeName>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it was resolved or given to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// The incident's own line, if it says more than `says`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// What was read, and where.
    pub evidence: Vec<Evidence>,
    /// What it is not.
    pub ruled_out: Vec<RuledOut>,
    /// The places that a question passes, in order, with the one where it ends.
    pub stations: Vec<Station>,
    /// The way of a packet as it was read, rule by rule; only on the node that read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<PacketWay>,
    /// What was done about it, would have been done or was refused, oldest first.
    pub acts: Vec<Act>,
    /// Nameward's own remedy, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<RemedyKind>,
    /// What a person would run.
    pub command: String,
    /// What makes it worse.
    pub never: Vec<String>,
    /// The runbook, relative to `docs/`.
    pub runbook: String,
}

/// A place that a question passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Station {
    /// For people: `the pod`, `its node`, `the network between nodes`, …
    pub name: String,
    /// The cause lies here.
    pub here: bool,
}

/// The way of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketWay {
    /// From where to where and how, for people.
    pub path: String,
    /// Step by step, up to where it ends; at most [`MOST_STEPS`].
    pub steps: Vec<WayStep>,
}

/// Most steps of a [`PacketWay`].
pub const MOST_STEPS: usize = 32;

/// One step of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayStep {
    /// Where: a namespace, a link, a table.
    pub at: String,
    /// What is there, in one line.
    pub says: String,
    /// Whether a packet gets on.
    pub passes: Passes,
}

/// Whether a packet gets on, as far as a step shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passes {
    /// It does.
    Yes,
    /// It ends here.
    No,
    /// It could not be read, or is not modelled.
    Unknown,
}

impl Passes {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Yes => "passes",
            Self::No => "ends here",
            Self::Unknown => "not known",
        }
    }
}
