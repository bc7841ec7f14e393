//! Entries of conntrack: which of a list are there, and deleting those, one by one, each by the whole tuple of its answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nameward_messages::targets::Transport;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::{FlowId, MAX_FLOWS, RepairError};
use crate::collect::{Limits, flows_to};
use crate::conntrack::Tuple;
use crate::enter::EnterPool;
use crate::facts::Reading;
use crate::netlink::{NESTED, attribute};

/// Most bytes of one dump.
const BYTES: u64 = 16 << 20;
/// Longest wait for one answer.
const STEP: Duration = Duration::from_millis(500);

/// The entries over UDP of those who asked these.
pub(super) async fn to(pool: &EnterPool, asked: &[SocketAddr], within: Duration) -> Reading<Vec<FlowId>> {
    let mut all = Vec::new();
    for destination in asked {
        match flows_to(pool, pool.home(), *destination, Limits { within, bytes: BYTES }).await {
            Reading::Read(flows) => {
                let udp = flows.iter().filter(|flow| flow.transport == Transport::Udp);
                all.extend(udp.map(|flow| FlowId { original: flow.original, reply: flow.reply }));
            }
            Reading::NotRead => return Reading::NotRead,
            Reading::NotPermitted(why) => return Reading::NotPermitted(why),
            Reading::NotPresent(why) => return Reading::NotPresent(why),
            Reading::Failed(why) => return Reading::Failed(why),
        }
    }
    Reading::Read(all)
}

/// Those of the list that are there.
pub(super) async fn there(pool: &EnterPool, wanted: &[FlowId], within: Duration) -> Result<Vec<FlowId>, RepairError> {
    let asked: BTreeSet<SocketAddr> = wanted.iter().map(|flow| flow.original.destination).collect();
    let asked: Vec<SocketAddr> = asked.into_iter().collect();
    match to(pool, &asked, within).await {
        Reading::Read(found) => Ok(wanted.iter().filter(|flow| found.contains(flow)).copied().collect()),
        Reading::NotPermitted(why) => Err(RepairError::NotPermitted(why)),
        other => Err(RepairError::Failed(other.missing().unwrap_or("not read").to_owned())),
    }
}

/// Deletes these and no others. A client that asks again from the same port has a new entry with the same tuple as before in the
/// direction of its question, and another one in that of the answer, which names the endpoint: by that one they are deleted.
#[expect(clippy::disallowed_methods, reason = "the kernel crate bounds work that waits on its own threads")]
pub(super) async fn delete(pool: &EnterPool, flows: &[FlowId], within: Duration) -> Result<(), RepairError> {
    let requests: Vec<Vec<u8>> = flows.iter().take(MAX_FLOWS).filter_map(|flow| request(&flow.reply)).collect();
    let end = Instant::now() + within;
    let work = move || -> Result<(), std::io::Error> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let step = TimeVal::milliseconds(i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, ReceiveTimeout, &step).map_err(std::io::Error::from)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddress::new(0, 0))?;
        for request in &requests {
            if Instant::now() >= end {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            socket.send(request, 0)?;
            let (answer, _) = socket.recv_from_full()?;
            match code(&answer) {
                // An entry that is not there any more need not be deleted.
                Some(0 | libc::ENOENT) => {}
                Some(errno) => return Err(std::io::Error::from_raw_os_error(errno)),
                None => return Err(std::io::Error::other("the answer is not understood")),
            }
        }
        Ok(())
    };
    match pool.run(pool.home(), work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            Err(RepairError::NotPermitted(format!("conntrack: {error}; grant CAP_NET_ADMIN")))
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Err(RepairError::TimedOut(within)),
        Ok(Err(error)) => Err(RepairError::Failed(format!("conntrack: {error}"))),
        Err(error) => Err(RepairError::Failed(error.to_string())),
    }
}

/// The error number of an acknowledgement (`struct nlmsgerr` after a header of 16 bytes, `linux/netlink.h`).
fn code(answer: &[u8]) -> Option<i32> {
    const ERROR: u16 = 2;
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*answer.get(16..)?.first_chunk()?);
    (kind == ERROR).then(|| code.saturating_neg())
}

/// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_SRC: u16 = 2;
const PROTO_DST: u16 = 3;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;
/// NLM_F_REQUEST | NLM_F_ACK.
const FLAGS: u16 = 1 | 4;

/// The request that deletes the entry whose answer is awaited so. The kernel looks at this tuple only where there is no
/// `CTA_TUPLE_ORIG` (`ctnetlink_del_conntrack`, net/netfilter/nf_conntrack_netlink.c). Without a whole tuple it would take it as an
/// order to flush the table: there is no request then (`None`), and none can be made without both addresses and ports.
fn request(reply: &Tuple) -> Option<Vec<u8>> {
    let (from, to) = (reply.source, reply.destination);
    let (family, addresses) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (libc::AF_INET, [attribute(1, &from.octets()), attribute(2, &to.octets())].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            (libc::AF_INET6, [attribute(3, &from.octets()), attribute(4, &to.octets())].concat())
        }
        _ => return None,
    };
    let udp = u8::try_from(libc::IPPROTO_UDP).ok()?;
    let proto = [
        attribute(PROTO_NUM, &[udp]),
        attribute(PROTO_SRC, &from.port().to_be_bytes()),
        attribute(PROTO_DST, &to.port().to_be_bytes()),
    ]
    .concat();
    let tuple = [attribute(NESTED | TUPLE_IP, &addresses), attribute(NESTED | TUPLE_PROTO, &proto)].concat();
    let body = attribute(NESTED | TUPLE_REPLY, &tuple);
    let mut bytes = Vec::with_capacity(20 + body.len());
    bytes.extend(u32::try_from(20 + body.len()).ok()?.to_ne_bytes());
    bytes.extend(DELETE.to_ne_bytes());
    bytes.extend(FLAGS.to_ne_bytes());
    // Sequence and port, then `struct nfgenmsg`: family, version 0, resource 0.
    bytes.extend([0; 8]);
    bytes.extend([u8::try_from(family).ok()?, 0, 0, 0]);
    bytes.extend(body);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_without_a_whole_tuple_cannot_be_made() {
        let tuple = |from: &str, to: &str| Tuple { source: from.parse().unwrap(), destination: to.parse().unwrap() };
        assert_eq!(request(&tuple("10.244.9.9:53", "[fd00::5]:4000")), None, "of two families");
        for tuple in [tuple("10.244.9.9:53", "10.244.1.5:4000"), tuple("[fd00::9]:53", "[fd00::5]:4000")] {
            let bytes = request(&tuple).unwrap();
            assert_eq!(bytes.len(), usize::try_from(u32::from_ne_bytes(*bytes.first_chunk().unwrap())).unwrap());
            assert!(bytes.len() > 20 + 4, "no attribute, no request: that would flush the table");
            // The answer's tuple and nothing before it: with the question's, the kernel would not look at this one.
            let (length, kind) =
                (u16::from_ne_bytes([bytes[20], bytes[21]]), u16::from_ne_bytes([bytes[22], bytes[23]]));
            assert_eq!((usize::from(length), kind), (bytes.len() - 20, NESTED | TUPLE_REPLY));
        }
    }
}
