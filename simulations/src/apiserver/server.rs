//! HTTP/1.1 in front of the store.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Shared;
use super::call::Reply;
use super::faults::{Action, Outage};
use super::request::{ANONYMOUS, ApiRequest, User, parse_query};
use super::status::Refusal;
use super::watch::{Cut, WatchEvent, pump};

/// Larger bodies are refused.
const LARGEST: usize = 3 << 20;
/// Events that wait for a slow watcher; then it holds up only itself.
const WAITING: usize = 64;

/// Answers on a listener until it is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(shared.clone(), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut outage = shared.outage.subscribe();
    let now = *outage.borrow_and_update();
    if now == Outage::Reset {
        // A reset instead of an orderly end, as from a port nobody listens on any more.
        let _ = stream.set_zero_linger();
        return;
    }
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(shared.clone(), request));
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        result = serving => if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        },
        () = async {
            loop {
                if outage.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                if *outage.borrow() == Outage::Reset {
                    return;
                }
            }
        } => {}
    }
}

/// The reply is withheld: hyper then closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("the reply is withheld")]
struct Withheld;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Reading>, Withheld> {
    if *shared.outage.borrow() == Outage::Hang {
        let mut outage = shared.outage.subscribe();
        let _ = outage.wait_for(|now| *now != Outage::Hang).await;
        return Err(Withheld);
    }
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let user = match header(AUTHORIZATION).strip_prefix("Bearer ") {
        Some(token) => match shared.state().tokens.get(token.trim()) {
            Some(user) => user.clone(),
            None => return Ok(render(Reply::Refused(Refusal::unauthorized()))),
        },
        None => User { name: ANONYMOUS.into(), ..User::default() },
    };
    let Some(body) = collect(body).await else {
        let refusal = Refusal::new(413, "RequestEntityTooLarge", "limit is 3145728", serde_json::Value::Null);
        return Ok(render(Reply::Refused(refusal)));
    };
    let request = ApiRequest {
        method: head.method.as_str().into(),
        path: head.uri.path().into(),
        query: parse_query(head.uri.query().unwrap_or_default()),
        content_type: header(CONTENT_TYPE).into(),
        accept: header(ACCEPT).into(),
        agent: header(USER_AGENT).split(['/', ' ']).next().unwrap_or_default().into(),
        body,
        user,
        inside: false,
    };
    let actions = shared.faults_for(&request);
    for action in &actions {
        if let Action::Delay(delay) = action {
            tokio::time::sleep(*delay).await;
        }
    }
    let decided = shared.outside(&request, &actions);
    if !decided.delay.is_zero() {
        tokio::time::sleep(decided.delay).await;
    }
    if decided.lose_reply {
        return Err(Withheld);
    }
    Ok(match decided.reply {
        Reply::Watch(plan) => {
            let (to, events) = mpsc::channel(WAITING);
            tokio::spawn(pump(shared, *plan, to));
            with_type(Response::new(Reading::Events(events)), "application/json")
        }
        reply => render(reply),
    })
}

async fn collect(mut body: Incoming) -> Option<Bytes> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            if all.len() + data.len() > LARGEST {
                return None;
            }
            all.extend_from_slice(&data);
        }
    }
    Some(all.into())
}

fn render(reply: Reply) -> Response<Reading> {
    let (code, body, kind, retry_after) = match reply {
        Reply::Json(code, body) => (code, body.to_string(), "application/json", None),
        Reply::Text(code, text) => (code, text, "text/plain; charset=utf-8", None),
        Reply::Refused(refusal) => match refusal.body {
            serde_json::Value::String(text) => (refusal.code, text, "text/plain; charset=utf-8", None),
            body => (refusal.code, body.to_string(), "application/json", refusal.retry_after),
        },
        Reply::Watch(_) => (500, String::new(), "text/plain; charset=utf-8", None),
    };
    let mut response = with_type(Response::new(Reading::Whole(Some(body.into()))), kind);
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn with_type(mut response: Response<Reading>, kind: &'static str) -> Response<Reading> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The body of an answer.
enum Reading {
    Whole(Option<Bytes>),
    Events(mpsc::Receiver<Result<WatchEvent, Cut>>),
}

impl Body for Reading {
    type Data = Bytes;
    type Error = Withheld;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Withheld>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => events.poll_recv(context).map(|event| {
                event.map(|event| match event {
                    Ok(event) => Ok(Frame::data(event.line().into())),
                    Err(Cut) => Err(Withheld),
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) => SizeHint::default(),
        }
    }
}
