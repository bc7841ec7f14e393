//! The API's other addresses.
//!
//! The configured address is usually the service address of `default/kubernetes`, which needs the very rules on this node
//! whose loss an agent must report. So the endpoints behind it are remembered while it works, and tried when it does not.
//! Name and certificate stay those of the configured address: only the socket goes elsewhere.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

/// Longest wait for one connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Time after which the configured address is tried again first.
const RETURN_AFTER: Duration = Duration::from_secs(60);
/// Most endpoints that are remembered.
const MOST: usize = 8;

/// Remembered addresses of the API server, shared between who learns of them and the connector.
#[derive(Clone, Debug, Default)]
pub struct ApiEndpoints(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    endpoints: Vec<SocketAddr>,
    /// The endpoint that worked when the configured address did not, and until when it goes first.
    instead: Option<(SocketAddr, Instant)>,
}

/// One way to the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The configured address.
    Configured,
    /// A remembered endpoint.
    Endpoint(SocketAddr),
}

impl ApiEndpoints {
    /// Remembers these endpoints instead of the last. An empty list is not believed: no API server has no address.
    pub fn remember(&self, endpoints: &[SocketAddr]) {
        if endpoints.is_empty() {
            return;
        }
        self.with(|memory| memory.endpoints = endpoints.iter().copied().take(MOST).collect());
    }

    /// What is remembered.
    #[must_use]
    pub fn remembered(&self) -> Vec<SocketAddr> {
        self.with(|memory| memory.endpoints.clone())
    }

    /// The endpoint in use instead of the configured address, if that one failed lately.
    #[must_use]
    pub fn instead(&self) -> Option<SocketAddr> {
        self.with(|memory| memory.instead.map(|(endpoint, _)| endpoint))
    }

    /// In which order to try: what worked last first, the configured address again from time to time.
    fn routes(&self, now: Instant) -> Vec<Route> {
        self.with(|memory| {
            let mut routes = Vec::with_capacity(memory.endpoints.len() + 2);
            let instead = memory.instead;
            if let Some((endpoint, until)) = instead
                && now < until
            {
                routes.push(Route::Endpoint(endpoint));
            }
            routes.push(Route::Configured);
            routes.extend(instead.map(|(endpoint, _)| Route::Endpoint(endpoint)));
            routes.extend(memory.endpoints.iter().copied().map(Route::Endpoint));
            let mut seen = Vec::new();
            routes.retain(|route| {
                let new = !seen.contains(route);
                seen.push(*route);
                new
            });
            routes
        })
    }

    fn worked(&self, route: Route, configured_failed: bool, now: Instant) {
        self.with(|memory| match route {
            Route::Configured => memory.instead = None,
            Route::Endpoint(endpoint)
                if configured_failed || memory.instead.is_none_or(|(last, _)| last != endpoint) =>
            {
                memory.instead = Some((endpoint, now + RETURN_AFTER));
            }
            Route::Endpoint(_) => {}
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Memory) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// No address could be connected to.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to the Kubernetes API: {tried}")]
pub struct NoRoute {
    /// Each address that was tried, with what came of it.
    pub tried: String,
}

/// Connects to the configured address, else to a remembered endpoint.
#[derive(Clone, Debug)]
pub struct Failover {
    http: HttpConnector,
    endpoints: ApiEndpoints,
}

impl Failover {
    /// A connector over these endpoints.
    #[must_use]
    pub fn new(endpoints: ApiEndpoints) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        // A watch is silent for minutes: that its peer is gone must be found out by probing the connection.
        http.set_keepalive(Some(Duration::from_secs(10)));
        http.set_keepalive_interval(Some(Duration::from_secs(5)));
        http.set_keepalive_retries(Some(3));
        http.set_tcp_user_timeout(Some(Duration::from_secs(20)));
        Self { http, endpoints }
    }
}

impl Service<Uri> for Failover {
    type Response = TokioIo<TcpStream>;
    type Error = NoRoute;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoRoute>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoRoute>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, configured: Uri) -> Self::Future {
        let (http, endpoints) = (self.http.clone(), self.endpoints.clone());
        Box::pin(async move {
            let mut tried = Vec::new();
            let mut configured_failed = false;
            for route in endpoints.routes(Instant::now()) {
                let Some(address) = address(&configured, route) else { continue };
                // The connector's own limit does not cover name resolution.
                let outcome = tokio::time::timeout(CONNECT, http.clone().oneshot(address.clone())).await;
                let failure = match outcome {
                    Ok(Ok(stream)) => {
                        if configured_failed {
                            tracing::info!(server = %configured, %address, "the API is reached by a remembered endpoint");
                        }
                        endpoints.worked(route, configured_failed, Instant::now());
                        return Ok(stream);
                    }
                    Ok(Err(error)) => reason(&error),
                    Err(_) => format!("no connection within {CONNECT:?}"),
                };
                configured_failed |= route == Route::Configured;
                let to = address.authority().map_or_else(|| address.to_string(), ToString::to_string);
                tried.push(format!("{to} ({failure})"));
            }
            Err(NoRoute { tried: tried.join(", ") })
        })
    }
}

fn address(configured: &Uri, route: Route) -> Option<Uri> {
    match route {
        Route::Configured => Some(configured.clone()),
        Route::Endpoint(endpoint) => {
            let scheme = configured.scheme_str().unwrap_or("https");
            Uri::builder().scheme(scheme).authority(endpoint.to_string()).path_and_query("/").build().ok()
        }
    }
}

/// The innermost cause: `Connection refused`, not `tcp connect error`.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn what_worked_goes_first_and_the_configured_address_comes_back() {
        let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:6443".parse().unwrap(), "10.0.0.2:6443".parse().unwrap());
        let endpoints = ApiEndpoints::default();
        let now = Instant::now();
        assert_eq!(endpoints.routes(now), [Route::Configured]);
        endpoints.remember(&[a, b]);
        endpoints.remember(&[]);
        assert_eq!(endpoints.routes(now), [Route::Configured, Route::Endpoint(a), Route::Endpoint(b)]);
        endpoints.worked(Route::Endpoint(b), true, now);
        assert_eq!(endpoints.routes(now), [Route::Endpoint(b), Route::Configured, Route::Endpoint(a)]);
        assert_eq!(endpoints.instead(), Some(b));
        let later = now + RETURN_AFTER;
        assert_eq!(endpoints.routes(later), [Route::Configured, Route::Endpoint(b), Route::Endpoint(a)]);
        endpoints.worked(Route::Endpoint(b), false, later);
        assert_eq!(endpoints.routes(later)[0], Route::Configured, "not prolonged without having tried");
        endpoints.worked(Route::Configured, false, later);
        assert_eq!(endpoints.instead(), None);
    }
}
