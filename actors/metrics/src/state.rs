//! What `/state` and the page are made from, and what `/state` shows, without what supervision adds (actors, stages, uptime).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::guarding::Breaker;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::plan::{IncidentPhase, IncidentSpec, IncidentStatus};
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::remedy::{Mode, RemedyRecord};
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::status::{History, PacketWay};
use nameward_messages::targets::{Targets, Transport};
use nameward_messages::verdict::{
    Cause, Confidence, Deferral, Evidence, Recovery, RuledOut, Scope, Subject, Verdict, VerdictKey,
};
use nameward_messages::{Mono, Now};
use serde::Serialize;

/// What this process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Nameward's version.
    pub version: String,
    /// The node it runs on.
    pub node: String,
    /// `agent`, `coordinator` or `all`.
    pub role: String,
}

/// What the mind last published. Parts are shared, not copied.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was published; `None` before the first time.
    pub at: Option<Now>,
    /// Namespaces that are probed from.
    pub namespaces: Vec<Arc<Namespace>>,
    /// What can be asked.
    pub targets: Arc<Targets>,
    /// The last result of every path.
    pub matrix: Vec<Entry>,
    /// Paths that are not in the matrix since it is full.
    pub matrix_left_out: u64,
    /// Suspected paths and since when.
    pub suspected: Vec<(Arc<PathKey>, Timestamp)>,
    /// Verdicts that stand.
    pub verdicts: Vec<Arc<Verdict>>,
    /// Failing targets that other nodes judge.
    pub deferred: Arc<Vec<Deferral>>,
    /// The last failures that healed before a cause was named, oldest first.
    pub recovered: Vec<Arc<Recovery>>,
    /// The last remedies, oldest first.
    pub remedies: Vec<Arc<RemedyRecord>>,
    /// Incidents by name.
    pub incidents: Vec<(String, Arc<(IncidentSpec, IncidentStatus)>)>,
    /// The coordinator's orders.
    pub orders: Option<Arc<NodeOrders>>,
    /// This node's report.
    pub report: Option<Arc<NodeReport>>,
    /// Number and period of the last round.
    pub round: Option<(u64, Duration)>,
    /// Whether this process holds the Lease.
    pub leader: bool,
    /// Whether the API answers; `None`: not known yet.
    pub api_reachable: Option<bool>,
    /// Hash of the configuration in force, if it was told.
    pub config_hash: Option<String>,
    /// Why the configuration on disk is not in force, if it is not.
    pub config_error: Option<String>,
    /// What this process cannot do.
    pub losses: Arc<Vec<String>>,
    /// What was found on this node that no rule knows how to read.
    pub unmodelled: Arc<Vec<String>>,
    /// The ways of packets that standing verdicts explain.
    pub ways: BTreeMap<VerdictKey, Arc<PacketWay>>,
    /// The cluster's kill switch; `None`: not read yet.
    pub kill_switch: Option<KillSwitch>,
    /// Breakers that are open.
    pub breakers: Vec<Breaker>,
    /// The cluster, where this process sees it.
    pub view: Option<Arc<ClusterView>>,
    /// A report that is older is not current.
    pub stale_after: Duration,
    /// What remedies may do unless their own mode says otherwise.
    pub mode: Mode,
    /// The last hour.
    pub history: Arc<History>,
}

/// The last result of one path.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The path.
    pub path: Arc<PathKey>,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub latency: Duration,
    /// When.
    pub at: Mono,
}

/// The snapshot as JSON. Field by field what docs call the state; times are wall-clock.
#[derive(Debug, Serialize)]
pub struct State<'a> {
    /// Part of the snapshot.
    pub published_at: Option<Timestamp>,
    /// Namespaces.
    pub namespaces: Vec<&'a Namespace>,
    /// Targets.
    pub targets: &'a Targets,
    /// Matrix.
    pub matrix: Vec<Row<'a>>,
    /// Paths left out of the matrix.
    pub matrix_left_out: u64,
    /// Suspected paths.
    pub suspected: Vec<Suspect>,
    /// Verdicts.
    pub verdicts: Vec<VerdictView<'a>>,
    /// Deferred to other nodes.
    pub deferred: &'a [Deferral],
    /// Healed before a cause was named.
    pub recovered: Vec<&'a Recovery>,
    /// Remedies.
    pub remedies: Vec<&'a RemedyRecord>,
    /// Incidents.
    pub incidents: Vec<IncidentView<'a>>,
    /// Orders.
    pub orders: Option<&'a NodeOrders>,
    /// Report.
    pub report: Option<&'a NodeReport>,
    /// Round.
    pub round: Option<RoundView>,
    /// Lease.
    pub leader: bool,
    /// API.
    pub api_reachable: Option<bool>,
    /// Configuration.
    pub config: ConfigView<'a>,
    /// What this process cannot do.
    pub losses: &'a [String],
}

