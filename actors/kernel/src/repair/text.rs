//! A change and an image in words for people: the command that does the same, and what was there.

use std::fmt;

use super::{Change, Image, Place, Sysctl};

impl Place {
    /// What stands before a command that is meant for this place.
    fn prefix(&self) -> String {
        match self {
            Self::Host => String::new(),
            Self::Pod { path, .. } => format!("nsenter --net={} ", path.display()),
        }
    }
}

impl Sysctl {
    /// Its file under `/proc/sys`. `None`: the device's name cannot be part of a path.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        let device = |device: &str, name: &str| {
            let plain = !device.is_empty() && !device.contains('/') && !device.starts_with('.') && device.len() < 16;
            plain.then(|| format!("/proc/sys/net/ipv4/conf/{device}/{name}"))
        };
        match self {
            Self::IpForward => Some("/proc/sys/net/ipv4/ip_forward".to_owned()),
            Self::Forwarding(link) => device(link, "forwarding"),
            Self::BridgeNfCallIptables => Some("/proc/sys/net/bridge/bridge-nf-call-iptables".to_owned()),
            Self::RpFilter(link) => device(link, "rp_filter"),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IpForward => f.write_str("net.ipv4.ip_forward"),
            Self::Forwarding(link) => write!(f, "net.ipv4.conf.{link}.forwarding"),
            Self::BridgeNfCallIptables => f.write_str("net.bridge.bridge-nf-call-iptables"),
            Self::RpFilter(link) => write!(f, "net.ipv4.conf.{link}.rp_filter"),
        }
    }
}

/// The command by which a person would make the change.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultRoute { place, link, gateway } => {
                write!(f, "{}ip route replace default via {gateway} dev {}", place.prefix(), link.name)
            }
            Self::LinkUp { place, link } => write!(f, "{}ip link set dev {} up", place.prefix(), link.name),
            Self::AttachVeth { veth, bridge } => {
                write!(f, "ip link set dev {} master {}", veth.name, bridge.name)
            }
            Self::Hairpin { veth } => write!(f, "bridge link set dev {} hairpin on", veth.name),
            Self::DropNeighbour { place, link, ip, .. } => {
                write!(f, "{}ip neigh del {ip} dev {}", place.prefix(), link.name)
            }
            Self::BridgeAddress { bridge, ip, prefix } => {
                write!(f, "ip address add {ip}/{prefix} broadcast + dev {}", bridge.name)
            }
            Self::Sysctl { name, value } => write!(f, "sysctl -w {name}={value}"),
            Self::DropFlows { flows } => {
                let Some(first) = flows.first() else { return f.write_str("nothing") };
                let (from, to) = (first.original.source, first.original.destination);
                write!(
                    f,
                    "conntrack -D -p udp --orig-src {} --sport {} --orig-dst {} --dport {}",
                    from.ip(),
                    from.port(),
                    to.ip(),
                    to.port()
                )?;
                if flows.len() > 1 { write!(f, " (and {} more entries)", flows.len() - 1) } else { Ok(()) }
            }
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Routes(routes) => match routes.as_slice() {
                [] => f.write_str("no default route"),
                [one] => match one.gateway {
                    Some(gateway) => write!(f, "default via {gateway}"),
                    None => f.write_str("default on link"),
                },
                more => write!(f, "{} default routes", more.len()),
            },
            Self::Up(up) => f.write_str(if *up { "up" } else { "down" }),
            Self::Bridge(None) => f.write_str("on no bridge"),
            Self::Bridge(Some(index)) => write!(f, "on the bridge with index {index}"),
            Self::Hairpin(None) => f.write_str("no bridge port"),
            Self::Hairpin(Some(on)) => write!(f, "hairpin {}", if *on { "on" } else { "off" }),
            Self::Neighbour(None) => f.write_str("no entry"),
            Self::Neighbour(Some(entry)) => {
                write!(f, "{}{}", entry.mac, if entry.permanent { " (permanent)" } else { "" })
            }
            Self::Addresses(all) if all.is_empty() => f.write_str("no address"),
            Self::Addresses(all) => {
                let all: Vec<String> = all.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect();
                f.write_str(&all.join(", "))
            }
            Self::Value(value) => value.fmt(f),
            Self::Flows(flows) => write!(f, "{} entries", flows.len()),
        }
    }
}
