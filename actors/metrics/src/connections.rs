//! Bounds what strangers can hold: at most so many connections, none for ever.
//!
//! The port is open to every pod of the node. Whoever opens connections and leaves them open must not be able to shut
//! out the kubelet, whose probe would then have this process restarted: the oldest connection makes room for the newest.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// Most connections at once.
const MOST: usize = 128;
/// A connection lives no longer.
const LIFETIME: Duration = Duration::from_secs(120);

/// A listener whose connections are bounded.
pub(crate) struct Bounded {
    listener: TcpListener,
    /// One per connection, oldest first; cancelled when the connection is dropped or must go.
    open: VecDeque<CancellationToken>,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, open: VecDeque::new() }
    }

    fn admit(&mut self, stream: TcpStream) -> Connection {
        self.open.retain(|token| !token.is_cancelled());
        if self.open.len() >= MOST
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.cancel();
        }
        let token = CancellationToken::new();
        self.open.push_back(token.clone());
        Connection {
            stream,
            evicted: Box::pin(token.clone().cancelled_owned()),
            expired: Box::pin(tokio::time::sleep(LIFETIME)),
            _gone: token.drop_guard(),
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // axum's own listener waits out what accept can fail with, such as a want of descriptors.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (self.admit(stream), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection that can be told to go.
pub(crate) struct Connection {
    stream: TcpStream,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    expired: Pin<Box<Sleep>>,
    _gone: DropGuard,
}

impl Connection {
    fn must_go(&mut self, cx: &mut Context<'_>) -> bool {
        self.evicted.as_mut().poll(cx).is_ready() || self.expired.as_mut().poll(cx).is_ready()
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.must_go(cx) { gone() } else { Pin::new(&mut self.stream).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.must_go(cx) { gone() } else { Pin::new(&mut self.stream).poll_write(cx, buf) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
