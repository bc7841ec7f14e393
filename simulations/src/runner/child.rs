//! One cluster, in a process of its own, and the scenarios that take turns in it.

use std::ffi::OsString;
use std::io::Write as _;
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
use tokio::time::Instant;

use super::act::act;
use super::crashes::crash_as_planned;
use super::glue::{Glue, follow_services, kill_oversized, started_at};
use super::objects;
use super::observe::all_healthy;
use super::pages;
use super::parent::Order;
use super::processes::{Process, Setup, token_of};
use super::rights::keep;
use super::witness::look;
use super::world::World;
use crate::apiserver::{ApiServer, Handle, Options as ApiOptions, User, parse_manifests};
use crate::lab::{CONTROL, Place, Private, isolate};
use crate::machinery::{ClusterPlan, Machinery, NodePlan, Settings, seed_cluster};
use crate::proxy::Mode;
use crate::result::{EntryKind, TimelineEntry, Told};
use crate::scenario::{Plane, Scenario};

/// The hidden command.
pub(crate) const SCENARIO: &str = "__scenario";

/// How long the cluster may take to become healthy before the faults, and how much longer for each client pod of a node.
const WARM_UP: Duration = Duration::from_secs(90);
const WARM_UP_PER_POD: Duration = Duration::from_millis(1500);
/// Time between two looks of the runner.
pub(super) const LOOK: Duration = Duration::from_millis(250);

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
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

