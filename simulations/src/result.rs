//! What a scenario showed: the JSON of `nameward simulate --output json`.

use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope};
use serde::{Deserialize, Serialize};

/// One scenario's result. Times are seconds after the first fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// Its name.
    pub scenario: String,
    /// Everything expected happened in time, and nothing else.
    pub passed: bool,
    /// When the first verdict stood.
    pub detected_s: Option<f64>,
    /// When DNS answered on every path again, by the runner's own probes.
    pub recovered_s: Option<f64>,
    /// How long after the faults were lifted everything was well again.
    pub lifted_s: Option<f64>,
    /// Verdicts as the agents wrote them to the API.
    pub verdicts: Vec<FoundVerdict>,
    /// Remedies from the API server's log.
    pub remedies: Vec<FoundRemedy>,
    /// What should not have happened or did not happen, from the API server's log, from kernel snapshots and from
    /// comparison with what the scenario expects.
    pub violations: Vec<String>,
}

/// A verdict that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundVerdict {
    /// Its cause.
    pub cause: Cause,
    /// Its scope.
    pub scope: Scope,
    /// Its subject in the scenario's names.
    pub subject: String,
    /// How sure.
    pub confidence: Confidence,
    /// When it was first seen.
    pub at_s: f64,
    /// What was read.
    pub evidence: Vec<Evidence>,
}

/// A remedy that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRemedy {
    /// Which.
    pub kind: RemedyKind,
    /// On what, in the scenario's names.
    pub subject: String,
    /// `act`: it is in the API server's log.
    pub mode: Mode,
    /// When.
    pub at_s: f64,
    /// The API server's answer, such as `201`.
    pub outcome: String,
}

/// A line of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Seconds after the first fault; before it negative.
    pub at_s: f64,
    /// What kind of thing happened.
    pub kind: EntryKind,
    /// In one line.
    pub text: String,
    /// More lines, indented under it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Set-up and waiting.
    Progress,
    /// A fault was injected.
    Fault,
    /// DNS fails or answers again, by the runner's own probes.
    Symptom,
    /// A cause was named.
    Verdict,
    /// An incident changed its phase.
    Incident,
    /// Something was done.
    Remedy,
    /// DNS answers again.
    Recovered,
    /// Something is wrong.
    Violation,
}

/// What a scenario's process tells its parent, one JSON object per line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A line of the timeline.
    Entry(TimelineEntry),
    /// The cluster stands and is healthy: what costs most is over.
    Healthy,
    /// The end.
    Result(ScenarioResult),
    /// It could not be carried out; the chain of reasons.
    Failed(String),
    /// A status page replies to a request: for whoever asked, and nobody else.
    Page {
        /// Of which request.
        id: u64,
        /// The whole reply.
        text: String,
    },
}
