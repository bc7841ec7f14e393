//! What one rule of iptables says of a packet.

use std::net::IpAddr;

use nameward_messages::targets::Transport;

use super::{Device, Packet, State, Verdict};
use crate::iptables::Rule;

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tri {
    Yes,
    No,
    /// Why it is not known.
    Unknown(String),
}

impl Tri {
    pub(super) fn not(self, negated: bool) -> Self {
        match (self, negated) {
            (Self::Yes, true) => Self::No,
            (Self::No, true) => Self::Yes,
            (other, _) => other,
        }
    }

    pub(super) fn of(known: Option<bool>, why: &str) -> Self {
        match known {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::Unknown(why.to_owned()),
        }
    }
}

/// What a rule does once it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Nothing that changes the packet's way.
    Nothing,
    /// Ends it.
    Decides(Verdict),
    /// Ends the table's translation without one (SNAT and MASQUERADE translate the source alone).
    Return,
    Jump(String),
    Goto(String),
    /// The mark becomes `(mark & !clear) ^ set`.
    Mark {
        clear: u32,
        set: u32,
    },
    /// The mark becomes something that is not known.
    MarkUnknown,
    /// Conntrack does not see the packet: it is not translated.
    NoTrack,
}

/// Ports that a socket without a wish of its own gets (`net.ipv4.ip_local_port_range`'s default).
pub(super) const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// Whether a rule matches.
pub(super) fn matches(rule: &Rule, packet: &Packet) -> Tri {
    let mut doubt = None;
    let words = &rule.words;
    let mut module = "";
    let mut at = 0;
    while at < words.len() {
        let negated = words[at] == "!";
        at += usize::from(negated);
        let Some(option) = words.get(at) else { break };
        let value = |n: usize| words.get(at + n).map_or("", String::as_str);
        let (result, took) = match option.as_str() {
            "-j" | "-g" | "--jump" | "--goto" => break,
            // What a module says comes in its own options; one without options says something by itself.
            "-m" => {
                module = value(1);
                match module {
                    "socket" | "rpfilter" => (Tri::Unknown(format!("match {module}")), 2),
                    _ => (Tri::Yes, 2),
                }
            }
            "--comment" => (Tri::Yes, 2),
            // An accounting object counts and always matches.
            "--nfacct-name" => (Tri::Yes, 2),
            "-s" => (address(packet.source, value(1)), 2),
            "-d" => (address(packet.destination, value(1)), 2),
            "-p" => (protocol(packet.protocol, value(1)), 2),
            "-i" => (device(&packet.iif, value(1)), 2),
            "-o" => (device(&packet.oif, value(1)), 2),
            "--sport" | "--source-port" => (ports(packet.source_port, &[value(1)]), 2),
            "--dport" | "--destination-port" => (ports(packet.destination_port, &[value(1)]), 2),
            "--sports" => (ports(packet.source_port, &split(value(1))), 2),
            "--dports" => (ports(packet.destination_port, &split(value(1))), 2),
            "--ports" => {
                let list = split(value(1));
                (either(ports(packet.source_port, &list), ports(packet.destination_port, &list)), 2)
            }
            "--src-range" => (range(packet.source, value(1)), 2),
            "--dst-range" => (range(packet.destination, value(1)), 2),
            "--ctstate" | "--state" => (state(packet, value(1)), 2),
            "--ctproto" => (protocol(packet.protocol, value(1)), 2),
            "--ctorigdst" => match packet.original {
                Some(to) => (address(to.ip(), value(1)), 2),
                None => (address(packet.destination, value(1)), 2),
            },
            "--ctorigdstport" => (ports(packet.original.map(|o| o.port()).or(packet.destination_port), &[value(1)]), 2),
            "--ctdir" => {
                let original = packet.state == State::New;
                (Tri::of(Some((value(1) == "ORIGINAL") == original), ""), 2)
            }
            "--mark" => (mark(packet.mark, value(1)), 2),
            "--dst-type" => (local(packet.to_local, value(1)), 2),
            "--src-type" => (local(packet.from_local, value(1)), 2),
            "--uid-owner" => (owner(packet.uid, value(1)), 2),
            // Queries are not fragmented.
            "-f" => (Tri::No, 1),
            "--syn" => (tcp_syn(packet), 1),
            "--tcp-flags" if value(1) == "FIN,SYN,RST,ACK" && value(2) == "SYN" => (tcp_syn(packet), 3),
            "--tcp-flags" => (Tri::Unknown("match tcp flags".to_owned()), 3),
            // Of another protocol; the rule's -p has said so already.
            "--icmp-type" | "--icmpv6-type" => (Tri::No, 2),
            other if other.starts_with('-') => {
                let name = if module.is_empty() { other.trim_start_matches('-') } else { module };
                // How many words it takes is not known: those up to the next option.
                let took = 1 + words[at + 1..].iter().take_while(|w| !w.starts_with('-') && *w != "!").count();
                (Tri::Unknown(format!("match {name}")), took)
            }
            _ => (Tri::Yes, 1),
        };
        match result.not(negated) {
            Tri::No => return Tri::No,
            Tri::Unknown(why) => doubt = doubt.or(Some(why)),
            Tri::Yes => {}
        }
        at += took;
    }
    doubt.map_or(Tri::Yes, Tri::Unknown)
}

