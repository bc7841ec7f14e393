//! `nameward status`: what the agents and the coordinator have written, read once.

use nameward_cluster::calls::CallError;
use nameward_cluster::connect::Connection;
use nameward_cluster::failure::Class;
use nameward_cluster::names::{POLICY, POLICY_PAUSED};
use nameward_config::settings::Config;
use nameward_messages::ObjectKey;
use nameward_messages::plan::IncidentPhase;
use nameward_outside::status::{
    Health, IncidentLine, LeaseRead, NodeLine, NodeState, Read, Summary, Switch, spell, sum_up,
};
use nameward_supervision::clock;

use crate::cli::{Output, StatusArgs};
use crate::config::configure;
use crate::exit::{Failure, Found};
use crate::logging::Log;
use crate::{check, output, run};

/// Nodes that are well and told one by one; the rest is summed up.
const WELL: usize = 20;
/// Other nodes that are told one by one.
const NOT_WELL: usize = 100;

pub(crate) fn status(args: &StatusArgs) -> Result<Found, Failure> {
    let form = args.output;
    let outcome = configure(&args.cluster).and_then(|(_, config, warnings)| {
        Log::start_quietly(&config, &args.cluster)?;
        warnings.iter().for_each(|warning| output::error(&format!("nameward: warning: {warning}")));
        nameward_supervision::run(move || tell(config, form))
            .map_err(|e| Failure::could_not("the threads of the process cannot be started", e))?
    });
    if let (Err(failure), Output::Json) = (&outcome, form) {
        failure.tell();
    }
    outcome
}

async fn tell(config: Config, form: Output) -> Result<Found, Failure> {
    let connection = run::connect(&config).await?;
    check::answers(&connection).await?;
    let read = read(&connection, &config).await?;
    let summary = sum_up(&read, &config);
    match form {
        Output::Json => {
            let mut object = serde_json::to_value(&summary)
                .map_err(|e| Failure::could_not("the status cannot be written as JSON", e))?;
            object["api"] = serde_json::json!(connection.server);
            output::json(&object);
        }
        Output::Text => output::line(&text(&summary, &connection.server)),
    }
    match summary.health {
        Health::Healthy => Ok(Found::Healthy),
        Health::Unhealthy => Ok(Found::Unhealthy),
        Health::Unknown(why) => {
            Err(Failure::could_not("how cluster DNS is cannot be said by what the agents have reported", why).told())
        }
    }
}

async fn read(connection: &Connection, config: &Config) -> Result<Read, Failure> {
    let cluster = &connection.cluster;
    let agents = cluster.list_agents().await.map_err(|e| installed(e, &connection.server))?;
    let incidents = cluster.list_incidents().await.map_err(|e| installed(e, &connection.server))?;
    let names =
        |nodes: Vec<nameward_cluster::wire::NodeWithAddresses>| nodes.into_iter().map(|n| n.metadata.name).collect();
    let nodes = cluster.list_nodes().await.ok().map(names);
    let key = |name: &str| ObjectKey::new(config.kubernetes.namespace.clone(), name);
    let lease = match cluster.get_lease(&key(&config.coordinator.lease_name)).await {
        Ok(record) => LeaseRead::Record(record),
        Err(error) if error.class == Class::NotFound => LeaseRead::Absent,
        Err(error) => LeaseRead::Unreadable(error.explain()),
    };
    let mut switch_unread = None;
    let switch = match cluster.get_config_map(&key(POLICY)).await {
        Ok(map) => Switch::said(map.data.get(POLICY_PAUSED).map(String::as_str)),
        Err(error) if error.class == Class::NotFound => Switch::Off,
        Err(error) => {
            switch_unread = Some(error.explain());
            Switch::Unreadable
        }
    };
    Ok(Read { now: clock::now().wall, agents, incidents, nodes, lease, switch, switch_unread })
}

