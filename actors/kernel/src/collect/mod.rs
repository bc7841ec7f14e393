//! What diagnosis reads: netfilter, sockets, counters, sysctls, conntrack, CoreDNS' health endpoint.
//!
//! Every collector is bounded in time and bytes, leaves no trace, and answers with a [`Reading`] that says why there is
//! nothing, when there is nothing.

mod bypass;
mod cgroups;
mod command;
mod conntrack;
mod devices;
mod fetch;
mod health;
mod inside;
mod listeners;
mod locks;
mod netfilter;
mod proc;
mod trace;

use std::time::Duration;

use crate::enter::EnterError;
use crate::facts::Reading;

pub use bypass::bypass;
pub use cgroups::{CgroupFigures, cgroup};
pub use conntrack::{MAX_FLOWS, flow_groups, flows_to};
pub use devices::{MAX_DEVICES, neighbour_stat};
pub use fetch::{Fetched, Reach, fetch, reach};
pub use health::{Health, health};
pub use inside::netfilter_inside;
pub use locks::{XTABLES_LOCK, xtables_lock};
pub use netfilter::{chain_policy, netfilter, netfilter_about};
pub use proc::{conntrack_stat, counters, sockets, sockets_on, sysctls};
pub use trace::{TRACE_WITHIN, TraceProbe, trace};

/// Bounds of one collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest time.
    pub within: Duration,
    /// Most bytes from one command or file.
    pub bytes: u64,
}

/// A namespace that could not be entered, as a reading.
pub(crate) fn unreadable<T>(error: &EnterError) -> Reading<T> {
    let text = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match (error, error.errno()) {
        (_, Some(libc::EPERM | libc::EACCES)) => Reading::NotPermitted(text),
        (EnterError::NotANamespace { .. }, _) | (_, Some(libc::ENOENT)) => Reading::NotPresent(text),
        _ => Reading::Failed(text),
    }
}

/// A file that could not be read, as a reading.
pub(crate) fn unread<T>(path: &str, error: &std::io::Error) -> Reading<T> {
    match error.kind() {
        std::io::ErrorKind::NotFound => Reading::NotPresent(format!("{path} does not exist")),
        std::io::ErrorKind::PermissionDenied => Reading::NotPermitted(format!("{path}: {error}")),
        _ => Reading::Failed(format!("{path}: {error}")),
    }
}
