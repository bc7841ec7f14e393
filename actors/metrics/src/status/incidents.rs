//! Incidents of the cluster and verdicts of nodes, as one list.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::NodeName;
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::{IncidentPhase, IncidentSpec, IncidentStatus};
use nameward_messages::status::{Incident, MOST_INCIDENTS, PacketWay, Station};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Layer, RuledOut, Scope, Subject, VerdictKey};

use super::acts::{act, collapse};
use crate::state::{About, Snapshot};

/// How long a closed incident is shown.
const CLOSED_FOR: Duration = Duration::from_secs(3600);

/// A verdict, of this node or of another.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// Who says so.
    pub node: &'a NodeName,
    /// What is wrong.
    pub cause: Cause,
    /// How far it reaches.
    pub scope: Scope,
    /// What it is about.
    pub subject: &'a Subject,
    /// How sure.
    pub confidence: Confidence,
    /// What was read.
    pub evidence: &'a [Evidence],
    /// What it is not.
    pub ruled_out: &'a [RuledOut],
    /// Since when.
    pub since: Timestamp,
}

pub(super) fn of(snapshot: &Snapshot, about: &About, view: Option<&ClusterView>) -> (Vec<Incident>, u32) {
    let now = snapshot.at.map(|now| now.wall).unwrap_or_default();
    let own = NodeName(about.node.clone());
    let mut told: Vec<Told<'_>> = snapshot
        .verdicts
        .iter()
        .map(|verdict| Told {
            node: &own,
            cause: verdict.cause,
            scope: verdict.scope,
            subject: &verdict.subject,
            confidence: verdict.confidence,
            evidence: &verdict.evidence,
            ruled_out: &verdict.ruled_out,
            since: verdict.since.wall,
        })
        .collect();
    // What this process says itself is newer than what it has reported.
    let others = |name: &NodeName| about.role == "coordinator" || *name != own;
    for agent in view.into_iter().flat_map(|view| &view.agents).filter(|agent| others(&agent.name)) {
        told.extend(agent.report.iter().flat_map(|report| &report.verdicts).map(|verdict| Told {
            node: &agent.name,
            cause: verdict.cause,
            scope: verdict.scope,
            subject: &verdict.subject,
            confidence: verdict.confidence,
            evidence: &verdict.evidence,
            ruled_out: &verdict.ruled_out,
            since: verdict.since,
        }));
    }
    let mut incidents: Vec<Incident> = Vec::new();
    let mut covered = BTreeSet::new();
    for (name, incident_about) in &snapshot.incidents {
        let (spec, status) = incident_about.as_ref();
        let open = status.phase != IncidentPhase::Resolved;
        let lately =
            status.closed_at.is_none_or(|at| now.duration_since(at) <= CLOSED_FOR.try_into().unwrap_or_default());
        if !open && !lately {
            continue;
        }
        let same: Vec<&Told<'_>> =
            told.iter().filter(|told| open && told.cause == spec.cause && *told.subject == spec.subject).collect();
        if open {
            covered.insert((spec.cause, spec.subject.clone()));
        }
        incidents.push(incident(name, spec, status, &same));
    }
    let mut alone: BTreeMap<(Cause, &Subject), Vec<&Told<'_>>> = BTreeMap::new();
    for told in told.iter().filter(|told| !covered.contains(&(told.cause, told.subject.clone()))) {
        alone.entry((told.cause, told.subject)).or_default().push(told);
    }
    incidents.extend(alone.into_values().filter_map(|told| verdict(&told)));
    for incident in &mut incidents {
        let key = VerdictKey { cause: incident.cause, subject: incident.subject.clone() };
        incident.way = snapshot.ways.get(&key).filter(|_| incident.open).map(|way| PacketWay::clone(way));
        if incident.name.is_none() {
            // What this node did about it: an incident has its own ladder.
            let own = snapshot.remedies.iter().filter(|record| {
                record.subject == incident.subject && incident.since.is_none_or(|since| record.at >= since)
            });
            incident.acts = collapse(own.map(|record| act(record, None)).collect());
        }
    }
    incidents.sort_by_key(|incident| (!incident.open, Reverse(incident.since), incident.name.clone()));
    let left_out = u32::try_from(incidents.len().saturating_sub(MOST_INCIDENTS)).unwrap_or(u32::MAX);
    incidents.truncate(MOST_INCIDENTS);
    (incidents, left_out)
}

