//! What a server can be told while it runs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::process::ProcessFault;

/// One line of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `ok`: no faults.
    Ok,
    /// `udp close`: the UDP socket is closed; the kernel refuses with ICMP.
    UdpClose,
    /// `udp open`: it is opened again, or read again.
    UdpOpen,
    /// `udp stuck`: the UDP socket stays, nobody reads it.
    UdpStuck,
    /// `udp drop`: queries by UDP are read and not answered.
    UdpDrop,
    /// `tcp close`: no TCP listener.
    TcpClose,
    /// `tcp open`.
    TcpOpen,
    /// `delay MILLISECONDS`: answers are late.
    Delay(u64),
    /// `servfail`, `refuse`, `nxdomain`: this code for everything.
    Code(Code),
    /// `wrong IP`: this address for every name.
    Wrong(IpAddr),
    /// `truncate`: by UDP, only TC and no answer; whole by TCP.
    Truncate,
    /// `garbage`: by UDP, bytes that are no DNS message behind the right id; TCP is well.
    Garbage,
    /// `health CODE`: what `/health` says, for example 503.
    Health(u16),
    /// `ready CODE`: what `/ready` says.
    Ready(u16),
    /// `record NAME IP`: one more record.
    Record(String, IpAddr),
    /// `instead NAME IP`: this address and no other for one name.
    Instead(String, IpAddr),
    /// `wildcard IP`: this address for every name of the zone that does not exist.
    Wildcard(IpAddr),
    /// `zone NAME`: serves this zone, with a final dot, instead of `cluster.local.`.
    Zone(String),
    /// `aaaa nxdomain|servfail|refuse|drop`: this for every AAAA query.
    Aaaa(Aaaa),
    /// `bufsize OCTETS`: by UDP, longer answers are cut, whatever the client says.
    BufSize(u16),
    /// `forget NAME`: it does not exist, whatever the API says.
    Forget(String),
    /// `no-reverse`: the reverse zones are not served; what they are asked goes to the upstream.
    NoReverse,
    /// `large NAME COUNT`: so many addresses under one name.
    Large(String, u16),
    /// `forward IP IP…`: other upstreams, in turn.
    Forward(Vec<IpAddr>),
    /// `unsynced`, `forbidden`, `forward-limit`, `capacity QUERIES`: see [`ProcessFault`].
    Process(ProcessFault),
    /// `exit CODE`.
    Exit(u8),
}

/// What becomes of AAAA queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aaaa {
    /// This code.
    Code(Code),
    /// No answer.
    Drop,
}

/// Response codes that can be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// NXDOMAIN.
    NxDomain,
}

/// A line that is no command.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no command")]
pub struct NoCommand(String);

impl FromStr for Command {
    type Err = NoCommand;

