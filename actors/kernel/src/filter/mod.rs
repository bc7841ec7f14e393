//! A packet, walked through the packet filters as they were read: which rule decides, or that it cannot be told.
//!
//! Both iptables backends, foreign nftables tables and kube-proxy's nftables table are walked together, in the order of
//! their priorities, as the kernel does. Nothing is guessed: a match that is not understood, or that depends on what is not
//! known of the packet, makes a doubt; a fate with a doubt that could have changed it is not certain. What depends on
//! nothing but a part that cannot matter (a log, a comment, a counter) makes none.
//!
//! The kernel's order of tables at a hook: `enum nf_ip_hook_priorities` of `linux/netfilter_ipv4.h`.

mod bases;
mod chains;
mod journey;
mod kube_proxy;
mod native;
mod places;
#[cfg(test)]
mod tests;
mod walk;
mod xtables;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nameward_messages::targets::Transport;
use serde::{Deserialize, Serialize};

use crate::facts::Netfilter;
use crate::iptables::RuleSet;
use crate::nft::{KubeProxyTable, Native};

pub use journey::{Ground, Way, answer, journey};
pub use places::{Owner, moved_drops, owner, packets_at};

/// Where in the kernel's path a chain hooks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

impl Hook {
    /// As iptables names the chain.
    #[must_use]
    pub fn chain(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }

    /// As nft names it.
    #[must_use]
    pub fn nft(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// A device of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "device", content = "name")]
pub enum Device {
    /// There is none at this hook.
    Absent,
    /// Its name.
    Named(String),
    /// Not known.
    #[default]
    Unknown,
}

/// Conntrack's view of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The first packet of a flow.
    New,
    /// One of a flow that was answered.
    Established,
}

/// A packet: what is known of it. `None` is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// UDP or TCP (then a SYN, or a SYN and ACK in an established flow).
    pub protocol: Transport,
    /// From; the unspecified address stands for one that is not known.
    pub source: IpAddr,
    /// From this port; `None` is an ephemeral one.
    pub source_port: Option<u16>,
    /// To.
    pub destination: IpAddr,
    /// To this port; `None` is an ephemeral one.
    pub destination_port: Option<u16>,
    /// The device it came in by.
    pub iif: Device,
    /// The device it leaves by.
    pub oif: Device,
    /// Its mark.
    pub mark: Option<u32>,
    /// Conntrack's state.
    pub state: State,
    /// Whether its flow's destination was translated.
    pub dnat: bool,
    /// The destination before translation, if it was translated.
    pub original: Option<SocketAddr>,
    /// The user whose socket sent it (OUTPUT only).
    pub uid: Option<u32>,
    /// Whether the destination is an address of this namespace.
    pub to_local: Option<bool>,
    /// Whether the source is an address of this namespace.
    pub from_local: Option<bool>,
}

impl Packet {
    /// A new flow's first packet, to port 53 from an ephemeral port, of which nothing else is known.
    #[must_use]
    pub fn new(protocol: Transport, source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self {
            protocol,
            source,
            source_port: None,
            destination,
            destination_port: Some(port),
            iif: Device::Unknown,
            oif: Device::Unknown,
            mark: Some(0),
            state: State::New,
            dnat: false,
            original: None,
            uid: None,
            to_local: None,
            from_local: None,
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |p: Option<u16>| p.map_or_else(|| "*".to_owned(), |p| p.to_string());
        let (from, to) = (port(self.source_port), port(self.destination_port));
        write!(f, "{} {}:{from} -> {}:{to}", self.protocol, self.source, self.destination)
    }
}

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// iptables' nft backend.
    IptablesNft,
    /// iptables' legacy backend.
    IptablesLegacy,
    /// nftables itself.
    Nft,
}

impl Backend {
    /// The program that shows them.
    #[must_use]
    pub fn shown_by(self) -> &'static str {
        match self {
            Self::IptablesNft => "iptables-nft-save",
            Self::IptablesLegacy => "iptables-legacy-save",
            Self::Nft => "nft list ruleset",
        }
    }
}

/// One rule, or the policy of a chain: what a person finds again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Where it stands.
    pub backend: Backend,
    /// `filter`, or `inet firewalld`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's text; `None` is the chain's policy.
    pub rule: Option<String>,
    /// Which of several rules with the same text, from 0.
    pub nth: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "table {}, chain {}: {rule}", self.table, self.chain),
            None => write!(f, "table {}, policy of chain {}", self.table, self.chain),
        }
    }
}

