//! The runner's own eyes: it asks DNS from every namespace by itself, with a client that shares no code with the
//! prober, so that "it recovered" never rests on the word of what is under test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use crate::client::now;
use crate::lab::Netns;

const PATIENCE: Duration = Duration::from_millis(900);
/// The port that is kept, below those that the kernel gives away (`net.ipv4.ip_local_port_range`) and those of node ports.
const KEPT: u16 = 20_053;

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
    /// From which port over UDP; 0 is a fresh one.
    pub port: u16,
    /// Which name, without final dot.
    pub name: &'static str,
    /// The right answer, or any.
    pub expect: Option<Ipv4Addr>,
}

/// What is asked over UDP, from a port that is kept: who asks from fresh ones meets no conntrack entry of before.
pub(super) fn kept(asks: &[Ask], server: IpAddr) -> Vec<Ask> {
    let right = asks.iter().filter(|ask| ask.server == server && !ask.tcp && ask.expect.is_some());
    right.map(|ask| Ask { port: KEPT, ..ask.clone() }).collect()
}

/// Asks everything at once; gives back what failed, in one line each. Sockets are opened inside the namespaces and waited for
/// here, together.
pub(super) fn look(asks: &[Ask]) -> Vec<String> {
    let mut running: Vec<Exchange<'_>> = Vec::with_capacity(asks.len());
    for group in asks.chunk_by(|a, b| a.from == b.from) {
        let Some(first) = group.first() else { continue };
        // A namespace that cannot be entered went with its pod.
        if let Ok(started) = first.netns.enter(|| group.iter().map(Exchange::start).collect::<Vec<_>>()) {
            running.extend(started);
        }
    }
    let until = now() + PATIENCE;
    loop {
        let mut waiting: Vec<&mut Exchange<'_>> = running.iter_mut().filter(|one| one.right.is_none()).collect();
        let left = until.saturating_duration_since(now());
        if waiting.is_empty() || left.is_zero() {
            break;
        }
        let mut fds: Vec<PollFd<'_>> = waiting.iter().filter_map(|one| one.poll_fd()).collect();
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        for (one, ready) in waiting.iter_mut().zip(ready) {
            if ready {
                one.go_on();
            }
        }
    }
    let failed = running.iter().filter(|one| one.right != Some(true));
    failed
        .map(|Exchange { ask, .. }| {
            let transport = if ask.tcp { "TCP" } else { "UDP" };
            let port = if ask.port == KEPT { " from a port that it keeps" } else { "" };
            format!("{} -> {} over {transport} for {}{port}", ask.from, ask.server, ask.name)
        })
        .collect()
}

/// One question on its way.
#[derive(Debug)]
struct Exchange<'a> {
    ask: &'a Ask,
    id: u16,
    query: Vec<u8>,
    channel: Channel,
    /// Whether the answer was right; `None` while it is waited for.
    right: Option<bool>,
}

#[derive(Debug)]
enum Channel {
    /// There was no socket to be had.
    None,
    Udp(UdpSocket),
    /// The stream, whether the query is sent, and what has come back.
    Tcp(TcpStream, bool, Vec<u8>),
}

impl<'a> Exchange<'a> {
    fn start(ask: &'a Ask) -> Self {
        let id = fastrand::u16(..);
        let query = query(id, ask.name);
        let server = SocketAddr::new(ask.server, 53);
        let opened = if ask.tcp {
            connecting(server).map(|stream| Channel::Tcp(stream, false, Vec::new()))
        } else {
            sent(ask.port, server, &query).map(Channel::Udp)
        };
        let right = opened.is_err().then_some(false);
        Self { ask, id, query, channel: opened.unwrap_or(Channel::None), right }
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        match &self.channel {
            Channel::None => None,
            Channel::Udp(socket) => Some(PollFd::new(socket.as_fd(), PollFlags::POLLIN)),
            Channel::Tcp(stream, sent, _) => {
                Some(PollFd::new(stream.as_fd(), if *sent { PollFlags::POLLIN } else { PollFlags::POLLOUT }))
            }
        }
    }

    /// Takes one step. An error is an answer that does not come.
    fn go_on(&mut self) {
        match self.step() {
            Ok(None) => {}
            Ok(Some(reply)) => self.right = Some(right(&reply, self.id, self.query.len(), self.ask.expect)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.right = Some(false),
        }
    }

    fn step(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 1500];
        match &mut self.channel {
            Channel::None => Err(ErrorKind::NotConnected.into()),
            Channel::Udp(socket) => {
                let n = socket.recv(&mut buffer)?;
                let reply = buffer.get(..n).unwrap_or_default();
                // A stranger's datagram is passed over.
                Ok((reply.get(..2) == Some(&self.id.to_be_bytes())).then(|| reply.to_vec()))
            }
            Channel::Tcp(stream, sent @ false, _) => {
                let length = u16::try_from(self.query.len()).map_err(std::io::Error::other)?;
                stream.write_all(&[&length.to_be_bytes(), self.query.as_slice()].concat())?;
                *sent = true;
                Ok(None)
            }
            Channel::Tcp(stream, _, got) => {
                let n = stream.read(&mut buffer)?;
                if n == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                got.extend(buffer.get(..n).unwrap_or_default());
                let length = got.first_chunk::<2>().map_or(usize::MAX, |l| usize::from(u16::from_be_bytes(*l)));
                Ok(got.get(2..).filter(|reply| reply.len() >= length).map(<[u8]>::to_vec))
            }
        }
    }
}

fn sent(port: u16, server: SocketAddr, query: &[u8]) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    socket.send(query)?;
    Ok(socket)
}

/// A connection that is being made.
fn connecting(server: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
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
