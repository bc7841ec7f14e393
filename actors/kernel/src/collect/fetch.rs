//! Small HTTP answers and plain TCP connections, from the node or from inside a pod's namespace.

use std::net::SocketAddr;
use std::time::Duration;

use nameward_messages::targets::{Family, Transport};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::unreadable;
use crate::enter::{EnterError, EnterPool, Netns};
use crate::facts::Reading;
use crate::sockets::open_one;

/// Whether a TCP connection can be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reach")]
pub enum Reach {
    /// It was made.
    Connected,
    /// Refused: somebody answers there, or rejects on the way.
    Refused,
    /// Nothing came in time.
    TimedOut,
    /// The kernel knows no way.
    NoWay {
        /// What it said.
        why: String,
    },
    /// It could not be tried; why.
    NotTried {
        /// In one line.
        why: String,
    },
}

/// What came of asking a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// An answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The body, whole.
        body: Vec<u8>,
    },
    /// It connected, and the answer did not come in time.
    Silent,
    /// There is no connection.
    NoConnection(Reach),
    /// The answer is longer than allowed, or no HTTP.
    Failed(String),
}

/// Tries to connect, from `inside` or from the node's own namespace.
pub async fn reach(pool: &EnterPool, inside: &Netns, address: SocketAddr, within: Duration) -> Reach {
    match connect(pool, inside, address, within).await {
        Ok(_) => Reach::Connected,
        Err(reach) => reach,
    }
}

async fn connect(pool: &EnterPool, inside: &Netns, to: SocketAddr, within: Duration) -> Result<TcpStream, Reach> {
    let family = Family::of(to.ip());
    let opened = match pool.run(inside, move || open_one(Transport::Tcp, family)).await {
        Ok(Ok(fd)) => fd,
        Ok(Err(error)) => return Err(Reach::NotTried { why: error.to_string() }),
        Err(error) => return Err(Reach::NotTried { why: not_entered(&error) }),
    };
    let socket = TcpSocket::from_std_stream(opened.into());
    match tokio::time::timeout(within, socket.connect(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(Reach::Refused),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Err(Reach::TimedOut),
        Ok(Err(error)) => Err(Reach::NoWay { why: error.to_string() }),
        Err(_) => Err(Reach::TimedOut),
    }
}

/// Why a namespace could not be entered, told apart as readings tell it.
fn not_entered(error: &EnterError) -> String {
    match unreadable::<()>(error) {
        Reading::NotPermitted(why) => format!("not permitted: {why}"),
        other => other.missing().map_or_else(|| error.to_string(), str::to_owned),
    }
}

/// `GET http://ADDRESS/PATH`, the whole within `within` and the body no longer than `bytes`. HTTP/1.0, so that the answer
/// is neither chunked nor kept open.
pub async fn fetch(
    pool: &EnterPool,
    inside: &Netns,
    address: SocketAddr,
    path: &str,
    (within, bytes): (Duration, u64),
) -> Fetched {
    let deadline = tokio::time::Instant::now() + within;
    let mut stream = match connect(pool, inside, address, within).await {
        Ok(stream) => stream,
        Err(reach) => return Fetched::NoConnection(reach),
    };
    let head = 16 * 1024;
    let ask = async {
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reply = Vec::new();
        stream.take(bytes.saturating_add(head + 1)).read_to_end(&mut reply).await?;
        Ok::<_, std::io::Error>(reply)
    };
    match tokio::time::timeout_at(deadline, ask).await {
        Ok(Ok(reply)) => answer(&reply, bytes),
        Ok(Err(error)) => Fetched::Failed(error.to_string()),
        Err(_) => Fetched::Silent,
    }
}

/// Status and body of a reply.
fn answer(reply: &[u8], bytes: u64) -> Fetched {
    let Some(at) = reply.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Fetched::Failed("the answer is not HTTP".to_owned());
    };
    let (head, body) = (reply.get(..at).unwrap_or_default(), reply.get(at + 4..).unwrap_or_default());
    if body.len() as u64 > bytes {
        return Fetched::Failed(format!("the answer is longer than {bytes} bytes"));
    }
    match status(head) {
        Some(status) => Fetched::Answered { status, body: body.to_vec() },
        None => Fetched::Failed("the answer is not HTTP".to_owned()),
    }
}

/// The status of an HTTP reply's first line.
fn status(reply: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(reply.split(|b| *b == b'\n').next()?).ok()?;
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use tokio::net::TcpListener;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(5);

    fn pool() -> EnterPool {
        EnterPool::new(1, 8).unwrap()
    }

    async fn served(reply: &'static [u8], bytes: u64) -> Fetched {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /ready HTTP/1.0\r\n"));
            stream.write_all(reply).await.unwrap();
        };
        let pool = pool();
        let home = pool.home().clone();
        tokio::join!(fetch(&pool, &home, address, "/ready", (WITHIN, bytes)), serve).0
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_or_not_at_all() {
        let good = Fetched::Answered { status: 503, body: b"kubernetes".to_vec() };
        assert_eq!(served(b"HTTP/1.1 503 Service Unavailable\r\nX: y\r\n\r\nkubernetes", 100).await, good);
        assert!(matches!(served(b"HTTP/1.1 200 OK\r\n\r\n0123456789", 5).await, Fetched::Failed(_)));
        assert!(matches!(served(b"SSH-2.0-x\r\n\r\n", 100).await, Fetched::Failed(_)));
        assert!(matches!(served(b"", 100).await, Fetched::Failed(_)));
    }

    #[tokio::test]
    async fn no_connection_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pool = pool();
        let home = pool.home().clone();
        assert_eq!(reach(&pool, &home, address, WITHIN).await, Reach::Connected);
        let silent = fetch(&pool, &home, address, "/metrics", (Duration::from_millis(100), 10)).await;
        assert_eq!(silent, Fetched::Silent);
        drop(listener);
        assert_eq!(reach(&pool, &home, address, WITHIN).await, Reach::Refused);
    }
}
