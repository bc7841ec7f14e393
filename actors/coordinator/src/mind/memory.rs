//! Kills for want of memory, as container status shows them, and the next limit.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use nameward_config::settings::Remedy;
use nameward_messages::cluster_view::{ClusterView, DnsPodView, WorkloadKind, WorkloadView};
use nameward_messages::plan::SharedAct;
use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::remedy::{RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::verdict::Evidence;
use nameward_messages::{Mono, Now, ObjectKey, PodUid};

use crate::judge::answers::Doubt;

/// A kill stands for this long as a reason to act or to keep an incident open.
const STANDS: Duration = Duration::from_secs(600);
/// A kill that is first seen so long after the last raise was is of the time since, whatever the two machines' clocks say.
const SURELY_LATER: Duration = Duration::from_secs(60);
const MOST: usize = 128;

#[derive(Clone, Debug)]
struct Kill {
    pod: ObjectKey,
    limit: Option<u64>,
    seen: Mono,
}

/// The kills that were seen, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Kills {
    seen: BTreeMap<(PodUid, String, Timestamp), Kill>,
    /// When the limit was raised last, by the clock of whoever did, and when this process learned of it: what was killed before is
    /// answered, also where a resized pod still shows it.
    answered: Option<(Timestamp, Mono)>,
    /// A whole view was looked through before.
    looked: bool,
}

impl Kills {
    /// A kill that the watcher told of.
    pub(super) fn told(&mut self, now: Now, kill: &ContainerOomKilled) {
        let key = (kill.pod.clone(), kill.container.clone(), kill.finished_at);
        self.note(now, key, kill.key.clone(), kill.memory_limit);
    }

    /// The kills that the view's containers show.
    pub(super) fn learn(&mut self, now: Now, view: &ClusterView) {
        for pod in &view.pods {
            for container in &pod.containers {
                if let Some(at) = container.oom_killed_at {
                    let key = (pod.uid.clone(), container.name.clone(), at);
                    self.note(now, key, pod.key.clone(), container.memory_limit);
                }
            }
        }
        let raised = |r: &&RemedyRecord| r.kind == RemedyKind::RaiseMemory && r.outcome == RemedyOutcome::Done;
        let last = view.incidents.iter().flat_map(|i| &i.status.ladder).filter(raised).map(|r| r.at).max();
        if let Some(last) = last.filter(|last| self.answered.is_none_or(|(known, _)| known < *last)) {
            self.answered = Some((last, now.mono));
        }
        self.looked |= view.complete;
        self.seen.retain(|_, kill| now.mono.since(kill.seen) < STANDS * 2);
    }

    /// When the first of them was seen.
    pub(super) fn since(&self, now: Mono, workload: &WorkloadView) -> Option<Mono> {
        self.counted(now, workload).map(|(_, kill)| kill.seen).min()
    }

    /// When the next of them stands no more.
    pub(super) fn next_over(&self, now: Mono) -> Option<Mono> {
        self.seen.values().map(|kill| kill.seen + STANDS).filter(|end| *end >= now).min()
    }

