//! The transaction that begins a trace: a table of our own, which the kernel takes away with our socket
//! (`NFT_TABLE_F_OWNER`, Linux 5.12), a base chain where packets come in and one where they are sent, and in each a rule for
//! our one probe and one for the answer to it.

use std::net::{IpAddr, SocketAddr};

use nameward_messages::targets::Transport;

use crate::netlink::{NESTED, attribute};
use crate::trace::TABLE;

/// Priority of our chains: before conntrack and everything that iptables has.
const PRIORITY: i32 = -400;
/// Packets of one rule that are traced in a second, and at once.
const RATE: u64 = 20;
const BURST: u32 = 10;

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`.
const HOOKS: [(&str, u32); 2] = [("prerouting", 0), ("output", 3)];

/// `NFNL_SUBSYS_NFTABLES`, and its messages.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_EXCL`, `NLM_F_CREATE`, `NLM_F_APPEND`, `NLM_F_DUMP`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 0x2;
/// `NFT_META_NFTRACE`, `NFT_META_L4PROTO`, `NFT_REG_1`.
const META_NFTRACE: u32 = 12;
const META_L4PROTO: u32 = 16;
const REGISTER: u32 = 1;

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) transport: Transport,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

/// The transaction that begins the trace.
///
/// The kernel tries all of it, then answers in the order of the messages: each that it refuses, and each that asks for an answer
/// (`nfnetlink_rcv_batch`, net/netfilter/nfnetlink.c). So the last one asks, and alone: what comes first is a refusal, or all was taken.
pub(super) fn begin(tuple: Tuple) -> Vec<u8> {
    let family = family(tuple.to.ip());
    let mut messages = Messages::default();
    messages.batch(BATCH_BEGIN);
    messages.add(NEW_TABLE, CREATE | EXCLUSIVE, family, &[text(1, TABLE), number(2, OWNER)].concat());
    for (chain, hook) in HOOKS {
        let at = [number(1, hook), number(2, u32::from_ne_bytes(PRIORITY.to_ne_bytes()))].concat();
        let body = [text(1, TABLE), text(3, chain), nested(4, &at), number(5, 1), text(7, "filter")].concat();
        messages.add(NEW_CHAIN, CREATE, family, &body);
        for rule in [asked(tuple), answered(tuple)] {
            let body = [text(1, TABLE), text(2, chain), nested(4, &rule)].concat();
            messages.add(NEW_RULE, CREATE | APPEND, family, &body);
        }
    }
    messages.ask();
    messages.batch(BATCH_END);
    messages.bytes
}

/// The transaction that ends it.
pub(super) fn end(to: IpAddr) -> Vec<u8> {
    let mut messages = Messages::default();
    messages.batch(BATCH_BEGIN);
    messages.add(DELETE_TABLE, ACK, family(to), &text(1, TABLE));
    messages.batch(BATCH_END);
    messages.bytes
}

/// Asks for the rules of a chain, in order.
pub(super) fn rules(family: &str, table: &str, chain: &str) -> Vec<u8> {
    // NFPROTO_* of linux/netfilter.h.
    let family = match family {
        "inet" => 1,
        "arp" => 3,
        "netdev" => 5,
        "bridge" => 7,
        "ip6" => 10,
        _ => 2,
    };
    let mut messages = Messages::default();
    messages.add(GET_RULE, DUMP, family, &[text(1, table), text(2, chain)].concat());
    messages.bytes
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 2 } else { 10 }
}

/// Our query: to whom, over what, between which ports.
fn asked(tuple: Tuple) -> Vec<u8> {
    let mut list = protocol(tuple.transport);
    list.extend(address(tuple.to.ip()));
    list.extend(port(0, tuple.from.port()));
    list.extend(port(2, tuple.to.port()));
    list.extend(traced());
    list
}

/// The answer to our port, from whatever address: translation may not have been undone where it is looked at.
fn answered(tuple: Tuple) -> Vec<u8> {
    let mut list = protocol(tuple.transport);
    list.extend(address(tuple.from.ip()));
    list.extend(port(2, tuple.from.port()));
    list.extend(traced());
    list
}

fn protocol(transport: Transport) -> Vec<u8> {
    let number_of = match transport {
        Transport::Udp => 17,
        Transport::Tcp => 6,
    };
    let load = expression("meta", &[number(1, REGISTER), number(2, META_L4PROTO)].concat());
    [load, equals(&[number_of])].concat()
}

