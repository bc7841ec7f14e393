//! Reads what the mind wants, all at once, each collector with its own time-out. Runs on the worker threads.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use nameward_kernel::collect::{self, Limits};
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::facts::{FibQuery, Identity, Netfilter, Reading};
use nameward_kernel::trace::Followed;
use nameward_kernel::{podfile, resolv, rtnl};
use nameward_messages::PodUid;
use nameward_messages::probe::{ProbeAnswer, ProbeRequest, ProberTells, Purpose};
use nameward_supervision::clock;

use crate::judge::{Judgement, judge};
use crate::mind::{DiagnosisMind, Input, Output, Want, WantPod, WantTrace};
use crate::record::{EvidenceRecord, Health, HostReadings, PodReadings, Sample};

mod process;

/// The resolver configuration of the agent, which with `dnsPolicy: Default` is the node's.
const OWN_RESOLV: &str = "/etc/resolv.conf";
/// `/health` answers at once or not at all.
const HEALTH_WITHIN: Duration = Duration::from_secs(1);

/// Takes one sample. It takes about `limits.within` at most, and never fails: every reading says for itself what came
/// of it.
pub async fn sample(pool: &EnterPool, want: &Want, limits: Limits) -> Sample {
    let at = clock::now().mono;
    let (host, pods, processes, others) = tokio::join!(
        host(pool, want, limits),
        join_all(want.pods.iter().map(|pod| one(pool, pod, &want.lookups, limits))),
        join_all(want.processes.iter().map(|process| process::process(pool, process, limits))),
        join_all(want.others.iter().map(|(uid, path)| identity(pool, uid, path, limits))),
    );
    let processes = processes.into_iter().collect();
    Sample { at, host, pods: pods.into_iter().collect(), processes, others: others.into_iter().collect() }
}

/// Has one probe traced; `None`: it could not be, which is logged.
pub async fn trace(pool: &EnterPool, want: WantTrace) -> Option<Followed> {
    let place = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => Netns::open(path),
        None => Ok(pool.home().clone()),
    };
    let (from, at) = match (place(&want.from), place(&want.at)) {
        (Ok(from), Ok(at)) => (from, at),
        (Err(error), _) | (_, Err(error)) => {
            tracing::info!(%error, "a probe was not traced");
            return None;
        }
    };
    let probe = collect::TraceProbe { to: want.to, transport: want.transport, question: want.question };
    match collect::trace(pool, &from, &at, probe).await {
        Reading::Read(followed) => {
            let dropped = followed.dropped.as_ref().map(nameward_kernel::trace::Dropped::name).unwrap_or_default();
            tracing::info!(to = %want.to, events = followed.events, %dropped, "a probe was traced");
            Some(followed)
        }
        other => {
            tracing::warn!(to = %want.to, why = other.missing().unwrap_or_default(), "a probe was not traced");
            None
        }
    }
}

/// The addresses of a pod that is not concerned.
async fn identity(pool: &EnterPool, uid: &PodUid, path: &Path, limits: Limits) -> (PodUid, Reading<Identity>) {
    let reading = match Netns::open(path) {
        Ok(netns) => rtnl::identity(pool, &netns, limits.within).await,
        Err(error) => Reading::Failed(error.to_string()),
    };
    (uid.clone(), reading)
}

/// One examination for a command: takes two samples of what a mind of [`DiagnosisMind::examine`] wants, lets `ask` send
/// its probes meanwhile, and judges. It takes about twice `limits.within` at most, and much less when nothing hangs.
/// Without a pool nothing is read, and what is found stays probable.
pub async fn examine<Asked>(
    pool: Option<&EnterPool>,
    mut mind: DiagnosisMind,
    limits: Limits,
    ask: impl Fn(ProbeRequest) -> Asked,
) -> (EvidenceRecord, Judgement)
where
    Asked: Future<Output = Option<ProbeAnswer>>,
{
    let give_up = clock::now().mono + limits.within.saturating_mul(3) + Duration::from_secs(3);
    let mut out = Vec::new();
    mind.step(clock::now(), Input::Tick, &mut out);
    loop {
        let record = mind.record(clock::now());
        let judgement = judge(&record);
        let settled = record.two_samples() && judgement.waiting.is_empty();
        if settled || record.matrix.suspected().next().is_none() || record.now.mono >= give_up {
            return (record, judgement);
        }
        // Reading and asking go on side by side, as in the actor; what comes of them is told before the next look.
        let mut asking = Vec::new();
        let mut reading = None;
        for output in out.drain(..) {
            match output {
                Output::Collect(want) => reading = Some(want),
                // Other ways of asking are evidence for people, and slow: a command does without.
                Output::Probe(request) if request.items.iter().all(|i| i.purpose == Purpose::Diagnosis) => {
                    asking.push(ask(request));
                }
                // A command changes nothing, not even for a while.
                Output::Probe(_) | Output::Trace(_) | Output::Tell(_) => {}
            }
        }
        let read = async {
            match (&reading, pool) {
                // A sample is read by many readers at once: their state is kept off the caller's stack.
                (Some(want), Some(pool)) => Some((want.id, Box::pin(sample(pool, want, limits)).await)),
                (Some(want), None) => Some((want.id, Sample { at: clock::now().mono, ..Sample::default() })),
                (None, _) => None,
            }
        };
        let (answers, evidence) = tokio::join!(join_all(asking), read);
        for answer in answers.into_iter().flatten() {
            mind.step(clock::now(), Input::Prober(ProberTells::Answer(Arc::new(answer))), &mut out);
        }
        if let Some((id, sample)) = evidence {
            mind.step(clock::now(), Input::Evidence { id, sample: Box::new(sample) }, &mut out);
        }
        if out.is_empty() {
            let next = mind.deadline().unwrap_or(give_up).min(give_up);
            tokio::time::sleep(next.since(clock::now().mono)).await;
            mind.step(clock::now(), Input::Tick, &mut out);
        }
    }
}

