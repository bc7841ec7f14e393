//! TCP listeners of the namespace that the calling thread is in, by `sock_diag`.

use std::io;
use std::time::{Duration, Instant};

use nameward_messages::targets::Family;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::Limits;
use crate::facts::SocketRow;
use crate::procnet::MAX_ROWS;
use crate::sockdiag::{DiagError, parse, request};

/// Longest wait for one packet of the dump.
const STEP: Duration = Duration::from_millis(500);

/// Every TCP listener, IPv4 and IPv6. Synchronous; it ends by itself within the limits. A kernel that has this as a module loads it.
///
/// # Errors
/// Where the kernel does not offer it or does not let us: then `/proc` is to be read.
#[expect(clippy::disallowed_methods, reason = "the kernel crate bounds a blocking dump on its own thread")]
pub(super) fn tcp_listeners(limits: Limits) -> io::Result<Vec<SocketRow>> {
    let end = Instant::now() + limits.within;
    let mut rows = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        let step = TimeVal::milliseconds(i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, ReceiveTimeout, &step)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&request(family), 0)?;
        let mut bytes = 0_u64;
        loop {
            let (packet, _) = socket.recv_from_full()?;
            bytes += packet.len() as u64;
            if bytes > limits.bytes || rows.len() > MAX_ROWS || Instant::now() >= end {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let read = parse(&packet).map_err(|error| match error {
                DiagError::Kernel(error) => error,
                other => io::Error::other(other),
            })?;
            rows.extend(read.rows);
            if read.done {
                break;
            }
        }
    }
    Ok(rows)
}
