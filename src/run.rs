//! `nameward run`: the agent, the coordinator, or both, until SIGTERM.

use std::sync::Arc;
use std::time::Duration;

use nameward_config::settings::{Config, LogFormat};
use nameward_config::{Reload, Source};
use nameward_kernel::capability::Capabilities;
use nameward_kernel::enter::EnterPool;
use nameward_messages::NodeName;
use nameward_messages::health::ActorName;

use nameward_metrics::{About, ConfigReload, MetricsInput, Pages, bind};
use nameward_supervision::{Outlet, RestartBudget, Supervisor, fan_out};
use nameward_watcher::Role;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::{Cluster, Role as CliRole, RunArgs};
use crate::exit::{Failure, Found};
use crate::wiring::{self, Parts, Reconfigure};

/// Threads that enter namespaces, and jobs that may wait for them.
pub(crate) const ENTER: (usize, usize) = (2, 4096);
/// How often the configuration file is looked at.
const RELOAD: Duration = Duration::from_secs(2);
/// How long the drain may take: less than the 30 s that the kubelet gives.
const DRAIN: Duration = Duration::from_secs(8);

pub(crate) fn run(args: &RunArgs) -> Result<Found, Failure> {
    let (source, config, warnings) = configure(&args.cluster)?;
    log(&config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let panics = args.rehearse_panic.iter().map(|text| rehearsal(text)).collect::<Result<Vec<_>, _>>()?;
    let role = args.role;
    nameward_supervision::run(move || serve(config, source, role, panics))
        .map_err(|e| Failure::could_not("the threads of the process cannot be started", e))?
}

/// The configuration with the command line laid over it.
pub(crate) fn configure(cluster: &Cluster) -> Result<(Source, Config, Vec<String>), Failure> {
    let mut env: Vec<(String, String)> = std::env::vars().collect();
    let mut lay_over = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            env.retain(|(n, _)| n != name);
            env.push((name.to_owned(), value));
        }
    };
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    lay_over("NAMEWARD_KUBERNETES_KUBECONFIG", path(&cluster.kubeconfig));
    lay_over("NAMEWARD_KUBERNETES_CONTEXT", cluster.context.clone());
    lay_over("NAMEWARD_DISCOVERY_UDP_PORT", cluster.udp_port.map(|p| p.to_string()));
    let (source, loaded) = Source::open(cluster.config.clone(), env).map_err(|p| Failure::Usage(p.to_string()))?;
    Ok((source, loaded.config, loaded.warnings))
}

/// Logs go to standard error, so that the output of commands stays clean.
fn log(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log.level)
        .map_err(|e| Failure::Usage(format!("log.level: `{}` is no filter: {e}", config.log.level)))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|e| Failure::could_not("the log cannot be set up", e))
}

fn rehearsal(text: &str) -> Result<(ActorName, u64), Failure> {
    let parsed = text.split_once('=').and_then(|(name, nth)| {
        let actor = ActorName::ALL.into_iter().find(|a| a.label() == name)?;
        Some((actor, nth.parse().ok()?))
    });
    parsed.ok_or_else(|| Failure::Usage(format!("--rehearse-panic {text}: write ACTOR=N, such as prober=20")))
}

/// The node that this process runs on.
pub(crate) fn node_name(config: &Config) -> Result<NodeName, Failure> {
    let from_config = Some(config.kubernetes.node_name.clone());
    let from_env = || std::env::var("NODE_NAME").ok();
    let from_host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|h| h.trim().to_owned());
    let named = |name: &String| !name.is_empty();
    let name = from_config.filter(named).or_else(|| from_env().filter(named)).or_else(|| from_host().filter(named));
    name.map(|name| NodeName(name.to_lowercase()))
        .ok_or_else(|| Failure::Usage("the node's name is not known: set kubernetes.node_name or NODE_NAME".to_owned()))
}

/// Threads that enter namespaces; the process's own namespace is the host vantage.
pub(crate) fn pool() -> Result<EnterPool, Failure> {
    EnterPool::new(ENTER.0, ENTER.1).map_err(|e| Failure::could_not("the namespace threads cannot be started", e))
}

async fn serve(config: Config, source: Source, role: CliRole, panics: Vec<(ActorName, u64)>) -> Result<Found, Failure> {
    let node = node_name(&config)?;
    let (role, role_name) = match role {
        CliRole::Agent => (Role::Agent, "agent"),
        CliRole::Coordinator => (Role::Coordinator, "coordinator"),
        CliRole::All => (Role::All, "all"),
    };
    let endpoint = bind(config.metrics.listen)
        .map_err(|e| Failure::could_not("the HTTP endpoint cannot be opened (metrics.listen)", e))?;
    let connection = nameward_cluster::connect::connect(&config.kubernetes)
        .await
        .map_err(|e| Failure::could_not("the Kubernetes API cannot be used", e))?;
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
    let server = endpoint.serve(pages.clone());
    let parts = Parts { config: Arc::new(config), node, role, connection, pool };
    let (reconfigure, metrics) = wiring::start(&mut supervisor, &parts, &pages);
    metrics.tell(MetricsInput::Losses(losses));

    until_signal(source, &reconfigure, &metrics).await?;
    tracing::info!("draining");
    let drained = supervisor.drain(DRAIN).await;
    server.abort();
    for (actor, n) in &drained.left {
        tracing::warn!(%actor, n, "messages were left unhandled");
    }
    tracing::info!(clean = drained.clean, "nameward ends");
    Ok(Found::Healthy)
}

/// Looks after the configuration until SIGTERM or SIGINT.
async fn until_signal(
    mut source: Source,
    reconfigure: &Reconfigure,
    metrics: &Outlet<MetricsInput>,
) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|e| Failure::could_not("signals cannot be listened for", e));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut timer = tokio::time::interval(RELOAD);
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = timer.tick() => {
                // A file on a hanging mount must not hold the actors' thread.
                let read = tokio::task::spawn_blocking(move || { let read = source.reload(); (source, read) }).await;
                let Ok((kept, read)) = read else { return Err(Failure::Usage("the configuration cannot be read again".into())) };
                source = kept;
                tell_reload(read, reconfigure, metrics);
            }
        }
    }
}

fn tell_reload(read: Reload, reconfigure: &Reconfigure, metrics: &Outlet<MetricsInput>) {
    match read {
        Reload::Same => {}
        Reload::Changed(loaded) => {
            tracing::info!(hash = %loaded.hash, "the configuration changed and is in force");
            metrics.tell(MetricsInput::ConfigReload(ConfigReload::Ok { hash: loaded.hash }));
            fan_out(reconfigure, Arc::new(loaded.config));
        }
        Reload::Bad(problems) => {
            tracing::error!("the configuration changed and is bad, the old one stays in force: {problems}");
            metrics.tell(MetricsInput::ConfigReload(ConfigReload::Failed { because: problems.to_string() }));
        }
    }
}
