//! The invariants of `reference/safety.md`, judged after every event by the truth and by what reached the API server.
//!
//! Nothing here asks a mind what it thinks. What is known of a moment is: the truth ([`crate::truth`]), the API server's
//! objects, when each request was sent and when it arrived, and every process's clock.

mod acts;
mod agents;
mod evidence;
mod fences;
mod nodes;
mod settled;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nameward_messages::plan::Intent;
use nameward_messages::report::RequestAnswer;
use nameward_messages::{Mono, PodUid, RequestId};

use crate::world::World;

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the numbers are those of the list of invariants; `says` tells each in a line")]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
    I13,
    I14,
    I15,
    I16,
    I17,
    I18,
    I20,
    Liveness,
}

impl Invariant {
    /// In a line.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::I1 => "no eviction without enough witnesses, its own node and two namespaces among them",
            Self::I2 => "no permit and no node repair while many nodes show the same fault",
            Self::I3 => "no eviction unless another ready pod is good for the majority of those asked",
            Self::I4 => "ready CoreDNS never falls below the floor by an act of ours",
            Self::I5 => "no eviction without a quorum of fresh reports",
            Self::I6 => "an agent that does not vouch for itself is not counted",
            Self::I7 => "one shared remedy at a time",
            Self::I8 => "nothing is sent without the Lease and time enough left",
            Self::I9 => "an act names its target's uid and resourceVersion, and the target that was judged",
            Self::I10 => "no act is repeated before its target is read again",
            Self::I11 => "the budget holds",
            Self::I12 => "nothing within the cool-down",
            Self::I13 => "nothing for ten minutes after an act that made things worse",
            Self::I14 => "what is not known is no permission",
            Self::I15 => "nothing on a node is changed without a record of what was there",
            Self::I16 => "a repair that a crash cut off is found in the journal, and brought to an end",
            Self::I17 => "no owned field is written, no limit lowered or set above its cap",
            Self::I18 => "nothing but CoreDNS and our own objects is touched",
            Self::I20 => "nothing while the kill switch is on or unknown",
            Self::Liveness => "DNS is healthy in the end, or a person was called",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Liveness => f.write_str("liveness"),
            numbered => write!(f, "{numbered:?}"),
        }
    }
}

/// An invariant that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When, in true time.
    pub at: Mono,
    /// How.
    pub says: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, says } = self;
        write!(f, "{invariant} at {:.3}s ({}): {says}", at.0.as_secs_f64(), invariant.says())
    }
}

/// A request on CoreDNS, as it was when it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) sent: Mono,
    /// The intent that stood in the API server then, with its incident.
    pub(crate) intent: Option<(String, Intent)>,
}

/// A question of the coordinator as the API server saw it.
#[derive(Clone, Debug, Default)]
struct Asked {
    at: Mono,
    nodes: BTreeSet<usize>,
    /// What each node answered.
    answers: BTreeMap<usize, Said>,
}

/// What a node answered to a question: once, unless it lies.
#[derive(Clone, Debug)]
struct Said {
    /// Whether it vouched for itself when it answered first.
    vouches: bool,
    /// Its last words, the newest at the end.
    words: Vec<(Mono, RequestAnswer)>,
}

/// An act that was carried out.
#[derive(Clone, Debug)]
struct Done {
    at: Mono,
    p: usize,
    kind: Kind,
    incident: String,
    /// CoreDNS pods that were well just before.
    well_before: usize,
    /// Its verification ended well, and as many were well then: what comes after is not its doing.
    verified: bool,
    /// It is known whether it made things worse.
    judged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Evict,
    Memory,
    Resize,
    Scale,
}

/// What is known of one process, from outside.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Calls about the Lease on their way: when each was sent.
    lease_sent: BTreeMap<u64, Mono>,
    /// When the last write of the Lease that succeeded was sent.
    renewed: Option<Mono>,
    /// When the API server first named this identity as the holder.
    leading_since: Option<(String, Mono)>,
    /// Served reads: of pods by name, and of the workload with ready and wanted replicas.
    pods_read: BTreeMap<String, Mono>,
    workload_read: Option<(Mono, u32, u32)>,
    /// When a view was last told that seemed good.
    seemed_good: Option<Mono>,
}

/// What the checker remembers.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) violations: Vec<Violation>,
    asked: BTreeMap<RequestId, Asked>,
    seen: BTreeMap<usize, Seen>,
    done: Vec<Done>,
    /// When an act on this target was last sent, by whomever.
    acted: BTreeMap<String, Mono>,
    /// Intents by target: tries.
    tries: BTreeMap<String, BTreeSet<jiff::Timestamp>>,
    /// How many pods were well since when.
    well: Vec<(Mono, usize)>,
    /// An act made things worse, as the truth shows: nothing before this.
    breaker: Option<(Mono, String)>,
    policy_on: Option<Mono>,
    policy_lost: BTreeMap<usize, Mono>,
    /// Nodes that name the same fault of a node's layer.
    alike: BTreeMap<nameward_messages::verdict::Cause, BTreeSet<usize>>,
    storm_since: Option<Mono>,
    /// The last moment of a rollout.
    rollout: Option<Mono>,
    rolling: Option<Mono>,
    /// Pods of an older template were there when that was last looked at.
    older: bool,
    /// The workload's version when that was looked at.
    looked_at: u64,
    node_acts: BTreeMap<usize, Vec<Mono>>,
    /// When repairs of nodes were begun lately, on all nodes together.
    node_begins: Vec<Mono>,
    /// When each node's orders last bore a permit for repairs.
    turns: BTreeMap<usize, Mono>,
    /// What each agent was told.
    heard: BTreeMap<usize, agents::Heard>,
    /// Nodes whose permit was withdrawn, since when.
    unpermitted: BTreeMap<usize, Mono>,
    called: bool,
    evicted: BTreeSet<PodUid>,
}

impl World {
    pub(crate) fn violate(&mut self, invariant: Invariant, says: String) {
        self.trace.line(self.now, "VIOLATION", || format!("{invariant}: {says}"));
        let at = self.now;
        self.check.violations.push(Violation { invariant, at, says });
    }

    /// Of the true time, what a process's clock calls this long.
    fn true_span(&self, p: usize, local: std::time::Duration) -> std::time::Duration {
        let ppm = self.processes[p].clock.ppm;
        local.mul_f64(1_000_000.0 / (1_000_000 + ppm) as f64)
    }

    /// After every event: what may have become true without anybody's asking.
    pub(crate) fn check_step(&mut self) {
        if self.api.workload.version != self.check.looked_at {
            self.check.looked_at = self.api.workload.version;
            self.note_rollout();
        }
        self.check_breaker();
    }
}
