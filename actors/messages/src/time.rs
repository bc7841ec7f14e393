//! Time as an input. A mind never reads a clock: it is given [`Now`].

use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Monotonic time: the time since an arbitrary fixed point (in a running process the boot of the machine, by
/// `CLOCK_BOOTTIME`, so that it goes on during suspend). Intervals and deadlines are judged by it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mono(pub Duration);

impl Mono {
    /// The time since `earlier`, zero if `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

/// The moment at which a mind is asked to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// For every interval and deadline.
    pub mono: Mono,
    /// For people and for what leaves the process; never compared with another machine's clock.
    pub wall: Timestamp,
}

impl Now {
    /// A fixed point for tests and simulations: `after` its origin on both clocks.
    #[must_use]
    pub fn at(after: Duration) -> Self {
        let origin = Timestamp::from_second(1_700_000_000).unwrap_or(Timestamp::UNIX_EPOCH);
        let wall = origin.checked_add(after).unwrap_or(Timestamp::MAX);
        Self { mono: Mono(after), wall }
    }
}

impl Add<Duration> for Now {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self { mono: self.mono + by, wall: self.wall.checked_add(by).unwrap_or(Timestamp::MAX) }
    }
}