    fn counted<'a>(
        &'a self,
        now: Mono,
        workload: &'a WorkloadView,
    ) -> impl Iterator<Item = (&'a (PodUid, String, Timestamp), &'a Kill)> {
        self.seen.iter().filter(move |(key, kill)| {
            workload.container.as_ref().is_none_or(|name| *name == key.1)
                && workload.memory_limit.is_some()
                && kill.limit == workload.memory_limit
                && self.answered.is_none_or(|(raised, learned)| key.2 > raised || kill.seen > learned + SURELY_LATER)
                && now.since(kill.seen) < STANDS
        })
    }

    fn note(&mut self, now: Now, key: (PodUid, String, Timestamp), pod: ObjectKey, limit: Option<u64>) {
        // One that was over long before this process looked is no news. What is new after the first look has happened since, whatever
        // the two machines' clocks say.
        let old = !self.looked && now.wall.duration_since(key.2) > jiff::SignedDuration::from_secs(600);
        if self.seen.len() >= MOST || old {
            return;
        }
        self.seen.entry(key).or_insert(Kill { pod, limit, seen: now.mono });
    }

    /// The kills at the limit in force, newest first. One at a lower limit was answered already.
    pub(super) fn standing(&self, now: Mono, workload: &WorkloadView) -> Vec<Evidence> {
        let line = |(key, kill): (&(PodUid, String, Timestamp), &Kill)| {
            let limit = kill.limit.map_or_else(|| "none".to_owned(), |l| nameward_config::Bytes(l).to_string());
            let says = format!("container {} was OOMKilled at {} with a limit of {limit}", key.1, key.2);
            Evidence::new(format!("{} status", kill.pod), says)
        };
        let mut kills: Vec<_> = self.counted(now, workload).collect();
        kills.sort_by_key(|(key, _)| std::cmp::Reverse(key.2));
        kills.into_iter().take(8).map(line).collect()
    }
}

/// The act that raises the limit, or why there is none.
pub(super) fn raise(settings: &Remedy, view: &ClusterView, kills: &[Evidence]) -> Result<SharedAct, Doubt> {
    let workload = view.workload.as_ref().ok_or(Doubt::PodNotListed)?;
    let (Some(container), Some(from)) = (workload.container.clone(), workload.memory_limit) else {
        return Err(Doubt::NoLimit);
    };
    if kills.is_empty() {
        return Err(Doubt::OomNotConfirmed);
    }
    if workload.kind == WorkloadKind::DaemonSet {
        return Err(Doubt::OwnedBy("the operator of the DaemonSet".to_owned()));
    }
    if let Some(owner) = &workload.memory_owner {
        return Err(Doubt::OwnedBy(owner.clone()));
    }
    let cap = settings.memory_cap.0;
    let to = next_limit(from, settings.memory_factor).min(cap);
    if to <= from {
        return Err(Doubt::AtCap(cap));
    }
    // A pod with a higher limit, or with none, keeps it.
    let lower = |pod: &DnsPodView| {
        pod.containers.iter().any(|c| c.name == container && c.memory_limit.is_some_and(|limit| limit < to))
    };
    let running = view.pods.iter().filter(|pod| !pod.terminating && pod.phase == "Running" && lower(pod));
    let resize = running.map(|pod| (pod.key.clone(), pod.uid.clone())).collect();
    Ok(SharedAct::RaiseMemory {
        workload: workload.key.clone(),
        resource_version: workload.resource_version.clone(),
        container,
        from,
        to,
        resize,
    })
}

/// `from` times the factor, in whole mebibytes (rounded down, at least one more), so that the manifest stays readable.
pub(crate) fn next_limit(from: u64, factor: f64) -> u64 {
    const MEBI: u64 = 1 << 20;
    // Parts per thousand keep the arithmetic in integers; an absurd factor ends at the cap.
    let permille = if factor.is_finite() { (factor.clamp(1.0, 100.0) * 1000.0).round() } else { 1000.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1000..=100000")]
    let permille = permille as u128;
    let raised = u64::try_from(u128::from(from) * permille / 1000).unwrap_or(u64::MAX);
    if raised <= from { from } else { (raised / MEBI * MEBI).max(from.saturating_add(1)) }
}

#[cfg(test)]
mod tests {
    use super::next_limit;

    #[test]
    fn the_limit_grows_by_the_factor_in_whole_mebibytes() {
        const MI: u64 = 1 << 20;
        assert_eq!(next_limit(170 * MI, 2.0), 340 * MI);
        assert_eq!(next_limit(170 * MI, 1.5), 255 * MI);
        assert_eq!(next_limit(100 * MI, 1.001), 100 * MI + 1);
        assert_eq!(next_limit(170 * MI, 1.0), 170 * MI);
        assert_eq!(next_limit(170 * MI, f64::NAN), 170 * MI);
        assert_eq!(next_limit(u64::MAX, 2.0), u64::MAX);
    }
}
