//! One probe, traced through the packet filters of one namespace. It is the one collector that changes something while it
//! works: it needs a table of its own, which belongs to its socket, so that the kernel takes it away with the process at the latest.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nameward_messages::probe::Question;
use nameward_messages::targets::{Family, Transport};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, bind, connect};

use super::unreadable;
use crate::enter::{EnterPool, Netns};
use crate::exchange::{Query, Reply};
use crate::facts::Reading;
use crate::sockets::open_one;
use crate::trace::{Followed, Followings, Message, TABLE, parse};

mod batch;

use batch::Tuple;

/// Longest that one trace takes: the kill switch has its word within 5 seconds.
pub const TRACE_WITHIN: Duration = Duration::from_secs(2);
/// After a drop: what else is told of the packet is not waited for, but what is there is taken.
const LINGER: Duration = Duration::from_millis(50);
/// Longest wait for an answer to a request.
const ACK_WITHIN: Duration = Duration::from_millis(250);
/// `NFNLGRP_NFTRACE` of `linux/netfilter/nfnetlink.h`.
const GROUP: u32 = 9;
/// The id of the probe; one query is all that the socket ever sends.
const ID: u16 = 0x4e57;

/// What to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceProbe {
    /// Whom to ask.
    pub to: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// What.
    pub question: Question,
}

/// Sends one probe from `from` and has it traced in `at`. It takes [`TRACE_WITHIN`] at most; nothing of it is left.
pub async fn trace(pool: &EnterPool, from: &Netns, at: &Netns, probe: TraceProbe) -> Reading<Followed> {
    let query = match Query::new(&probe.question, None) {
        Ok(query) => query,
        Err(why) => return Reading::Failed(why.to_string()),
    };
    let (to, transport) = (probe.to, probe.transport);
    // A socket keeps the namespace that it was opened in; what follows needs no thread that enters.
    let sender = match pool.run(from, move || Sender::open(to, transport)).await {
        Ok(Ok(sender)) => sender,
        Ok(Err(error)) => return reading("the probe's socket", &error),
        Err(error) => return unreadable(&error),
    };
    let sockets = match pool.run(at, || Ok::<_, io::Error>((netlink(None)?, netlink(Some(GROUP))?))).await {
        Ok(Ok(sockets)) => sockets,
        Ok(Err(error)) => return reading("nftrace", &error),
        Err(error) => return unreadable(&error),
    };
    match tokio::task::spawn_blocking(move || follow(sockets, sender, &query)).await {
        Ok(Ok(followed)) => Reading::Read(followed),
        Ok(Err(error)) => reading("nftrace", &error),
        Err(_) => Reading::Failed("nftrace: following the probe failed".to_owned()),
    }
}

fn reading(what: &str, error: &io::Error) -> Reading<Followed> {
    match error.kind() {
        // The table of another owner is refused in the same way.
        io::ErrorKind::PermissionDenied => {
            let why = "CAP_NET_ADMIN is missing, or another trace is under way";
            Reading::NotPermitted(format!("{what}: {error}; {why}"))
        }
        // ENOTSUP, ENOPROTOOPT: a kernel without nf_tables or without owners of tables.
        io::ErrorKind::Unsupported => Reading::NotPresent(format!("{what}: {error}")),
        _ if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Reading::NotPresent(format!("{what}: {error}")),
        _ => Reading::Failed(format!("{what}: {error}")),
    }
}

/// The socket of the one probe, bound to the address and port that it is traced by.
struct Sender {
    socket: OwnedFd,
    tuple: Tuple,
}