/// The usual reason is that Nameward is not there.
fn installed(error: CallError, server: &str) -> Failure {
    let what = match error.class {
        Class::NotFound => {
            format!("{server} knows no NodeAgents: Nameward is not installed there (see its README, Install)")
        }
        Class::Forbidden => format!(
            "what Nameward's agents report to {server} may not be read; this user needs list of nodeagents and \
             dnsincidents in nameward.dev"
        ),
        _ => format!("what Nameward's agents report to {server} cannot be read"),
    };
    Failure::could_not(what, error)
}

/// For people.
fn text(summary: &Summary, server: &str) -> String {
    let mut lines = vec![summary.headline.clone()];
    lines.extend(summary.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(String::new());
    lines.push(nodes(&summary.nodes));
    if !summary.incidents.is_empty() {
        lines.push(String::new());
        lines.push(incidents(&summary.incidents));
    }
    let open = summary.incidents.iter().filter(|i| i.phase != IncidentPhase::Resolved);
    for incident in open {
        lines.push(String::new());
        let summary = if incident.summary.is_empty() { "nothing is written about it yet" } else { &incident.summary };
        lines.push(format!("{}: {summary}", incident.name));
        if let Some(last) = &incident.last {
            lines.push(format!("  {} {}: {}", last.kind, last.outcome.label(), last.detail));
        }
        lines.push(format!("  kubectl describe dnsincident {}; docs/runbooks/{}.md", incident.name, incident.cause));
    }
    lines.push(String::new());
    lines.push(match &summary.coordinator {
        Some(leader) if !leader.holder.is_empty() => {
            let renewed =
                leader.renewed_s_ago.map_or_else(String::new, |s| format!(", renewed {} ago", spell(s.max(0))));
            format!("{server}, coordinator {}{renewed}", leader.holder)
        }
        _ => server.to_owned(),
    });
    // What others have written must not write to a terminal as it likes.
    lines.join("\n").chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

fn nodes(all: &[NodeLine]) -> String {
    let mut table = output::table(["NODE", "DNS", "PATHS", "PODS", "REPORTED", "VERSION", "WHAT"]);
    let (well, other): (Vec<_>, Vec<_>) = all.iter().partition(|n| n.state == NodeState::Healthy);
    let more = well.len().saturating_sub(WELL) + other.len().saturating_sub(NOT_WELL);
    for node in other.into_iter().take(NOT_WELL).chain(well.into_iter().take(WELL)) {
        let paths = match (node.paths.good, node.paths.bad) {
            (0, 0) => "-".to_owned(),
            (good, 0) => format!("{good} ok"),
            (good, bad) => format!("{good} ok, {bad} fail"),
        };
        let causes: Vec<String> = node.causes.iter().map(|c| format!("{} ({})", c.cause, c.subject)).collect();
        let what = match (node.state, causes.is_empty()) {
            (_, false) => causes.join("; "),
            (NodeState::Healthy, true) => node.troubles.first().cloned().unwrap_or_default(),
            (_, true) => node.because.clone(),
        };
        let ago = node.reported_s_ago.map_or_else(|| "-".to_owned(), spell);
        table.add_row([
            node.node.clone(),
            node.state.label().to_owned(),
            paths,
            if node.state == NodeState::Absent { "-".to_owned() } else { node.pods.to_string() },
            ago,
            node.version.clone(),
            what,
        ]);
    }
    let mut text = output::trimmed(&table);
    if more > 0 {
        text.push_str(&format!("\nand {more} more; --output json has all"));
    }
    text
}

fn incidents(all: &[IncidentLine]) -> String {
    let mut table = output::table(["INCIDENT", "PHASE", "CAUSE", "SUBJECT", "OPENED", "LAST"]);
    for incident in all {
        let opened = incident.opened_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
        let last = incident.last.as_ref().map_or_else(String::new, |r| format!("{} {}", r.kind, r.outcome.label()));
        let phase = format!("{:?}", incident.phase);
        table.add_row([
            incident.name.clone(),
            phase,
            incident.cause.to_string(),
            incident.subject.clone(),
            opened,
            last,
        ]);
    }
    output::trimmed(&table)
}
