//! What a container's cgroup counts: how often its processor quota ran out, what memory it has, how often it was killed.
//!
//! Kernel documentation: Documentation/admin-guide/cgroup-v2.rst (`cpu.stat`, `memory.events`) and
//! cgroup-v1/memory.rst, scheduler/sched-bwc.rst.

use serde::{Deserialize, Serialize};

/// Figures of one container, or of a pod where its containers cannot be told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupFigures {
    /// Enforcement periods that have passed (`nr_periods`); `None` without a quota or without the file.
    pub periods: Option<u64>,
    /// Those in which it was throttled (`nr_throttled`).
    pub throttled: Option<u64>,
    /// For how long altogether, microseconds.
    pub throttled_us: Option<u64>,
    /// Memory in use, bytes.
    pub memory: Option<u64>,
    /// Its limit, bytes; `None`: no limit.
    pub memory_max: Option<u64>,
    /// Processes killed for want of memory (`oom_kill`).
    pub oom_kills: Option<u64>,
}

impl CgroupFigures {
    /// Takes `cpu.stat` in, of either version: v2 counts microseconds, v1 nanoseconds.
    pub fn take_cpu(&mut self, text: &str) {
        for (name, value) in pairs(text) {
            match name {
                "nr_periods" => self.periods = Some(value),
                "nr_throttled" => self.throttled = Some(value),
                "throttled_usec" => self.throttled_us = Some(value),
                "throttled_time" => self.throttled_us = Some(value / 1000),
                _ => {}
            }
        }
    }

    /// Takes `memory.events` (v2) or `memory.oom_control` (v1) in.
    pub fn take_events(&mut self, text: &str) {
        self.oom_kills = pairs(text).find(|(name, _)| *name == "oom_kill").map(|(_, value)| value).or(self.oom_kills);
    }

    /// The throttled share of the periods that passed between two readings, in per cent; `None` if none passed.
    #[must_use]
    pub fn throttled_percent(before: &Self, after: &Self) -> Option<u64> {
        let periods = after.periods?.checked_sub(before.periods?)?;
        let throttled = after.throttled?.checked_sub(before.throttled?)?;
        throttled.saturating_mul(100).checked_div(periods)
    }
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

/// One number of a file; `max` and what v1 writes for "no limit" (near 2^63) are none.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|value| *value < 1 << 62)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn both_versions() {
        let mut v2 = CgroupFigures::default();
        v2.take_cpu(
            "usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_periods 35\nnr_throttled 33\nthrottled_usec 3100000\n",
        );
        v2.take_events("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n");
        assert_eq!(
            (v2.periods, v2.throttled, v2.throttled_us, v2.oom_kills),
            (Some(35), Some(33), Some(3_100_000), Some(2))
        );
        let mut v1 = CgroupFigures::default();
        v1.take_cpu("nr_periods 35\nnr_throttled 33\nthrottled_time 3100000000\n");
        v1.take_events("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        assert_eq!(v1, v2);
        assert_eq!(
            (number("max\n"), number("9223372036854771712\n"), number("178257920\n")),
            (None, None, Some(178_257_920))
        );
    }

    #[test]
    fn a_share_needs_periods() {
        let at = |periods, throttled| CgroupFigures {
            periods: Some(periods),
            throttled: Some(throttled),
            ..CgroupFigures::default()
        };
        assert_eq!(CgroupFigures::throttled_percent(&at(10, 2), &at(30, 21)), Some(95));
        assert_eq!(CgroupFigures::throttled_percent(&at(10, 2), &at(10, 2)), None);
        assert_eq!(CgroupFigures::throttled_percent(&at(10, 2), &at(3, 1)), None, "another container");
        assert_eq!(CgroupFigures::throttled_percent(&CgroupFigures::default(), &at(30, 20)), None);
    }
}
