//! ICMP errors, read from a socket's error queue.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nameward_messages::probe::Outcome;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

/// `SO_EE_ORIGIN_ICMP`.
const ICMP: u8 = 2;
/// `SO_EE_ORIGIN_ICMP6`.
const ICMP6: u8 = 3;
/// Octets of the datagram that an error quotes: enough for a message's id.
const QUOTED: usize = 64;

/// One ICMP error about a datagram of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IcmpError {
    /// Where the datagram was sent to: the error is about this destination alone.
    pub(super) sent_to: SocketAddr,
    /// The id of the DNS message that the error quotes, if it quotes that far.
    pub(super) id: Option<u16>,
    /// Who sent the error.
    pub(super) by: Option<IpAddr>,
    /// ICMP version 6 numbers its types differently.
    pub(super) v6: bool,
    /// Type.
    pub(super) icmp_type: u8,
    /// Code.
    pub(super) icmp_code: u8,
}

impl IcmpError {
    /// What it means for the exchange. `None`: nothing final (a hint about packet size, a redirect).
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let unreachable =
            Outcome::HostUnreachable { by: self.by, icmp_type: Some(self.icmp_type), icmp_code: Some(self.icmp_code) };
        match (self.v6, self.icmp_type, self.icmp_code) {
            // Port unreachable, by RFC 792 and RFC 4443.
            (false, 3, 3) | (true, 1, 4) => Some(Outcome::Refused { by: self.by }),
            // Fragmentation needed: the kernel learns from it.
            (false, 3, 4) => None,
            // Other destination unreachable, and time exceeded.
            (false, 3 | 11, _) | (true, 1 | 3, _) => Some(unreachable),
            _ => None,
        }
    }
}

/// What one read of the error queue gave.
#[derive(Debug)]
pub(super) enum Queued {
    /// An ICMP error.
    Icmp(IcmpError),
    /// An entry of another origin, or one that cannot be attributed.
    Other,
    /// The queue is empty.
    Empty,
}

/// Takes one entry off the error queue, without waiting.
pub(super) fn take(socket: BorrowedFd<'_>) -> io::Result<Queued> {
    let mut data = [0u8; QUOTED];
    let mut control = nix::cmsg_space!([u8; 256]);
    let mut parts = [IoSliceMut::new(&mut data)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Ok(message) => message,
        Err(nix::errno::Errno::EAGAIN) => return Ok(Queued::Empty),
        Err(e) => return Err(e.into()),
    };
    let sent_to = message.address.as_ref().and_then(address);
    let read = message.bytes;
    let error = message.cmsgs().ok().and_then(|mut all| {
        all.find_map(|one| match one {
            ControlMessageOwned::Ipv4RecvErr(error, from) => {
                let by = from.filter(|a| i32::from(a.sin_family) == libc::AF_INET);
                Some((error, by.map(|a| IpAddr::V4(Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr))))))
            }
            ControlMessageOwned::Ipv6RecvErr(error, from) => {
                let by = from.filter(|a| i32::from(a.sin6_family) == libc::AF_INET6);
                Some((error, by.map(|a| IpAddr::V6(Ipv6Addr::from(a.sin6_addr.s6_addr)))))
            }
            _ => None,
        })
    });
    let (Some(sent_to), Some((error, by))) = (sent_to, error) else { return Ok(Queued::Other) };
    if !matches!(error.ee_origin, ICMP | ICMP6) {
        return Ok(Queued::Other);
    }
    let id = data.get(..read.min(QUOTED)).and_then(|d| d.first_chunk::<2>()).map(|id| u16::from_be_bytes(*id));
    let v6 = error.ee_origin == ICMP6;
    Ok(Queued::Icmp(IcmpError { sent_to, id, by, v6, icmp_type: error.ee_type, icmp_code: error.ee_code }))
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_icmp_errors() {
        let by = Some(IpAddr::from([10, 244, 1, 1]));
        let error = |v6, icmp_type, icmp_code| {
            IcmpError { sent_to: SocketAddr::from(([10, 96, 0, 10], 53)), id: None, by, v6, icmp_type, icmp_code }
                .outcome()
        };
        let unreachable = |t, c| Some(Outcome::HostUnreachable { by, icmp_type: Some(t), icmp_code: Some(c) });
        assert_eq!(error(false, 3, 3), Some(Outcome::Refused { by }));
        assert_eq!(error(true, 1, 4), Some(Outcome::Refused { by }));
        assert_eq!(error(false, 3, 13), unreachable(3, 13));
        assert_eq!(error(false, 11, 0), unreachable(11, 0));
        assert_eq!(error(true, 1, 1), unreachable(1, 1));
        assert_eq!(error(false, 3, 4), None);
        assert_eq!(error(true, 2, 0), None);
        assert_eq!(error(false, 5, 1), None);
    }
}
