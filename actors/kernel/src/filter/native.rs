//! What one rule of nftables says of a packet, from nft's own JSON (`libnftables-json(5)`).

use std::net::IpAddr;

use nameward_messages::targets::Transport;
use serde_json::Value;

use super::xtables::{Does, Tri, either, is_protocol, port_in, within};
use super::{Device, Packet, State, Verdict};
use crate::nft::native::{NativeRule, NativeTable};

/// What a rule comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whether its matches hold.
    pub(super) matches: Tri,
    /// What it does then, in order; a map may give several, of which one happens.
    pub(super) does: Vec<Does>,
    /// Which of several it is, is not known.
    pub(super) one_of: Option<String>,
}

/// Evaluates a rule.
pub(super) fn rule(rule: &NativeRule, table: &NativeTable, packet: &Packet) -> Rule {
    let mut found = Rule { matches: Tri::Yes, does: Vec::new(), one_of: None };
    for statement in &rule.expr {
        let Some((kind, body)) = statement.as_object().and_then(|o| o.iter().next()) else { continue };
        match kind.as_str() {
            "match" => {
                let holds = matches(body, table, packet);
                if holds == Tri::No {
                    return Rule { matches: Tri::No, does: Vec::new(), one_of: None };
                }
                if found.matches == Tri::Yes {
                    found.matches = holds;
                }
            }
            "vmap" => vmap(body, table, packet, &mut found),
            // They let through a part of what matches.
            "limit" | "quota" | "ct count" | "last" | "connlimit" => {
                found.matches = Tri::Unknown(format!("match {kind}"));
            }
            "xt" => {
                let name = body.get("name").and_then(Value::as_str).unwrap_or("?");
                match (body.get("type").and_then(Value::as_str), name) {
                    (Some("match"), "comment") => {}
                    (Some("match"), _) => found.matches = Tri::Unknown(format!("match {name}")),
                    _ => found.does.push(Does::Decides(Verdict::Elsewhere { what: format!("target {name}") })),
                }
            }
            _ => found.does.extend(does(kind, body)),
        }
    }
    found
}

fn does(kind: &str, body: &Value) -> Option<Does> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    Some(match kind {
        "accept" | "snat" | "masquerade" => Does::Decides(Verdict::Accept),
        "drop" => Does::Decides(Verdict::Drop),
        "reject" => {
            let with = [text("type"), text("expr")].join(" ").trim().to_owned();
            let with = if with.is_empty() { "icmpx port-unreachable".to_owned() } else { with };
            Does::Decides(Verdict::Reject { with })
        }
        "return" => Does::Return,
        "jump" => Does::Jump(text("target").to_owned()),
        "goto" => Does::Goto(text("target").to_owned()),
        "notrack" => Does::NoTrack,
        "redirect" => Does::Decides(Verdict::Redirect {
            port: body.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()),
        }),
        "dnat" => Does::Decides(dnat(body)),
        "queue" => Does::Decides(Verdict::Elsewhere { what: "queued to a program".to_owned() }),
        "tproxy" | "fwd" | "synproxy" => Does::Decides(Verdict::Elsewhere { what: kind.to_owned() }),
        "mangle" => mangle(body)?,
        // counter, log, comment, set updates, ct helper, meta priority, dup: the packet goes on.
        _ => return None,
    })
}

fn mangle(body: &Value) -> Option<Does> {
    let key = body.get("key")?.get("meta")?.get("key")?.as_str()?;
    if key != "mark" {
        return None;
    }
    let value = body.get("value")?;
    let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    if let Some(set) = number(value) {
        return Some(Does::Mark { clear: u32::MAX, set });
    }
    let pair = |op: &str| value.get(op)?.as_array().and_then(|p| number(p.get(1)?));
    Some(if let Some(set) = pair("|") {
        Does::Mark { clear: set, set }
    } else if let Some(set) = pair("^") {
        Does::Mark { clear: 0, set }
    } else if let Some(keep) = pair("&") {
        Does::Mark { clear: !keep, set: 0 }
    } else {
        Does::MarkUnknown
    })
}