async fn host(pool: &EnterPool, want: &Want, limits: Limits) -> HostReadings {
    let home = pool.home().clone();
    let lookups: Vec<FibQuery> = want.lookups.iter().chain(&want.forwarded).cloned().collect();
    let about = Some(&want.services).filter(|services| !services.is_empty());
    let filters = async {
        if want.netfilter { collect::netfilter_about(pool, about, limits).await } else { Netfilter::default() }
    };
    let past_filters =
        async { tokio::join!(collect::counters(pool, &home, limits), collect::bypass(pool, &home, limits)) };
    let (topology, netfilter, sysctls, nameservers, flows, conntrack, listeners, xtables_lock, neighbours, rest) = tokio::join!(
        rtnl::survey(pool, &home, &lookups, limits.within),
        filters,
        collect::sysctls(pool, &home, limits),
        own_resolver(limits.within),
        collect::flow_groups(pool, &home, want.destinations.clone(), limits),
        collect::conntrack_stat(pool, &home, limits),
        collect::sockets_on(pool, &home, 53, limits),
        collect::xtables_lock(limits),
        collect::neighbour_stat(pool, &home, limits),
        past_filters,
    );
    let (counters, bypass) = rest;
    HostReadings {
        topology,
        netfilter,
        sysctls,
        nameservers,
        flows,
        conntrack,
        listeners,
        xtables_lock,
        neighbours,
        counters,
        bypass,
    }
}

async fn own_resolver(within: Duration) -> Reading<Vec<std::net::IpAddr>> {
    // In most images it is a symlink or a bind mount: it is our own root, so it may be followed.
    match tokio::time::timeout(within, podfile::read_in_root(Path::new("/"), OWN_RESOLV)).await {
        Ok(Ok(bytes)) => Reading::Read(resolv::parse(&bytes).nameservers),
        Ok(Err(error)) => Reading::Failed(error.to_string()),
        Err(_) => Reading::Failed(format!("{OWN_RESOLV} was not read within {within:?}")),
    }
}

async fn one(pool: &EnterPool, pod: &WantPod, lookups: &[FibQuery], limits: Limits) -> (PodUid, PodReadings) {
    let health = async {
        let Some(address) = pod.health else { return Reading::NotRead };
        match collect::health(pool, address, HEALTH_WITHIN.min(limits.within)).await {
            collect::Health::Answered { status } => Reading::Read(Health::Status(status)),
            collect::Health::ConnectedOnly => Reading::Read(Health::Silent),
            collect::Health::Refused => Reading::Read(Health::Refused),
            collect::Health::TimedOut => Reading::Read(Health::Unreachable),
            collect::Health::Failed { why } => Reading::Failed(why),
        }
    };
    let inside = inside(pool, pod, lookups, limits);
    let (health, mut readings) = tokio::join!(health, inside);
    readings.health = health;
    (pod.uid.clone(), readings)
}

async fn inside(pool: &EnterPool, pod: &WantPod, lookups: &[FibQuery], limits: Limits) -> PodReadings {
    let netns = match Netns::open(&pod.path) {
        Ok(netns) => netns,
        Err(error) => {
            let text = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            return PodReadings {
                topology: Reading::Failed(text.clone()),
                sockets: Reading::Failed(text.clone()),
                counters: Reading::Failed(text),
                ..PodReadings::default()
            };
        }
    };
    let dns = pod.health.is_some();
    let sockets =
        async { if dns || pod.filters { collect::sockets(pool, &netns, limits).await } else { Reading::NotRead } };
    let counters = async { if dns { collect::counters(pool, &netns, limits).await } else { Reading::NotRead } };
    let filters = async {
        if pod.filters { collect::netfilter_inside(pool, &netns, limits).await } else { Netfilter::default() }
    };
    let survey = rtnl::survey(pool, &netns, lookups, limits.within);
    let (topology, sockets, counters, filters) = tokio::join!(survey, sockets, counters, filters);
    PodReadings { topology, sockets, counters, filters, health: Reading::NotRead }
}
