//! HTTP, for reading alone.

use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::JoinHandle;

use crate::connections::{Bounded, Peer};
use crate::html;
use crate::pages::{Asker, Kind, Page, Pages};

/// What `/` says to those who are not shown the status page.
const INDEX: &str = "Nameward\n\n/metrics      Prometheus text\n/healthz      is this process live\n/readyz       what it still \
                     awaits\n\nTo loopback, and with metrics.open_state to who shows a token:\n/             the status page\n/status.json  the same as \
                     JSON\n/state        all that it knows, as JSON\n";

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
            .route("/", get(page))
            .route("/status.json", get(status_json))
            .route("/nameward.css", get(async || asset("text/css; charset=utf-8", html::CSS)))
            .route("/nameward.js", get(async || asset("text/javascript; charset=utf-8", html::JS)))
            .route("/nameward.svg", get(async || asset("image/svg+xml", html::ICON)))
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

fn asker(peer: SocketAddr, headers: &HeaderMap) -> Asker<'_> {
    // A name that is not text names no machine.
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    let shown = headers.get(header::AUTHORIZATION).and_then(|shown| shown.to_str().ok());
    let token = shown.and_then(|shown| shown.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    Asker { peer: peer.ip(), host, token: token.map(|(_, token)| token.trim()) }
}

async fn state(State(pages): State<Pages>, ConnectInfo(Peer(peer)): ConnectInfo<Peer>, headers: HeaderMap) -> Page {
    let admitted = pages.admit(asker(peer, &headers), "/state").await;
    admitted.map_or_else(|refusal| refusal, |()| pages.state())
}

async fn status_json(
    State(pages): State<Pages>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Page {
    let admitted = pages.admit(asker(peer, &headers), "/status.json").await;
    admitted.map_or_else(|refusal| refusal, |()| pages.status_json())
}

/// Whoever is not shown the page, and shows no token, is told what there is.
async fn page(State(pages): State<Pages>, ConnectInfo(Peer(peer)): ConnectInfo<Peer>, headers: HeaderMap) -> Response {
    let asker = asker(peer, &headers);
    match pages.admit(asker, "/").await {
        Ok(()) => pages.html().into_response(),
        Err(_) if asker.token.is_none() => INDEX.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// The same for every release; an upgrade must be seen at once.
fn asset(kind: &'static str, body: &'static str) -> Response {
    guarded(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], body).into_response())
}

/// The page and what belongs to it are nobody else's to embed, to guess the type of, or to learn addresses from.
fn guarded(mut response: Response) -> Response {
    let guards = [
        (header::CONTENT_SECURITY_POLICY, html::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    response.headers_mut().extend(guards.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = match self.kind {
            Kind::Text => "text/plain; charset=utf-8",
            Kind::Json => "application/json",
            Kind::Html => "text/html; charset=utf-8",
        };
        let mut response =
            (status, [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], self.body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        guarded(response)
    }
}
