//! Queries at a rate.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::{Query, now, pace};

/// Sockets of `--fresh` that are kept open, so that late answers find them.
const OPEN: Duration = Duration::from_secs(1);

/// RFC 1035: A and AAAA.
const A: u8 = 1;
const AAAA: u8 = 28;

/// Asks until killed, or as often as wanted.
pub(super) fn ask(query: &Query) -> io::Result<()> {
    let server = SocketAddr::new(query.server, query.to_port);
    let kept = bind(server, query.port.unwrap_or(0))?;
    let mut fresh: VecDeque<(Instant, UdpSocket)> = VecDeque::new();
    let (began, pause) = (now(), pace(query.rate));
    let mut sent = 0_u64;
    while query.count == 0 || sent < query.count {
        let place = usize::try_from(sent).unwrap_or(0) % query.name.len().max(1);
        let name = query.name.get(place).map_or("", String::as_str).replace('%', &sent.to_string());
        sent += 1;
        let types: &[u8] = if query.pairs { &[A, AAAA] } else { &[A] };
        let patience = Duration::from_millis(query.timeout);
        if query.tcp || !query.search.is_empty() {
            for name in candidates(&name, &query.search, query.ndots) {
                // What does not come is asked no more: the next of the list may exist.
                let found =
                    types.iter().any(|kind| waited(&kept, server, &name, *kind, query.tcp, patience).unwrap_or(false));
                if found {
                    break;
                }
            }
        } else if query.fresh {
            let socket = bind(server, 0)?;
            send(&socket, server, &name, types);
            fresh.push_back((now(), socket));
            while fresh.front().is_some_and(|(since, _)| since.elapsed() > OPEN) {
                fresh.pop_front();
            }
        } else {
            send(&kept, server, &name, types);
            drain(&kept);
        }
        let due = began + pause.saturating_mul(u32::try_from(sent).unwrap_or(u32::MAX));
        wait_until(due);
    }
    Ok(())
}

/// Holds connections; those that end are made again.
pub(super) fn connect(server: SocketAddr, count: usize) -> io::Result<()> {
    let mut held: Vec<TcpStream> = Vec::new();
    loop {
        held.retain(open);
        while held.len() < count {
            match TcpStream::connect_timeout(&server, Duration::from_secs(1)) {
                Ok(stream) => held.push(stream),
                Err(_) => break,
            }
        }
        wait_until(now() + Duration::from_millis(200));
    }
}

fn open(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    matches!(peeked, Ok(1..)) || peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
}

#[expect(clippy::disallowed_methods, reason = "a process of its own without a runtime")]
fn wait_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(now()));
}

fn bind(server: SocketAddr, port: u16) -> io::Result<UdpSocket> {
    let any = match server.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((any, port))
}

/// The names that are tried for one, in order, as a stub resolver does.
fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') || search.is_empty() {
        return vec![name.to_owned()];
    }
    let listed = search.iter().map(|end| format!("{name}.{end}"));
    let plain = std::iter::once(name.to_owned());
    if name.matches('.').count() >= ndots { plain.chain(listed).collect() } else { listed.chain(plain).collect() }
}

fn send(socket: &UdpSocket, server: SocketAddr, name: &str, types: &[u8]) {
    for kind in types {
        // Refused or full: the next one goes out all the same.
        let _lost = socket.send_to(&message(fastrand::u16(..), name, *kind), server);
    }
}

fn drain(socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    if socket.set_nonblocking(true).is_ok() {
        while socket.recv_from(&mut buffer).is_ok() {}
    }
}

/// Whether the name exists, by a query that waits for its answer.
fn waited(
    socket: &UdpSocket,
    server: SocketAddr,
    name: &str,
    kind: u8,
    tcp: bool,
    patience: Duration,
) -> io::Result<bool> {
    let id = fastrand::u16(..);
    let query = message(id, name, kind);
    let mut reply = vec![0; 65_535];
    if tcp {
        let mut stream = TcpStream::connect_timeout(&server, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat())?;
        stream.read_exact(reply.get_mut(..6).unwrap_or_default())?;
        return Ok(reply.get(5).is_some_and(|code| code & 0x0f == 0));
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
    socket.send_to(&query, server)?;
    let until = now() + patience;
    while now() < until {
        let (length, _) = socket.recv_from(&mut reply)?;
        if length > 3 && reply.get(..2) == Some(&id.to_be_bytes()) {
            return Ok(reply.get(3).is_some_and(|code| code & 0x0f == 0));
        }
    }
    Ok(false)
}

/// A query, RFC 1035 section 4.
fn message(id: u16, name: &str, kind: u8) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label: Vec<u8> = label.bytes().take(63).collect();
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label);
    }
    bytes.extend([0, 0, kind, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_list_is_gone_through_as_resolvers_do() {
        let search = ["svc.cluster.local".to_owned(), "cluster.local".to_owned()];
        assert_eq!(candidates("a.b", &search, 5), ["a.b.svc.cluster.local", "a.b.cluster.local", "a.b"]);
        assert_eq!(candidates("a.b", &search, 1), ["a.b", "a.b.svc.cluster.local", "a.b.cluster.local"]);
        assert_eq!(candidates("a.b.", &search, 5), ["a.b."]);
    }

    #[test]
    fn a_query_is_spelled_right() {
        let bytes = message(0x0102, "a.bc.", AAAA);
        assert_eq!(bytes, [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 28, 0, 1]);
    }
}