/// What a rule does.
pub(super) fn does(rule: &Rule, is_chain: impl Fn(&str) -> bool) -> Does {
    let Some(target) = rule.target.as_deref() else { return Does::Nothing };
    match target {
        "ACCEPT" => Does::Decides(Verdict::Accept),
        "DROP" => Does::Decides(Verdict::Drop),
        "REJECT" => {
            let with = rule.arg("--reject-with").unwrap_or("icmp-port-unreachable").to_owned();
            Does::Decides(Verdict::Reject { with })
        }
        "RETURN" => Does::Return,
        "DNAT" => match rule.arg("--to-destination") {
            Some(to) => Does::Decides(dnat(to)),
            None => Does::Decides(Verdict::Elsewhere { what: "DNAT without a destination".to_owned() }),
        },
        "REDIRECT" => {
            let port = rule.arg("--to-ports").map(|p| p.split('-').next().unwrap_or(p).parse());
            match port {
                Some(Ok(port)) => Does::Decides(Verdict::Redirect { port: Some(port) }),
                _ => Does::Decides(Verdict::Redirect { port: None }),
            }
        }
        // They translate the source: the packet goes on.
        "SNAT" | "MASQUERADE" | "NETMAP" => Does::Decides(Verdict::Accept),
        "MARK" => rule.arg("--set-xmark").or_else(|| rule.arg("--set-mark")).map_or(Does::MarkUnknown, |to| {
            let (set, clear) = masked(to);
            match (set, clear) {
                (Some(set), Some(clear)) => Does::Mark { clear, set },
                _ => Does::MarkUnknown,
            }
        }),
        "CONNMARK" if rule.has(&["--restore-mark"]) => Does::MarkUnknown,
        "NOTRACK" => Does::NoTrack,
        "CT" if rule.has(&["--notrack"]) => Does::NoTrack,
        "CT" | "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT" | "CONNMARK" | "CONNSECMARK" | "SECMARK" | "TCPMSS"
        | "TEE" | "CHECKSUM" | "DSCP" | "TOS" | "TTL" | "HL" | "ECN" | "CLASSIFY" | "SET" | "HMARK" | "IDLETIMER"
        | "LED" => Does::Nothing,
        chain if is_chain(chain) => {
            if rule.arg("-g").is_some() {
                Does::Goto(chain.to_owned())
            } else {
                Does::Jump(chain.to_owned())
            }
        }
        other => Does::Decides(Verdict::Elsewhere { what: format!("target {other}") }),
    }
}

fn dnat(to: &str) -> Verdict {
    // `10.0.0.1:53`, `10.0.0.1`, `:53`, ranges.
    if let Ok(address) = to.parse() {
        return Verdict::Dnat { to: vec![address] };
    }
    if let Ok(ip) = to.parse::<IpAddr>() {
        // The port is kept: 0 stands for it here and is filled in by the walk.
        return Verdict::Dnat { to: vec![(ip, 0).into()] };
    }
    if let Some(Ok(port)) = to.strip_prefix(':').map(str::parse) {
        return Verdict::Redirect { port: Some(port) };
    }
    Verdict::Elsewhere { what: format!("DNAT to {to}") }
}

fn split(list: &str) -> Vec<&str> {
    list.split(',').collect()
}

pub(super) fn address(ip: IpAddr, wanted: &str) -> Tri {
    let (net, prefix) = wanted.split_once('/').unwrap_or((wanted, ""));
    let Ok(net) = net.parse::<IpAddr>() else { return Tri::Unknown(format!("address {wanted}")) };
    let whole = if net.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        "" => Some(whole),
        bits if bits.contains('.') => bits.parse::<std::net::Ipv4Addr>().ok().map(|m| u32::from(m).leading_ones()),
        bits => bits.parse().ok(),
    };
    match prefix {
        Some(0) => Tri::of(Some(ip.is_ipv4() == net.is_ipv4()), ""),
        _ if ip.is_unspecified() => Tri::Unknown("from which address it comes".to_owned()),
        Some(prefix) if prefix <= whole => Tri::of(Some(within(ip, net, prefix)), ""),
        _ => Tri::Unknown(format!("address {wanted}")),
    }
}

pub(super) fn within(ip: IpAddr, net: IpAddr, prefix: u32) -> bool {
    match (ip, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            (u32::from(a) ^ u32::from(b)) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            (u128::from(a) ^ u128::from(b)) & mask == 0
        }
        _ => false,
    }
}

