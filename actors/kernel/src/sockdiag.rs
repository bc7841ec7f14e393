//! TCP listeners as the kernel's `sock_diag` tells them (linux/sock_diag.h, linux/inet_diag.h): request and parser.
//!
//! `/proc/net/tcp` walks the table of all connections of the machine to show the few listeners of one namespace; this asks for
//! listeners alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nameward_messages::targets::Family;

use crate::facts::SocketRow;
use crate::procnet::MAX_ROWS;

/// NLMSG_ERROR, NLMSG_DONE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP.
const DUMP: u16 = 0x301;
/// AF_INET, AF_INET6, IPPROTO_TCP.
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// `1 << TCP_LISTEN`.
const LISTENERS: u32 = 1 << 10;
/// Bytes of a netlink header, of the request (`inet_diag_req_v2`) and of a row (`inet_diag_msg`).
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ROW: usize = 72;

/// What one packet of a dump holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Listeners.
    pub rows: Vec<SocketRow>,
    /// The dump ends here.
    pub done: bool,
}

/// Why a packet gives no listeners.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The kernel answers with an error.
    #[error("the kernel answers")]
    Kernel(#[source] std::io::Error),
    /// The bytes are no answer to the request.
    #[error("an answer of sock_diag is cut off")]
    CutOff,
    /// More than the caller can hold.
    #[error("more than {MAX_ROWS} listeners")]
    TooLong,
}

/// The request for every TCP listener of a family.
#[must_use]
pub fn request(family: Family) -> Vec<u8> {
    let family = if family == Family::Ipv4 { INET } else { INET6 };
    let length = HEADER + REQUEST;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    // Sequence and sender: one dump per socket, and the kernel knows whose that is.
    bytes.extend([0; 8]);
    // No extensions, a byte of padding.
    bytes.extend([family, TCP, 0, 0]);
    bytes.extend(LISTENERS.to_ne_bytes());
    // Any address.
    bytes.resize(length, 0);
    bytes
}

/// Reads one packet of a dump. Any bytes may be given.
///
/// # Errors
/// [`DiagError`].
pub fn parse(packet: &[u8]) -> Result<Packet, DiagError> {
    let mut read = Packet::default();
    let mut rest = packet;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let [a, b, c, d, e, f, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length < HEADER {
            return Err(DiagError::CutOff);
        }
        let (message, after) = rest.split_at_checked(length).ok_or(DiagError::CutOff)?;
        rest = after.get(length.next_multiple_of(4) - length..).unwrap_or_default();
        let body = message.get(HEADER..).unwrap_or_default();
        match u16::from_ne_bytes([e, f]) {
            DONE => {
                refused(body)?;
                read.done = true;
                break;
            }
            ERROR => refused(body)?,
            BY_FAMILY => read.rows.push(row(body).ok_or(DiagError::CutOff)?),
            _ => {}
        }
        if read.rows.len() > MAX_ROWS {
            return Err(DiagError::TooLong);
        }
    }
    Ok(read)
}

/// Errors and ends begin with a negative error number, or with nothing.
fn refused(body: &[u8]) -> Result<(), DiagError> {
    let code = body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
    match code.checked_neg() {
        Some(number) if number > 0 => Err(DiagError::Kernel(std::io::Error::from_raw_os_error(number))),
        _ => Ok(()),
    }
}

/// Family, state, timer, retransmissions; ports, addresses (both in network order), link, cookie; then expiry, receive queue, send queue,
/// uid and inode.
fn row(body: &[u8]) -> Option<SocketRow> {
    let body = body.get(..ROW)?;
    let number = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let port = u16::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let ip: IpAddr = match *body.first()? {
        INET => Ipv4Addr::from(*body.get(8..)?.first_chunk::<4>()?).into(),
        INET6 => Ipv6Addr::from(*body.get(8..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketRow { ip, port, rx_queue: number(56)?.into(), drops: 0, inode: number(68)?.into() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const ENOENT: i32 = 2;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn listener(family: u8, address: &[u8]) -> Vec<u8> {
        let mut body = vec![family, 10, 0, 0, 0, 53, 0, 0];
        body.extend(address);
        body.resize(56, 0);
        for number in [3_u32, 511, 0, 4242] {
            body.extend(number.to_ne_bytes());
        }
        body
    }

    #[test]
    fn listeners_are_read() {
        let v6: Ipv6Addr = "2001:db8::53".parse().unwrap();
        let mut bytes = message(BY_FAMILY, &listener(INET, &[10, 0, 0, 7]));
        bytes.extend(message(BY_FAMILY, &listener(INET6, &v6.octets())));
        bytes.extend(message(DONE, &[0; 4]));
        let read = parse(&bytes).unwrap();
        let row = |ip: IpAddr| SocketRow { ip, port: 53, rx_queue: 3, drops: 0, inode: 4242 };
        assert_eq!(read, Packet { rows: vec![row([10, 0, 0, 7].into()), row(v6.into())], done: true });
    }

    #[test]
    fn errors_are_told() {
        let refusal = message(ERROR, &(-ENOENT).to_ne_bytes());
        assert!(matches!(parse(&refusal), Err(DiagError::Kernel(e)) if e.kind() == std::io::ErrorKind::NotFound));
        let ended = message(DONE, &(-ENOENT).to_ne_bytes());
        assert!(matches!(parse(&ended), Err(DiagError::Kernel(_))));
        assert!(matches!(parse(&message(BY_FAMILY, &[2; 20])), Err(DiagError::CutOff)));
        assert!(matches!(parse(&refusal[..18]), Err(DiagError::CutOff)));
        assert_eq!(parse(&[]).unwrap(), Packet::default());
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let bytes = request(Family::Ipv6);
        assert_eq!(bytes.len(), 72);
        assert_eq!(bytes[..4], 72_u32.to_ne_bytes());
        assert_eq!(bytes[16..18], [INET6, TCP]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let _ = parse(&message(BY_FAMILY, &body));
        }
    }
}
