//! What crosses nodes: `NodeAgent.status` (the agent's) and `NodeAgent.spec` (the coordinator's).

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{PodUid, RequestId};
use crate::namespaces::VantageKind;
use crate::probe::{OutcomeKind, QuestionKind};
use crate::targets::Transport;
use crate::verdict::{Cause, Confidence, Deferral, Evidence, RuledOut, Scope, Subject};

/// The symptom matrix of one node in a bounded form: one row per target, transport, question and kind of vantage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MatrixDigest {
    /// The rows, sorted.
    pub rows: Vec<MatrixRow>,
}

/// One row of the digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MatrixRow {
    /// `pod`, `service`, `nameserver` or `upstream`.
    pub target: String,
    /// The CoreDNS pod's uid, for `pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodUid>,
    /// The address asked.
    pub ip: IpAddr,
    /// UDP or TCP.
    pub transport: Transport,
    /// Which kind of name.
    pub question: QuestionKind,
    /// From the host or from pods.
    pub from: VantageKind,
    /// Vantages whose last result is good.
    pub good: u32,
    /// Vantages where the path is suspected (failed and confirmed).
    pub bad: u32,
    /// The most frequent failing outcome, if `bad > 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeKind>,
    /// Microseconds of the last good answers, the median of the vantages: for people, no reason to write a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u32>,
}

/// `NodeAgent.status`. Bounded: at most 16 verdicts of at most 12 evidence lines, at most 128 rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Counts up with every write, over restarts too.
    #[serde(default)]
    pub sequence: u64,
    /// When it was written, by the agent's own clock: for people, freshness is judged by the reader's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Timestamp>,
    /// The agent's version.
    #[serde(default)]
    pub version: String,
    /// `true`: the agent vouches for itself (has read the API lately, is not starved, may do what it must).
    #[serde(default)]
    pub self_check: bool,
    /// What is wrong with the agent itself, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// Pod namespaces probed from.
    #[serde(default)]
    pub namespaces: u32,
    /// The matrix.
    #[serde(default)]
    pub matrix: MatrixDigest,
    /// Standing verdicts.
    #[serde(default)]
    pub verdicts: Vec<ReportedVerdict>,
    /// Failing targets that other nodes' agents must judge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deferred: Vec<Deferral>,
    /// Complaints of other nodes that this one has looked into (two samples or more) without finding a reason here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examined: Vec<PodUid>,
    /// What was found on the node that no rule knows how to read (an eBPF data plane, IPVS, chains of a policy engine): what
    /// is said of this node's network may be incomplete. At most 8 lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmodelled: Vec<String>,
    /// Answers to the requests in `spec.requests`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<RequestAnswer>,
    /// Node remedies that were done or would have been done, newest last, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<crate::remedy::RemedyRecord>,
    /// `True` while DNS answers on every path of this node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A condition in the form of `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Healthy` or `Watching`.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One CamelCase word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// A verdict as it stands in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReportedVerdict {
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ruled_out: Vec<RuledOut>,
    /// Since when, by the agent's clock.
    pub since: Timestamp,
}

/// `NodeAgent.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeOrders {
    /// Queries per second that this agent may send to each CoreDNS pod; `None`: assume the share of a large cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_milli_qps: Option<u64>,
    /// Standing permit for node repairs. None: no change may be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<crate::plan::Permit>,
    /// Questions of the coordinator, at most 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestOrder>,
    /// What other nodes cannot reach on this one, at most 8: to be looked into even if nothing fails from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<Complaint>,
    /// Namespaces with the annotation `nameward.dev/ignore`, sorted, at most [`NodeOrders::IGNORED`]: their pods are not
    /// probed from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_namespaces: Vec<String>,
}

impl NodeOrders {
    /// Most namespaces that one cluster leaves alone.
    pub const IGNORED: usize = 128;
}

/// Other nodes cannot reach a CoreDNS pod of this node, and know of no reason of their own. They go on asking, so what
/// drops their packets here can be counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Complaint {
    /// The CoreDNS pod, on the node that is told.
    pub pod: PodUid,
    /// By which transports it cannot be reached.
    pub transports: Vec<Transport>,
    /// From which nodes, at most 16.
    pub from: Vec<crate::ids::NodeName>,
    /// What they see, in one line.
    pub because: String,
}

/// A question of the coordinator: ask these CoreDNS pods now, from the host and from your pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestOrder {
    /// Comes back in the answer.
    pub id: RequestId,
    /// The CoreDNS pods to ask, at most 8.
    pub pods: Vec<PodUid>,
    /// Whether to ask the Service too.
    #[serde(default)]
    pub service: bool,
    /// Not answered within this many seconds of being seen: drop it.
    pub within_s: u32,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestAnswer {
    /// Of which request.
    pub id: RequestId,
    /// What was found, in the form of the matrix.
    pub rows: Vec<MatrixRow>,
}