/// One path of the matrix.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// `host`, or the pod as `namespace/name`.
    pub from: String,
    /// `pod`, `service`, `nameserver` or `upstream`.
    pub target: &'static str,
    /// The CoreDNS pod's name, for `pod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<&'a str>,
    /// The address asked.
    pub ip: IpAddr,
    /// UDP or TCP.
    pub transport: Transport,
    /// Which kind of name.
    pub question: QuestionKind,
    /// What came of it.
    pub outcome: &'static str,
    /// With its details, for people.
    pub detail: String,
    /// Whether it is a good answer; absent when nothing was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<bool>,
    /// Milliseconds that it took.
    pub latency_ms: f64,
    /// Seconds since, when the snapshot was published.
    pub age_s: u64,
}

/// One suspected path.
#[derive(Debug, Serialize)]
pub struct Suspect {
    /// The path, for people.
    pub path: String,
    /// Since when.
    pub since: Timestamp,
}

/// One verdict.
#[derive(Debug, Serialize)]
pub struct VerdictView<'a> {
    cause: Cause,
    scope: Scope,
    subject: &'a Subject,
    confidence: Confidence,
    evidence: &'a [Evidence],
    ruled_out: &'a [RuledOut],
    since: Timestamp,
    at: Timestamp,
}

/// One incident, short.
#[derive(Debug, Serialize)]
pub struct IncidentView<'a> {
    name: &'a str,
    cause: Cause,
    scope: Scope,
    subject: &'a Subject,
    phase: IncidentPhase,
    summary: &'a str,
    opened_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
}

/// The last round.
#[derive(Debug, Serialize)]
pub struct RoundView {
    number: u64,
    period_s: f64,
}

/// The configuration.
#[derive(Debug, Serialize)]
pub struct ConfigView<'a> {
    hash: Option<&'a str>,
    last_error: Option<&'a str>,
}

impl Snapshot {
    /// For JSON.
    #[must_use]
    pub fn view(&self) -> State<'_> {
        let mono = self.at.map(|now| now.mono).unwrap_or_default();
        State {
            published_at: self.at.map(|now| now.wall),
            namespaces: self.namespaces.iter().map(AsRef::as_ref).collect(),
            targets: &self.targets,
            matrix: self.matrix.iter().map(|entry| entry.view(mono)).collect(),
            matrix_left_out: self.matrix_left_out,
            suspected: self
                .suspected
                .iter()
                .map(|(path, since)| Suspect { path: path.to_string(), since: *since })
                .collect(),
            verdicts: self.verdicts.iter().map(|verdict| VerdictView::of(verdict)).collect(),
            deferred: &self.deferred,
            recovered: self.recovered.iter().map(AsRef::as_ref).collect(),
            remedies: self.remedies.iter().map(AsRef::as_ref).collect(),
            incidents: self.incidents.iter().map(|(name, about)| IncidentView::of(name, about)).collect(),
            orders: self.orders.as_deref(),
            report: self.report.as_deref(),
            round: self.round.map(|(number, period)| RoundView { number, period_s: period.as_secs_f64() }),
            leader: self.leader,
            api_reachable: self.api_reachable,
            config: ConfigView { hash: self.config_hash.as_deref(), last_error: self.config_error.as_deref() },
            losses: &self.losses,
        }
    }
}

impl Entry {
    fn view(&self, now: Mono) -> Row<'_> {
        use nameward_messages::targets::TargetKind;
        let path = &*self.path;
        Row {
            from: match &path.vantage {
                Vantage::Host => "host".to_owned(),
                Vantage::Pod { key, .. } => key.to_string(),
            },
            target: path.target.kind.label(),
            pod: match &path.target.kind {
                TargetKind::Pod { key, .. } => Some(&key.name),
                TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => None,
            },
            ip: path.target.ip,
            transport: path.transport,
            question: path.question,
            outcome: self.outcome.kind().label(),
            detail: self.outcome.to_string(),
            good: self.outcome.good(),
            latency_ms: self.latency.as_secs_f64() * 1000.0,
            age_s: now.since(self.at).as_secs(),
        }
    }
}

impl<'a> VerdictView<'a> {
    fn of(verdict: &'a Verdict) -> Self {
        Self {
            cause: verdict.cause,
            scope: verdict.scope,
            subject: &verdict.subject,
            confidence: verdict.confidence,
            evidence: &verdict.evidence,
            ruled_out: &verdict.ruled_out,
            since: verdict.since.wall,
            at: verdict.at.wall,
        }
    }
}

impl<'a> IncidentView<'a> {
    fn of(name: &'a str, about: &'a (IncidentSpec, IncidentStatus)) -> Self {
        let (spec, status) = about;
        Self {
            name,
            cause: spec.cause,
            scope: spec.scope,
            subject: &spec.subject,
            phase: status.phase,
            summary: &status.summary,
            opened_at: status.opened_at,
            closed_at: status.closed_at,
        }
    }
}
