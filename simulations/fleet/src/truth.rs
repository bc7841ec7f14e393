//! What is wrong in truth. Verdicts and answers follow from it; the checker judges by it.

use nameward_messages::verdict::Cause;
use nameward_messages::{Mono, NodeName, ObjectKey, PodUid};

/// A mebibyte.
pub(crate) const MI: u64 = 1 << 20;

/// A CoreDNS pod: the object and the process in it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) key: ObjectKey,
    pub(crate) uid: PodUid,
    pub(crate) version: u64,
    /// The node's number.
    pub(crate) node: usize,
    pub(crate) ip: std::net::IpAddr,
    pub(crate) created: Mono,
    pub(crate) ready: bool,
    /// On its way out since then.
    pub(crate) terminating: Option<Mono>,
    /// Which template it was made from.
    pub(crate) revision: u64,
    pub(crate) limit: u64,
    pub(crate) restarts: u32,
    pub(crate) oom_at: Option<Mono>,
    /// Its container is on its way up; its end for want of memory is.
    pub(crate) coming: bool,
    pub(crate) starving: bool,
    /// What is wrong with the process, and since when.
    pub(crate) sick: Option<(Cause, Mono)>,
    /// It was sick, or out of reach by its node's fault, until then.
    pub(crate) bad_until: Option<Mono>,
}

impl Pod {
    /// It answers, as far as it is itself concerned.
    pub(crate) fn well(&self) -> bool {
        self.ready && self.sick.is_none() && self.terminating.is_none()
    }

    /// Whether UDP is deaf, and whether TCP is too.
    pub(crate) fn deaf(&self) -> (bool, bool) {
        match self.sick {
            None => (!self.ready, !self.ready),
            Some((Cause::CorednsUdpDead | Cause::CorednsUdpStuck, _)) => (true, !self.ready),
            Some(_) => (true, true),
        }
    }
}

/// A node: the machine and its object.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    /// What is wrong with its network, and since when.
    pub(crate) sick: Option<(Cause, Mono)>,
    /// It was sick until then.
    pub(crate) bad_until: Option<Mono>,
    /// The machine is off.
    pub(crate) down: bool,
    /// As the API says.
    pub(crate) ready: bool,
    pub(crate) cordoned: bool,
    /// It was cordoned until then.
    pub(crate) drained_until: Option<Mono>,
}

impl Node {
    pub(crate) fn works(&self) -> bool {
        !self.down && self.sick.is_none()
    }
}

/// What is wrong with everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    /// The Corefile is bad: every pod that starts is.
    pub(crate) corefile_bad: bool,
    /// The upstream does not answer: names outside of the cluster fail.
    pub(crate) upstream_dead: bool,
    /// CoreDNS needs this much memory; with less it is killed again and again.
    pub(crate) needs: u64,
    /// A replacement of a sick pod is as sick.
    pub(crate) relapse: Option<Cause>,
    /// What is wrong spreads with every act to one more pod.
    pub(crate) contagion: bool,
    /// Of 1000 datagrams, lost.
    pub(crate) loss: u32,
}
