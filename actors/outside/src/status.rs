//! What the agents and the coordinator have written, summed up: `nameward status`.

use std::time::Duration;

use jiff::Timestamp;
use nameward_cluster::wire::{AgentObject, IncidentObject};
use nameward_config::Config;
use nameward_config::ceilings::QUORUM_PERCENT;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::report::{NodeReport, ReportedVerdict};

mod model;

pub use model::{
    CauseLine, Health, IncidentLine, Leader, LeaseRead, NodeLine, NodeState, Paths, Read, Summary, Switch,
};

/// Most incidents that are told once they are resolved.
const RESOLVED: usize = 5;
/// Most open ones.
const OPEN: usize = 50;
/// Clocks that differ by more than this are said to.
const CLOCKS: Duration = Duration::from_secs(60);

/// Sums up.
#[must_use]
pub fn sum_up(read: &Read, config: &Config) -> Summary {
    let stale_after = config.coordinator.stale_after.0;
    let known = |name: &String| read.nodes.as_ref().is_none_or(|nodes| nodes.contains(name));
    let mut nodes: Vec<NodeLine> = read
        .agents
        .iter()
        .filter(|agent| known(&agent.metadata.name))
        .map(|agent| node_line(agent, read.now, stale_after))
        .collect();
    for name in read.nodes.iter().flatten() {
        if !read.agents.iter().any(|agent| agent.metadata.name == *name) {
            nodes.push(absent(name));
        }
    }
    nodes.sort_by(|a, b| (a.state, &a.node).cmp(&(b.state, &b.node)));
    let incidents = incident_lines(&read.incidents);
    let open = incidents.iter().filter(|i| i.phase != IncidentPhase::Resolved).count();
    let health = health(&nodes, open);
    let coordinator = leader(&read.lease, read.now, config);
    let mut notes = notes(read, coordinator.as_ref());
    let ahead =
        nodes.iter().any(|n| n.reported_s_ago.is_some_and(|s| s < -i64::try_from(CLOCKS.as_secs()).unwrap_or(60)));
    if ahead {
        notes.push("reports come from the future: the clock of this machine is behind".to_owned());
    }
    let unread =
        read.incidents.len() - read.incidents.iter().filter(|i| i.spec.is_some() && i.status.is_some()).count();
    if unread > 0 {
        notes.push(format!("{unread} incidents are of another version and cannot be read"));
    }
    let healthy = match &health {
        Health::Healthy => Some(true),
        Health::Unhealthy => Some(false),
        Health::Unknown(_) => None,
    };
    let headline = headline(&health, &nodes, open);
    Summary { healthy, headline, nodes, incidents, coordinator, kill_switch: read.switch, notes, health }
}

fn health(nodes: &[NodeLine], open: usize) -> Health {
    let count = |wanted: &[NodeState]| nodes.iter().filter(|n| wanted.contains(&n.state)).count();
    if open > 0 || count(&[NodeState::Unhealthy]) > 0 {
        return Health::Unhealthy;
    }
    let speaks = count(&[NodeState::Healthy]);
    if nodes.is_empty() {
        return Health::Unknown("no agent has reported".to_owned());
    }
    // The floor below which the coordinator does not act either.
    let floor = usize::try_from(QUORUM_PERCENT).unwrap_or(100);
    if speaks * 100 < nodes.len() * floor {
        return Health::Unknown(format!("{speaks} of {} nodes say how they are; {floor} % must", nodes.len()));
    }
    Health::Healthy
}

fn headline(health: &Health, nodes: &[NodeLine], open: usize) -> String {
    let count = |wanted: NodeState| nodes.iter().filter(|n| n.state == wanted).count();
    let all = nodes.len();
    match health {
        Health::Unknown(why) => format!("How cluster DNS is cannot be said: {why}."),
        Health::Healthy => match all - count(NodeState::Healthy) {
            0 => format!("Cluster DNS answers on all {all} nodes."),
            rest => format!("Cluster DNS answers on {} of {all} nodes; {rest} say nothing.", count(NodeState::Healthy)),
        },
        Health::Unhealthy => {
            let incidents = if open == 1 { "1 open incident".to_owned() } else { format!("{open} open incidents") };
            format!("Cluster DNS is not well: {} of {all} nodes unhealthy, {incidents}.", count(NodeState::Unhealthy))
        }
    }
}

fn age(now: Timestamp, at: Option<Timestamp>) -> Option<i64> {
    Some(now.as_second() - at?.as_second())
}

fn absent(name: &str) -> NodeLine {
    NodeLine {
        node: name.to_owned(),
        state: NodeState::Absent,
        because: "no agent has reported for this node".to_owned(),
        causes: Vec::new(),
        paths: Paths::default(),
        pods: 0,
        version: String::new(),
        reported_s_ago: None,
        troubles: Vec::new(),
    }
}

