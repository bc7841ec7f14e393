//! CoreDNS's HTTP ports, as small as they can be: `/health`, `/ready`, `/metrics`.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::handler::{Shared, lock};

/// A client that has not sent its request by then is cut off.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ports of `health`, `ready` and `prometheus` in the recorded Corefile.
const PORTS: [u16; 3] = [8080, 8181, 9153];

/// Starts the three listeners.
pub(super) fn listen(shared: &Arc<Shared>) -> io::Result<()> {
    for port in PORTS {
        let listener = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        // A client that goes away or is slow is no concern of the server.
                        let _cut_off = tokio::time::timeout(PATIENCE, answer(stream, port, &shared)).await;
                    });
                }
            }
        });
    }
    Ok(())
}

async fn answer(mut stream: TcpStream, port: u16, shared: &Shared) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut more = [0_u8; 1024];
        let length = stream.read(&mut more).await?;
        if length == 0 || head.len() > 16 * 1024 {
            return Ok(());
        }
        head.extend(more.iter().take(length));
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.split_whitespace().nth(1).unwrap_or_default();
    let (code, body) = match (port, path) {
        (8080, "/health") => (shared.health.load(Ordering::Relaxed), "OK".to_owned()),
        // plugin/ready names what it waits for.
        (8181, "/ready") if shared.process.unsynced() => (503, "kubernetes".to_owned()),
        (8181, "/ready") => (shared.ready.load(Ordering::Relaxed), "OK".to_owned()),
        (9153, "/metrics") => (200, metrics(shared)),
        _ => (404, "404 page not found\n".to_owned()),
    };
    let reason = if code == 200 { "OK" } else { "Service Unavailable" };
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

fn metrics(shared: &Shared) -> String {
    let mut text = String::from("# TYPE coredns_dns_requests_total counter\n");
    for (proto, count) in [("udp", &shared.counts.udp), ("tcp", &shared.counts.tcp)] {
        let count = count.load(Ordering::Relaxed);
        let labels = format!("family=\"1\",proto=\"{proto}\",server=\"dns://:53\",type=\"A\",view=\"\",zone=\".\"");
        let _never_fails = writeln!(text, "coredns_dns_requests_total{{{labels}}} {count}");
    }
    text.push_str("# TYPE coredns_dns_responses_total counter\n");
    for (code, count) in &*lock(&shared.counts.responses) {
        let labels = format!("plugin=\"\",rcode=\"{code}\",server=\"dns://:53\",view=\"\",zone=\".\"");
        let _never_fails = writeln!(text, "coredns_dns_responses_total{{{labels}}} {count}");
    }
    text.push_str("# TYPE coredns_panics_total counter\ncoredns_panics_total 0\n");
    shared.process.metrics(&mut text);
    text
}
