//! The shell: starts the watches, hands what they hold to the mind, tells what the mind says.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, Abortable};
use kube::Api;
use kube::runtime::watcher::Config as Watched;
use nameward_cluster::connect::Connection;
use nameward_cluster::discovery;
use nameward_cluster::names::{POLICY, SERVICE_NAME_LABEL};
use nameward_config::Config;
use nameward_messages::cluster_view::WorkloadKind;
use nameward_messages::health::Stage;
use nameward_messages::{Mono, NodeName, ObjectKey};
use nameward_supervision::{Actor, Context, Listener, Message, Outlet, Retain, WhenFull, fan_out};

use crate::input::{Input, Link, Role, Settings, Watch};
use crate::kills::SeenKills;
use crate::mind::{Tell, WatcherMind};
use crate::watches::{Plan, follow};

/// Room in the inbox: one message per watch and a few more, since each coalesces.
pub const INBOX: usize = 32;

/// What the watcher is told.
#[derive(Clone, Debug)]
pub enum WatcherMessage {
    /// The configuration changed.
    Reconfigure(Arc<Config>),
    /// What a watch holds (`None`: nothing complete yet) and whether it stands.
    News {
        /// Which watch.
        watch: Watch,
        /// What it holds.
        input: Option<Box<Input>>,
        /// Whether it stands.
        link: Link,
    },
    /// `default/kubernetes` was read.
    Kubernetes(Box<Input>),
    /// Cluster DNS was found.
    Found(Box<FoundDns>),
    /// Cluster DNS was not found; why, and whether the API answered at all.
    NotFound {
        /// Why.
        why: String,
        /// Whether the API answered.
        link: Link,
    },
}

/// Where cluster DNS is.
#[derive(Clone, Debug)]
pub struct FoundDns {
    /// The Service.
    pub service: ObjectKey,
    /// Its selector, `key=value,…`; empty for a Service without one.
    pub selector: String,
    /// What kind of workload its pods belong to.
    pub workload: WorkloadKind,
}

impl Message for WatcherMessage {
    fn when_full(&self) -> WhenFull {
        WhenFull::DropOldest
    }

    fn merge_key(&self) -> Option<String> {
        Some(match self {
            Self::Reconfigure(_) => "config".to_owned(),
            Self::News { watch, .. } => watch.label().to_owned(),
            Self::Kubernetes(_) => "kubernetes".to_owned(),
            Self::Found(_) | Self::NotFound { .. } => "found".to_owned(),
        })
    }