/// The destination address.
fn address(ip: IpAddr) -> Vec<u8> {
    // Offsets in the headers of IPv4 and IPv6; NFT_PAYLOAD_NETWORK_HEADER.
    match ip {
        IpAddr::V4(ip) => [payload(1, 16, 4), equals(&ip.octets())].concat(),
        IpAddr::V6(ip) => [payload(1, 24, 16), equals(&ip.octets())].concat(),
    }
}

/// A port, at its offset in the transport header (`NFT_PAYLOAD_TRANSPORT_HEADER`).
fn port(offset: u32, port: u16) -> Vec<u8> {
    [payload(2, offset, 2), equals(&port.to_be_bytes())].concat()
}

/// Few of them, and then the mark.
fn traced() -> Vec<u8> {
    let limit = [long(1, RATE), long(2, 1), number(3, BURST)].concat();
    let one = nested(2, &attribute(1, &[1]));
    let set = [number(2, META_NFTRACE), number(3, REGISTER)].concat();
    [
        expression("limit", &limit),
        expression("immediate", &[number(1, REGISTER), one].concat()),
        expression("meta", &set),
    ]
    .concat()
}

fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
    let body = [number(1, REGISTER), number(2, base), number(3, offset), number(4, length)].concat();
    expression("payload", &body)
}

fn equals(value: &[u8]) -> Vec<u8> {
    let data = nested(3, &attribute(1, value));
    expression("cmp", &[number(1, REGISTER), number(2, 0), data].concat())
}

fn expression(name: &str, body: &[u8]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, body)].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn long(kind: u16, value: u64) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    attribute(kind, &bytes)
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(NESTED | kind, value)
}

/// Messages, one behind the other.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    count: u32,
    /// Where the newest begins.
    newest: usize,
}

impl Messages {
    fn add(&mut self, kind: u16, flags: u16, family: u8, body: &[u8]) {
        self.push((SUBSYSTEM << 8) | kind, flags, [family, 0, 0, 0], body);
    }

    /// The beginning or the end of a transaction names whose it is.
    fn batch(&mut self, kind: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        self.push(kind, 0, [0, 0, high, low], &[]);
    }

    /// Asks for an answer to the newest.
    fn ask(&mut self) {
        // The flags stand behind the length and the kind.
        if let Some(flags) = self.bytes.get_mut(self.newest + 6..).and_then(|rest| rest.first_chunk_mut::<2>()) {
            *flags = (u16::from_ne_bytes(*flags) | ACK).to_ne_bytes();
        }
    }

    fn push(&mut self, kind: u16, flags: u16, inner: [u8; 4], body: &[u8]) {
        self.count += 1;
        self.newest = self.bytes.len();
        let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        // The kernel answers to whom the socket belongs.
        self.bytes.extend([0; 4]);
        self.bytes.extend(inner);
        self.bytes.extend(body);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The kind (without the subsystem) and the flags of each message.
    fn headers(mut bytes: &[u8]) -> Vec<(u16, u16)> {
        let mut found = Vec::new();
        while let Some(length) = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length)) {
            let half = |at: usize| u16::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
            found.push((half(4) & 0xff, half(6)));
            bytes = &bytes[usize::try_from(length).unwrap()..];
        }
        found
    }

    #[test]
    fn only_the_last_of_a_transaction_asks_for_an_answer() {
        let tuples = [("10.244.1.5:4000", "10.96.0.10:53"), ("[fd00::5]:4000", "[fd00::a]:53")];
        for (from, to) in tuples {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            for transport in [Transport::Udp, Transport::Tcp] {
                let begun = headers(&begin(Tuple { transport, from, to }));
                let asks: Vec<usize> = (0..begun.len()).filter(|n| begun[*n].1 & ACK != 0).collect();
                assert_eq!(asks, [begun.len() - 2], "before the end of the transaction: {begun:?}");
                assert_eq!(begun[begun.len() - 2].0, NEW_RULE);
                assert_eq!((begun[0].0, begun[begun.len() - 1].0), (BATCH_BEGIN, BATCH_END));
            }
            let ended = headers(&end(to.ip()));
            assert_eq!(ended.iter().map(|(_, flags)| flags & ACK != 0).collect::<Vec<_>>(), [false, true, false]);
        }
    }
}
