//! What a server can be told while it runs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

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
    /// `exit CODE`.
    Exit(u8),
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
            ["exit", code] => Self::Exit(code.parse().map_err(|_| no())?),
            _ => return Err(no()),
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
            Self::Exit(code) => write!(f, "exit {code}"),
        }
    }
}