fn range(ip: IpAddr, wanted: &str) -> Tri {
    let (from, to) = wanted.split_once('-').unwrap_or((wanted, wanted));
    match (from.parse::<IpAddr>(), to.parse::<IpAddr>()) {
        _ if ip.is_unspecified() => Tri::Unknown("from which address it comes".to_owned()),
        (Ok(from), Ok(to)) => Tri::of(Some((from..=to).contains(&ip) && from.is_ipv4() == ip.is_ipv4()), ""),
        _ => Tri::Unknown(format!("range {wanted}")),
    }
}

fn protocol(protocol: Transport, wanted: &str) -> Tri {
    Tri::of(Some(is_protocol(protocol, wanted)), "")
}

pub(super) fn is_protocol(protocol: Transport, wanted: &str) -> bool {
    match wanted {
        "all" | "0" => true,
        "udp" | "17" => protocol == Transport::Udp,
        "tcp" | "6" => protocol == Transport::Tcp,
        _ => false,
    }
}

/// A device by its name; `+` at the end stands for any rest.
pub(super) fn device(device: &Device, wanted: &str) -> Tri {
    let is = |name: &str| match wanted.strip_suffix('+') {
        Some(start) => name.starts_with(start),
        None => name == wanted,
    };
    match device {
        Device::Named(name) => Tri::of(Some(is(name)), ""),
        Device::Absent => Tri::No,
        Device::Unknown => Tri::Unknown(format!("by which device, {wanted} or another")),
    }
}

fn ports(port: Option<u16>, wanted: &[&str]) -> Tri {
    let mut result = Tri::No;
    for text in wanted {
        let (from, to) = text.split_once(':').unwrap_or((text, text));
        let (from, to) = (if from.is_empty() { "0" } else { from }, if to.is_empty() { "65535" } else { to });
        let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else {
            result = either(result, Tri::Unknown(format!("port {text}")));
            continue;
        };
        result = either(result, port_in(port, from, to));
    }
    result
}

/// Whether a port, or an ephemeral one, lies within.
pub(super) fn port_in(port: Option<u16>, from: u16, to: u16) -> Tri {
    match port {
        Some(port) => Tri::of(Some((from..=to).contains(&port)), ""),
        None if from <= EPHEMERAL.0 && to >= EPHEMERAL.1 => Tri::Yes,
        None if to < EPHEMERAL.0 || from > EPHEMERAL.1 => Tri::No,
        None => Tri::Unknown(format!("whether an ephemeral port lies in {from}-{to}")),
    }
}

pub(super) fn either(a: Tri, b: Tri) -> Tri {
    match (a, b) {
        (Tri::Yes, _) | (_, Tri::Yes) => Tri::Yes,
        (Tri::Unknown(why), _) | (_, Tri::Unknown(why)) => Tri::Unknown(why),
        (Tri::No, Tri::No) => Tri::No,
    }
}

fn state(packet: &Packet, wanted: &str) -> Tri {
    let is = |word: &str| match word {
        "NEW" => packet.state == State::New,
        "ESTABLISHED" => packet.state == State::Established,
        "DNAT" => packet.dnat,
        // Queries are neither; that a packet is INVALID cannot be seen from here, but ours are well-formed.
        _ => false,
    };
    Tri::of(Some(wanted.split(',').any(is)), "")
}

fn mark(mark: Option<u32>, wanted: &str) -> Tri {
    match (mark, masked(wanted)) {
        (Some(mark), (Some(value), Some(mask))) => Tri::of(Some(mark & mask == value), ""),
        (None, _) => Tri::Unknown("the packet's mark".to_owned()),
        _ => Tri::Unknown(format!("mark {wanted}")),
    }
}

/// `VALUE/MASK`, each decimal or hexadecimal.
fn masked(text: &str) -> (Option<u32>, Option<u32>) {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    (number(value), number(mask))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn local(is_local: Option<bool>, wanted: &str) -> Tri {
    match wanted {
        "LOCAL" => Tri::of(is_local, "whether the address is local"),
        "UNICAST" => Tri::of(is_local.map(|local| !local), "whether the address is local"),
        "BROADCAST" | "MULTICAST" | "ANYCAST" | "BLACKHOLE" | "UNREACHABLE" | "PROHIBIT" => Tri::No,
        other => Tri::Unknown(format!("address type {other}")),
    }
}

fn owner(uid: Option<u32>, wanted: &str) -> Tri {
    let (from, to) = wanted.split_once('-').unwrap_or((wanted, wanted));
    match (uid, from.parse(), to.parse()) {
        (Some(uid), Ok(from), Ok(to)) => Tri::of(Some((from..=to).contains(&uid)), ""),
        (None, Ok(_), Ok(_)) => Tri::Unknown("whose socket sent it".to_owned()),
        _ => Tri::Unknown(format!("owner {wanted}")),
    }
}

fn tcp_syn(packet: &Packet) -> Tri {
    Tri::of(Some(packet.protocol == Transport::Tcp && packet.state == State::New), "")
}
