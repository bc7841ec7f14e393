//! One look from outside: what the API says, which ways that gives, what they answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use nameward_cluster::calls::{CallError, Cluster, NotFound};
use nameward_cluster::discovery::{dns_pods, dns_service};
use nameward_cluster::wire::{ExposedService, NodeWithAddresses};
use nameward_config::Config;
use nameward_messages::ObjectKey;
use nameward_messages::probe::Question;
use nameward_messages::targets::{DnsPod, DnsService, Transport};

use crate::ask;
use crate::asking::{Plan, domain_of, questions};
use crate::judge::{Asked, Judgement, judge};
use crate::reach::{Host, Objects, Way, ways};

/// Longest wait for the machine's own resolver with the name of a load balancer.
const RESOLVE: Duration = Duration::from_secs(3);
/// Most addresses of one name.
const ADDRESSES: usize = 4;
/// The ConfigMap with the Corefile, where it is named as on most distributions.
const COREFILE: (&str, &str) = ("coredns", "Corefile");

/// The API does not say what cluster DNS is.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// There is no DNS Service, or it may not be read.
    #[error("cluster DNS was not found by the API")]
    Dns(#[from] NotFound),
    /// Something of it may not be read.
    #[error("cluster DNS cannot be read by the API")]
    Call(#[from] CallError),
}

/// What the API says of cluster DNS.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The DNS Service.
    pub service: DnsService,
    /// The Services of its namespace.
    pub services: Vec<ExposedService>,
    /// The nodes; empty if they may not be listed.
    pub nodes: Vec<NodeWithAddresses>,
    /// The CoreDNS pods.
    pub pods: Vec<DnsPod>,
    /// What is asked.
    pub questions: Vec<Question>,
    /// The cluster domain was stated or read.
    pub domain_known: bool,
    /// What could not be read, and what is lost by it.
    pub losses: Vec<String>,
}

/// Reads it.
///
/// # Errors
/// The DNS Service is not found or cannot be read. What else cannot be read is a loss, and said.
pub async fn scene(cluster: &Cluster, config: &Config) -> Result<Scene, LookError> {
    let key = cluster.find_dns(&config.discovery.service).await?;
    let service = dns_service(&cluster.get_service(&key).await?);
    let mut losses = Vec::new();
    let mut lost = |what: &str, error: &CallError| losses.push(format!("{what}: {}", error.explain()));
    let slices = cluster.list_slices(&key).await;
    let slices = slices.inspect_err(|e| lost("the CoreDNS pods are not known", e)).unwrap_or_default();
    let pods = dns_pods(&slices, &service, config.discovery.udp_port, config.discovery.tcp_port);
    let services = cluster.list_exposed_services(&key.namespace).await;
    let services = services.inspect_err(|e| lost("no external address is known", e)).unwrap_or_default();
    let nodes = cluster.list_nodes().await;
    let nodes = nodes.inspect_err(|e| lost("no node port is known", e)).unwrap_or_default();
    let kubernetes = cluster.get_service(&ObjectKey::new("default", "kubernetes")).await;
    let kubernetes = kubernetes.map(|s| dns_service(&s).cluster_ips).unwrap_or_default();

    let stated = Some(config.discovery.cluster_domain.clone()).filter(|domain| !domain.is_empty());
    let domain = match stated {
        Some(domain) => Some(domain),
        None => corefile(cluster, &key.namespace).await.as_deref().and_then(domain_of),
    };
    let domain_known = domain.is_some();
    let questions = questions(config, domain.as_deref().unwrap_or("cluster.local"), &kubernetes);
    Ok(Scene { service, services, nodes, pods, questions, domain_known, losses })
}

async fn corefile(cluster: &Cluster, namespace: &str) -> Option<String> {
    let map = cluster.get_config_map(&ObjectKey::new(namespace, COREFILE.0)).await.ok()?;
    map.data.get(COREFILE.1).cloned()
}

impl Scene {
    /// Every way there may be.
    #[must_use]
    pub fn ways(&self) -> Vec<Way> {
        let Self { service, services, nodes, pods, .. } = self;
        ways(&Objects { service, services, nodes, pods })
    }
}

/// Asks every way, and judges.
pub async fn look(scene: &Scene, config: &Config) -> Judgement {
    let mut plan = Plan::new(config, scene.questions.clone());
    let mut aims: Vec<(Way, SocketAddr, Transport)> = Vec::new();
    for (way, addresses) in resolved(scene.ways()).await {
        for ip in addresses {
            for (transport, port) in [(Transport::Udp, way.udp), (Transport::Tcp, way.tcp)] {
                let Some(port) = port else { continue };
                let (to, before) = (SocketAddr::new(ip, port), plan.asks.len());
                plan.add(to, transport);
                aims.extend((before..plan.asks.len()).map(|_| (way.clone(), to, transport)));
            }
        }
    }
    let answers = ask::ask(&plan).await;
    let asked = aims.into_iter().zip(answers).zip(&plan.asks).filter_map(|(((way, to, transport), answer), ask)| {
        let question = plan.questions.get(usize::from(ask.2))?.kind;
        Some(Asked { way, to, transport, question, answer })
    });
    judge(asked.collect(), scene.domain_known)
}

/// The ways with their addresses; a name that is not resolved leads nowhere.
async fn resolved(ways: Vec<Way>) -> Vec<(Way, Vec<IpAddr>)> {
    join_all(ways.into_iter().map(|way| async move {
        let addresses = match &way.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => resolve(name).await,
        };
        (way, addresses)
    }))
    .await
}

async fn resolve(name: &str) -> Vec<IpAddr> {
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((name, 0))).await;
    let mut all: Vec<IpAddr> = match found {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        Ok(Err(error)) => {
            tracing::debug!(name, %error, "the name of a load balancer is not resolved");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    all.sort();
    all.dedup();
    all.truncate(ADDRESSES);
    all
}
