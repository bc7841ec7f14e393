//! One scenario, in a process of its own.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::glue::{Glue, follow_slices, kill_oversized, started_at};
use super::inject::{describe, inject};
use super::judge::judge;
use super::observe::{Observer, all_healthy};
use super::parent::Order;
use super::processes::{Process, Setup, check, token};
use super::witness::look;
use super::world::{NODES, World};
use crate::apiserver::{ApiServer, Handle, Options as ApiOptions, User, parse_manifests};
use crate::lab::{CONTROL, Place, Private, isolate};
use crate::machinery::{ClusterPlan, Machinery, Settings, seed_cluster};
use crate::proxy::Mode;
use crate::result::{EntryKind, ScenarioResult, TimelineEntry, Told};
use crate::scenario::{Expect, ExpectVerdict, Proxy};

/// The hidden command.
pub(crate) const SCENARIO: &str = "__scenario";

/// How long the cluster may take to become healthy before the faults.
const WARM_UP: Duration = Duration::from_secs(90);
/// Time between two looks of the runner.
const LOOK: Duration = Duration::from_millis(250);

/// Whatever stopped a scenario from being carried out.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// `__scenario`: reads an [`Order`] from standard input and tells JSON lines on standard output.
pub(crate) fn scenario(args: &[OsString]) -> ExitCode {
    let private = match isolate(args) {
        Ok(Place::Inside(private)) => private,
        Ok(Place::Ended(code)) => return code,
        Err(error) => {
            say(&Told::Failed(chain(&error)));
            return ExitCode::from(3);
        }
    };
    let outcome = end_with_listener().map_err(Failure::from).and_then(|()| read_order()).and_then(|order| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let outcome = runtime.block_on(carry_out(private, &order));
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&Told::Failed(chain(&*error)));
            ExitCode::from(3)
        }
    }
}

/// Ends this process, and with it the whole simulation, as soon as nobody can read what it says any more: whoever started
/// it has been killed. A signal on the parent's death would not do: entering a user namespace takes it back.
fn end_with_listener() -> std::io::Result<()> {
    let listen = || {
        let stdout = std::io::stdout();
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        // An error is reported without being asked for; anything else is a signal, or a file that always has room.
        while fds[0].revents().is_none_or(|events| !events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)) {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
        let _ends_this_process = kill(Pid::this(), Signal::SIGKILL);
    };
    std::thread::Builder::new().name("listener".to_owned()).spawn(listen).map(drop)
}

