//! nftrace: what the kernel tells of a packet that is traced through nf_tables, rule by rule. iptables-nft's rules are rules
//! of nf_tables and are told of too; iptables-legacy's are not.
//!
//! The messages: `enum nft_trace_attributes` and `enum nft_rule_attributes` of `linux/netfilter/nf_tables.h`; who sends
//! them: `net/netfilter/nf_tables_trace.c`.

use serde::{Deserialize, Serialize};

mod attributes;
mod found;
#[cfg(test)]
mod tests;

pub use attributes::{Attribute, attributes};
pub use found::{Dropped, Followed, Followings};

/// The table of ours that is there while a probe is traced. Whoever reads packet filters leaves it out.
pub const TABLE: &str = "nameward-trace";
/// Most events that are taken of one traced probe.
pub const MAX_EVENTS: usize = 256;
/// Most octets of a table's or chain's name (`NFT_NAME_MAXLEN`).
const MAX_NAME: usize = 256;

/// One message of nf_tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A traced packet met something.
    Event(Event),
    /// A rule of a chain that was asked for.
    Rule {
        /// Its handle.
        handle: u64,
    },
    /// A request was done (`None`), or refused with this number of an error.
    Ack(Option<i32>),
    /// A dump has ended.
    Done,
}

/// A traced packet met a rule or the end of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `ip`, `ip6`, `inet`, … of the table.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What it met.
    pub kind: Kind,
    /// The rule's handle.
    pub handle: Option<u64>,
    /// What became of the packet.
    pub verdict: Option<Decision>,
    /// The packet's number, the same from event to event.
    pub packet: u32,
    /// Source and destination port, where the packet's headers are told: at its first event in each base chain.
    pub ports: Option<(u16, u16)>,
}

/// What a traced packet met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The policy of a base chain.
    Policy,
    /// The end of a chain, or a return.
    Return,
    /// A rule.
    Rule,
}

/// What became of a packet at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "decision", content = "to")]
pub enum Decision {
    /// It is gone, be it silently or with an answer to the sender.
    Drop,
    /// It goes on to the next base chain.
    Accept,
    /// It goes on to the next rule.
    Continue,
    /// To another chain, and back.
    Jump(String),
    /// To another chain.
    Goto(String),
    /// Back to the chain before.
    Return,
    /// It was handed to a program, or kept by the kernel.
    Elsewhere,
}

impl Decision {
    /// `NF_*` of `linux/netfilter.h`, and `enum nft_verdicts`.
    fn of(code: u32, chain: Option<String>) -> Self {
        match i32::from_ne_bytes(code.to_ne_bytes()) {
            -1 | -2 => Self::Continue,
            -3 => Self::Jump(chain.unwrap_or_default()),
            -4 => Self::Goto(chain.unwrap_or_default()),
            -5 => Self::Return,
            // The upper bits hold an error number or the number of a queue.
            _ => match code & 0xff {
                0 => Self::Drop,
                1 => Self::Accept,
                _ => Self::Elsewhere,
            },
        }
    }
}

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWRULE`.
const NEW_RULE: u16 = (SUBSYSTEM << 8) | 6;
/// `NFT_MSG_TRACE`.
const TRACE: u16 = (SUBSYSTEM << 8) | 17;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Octets of a netlink header, and of netfilter's own behind it.
const HEADER: usize = 16;
const INNER: usize = 4;

/// Reads what one `recv` of a netlink socket brought. Any bytes may be given: what is not understood is left out.
#[must_use]
pub fn parse(packet: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = packet;
    while let Some((kind, body, after)) = split(rest) {
        rest = after;
        if messages.len() >= MAX_EVENTS {
            break;
        }
        match kind {
            ERROR => messages.extend(body.first_chunk().map(|code| {
                let code = i32::from_ne_bytes(*code);
                Message::Ack((code != 0).then(|| code.saturating_neg()))
            })),
            DONE => messages.push(Message::Done),
            TRACE => messages.extend(event(body).map(Message::Event)),
            NEW_RULE => messages.extend(rule(body)),
            _ => {}
        }
    }
    messages
}

/// The kind and the body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    // Messages are padded to four octets.
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, after))
}

fn family(number: u8) -> String {
    // NFPROTO_* of linux/netfilter.h.
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        other => return other.to_string(),
    }
    .to_owned()
}

fn event(body: &[u8]) -> Option<Event> {
    let mut found = Event {
        family: family(*body.first()?),
        table: String::new(),
        chain: String::new(),
        kind: Kind::Rule,
        handle: None,
        verdict: None,
        packet: 0,
        ports: None,
    };
    let mut policy = None;
    let mut known = false;
    for attribute in attributes(body.get(INNER..)?) {
        match attribute.kind {
            1 => found.table = attribute.text(MAX_NAME)?,
            2 => found.chain = attribute.text(MAX_NAME)?,
            3 => found.handle = attribute.u64(),
            4 => {
                found.kind = match attribute.u32()? {
                    1 => Kind::Policy,
                    2 => Kind::Return,
                    3 => Kind::Rule,
                    _ => return None,
                };
                known = true;
            }
            5 => found.verdict = verdict(attribute.value),
            6 => found.packet = attribute.u32()?,
            9 => {
                let port = |at: usize| Some(u16::from_be_bytes(*attribute.value.get(at..)?.first_chunk()?));
                found.ports = port(0).zip(port(2));
            }
            16 => policy = attribute.u32().map(|code| Decision::of(code, None)),
            _ => {}
        }
    }
    found.verdict = found.verdict.or(policy);
    (known && !found.table.is_empty() && !found.chain.is_empty()).then_some(found)
}

/// `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
fn verdict(nested: &[u8]) -> Option<Decision> {
    let (mut code, mut chain) = (None, None);
    for attribute in attributes(nested) {
        match attribute.kind {
            1 => code = attribute.u32(),
            2 => chain = attribute.text(MAX_NAME),
            _ => {}
        }
    }
    code.map(|code| Decision::of(code, chain))
}

/// `NFTA_RULE_HANDLE`.
fn rule(body: &[u8]) -> Option<Message> {
    let handle = attributes(body.get(INNER..)?).find(|attribute| attribute.kind == 3)?.u64()?;
    Some(Message::Rule { handle })
}