fn dnat(body: &Value) -> Verdict {
    let port = body.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
    match body.get("addr") {
        Some(Value::String(ip)) => match ip.parse::<IpAddr>() {
            // Port 0 stands for the port that was asked.
            Ok(ip) => Verdict::Dnat { to: vec![(ip, port.unwrap_or(0)).into()] },
            Err(_) => Verdict::Elsewhere { what: format!("dnat to {ip}") },
        },
        _ => {
            let to = crate::nft::sends_to(body);
            if to.is_empty() { Verdict::Elsewhere { what: "dnat by a map".to_owned() } } else { Verdict::Dnat { to } }
        }
    }
}

fn vmap(body: &Value, table: &NativeTable, packet: &Packet, found: &mut Rule) {
    let Some(key) = body.get("key") else { return };
    let pairs: &[Value] = match body.get("data") {
        Some(Value::String(name)) => match table.sets.get(name.trim_start_matches('@')) {
            Some(pairs) => pairs,
            None => {
                found.matches = Tri::Unknown(format!("map {name}"));
                return;
            }
        },
        Some(data) => data.get("set").and_then(Value::as_array).map_or(&[], Vec::as_slice),
        None => return,
    };
    let mut possible = Vec::new();
    let mut doubt = None;
    for pair in pairs {
        let (Some(element), Some(verdict)) = (pair.get(0), pair.get(1)) else { continue };
        let Some((kind, inside)) = verdict.as_object().and_then(|o| o.iter().next()) else { continue };
        let Some(what) = does(kind, inside) else { continue };
        match meets(key, plain(element), table, packet) {
            Tri::Yes if doubt.is_none() => {
                found.does.push(what);
                return;
            }
            Tri::Yes => possible.push(what),
            Tri::Unknown(why) => {
                doubt.get_or_insert(why);
                possible.push(what);
            }
            Tri::No => {}
        }
    }
    if possible.is_empty() {
        // No element: the rule ends here without a verdict.
        found.matches = Tri::No;
    } else {
        found.does.extend(possible);
        found.one_of = doubt;
    }
}

fn matches(body: &Value, table: &NativeTable, packet: &Packet) -> Tri {
    let (Some(left), Some(right)) = (body.get("left"), body.get("right")) else {
        return Tri::Unknown("a match without sides".to_owned());
    };
    let negated = match body.get("op").and_then(Value::as_str) {
        Some("==" | "in") => false,
        Some("!=") => true,
        other => return Tri::Unknown(format!("operator {}", other.unwrap_or("?"))),
    };
    meets(left, right, table, packet).not(negated)
}

/// An element, or its value when it carries a comment, a time-out or a counter.
fn plain(element: &Value) -> &Value {
    element.get("elem").and_then(|e| e.get("val")).unwrap_or(element)
}

/// Whether what `left` names of the packet is `right`, or one of `right`.
fn meets(left: &Value, right: &Value, table: &NativeTable, packet: &Packet) -> Tri {
    let list = match right {
        Value::String(name) if name.starts_with('@') => match table.sets.get(&name[1..]) {
            Some(list) => Some(list.as_slice()),
            None => return Tri::Unknown(format!("set {name}")),
        },
        Value::Array(list) => Some(list.as_slice()),
        Value::Object(o) => o.get("set").and_then(Value::as_array).map(Vec::as_slice),
        _ => None,
    };
    if let Some(list) = list {
        return list.iter().fold(Tri::No, |so_far, one| match so_far {
            Tri::Yes => Tri::Yes,
            other => either(other, meets_one(left, plain(one), packet)),
        });
    }
    meets_one(left, right, packet)
}