/// What a rule or a policy does to a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and the sender is told.
    Reject {
        /// How: `icmp-port-unreachable`, `icmpx admin-prohibited`, `tcp-reset`, …
        with: String,
    },
    /// Its destination becomes one of these.
    Dnat {
        /// Address and port.
        to: Vec<SocketAddr>,
    },
    /// Its destination becomes this host.
    Redirect {
        /// The port; `None` keeps it.
        port: Option<u16>,
    },
    /// Something that cannot be followed: handed to a program, to another table of the kernel.
    Elsewhere {
        /// What.
        what: String,
    },
}

impl Verdict {
    /// Whether the packet is gone.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Drop | Self::Reject { .. })
    }

    /// Whether both have the same effect on the packet, as far as its arrival goes.
    #[must_use]
    pub fn like(&self, other: &Self) -> bool {
        self == other || (self.is_loss() && other.is_loss())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reject { with } => write!(f, "reject with {with}"),
            Self::Dnat { to } => {
                let to: Vec<String> = to.iter().take(8).map(ToString::to_string).collect();
                write!(f, "dnat to {}", to.join(" or "))
            }
            Self::Redirect { port: Some(port) } => write!(f, "redirect to own port {port}"),
            Self::Redirect { port: None } => f.write_str("redirect to this host"),
            Self::Elsewhere { what } => f.write_str(what),
        }
    }
}

/// One rule that a packet met on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// At which hook.
    pub hook: Hook,
    /// Which rule or policy.
    pub place: Place,
    /// Its counter, if it has one.
    pub packets: Option<u64>,
    /// What it does, for people: `jump KUBE-SERVICES`, `accept`, `mark 0x4000`.
    pub does: String,
    /// `None`: it matches for certain. Else why that is not certain.
    pub doubt: Option<String>,
}

/// A rule that may have decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Which.
    pub place: Place,
    /// What it would do.
    pub verdict: Verdict,
    /// Its counter, if it has one.
    pub packets: Option<u64>,
    /// Why it is not known: `match recent`, `the device is not known`.
    pub why: String,
}

/// How a walk ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// What happens to the packet if none of the doubts is true.
    pub fate: Verdict,
    /// Who decides so; `None` when nothing is there that could.
    pub place: Option<Place>,
    /// Its counter, if it has one.
    pub packets: Option<u64>,
    /// What may have decided otherwise.
    pub doubts: Vec<Doubt>,
    /// The rules that it met.
    pub steps: Vec<Step>,
    /// The translation of its destination on the way, with who made it.
    pub translated: Option<(Verdict, Place)>,
    /// The packet as it leaves.
    pub packet: Packet,
}

impl Walk {
    /// Whether the fate is certain: what is in doubt would have the same effect.
    #[must_use]
    pub fn certain(&self) -> bool {
        self.doubts.iter().all(|d| d.verdict.like(&self.fate))
    }

    /// What is not understood, in one line.
    #[must_use]
    pub fn not_understood(&self) -> Option<String> {
        let first = self.doubts.iter().find(|d| !d.verdict.like(&self.fate))?;
        Some(format!("{}: not understood: {}", first.place, first.why))
    }
}

/// The packet filters of one namespace, as far as they were read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filters<'a> {
    /// iptables' nft backend.
    pub iptables_nft: Option<&'a RuleSet>,
    /// iptables' legacy backend.
    pub iptables_legacy: Option<&'a RuleSet>,
    /// kube-proxy's nftables table.
    pub kube_proxy: Option<&'a KubeProxyTable>,
    /// Everybody else's nftables tables.
    pub native: Option<&'a Native>,
}

impl<'a> Filters<'a> {
    /// Of what was read.
    #[must_use]
    pub fn of(read: &'a Netfilter) -> Self {
        Self {
            iptables_nft: read.iptables_nft.value(),
            iptables_legacy: read.iptables_legacy.value(),
            kube_proxy: read.kube_proxy_nft.value(),
            native: read.native.value(),
        }
    }

    /// What is there and could not be read, so that a walk may miss it.
    #[must_use]
    pub fn unread(read: &Netfilter) -> Vec<String> {
        use crate::facts::Reading;
        let mut missing = Vec::new();
        let mut note = |name: &str, why: Option<String>| missing.extend(why.map(|why| format!("{name}: {why}")));
        fn why<T>(reading: &Reading<T>) -> Option<String> {
            match reading {
                Reading::Read(_) | Reading::NotPresent(_) | Reading::NotRead => None,
                other => other.missing().map(str::to_owned),
            }
        }
        note("iptables-nft", why(&read.iptables_nft));
        note("iptables-legacy", why(&read.iptables_legacy));
        note("nftables", why(&read.native));
        missing
    }
}
