//! What came of a probe.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What came of one probe. The short form that matrices show stands before each description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// `ok`: the expected answer.
    Answered,
    /// `TO`: nothing came in time. For TCP: no connection.
    Timeout,
    /// `REF@x`: ECONNREFUSED.
    Refused {
        /// Who sent the ICMP error (`SO_EE_OFFENDER`); for TCP, the address that was asked.
        by: Option<IpAddr>,
    },
    /// `EPERM`: a hook of the namespace's own OUTPUT refused, or its conntrack table is full.
    NotPermitted,
    /// `ENETU`: no route.
    NetworkUnreachable,
    /// `EHOST`: ICMP destination unreachable other than port, or no neighbour.
    HostUnreachable {
        /// Who sent the ICMP error, if one came.
        by: Option<IpAddr>,
        /// ICMP type.
        icmp_type: Option<u8>,
        /// ICMP code.
        icmp_code: Option<u8>,
    },
    /// `ENOBUFS`.
    NoBuffers,
    /// `WS`: only replies from somebody else came.
    WrongSource {
        /// Who replied.
        from: SocketAddr,
    },
    /// `SF`, `NX`, `RFD`, …: a reply with another response code than the expected one.
    Rcode {
        /// The response code's number (RFC 1035 section 4.1.1): 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
        rcode: u16,
    },
    /// `TC`: truncated, over UDP.
    Truncated,
    /// The right code, but other addresses than the API says.
    WrongAnswer {
        /// What was answered (at most 8).
        got: Vec<IpAddr>,
    },
    /// TCP connected, but no answer came in time: a hung process still completes the handshake.
    ConnectedOnly,
    /// TCP connected and was closed or reset without an answer.
    Closed,
    /// The question was not asked: our own trouble, never a failure of DNS.
    NotAsked {
        /// Why.
        why: NotAsked,
    },
}

/// Why a question was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotAsked {
    /// The namespace vanished: its pod ended.
    NamespaceGone,
    /// We may not enter the namespace or open the socket.
    NoPermission,
    /// Descriptors, threads or memory ran out.
    NoResources,
    /// The local side failed in another way.
    LocalError,
}

/// [`Outcome`] without its details: the label of metrics and of digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // One for one the variants of `Outcome`.
pub enum OutcomeKind {
    Answered,
    Timeout,
    Refused,
    NotPermitted,
    NetworkUnreachable,
    HostUnreachable,
    NoBuffers,
    WrongSource,
    ServFail,
    NxDomain,
    RcodeRefused,
    RcodeOther,
    Truncated,
    WrongAnswer,
    ConnectedOnly,
    Closed,
    NotAsked,
}

impl OutcomeKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 17] = [
        Self::Answered,
        Self::Timeout,
        Self::Refused,
        Self::NotPermitted,
        Self::NetworkUnreachable,
        Self::HostUnreachable,
        Self::NoBuffers,
        Self::WrongSource,
        Self::ServFail,
        Self::NxDomain,
        Self::RcodeRefused,
        Self::RcodeOther,
        Self::Truncated,
        Self::WrongAnswer,
        Self::ConnectedOnly,
        Self::Closed,
        Self::NotAsked,
    ];

    /// Whether the server's process was reached and replied, be it wrongly.
    #[must_use]
    pub fn replied(self) -> bool {
        matches!(
            self,
            Self::Answered
                | Self::ServFail
                | Self::NxDomain
                | Self::RcodeRefused
                | Self::RcodeOther
                | Self::Truncated
                | Self::WrongAnswer
        )
    }

    /// The metric label, the same text as in JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::NotPermitted => "not-permitted",
            Self::NetworkUnreachable => "network-unreachable",
            Self::HostUnreachable => "host-unreachable",
            Self::NoBuffers => "no-buffers",
            Self::WrongSource => "wrong-source",
            Self::ServFail => "serv-fail",
            Self::NxDomain => "nx-domain",
            Self::RcodeRefused => "rcode-refused",
            Self::RcodeOther => "rcode-other",
            Self::Truncated => "truncated",
            Self::WrongAnswer => "wrong-answer",
            Self::ConnectedOnly => "connected-only",
            Self::Closed => "closed",
            Self::NotAsked => "not-asked",
        }
    }

    /// The short form of the fault catalogue, for matrices.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Answered => "ok",
            Self::Timeout => "TO",
            Self::Refused => "REF",
            Self::NotPermitted => "EPERM",
            Self::NetworkUnreachable => "ENETU",
            Self::HostUnreachable => "EHOST",
            Self::NoBuffers => "ENOBUFS",
            Self::WrongSource => "WS",
            Self::ServFail => "SF",
            Self::NxDomain => "NX",
            Self::RcodeRefused => "RFD",
            Self::RcodeOther => "RC",
            Self::Truncated => "TC",
            Self::WrongAnswer => "WRONG",
            Self::ConnectedOnly => "CONN",
            Self::Closed => "CLOSED",
            Self::NotAsked => "-",
        }
    }
}