fn read_order() -> Result<Order, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn say(told: &Told) {
    let mut out = std::io::stdout().lock();
    if let Ok(text) = serde_json::to_string(told) {
        // Whoever listened has gone: so does this process, at once.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn progress(at_s: f64, text: &str) {
    say(&Told::Entry(TimelineEntry { at_s, kind: EntryKind::Progress, text: text.to_owned(), details: Vec::new() }));
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// The whole cluster, with everything that must live as long as it.
struct Cluster {
    api: Handle,
    world: Arc<World>,
    processes: Vec<Process>,
    _machinery: Machinery,
}

async fn carry_out(private: Private, order: &Order) -> Result<(), Failure> {
    let began = Instant::now();
    let since = |at: Instant| -began.elapsed().saturating_sub(began.duration_since(at)).as_secs_f64();
    let scenario = &order.scenario;
    progress(0.0, &format!("{}: {}", scenario.name, scenario.summary));
    let mut cluster = build(private, order).await?;
    progress(0.0, &format!("two nodes, {} CoreDNS pods and the agents are up", scenario.topology.coredns));

    let replicas = usize::try_from(scenario.topology.coredns)?;
    loop {
        let (ready, asks) = (all_healthy(&cluster.api, replicas), cluster.world.asks(true));
        let failing = tokio::task::spawn_blocking(move || look(&asks)).await?;
        match ready {
            Ok(()) if failing.is_empty() => break,
            other => {
                ended(&mut cluster)?;
                if began.elapsed() > WARM_UP {
                    let why = other.err().unwrap_or_else(|| format!("not answering: {}", failing.join(", ")));
                    return Err(format!("the cluster did not become healthy within {WARM_UP:?}: {why}").into());
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    progress(0.0, &format!("healthy after {:.1} s", -since(began)));
    say(&Told::Result(act(&mut cluster, order).await?));
    if order.options.watch {
        progress(0.0, "the cluster keeps running; its namespaces are in /run/netns of this process; Ctrl-C ends it");
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

async fn build(private: Private, order: &Order) -> Result<Cluster, Failure> {
    let scenario = &order.scenario;
    let mode = match scenario.topology.proxy {
        Proxy::Iptables => Mode::IptablesNft,
        Proxy::IptablesLegacy => Mode::IptablesLegacy,
        Proxy::Nftables => Mode::Nftables,
    };
    let world = Arc::new(tokio::task::spawn_blocking(move || World::build(private, mode)).await??);

    let mut options = ApiOptions { manifests: deployed()?, started_at: started_at().wall, ..ApiOptions::default() };
    for node in NODES {
        let user = User::service_account("nameward", "nameward-agent", Some(node));
        options.tokens.insert(token(Some(node)), user);
    }
    let user = User::service_account("nameward", "nameward-coordinator", None);
    options.tokens.insert(token(None), user);
    let api = ApiServer::new(options)?;
    let plan = ClusterPlan {
        replicas: scenario.topology.coredns,
        clients: (1..=scenario.topology.clients_per_node)
            .map(|n| ("default".to_owned(), format!("client-{n}")))
            .collect(),
        ..ClusterPlan::default()
    };
    seed_cluster(&api, &plan)?;

    let control = world.netns("control")?;
    let listener = control.enter(|| std::net::TcpListener::bind((CONTROL, 6443)))??;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let server = api.clone();
    tokio::spawn(async move { server.serve(listener).await });

    let settings = Settings { back_off: Duration::from_secs(4), ..Settings::default() };
    let machinery = Machinery::start(&api, settings, Arc::new(Glue(Arc::clone(&world))));
    tokio::spawn(follow_slices(machinery.slices(), Arc::clone(&world)));
    tokio::spawn(kill_oversized(machinery.events(), Arc::clone(&world)));

    let mut processes = Vec::new();
    for node in [Some(NODES[0]), Some(NODES[1]), None] {
        let setup =
            Setup { node, config: &scenario.config, panics: order.options.panics, scenario: scenario.name.as_str() };
        processes.push(Process::start(world.netns(node.unwrap_or("control"))?, &setup)?);
    }
    Ok(Cluster { api, world, processes, _machinery: machinery })
}

/// What `deploy/` gives to a cluster: definitions and rights.
fn deployed() -> Result<Vec<serde_json::Value>, Failure> {
    let mut all = Vec::new();
    for (name, text) in crate::DEPLOYED {
        all.extend(parse_manifests(Path::new(name), text)?);
    }
    Ok(all)
}

fn ended(cluster: &mut Cluster) -> Result<(), Failure> {
    match cluster.processes.iter_mut().find_map(Process::ended) {
        Some(how) => Err(how.into()),
        None => Ok(()),
    }
}

async fn act(cluster: &mut Cluster, order: &Order) -> Result<ScenarioResult, Failure> {
    let (scenario, expect) = (&order.scenario, &order.scenario.expect);
    let slack = if order.options.strict { 1 } else { 3 };
    let mut observer = Observer::new(&cluster.api, &scenario.name);
    let world = Arc::clone(&cluster.world);
    tokio::task::spawn_blocking(move || world.remember()).await??;
    let rounds_before = rounds(cluster);

    let zero = Instant::now();
    let at = || zero.elapsed().as_secs_f64();
    let (sender, mut looks) = mpsc::channel(1);
    let eyes = tokio::spawn(watch_dns(Arc::clone(&cluster.world), sender));
    let last_fault = scenario.inject.iter().map(|s| s.at.0).max().unwrap_or_default();
    // When everything expected should have happened at the latest.
    let needed = [expect.detect_within, expect.recover_within].into_iter().flatten().map(|p| p.0).max();
    let latest = last_fault + needed.unwrap_or_default() * slack + Duration::from_secs(10);
    let mut steps = scenario.inject.iter().peekable();
    let mut fulfilled_at: Option<Instant> = None;

    loop {
        while let Some(step) = steps.next_if(|s| s.at.0 <= zero.elapsed()) {
            let details = inject(&cluster.world, &cluster.api, &step.action).await?;
            let text = describe(&step.action);
            say(&Told::Entry(TimelineEntry { at_s: at(), kind: EntryKind::Fault, text, details }));
        }
        observer.look_at_log(&cluster.api, &cluster.world, at());
        observer.look_at_objects(&cluster.api, &cluster.world, at());
        while let Ok(failing) = looks.try_recv() {
            observer.look_at_dns(&failing, at());
        }
        for entry in observer.entries.drain(..) {
            say(&Told::Entry(entry));
        }
        if let Some(how) = cluster.processes.iter_mut().find_map(Process::ended) {
            observer.result.violations.push(how);
            break;
        }
        let seen = &observer.result;
        let done = steps.peek().is_none()
            && seen.verdicts.len() >= expect.verdict.len()
            && seen.remedies.len() >= expect.remedy.len()
            && (expect.recover_within.is_none() || seen.recovered_s.is_some() && observer.unsettled().is_empty());
        if !done {
            fulfilled_at = None;
        }
        let settled = done && fulfilled_at.get_or_insert_with(Instant::now).elapsed() >= expect.settle.0;
        if settled || !done && zero.elapsed() >= latest {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    eyes.abort();
    let stray = observer.stray_resizes();
    observer.result.violations.extend(stray);
    if expect.recover_within.is_some() {
        // Recovery is the coordinator's to verify, too.
        let unsettled = observer.unsettled();
        observer.result.violations.extend(unsettled);
    }
    if let Some(expected) = standing(expect) {
        observer.result.violations.extend(check_agrees(cluster, expected).await?);
    }
    let world = Arc::clone(&cluster.world);
    observer.result.violations.extend(tokio::task::spawn_blocking(move || world.violations()).await??);
    if expect.probing_goes_on {
        let after = rounds(cluster);
        for ((process, before), after) in cluster.processes.iter().zip(&rounds_before).zip(&after) {
            if process.name.starts_with("agent") && after.unwrap_or(0.0) < before.unwrap_or(0.0) + 2.0 {
                observer.result.violations.push(format!("the {} stopped probing", process.name));
            }
        }
    }
    if order.options.panics {
        observer.result.violations.extend(cluster.processes.iter().flat_map(Process::never_panicked));
    }
    Ok(judge(observer.result, expect, order.options.strict))
}

/// The verdict that still stands at the end, with the node that it can be seen from; `None` inside: nothing is wrong.
/// `None` outside: what stands at the end is not settled by the scenario.
fn standing(expect: &Expect) -> Option<Option<(&ExpectVerdict, &str)>> {
    if expect.disturbance || expect.recover_within.is_some() {
        return None;
    }
    let seen_from = |v: &ExpectVerdict| match v.subject.split_once('@') {
        Some((_, node)) => NODES.iter().find(|n| **n == node).copied().unwrap_or(NODES[0]),
        None => NODES.iter().find(|n| **n == v.subject).copied().unwrap_or(NODES[0]),
    };
    match expect.verdict.as_slice() {
        [] => Some(None),
        [one] => Some(Some((one, seen_from(one)))),
        _ => None,
    }
}

/// A person who asks on the node is told the same.
async fn check_agrees(cluster: &Cluster, expected: Option<(&ExpectVerdict, &str)>) -> Result<Vec<String>, Failure> {
    let node = expected.map_or(NODES[0], |(_, node)| node).to_owned();
    let netns = cluster.world.netns(&node)?;
    let on = node.clone();
    let (code, said) = match tokio::task::spawn_blocking(move || check(&netns, &on)).await? {
        Ok(said) => said,
        Err(error) => return Ok(vec![format!("`nameward check` on {node} said: {error}")]),
    };
    let causes: Vec<&str> =
        said["verdicts"].as_array().into_iter().flatten().filter_map(|v| v["cause"].as_str()).collect();
    let (wanted, status) = match expected {
        Some((verdict, _)) => (vec![verdict.cause.id()], 1),
        None => (Vec::new(), 0),
    };
    let agrees = causes == wanted && code == Some(status);
    let complaint = format!("`nameward check` on {node} ended with {code:?} and names {causes:?}, expected {wanted:?}");
    Ok(if agrees { Vec::new() } else { vec![complaint] })
}

fn rounds(cluster: &Cluster) -> Vec<Option<f64>> {
    cluster.processes.iter().map(|p| p.metric("nameward_rounds_total", "")).collect()
}

/// The runner's own eyes, as fast as they can look.
async fn watch_dns(world: Arc<World>, sender: mpsc::Sender<Vec<String>>) {
    loop {
        let world = Arc::clone(&world);
        let Ok(failing) = tokio::task::spawn_blocking(move || look(&world.asks(true))).await else { return };
        if sender.send(failing).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
