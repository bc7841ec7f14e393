//! The one clock of the process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nameward_messages::{Mono, Now};
use nix::time::{ClockId, clock_gettime};

/// The moment: `CLOCK_BOOTTIME`, which goes on while the machine is suspended, beside the wall clock.
#[must_use]
pub fn now() -> Now {
    // It cannot fail on a Linux that has the clock (2.6.39); zero would be read as "just booted".
    let mono = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
    let wall = jiff::Timestamp::now();
    Now { mono: Mono(mono), wall }
}

/// A clock that can be swapped: supervision asks it for deadlines, budgets and heartbeats.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// A clock of one's own, such as one that follows tokio's paused time.
    #[must_use]
    pub fn new(now: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn does_not_go_back() {
        let first = now();
        let second = now();
        assert!(second.mono >= first.mono);
        assert!(first.mono.0 > std::time::Duration::ZERO);
    }
}
