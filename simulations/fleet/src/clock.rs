//! Clocks that disagree: every process has its own origin, its own pace, and its own wall clock, which somebody keeps at the pace of
//! time, though not at its value.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nameward_messages::{Mono, Now};

/// One process's clock against the true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What its monotonic clock shows at the true time zero.
    pub(crate) origin: Duration,
    /// How far its wall clock is ahead.
    pub(crate) wall_ahead: SignedDuration,
    /// How much faster the monotonic one runs, in millionths.
    pub(crate) ppm: i64,
}

impl Clock {
    /// The true clock.
    pub(crate) const TRUE: Self = Self { origin: Duration::ZERO, wall_ahead: SignedDuration::ZERO, ppm: 0 };

    /// What it shows at a true time.
    pub(crate) fn now(&self, at: Mono) -> Now {
        let local = self.scaled(at.0);
        let wall = Now::at(at.0).wall.checked_add(self.wall_ahead).unwrap_or(Timestamp::MAX);
        Now { mono: Mono(self.origin.saturating_add(local)), wall }
    }

    /// The first true time at which it shows `local`.
    pub(crate) fn when(&self, local: Mono) -> Mono {
        let passed = i128::try_from(local.0.saturating_sub(self.origin).as_nanos()).unwrap_or(i128::MAX / 2_000_000);
        let rate = i128::from(1_000_000 + self.ppm).max(1);
        let nanos = (passed * 1_000_000 + rate - 1) / rate;
        Mono(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn scaled(&self, true_time: Duration) -> Duration {
        let nanos = i128::try_from(true_time.as_nanos()).unwrap_or(0);
        let scaled = nanos + nanos * i128::from(self.ppm) / 1_000_000;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_at_the_first_moment_that_shows_it() {
        for ppm in [-200_000, -37, 0, 1, 333_333, 1_000_000] {
            let clock = Clock { origin: Duration::from_secs(77), wall_ahead: SignedDuration::ZERO, ppm };
            for s in [0, 1, 59, 86_400] {
                let local = clock.now(Mono(Duration::from_millis(s * 1000 + 7))).mono;
                let at = clock.when(local);
                assert!(clock.now(at).mono >= local, "{ppm}: {at:?}");
                assert!(
                    at.since(Mono(Duration::from_millis(s * 1000 + 7))) < Duration::from_micros(1),
                    "{ppm}: {at:?}"
                );
            }
        }
    }
}
