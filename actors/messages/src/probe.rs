//! One probe: what was asked, from where, and what came of it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::RequestId;
use crate::namespaces::Vantage;
use crate::targets::{Target, Transport};
use crate::time::{Mono, Now};

mod outcome;

pub use self::outcome::{NotAsked, Outcome, OutcomeKind};

/// A question with the answer that counts as right.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// Which of the kinds of names it is.
    pub kind: QuestionKind,
    /// Absolute name, with its final dot.
    pub name: String,
    /// A or AAAA.
    pub qtype: QueryType,
    /// What counts as right.
    pub expect: Expect,
}

/// Kinds of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum QuestionKind {
    /// `kubernetes.default.svc.<domain>.`: answered by CoreDNS itself.
    Internal,
    /// A name outside the cluster: answered by way of the upstream.
    External,
    /// A name from the configuration.
    Extra,
    /// The internal name, asked from a source port that is kept from round to round (UDP to the Service): a stale conntrack
    /// entry fails it and nothing else (F02).
    Held,
    /// The internal name's other address type: AAAA where A is asked. NOERROR is right, with or without records (F49).
    OtherType,
    /// The PTR of the `kubernetes` Service's address: CoreDNS answers it itself where its Corefile names the reverse zones,
    /// so that a name that does not exist is no failure of it.
    Reverse,
    /// A name that must not exist, new each time: anything but NXDOMAIN is wrong (F48).
    Absent,
    /// A name with a big answer, if one is configured: with EDNS over UDP, and over TCP (F27, F28).
    Large,
}

impl QuestionKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Internal,
        Self::External,
        Self::Extra,
        Self::Held,
        Self::OtherType,
        Self::Reverse,
        Self::Absent,
        Self::Large,
    ];

    /// For people: what is asked.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Internal => "internal name",
            Self::External => "external name",
            Self::Extra => "extra name",
            Self::Held => "held port",
            Self::OtherType => "other address type",
            Self::Reverse => "reverse",
            Self::Absent => "absent name",
            Self::Large => "large answer",
        }
    }
}

/// Query types that we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum QueryType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Name of an address.
    Ptr,
    /// Text.
    Txt,
}

/// What counts as a right answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "expect", content = "addresses")]
pub enum Expect {
    /// NOERROR with exactly these addresses, in any order.
    Addresses(Vec<IpAddr>),
    /// NOERROR with at least one record of the type.
    SomeAddress,
    /// NOERROR; the answer may be empty.
    NoError,
    /// NXDOMAIN.
    NoSuchName,
    /// NOERROR with at least one record of the type, be it a name or a text.
    SomeRecord,
    /// NOERROR or NXDOMAIN: the server has made up its mind.
    Settled,
    /// As [`Expect::SomeRecord`], or the bit TC: a resolver would go on over TCP. What is asked is whether it arrives.
    Arrives,
    /// Any well-formed reply with a matching id and question.
    AnyReply,
}

/// Why a probe was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "purpose")]
pub enum Purpose {
    /// Part of the periodic round.
    Round,
    /// One of the three fresh-port probes after a failure.
    Confirm,
    /// Asked by diagnosis: a held source port.
    HeldPort,
    /// Asked by diagnosis: 4 s of patience.
    Patience,
    /// Asked by diagnosis: EDNS with a large buffer.
    Edns,
    /// Asked by diagnosis: A and AAAA on one socket.
    Both,
    /// Asked by diagnosis: a target outside the rounds (an upstream).
    Diagnosis,
    /// Asked by the coordinator or by a remedy that verifies.
    Verify {
        /// Which request.
        request: RequestId,
    },
}

/// The path of a probe: what it says is about this path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathKey {
    /// From where.
    pub vantage: Vantage,
    /// To what.
    pub target: Target,
    /// How.
    pub transport: Transport,
    /// Which kind of name.
    pub question: QuestionKind,
}

impl fmt::Display for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} over {}", self.vantage, self.target, self.transport)?;
        // The internal name is what is asked unless it is said.
        if self.question == QuestionKind::Internal { Ok(()) } else { write!(f, " ({})", self.question.label()) }
    }
}

/// One probe's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When it ended.
    pub at: Mono,
    /// Its path.
    pub path: PathKey,
    /// Port that was asked.
    pub port: u16,
    /// What came of it.
    pub outcome: Outcome,
    /// From sending to the outcome.
    #[serde(rename = "latency_us", with = "micros")]
    pub latency: Duration,
    /// For TCP: time to connect, if it connected.
    #[serde(rename = "connect_us", with = "opt_micros", default)]
    pub connect: Option<Duration>,
    /// Why it was sent.
    pub purpose: Purpose,
}

impl Observation {
    /// When it was sent. What is lost ends long after what is answered: in the order of their ends, a query lost before a
    /// change comes after one that was answered behind it.
    #[must_use]
    pub fn sent(&self) -> Mono {
        self.at - self.latency
    }
}

/// One sweep: all that is asked at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Counts up from 1 in a process.
    pub number: u64,
    /// When it began.
    pub began: Now,
    /// When the last answer or time-out was in.
    pub ended: Now,
    /// The period in force: how often a path of this round is asked, all shares considered.
    pub period: Duration,
    /// Its results.
    pub observations: Vec<Observation>,
}

/// A path that failed its confirmation: at least two of three fresh-port probes failed after a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// When it became suspected.
    pub at: Now,
    /// Which path.
    pub path: PathKey,
    /// The first failure and the confirmations.
    pub observations: Vec<Observation>,
}

/// What the prober tells.
#[derive(Clone, Debug)]
pub enum ProberTells {
    /// A sweep ended.
    Round(Arc<Round>),
    /// A path is suspected. Told once until it clears.
    Suspected(Arc<Suspicion>),
    /// A suspected path answered again (two successes in a row), or left the set of paths.
    Cleared {
        /// When.
        at: Now,
        /// Which path.
        path: PathKey,
        /// `true`: it answers again. `false`: vantage or target are gone.
        recovered: bool,
    },
    /// A request is done.
    Answer(Arc<ProbeAnswer>),
}

/// A request for probes outside the rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Comes back in the answer.
    pub id: RequestId,
    /// What to ask and how.
    pub items: Vec<ProbeItem>,
    /// Ask no later than this.
    pub deadline: Mono,
}

/// One path to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeItem {
    /// The path.
    pub path: PathKey,
    /// Port to ask.
    pub port: u16,
    /// Shape of the probe.
    pub purpose: Purpose,
}

/// What came of a [`ProbeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// Of which request.
    pub id: RequestId,
    /// When it was done.
    pub at: Now,
    /// One per item that was asked; items whose vantage or target is gone are missing.
    pub observations: Vec<Observation>,
}

mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_micros)
    }
}

mod opt_micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option)] // serde's `with` gives this shape.
    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(v) => s.serialize_some(&u64::try_from(v.as_micros()).unwrap_or(u64::MAX)),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_micros))
    }
}