fn meets_one(left: &Value, right: &Value, packet: &Packet) -> Tri {
    let Some((kind, body)) = left.as_object().and_then(|o| o.iter().next()) else {
        return Tri::Unknown("an expression".to_owned());
    };
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    match kind.as_str() {
        "concat" => {
            let (Some(parts), Some(values)) =
                (body.as_array(), right.get("concat").and_then(Value::as_array).filter(|v| !v.is_empty()))
            else {
                return Tri::Unknown("a concatenation".to_owned());
            };
            let mut doubt = None;
            for (part, value) in parts.iter().zip(values) {
                match meets_one(part, value, packet) {
                    Tri::No => return Tri::No,
                    Tri::Unknown(why) => doubt = doubt.or(Some(why)),
                    Tri::Yes => {}
                }
            }
            doubt.map_or(Tri::Yes, Tri::Unknown)
        }
        "payload" => payload(text("protocol"), text("field"), right, packet),
        "meta" => meta(text("key"), right, packet),
        "ct" => ct(text("key"), text("dir"), right, packet),
        "fib" if text("result") == "type" => {
            let flags = body.get("flags").map(Value::to_string).unwrap_or_default();
            let local = if flags.contains("daddr") { packet.to_local } else { packet.from_local };
            match right.as_str() {
                Some("local") => Tri::of(local, "whether the address is local"),
                Some("unicast") => Tri::of(local.map(|l| !l), "whether the address is local"),
                Some("broadcast" | "multicast" | "anycast") => Tri::No,
                _ => Tri::Unknown("fib".to_owned()),
            }
        }
        "&" => {
            let Some(parts) = body.as_array() else { return Tri::Unknown("a mask".to_owned()) };
            let is_mark = parts.first().and_then(|p| p.get("meta")?.get("key")?.as_str()) == Some("mark");
            let mask = parts.get(1).and_then(Value::as_u64);
            if let (true, Some(mask), Some(value)) = (is_mark, mask, right.as_u64()) {
                return Tri::of(packet.mark.map(|m| u64::from(m) & mask == value), "the packet's mark");
            }
            let flags = parts.first().and_then(|p| p.get("payload")?.get("field")?.as_str()) == Some("flags");
            if flags && right.as_str() == Some("syn") {
                return Tri::of(Some(packet.protocol == Transport::Tcp && packet.state == State::New), "");
            }
            Tri::Unknown("a masked match".to_owned())
        }
        other => Tri::Unknown(format!("match {other}")),
    }
}

