//! What must hold between settings, and within one where its type does not say it.

use std::borrow::Cow;
use std::time::Duration;

use crate::settings::Config;
use crate::{ceilings, ladders};

/// The key and what is wrong with it, for every rule that is broken.
pub(crate) fn check(c: &Config) -> Vec<(Cow<'static, str>, String)> {
    let mut broken = Vec::new();
    every(c, |holds, key, what| {
        if !holds {
            broken.push((Cow::Borrowed(key), what));
        }
    });
    for (cause, chosen) in &c.remedy.ladders {
        if let Some(what) = ladders::fault(*cause, chosen) {
            broken.push((Cow::Owned(format!("remedy.ladders.{cause}")), what));
        }
    }
    broken
}

/// Tells every rule of single keys: whether it holds, its key, and what must be.
pub(crate) fn every(c: &Config, mut must: impl FnMut(bool, &'static str, String)) {
    let (probe, remedy, coordinator) = (&c.probe, &c.remedy, &c.coordinator);

    must(probe.interval.0 >= Duration::from_secs(1), "probe.interval", "must be at least 1s".into());
    must(
        (Duration::from_millis(50)..=Duration::from_secs(5)).contains(&probe.timeout.0),
        "probe.timeout",
        "must be from 50ms to 5s: resolvers give up after 5s".into(),
    );
    must(
        probe.timeout.0 < probe.interval.0,
        "probe.timeout",
        format!("must be shorter than probe.interval ({})", probe.interval),
    );
    must(
        probe.confirm_after.0 < probe.interval.0,
        "probe.confirm_after",
        format!("must be shorter than probe.interval ({})", probe.interval),
    );
    must(
        (1..=1000).contains(&probe.budget_per_pod),
        "probe.budget_per_pod",
        "must be from 1 to 1000 per second".into(),
    );
    must((1..=16384).contains(&probe.concurrency), "probe.concurrency", "must be from 1 to 16384".into());
    for (key, names) in [
        ("probe.external_name", std::slice::from_ref(&probe.external_name)),
        ("probe.large_name", std::slice::from_ref(&probe.large_name)),
        ("probe.extra_names", probe.extra_names.as_slice()),
    ] {
        for name in names.iter().filter(|n| !n.is_empty()) {
            must(
                is_absolute_name(name),
                key,
                format!("`{name}` is not an absolute DNS name: labels of 1 to 63 characters, and a final dot"),
            );
        }
    }
    must(probe.extra_names.len() <= 8, "probe.extra_names", "at most 8: each is asked of every server".into());

    for (key, text) in [("discovery.service", &c.discovery.service), ("discovery.workload", &c.discovery.workload)] {
        let parts: Vec<&str> = text.split('/').collect();
        must(
            text.is_empty() || parts.len() == 2 && parts.iter().all(|p| !p.is_empty()),
            key,
            format!("`{text}` is not `namespace/name`"),
        );
    }
    must(
        c.discovery.cluster_domain.is_empty() || !c.discovery.cluster_domain.ends_with('.'),
        "discovery.cluster_domain",
        "is written without the final dot".into(),
    );
    must(c.netns.rescan.0 >= Duration::from_secs(1), "netns.rescan", "must be at least 1s".into());
    must((1..=4096).contains(&c.netns.limit), "netns.limit", "must be from 1 to 4096".into());
    must(!c.kubernetes.namespace.is_empty(), "kubernetes.namespace", "must not be empty".into());
    must(
        c.kubernetes.call_timeout.0 >= Duration::from_secs(1),
        "kubernetes.call_timeout",
        "must be at least 1s".into(),
    );

    must(
        (1.1..=ceilings::MEMORY_FACTOR).contains(&remedy.memory_factor),
        "remedy.memory_factor",
        format!("must be from 1.1 to 4{CEILING}"),
    );
    must(
        (16 << 20..=ceilings::MEMORY_CAP).contains(&remedy.memory_cap.0),
        "remedy.memory_cap",
        format!("must be from 16Mi to 16Gi{CEILING}"),
    );
    must(
        remedy.shared_every.0 >= ceilings::SHARED_EVERY,
        "remedy.shared_every",
        format!("must be at least 5m{CEILING}"),
    );
    must(
        (1..=ceilings::SHARED_PER_HOUR).contains(&remedy.shared_per_hour),
        "remedy.shared_per_hour",
        format!("must be from 1 to 3{CEILING}"),
    );
    must(
        (1..=ceilings::TRIES_PER_TARGET).contains(&remedy.tries_per_target),
        "remedy.tries_per_target",
        format!("must be from 1 to 3{CEILING}"),
    );
    must(
        remedy.wait.0 >= probe.interval.0,
        "remedy.wait",
        format!("must be at least probe.interval ({}): what is gone by the next round needs no remedy", probe.interval),
    );
    must(
        remedy.cool_down.0 >= probe.interval.0 * 2,
        "remedy.cool_down",
        format!("must be at least twice probe.interval ({}): what is new must have been seen twice", probe.interval),
    );
    must(
        remedy.verify_within.0 >= probe.interval.0,
        "remedy.verify_within",
        format!("must be at least probe.interval ({}): probing has to see the effect", probe.interval),
    );

    must(
        coordinator.lease_duration.0 > coordinator.renew_deadline.0,
        "coordinator.lease_duration",
        format!("must be longer than coordinator.renew_deadline ({})", coordinator.renew_deadline),
    );
    must(
        coordinator.renew_deadline.0 > coordinator.retry_period.0.mul_f64(1.2),
        "coordinator.renew_deadline",
        format!("must be longer than 1.2 times coordinator.retry_period ({})", coordinator.retry_period),
    );
    must(
        coordinator.retry_period.0 >= Duration::from_millis(500),
        "coordinator.retry_period",
        "must be at least 500ms".into(),
    );
    must(
        c.kubernetes.call_timeout.0 < coordinator.renew_deadline.0,
        "kubernetes.call_timeout",
        format!(
            "must be shorter than coordinator.renew_deadline ({}): else nothing may ever be done",
            coordinator.renew_deadline
        ),
    );
    must(
        (ceilings::QUORUM_PERCENT..=100).contains(&coordinator.quorum_percent),
        "coordinator.quorum_percent",
        format!("must be from 60 to 100{CEILING}"),
    );
    must(
        coordinator.stale_after.0 > coordinator.report_every.0,
        "coordinator.stale_after",
        format!("must be longer than coordinator.report_every ({})", coordinator.report_every),
    );
    must(
        coordinator.stale_after.0 <= ceilings::STALE_AFTER,
        "coordinator.stale_after",
        format!("must be at most 15m{CEILING}"),
    );
    for directive in c.log.level.split(',').map(str::trim).filter(|d| !d.is_empty()) {
        let level = directive.rsplit('=').next().unwrap_or_default();
        must(
            LEVELS.contains(&level.to_ascii_lowercase().as_str()),
            "log.level",
            format!("`{level}` is not one of {}", LEVELS.join(", ")),
        );
    }
}

/// Said of what is held whatever the configuration says.
const CEILING: &str = ": a ceiling that no configuration can lift";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn is_absolute_name(name: &str) -> bool {
    let Some(labels) = name.strip_suffix('.') else { return false };
    name.len() <= 254
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}
