//! Conntrack's entries for a few destinations, by ctnetlink: which endpoint a client's packets are really sent to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::{Limits, unreadable};
use crate::conntrack::{self, DumpError, Flow};
use crate::enter::{EnterPool, Netns};
use crate::facts::Reading;
use crate::flows::{FlowGroup, Gather, MAX_GROUPS};
use crate::netlink::{NESTED, attribute};

/// Most entries that are kept.
pub const MAX_FLOWS: usize = 4096;
/// Up to so many entries are dumped in one go and looked through here. A dump walks the table of the whole machine, whatever it
/// is asked for, and that costs more than these.
const FEW_ENTRIES: u64 = 4096;
/// Longest wait for one packet of the dump.
const STEP: Duration = Duration::from_millis(500);

/// The entries of a namespace whose client asked `destination` (address and port), UDP and TCP.
pub async fn flows_to(
    pool: &EnterPool,
    namespace: &Netns,
    destination: SocketAddr,
    limits: Limits,
) -> Reading<Vec<Flow>> {
    read(pool, namespace, limits, move || {
        let mut flows = Vec::new();
        dump(destination.ip(), limits, &mut |flow| {
            if flow.original.destination == destination {
                flows.push(flow);
            }
            let many = flows.len() > MAX_FLOWS;
            if many { Err(Trouble::Other(format!("more than {MAX_FLOWS} entries for {destination}"))) } else { Ok(()) }
        })?;
        Ok(flows)
    })
    .await
}

/// The entries of a namespace whose clients asked one of these destinations, put together by endpoint. Memory does not follow
/// the size of the table.
pub async fn flow_groups(
    pool: &EnterPool,
    namespace: &Netns,
    destinations: Vec<SocketAddr>,
    limits: Limits,
) -> Reading<Vec<FlowGroup>> {
    if destinations.is_empty() {
        return Reading::NotRead;
    }
    read(pool, namespace, limits, move || {
        let addresses: BTreeSet<IpAddr> = destinations.iter().map(SocketAddr::ip).collect();
        let mut gather = Gather::new(destinations);
        let many = entries_here().is_none_or(|entries| entries > FEW_ENTRIES);
        let families = [true, false].map(|v4| addresses.iter().filter(move |ip| ip.is_ipv4() == v4));
        for family in families {
            let of_family: Vec<IpAddr> = family.copied().collect();
            let whole = !many && of_family.len() > 1;
            let dumps = if whole { of_family.get(..1).unwrap_or_default() } else { of_family.as_slice() };
            for address in dumps {
                let mut take = |flow: Flow| {
                    // Without the kernel's filter every dump shows every entry.
                    if whole || flow.original.destination.ip() == *address {
                        gather.take(&flow);
                    }
                    Ok(())
                };
                if whole {
                    ask(&request(*address, false), limits, &mut take)?
                } else {
                    dump(*address, limits, &mut take)?
                }
            }
        }
        gather.done().ok_or_else(|| Trouble::Other(format!("more than {MAX_GROUPS} endpoints")))
    })
    .await
}

async fn read<T: Send + 'static>(
    pool: &EnterPool,
    namespace: &Netns,
    limits: Limits,
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Reading<T> {
    match tokio::time::timeout(limits.within, pool.run(namespace, work)).await {
        Ok(Ok(Ok(found))) => Reading::Read(found),
        Ok(Ok(Err(Trouble::Io(error)))) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Reading::NotPermitted(format!("conntrack: {error}; grant CAP_NET_ADMIN"))
        }
        Ok(Ok(Err(Trouble::Io(error)))) => Reading::Failed(format!("conntrack: {error}")),
        Ok(Ok(Err(Trouble::Other(why)))) => Reading::Failed(format!("conntrack: {why}")),
        Ok(Err(error)) => unreadable(&error),
        Err(_) => Reading::Failed(format!("conntrack was not read within {:?}", limits.within)),
    }
}

/// How many entries the namespace of the calling thread has.
fn entries_here() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").ok()?.trim().parse().ok()
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
///
/// The kernel is asked for one destination address alone (CTA_FILTER, Linux 5.8): a table may have a million entries. An older
/// one passes the filter by and shows all; one that does not take it is asked again without.
fn dump(address: IpAddr, limits: Limits, take: &mut dyn FnMut(Flow) -> Result<(), Trouble>) -> Result<(), Trouble> {
    match ask(&request(address, true), limits, take) {
        Err(Trouble::Io(error)) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            ask(&request(address, false), limits, take)
        }
        done => done,
    }
}

#[expect(clippy::disallowed_methods, reason = "the kernel crate bounds a blocking dump on its own thread")]
fn ask(request: &[u8], limits: Limits, take: &mut dyn FnMut(Flow) -> Result<(), Trouble>) -> Result<(), Trouble> {
    let end = Instant::now() + limits.within;
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    let step = TimeVal::milliseconds(i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&socket, ReceiveTimeout, &step).map_err(std::io::Error::from)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    socket.send(request, 0)?;

    let mut bytes = 0_u64;
    loop {
        if Instant::now() >= end {
            return Err(Trouble::Other(format!("not read within {:?}", limits.within)));
        }
        let (packet, _) = socket.recv_from_full()?;
        bytes += packet.len() as u64;
        if bytes > limits.bytes {
            return Err(Trouble::Other(format!("more than {} bytes", limits.bytes)));
        }
        let read = conntrack::parse(&packet).map_err(|error| match error {
            DumpError::Kernel(error) => Trouble::Io(error),
            DumpError::Malformed(why) => Trouble::Other(format!("not understood: {why}")),
        })?;
        read.flows.into_iter().try_for_each(&mut *take)?;
        if read.done {
            return Ok(());
        }
    }
}

/// CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_IP_V4_DST, CTA_IP_V6_DST, CTA_FILTER, CTA_FILTER_ORIG_FLAGS
/// (linux/netfilter/nfnetlink_conntrack.h).
const TUPLE_ORIG: u16 = 1;
const TUPLE_IP: u16 = 1;
const V4_DST: u16 = 2;
const V6_DST: u16 = 4;
const FILTER: u16 = 25;
const ORIG_FLAGS: u16 = 1;
/// The flag by which the filter looks at the destination address (net/netfilter/nf_internals.h).
const BY_DESTINATION: u32 = 1 << 1;

fn request(address: IpAddr, filtered: bool) -> Vec<u8> {
    let family = if address.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let inner = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), ConntrackMessage::Get(Vec::new()));
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(inner));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    if !filtered {
        return bytes;
    }
    let to = match address {
        IpAddr::V4(ip) => attribute(V4_DST, &ip.octets()),
        IpAddr::V6(ip) => attribute(V6_DST, &ip.octets()),
    };
    bytes.extend(attribute(NESTED | TUPLE_ORIG, &attribute(NESTED | TUPLE_IP, &to)));
    bytes.extend(attribute(NESTED | FILTER, &attribute(ORIG_FLAGS, &BY_DESTINATION.to_ne_bytes())));
    // The first field of the header is the length of the whole.
    let length = u32::try_from(bytes.len()).unwrap_or_default().to_ne_bytes();
    if let Some(field) = bytes.get_mut(..4) {
        field.copy_from_slice(&length);
    }
    bytes
}
