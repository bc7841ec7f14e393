//! The lab as the machinery's runtime: pods of the API become namespaces, endpoints become kube-proxy's rules.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nameward_messages::Now;
use serde_json::Value;
use tokio::sync::mpsc;

use super::world::World;
use crate::apiserver::Handle;
use crate::lab::PodSpec;
use crate::machinery::{ExitReason, PodEvent, PodRuntime, StartPod, StartedPod};
use crate::proxy::{DnsService, Protocol};

/// How long a CoreDNS process runs until it has taken the memory that it needs.
const GROWS: Duration = Duration::from_millis(800);

/// The lab, as the kubelet model sees it.
#[derive(Debug)]
pub(super) struct Glue(pub Arc<World>);

impl PodRuntime for Glue {
    fn start(&self, pod: StartPod) -> BoxFuture<'static, Result<StartedPod, String>> {
        let world = Arc::clone(&self.0);
        let coredns = pod.labels.get("k8s-app").is_some_and(|app| app == "kube-dns");
        let proxy = pod.labels.get("k8s-app").is_some_and(|app| app == "kube-proxy");
        let work = move || {
            if proxy {
                let key = format!("{}/{}", pod.namespace, pod.name);
                return world.start_proxy(&pod.uid, &key, &pod.node).map_err(|e| e.to_string());
            }
            if pod.attempt > 0 {
                if coredns {
                    world.restart(&pod.uid).map_err(|e| e.to_string())?;
                }
                let key = format!("{}/{}", pod.namespace, pod.name);
                return world.address(&key).map_err(|e| e.to_string());
            }
            world.has_addresses(&pod.node).map_err(|e| e.to_string())?;
            let spec = if coredns {
                PodSpec::coredns(&pod.node, &pod.name, &pod.uid)
            } else {
                PodSpec::client(&pod.node, &pod.namespace, &pod.name, &pod.uid)
            };
            world.start(spec, coredns, pod.memory_limit).map_err(|e| e.to_string())
        };
        async move {
            let ip = blocking(work).await??;
            Ok(StartedPod { ip: ip.into(), tells_ready: false })
        }
        .boxed()
    }

    fn stop(&self, uid: String, _grace: Duration) -> BoxFuture<'static, ()> {
        let world = Arc::clone(&self.0);
        async move {
            // CoreDNS ends quickly once it is asked to; a pod that is gone needs no stopping.
            let stopped = blocking(move || world.stop(&uid)).await;
            if let Ok(Err(error)) = stopped {
                tracing::warn!(%error, "a pod was not stopped");
            }
        }
        .boxed()
    }

    fn resize(&self, uid: String, memory_limit: Option<u64>) -> BoxFuture<'static, ()> {
        let world = Arc::clone(&self.0);
        async move { world.resized(&uid, memory_limit) }.boxed()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())
}

/// How long kube-proxy waits before it tries again what failed.
const RETRY: Duration = Duration::from_secs(2);

/// kube-proxy: follows the DNS Service and its slices.
pub(super) async fn follow_services(api: Handle, world: Arc<World>) {
    let mut changes = api.workload_changes();
    let mut applied: Option<Option<DnsService>> = None;
    loop {
        changes.borrow_and_update();
        let wanted = dns_service(&api);
        if applied.as_ref() != Some(&wanted) {
            let (world, told) = (Arc::clone(&world), wanted.clone());
            let failed = match blocking(move || world.services(told.as_ref())).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error),
            };
            match failed {
                None => applied = Some(wanted),
                Some(error) => {
                    tracing::warn!(error, "kube-proxy's rules were not written");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What kube-proxy programs: ready endpoints; when there are none, those that serve while they terminate.
fn dns_service(api: &Handle) -> Option<DnsService> {
    let service = api.get("Service", "kube-system", "kube-dns")?;
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = |port: &Value| {
        let protocol = if port["protocol"] == "UDP" { Protocol::Udp } else { Protocol::Tcp };
        Some((port["name"].as_str()?.to_owned(), protocol, u16::try_from(port["port"].as_u64()?).ok()?))
    };
    let slices = api.list("EndpointSlice", "kube-system", "kubernetes.io/service-name=kube-dns");
    let addresses = |condition: &str| -> Vec<Ipv4Addr> {
        let endpoints = slices.iter().filter_map(|s| s["endpoints"].as_array()).flatten();
        let fit = endpoints.filter(|e| e["conditions"][condition] == Value::Bool(true));
        let mut found: Vec<Ipv4Addr> =
            fit.filter_map(|e| e["addresses"].as_array()).flatten().filter_map(|a| a.as_str()?.parse().ok()).collect();
        found.sort();
        found.dedup();
        found
    };
    let ready = addresses("ready");
    Some(DnsService {
        ports: ports.filter_map(port).collect(),
        local: service["spec"]["internalTrafficPolicy"] == "Local",
        endpoints: if ready.is_empty() { addresses("serving") } else { ready },
    })
}

/// Memory limits kill: looks after processes that need more than they may have.
pub(super) async fn kill_oversized(events: mpsc::Sender<PodEvent>, world: Arc<World>) {
    loop {
        tokio::time::sleep(GROWS).await;
        for uid in world.reap_oversized() {
            let event = PodEvent::Exited { uid, reason: ExitReason::OomKilled, exit_code: 137 };
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// The wall clock at the start of a simulation: the real one, since the processes under test have no other.
pub(super) fn started_at() -> Now {
    #[expect(clippy::disallowed_methods, reason = "the simulation's clock is the real one")]
    let wall = jiff::Timestamp::now();
    Now { wall, ..Now::at(Duration::ZERO) }
}