/// A `DnsIncident`, with the verdicts that nodes have of the same.
#[must_use]
pub fn incident(name: &str, spec: &IncidentSpec, status: &IncidentStatus, told: &[&Told<'_>]) -> Incident {
    let mut nodes: Vec<NodeName> = status.nodes.clone();
    nodes.extend(told.iter().map(|told| told.node.clone()));
    nodes.sort();
    nodes.dedup();
    let best = told.iter().max_by_key(|told| told.confidence);
    let mut incident = bare(spec.cause, spec.scope, &spec.subject, nodes);
    incident.name = Some(name.to_owned());
    incident.phase = Some(status.phase);
    incident.open = status.phase != IncidentPhase::Resolved;
    incident.confidence = best.map(|told| told.confidence);
    incident.since = status.opened_at;
    incident.closed_at = status.closed_at;
    if status.summary != incident.says {
        incident.summary.clone_from(&status.summary);
    }
    incident.evidence = if status.evidence.is_empty() {
        best.map(|t| t.evidence.to_vec()).unwrap_or_default()
    } else {
        status.evidence.clone()
    };
    incident.ruled_out = if status.ruled_out.is_empty() {
        best.map(|t| t.ruled_out.to_vec()).unwrap_or_default()
    } else {
        status.ruled_out.clone()
    };
    incident.acts = collapse(status.ladder.iter().map(|record| act(record, None)).collect());
    incident
}

/// What nodes say and no incident tells of.
fn verdict(told: &[&Told<'_>]) -> Option<Incident> {
    let best = told.iter().max_by_key(|told| told.confidence)?;
    let mut incident = bare(best.cause, best.scope, best.subject, told.iter().map(|told| told.node.clone()).collect());
    incident.confidence = Some(best.confidence);
    incident.since = told.iter().map(|told| told.since).min();
    incident.evidence = best.evidence.to_vec();
    incident.ruled_out = best.ruled_out.to_vec();
    Some(incident)
}

fn bare(cause: Cause, scope: Scope, subject: &Subject, nodes: Vec<NodeName>) -> Incident {
    let about = cause.about();
    let seen_by = nodes.first().map(|node| node.as_str().to_owned());
    Incident {
        name: None,
        cause,
        says: format!("{subject} {}", about.says),
        scope,
        subject: subject.clone(),
        confidence: None,
        phase: None,
        open: true,
        nodes,
        since: None,
        closed_at: None,
        summary: String::new(),
        evidence: Vec::new(),
        ruled_out: Vec::new(),
        stations: stations(about.layer),
        way: None,
        acts: Vec::new(),
        remedy: about.remedy,
        command: cause.command_for(subject, seen_by.as_deref()),
        never: about.never.iter().map(|never| (*never).to_owned()).collect(),
        runbook: format!("runbooks/{}.md", about.id),
    }
}

/// The places that a question passes, in order. Of what is unknown none is marked.
#[must_use]
pub fn stations(layer: Layer) -> Vec<Station> {
    [
        ("the asking pod's own network", Layer::Pod),
        ("the node: links, routes, packet filters", Layer::Node),
        ("the DNS Service", Layer::Service),
        ("the network between nodes", Layer::Underlay),
        ("CoreDNS", Layer::Coredns),
        ("the upstream resolver", Layer::Upstream),
    ]
    .into_iter()
    .map(|(name, of)| Station { name: name.to_owned(), here: of == layer })
    .collect()
}
