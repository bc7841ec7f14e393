//! What the API says of the containers of CoreDNS pods: the kubelet's and the scheduler's own words, bounded.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{NodeName, ObjectKey, PodUid};
use crate::time::Now;

/// A container that was started again needs so long to be judged like any other.
const RESTARTED: Duration = Duration::from_secs(20);

/// Longest text of one message, in characters: a termination message may be 4096 bytes long.
pub const MESSAGE: usize = 300;

/// One CoreDNS pod as its status shows it. Events are no part of it: they are told once and get lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorednsPodState {
    /// The pod.
    pub pod: PodUid,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// `spec.nodeName`; `None` until it is scheduled.
    pub node: Option<NodeName>,
    /// `status.phase`.
    pub phase: String,
    /// The condition `Ready` is `True`.
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// `metadata.creationTimestamp`.
    pub created_at: Option<Timestamp>,
    /// The container that answers DNS.
    pub container: String,
    /// Its `restartCount`.
    pub restarts: u32,
    /// Its `state.running.startedAt`, while it runs.
    pub running_since: Option<Timestamp>,
    /// Its `state.waiting`, while it waits.
    pub waiting: Option<Said>,
    /// How it ended last: `state.terminated`, else `lastState.terminated`.
    pub ended: Option<Ended>,
    /// The condition that holds the pod up before any container runs: `PodScheduled` or `PodReadyToStartContainers`
    /// (its sandbox and network) being `False`.
    pub held_up: Option<HeldUp>,
}

/// A reason and a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// One CamelCase word: `CrashLoopBackOff`, `ContainerCreating`, `ImagePullBackOff`.
    pub reason: String,
    /// For people; at most [`MESSAGE`] characters.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `OOMKilled`, `Error`, `Completed`, …
    pub reason: String,
    /// The termination message: what the process left in its termination file, or the end of its log where the pod asks for
    /// that. Most CoreDNS manifests leave it empty.
    pub message: String,
    /// The exit status.
    pub exit_code: i32,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A condition that is `False`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUp {
    /// `PodScheduled` or `PodReadyToStartContainers`.
    pub condition: String,
    /// Its reason, such as `Unschedulable`.
    pub reason: String,
    /// Its message; at most [`MESSAGE`] characters.
    pub message: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl CorednsPodState {
    /// Why what is read of the process may belong to none of its lives: it is down, or has ended a moment ago. What answered
    /// one query was another process than what did not answer the next.
    #[must_use]
    pub fn between_two_lives(&self, now: Now) -> Option<String> {
        let ended = self.ended.as_ref()?;
        if self.running_since.is_none() {
            return Some(format!("its container has ended (exit status {})", ended.exit_code));
        }
        let ago = Duration::try_from(now.wall.duration_since(ended.finished_at?)).unwrap_or_default();
        (ago < RESTARTED).then(|| format!("its container ended {} s ago and was started again", ago.as_secs()))
    }

    /// The container has ended at least twice and is not up for good: by its status alone, which the API keeps.
    #[must_use]
    pub fn crashes_again_and_again(&self) -> bool {
        let backs_off = self.waiting.as_ref().is_some_and(|w| w.reason == "CrashLoopBackOff");
        self.ended.is_some()
            && (self.restarts >= 2 || (self.restarts >= 1 && (backs_off || self.running_since.is_none())))
    }
}
