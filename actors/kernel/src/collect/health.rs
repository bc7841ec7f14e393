//! CoreDNS' own word: `GET /health` from the node. It says that the process runs, not that DNS answers.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fetch::{Fetched, Reach, fetch};
use crate::enter::EnterPool;

/// Longest answer that is taken, bytes. CoreDNS says `OK`.
const MAX_REPLY: u64 = 4096;

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
pub async fn health(pool: &EnterPool, address: SocketAddr, within: Duration) -> Health {
    let home = pool.home().clone();
    match fetch(pool, &home, address, "/health", (within, MAX_REPLY)).await {
        Fetched::Answered { status, .. } => Health::Answered { status },
        Fetched::Silent => Health::ConnectedOnly,
        Fetched::NoConnection(Reach::Refused) => Health::Refused,
        Fetched::NoConnection(Reach::TimedOut) => Health::TimedOut,
        Fetched::NoConnection(Reach::NoWay { why } | Reach::NotTried { why }) | Fetched::Failed(why) => {
            Health::Failed { why }
        }
        Fetched::NoConnection(Reach::Connected) => Health::ConnectedOnly,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(5);

    async fn served(reply: &'static [u8]) -> Health {
        let pool = EnterPool::new(1, 8).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /health HTTP/1.0\r\n"));
            stream.write_all(reply).await.unwrap();
        };
        tokio::join!(health(&pool, address, WITHIN), serve).0
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
        let pool = EnterPool::new(1, 8).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(health(&pool, address, Duration::from_millis(100)).await, Health::ConnectedOnly);
        drop(listener);
        assert_eq!(health(&pool, address, WITHIN).await, Health::Refused);
    }
}
