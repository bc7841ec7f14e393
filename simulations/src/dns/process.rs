//! Faults of the process as a whole: what it knows of the API, how much it can do, what it says of that.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::handler::lock;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFault {
    /// `unsynced`: it has never read the API. SERVFAIL for the cluster's names, and `/ready` waits for `kubernetes`.
    Unsynced,
    /// `forbidden`: the same, and the API refuses its rights, as its counters tell.
    Forbidden,
    /// `forward-limit`: REFUSED for every name that would be forwarded, since too many queries are under way.
    ForwardLimit,
    /// `capacity QUERIES`: it answers so many queries a second; the others are lost.
    Capacity(u32),
}

/// A text that is none of them.
#[derive(Debug)]
pub struct NoFault;

impl FromStr for ProcessFault {
    type Err = NoFault;

    fn from_str(line: &str) -> Result<Self, NoFault> {
        let mut words = line.split_whitespace();
        let fault = match (words.next(), words.next()) {
            (Some("unsynced"), None) => Self::Unsynced,
            (Some("forbidden"), None) => Self::Forbidden,
            (Some("forward-limit"), None) => Self::ForwardLimit,
            (Some("capacity"), Some(queries)) => Self::Capacity(queries.parse().map_err(|_| NoFault)?),
            _ => return Err(NoFault),
        };
        if words.next().is_some() { Err(NoFault) } else { Ok(fault) }
    }
}

impl fmt::Display for ProcessFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsynced => f.write_str("unsynced"),
            Self::Forbidden => f.write_str("forbidden"),
            Self::ForwardLimit => f.write_str("forward-limit"),
            Self::Capacity(queries) => write!(f, "capacity {queries}"),
        }
    }
}

/// Those that are there, and what they count.
#[derive(Debug, Default)]
pub(super) struct Process {
    state: Mutex<State>,
    rejects: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    unsynced: bool,
    forbidden_since: Option<Instant>,
    forward_limit: bool,
    capacity: Option<u32>,
    /// The second that is counted, and the queries in it.
    window: Option<(Instant, u32)>,
}

impl Process {
    pub(super) fn obey(&self, fault: ProcessFault) {
        let mut state = lock(&self.state);
        match fault {
            ProcessFault::Unsynced => state.unsynced = true,
            ProcessFault::Forbidden => {
                state.unsynced = true;
                state.forbidden_since.get_or_insert_with(now);
            }
            ProcessFault::ForwardLimit => state.forward_limit = true,
            ProcessFault::Capacity(queries) => state.capacity = Some(queries),
        }
    }

    /// All is well again.
    pub(super) fn heal(&self) {
        *lock(&self.state) = State::default();
    }

    /// It knows nothing of the cluster.
    pub(super) fn unsynced(&self) -> bool {
        lock(&self.state).unsynced
    }

    /// A query that would be forwarded is refused.
    pub(super) fn rejects(&self) -> bool {
        let rejects = lock(&self.state).forward_limit;
        if rejects {
            self.rejects.fetch_add(1, Ordering::Relaxed);
        }
        rejects
    }

    /// A query is lost, since there are too many.
    pub(super) fn overrun(&self) -> bool {
        let mut state = lock(&self.state);
        let Some(capacity) = state.capacity else { return false };
        let now = now();
        let count = match state.window {
            Some((since, count)) if now.duration_since(since).as_secs() < 1 => count.saturating_add(1),
            _ => 1,
        };
        let since = if count == 1 { now } else { state.window.map_or(now, |(since, _)| since) };
        state.window = Some((since, count));
        count > capacity
    }

    /// Its families of `/metrics`, named as CoreDNS names them.
    pub(super) fn metrics(&self, text: &mut String) {
        let rejects = self.rejects.load(Ordering::Relaxed);
        let refused = lock(&self.state).forbidden_since.map(|since| 1 + 2 * now().duration_since(since).as_secs());
        let mut line = |line: String| {
            let _never_fails = writeln!(text, "{line}");
        };
        line("# TYPE coredns_forward_max_concurrent_rejects_total counter".to_owned());
        line(format!("coredns_forward_max_concurrent_rejects_total {rejects}"));
        line(
            "# TYPE coredns_forward_healthcheck_broken_total counter\ncoredns_forward_healthcheck_broken_total 0"
                .to_owned(),
        );
        line("# TYPE coredns_kubernetes_rest_client_requests_total counter".to_owned());
        for (code, count) in [("200", Some(9)), ("403", refused)] {
            if let Some(count) = count {
                let labels = format!("code=\"{code}\",host=\"10.96.0.1:443\",method=\"GET\"");
                line(format!("coredns_kubernetes_rest_client_requests_total{{{labels}}} {count}"));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the simulation's clock is the real one")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        for line in ["unsynced", "forbidden", "forward-limit", "capacity 40"] {
            assert_eq!(line.parse::<ProcessFault>().unwrap().to_string(), line);
        }
        for line in ["", "capacity", "capacity x", "unsynced now"] {
            assert!(line.parse::<ProcessFault>().is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_beyond_its_capacity_is_lost() {
        let process = Process::default();
        process.obey(ProcessFault::Capacity(3));
        let lost = (0..10).filter(|_| process.overrun()).count();
        assert!((4..=7).contains(&lost), "{lost}");
        process.heal();
        assert!(!process.overrun());
    }
}
