//! The words of the status: what was read, and what is told of it.

use jiff::Timestamp;
use nameward_cluster::lease;
use nameward_cluster::wire::{AgentObject, IncidentObject};
use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::verdict::{Cause, Scope};
use serde::Serialize;

/// How a node stands, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// DNS does not answer on it, or a cause stands.
    Unhealthy,
    /// Its agent has not reported for too long.
    Silent,
    /// No agent has reported for it.
    Absent,
    /// Its agent reports that it cannot say.
    Unknown,
    /// DNS answers on every path.
    Healthy,
}

impl NodeState {
    /// For people and programs alike.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Silent => "silent",
            Self::Absent => "no agent",
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
        }
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeLine {
    /// Its name.
    pub node: String,
    /// How it stands.
    pub state: NodeState,
    /// Why, in one line.
    pub because: String,
    /// Standing verdicts.
    pub causes: Vec<CauseLine>,
    /// Vantages and targets that answer, and those that do not.
    pub paths: Paths,
    /// Pods probed from.
    pub pods: u32,
    /// The agent's version.
    pub version: String,
    /// Age of its report by this machine's clock, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_s_ago: Option<i64>,
    /// What the agent lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// Paths by what came of them last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Paths {
    /// They answer.
    pub good: u32,
    /// They do not.
    pub bad: u32,
}

/// A standing verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseLine {
    /// What is wrong.
    pub cause: Cause,
    /// Of what.
    pub subject: String,
    /// Since when.
    pub since: Timestamp,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentLine {
    /// Its object's name.
    pub name: String,
    /// Where it stands.
    pub phase: IncidentPhase,
    /// What is wrong.
    pub cause: Cause,
    /// How far it reaches.
    pub scope: Scope,
    /// Of what.
    pub subject: String,
    /// In one line.
    pub summary: String,
    /// Which nodes say so.
    pub nodes: Vec<String>,
    /// When it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    /// When it was resolved or a person was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// What was done, refused or would have been done last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<RemedyRecord>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leader {
    /// `holderIdentity`; empty: nobody.
    pub holder: String,
    /// Age of the last renewal by this machine's clock, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed_s_ago: Option<i64>,
    /// It is not renewed any more, or nobody holds it.
    pub stale: bool,
}

/// What could be read of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseRead {
    /// As it stands.
    Record(lease::Record),
    /// There is none.
    Absent,
    /// It could not be read.
    Unreadable(String),
}

/// What could be read of the kill switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// It stops every change.
    On,
    /// It does not.
    Off,
    /// It could not be read.
    Unreadable,
}

impl Switch {
    /// By the policy's value; what is not plainly "no" is "yes", as the agents read it.
    #[must_use]
    pub fn said(value: Option<&str>) -> Self {
        let value = value.unwrap_or_default().trim().to_lowercase();
        if ["", "false", "no", "off"].contains(&value.as_str()) { Self::Off } else { Self::On }
    }
}

/// What was read of the API.
#[derive(Clone, Debug)]
pub struct Read {
    /// This machine's clock.
    pub now: Timestamp,
    /// Every NodeAgent.
    pub agents: Vec<AgentObject>,
    /// Every DnsIncident.
    pub incidents: Vec<IncidentObject>,
    /// The names of the nodes; `None`: they may not be listed.
    pub nodes: Option<Vec<String>>,
    /// The Lease.
    pub lease: LeaseRead,
    /// The kill switch.
    pub switch: Switch,
    /// Why it could not be read, if it could not.
    pub switch_unread: Option<String>,
}

/// All in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// DNS answers wherever an agent speaks, and enough of them do.
    Healthy,
    /// Some node says otherwise, or an incident is open.
    Unhealthy,
    /// Too few agents speak, why.
    Unknown(String),
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `null`: not known.
    pub healthy: Option<bool>,
    /// In one sentence.
    pub headline: String,
    /// Nodes, the worst first.
    pub nodes: Vec<NodeLine>,
    /// Incidents, open ones first, newest first.
    pub incidents: Vec<IncidentLine>,
    /// Who leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<Leader>,
    /// The kill switch.
    pub kill_switch: Switch,
    /// What a reader should know besides.
    pub notes: Vec<String>,
    /// The same as `healthy`, with its reason.
    #[serde(skip)]
    pub health: Health,
}