impl Outcome {
    /// Without details.
    #[must_use]
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Answered => OutcomeKind::Answered,
            Self::Timeout => OutcomeKind::Timeout,
            Self::Refused { .. } => OutcomeKind::Refused,
            Self::NotPermitted => OutcomeKind::NotPermitted,
            Self::NetworkUnreachable => OutcomeKind::NetworkUnreachable,
            Self::HostUnreachable { .. } => OutcomeKind::HostUnreachable,
            Self::NoBuffers => OutcomeKind::NoBuffers,
            Self::WrongSource { .. } => OutcomeKind::WrongSource,
            Self::Rcode { rcode: 2 } => OutcomeKind::ServFail,
            Self::Rcode { rcode: 3 } => OutcomeKind::NxDomain,
            Self::Rcode { rcode: 5 } => OutcomeKind::RcodeRefused,
            Self::Rcode { .. } => OutcomeKind::RcodeOther,
            Self::Truncated => OutcomeKind::Truncated,
            Self::WrongAnswer { .. } => OutcomeKind::WrongAnswer,
            Self::ConnectedOnly => OutcomeKind::ConnectedOnly,
            Self::Closed => OutcomeKind::Closed,
            Self::NotAsked { .. } => OutcomeKind::NotAsked,
        }
    }

    /// `Some(true)` for a success, `Some(false)` for a failure of DNS, `None` when nothing was learned.
    #[must_use]
    pub fn good(&self) -> Option<bool> {
        match self {
            Self::Answered => Some(true),
            Self::NotAsked { .. } => None,
            Self::Timeout
            | Self::Refused { .. }
            | Self::NotPermitted
            | Self::NetworkUnreachable
            | Self::HostUnreachable { .. }
            | Self::NoBuffers
            | Self::WrongSource { .. }
            | Self::Rcode { .. }
            | Self::Truncated
            | Self::WrongAnswer { .. }
            | Self::ConnectedOnly
            | Self::Closed => Some(false),
        }
    }

    /// Whether the server's process was reached and replied, be it wrongly.
    #[must_use]
    pub fn replied(&self) -> bool {
        self.kind().replied()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { by: Some(ip) } => write!(f, "refused by {ip}"),
            Self::HostUnreachable { by: Some(ip), icmp_code: Some(code), .. } => {
                write!(f, "unreachable (ICMP code {code}) by {ip}")
            }
            Self::WrongSource { from } => write!(f, "reply from wrong source {from}"),
            Self::Rcode { rcode } => write!(f, "rcode {rcode}"),
            Self::WrongAnswer { got } => write!(f, "wrong answer {got:?}"),
            Self::Answered
            | Self::Timeout
            | Self::Refused { .. }
            | Self::NotPermitted
            | Self::NetworkUnreachable
            | Self::HostUnreachable { .. }
            | Self::NoBuffers
            | Self::Truncated
            | Self::ConnectedOnly
            | Self::Closed
            | Self::NotAsked { .. } => f.write_str(self.kind().label()),
        }
    }
}
