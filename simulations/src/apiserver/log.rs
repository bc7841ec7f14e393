//! What was asked of the server that changes something: results of scenarios are told from it.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One mutating request of somebody who is neither the administrator nor the machinery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Since the server started.
    pub at: Duration,
    /// By the server's wall clock.
    pub wall: Timestamp,
    /// Who asked.
    pub user: String,
    /// The pod that the token was bound to; empty if it was to none.
    pub instance: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The path without the query.
    pub path: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty for a create without a name in the path.
    pub name: String,
    /// As `eviction`, `scale`, `resize`, `status`; else empty.
    pub subresource: String,
    /// Nothing was changed because nothing was meant to be.
    pub dry_run: bool,
    /// HTTP status that was answered, or would have been if the reply had not been lost.
    pub code: u16,
    /// `reason` of a refusal, else empty.
    pub reason: String,
    /// The request's body, cut after 600 bytes.
    pub body: String,
    /// The reply was withheld by a fault.
    pub reply_lost: bool,
}

impl LogEntry {
    /// Whether it changed something.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.code < 300 && !self.dry_run
    }
}

const KEPT: usize = 65_536;

/// The newest entries, and how many older ones were let go.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<LogEntry>,
    dropped: u64,
}

impl Journal {
    pub(crate) fn add(&mut self, entry: LogEntry) {
        if self.entries.len() >= KEPT {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<LogEntry> {
        self.entries.iter().cloned().collect()
    }

    /// Those after the first `read` ever added.
    pub(crate) fn since(&self, read: u64) -> Vec<LogEntry> {
        let skip = usize::try_from(read.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).cloned().collect()
    }

    /// How many were ever added.
    pub(crate) fn added(&self) -> u64 {
        self.dropped + self.entries.len() as u64
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
