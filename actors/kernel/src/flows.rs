//! Conntrack's entries for a few destinations, put together by where their answers are awaited from: a busy node has thousands
//! of them, and a rule needs to know only which endpoints they lead to, how many were answered, and an example.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use nameward_messages::targets::Transport;
use serde::{Deserialize, Serialize};

use crate::conntrack::Flow;

/// Most groups that are kept: more endpoints than any DNS Service has.
pub const MAX_GROUPS: usize = 512;
/// Most examples of one group.
pub const EXAMPLES: usize = 64;

/// Entries that agree in what matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowGroup {
    /// UDP or TCP.
    pub transport: Transport,
    /// What the clients asked.
    pub destination: SocketAddr,
    /// Where the answers are awaited from: the endpoint that was chosen. Equal to the destination when no rule applied.
    pub endpoint: SocketAddr,
    /// Whether the clients' own addresses were replaced on the way out.
    pub masqueraded: bool,
    /// Entries with an answer.
    pub replied: u32,
    /// Entries without one.
    pub unreplied: u32,
    /// Clients of these entries, at most [`EXAMPLES`], sorted.
    pub clients: Vec<SocketAddr>,
    /// Clients of entries without an answer, at most [`EXAMPLES`], sorted.
    pub unanswered: Vec<SocketAddr>,
}

impl FlowGroup {
    /// No rule sent these anywhere else than where the clients sent them.
    #[must_use]
    pub fn untranslated(&self) -> bool {
        self.endpoint == self.destination
    }

    /// Not every client is named.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.replied.saturating_add(self.unreplied) as usize > self.clients.len()
    }
}

type Key = (SocketAddr, Transport, SocketAddr, bool);

#[derive(Debug, Default)]
struct Counted {
    replied: u32,
    unreplied: u32,
    clients: BTreeSet<SocketAddr>,
    unanswered: BTreeSet<SocketAddr>,
}

/// The smallest ones are kept, so that two dumps of the same table show the same ones.
fn keep(kept: &mut BTreeSet<SocketAddr>, client: SocketAddr) {
    kept.insert(client);
    if kept.len() > EXAMPLES {
        kept.pop_last();
    }
}

/// Takes entries in and gives groups: bounded, whatever the number of entries.
#[derive(Debug, Default)]
pub struct Gather {
    wanted: BTreeSet<SocketAddr>,
    groups: BTreeMap<Key, Counted>,
    left_out: bool,
}

impl Gather {
    /// For these destinations.
    #[must_use]
    pub fn new(wanted: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { wanted: wanted.into_iter().collect(), ..Self::default() }
    }

    /// Takes one entry; those for other destinations are passed by.
    pub fn take(&mut self, flow: &Flow) {
        if !self.wanted.contains(&flow.original.destination) {
            return;
        }
        let masqueraded = flow.reply.destination.ip() != flow.original.source.ip();
        let key = (flow.original.destination, flow.transport, flow.reply.source, masqueraded);
        if !self.groups.contains_key(&key) && self.groups.len() >= MAX_GROUPS {
            self.left_out = true;
            return;
        }
        let counted = self.groups.entry(key).or_default();
        keep(&mut counted.clients, flow.original.source);
        if flow.replied {
            counted.replied = counted.replied.saturating_add(1);
        } else {
            counted.unreplied = counted.unreplied.saturating_add(1);
            keep(&mut counted.unanswered, flow.original.source);
        }
    }

    /// The groups, sorted; `None` when there were more than [`MAX_GROUPS`].
    #[must_use]
    pub fn done(self) -> Option<Vec<FlowGroup>> {
        if self.left_out {
            return None;
        }
        let group = |((destination, transport, endpoint, masqueraded), counted): (Key, Counted)| FlowGroup {
            transport,
            destination,
            endpoint,
            masqueraded,
            replied: counted.replied,
            unreplied: counted.unreplied,
            clients: counted.clients.into_iter().collect(),
            unanswered: counted.unanswered.into_iter().collect(),
        };
        Some(self.groups.into_iter().map(group).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::conntrack::Tuple;

    fn flow(from: &str, to: &str, endpoint: &str, back_to: &str, replied: bool) -> Flow {
        let at = |text: &str| text.parse().unwrap();
        Flow {
            transport: Transport::Udp,
            original: Tuple { source: at(from), destination: at(to) },
            reply: Tuple { source: at(endpoint), destination: at(back_to) },
            replied,
        }
    }

    #[test]
    fn entries_are_put_together_by_endpoint() {
        let service = "10.96.0.10:53";
        let mut gather = Gather::new([service.parse().unwrap()]);
        for (from, endpoint, replied) in [
            ("10.244.1.52:4000", "10.244.1.51:53", true),
            ("10.244.1.52:4001", "10.244.1.51:53", false),
            ("10.244.1.52:4002", "10.96.0.10:53", false),
        ] {
            gather.take(&flow(from, service, endpoint, from, replied));
        }
        gather.take(&flow("172.30.0.11:4003", service, "10.244.1.51:53", "10.244.1.1:4003", true));
        gather.take(&flow("10.244.1.52:4004", "10.96.0.1:443", "172.30.0.254:6443", "10.244.1.52:4004", true));
        let groups = gather.done().unwrap();
        let short: Vec<_> =
            groups.iter().map(|g| (g.endpoint.to_string(), g.masqueraded, g.replied, g.unreplied)).collect();
        assert_eq!(
            short,
            [
                ("10.96.0.10:53".to_owned(), false, 0, 1),
                ("10.244.1.51:53".to_owned(), false, 1, 1),
                ("10.244.1.51:53".to_owned(), true, 1, 0),
            ]
        );
        assert!(groups[0].untranslated() && !groups[1].untranslated());
        assert_eq!(groups[1].unanswered, ["10.244.1.52:4001".parse().unwrap()]);
        assert_eq!((groups[1].clients.len(), groups[1].is_cut()), (2, false));
    }

    #[test]
    fn it_is_bounded() {
        let service = "10.96.0.10:53";
        let mut gather = Gather::new([service.parse().unwrap()]);
        for port in 1..=2000_u16 {
            let from = format!("10.244.1.52:{port}");
            gather.take(&flow(&from, service, "10.244.1.51:53", &from, false));
        }
        let groups = gather.done().unwrap();
        assert_eq!((groups[0].unreplied, groups[0].unanswered.len()), (2000, EXAMPLES));
        assert!(groups[0].is_cut());
        let mut gather = Gather::new([service.parse().unwrap()]);
        for port in 1..=1000_u16 {
            let from = format!("10.244.1.52:{port}");
            gather.take(&flow(&from, service, &format!("10.244.1.51:{port}"), &from, false));
        }
        assert!(gather.done().is_none());
    }
}
