//! Kills for want of memory, each told once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nameward_cluster::wire::Pod;
use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::{NodeName, PodUid};

/// Most kills that are remembered; the oldest are forgotten first.
const MOST: usize = 4096;
/// Kills older than this when the process starts are history.
const HISTORY: Duration = Duration::from_secs(600);

/// The kills that were told. Given to the actor by its factory, so that a rebuilt one does not tell them again.
#[derive(Clone, Debug)]
pub struct SeenKills {
    since: Timestamp,
    told: Arc<Mutex<BTreeSet<(Timestamp, PodUid, String)>>>,
}

impl SeenKills {
    /// Nothing told yet; `started` is when the process started.
    #[must_use]
    pub fn new(started: Timestamp) -> Self {
        let since = started.checked_sub(HISTORY).unwrap_or(Timestamp::MIN);
        Self { since, told: Arc::default() }
    }

    /// The kills that this pod's status shows and that were not told before, oldest first.
    #[must_use]
    pub fn fresh(&self, pod: &Pod) -> Vec<ContainerOomKilled> {
        let mut fresh = Vec::new();
        for status in &pod.status.container_statuses {
            for finished_at in status.oom_kills() {
                if finished_at >= self.since && self.first(finished_at, &pod.metadata.uid, &status.name) {
                    let limit = pod.spec.containers.iter().find(|container| container.name == status.name);
                    fresh.push(ContainerOomKilled {
                        pod: PodUid(pod.metadata.uid.clone()),
                        key: pod.metadata.key(),
                        node: pod.spec.node_name.as_deref().map(NodeName::from),
                        container: status.name.clone(),
                        finished_at,
                        restarts: status.restart_count,
                        memory_limit: limit.and_then(|container| container.resources.limits.memory),
                    });
                }
            }
        }
        fresh
    }

    fn first(&self, at: Timestamp, pod: &str, container: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let first = told.insert((at, PodUid(pod.to_owned()), container.to_owned()));
        if told.len() > MOST {
            told.pop_first();
        }
        first
    }
}
