//! `nameward run`: the agent, the coordinator, or both, until SIGTERM.

use std::sync::Arc;
use std::time::Duration;

use nameward_cluster::connect::{ConnectError, Connection};
use nameward_config::{Config, Reload, Source};
use nameward_kernel::capability::Capabilities;
use nameward_kernel::enter::EnterPool;
use nameward_messages::NodeName;
use nameward_messages::health::ActorName;

use nameward_metrics::{About, ConfigReload, MetricsInput, Pages, bind};
use nameward_outside::place::Place;
use nameward_supervision::{Outlet, RestartBudget, Supervisor, fan_out};
use nameward_watcher::Role;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::cli::{Outside, Role as CliRole, RunArgs};
use crate::config::configure;
use crate::exit::{Failure, Found};
use crate::logging::Log;
use crate::outside;
use crate::visitors::ApiReview;
use crate::wiring::{self, Parts, Reconfigure};

/// Threads that enter namespaces, and jobs that may wait for them.
pub(crate) const ENTER: (usize, usize) = (2, 4096);
/// How often the configuration file is looked at.
const RELOAD: Duration = Duration::from_secs(2);
/// How long the drain may take: less than the 30 s that the kubelet gives.
const DRAIN: Duration = Duration::from_secs(8);

pub(crate) fn run(args: &RunArgs) -> Result<Found, Failure> {
    let (source, config, warnings) = configure(&args.cluster)?;
    let log = Log::start(&config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let panics = args.rehearse_panic.iter().map(|text| rehearsal(text)).collect::<Result<Vec<_>, _>>()?;
    let (role, from) = (args.role, args.outside.clone());
    nameward_supervision::run(move || serve(config, source, log, (role, from), panics))
        .map_err(|e| Failure::could_not("the threads of the process cannot be started", e))?
}

fn rehearsal(text: &str) -> Result<(ActorName, u64), Failure> {
    let parsed = text.split_once('=').and_then(|(name, nth)| {
        let actor = ActorName::ALL.into_iter().find(|a| a.label() == name)?;
        Some((actor, nth.parse().ok()?))
    });
    parsed.ok_or_else(|| Failure::usage(format!("--rehearse-panic {text}: write ACTOR=N, such as prober=20")))
}

/// The node that this process runs on.
pub(crate) fn node_name(config: &Config) -> Result<NodeName, Failure> {
    let from_config = Some(config.kubernetes.node_name.clone());
    let from_env = || std::env::var("NODE_NAME").ok();
    let from_host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|h| h.trim().to_owned());
    let named = |name: &String| !name.is_empty();
    let name = from_config.filter(named).or_else(|| from_env().filter(named)).or_else(|| from_host().filter(named));
    name.map(|name| NodeName(name.to_lowercase()))
        .ok_or_else(|| Failure::usage("the node's name is not known: set kubernetes.node_name or NODE_NAME"))
}

/// Threads that enter namespaces; the process's own namespace is the host vantage.
pub(crate) fn pool() -> Result<EnterPool, Failure> {
    EnterPool::new(ENTER.0, ENTER.1).map_err(|e| Failure::could_not("the namespace threads cannot be started", e))
}

/// Sets up the connection. What a kubeconfig says is configuration; what a pod is given is not.
pub(crate) async fn connect(config: &Config) -> Result<Connection, Failure> {
    nameward_cluster::connect::connect(&config.kubernetes).await.map_err(|error| match error {
        ConnectError::ServiceAccount { .. } => Failure::outside(&error),
        ConnectError::Unreadable { .. }
        | ConnectError::Broken { .. }
        | ConnectError::UnknownContext { .. }
        | ConnectError::Nothing { .. }
        | ConnectError::Proxy { .. }
        | ConnectError::Client { .. } => Failure::usage_by(&error),
    })
}