    fn from_str(line: &str) -> Result<Self, NoCommand> {
        let no = || NoCommand(line.to_owned());
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["ok"] => Self::Ok,
            ["udp", "close"] => Self::UdpClose,
            ["udp", "open"] => Self::UdpOpen,
            ["udp", "stuck"] => Self::UdpStuck,
            ["udp", "drop"] => Self::UdpDrop,
            ["tcp", "close"] => Self::TcpClose,
            ["tcp", "open"] => Self::TcpOpen,
            ["delay", ms] => Self::Delay(ms.parse().map_err(|_| no())?),
            ["servfail"] => Self::Code(Code::ServFail),
            ["refuse"] => Self::Code(Code::Refused),
            ["nxdomain"] => Self::Code(Code::NxDomain),
            ["wrong", ip] => Self::Wrong(ip.parse().map_err(|_| no())?),
            ["truncate"] => Self::Truncate,
            ["garbage"] => Self::Garbage,
            ["health", code] => Self::Health(code.parse().map_err(|_| no())?),
            ["ready", code] => Self::Ready(code.parse().map_err(|_| no())?),
            ["record", name, ip] => Self::Record((*name).to_owned(), ip.parse().map_err(|_| no())?),
            ["instead", name, ip] => Self::Instead(name.to_lowercase(), ip.parse().map_err(|_| no())?),
            ["wildcard", ip] => Self::Wildcard(ip.parse().map_err(|_| no())?),
            ["zone", name] if name.ends_with('.') => Self::Zone(name.to_lowercase()),
            ["aaaa", "drop"] => Self::Aaaa(Aaaa::Drop),
            ["aaaa", code] => match code.parse()? {
                Self::Code(code) => Self::Aaaa(Aaaa::Code(code)),
                _ => return Err(no()),
            },
            ["bufsize", octets] => Self::BufSize(octets.parse().map_err(|_| no())?),
            ["forget", name] if name.ends_with('.') => Self::Forget(name.to_lowercase()),
            ["no-reverse"] => Self::NoReverse,
            ["large", name, count] => Self::Large(name.to_lowercase(), count.parse().map_err(|_| no())?),
            ["forward", servers @ ..] if !servers.is_empty() => {
                let servers: Result<Vec<IpAddr>, _> = servers.iter().map(|ip| ip.parse()).collect();
                Self::Forward(servers.map_err(|_| no())?)
            }
            ["exit", code] => Self::Exit(code.parse().map_err(|_| no())?),
            _ => Self::Process(line.parse().map_err(|_| no())?),
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::UdpClose => f.write_str("udp close"),
            Self::UdpOpen => f.write_str("udp open"),
            Self::UdpStuck => f.write_str("udp stuck"),
            Self::UdpDrop => f.write_str("udp drop"),
            Self::TcpClose => f.write_str("tcp close"),
            Self::TcpOpen => f.write_str("tcp open"),
            Self::Delay(ms) => write!(f, "delay {ms}"),
            Self::Code(Code::ServFail) => f.write_str("servfail"),
            Self::Code(Code::Refused) => f.write_str("refuse"),
            Self::Code(Code::NxDomain) => f.write_str("nxdomain"),
            Self::Wrong(ip) => write!(f, "wrong {ip}"),
            Self::Truncate => f.write_str("truncate"),
            Self::Garbage => f.write_str("garbage"),
            Self::Health(code) => write!(f, "health {code}"),
            Self::Ready(code) => write!(f, "ready {code}"),
            Self::Record(name, ip) => write!(f, "record {name} {ip}"),
            Self::Instead(name, ip) => write!(f, "instead {name} {ip}"),
            Self::Wildcard(ip) => write!(f, "wildcard {ip}"),
            Self::Zone(name) => write!(f, "zone {name}"),
            Self::Aaaa(Aaaa::Drop) => f.write_str("aaaa drop"),
            Self::Aaaa(Aaaa::Code(code)) => write!(f, "aaaa {}", Self::Code(*code)),
            Self::BufSize(octets) => write!(f, "bufsize {octets}"),
            Self::Forget(name) => write!(f, "forget {name}"),
            Self::NoReverse => f.write_str("no-reverse"),
            Self::Large(name, count) => write!(f, "large {name} {count}"),
            Self::Forward(servers) => {
                f.write_str("forward")?;
                servers.iter().try_for_each(|ip| write!(f, " {ip}"))
            }
            Self::Process(fault) => fault.fmt(f),
            Self::Exit(code) => write!(f, "exit {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_is_written() {
        for line in [
            "wrong 10.0.0.1",
            "instead kubernetes.default.svc.cluster.local. 10.96.0.99",
            "wildcard 198.51.100.9",
            "zone corp.local.",
            "aaaa drop",
            "aaaa nxdomain",
            "aaaa servfail",
            "bufsize 512",
            "forget kube-dns.kube-system.svc.cluster.local.",
            "no-reverse",
            "large many.default.svc.cluster.local. 80",
            "forward 172.30.0.254 172.30.0.253",
        ] {
            assert_eq!(line.parse::<Command>().unwrap().to_string(), line);
        }
        for line in ["aaaa ok", "zone corp.local", "forward", "large x", "instead x", "forget x"] {
            assert!(line.parse::<Command>().is_err(), "{line}");
        }
    }
}
