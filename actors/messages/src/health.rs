//! What every actor tells of itself: the input of metrics, `/state` and readiness.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorName {
    /// Watches the Kubernetes API.
    Watcher,
    /// Finds network namespaces.
    Netns,
    /// Probes.
    Prober,
    /// Names causes.
    Diagnosis,
    /// Writes this node's report and reads its orders.
    Reporter,
    /// Judges across nodes.
    Coordinator,
    /// Does shared remedies.
    SharedRemedy,
    /// Does node remedies.
    NodeRemedy,
    /// Serves metrics and pages.
    Metrics,
}

impl ActorName {
    /// Every actor.
    pub const ALL: [Self; 9] = [
        Self::Watcher,
        Self::Netns,
        Self::Prober,
        Self::Diagnosis,
        Self::Reporter,
        Self::Coordinator,
        Self::SharedRemedy,
        Self::NodeRemedy,
        Self::Metrics,
    ];

    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Watcher => "watcher",
            Self::Netns => "netns",
            Self::Prober => "prober",
            Self::Diagnosis => "diagnosis",
            Self::Reporter => "reporter",
            Self::Coordinator => "coordinator",
            Self::SharedRemedy => "shared-remedy",
            Self::NodeRemedy => "node-remedy",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A snapshot of one actor's life, kept by supervision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorHealth {
    /// The actor runs and its budget of restarts is not spent.
    pub alive: bool,
    /// Messages handled.
    pub handled: u64,
    /// Restarts after a panic.
    pub restarts: u64,
    /// Messages lost to panics.
    pub lost: u64,
    /// Messages dropped or merged because the inbox was full.
    pub shed: u64,
    /// Messages waiting.
    pub waiting: u64,
    /// Time since it last finished a message or a tick.
    pub idle: Duration,
}

/// Where an actor stands with what it needs from the world; readiness waits for [`Stage::Ready`] of those that matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage", content = "because")]
pub enum Stage {
    /// Not there yet; why.
    Starting(String),
    /// Works.
    Ready,
    /// Works with something missing; what is lost and what would restore it.
    Degraded(String),
}
