//! HTTP, for reading alone.

use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::JoinHandle;

use crate::connections::{Bounded, Peer};
use crate::pages::{Page, Pages};

const INDEX: &str = "Nameward\n\n/metrics  Prometheus text\n/healthz  is this process live\n/readyz   what it still \
                     awaits\n/state    what it knows, as JSON (loopback alone unless metrics.open_state)\n";

/// The endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Taken, not ours, or not permitted.
    #[error(
        "cannot listen on {address}: set metrics.listen to a free address of this machine, or stop what listens there \
         (ss -ltnp says who)"
    )]
    Listen {
        /// `metrics.listen`.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An open port that nobody answers yet.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

/// Opens the port, before anything else is started, so that a port that is taken is told by an exit code.
///
/// # Errors
/// When the address cannot be listened on.
pub fn bind(address: SocketAddr) -> Result<Endpoint, BindError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Endpoint { listener, address })
    };
    open().map_err(|source| BindError::Listen { address, source })
}

impl Endpoint {
    /// Where it listens: with the real port where `metrics.listen` says 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers, on the worker threads, until the task is aborted. It is no part of an actor: it answers while actors
    /// are rebuilt, drained or dead, and does not wait for any.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn serve(self, pages: Pages) -> JoinHandle<()> {
        let router = Router::new()
            .route("/", get(async || INDEX))
            .route("/metrics", get(metrics))
            .route("/healthz", get(async |State(pages): State<Pages>| pages.healthz()))
            .route("/readyz", get(async |State(pages): State<Pages>| pages.readyz()))
            .route("/state", get(state))
            .with_state(pages)
            .into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move {
            let served = match tokio::net::TcpListener::from_std(self.listener) {
                Ok(listener) => axum::serve(Bounded::new(listener), router).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(address = %self.address, %error, "the HTTP endpoint ended");
            }
        })
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let mut response = pages.metrics().into_response();
    if response.status() == StatusCode::OK {
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
    }
    response
}

async fn state(State(pages): State<Pages>, ConnectInfo(Peer(peer)): ConnectInfo<Peer>) -> Page {
    pages.state(peer.ip())
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = if self.json { "application/json" } else { "text/plain; charset=utf-8" };
        (status, [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], self.body).into_response()
    }
}
