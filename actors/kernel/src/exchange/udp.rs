//! DNS over UDP: our own exchange, since the probe is the best sensor.
//!
//! The socket is not connected, so that a reply from a wrong source is seen, and it has `IP_RECVERR`, so that an ICMP
//! error tells its type, its code and who sent it. Nothing is sent twice.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nameward_messages::probe::{NotAsked, Outcome};
use nameward_messages::targets::Transport;
use nix::libc;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::time::{Instant, timeout_at};

use super::errqueue::{IcmpError, Queued, take};
use super::{Ask, Reply, Talk, judge};

/// Most octets of a reply that are read.
const REPLY: usize = 8192;
/// Errors of earlier datagrams that are taken off before one send is given up.
const STALE_ERRORS: usize = 8;

/// A UDP socket, registered with the runtime. It may serve several exchanges one after the other: a held port.
#[derive(Debug)]
pub struct Line {
    socket: AsyncFd<UdpSocket>,
}

/// One question on its way.
struct Pending<'a> {
    ask: &'a Ask,
    sent: Instant,
    done: Option<(Outcome, Instant)>,
    wrong_source: Option<SocketAddr>,
}

impl Line {
    /// Takes over a socket from [`crate::sockets`]. Must be called on a tokio runtime with I/O.
    ///
    /// # Errors
    /// The socket cannot be registered (the descriptors of epoll ran out).
    #[allow(unsafe_code)]
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::ERROR;
        // SAFETY: the `AsyncFd` owns the socket, a `UdpSocket` always gives the same descriptor, and nothing takes it
        // out or closes it before the `AsyncFd` is dropped.
        let socket = unsafe { AsyncFd::register_with_interest(UdpSocket::from(socket), interest) }?;
        Ok(Self { socket })
    }

    /// Sends every question and waits until each has its outcome or `patience` is over. One result per question, in
    /// order. An error that concerns another destination is never blamed on one of these.
    pub async fn exchange(&self, asks: &[Ask], patience: Duration) -> Vec<Talk> {
        let mut all: Vec<Pending<'_>> = asks.iter().map(Pending::new).collect();
        for at in 0..all.len() {
            self.send(&mut all, at);
        }
        let deadline = Instant::now() + patience;
        while all.iter().any(|one| one.done.is_none()) {
            let Ok(ready) = timeout_at(deadline, self.socket.ready(Interest::READABLE | Interest::ERROR)).await else {
                break;
            };
            let Ok(mut ready) = ready else { break };
            let state = ready.ready();
            if self.receive(&mut all, state) {
                break;
            }
            ready.clear_ready();
        }
        all.into_iter().map(Pending::end).collect()
    }

    /// Sends one question; a failure to send settles it.
    fn send(&self, all: &mut [Pending<'_>], at: usize) {
        for _ in 0..STALE_ERRORS {
            let Some(one) = all.get_mut(at) else { return };
            one.sent = Instant::now();
            let Err(error) = self.socket.get_ref().send_to(&one.ask.query.bytes(one.ask.id), one.ask.to) else {
                return;
            };
            // An error of an earlier datagram surfaces on the next send, which then did not happen. Once the queue is
            // drained, and each error attributed, the send is made. A queue that held nothing: it is this send's own.
            if !self.drain(all) {
                if let Some(one) = all.get_mut(at) {
                    one.settle(send_error(&error));
                }
                return;
            }
            if all.get(at).is_none_or(|one| one.done.is_some()) {
                return;
            }
        }
        if let Some(one) = all.get_mut(at) {
            one.settle(Outcome::NotAsked { why: NotAsked::LocalError });
        }
    }

    /// Reads what is there. `true`: every question has its outcome.
    fn receive(&self, all: &mut [Pending<'_>], state: Ready) -> bool {
        let mut buffer = [0u8; REPLY];
        let mut errors = state.is_error();
        // Replies before errors: a valid reply counts whatever else came.
        loop {
            match self.socket.get_ref().recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    all.iter_mut().for_each(|one| one.consider(from, bytes));
                    if all.iter().all(|one| one.done.is_some()) {
                        return true;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The pending error of the socket, told once; the queue has the details.
                Err(_) if !errors => errors = true,
                Err(_) => break,
            }
        }
        if errors {
            self.drain(all);
        }
        all.iter().all(|one| one.done.is_some())
    }

    /// Empties the error queue and attributes what was in it. `true`: there was something.
    fn drain(&self, all: &mut [Pending<'_>]) -> bool {
        let mut any = false;
        loop {
            match take(self.socket.get_ref().as_fd()) {
                Ok(Queued::Icmp(error)) => all.iter_mut().for_each(|one| one.blame(&error)),
                Ok(Queued::Other) => {}
                Ok(Queued::Empty) | Err(_) => return any,
            }
            any = true;
        }
    }
}

/// One question over a fresh socket.
pub async fn exchange(socket: OwnedFd, ask: &Ask, patience: Duration) -> Talk {
    let nothing =
        Talk { outcome: Outcome::NotAsked { why: NotAsked::NoResources }, latency: Duration::ZERO, connect: None };
    let Ok(line) = Line::new(socket) else { return nothing };
    line.exchange(std::slice::from_ref(ask), patience).await.pop().unwrap_or(nothing)
}

impl<'a> Pending<'a> {
    fn new(ask: &'a Ask) -> Self {
        Self { ask, sent: Instant::now(), done: None, wrong_source: None }
    }

    fn settle(&mut self, outcome: Outcome) {
        if self.done.is_none() {
            self.done = Some((outcome, Instant::now()));
        }
    }

    fn consider(&mut self, from: SocketAddr, bytes: &[u8]) {
        if self.done.is_some() {
            return;
        }
        let Reply::Valid(said) = self.ask.query.read(self.ask.id, bytes) else { return };
        if from.ip() == self.ask.to.ip() && from.port() == self.ask.to.port() {
            self.settle(judge(&self.ask.expect, Transport::Udp, &said));
        } else {
            self.wrong_source.get_or_insert(from);
        }
    }

    fn blame(&mut self, error: &IcmpError) {
        let ours = error.sent_to == self.ask.to && error.id.is_none_or(|id| id == self.ask.id);
        if ours && let Some(outcome) = error.outcome() {
            self.settle(outcome);
        }
    }

    fn end(self) -> Talk {
        let (outcome, at) = self.done.unwrap_or_else(|| {
            let outcome = self.wrong_source.map_or(Outcome::Timeout, |from| Outcome::WrongSource { from });
            (outcome, Instant::now())
        });
        Talk { outcome, latency: at.saturating_duration_since(self.sent), connect: None }
    }
}

/// What a failed `sendto` means. A blackhole route says EINVAL and a prohibiting one EACCES; both are routing's way of
/// saying that there is no way there, so that both count as network unreachable.
fn send_error(error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(libc::EPERM) => Outcome::NotPermitted,
        Some(libc::ENETUNREACH | libc::EINVAL | libc::EACCES | libc::ENETDOWN) => Outcome::NetworkUnreachable,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => {
            Outcome::HostUnreachable { by: None, icmp_type: None, icmp_code: None }
        }
        Some(libc::ENOBUFS) => Outcome::NoBuffers,
        Some(libc::ECONNREFUSED) => Outcome::Refused { by: None },
        Some(libc::ENOMEM | libc::EAGAIN | libc::EADDRNOTAVAIL) => Outcome::NotAsked { why: NotAsked::NoResources },
        _ => Outcome::NotAsked { why: NotAsked::LocalError },
    }
}

#[cfg(test)]
mod tests;