impl Sender {
    /// In the namespace that the calling thread is in.
    fn open(to: SocketAddr, transport: Transport) -> io::Result<Self> {
        let family = if to.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        // Which address the kernel would send from: connecting over UDP sends nothing.
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let scout = UdpSocket::bind(SocketAddr::new(any, 0))?;
        scout.connect(to)?;
        let own = scout.local_addr()?.ip();
        let socket = open_one(transport, family)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(own, 0)))?;
        let (socket, from) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::from(socket);
                let from = socket.local_addr()?;
                (OwnedFd::from(socket), from)
            }
            Transport::Tcp => {
                let socket = TcpStream::from(socket);
                let from = socket.local_addr()?;
                (OwnedFd::from(socket), from)
            }
        };
        Ok(Self { socket, tuple: Tuple { transport, from, to } })
    }

    /// One query, or the first step of a connection.
    fn send(&self, query: &Query) -> io::Result<()> {
        match connect(self.socket.as_raw_fd(), &SockaddrStorage::from(self.tuple.to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        if self.tuple.transport == Transport::Udp {
            nix::unistd::write(&self.socket, &query.bytes(ID))?;
        }
        Ok(())
    }

    /// Whether what makes the socket ready is an answer: for TCP, that it is connected.
    fn answered(&self, query: &Query) -> bool {
        match self.tuple.transport {
            Transport::Udp => {
                let mut buffer = [0_u8; 4096];
                let read = nix::unistd::read(&self.socket, &mut buffer);
                let reply = read.ok().and_then(|length| buffer.get(..length));
                reply.is_some_and(|reply| matches!(query.read(ID, reply), Reply::Valid(_)))
            }
            Transport::Tcp => {
                let error = nix::sys::socket::getsockopt(&self.socket, nix::sys::socket::sockopt::SocketError);
                error == Ok(0)
            }
        }
    }
}

fn netlink(group: Option<u32>) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    match group {
        Some(group) => socket.add_membership(group)?,
        None => socket.connect(&NetlinkAddress::new(0, 0))?,
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Waits until one of the descriptors is ready, or `until`.
fn wait(fds: &mut [PollFd<'_>], until: Instant, now: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(now);
    // A rest below a millisecond is waited out as one.
    let left = PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::ZERO);
    match poll(fds, left) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn ready(fd: &PollFd<'_>) -> bool {
    fd.any().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the kernel crate bounds its own work on a thread that may block")]
fn now() -> Instant {
    Instant::now()
}

/// Synchronous; ends by itself within [`TRACE_WITHIN`].
fn follow((owner, told): (Socket, Socket), sender: Sender, query: &Query) -> io::Result<Followed> {
    let until = now() + TRACE_WITHIN;
    request(&owner, &batch::begin(sender.tuple))?;
    let mut found = Followings::new(sender.tuple.from.port(), TABLE);
    // A hook that refuses what is sent says so here and not by an event alone.
    let sent = sender.send(query);
    if sent.is_err() {
        found.refused();
    }
    // Two requests follow.
    let mut end = until - ACK_WITHIN * 2;
    loop {
        let mut fds = [
            PollFd::new(told.as_fd(), PollFlags::POLLIN),
            PollFd::new(sender.socket.as_fd(), sender_flags(sender.tuple.transport)),
        ];
        // After an answer its events are still under way.
        let over = found.over();
        let fds = if over { &mut fds[..1] } else { &mut fds[..] };
        wait(fds, end, now())?;
        let (events, reply) = (fds.first().is_some_and(ready), fds.get(1).is_some_and(ready));
        if events && drain(&told, &mut found)? {
            break;
        }
        if reply {
            if sender.answered(query) {
                found.answered();
            } else {
                found.refused();
            }
        }
        if !over && (found.over() || found.dropped().is_some()) {
            end = end.min(now() + LINGER);
        }
        if now() >= end {
            break;
        }
    }
    let rules = match found.dropped() {
        Some(dropped) if dropped.handle.is_some() => {
            handles(&owner, &batch::rules(&dropped.family, &dropped.table, &dropped.chain)).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    // Should this fail, closing the socket takes the table away.
    if let Err(error) = request(&owner, &batch::end(sender.tuple.to.ip())) {
        tracing::debug!(%error, "the table of a trace goes with its socket");
    }
    Ok(found.finish(&rules))
}

fn sender_flags(transport: Transport) -> PollFlags {
    match transport {
        Transport::Udp => PollFlags::POLLIN,
        Transport::Tcp => PollFlags::POLLOUT,
    }
}

/// Takes what was told; `true`: no more is taken.
fn drain(told: &Socket, found: &mut Followings) -> io::Result<bool> {
    loop {
        let packet = match told.recv_from_full() {
            Ok((packet, _)) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                found.lost();
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        for message in parse(&packet) {
            if let Message::Event(event) = message
                && found.take(&event)
            {
                return Ok(true);
            }
        }
    }
}

/// Sends a transaction and waits until the kernel has taken it.
fn request(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    socket.send(bytes, 0)?;
    answers(socket, |message| match message {
        Message::Ack(None) => Ok(true),
        Message::Ack(Some(error)) => Err(io::Error::from_raw_os_error(*error)),
        _ => Ok(false),
    })
}

/// The handles of a chain's rules, in order.
fn handles(socket: &Socket, bytes: &[u8]) -> io::Result<Vec<u64>> {
    socket.send(bytes, 0)?;
    let mut found = Vec::new();
    answers(socket, |message| match message {
        Message::Rule { handle } => {
            found.push(*handle);
            Ok(false)
        }
        Message::Done => Ok(true),
        Message::Ack(Some(error)) => Err(io::Error::from_raw_os_error(*error)),
        _ => Ok(false),
    })?;
    Ok(found)
}

/// Reads until `done` says so.
fn answers(socket: &Socket, mut done: impl FnMut(&Message) -> io::Result<bool>) -> io::Result<()> {
    let until = now() + ACK_WITHIN;
    loop {
        if now() >= until {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        wait(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], until, now())?;
        let packet = match socket.recv_from_full() {
            Ok((packet, _)) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        for message in parse(&packet) {
            if done(&message)? {
                return Ok(());
            }
        }
    }
}
