//! One DNS exchange: encoding a question, waiting for a valid reply, judging it.
//!
//! What is pure (codec and judgement) needs no feature; [`udp`] and [`tcp`] talk over sockets that were opened inside a
//! namespace ([`crate::sockets`]) and wait on the runtime's workers, wherever the socket leads.
//!
//! Invariant: nothing is ever concluded from a reply that is malformed or does not match. The wait goes on.

pub mod judge;
pub mod message;

#[cfg(feature = "io")]
mod errqueue;
#[cfg(feature = "io")]
pub mod tcp;
#[cfg(feature = "io")]
pub mod udp;

pub use judge::judge;
pub use message::{Ignored, Query, Reply, Said};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nameward_messages::probe::{Expect, Outcome};

/// One question to one server.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Whom.
    pub to: SocketAddr,
    /// What, encoded.
    pub query: Arc<Query>,
    /// What counts as right.
    pub expect: Arc<Expect>,
    /// The message's id: random, fresh for every exchange.
    pub id: u16,
}

/// What came of one [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// The outcome.
    pub outcome: Outcome,
    /// From sending (for TCP: from connecting) to the outcome.
    pub latency: Duration,
    /// For TCP: the time to connect, if it connected.
    pub connect: Option<Duration>,
}
