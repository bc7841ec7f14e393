//! The runner's own eyes: it asks DNS from every namespace by itself, with a client that shares no code with the
//! prober, so that "it recovered" never rests on the word of what is under test.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::lab::Netns;

const PATIENCE: Duration = Duration::from_millis(900);

/// One thing to ask.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// From where, for people.
    pub from: String,
    /// From where.
    pub netns: Netns,
    /// Whom.
    pub server: IpAddr,
    /// Over TCP (else UDP).
    pub tcp: bool,
    /// Which name, without final dot.
    pub name: &'static str,
    /// The right answer, or any.
    pub expect: Option<Ipv4Addr>,
}

/// Asks everything at once, from threads of its own; gives back what failed, in one line each.
pub(super) fn look(asks: &[Ask]) -> Vec<String> {
    std::thread::scope(|scope| {
        let running: Vec<_> = asks
            .iter()
            .map(|ask| {
                scope.spawn(move || match ask.netns.enter(|| exchange(ask)) {
                    Ok(true) => None,
                    Ok(false) => {
                        let transport = if ask.tcp { "TCP" } else { "UDP" };
                        Some(format!("{} -> {} over {transport} for {}", ask.from, ask.server, ask.name))
                    }
                    // The namespace went with its pod.
                    Err(_) => None,
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

fn exchange(ask: &Ask) -> bool {
    let server = SocketAddr::new(ask.server, 53);
    let id = fastrand::u16(..);
    let query = query(id, ask.name);
    let reply = if ask.tcp { over_tcp(server, &query) } else { over_udp(server, &query, id) };
    reply.is_ok_and(|reply| right(&reply, id, query.len(), ask.expect))
}

fn over_udp(server: SocketAddr, query: &[u8], id: u16) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(query)?;
    let mut buffer = vec![0; 1500];
    // A handful of strangers' datagrams are passed over.
    for _ in 0..8 {
        let n = socket.recv(&mut buffer)?;
        if buffer.get(..2) == Some(&id.to_be_bytes()) {
            buffer.truncate(n);
            return Ok(buffer);
        }
    }
    Err(std::io::ErrorKind::InvalidData.into())
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

/// A query for an A record, RFC 1035 section 4.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// NOERROR, not truncated, with an answer; if one is expected, its last four bytes are the address.
fn right(reply: &[u8], id: u16, question_end: usize, expect: Option<Ipv4Addr>) -> bool {
    let header = |at: usize| reply.get(at).copied().unwrap_or_default();
    let answers = u16::from_be_bytes([header(6), header(7)]);
    let address_found = expect.is_none_or(|ip| {
        reply.get(question_end..).is_some_and(|rest| rest.windows(4).any(|window| window == ip.octets()))
    });
    reply.get(..2) == Some(&id.to_be_bytes())
        && header(2) & 0x80 != 0
        && header(2) & 0x02 == 0
        && header(3) & 0x0f == 0
        && answers > 0
        && address_found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_right_only_with_its_answer() {
        let asked = query(7, "kubernetes.default.svc.cluster.local");
        assert_eq!(asked.len(), 12 + 38 + 4);
        let mut reply = asked.clone();
        reply[2] = 0x85;
        reply[7] = 1;
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1]);
        let ip = Ipv4Addr::new(10, 96, 0, 1);
        assert!(right(&reply, 7, asked.len(), Some(ip)));
        assert!(!right(&reply, 7, asked.len(), Some(Ipv4Addr::new(10, 96, 0, 2))), "another address");
        assert!(!right(&reply, 8, asked.len(), Some(ip)), "another id");
        reply[3] = 2;
        assert!(!right(&reply, 7, asked.len(), Some(ip)), "SERVFAIL");
    }
}