fn payload(protocol: &str, field: &str, right: &Value, packet: &Packet) -> Tri {
    let v4 = packet.destination.is_ipv4();
    match (protocol, field) {
        ("ip", _) if !v4 => Tri::No,
        ("ip6", _) if v4 => Tri::No,
        ("ip" | "ip6", "saddr") => address(packet.source, right),
        ("ip" | "ip6", "daddr") => address(packet.destination, right),
        ("ip", "protocol") | ("ip6", "nexthdr") => l4(packet.protocol, right),
        ("ip", "version") => Tri::of(right.as_u64().map(|n| n == 4), "a version"),
        ("udp", _) if packet.protocol != Transport::Udp => Tri::No,
        ("tcp", _) if packet.protocol != Transport::Tcp => Tri::No,
        ("udp" | "tcp" | "th", "dport") => port(packet.destination_port, right),
        ("udp" | "tcp" | "th", "sport") => port(packet.source_port, right),
        ("tcp", "flags") if right.as_str() == Some("syn") => Tri::of(Some(packet.state == State::New), ""),
        ("icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "udplite" | "esp" | "ah" | "gre" | "arp", _) => Tri::No,
        _ => Tri::Unknown(format!("match {protocol} {field}")),
    }
}

fn meta(key: &str, right: &Value, packet: &Packet) -> Tri {
    let v4 = packet.destination.is_ipv4();
    match key {
        "l4proto" => l4(packet.protocol, right),
        "nfproto" => Tri::of(right.as_str().map(|f| (f == "ipv4") == v4), "a family"),
        "protocol" => Tri::of(right.as_str().map(|f| f == if v4 { "ip" } else { "ip6" }), "a protocol"),
        "iifname" | "iif" => device(&packet.iif, right),
        "oifname" | "oif" => device(&packet.oif, right),
        "mark" => Tri::of(packet.mark.zip(right.as_u64()).map(|(m, n)| u64::from(m) == n), "the packet's mark"),
        "skuid" => match (packet.uid, right) {
            (Some(uid), Value::Number(n)) => Tri::of(n.as_u64().map(|n| n == u64::from(uid)), "an owner"),
            (Some(uid), Value::String(name)) => Tri::of((name == "root").then_some(uid == 0), "an owner by name"),
            _ => Tri::Unknown("whose socket sent it".to_owned()),
        },
        "pkttype" => Tri::of(right.as_str().map(|t| t == "unicast" || t == "host"), "a packet type"),
        other => Tri::Unknown(format!("match meta {other}")),
    }
}

fn ct(key: &str, dir: &str, right: &Value, packet: &Packet) -> Tri {
    let original = packet.original;
    match (key, dir) {
        ("state", _) => Tri::of(
            right.as_str().map(|s| match s {
                "new" => packet.state == State::New,
                "established" => packet.state == State::Established,
                _ => false,
            }),
            "a state",
        ),
        ("status", _) => match right.as_str() {
            Some("dnat") => Tri::of(Some(packet.dnat), ""),
            other => Tri::Unknown(format!("match ct status {}", other.unwrap_or("?"))),
        },
        ("direction", _) => {
            Tri::of(right.as_str().map(|d| (d == "original") == (packet.state == State::New)), "a direction")
        }
        ("ip daddr" | "daddr", "original") => address(original.map_or(packet.destination, |o| o.ip()), right),
        ("proto-dst", "original") => port(original.map(|o| o.port()).or(packet.destination_port), right),
        ("l3proto", _) => Tri::of(right.as_str().map(|f| (f == "ipv4") == packet.destination.is_ipv4()), "a family"),
        ("protocol", _) => l4(packet.protocol, right),
        _ => Tri::Unknown(format!("match ct {key}")),
    }
}

fn l4(protocol: Transport, right: &Value) -> Tri {
    match right {
        Value::String(name) => Tri::of(Some(is_protocol(protocol, name)), ""),
        Value::Number(n) => Tri::of(Some(is_protocol(protocol, &n.to_string())), ""),
        _ => Tri::Unknown("a protocol".to_owned()),
    }
}

fn address(ip: IpAddr, right: &Value) -> Tri {
    if ip.is_unspecified() {
        return Tri::Unknown("from which address it comes".to_owned());
    }
    let unknown = || Tri::Unknown(format!("address {right}"));
    if let Some(text) = right.as_str() {
        return text.parse::<IpAddr>().map_or_else(|_| unknown(), |wanted| Tri::of(Some(wanted == ip), ""));
    }
    if let Some(prefix) = right.get("prefix") {
        let net = prefix.get("addr").and_then(Value::as_str).and_then(|a| a.parse().ok());
        let bits = prefix.get("len").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        return match (net, bits) {
            (Some(net), Some(bits)) => Tri::of(Some(within(ip, net, bits)), ""),
            _ => unknown(),
        };
    }
    let ends = right.get("range").and_then(Value::as_array);
    let end = |n: usize| ends?.get(n)?.as_str()?.parse::<IpAddr>().ok();
    match (end(0), end(1)) {
        (Some(from), Some(to)) => Tri::of(Some(from.is_ipv4() == ip.is_ipv4() && (from..=to).contains(&ip)), ""),
        _ => unknown(),
    }
}

fn port(port: Option<u16>, right: &Value) -> Tri {
    let number = |v: &Value| v.as_u64().and_then(|n| u16::try_from(n).ok());
    if let Some(wanted) = number(right) {
        return port_in(port, wanted, wanted);
    }
    let ends = right.get("range").and_then(Value::as_array);
    let end = |n: usize| number(ends?.get(n)?);
    match (end(0), end(1)) {
        (Some(from), Some(to)) => port_in(port, from, to),
        // A service by its name: only this one is of interest.
        _ if right.as_str() == Some("domain") => port_in(port, 53, 53),
        _ => Tri::Unknown(format!("port {right}")),
    }
}

fn device(device: &Device, right: &Value) -> Tri {
    let Some(wanted) = right.as_str() else { return Tri::Unknown(format!("device {right}")) };
    let wanted = wanted.strip_suffix('*').map_or_else(|| wanted.to_owned(), |start| format!("{start}+"));
    super::xtables::device(device, &wanted)
}