async fn serve(
    config: Config,
    source: Source,
    log: Log,
    (role, from): (CliRole, Outside),
    panics: Vec<(ActorName, u64)>,
) -> Result<Found, Failure> {
    let node = node_name(&config)?;
    let endpoint = bind(config.metrics.listen).map_err(|e| Failure::outside(&e))?;
    let connection = connect(&config).await?;
    // A coordinator may stand anywhere; an agent has a node under it.
    let place = match role {
        CliRole::Coordinator => Place::Inside,
        CliRole::Agent | CliRole::All => outside::stands(&connection, &config, &from).await,
    };
    let (role, role_name) = match (role, place) {
        (CliRole::Agent, Place::Inside) => (Role::Agent, "agent"),
        (CliRole::Coordinator, _) => (Role::Coordinator, "coordinator"),
        (CliRole::All, Place::Inside) => (Role::All, "all"),
        (CliRole::All, Place::Outside) => (Role::Coordinator, "coordinator"),
        (CliRole::Agent, Place::Outside) => {
            return Err(Failure::usage(format!(
                "an agent needs a node of the cluster under it, and this is none ({node} is not known there); \
                 run --role coordinator or all from outside, or set kubernetes.node_name"
            )));
        }
    };
    let pool = pool()?;
    let losses = if role.agent() { Capabilities::find(&pool).losses() } else { Vec::new() };
    for loss in &losses {
        tracing::warn!("{loss}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), %node, role = role_name, api = %connection.server, metrics = %endpoint.address(),
        "nameward starts"
    );

    let mut supervisor = Supervisor::new(RestartBudget::default());
    supervisor.rehearse_panics(panics);
    let about =
        About { version: env!("CARGO_PKG_VERSION").to_owned(), node: node.0.clone(), role: role_name.to_owned() };
    let pages =
        Pages::new(about, supervisor.board()).map_err(|e| Failure::could_not("the metrics cannot be registered", e))?;
    pages.reviewed_by(Arc::new(ApiReview(connection.cluster.clone())));
    let server = endpoint.serve(pages.clone());
    let config = Arc::new(config);
    if place == Place::Outside {
        tracing::info!("this machine is no node of the cluster: cluster DNS is looked at from outside");
        tokio::spawn(outside::watch::watch(connection.clone(), Arc::clone(&config), from));
    }
    let parts = Parts { config: Arc::clone(&config), node, role, connection, pool };
    let (reconfigure, metrics) = wiring::start(&mut supervisor, &parts, &pages);
    metrics.tell(MetricsInput::Losses(losses));

    until_signal(Reloading { source, log, config, reconfigure, metrics }).await?;
    tracing::info!("draining");
    let drained = supervisor.drain(DRAIN).await;
    server.abort();
    for (actor, n) in &drained.left {
        tracing::warn!(%actor, n, "messages were left unhandled");
    }
    tracing::info!(clean = drained.clean, "nameward ends");
    Ok(Found::Healthy)
}

/// What is told of a new configuration.
struct Reloading {
    source: Source,
    log: Log,
    config: Arc<Config>,
    reconfigure: Reconfigure,
    metrics: Outlet<MetricsInput>,
}

/// Looks after the configuration until SIGTERM or SIGINT.
async fn until_signal(mut reloading: Reloading) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|e| Failure::could_not("signals cannot be listened for", e));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut timer = tokio::time::interval(RELOAD);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A file on a hanging mount must not hold the actors' thread, and not the signals either.
    let mut reading: Option<JoinHandle<(Source, Reload)>> = None;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = timer.tick(), if reading.is_none() => {
                let mut source = reloading.source.clone();
                reading = Some(tokio::task::spawn_blocking(move || { let read = source.reload(); (source, read) }));
            }
            read = async { match reading.as_mut() { Some(read) => read.await, None => std::future::pending().await } } => {
                reading = None;
                // A panic in there was logged; the next look may do better.
                if let Ok((source, read)) = read {
                    reloading.source = source;
                    reloading.take(read);
                }
            }
        }
    }
}

impl Reloading {
    fn take(&mut self, read: Reload) {
        let loaded = match read {
            Reload::Same => return,
            Reload::Changed(loaded) => loaded,
            Reload::Bad(problems) => return self.refuse(&problems.to_string()),
        };
        if let Err(because) = self.log.level(&loaded.config.log.level) {
            return self.refuse(&because);
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        for setting in fixed(&self.config, &loaded.config) {
            tracing::warn!("{setting} changed: it takes effect when this process starts again");
        }
        tracing::info!(hash = %loaded.hash, "the configuration changed and is in force");
        self.config = Arc::new(in_force(&self.config, loaded.config));
        self.metrics.tell(MetricsInput::ConfigReload(ConfigReload::Ok { hash: loaded.hash }));
        fan_out(&self.reconfigure, Arc::clone(&self.config));
    }

    fn refuse(&self, because: &str) {
        let line = because.replace('\n', " | ");
        tracing::error!("the configuration changed and is bad, the old one stays in force: {line}");
        self.metrics.tell(MetricsInput::ConfigReload(ConfigReload::Failed { because: because.to_owned() }));
    }
}

/// Settings that are looked at once, at the start, and that differ.
fn fixed(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("metrics.listen", old.metrics.listen != new.metrics.listen),
        ("log.format", old.log.format != new.log.format),
        ("kubernetes", old.kubernetes != new.kubernetes),
    ]
    .into_iter()
    .filter_map(|(setting, differs)| differs.then_some(setting))
    .collect()
}

/// What the actors are told. The connection keeps its time-out: whoever judges by another one how long a call may last would take the
/// Lease for safe while an act is still under way.
fn in_force(old: &Config, new: Config) -> Config {
    Config { kubernetes: old.kubernetes.clone(), ..new }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_that_the_connection_does_not_keep_is_told_to_nobody() {
        let old = Config::default();
        let mut new = Config::default();
        new.kubernetes.call_timeout.0 = old.kubernetes.call_timeout.0 / 5;
        new.remedy.mode = nameward_messages::remedy::Mode::Act;
        assert_eq!(fixed(&old, &new), ["kubernetes"]);
        let told = in_force(&old, new);
        assert_eq!(told.kubernetes, old.kubernetes);
        assert_eq!(told.remedy.mode, nameward_messages::remedy::Mode::Act);
    }
}
