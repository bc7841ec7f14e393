//! What diagnosis concludes.
//!
//! The causes themselves stand in [`crate::causes`].

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::causes::{About, Cause, Layer};
use crate::ids::{NodeName, ObjectKey, PodUid};
use crate::time::Now;

/// How far a cause reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One workload pod.
    Pod,
    /// One CoreDNS pod, whoever asks it.
    CorednsPod,
    /// One node.
    Node,
    /// Everything.
    Cluster,
}

/// What a verdict, a plan or an incident is about. Flat, since it is part of custom resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subject {
    /// Which kind of object.
    pub kind: SubjectKind,
    /// Its namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid, for a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<PodUid>,
}

impl Subject {
    /// A pod.
    #[must_use]
    pub fn pod(key: &ObjectKey, uid: &PodUid) -> Self {
        Self {
            kind: SubjectKind::Pod,
            namespace: Some(key.namespace.clone()),
            name: key.name.clone(),
            uid: Some(uid.clone()),
        }
    }

    /// A node.
    #[must_use]
    pub fn node(name: &NodeName) -> Self {
        Self { kind: SubjectKind::Node, namespace: None, name: name.0.clone(), uid: None }
    }

    /// The DNS workload or Service.
    #[must_use]
    pub fn object(kind: SubjectKind, key: &ObjectKey) -> Self {
        Self { kind, namespace: Some(key.namespace.clone()), name: key.name.clone(), uid: None }
    }
}

impl Subject {
    /// Whether an object of this name can exist: as long as the API allows, and of plain characters.
    #[must_use]
    pub fn plausible(&self) -> bool {
        let fits = |text: &str, most: usize| text.len() <= most && text.chars().all(|c| c.is_ascii_graphic());
        fits(&self.name, 253)
            && self.namespace.as_deref().is_none_or(|namespace| fits(namespace, 63))
            && self.uid.as_ref().is_none_or(|uid| fits(uid.as_str(), 128))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.label(), self.name),
            None => write!(f, "{} {}", self.kind.label(), self.name),
        }
    }
}

/// Kinds of subjects, spelled as Kubernetes spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SubjectKind {
    /// A pod.
    Pod,
    /// A node.
    Node,
    /// The DNS Service.
    Service,
    /// The DNS workload.
    Deployment,
    /// The upstream resolver; its name is its address.
    Upstream,
}

impl SubjectKind {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Service => "service",
            Self::Deployment => "deployment",
            Self::Upstream => "upstream",
        }
    }
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The symptoms match and nothing contradicts, but the deciding evidence could not be read.
    Probable,
    /// The deciding evidence was read where it lies, at least twice.
    Certain,
}

/// One thing that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Evidence {
    /// Where: `node1 iptables-save -t nat`, `kube-system/coredns-x /proc/net/udp`, `probe`.
    pub read: String,
    /// What it says, in one line.
    pub says: String,
}

impl Evidence {
    /// From its two lines.
    #[must_use]
    pub fn new(read: impl Into<String>, says: impl Into<String>) -> Self {
        Self { read: read.into(), says: says.into() }
    }
}

/// A cause that was considered and dismissed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuledOut {
    /// Which, by its id or in plain words when it has none.
    pub what: String,
    /// Why it is not that.
    pub because: String,
}

/// A conclusion of one node's diagnosis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is wrong.
    pub cause: Cause,
    /// How far it reaches.
    pub scope: Scope,
    /// What it is about.
    pub subject: Subject,
    /// How sure.
    pub confidence: Confidence,
    /// What was read.
    pub evidence: Vec<Evidence>,
    /// What it is not.
    pub ruled_out: Vec<RuledOut>,
    /// Since when the same cause and subject have stood without interruption.
    pub since: Now,
    /// When it was last confirmed.
    pub at: Now,
}

/// A verdict without its text: two verdicts with the same key are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictKey {
    /// What is wrong.
    pub cause: Cause,
    /// What it is about.
    pub subject: Subject,
}

impl Verdict {
    /// Its identity.
    #[must_use]
    pub fn key(&self) -> VerdictKey {
        VerdictKey { cause: self.cause, subject: self.subject.clone() }
    }
}

/// What diagnosis tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiagnosisTells {
    /// A verdict stands: new, or confirmed with newer evidence.
    Stands(Verdict),
    /// A verdict no longer stands.
    Ended {
        /// Which.
        key: VerdictKey,
        /// When.
        at: Now,
        /// `true`: the paths that failed answer again. `false`: replaced by another verdict or its subject is gone.
        recovered: bool,
    },
    /// Failing paths whose cause lies on another node: that node's agent is the one to judge. Replaces the last list.
    Deferred(Vec<Deferral>),
    /// CoreDNS pods of this node of which other nodes complain and for which no reason was found here. Replaces the last list.
    Examined(Vec<PodUid>),
    /// The matrix, once per round.
    Matrix(crate::report::MatrixDigest),
    /// What was found on this node that no rule knows how to read. Replaces the last list.
    Unmodelled(Vec<String>),
    /// Something failed and healed before a cause was named.
    Recovered(Recovery),
    /// The way of a packet that a standing verdict explains, as it was read last: for people.
    Way {
        /// Of which verdict.
        key: VerdictKey,
        /// The way.
        way: crate::status::PacketWay,
    },
}

/// What failed and answers again, of which no cause was named: what was seen, bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// When the first path was suspected.
    pub began: jiff::Timestamp,
    /// When the last one answered again.
    pub ended: jiff::Timestamp,
    /// The paths that failed and how, at most [`RECOVERED_PATHS`].
    pub paths: Vec<Evidence>,
    /// Failing paths beyond those.
    pub more: u32,
    /// How often the machine was read meanwhile.
    pub samples: u32,
}

/// Paths that a [`Recovery`] names.
pub const RECOVERED_PATHS: usize = 12;

/// A failing target that another node's agent must judge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deferral {
    /// The CoreDNS pod that fails from here.
    pub subject: Subject,
    /// The node that it runs on.
    pub to_node: NodeName,
    /// What fails, in one line.
    pub because: String,
}
