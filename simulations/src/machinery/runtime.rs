//! The seam between the kubelet model and whoever really runs pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPod {
    /// The pod's uid. Stays the same over restarts of its container.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Node.
    pub node: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Memory limit of the first container, bytes.
    pub memory_limit: Option<u64>,
    /// 0: the pod is new. Else its sandbox exists and only the container is started again, with the same address.
    pub attempt: u32,
    /// The pod's object as it is now.
    pub object: serde_json::Value,
}

/// A pod that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedPod {
    /// The pod's address.
    pub ip: IpAddr,
    /// `true`: it becomes ready when a [`PodEvent::Ready`] says so, instead of by itself after a short while.
    pub tells_ready: bool,
}

/// Runs pods.
pub trait PodRuntime: Send + Sync + 'static {
    /// Starts a pod, or its container again.
    ///
    /// # Errors
    /// Why not, for people; it is tried again after a back-off.
    fn start(&self, pod: StartPod) -> BoxFuture<'static, Result<StartedPod, String>>;

    /// Stops a pod, within its grace period, and gives its address back. Done when it is gone.
    fn stop(&self, uid: String, grace: Duration) -> BoxFuture<'static, ()>;

    /// The memory limit of a running pod changed (bytes).
    fn resize(&self, uid: String, memory_limit: Option<u64>) -> BoxFuture<'static, ()> {
        let _ = (uid, memory_limit);
        async {}.boxed()
    }
}

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It ended with an error, or was killed.
    Error,
    /// It ended by itself without one.
    Completed,
    /// The kernel killed it at its memory limit.
    OomKilled,
}

impl ExitReason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "Error",
            Self::Completed => "Completed",
            Self::OomKilled => "OOMKilled",
        }
    }
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// Its container ended.
    Exited {
        /// Which pod.
        uid: String,
        /// Why.
        reason: ExitReason,
        /// 137 for a kill.
        exit_code: i32,
    },
    /// Its process ended by itself, with last words: an error, or its result with exit status 0.
    Failed {
        /// Which pod.
        uid: String,
        /// Its exit status.
        exit_code: i32,
        /// Its termination message.
        message: String,
    },
    /// Whoever waits to start it again waits no longer.
    Again {
        /// Which pod.
        uid: String,
    },
    /// Its readiness probe succeeds, or does not any more.
    Ready {
        /// Which pod.
        uid: String,
        /// Whether it is ready.
        ready: bool,
    },
}

/// Pods that exist on paper only: they have an address and are ready. For tests, and for clusters without a lab.
#[derive(Debug, Default)]
pub struct PaperRuntime {
    /// Addresses by uid, and the last one given out per node.
    known: Mutex<(BTreeMap<String, IpAddr>, BTreeMap<String, u8>)>,
    /// What was done, in order.
    done: Mutex<Vec<String>>,
}

impl PaperRuntime {
    /// What was done, one word and a pod's name or uid each: `start coredns-x 0`, `stop UID`, `resize UID 200`.
    #[must_use]
    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, line: String) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl PodRuntime for PaperRuntime {
    fn start(&self, pod: StartPod) -> BoxFuture<'static, Result<StartedPod, String>> {
        self.note(format!("start {} {}", pod.name, pod.attempt));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (addresses, last) = &mut *known;
        let ip = *addresses.entry(pod.uid).or_insert_with(|| {
            let third = pod.node.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
            let host = last.entry(pod.node).or_insert(1);
            *host = host.wrapping_add(1).max(2);
            IpAddr::V4(Ipv4Addr::new(10, 244, third, *host))
        });
        async move { Ok(StartedPod { ip, tells_ready: false }) }.boxed()
    }

    fn stop(&self, uid: String, _: Duration) -> BoxFuture<'static, ()> {
        self.note(format!("stop {uid}"));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.remove(&uid);
        async {}.boxed()
    }

    fn resize(&self, uid: String, memory_limit: Option<u64>) -> BoxFuture<'static, ()> {
        self.note(format!("resize {uid} {}", memory_limit.unwrap_or(0)));
        async {}.boxed()
    }
}