    fn retain(&self) -> Retain {
        // Watches start anew with a rebuilt actor and bring everything else back.
        match self {
            Self::Reconfigure(_) => Retain::Keep("config".to_owned()),
            _ => Retain::No,
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// What the watcher works with and whom it tells.
#[derive(Clone)]
pub struct Wiring {
    /// The API.
    pub connection: Connection,
    /// Which parts of the work this process does.
    pub role: Role,
    /// This node.
    pub node: NodeName,
    /// Kills that were told; the same one for every incarnation.
    pub seen: SeenKills,
    /// Who hears it.
    pub listeners: Vec<Listener<Tell>>,
}

/// The watcher.
pub struct WatcherActor {
    mind: WatcherMind,
    config: Arc<Config>,
    wiring: Wiring,
    /// The futures that depend on which Service is cluster DNS.
    dns: Vec<AbortHandle>,
}

impl WatcherActor {
    /// A watcher that has not begun. Called by the factory, also after a panic.
    #[must_use]
    pub fn new(config: &Config, wiring: Wiring) -> Self {
        let mind = WatcherMind::new(wiring.role, Settings::of(config), wiring.seen.clone());
        Self { mind, config: Arc::new(config.clone()), wiring, dns: Vec::new() }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let mut out = Vec::new();
        self.mind.step(ctx.now(), input, &mut out);
        for tell in out {
            match tell {
                Tell::Stage(stage) => {
                    match &stage {
                        Stage::Ready => tracing::info!("every watch stands"),
                        Stage::Starting(why) => tracing::debug!(%why, "starting"),
                        Stage::Degraded(why) => tracing::warn!(%why, "degraded"),
                    }
                    ctx.stage(stage.clone());
                    fan_out(&self.wiring.listeners, Tell::Stage(stage));
                }
                tell => {
                    if let Tell::Targets(targets) = &tell {
                        self.wiring.connection.endpoints.remember(&targets.api_endpoints);
                    }
                    fan_out(&self.wiring.listeners, tell);
                }
            }
        }
    }

    fn watch<W>(&self, plan: Plan<W>, ctx: &Context<Self>) -> impl Future<Output = ()> + Send + 'static
    where
        W: nameward_cluster::watched::Kind
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        follow(plan, self.wiring.connection.cluster.client(), ctx.me())
    }

    /// The watches that need no discovery.
    fn start(&mut self, ctx: &Context<Self>) {
        let node = self.wiring.node.as_str();
        let role = self.wiring.role;
        if role.agent() {
            let plan = Plan {
                watch: Watch::LocalPods,
                api: |client, _| Api::all(client),
                namespace: String::new(),
                config: Watched::default().any_semantic().fields(&format!("spec.nodeName={node}")),
                input: Input::LocalPods,
            };
            ctx.spawn(self.watch(plan, ctx));
            let plan = Plan {
                watch: Watch::OwnAgent,
                api: |client, _| Api::all(client),
                namespace: String::new(),
                config: Watched::default().any_semantic().fields(&format!("metadata.name={node}")),
                input: Input::OwnAgent,
            };
            ctx.spawn(self.watch(plan, ctx));
        }
        let plan = Plan {
            watch: Watch::Policy,
            api: Api::namespaced,
            namespace: self.config.kubernetes.namespace.clone(),
            config: Watched::default().any_semantic().fields(&format!("metadata.name={POLICY}")),
            input: Input::Policy,
        };
        ctx.spawn(self.watch(plan, ctx));
        if role.coordinator() {
            let everywhere = || (String::new(), Watched::default());
            let (namespace, config) = everywhere();
            let plan = Plan { watch: Watch::Nodes, api: |c, _| Api::all(c), namespace, config, input: Input::Nodes };
            ctx.spawn(self.watch(plan, ctx));
            let (namespace, config) = everywhere();
            let (watch, input) = (Watch::Namespaces, Input::Namespaces);
            ctx.spawn(self.watch(Plan { watch, api: |c, _| Api::all(c), namespace, config, input }, ctx));
            let (namespace, config) = everywhere();
            let plan = Plan { watch: Watch::Agents, api: |c, _| Api::all(c), namespace, config, input: Input::Agents };
            ctx.spawn(self.watch(plan, ctx));
            let (namespace, config) = everywhere();
            let plan =
                Plan { watch: Watch::Incidents, api: |c, _| Api::all(c), namespace, config, input: Input::Incidents };
            ctx.spawn(self.watch(plan, ctx));
        }
        ctx.spawn(remember(self.wiring.connection.clone(), ctx.me()));
        self.discover(ctx);
    }

    fn discover(&mut self, ctx: &Context<Self>) {
        self.dns.drain(..).for_each(|future| future.abort());
        let (connection, config, me) = (self.wiring.connection.clone(), self.config.clone(), ctx.me());
        self.spawn_dns(find(connection, config, self.wiring.role, me), ctx);
    }

    fn spawn_dns(&mut self, future: impl Future<Output = ()> + Send + 'static, ctx: &Context<Self>) {
        let (handle, registration) = AbortHandle::new_pair();
        self.dns.push(handle);
        ctx.spawn(async move {
            // Aborted when another Service is configured.
            let _aborted = Abortable::new(future, registration).await;
        });
    }

    /// The watches of cluster DNS, once it is known which Service that is.
    fn follow_dns(&mut self, found: FoundDns, ctx: &Context<Self>) {
        let FoundDns { service, selector, workload } = found;
        tracing::info!(%service, "this is cluster DNS");
        let namespace = service.namespace.clone();
        let plan = Plan {
            watch: Watch::Service,
            api: Api::namespaced,
            namespace: namespace.clone(),
            config: Watched::default().any_semantic().fields(&format!("metadata.name={}", service.name)),
            input: Input::Service,
        };
        self.spawn_dns(self.watch(plan, ctx), ctx);
        let plan = Plan {
            watch: Watch::Slices,
            api: Api::namespaced,
            namespace: namespace.clone(),
            config: Watched::default().any_semantic().labels(&format!("{SERVICE_NAME_LABEL}={}", service.name)),
            input: Input::Slices,
        };
        self.spawn_dns(self.watch(plan, ctx), ctx);
        if !self.wiring.role.coordinator() {
            return;
        }
        // A Service without selector selects no pod; an impossible label does the same.
        let selector = if selector.is_empty() { "nameward.dev/none=none".to_owned() } else { selector };
        let plan = Plan {
            watch: Watch::DnsPods,
            api: Api::namespaced,
            namespace: namespace.clone(),
            config: Watched::default().labels(&selector),
            input: Input::DnsPods,
        };
        self.spawn_dns(self.watch(plan, ctx), ctx);
        let watch = Watch::Workload;
        let (api_namespace, config) = (namespace.clone(), Watched::default());
        match workload {
            WorkloadKind::Deployment => {
                let api = Api::namespaced;
                let plan = Plan { watch, api, namespace: api_namespace, config, input: Input::Deployments };
                self.spawn_dns(self.watch(plan, ctx), ctx);
            }
            WorkloadKind::DaemonSet => {
                let api = Api::namespaced;
                let plan = Plan { watch, api, namespace: api_namespace, config, input: Input::DaemonSets };
                self.spawn_dns(self.watch(plan, ctx), ctx);
            }
        }
        let (watch, config) = (Watch::Budgets, Watched::default());
        let plan = Plan { watch, api: Api::namespaced, namespace, config, input: Input::Budgets };
        self.spawn_dns(self.watch(plan, ctx), ctx);
    }
}

impl Actor for WatcherActor {
    type Message = WatcherMessage;

    fn started(&mut self, ctx: &Context<Self>) {
        self.start(ctx);
        self.step(Input::Tick, ctx);
    }

    fn handle(&mut self, message: WatcherMessage, ctx: &Context<Self>) {
        match message {
            WatcherMessage::Reconfigure(config) => {
                let elsewhere = config.discovery.service != self.config.discovery.service;
                self.config = config;
                if elsewhere {
                    self.discover(ctx);
                }
                self.step(Input::Settings(Settings::of(&self.config)), ctx);
            }
            WatcherMessage::News { watch, input, link } => {
                self.step(Input::Link(watch, link), ctx);
                if let Some(input) = input {
                    self.step(*input, ctx);
                }
            }
            WatcherMessage::Kubernetes(input) => self.step(*input, ctx),
            WatcherMessage::Found(found) => {
                self.step(Input::Link(Watch::Service, Link::Good), ctx);
                self.follow_dns(*found, ctx);
            }
            WatcherMessage::NotFound { why, link } => {
                self.step(Input::NotFound(why), ctx);
                self.step(Input::Link(Watch::Service, link), ctx);
            }
        }
    }

    fn deadline(&self) -> Option<Mono> {
        self.mind.deadline()
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        self.step(Input::Tick, ctx);
    }
}

/// Doubles from one second to half a minute, with jitter.
fn pause(attempt: u32) -> Duration {
    let seconds = 1_u64.checked_shl(attempt.min(5)).unwrap_or(32).min(30);
    Duration::from_secs(seconds).mul_f64(0.8 + fastrand::f64() * 0.4)
}

/// Looks for cluster DNS until it is found.
async fn find(connection: Connection, config: Arc<Config>, role: Role, to: Outlet<WatcherMessage>) {
    for attempt in 0.. {
        match look(&connection, &config, role).await {
            Ok(found) => {
                to.tell(WatcherMessage::Found(Box::new(found)));
                return;
            }
            Err((why, link)) => {
                to.tell(WatcherMessage::NotFound { why, link });
            }
        }
        tokio::time::sleep(pause(attempt)).await;
    }
}

async fn look(connection: &Connection, config: &Config, role: Role) -> Result<FoundDns, (String, Link)> {
    let cluster = &connection.cluster;
    let unreachable = |error: nameward_cluster::calls::CallError| {
        let why = error.explain();
        (why.clone(), Link::Lost(why))
    };
    let service = cluster.find_dns(&config.discovery.service).await.map_err(|error| match error {
        nameward_cluster::calls::NotFound::Discovery(error) => (error.to_string(), Link::Good),
        nameward_cluster::calls::NotFound::Call(error) => unreachable(error),
    })?;
    if !role.coordinator() {
        return Ok(FoundDns { service, selector: String::new(), workload: WorkloadKind::Deployment });
    }
    let object = cluster.get_service(&service).await.map_err(unreachable)?;
    let labels: Vec<String> = object.spec.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let selector = labels.join(",");
    let mut workload = WorkloadKind::Deployment;
    if !selector.is_empty() {
        let pods = cluster.list_pods(&service.namespace, &selector).await.map_err(unreachable)?;
        if let Some((kind, _)) = pods.iter().find_map(discovery::workload_of) {
            workload = kind;
        } else if service.namespace == "openshift-dns" {
            workload = WorkloadKind::DaemonSet;
        }
    }
    Ok(FoundDns { service, selector, workload })
}

/// Reads `default/kubernetes` now and every ten minutes or so: its endpoints must be known before they are needed. The API server
/// itself writes one slice for them, and gives it the Service's name (kubernetes `pkg/controlplane/reconcilers`).
async fn remember(connection: Connection, to: Outlet<WatcherMessage>) {
    let key = ObjectKey::new("default", "kubernetes");
    let mut attempt = 0;
    loop {
        let cluster = &connection.cluster;
        let outcome = async { Ok((cluster.get_service(&key).await?, cluster.cached_slice(&key).await?)) }.await;
        let wait = match outcome {
            Ok((service, slice)) => {
                let endpoints = discovery::api_endpoints(&[slice]);
                connection.endpoints.remember(&endpoints);
                let service = discovery::dns_service(&service).cluster_ips;
                to.tell(WatcherMessage::Kubernetes(Box::new(Input::Kubernetes { service, endpoints })));
                attempt = 0;
                Duration::from_secs(600).mul_f64(0.8 + fastrand::f64() * 0.4)
            }
            Err(error) => {
                let error: nameward_cluster::calls::CallError = error;
                tracing::debug!(why = %error.explain(), "default/kubernetes could not be read");
                attempt += 1;
                pause(attempt)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests;
