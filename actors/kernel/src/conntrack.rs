//! Conntrack's entries as ctnetlink prints them: types and parser.

use std::net::{IpAddr, SocketAddr};

use nameward_messages::targets::Transport;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Status, Tuple as TupleAttribute,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use serde::{Deserialize, Serialize};

/// One direction of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuple {
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// UDP or TCP.
    pub transport: Transport,
    /// As the client sent it.
    pub original: Tuple,
    /// As an answer is awaited: its source is the endpoint that was chosen. Equal to the original's destination when no
    /// rule applied.
    pub reply: Tuple,
    /// An answer was seen.
    pub replied: bool,
}

/// What one packet of a dump holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The entries of UDP and TCP.
    pub flows: Vec<Flow>,
    /// The dump ends here.
    pub done: bool,
}

/// Why a packet of a dump gives no entries.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The kernel answers with an error.
    #[error("the kernel answers")]
    Kernel(#[source] std::io::Error),
    /// The bytes are no netlink messages.
    #[error("not understood: {0}")]
    Malformed(String),
}

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW` (linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h).
const ENTRY: u16 = 1 << 8;
/// Message types below this one are netlink's own (`NLMSG_MIN_TYPE`).
const CONTROL: u16 = 16;
/// Bytes of a netlink header.
const HEADER: usize = 16;

/// Length (bytes, header included) and type of the message that begins here.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?);
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let length = usize::try_from(length).ok()?;
    (length >= HEADER).then_some((length, kind))
}

/// Reads one packet of a dump. Any bytes may be given.
///
/// # Errors
/// [`DumpError`].
pub fn parse(packet: &[u8]) -> Result<Packet, DumpError> {
    let mut read = Packet::default();
    let mut rest = packet;
    while let Some((length, kind)) = header(rest) {
        let (message, after) =
            rest.split_at_checked(length).ok_or_else(|| DumpError::Malformed("cut off".to_owned()))?;
        // Messages are padded to four bytes.
        rest = after.get(length.next_multiple_of(4) - length..).unwrap_or_default();
        // The library is shown what was asked for and nothing else: it does not survive any bytes of other subsystems.
        if !(kind == ENTRY || kind < CONTROL) {
            continue;
        }
        let message = <NetlinkMessage<NetfilterMessage>>::deserialize(message)
            .map_err(|error| DumpError::Malformed(error.to_string()))?;
        match message.payload {
            NetlinkPayload::Done(_) => {
                read.done = true;
                break;
            }
            NetlinkPayload::Error(error) => {
                // Negative error numbers; one that has no positive is no error number.
                if let Some(code) = error.code.and_then(|code| code.get().checked_neg()) {
                    return Err(DumpError::Kernel(std::io::Error::from_raw_os_error(code)));
                }
            }
            NetlinkPayload::InnerMessage(inner) => read.flows.extend(flow(inner)),
            _ => {}
        }
    }
    Ok(read)
}

fn flow(message: NetfilterMessage) -> Option<Flow> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else { return None };
    let (mut original, mut reply, mut replied) = (None, None, false);
    for attribute in &attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => original = tuple(parts),
            ConntrackAttribute::CtaTupleReply(parts) => reply = tuple(parts),
            ConntrackAttribute::CtaStatus(status) => replied = status.contains(Status::SeenReply),
            _ => {}
        }
    }
    let ((transport, original), (_, reply)) = (original?, reply?);
    Some(Flow { transport, original, reply, replied })
}

fn tuple(parts: &[TupleAttribute]) -> Option<(Transport, Tuple)> {
    let (mut transport, mut from, mut to) = (None, (None::<IpAddr>, None::<u16>), (None::<IpAddr>, None::<u16>));
    for part in parts {
        match part {
            TupleAttribute::Ip(ips) => {
                for ip in ips {
                    match ip {
                        IPTuple::SourceAddress(ip) => from.0 = Some(*ip),
                        IPTuple::DestinationAddress(ip) => to.0 = Some(*ip),
                        _ => {}
                    }
                }
            }
            TupleAttribute::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(Protocol::Udp) => transport = Some(Transport::Udp),
                        ProtoTuple::Protocol(Protocol::Tcp) => transport = Some(Transport::Tcp),
                        ProtoTuple::SourcePort(port) => from.1 = Some(*port),
                        ProtoTuple::DestinationPort(port) => to.1 = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let address = |(ip, port): (Option<IpAddr>, Option<u16>)| Some(SocketAddr::new(ip?, port?));
    Some((transport?, Tuple { source: address(from)?, destination: address(to)? }))
}
