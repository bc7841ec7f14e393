//! Conntrack's entries for one destination, by ctnetlink: which endpoint a client's packets are really sent to.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nameward_messages::targets::Transport;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Status, Tuple as TupleAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::{Deserialize, Serialize};

use super::{Limits, unreadable};
use crate::enter::{EnterPool, Netns};
use crate::facts::Reading;

/// Most entries that are kept.
pub const MAX_FLOWS: usize = 4096;
/// Longest wait for one packet of the dump.
const STEP: Duration = Duration::from_millis(500);

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

/// The entries of a namespace whose client asked `destination` (address and port), UDP and TCP.
pub async fn flows_to(
    pool: &EnterPool,
    namespace: &Netns,
    destination: SocketAddr,
    limits: Limits,
) -> Reading<Vec<Flow>> {
    let dump = pool.run(namespace, move || dump(destination, limits));
    match tokio::time::timeout(limits.within, dump).await {
        Ok(Ok(Ok(flows))) => Reading::Read(flows),
        Ok(Ok(Err(Trouble::Io(error)))) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Reading::NotPermitted(format!("conntrack: {error}; grant CAP_NET_ADMIN"))
        }
        Ok(Ok(Err(Trouble::Io(error)))) => Reading::Failed(format!("conntrack: {error}")),
        Ok(Ok(Err(Trouble::Other(why)))) => Reading::Failed(format!("conntrack: {why}")),
        Ok(Err(error)) => unreadable(&error),
        Err(_) => Reading::Failed(format!("conntrack was not read within {:?}", limits.within)),
    }
}

enum Trouble {
    Io(std::io::Error),
    Other(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Synchronous, on a thread inside the namespace; it ends by itself within the limits.
#[expect(clippy::disallowed_methods, reason = "the kernel crate bounds a blocking dump on its own thread")]
fn dump(destination: SocketAddr, limits: Limits) -> Result<Vec<Flow>, Trouble> {
    let end = Instant::now() + limits.within;
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    let step = TimeVal::milliseconds(i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&socket, ReceiveTimeout, &step).map_err(std::io::Error::from)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    socket.send(&request(destination), 0)?;

    let (mut flows, mut bytes) = (Vec::new(), 0_u64);
    loop {
        if Instant::now() >= end {
            return Err(Trouble::Other(format!("not read within {:?}", limits.within)));
        }
        let (packet, _) = socket.recv_from_full()?;
        bytes += packet.len() as u64;
        if bytes > limits.bytes {
            return Err(Trouble::Other(format!("more than {} bytes", limits.bytes)));
        }
        let mut rest = packet.as_slice();
        while !rest.is_empty() {
            let message = <NetlinkMessage<NetfilterMessage>>::deserialize(rest)
                .map_err(|error| Trouble::Other(format!("not understood: {error}")))?;
            // Messages are padded to four bytes; a length of nothing would never end.
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(flows),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(Trouble::Io(error.to_io())),
                NetlinkPayload::InnerMessage(inner) => {
                    flows.extend(flow(inner).filter(|f| f.original.destination == destination));
                    if flows.len() > MAX_FLOWS {
                        return Err(Trouble::Other(format!("more than {MAX_FLOWS} entries for {destination}")));
                    }
                }
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn request(destination: SocketAddr) -> Vec<u8> {
    let family = if destination.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let inner = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), ConntrackMessage::Get(Vec::new()));
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(inner));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
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
