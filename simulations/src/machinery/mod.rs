//! A little controller manager, scheduler and kubelet behind the simulated API server.
//!
//! It is told changes of the store, and by the lab what became of pods ([`PodEvent`]). It tells the lab to start, stop
//! and resize pods ([`PodRuntime`]), and which EndpointSlices there are now ([`Machinery::slices`]), from which the
//! lab writes kube-proxy's rules.
//!
//! Invariants:
//! - It is level-triggered: every pass looks at everything and writes only what differs.
//! - It writes with the version it has read; who changed an object in between wins, and the next pass looks again.
//! - A pod's object goes only after the runtime has stopped the pod.

mod budgets;
mod cluster;
mod conditions;
mod garbage;
mod jobs;
mod kubelet;
mod life;
mod pods;
mod runtime;
mod slices;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::apiserver::Handle;

pub use cluster::{ClusterPlan, NodePlan, seed_cluster};
pub use runtime::{ExitReason, PaperRuntime, PodEvent, PodRuntime, StartPod, StartedPod};

/// An object with this annotation is left alone by the machinery.
pub const HELD: &str = "simulation.nameward.dev/held";

/// How fast things go.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// All delays below but `disruption_timeout` are multiplied by it: less than 1 for fast scenarios.
    pub time_scale: f64,
    /// From a change to what the controllers make of it.
    pub reaction: Duration,
    /// From a pod's binding to a node until its containers are started.
    pub start_delay: Duration,
    /// From a started container until it is ready, unless the runtime says when.
    pub ready_delay: Duration,
    /// Back-off before the second restart; doubled with each further one. The first restart comes after a second.
    pub back_off: Duration,
    /// Longest back-off. A container that ran for twice as long starts over.
    pub back_off_cap: Duration,
    /// A disruption that led to no deletion is forgotten after this.
    pub disruption_timeout: Duration,
    /// Nodes for CoreDNS pods, one entry for each; empty: as the scheduler likes.
    pub coredns_on: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            time_scale: 1.0,
            reaction: Duration::from_millis(30),
            start_delay: Duration::from_millis(800),
            ready_delay: Duration::from_millis(200),
            back_off: Duration::from_secs(10),
            back_off_cap: Duration::from_secs(300),
            disruption_timeout: Duration::from_secs(120),
            coredns_on: Vec::new(),
        }
    }
}

impl Settings {
    /// A delay as it is waited for.
    pub(crate) fn scaled(&self, delay: Duration) -> Duration {
        delay.mul_f64(self.time_scale.clamp(0.0, 1000.0))
    }
}

/// The running machinery. Ends when dropped.
#[derive(Debug)]
pub struct Machinery {
    events: mpsc::Sender<PodEvent>,
    slices: watch::Receiver<Arc<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Machinery {
    /// Starts it on the current runtime. `pod_events` come from whoever runs the pods.
    #[must_use]
    pub fn start(handle: &Handle, settings: Settings, runtime: Arc<dyn PodRuntime>) -> Self {
        let (events, inbox) = mpsc::channel(256);
        let (told, slices) = watch::channel(Arc::new(Vec::new()));
        let task = tokio::spawn(run(handle.clone(), settings, runtime, inbox, told));
        Self { events, slices, task }
    }

    /// Where to tell what became of pods.
    #[must_use]
    pub fn events(&self) -> mpsc::Sender<PodEvent> {
        self.events.clone()
    }

    /// All EndpointSlices as they are now, of every namespace; changes whenever one of them does.
    #[must_use]
    pub fn slices(&self) -> watch::Receiver<Arc<Vec<Value>>> {
        self.slices.clone()
    }
}

impl Drop for Machinery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a controller sees in one pass.
pub(crate) struct Pass<'p> {
    pub(crate) handle: &'p Handle,
    pub(crate) settings: &'p Settings,
    pub(crate) now: Instant,
    /// RFC 3339, seconds.
    pub(crate) stamp: String,
    pub(crate) wall: jiff::Timestamp,
}

impl Pass<'_> {
    /// Writes an object as read and changed; a conflict is left to the next pass.
    pub(crate) fn write(&self, manager: &str, object: Value) {
        if crate::apiserver::at(&object, &["metadata", "annotations", HELD]).is_some() {
            return;
        }
        if let Err(error) = self.handle.machinery(manager).put(object) {
            tracing::debug!(%error, manager, "not written");
        }
    }
}

async fn run(
    handle: Handle,
    settings: Settings,
    runtime: Arc<dyn PodRuntime>,
    mut inbox: mpsc::Receiver<PodEvent>,
    told: watch::Sender<Arc<Vec<Value>>>,
) {
    let mut changes = handle.workload_changes();
    let (done, mut finished) = mpsc::channel(256);
    let mut kubelet = kubelet::Kubelet::new(runtime, done);
    loop {
        changes.borrow_and_update();
        let wall = handle.now();
        let pass = Pass {
            handle: &handle,
            settings: &settings,
            now: Instant::now(),
            stamp: crate::apiserver::stamp(wall),
            wall,
        };
        workloads::step(&pass);
        pods::schedule(&pass);
        let mut wake = kubelet.step(&pass);
        slices::step(&pass);
        for next in [budgets::step(&pass), jobs::step(&pass)].into_iter().flatten() {
            wake = Some(wake.map_or(next, |wake| wake.min(next)));
        }
        garbage::step(&pass);
        let now = handle.list("EndpointSlice", "", "");
        told.send_if_modified(|known| {
            let differs = **known != now;
            if differs {
                *known = Arc::new(now);
            }
            differs
        });
        let sleep = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(settings.scaled(settings.reaction)).await;
            }
            Some(event) = inbox.recv() => kubelet.told(&event, &handle),
            Some(result) = finished.recv() => kubelet.finished(result, &handle),
            () = tokio::time::sleep_until(sleep) => {}
        }
    }
}
