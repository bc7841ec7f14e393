//! Reads what a CoreDNS process says of itself, its cgroup, and its way to the API.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use nameward_kernel::collect::{self, Fetched, Limits, Reach};
use nameward_kernel::coredns;
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::facts::Reading;
use nameward_messages::PodUid;

use crate::process::{ApiWays, ProcessReadings, Ready, WantProcess, Way};

/// A page of CoreDNS; a process that is short of processor time is slow to write it.
const PAGE: Duration = Duration::from_secs(2);
/// A connection to the API.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest `/metrics`, bytes: a large cluster's CoreDNS has some hundred kilobytes of histograms.
const METRICS: u64 = 4 << 20;
/// Longest `/ready`, bytes.
const READY: u64 = 4 << 10;

/// Everything of one process, at once.
pub(super) async fn process(pool: &EnterPool, want: &WantProcess, limits: Limits) -> (PodUid, ProcessReadings) {
    let inside = Netns::open(&want.path).ok();
    let cgroup = collect::cgroup(want.places.cgroups.clone(), want.uid.clone(), limits);
    let (ready, metrics, cgroup, api) = tokio::join!(
        ready(pool, inside.as_ref(), want, limits),
        metrics(pool, inside.as_ref(), want, limits),
        cgroup,
        api(pool, inside.as_ref(), want, limits),
    );
    (want.uid.clone(), ProcessReadings { ready, metrics, cgroup, api })
}

/// From the host to the pod's address, as the kubelet asks; where the way there is what fails, from inside the pod.
async fn page(
    pool: &EnterPool,
    inside: Option<&Netns>,
    address: SocketAddr,
    path: &str,
    (limits, bytes): (Limits, u64),
) -> Fetched {
    let bounds = (PAGE.min(limits.within), bytes.min(limits.bytes));
    let home = pool.home().clone();
    let first = collect::fetch(pool, &home, address, path, bounds).await;
    match (&first, inside) {
        (Fetched::NoConnection(reach), Some(inside)) if *reach != Reach::Refused => {
            collect::fetch(pool, inside, address, path, bounds).await
        }
        _ => first,
    }
}

async fn ready(pool: &EnterPool, inside: Option<&Netns>, want: &WantProcess, limits: Limits) -> Reading<Ready> {
    if want.places.ready_port == 0 {
        return Reading::NotRead;
    }
    let address = SocketAddr::new(want.ip, want.places.ready_port);
    match page(pool, inside, address, "/ready", (limits, READY)).await {
        Fetched::Answered { status: 200, .. } => Reading::Read(Ready::Yes),
        Fetched::Answered { status: 503, body } => {
            Reading::Read(Ready::Waiting { plugins: coredns::waiting_on(&body) })
        }
        Fetched::Answered { status, .. } => Reading::Read(Ready::Status { status }),
        Fetched::NoConnection(Reach::Refused) => Reading::Read(Ready::Refused),
        Fetched::Silent => Reading::Read(Ready::Silent),
        Fetched::NoConnection(reach) => Reading::Failed(format!("{address}: {}", word(&reach))),
        Fetched::Failed(why) => Reading::Failed(why),
    }
}

async fn metrics(
    pool: &EnterPool,
    inside: Option<&Netns>,
    want: &WantProcess,
    limits: Limits,
) -> Reading<coredns::CorednsMetrics> {
    if want.places.metrics_port == 0 {
        return Reading::NotRead;
    }
    let address = SocketAddr::new(want.ip, want.places.metrics_port);
    match page(pool, inside, address, "/metrics", (limits, METRICS)).await {
        Fetched::Answered { status: 200, body } => Reading::Read(coredns::parse_bytes(&body)),
        Fetched::Answered { status, .. } => Reading::Failed(format!("{address} answers {status}")),
        Fetched::NoConnection(Reach::Refused) => Reading::NotPresent(format!("nobody listens on {address}")),
        Fetched::NoConnection(reach) => Reading::Failed(format!("{address}: {}", word(&reach))),
        Fetched::Silent => Reading::Failed(format!("{address} does not answer in time")),
        Fetched::Failed(why) => Reading::Failed(why),
    }
}

async fn api(pool: &EnterPool, inside: Option<&Netns>, want: &WantProcess, limits: Limits) -> Reading<ApiWays> {
    if want.api.is_empty() {
        return Reading::NotPresent("the address of the API is not known".to_owned());
    }
    let within = CONNECT.min(limits.within);
    let home = pool.home().clone();
    let ways = |netns: Option<Netns>| async move {
        let Some(netns) = netns else { return Vec::new() };
        join_all(want.api.iter().map(|address| {
            let netns = netns.clone();
            async move { (*address, way(collect::reach(pool, &netns, *address, within).await)) }
        }))
        .await
    };
    let (inside, host) = tokio::join!(ways(inside.cloned()), ways(Some(home)));
    Reading::Read(ApiWays { inside, host })
}

fn way(reach: Reach) -> Way {
    match reach {
        Reach::Connected => Way::Open,
        Reach::NotTried { .. } => Way::Unknown,
        shut => Way::Shut { why: word(&shut) },
    }
}

fn word(reach: &Reach) -> String {
    match reach {
        Reach::Connected => "connects".to_owned(),
        Reach::Refused => "refused".to_owned(),
        Reach::TimedOut => "no answer".to_owned(),
        Reach::NoWay { why } | Reach::NotTried { why } => why.clone(),
    }
}