pub(super) fn say(told: &Told) {
    let mut out = std::io::stdout().lock();
    if let Ok(text) = serde_json::to_string(told) {
        // Whoever listened has gone: so does this process, at once.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

pub(super) fn progress(at_s: f64, text: &str) {
    say(&Told::Entry(TimelineEntry { at_s, kind: EntryKind::Progress, text: text.to_owned(), details: Vec::new() }));
}

pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// The whole cluster, with everything that must live as long as it.
pub(super) struct Cluster {
    pub api: Handle,
    pub world: Arc<World>,
    pub processes: Vec<Process>,
    _machinery: Machinery,
}

async fn carry_out(private: Private, order: &Order) -> Result<(), Failure> {
    let began = Instant::now();
    let first = order.scenarios.first().ok_or("there is no scenario")?;
    let mut cluster = build(private, first, order).await?;
    let replicas = first.topology.coredns.count();
    progress(0.0, &format!("{} nodes, {replicas} CoreDNS pods and the agents are up", first.topology.nodes));
    if order.options.watch {
        pages::answer(cluster.processes.iter().map(Process::page).collect())?;
    }
    for scenario in &order.scenarios {
        progress(0.0, &format!("{}: {}", scenario.name, scenario.summary));
        healthy(&mut cluster, scenario).await?;
        let world = Arc::clone(&cluster.world);
        tokio::task::spawn_blocking(move || world.name_anew()).await?;
        say(&Told::Healthy);
        progress(0.0, &format!("healthy after {:.1} s", began.elapsed().as_secs_f64()));
        let result = act(&mut cluster, scenario, order.options).await?;
        let passed = result.passed;
        say(&Told::Result(result));
        if !passed {
            break;
        }
    }
    keep(&cluster.api, first)?;
    if order.options.watch {
        progress(
            0.0,
            "the cluster and its status pages keep running; its namespaces are in /run/netns of this process; Ctrl-C ends it",
        );
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

/// Waits until every agent and the runner's own eyes find the cluster well.
async fn healthy(cluster: &mut Cluster, scenario: &Scenario) -> Result<(), Failure> {
    let began = Instant::now();
    let replicas = usize::try_from(scenario.topology.coredns.count())?;
    let nodes = scenario.topology.names();
    let within = WARM_UP + WARM_UP_PER_POD * scenario.topology.clients_per_node;
    loop {
        let ready = all_healthy(&cluster.api, &nodes, replicas);
        // The runner's own eyes look last: a cluster that comes up is busy.
        let asks = if ready.is_ok() { cluster.world.asks(true) } else { Vec::new() };
        let failing = tokio::task::spawn_blocking(move || look(&asks)).await?;
        match ready {
            Ok(()) if failing.is_empty() => return Ok(()),
            other => {
                ended(cluster)?;
                if began.elapsed() > within {
                    let why = other.err().unwrap_or_else(|| format!("not answering: {}", failing.join(", ")));
                    return Err(format!("the cluster did not become healthy within {within:?}: {why}").into());
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn build(private: Private, scenario: &Scenario, order: &Order) -> Result<Cluster, Failure> {
    let mode = match scenario.plane() {
        Plane::Iptables => Mode::IptablesNft,
        Plane::IptablesLegacy => Mode::IptablesLegacy,
        Plane::Nftables => Mode::Nftables,
    };
    let (nodes, topology) = (scenario.topology.nodes, &scenario.topology);
    let world = Arc::new(tokio::task::spawn_blocking(move || World::build(private, mode, nodes)).await??);

    let mut options =
        ApiOptions { manifests: deployed(&scenario.config)?, started_at: started_at().wall, ..ApiOptions::default() };
    let names = topology.names();
    for node in &names {
        let user = User::service_account("nameward", "nameward-agent", Some(node));
        options.tokens.insert(token_of(node), user);
    }
    for pod in ["control", "control-2"] {
        let user = User::service_account("nameward", "nameward-coordinator", None).of_pod(pod);
        options.tokens.insert(token_of(pod), user);
    }
    let api = ApiServer::new(options)?;
    // Two who may look at status pages from elsewhere, if these are opened; one has the right to.
    for name in ["viewer", "stranger"] {
        api.add_foreign_token(name, User::service_account("nameward", name, None), "nameward");
    }
    let plan = ClusterPlan {
        nodes: (1..=nodes).map(NodePlan::numbered).collect(),
        replicas: topology.coredns.count(),
        clients: (1..=topology.clients_per_node).map(|n| ("default".to_owned(), format!("client-{n}"))).collect(),
        daemon_set: topology.daemon_set,
        kube_proxy: topology.kube_proxy,
        ..ClusterPlan::default()
    };
    seed_cluster(&api, &plan)?;
    if topology.old_incident {
        objects::old_incident(&api)?;
    }

    let control = world.netns("control")?;
    let listener = control.enter(|| std::net::TcpListener::bind((CONTROL, 6443)))??;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let server = api.clone();
    tokio::spawn(async move { server.serve(listener).await });

    let coredns_on = topology.coredns.placement().to_vec();
    let settings = Settings { back_off: Duration::from_secs(4), coredns_on, ..Settings::default() };
    let machinery = Machinery::start(&api, settings, Arc::new(Glue(Arc::clone(&world))));
    tokio::spawn(follow_services(api.clone(), Arc::clone(&world)));
    tokio::spawn(kill_oversized(machinery.events(), Arc::clone(&world)));
    tokio::spawn(crash_as_planned(machinery.events(), Arc::clone(&world)));

    let mut processes = Vec::new();
    let agents = names.iter().map(|name| (Some(name.as_str()), 1));
    for (node, coordinator) in agents.chain((1..=topology.coordinators).map(|number| (None, number))) {
        let (config, panics) = (&scenario.config, order.options.panics);
        let setup = Setup { node, coordinator, config, panics, scenario: scenario.name.as_str() };
        processes.push(Process::start(world.netns(node.unwrap_or("control"))?, &setup)?);
    }
    Ok(Cluster { api, world, processes, _machinery: machinery })
}

/// What `deploy/` gives to a cluster with this configuration: definitions, rights and policies. What is opted in comes first: it
/// may hold another version of a policy, and the first one stays.
fn deployed(config: &toml::Table) -> Result<Vec<serde_json::Value>, Failure> {
    let asked = |keys: &[&str]| {
        let (last, tables) = keys.split_last()?;
        let table = tables.iter().try_fold(config, |table, key| table.get(*key)?.as_table())?;
        table.get(*last).filter(|value| value.as_bool() != Some(false))
    };
    let opted_in =
        crate::OPTED_IN.iter().filter(|(keys, ..)| asked(keys).is_some()).map(|(_, name, text)| (name, text));
    let mut all = Vec::new();
    for (name, text) in opted_in.chain(crate::DEPLOYED.iter().map(|(name, text)| (name, text))) {
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
