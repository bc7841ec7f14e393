//! DNS over TCP: hickory's framing over a socket that was opened inside the namespace.
//!
//! *Connected* and *answered* are recorded apart: a hung process still completes the handshake.

use std::io;
use std::net::TcpStream as Opened;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures::StreamExt;
use hickory_client::DnsStreamHandle;
use hickory_client::proto::op::SerialMessage;
// The adapter that hickory's own tokio provider is made of; hickory speaks futures' I/O traits.
use hickory_client::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_client::tcp::TcpStream as DnsStream;
use nameward_messages::probe::{NotAsked, Outcome};
use nameward_messages::targets::Transport;
use nix::libc;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::{Ask, Reply, Talk, judge};

/// One question over a fresh socket, one connection. `patience` covers connecting and the answer together.
pub async fn exchange(socket: OwnedFd, ask: &Ask, patience: Duration) -> Talk {
    let began = Instant::now();
    let deadline = began + patience;
    // No system call: the socket is not blocking since it was opened so.
    let socket = TcpSocket::from_std_stream(Opened::from(socket));
    let stream = match timeout_at(deadline, socket.connect(ask.to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return end(connect_error(&e, ask), began, None),
        Err(_) => return end(Outcome::Timeout, began, None),
    };
    let connect = Some(began.elapsed());
    let outcome = timeout_at(deadline, talk(stream, ask)).await.unwrap_or(Outcome::ConnectedOnly);
    end(outcome, began, connect)
}

fn end(outcome: Outcome, began: Instant, connect: Option<Duration>) -> Talk {
    Talk { outcome, latency: began.elapsed(), connect }
}

/// Asks over a connection and waits for a valid reply or its end.
async fn talk(stream: TcpStream, ask: &Ask) -> Outcome {
    let _ = stream.set_nodelay(true);
    let (mut replies, mut handle) = DnsStream::from_stream(AsyncIoTokioAsStd(stream), ask.to);
    if handle.send(SerialMessage::new(ask.query.bytes(ask.id), ask.to)).is_err() {
        return Outcome::NotAsked { why: NotAsked::LocalError };
    }
    loop {
        match replies.next().await {
            Some(Ok(message)) => {
                if let Reply::Valid(said) = ask.query.read(ask.id, message.bytes()) {
                    return judge(&ask.expect, Transport::Tcp, &said);
                }
            }
            // Its end and a reset are one: there was a connection, and no answer.
            Some(Err(_)) | None => return Outcome::Closed,
        }
    }
}

/// What a failed `connect` means; blackhole and prohibiting routes as for UDP.
fn connect_error(error: &io::Error, ask: &Ask) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Outcome::Refused { by: Some(ask.to.ip()) },
        Some(libc::ETIMEDOUT) => Outcome::Timeout,
        Some(libc::EPERM) => Outcome::NotPermitted,
        Some(libc::ENETUNREACH | libc::EINVAL | libc::EACCES | libc::ENETDOWN) => Outcome::NetworkUnreachable,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => {
            Outcome::HostUnreachable { by: None, icmp_type: None, icmp_code: None }
        }
        Some(libc::ENOBUFS) => Outcome::NoBuffers,
        Some(libc::ECONNRESET | libc::ECONNABORTED) => Outcome::Closed,
        Some(libc::ENOMEM | libc::EAGAIN | libc::EADDRNOTAVAIL | libc::EMFILE | libc::ENFILE) => {
            Outcome::NotAsked { why: NotAsked::NoResources }
        }
        _ => Outcome::NotAsked { why: NotAsked::LocalError },
    }
}
