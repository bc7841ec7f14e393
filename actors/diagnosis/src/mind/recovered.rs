//! What failed and healed before a cause was named: not forgotten, and not called a verdict.

use std::collections::{BTreeMap, BTreeSet};

use nameward_messages::Now;
use nameward_messages::probe::{Outcome, PathKey};
use nameward_messages::verdict::{Evidence, RECOVERED_PATHS, Recovery};

use crate::matrix::Matrix;

/// Paths that are remembered; what is beyond is counted.
const MOST: usize = 256;

/// What an open case has seen fail.
#[derive(Debug)]
pub(super) struct Seen {
    began: Now,
    paths: BTreeMap<PathKey, Outcome>,
    /// A verdict stood in this case: that says more.
    named: bool,
}

impl Seen {
    pub(super) fn new(now: Now) -> Self {
        Self { began: now, paths: BTreeMap::new(), named: false }
    }

    /// Takes in what fails and is neither explained, nor excused, nor another node's to judge.
    pub(super) fn note(&mut self, open: &BTreeSet<PathKey>, matrix: &Matrix, named: bool) {
        self.named |= named;
        for path in open {
            let Some(state) = matrix.get(path) else { continue };
            if self.paths.len() < MOST || self.paths.contains_key(path) {
                let outcome = state.failing.as_ref().unwrap_or(&state.last);
                self.paths.insert(path.clone(), outcome.clone());
            }
        }
    }

    /// The record that is left, if there is anything to say: some path that failed is asked still, and answers.
    pub(super) fn recovery(&self, now: Now, matrix: &Matrix, samples: u32) -> Option<Recovery> {
        let heals = |path: &PathKey| matrix.get(path).is_some_and(|s| s.suspected.is_none());
        if self.named || !self.paths.keys().any(heals) {
            return None;
        }
        let line = |(path, outcome): (&PathKey, &Outcome)| {
            let after = if matrix.get(path).is_some() { "answers again" } else { "is not asked any more" };
            Evidence::new(format!("probe {path}"), format!("{outcome}, then {after}"))
        };
        let more = self.paths.len().saturating_sub(RECOVERED_PATHS);
        Some(Recovery {
            began: self.began.wall,
            ended: now.wall,
            paths: self.paths.iter().take(RECOVERED_PATHS).map(line).collect(),
            more: u32::try_from(more).unwrap_or(u32::MAX),
            samples,
        })
    }
}
