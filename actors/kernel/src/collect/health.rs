//! CoreDNS' own word: `GET /health` from the node. It says that the process runs, not that DNS answers.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest status line that is looked at, bytes.
const MAX_REPLY: u64 = 1024;

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "health")]
pub enum Health {
    /// An HTTP answer.
    Answered {
        /// 200 is good.
        status: u16,
    },
    /// The connection was made and no answer came: the process hangs.
    ConnectedOnly,
    /// Nothing listens there.
    Refused,
    /// No connection within the time.
    TimedOut,
    /// Anything else; why.
    Failed {
        /// In one line.
        why: String,
    },
}

/// Asks `http://ADDRESS/health` from the node's own namespace, within `within` altogether.
pub async fn health(address: SocketAddr, within: Duration) -> Health {
    let started = tokio::time::Instant::now();
    let mut stream = match tokio::time::timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Health::Refused,
        Ok(Err(error)) => return Health::Failed { why: error.to_string() },
        Err(_) => return Health::TimedOut,
    };
    let ask = async {
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reply = Vec::new();
        let mut reader = stream.take(MAX_REPLY);
        while !reply.contains(&b'\n') && reader.read_buf(&mut reply).await? > 0 {}
        Ok::<_, std::io::Error>(reply)
    };
    match tokio::time::timeout_at(started + within, ask).await {
        Ok(Ok(reply)) => match status(&reply) {
            Some(status) => Health::Answered { status },
            None if reply.is_empty() => {
                Health::Failed { why: "the connection was closed without an answer".to_owned() }
            }
            None => Health::Failed { why: "the answer is not HTTP".to_owned() },
        },
        Ok(Err(error)) => Health::Failed { why: error.to_string() },
        Err(_) => Health::ConnectedOnly,
    }
}

/// The status of an HTTP reply's first line.
pub(super) fn status(reply: &[u8]) -> Option<u16> {
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

    async fn served(reply: &'static [u8]) -> Health {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /health HTTP/1.1\r\n"));
            stream.write_all(reply).await.unwrap();
        };
        tokio::join!(health(address, WITHIN), serve).0
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        assert_eq!(served(b"HTTP/1.1 200 OK\r\n\r\nOK").await, Health::Answered { status: 200 });
        assert_eq!(served(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await, Health::Answered { status: 503 });
        assert!(matches!(served(b"SSH-2.0\r\n").await, Health::Failed { .. }));
        assert!(matches!(served(b"").await, Health::Failed { .. }));
    }

    #[tokio::test]
    async fn refusal_and_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(health(address, Duration::from_millis(100)).await, Health::ConnectedOnly);
        drop(listener);
        assert_eq!(health(address, WITHIN).await, Health::Refused);
    }
}