fn node_line(agent: &AgentObject, now: Timestamp, stale_after: Duration) -> NodeLine {
    let Some(report) = &agent.report else { return absent(&agent.metadata.name) };
    let reported_s_ago = age(now, report.written_at);
    let (state, because) = stands(report, reported_s_ago, stale_after);
    let paths = report.matrix.rows.iter().fold(Paths::default(), |sum, row| Paths {
        good: sum.good.saturating_add(row.good),
        bad: sum.bad.saturating_add(row.bad),
    });
    let cause = |v: &ReportedVerdict| CauseLine { cause: v.cause, subject: v.subject.to_string(), since: v.since };
    NodeLine {
        node: agent.metadata.name.clone(),
        state,
        because,
        causes: report.verdicts.iter().map(cause).collect(),
        paths,
        pods: report.namespaces,
        version: report.version.clone(),
        reported_s_ago,
        troubles: report.troubles.clone(),
    }
}

fn stands(report: &NodeReport, ago: Option<i64>, stale_after: Duration) -> (NodeState, String) {
    let limit = i64::try_from(stale_after.as_secs()).unwrap_or(i64::MAX);
    match ago {
        None => return (NodeState::Silent, "the report does not say when it was written".to_owned()),
        Some(ago) if ago > limit => {
            return (NodeState::Silent, format!("the last report is {} old", spell(ago)));
        }
        Some(_) => {}
    }
    let healthy = report.conditions.iter().find(|c| c.r#type == "Healthy");
    let said = |state| (state, healthy.map(|c| c.message.clone()).unwrap_or_default());
    match (healthy.map(|c| c.status.as_str()), report.verdicts.first()) {
        (Some("False"), _) => said(NodeState::Unhealthy),
        (_, Some(verdict)) => (NodeState::Unhealthy, format!("{} of {}", verdict.cause, verdict.subject)),
        (Some("True"), None) if report.self_check => said(NodeState::Healthy),
        (Some(_), None) => said(NodeState::Unknown),
        (None, None) => (NodeState::Unknown, "the report says nothing of DNS".to_owned()),
    }
}

/// Seconds in the unit that people count in.
#[must_use]
pub fn spell(seconds: i64) -> String {
    match seconds {
        ..=-1 => "in the future".to_owned(),
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn incident_lines(objects: &[IncidentObject]) -> Vec<IncidentLine> {
    let mut all: Vec<IncidentLine> = objects
        .iter()
        .filter_map(|object| {
            let (spec, status) = (object.spec.as_ref()?, object.status.as_ref()?);
            Some(IncidentLine {
                name: object.metadata.name.clone(),
                phase: status.phase,
                cause: spec.cause,
                scope: spec.scope,
                subject: spec.subject.to_string(),
                summary: status.summary.clone(),
                nodes: status.nodes.iter().map(|n| n.0.clone()).collect(),
                opened_at: status.opened_at.or(object.metadata.creation_timestamp),
                closed_at: status.closed_at,
                last: status.ladder.last().cloned(),
            })
        })
        .collect();
    let resolved = |i: &IncidentLine| i.phase == IncidentPhase::Resolved;
    all.sort_by(|a, b| (resolved(a), b.opened_at, &a.name).cmp(&(resolved(b), a.opened_at, &b.name)));
    let (mut open, mut closed) = (0, 0);
    all.retain(|incident| {
        let (count, most) = if resolved(incident) { (&mut closed, RESOLVED) } else { (&mut open, OPEN) };
        *count += 1;
        *count <= most
    });
    all
}

fn leader(lease: &LeaseRead, now: Timestamp, config: &Config) -> Option<Leader> {
    match lease {
        LeaseRead::Unreadable(_) => None,
        LeaseRead::Absent => Some(Leader { holder: String::new(), renewed_s_ago: None, stale: true }),
        LeaseRead::Record(record) => {
            let renewed_s_ago = age(now, record.renewed_at);
            // Clocks of two machines are compared here, for people alone: with the slack of a skew.
            let limit = (config.coordinator.lease_duration.0 + CLOCKS).as_secs();
            let old = renewed_s_ago.is_none_or(|s| s > i64::try_from(limit).unwrap_or(i64::MAX));
            Some(Leader { holder: record.holder.clone(), renewed_s_ago, stale: old || record.holder.is_empty() })
        }
    }
}

fn notes(read: &Read, leader: Option<&Leader>) -> Vec<String> {
    let mut notes = Vec::new();
    if let LeaseRead::Unreadable(why) = &read.lease {
        notes.push(format!("who leads cannot be read: {why}"));
    }
    match leader {
        Some(Leader { holder, .. }) if holder.is_empty() => {
            notes.push("no coordinator leads: nothing is judged across nodes, and no remedy is done".to_owned());
        }
        Some(Leader { holder, renewed_s_ago, stale: true }) => {
            let ago = renewed_s_ago.map_or_else(|| "ever".to_owned(), |s| format!("for {}", spell(s)));
            notes.push(format!(
                "the coordinator {holder} has not renewed its Lease {ago}: nothing is judged across nodes"
            ));
        }
        Some(_) | None => {}
    }
    match read.switch {
        Switch::On => notes.push("the kill switch is on: nothing is changed".to_owned()),
        Switch::Unreadable => {
            let why = read.switch_unread.as_deref().unwrap_or("nobody knows why");
            notes.push(format!("the kill switch (get of the ConfigMap nameward-policy) could not be read: {why}"));
        }
        Switch::Off => {}
    }
    if read.nodes.is_none() {
        notes.push("the nodes may not be listed: one without an agent is not seen".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests;
