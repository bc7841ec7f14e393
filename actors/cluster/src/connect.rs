//! The connection to the Kubernetes API.
//!
//! The client's own retries are off: they would repeat an eviction that a budget forbade and a write whose outcome is not
//! known. Watches back off by themselves, and calls are repeated by who asked for them, if at all.

mod failover;
mod source;

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::{Body, ConfigExt};
use nameward_config::settings::Kubernetes;
use tower::{BoxError, ServiceBuilder};

pub use failover::{ApiEndpoints, Failover, NoRoute, Route};

use crate::calls::Cluster;

/// The API could not be set up. Whether it answers is seen by the first call.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file cannot be read.
    #[error("cannot read the kubeconfig {path}; correct it, or name another ({setting})")]
    Unreadable {
        /// Which file.
        path: String,
        /// Where its name comes from.
        setting: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a kubeconfig, or what it refers to is missing.
    #[error(
        "the kubeconfig {path} cannot be used (context {context:?}); correct the file, or name another ({setting})"
    )]
    Broken {
        /// Which file.
        path: String,
        /// Which context.
        context: String,
        /// Where the file's name comes from.
        setting: &'static str,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// The context is not in the file.
    #[error(
        "the kubeconfig {path} has no context {context:?} (it has: {known}); name one of them (--context, or kubernetes.context)"
    )]
    UnknownContext {
        /// Which file.
        path: String,
        /// The context asked for.
        context: String,
        /// Those that are there.
        known: String,
    },
    /// Nothing says where the API is.
    #[error(
        "no way to the Kubernetes API: this is not a pod with a service account, KUBECONFIG is not set and there is no {home}; \
         set kubernetes.kubeconfig, or --kubeconfig"
    )]
    Nothing {
        /// The file that was looked for last.
        home: String,
    },
    /// The pod's service account cannot be used.
    #[error(
        "the service account of this pod cannot be used; mount it (automountServiceAccountToken), or set kubernetes.kubeconfig"
    )]
    ServiceAccount {
        /// Why.
        source: kube::config::InClusterError,
    },
    /// A proxy is asked for.
    #[error("{path} asks for the proxy {proxy}, which Nameward does not speak to; remove proxy-url")]
    Proxy {
        /// Which file.
        path: String,
        /// Which proxy.
        proxy: String,
    },
    /// TLS or credentials cannot be set up.
    #[error("cannot set up the client for {server} from {path}; check its certificates and credentials")]
    Client {
        /// The server.
        server: String,
        /// Where it comes from.
        path: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

/// A connection: what calls are made through, and where the remembered endpoints are kept up to date.
#[derive(Clone)]
pub struct Connection {
    /// The calls.
    pub cluster: Cluster,
    /// Remembered endpoints of the API server: set them whenever they are seen.
    pub endpoints: ApiEndpoints,
    /// The configured address, for people.
    pub server: String,
}

/// Sets up the client by the settings. Makes no call; must be called within a tokio runtime.
///
/// # Errors
/// The kubeconfig, the context or the service account cannot be used; the error names them and the next step.
pub async fn connect(settings: &Kubernetes) -> Result<Connection, ConnectError> {
    let source::Source { mut config, path } = source::load(settings).await?;
    if let Some(proxy) = &config.proxy_url {
        return Err(ConnectError::Proxy { path, proxy: proxy.to_string() });
    }
    config.headers.push((USER_AGENT, HeaderValue::from_static(crate::names::USER_AGENT)));
    let endpoints = ApiEndpoints::default();
    let server = config.cluster_url.to_string();
    let patience = settings.call_timeout.0.max(Duration::from_secs(5)) * 2;
    let client = client(&config, Failover::new(endpoints.clone()), patience)
        .map_err(|source| ConnectError::Client { server: server.clone(), path, source: Box::new(source) })?;
    Ok(Connection { cluster: Cluster::new(client, settings.call_timeout.0), endpoints, server })
}

/// `patience`: longest wait for the head of an answer; a watch's body may go on for as long as it likes.
fn client(config: &kube::Config, connector: Failover, patience: Duration) -> Result<Client, kube::Error> {
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60)).pool_max_idle_per_host(2);
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .timeout(patience);
    let namespace = config.default_namespace.clone();
    // Plain HTTP is what simulations speak: then no certificate store is needed at all.
    Ok(if config.cluster_url.scheme() == Some(&http::uri::Scheme::HTTP) {
        Client::new(stack.service(builder.build::<_, Body>(connector)), namespace)
    } else {
        let tls = config.rustls_https_connector_with_connector(connector)?;
        Client::new(stack.service(builder.build::<_, Body>(tls)), namespace)
    })
}

#[cfg(test)]
mod tests;
