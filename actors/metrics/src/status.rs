//! From what is known to what is shown: a pure function from [`Snapshot`] to [`Status`].

use std::time::Duration;

use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::guarding::Breaker;
use nameward_messages::status::{
    ClusterFigures, Health, Incident, Matrix, MatrixOf, Note, NoteKind, PathState, Source, Status,
};

use crate::state::{About, Snapshot};

mod acts;
mod cluster;
mod grid;
mod incidents;
mod node;

pub use acts::{act, collapse};
pub use cluster::{Reported, figures, matrix as cluster_matrix};
pub use incidents::{Told, incident, stations};
pub use node::matrix as node_matrix;

/// What the page shows besides what the mind published.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Since the process started.
    pub uptime: Duration,
    /// Actors that are not ready, and what they wait for.
    pub awaited: Vec<String>,
    /// Actors that do not work.
    pub troubles: Vec<String>,
    /// The file of the kill switch is there, or cannot be looked for.
    pub paused: bool,
}

/// What is shown.
#[must_use]
pub fn status(snapshot: &Snapshot, about: &About, around: &Around) -> Status {
    let agent = about.role != "coordinator";
    let coordinator = about.role != "agent";
    let view = snapshot.view.as_deref().filter(|view| coordinator && view.complete);
    let now = snapshot.at.map(|now| now.mono).unwrap_or_default();

    let figures = view.map(|view| cluster::of_view(view, now, snapshot.stale_after));
    let mut matrices = Vec::new();
    if let Some(view) = view {
        matrices.extend(cluster::matrix_of(view, now, snapshot.stale_after));
    }
    if agent {
        matrices.extend(node::matrix(snapshot));
    }
    let (incidents, incidents_left_out) = incidents::of(snapshot, about, view);

    let (health, headline) = headline(snapshot, about, &matrices, figures.as_ref(), &incidents);
    Status {
        source: Source {
            version: about.version.clone(),
            node: about.node.clone(),
            role: about.role.clone(),
            leading: coordinator.then_some(snapshot.leader),
            uptime_s: Some(around.uptime.as_secs()),
            period_s: snapshot.round.map(|(_, period)| period.as_secs()),
            mode: Some(snapshot.mode),
        },
        as_of: snapshot.at.map(|now| now.wall),
        health,
        headline,
        notes: notes(snapshot, around, coordinator),
        cluster: figures,
        matrices,
        incidents,
        incidents_left_out,
        acts: acts::of(snapshot),
        history: snapshot.history.as_ref().clone(),
    }
}

fn headline(
    snapshot: &Snapshot,
    about: &About,
    matrices: &[Matrix],
    figures: Option<&ClusterFigures>,
    incidents: &[Incident],
) -> (Health, String) {
    let named: Vec<&Incident> = incidents.iter().filter(|incident| incident.open).collect();
    let why = match &named[..] {
        [] => "no cause is named yet".to_owned(),
        [one] => format!("{} on {}", one.cause.id(), one.subject),
        [one, ..] => format!("{} on {}, and {} more", one.cause.id(), one.subject, named.len() - 1),
    };
    let (asked, failing) = paths(snapshot);
    if let Some(figures) = figures {
        let all = figures.reporting;
        return if figures.failing > 0 {
            (Health::Failing, format!("{} of {all} reporting nodes see DNS fail: {why}.", figures.failing))
        } else if !named.is_empty() {
            (Health::Failing, format!("No reporting node sees DNS fail now, but an incident is open: {why}."))
        } else if all == 0 {
            (Health::Unknown, "No agent reports: nothing can be said of the cluster.".to_owned())
        } else {
            let silent =
                if figures.silent > 0 { format!("; {} nodes are silent", figures.silent) } else { String::new() };
            let nodes =
                if all == 1 { "the one reporting node".to_owned() } else { format!("all {all} reporting nodes") };
            (Health::Well, format!("DNS answers {nodes}{silent}."))
        };
    }
    if about.role == "coordinator" {
        return (Health::Unknown, "The cluster has not been read yet.".to_owned());
    }
    let node = matrices.iter().find(|matrix| matrix.of == MatrixOf::Node);
    let vantages = node.map_or(0, |matrix| matrix.rows.len() + usize::try_from(matrix.rows_left_out).unwrap_or(0));
    let from = match vantages {
        1 => "1 vantage".to_owned(),
        n => format!("{n} vantages"),
    };
    if failing > 0 {
        (Health::Failing, format!("{failing} of {asked} paths from {from} of {} fail: {why}.", about.node))
    } else if !named.is_empty() {
        (Health::Failing, format!("All paths answer from {}, but something is wrong: {why}.", about.node))
    } else if asked == 0 {
        (Health::Unknown, "Nothing has been asked yet.".to_owned())
    } else {
        let doubtful = node.is_some_and(|matrix| matrix.rows.iter().any(|row| row.state == PathState::Doubtful));
        let doubt = if doubtful { " The last probe of some of them failed; that is not confirmed." } else { "" };
        (Health::Well, format!("{asked} of {asked} paths from {from} of {} answer.{doubt}", about.node))
    }
}

/// Paths that something was learned of, and those of them that are suspected.
fn paths(snapshot: &Snapshot) -> (usize, usize) {
    let asked = snapshot.matrix.iter().filter(|entry| entry.outcome.good().is_some()).count();
    (asked.max(snapshot.suspected.len()), snapshot.suspected.len())
}

/// Most notes of one kind.
const MOST_NOTES: usize = 12;

fn notes(snapshot: &Snapshot, around: &Around, coordinator: bool) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut add = |kind, texts: Vec<String>| {
        notes.extend(texts.into_iter().take(MOST_NOTES).map(|text| Note { kind, text }));
    };
    add(NoteKind::Trouble, around.troubles.clone());
    if snapshot.api_reachable == Some(false) {
        add(
            NoteKind::Trouble,
            vec!["the Kubernetes API does not answer; the last known targets are asked on".to_owned()],
        );
    }
    if let Some(error) = &snapshot.config_error {
        add(NoteKind::Trouble, vec![format!("the configuration on disk is bad, the one before is in force: {error}")]);
    }
    let mut stopped = Vec::new();
    if around.paused {
        stopped
            .push("the kill switch's file is on this machine, or cannot be looked for: this process changes nothing");
    }
    match snapshot.kill_switch {
        Some(KillSwitch::On) => stopped.push("the kill switch of the cluster is on: nothing is changed"),
        Some(KillSwitch::UnreadableSince(_)) => {
            stopped.push("the kill switch of the cluster cannot be read: after a minute nothing is changed");
        }
        Some(KillSwitch::Off) | None => {}
    }
    for breaker in &snapshot.breakers {
        stopped.push(match breaker {
            Breaker::Node => "a breaker is open: many nodes show the same fault, so no node is repaired",
            Breaker::Coredns => "a breaker is open: the last shared remedy made things worse, so there is none for now",
        });
    }
    add(NoteKind::Stopped, stopped.into_iter().map(str::to_owned).collect());
    add(NoteKind::Limit, snapshot.losses.as_ref().clone());
    add(NoteKind::Limit, snapshot.unmodelled.iter().map(|what| format!("not modelled: {what}")).collect());
    add(NoteKind::Info, around.awaited.iter().map(|what| format!("awaited: {what}")).collect());
    add(
        NoteKind::Info,
        snapshot.deferred.iter().map(|d| format!("left to {}: {} ({})", d.to_node, d.subject, d.because)).collect(),
    );
    if let (true, Some(view)) = (coordinator, snapshot.view.as_deref()) {
        add(NoteKind::Limit, cluster::unmodelled(view));
    }
    notes
}
