//! The matrix of one node: its host and its pods, one by one.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{PathKey, QuestionKind};
use nameward_messages::status::{Matrix, MatrixOf, PathState, Seen};
use nameward_messages::targets::{Target, TargetKind};

use super::grid::{Column, Grid, Line};
use crate::state::{Entry, Snapshot};

/// The matrix, if anything is known.
#[must_use]
pub fn matrix(snapshot: &Snapshot) -> Option<Matrix> {
    let now = snapshot.at.map(|now| now.mono).unwrap_or_default();
    let suspected: BTreeSet<&PathKey> = snapshot.suspected.iter().map(|(path, _)| &**path).collect();
    let mut grid = Grid::default();
    for entry in &snapshot.matrix {
        let line = line(&entry.path.vantage);
        let seen = seen(entry, suspected.contains(&*entry.path), now.since(entry.at));
        grid.put(&line, &column(&entry.path.target), entry.path.transport, seen);
    }
    // Suspected between two rounds, before a round has told of them.
    let told: BTreeSet<&PathKey> = snapshot.matrix.iter().map(|entry| &*entry.path).collect();
    for path in suspected.difference(&told) {
        let seen = Seen { state: PathState::Failing, bad: 1, failing: vec![path.question], ..Seen::default() };
        grid.put(&line(&path.vantage), &column(&path.target), path.transport, seen);
    }
    grid.matrix(MatrixOf::Node)
}

fn line(vantage: &Vantage) -> Line {
    let (from, more) = match vantage {
        Vantage::Host => ("host".to_owned(), 0),
        Vantage::Pod { key, cookie, .. } => (key.to_string(), cookie.0),
    };
    Line { node: None, kind: vantage.kind(), from, more }
}

fn column(target: &Target) -> Column {
    match &target.kind {
        TargetKind::Pod { key, node, .. } => Column::new("pod", &key.name, target.ip, node.clone()),
        TargetKind::Service => Column::new("service", "DNS Service", target.ip, None),
        TargetKind::Nameserver | TargetKind::Upstream => {
            Column::new(target.kind.label(), target.kind.label(), target.ip, None)
        }
    }
}

fn seen(entry: &Entry, suspected: bool, age: Duration) -> Seen {
    let good = entry.outcome.good();
    let question = entry.path.question;
    let state = match (suspected, good) {
        (true, _) => PathState::Failing,
        (false, Some(true)) => PathState::Well,
        (false, Some(false)) => PathState::Doubtful,
        (false, None) => PathState::Unknown,
    };
    let fails = good == Some(false);
    Seen {
        state,
        good: u32::from(good == Some(true) && !suspected),
        bad: u32::from(suspected),
        latency_us: (good == Some(true) && question == QuestionKind::Internal)
            .then(|| u64::try_from(entry.latency.as_micros()).unwrap_or(u64::MAX)),
        outcome: fails.then(|| entry.outcome.kind()),
        // A suspected path may just have answered for once.
        says: match (fails, suspected) {
            (true, _) => Some(entry.outcome.to_string()),
            (false, true) => Some("fails now and then".to_owned()),
            (false, false) => None,
        },
        failing: if suspected || fails { vec![question] } else { Vec::new() },
        age_s: Some(age.as_secs()),
    }
}
