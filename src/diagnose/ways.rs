//! The ways of asking beside the rounds: each once, from the one vantage.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Observation, PathKey, ProbeItem, ProbeRequest, Purpose, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Transport};
use nameward_messages::{Mono, RequestId};

/// Nameservers that are asked of one resolv.conf: more than resolvers read are shown by the file itself.
const SERVERS: usize = 4;

/// The label of a way of asking: part of the documented output.
pub(super) fn way(purpose: &Purpose) -> &'static str {
    match purpose {
        Purpose::Round | Purpose::Confirm | Purpose::Verify { .. } => "plain",
        Purpose::HeldPort => "held-port",
        Purpose::Patience => "patience",
        Purpose::Edns => "edns",
        Purpose::Both => "both-types",
        Purpose::Diagnosis => "resolver",
    }
}

/// What to ask: every server that the rounds ask, in every other way, and the servers that the vantage's own resolver is
/// configured with.
pub(super) fn items<'a>(
    vantage: &Vantage,
    asked: impl Iterator<Item = &'a Observation>,
    servers: &[IpAddr],
    external: bool,
) -> Vec<ProbeItem> {
    let mut items = Vec::new();
    let mut known = BTreeSet::new();
    for seen in asked {
        known.insert(seen.path.target.ip);
        let ways: &[Purpose] = match (seen.path.question, seen.path.transport) {
            (QuestionKind::Internal, Transport::Udp) => {
                &[Purpose::HeldPort, Purpose::Patience, Purpose::Edns, Purpose::Both]
            }
            (QuestionKind::Internal, Transport::Tcp) | (QuestionKind::External, Transport::Udp) => &[Purpose::Patience],
            _ => &[],
        };
        items.extend(ways.iter().map(|purpose| ProbeItem {
            path: seen.path.clone(),
            port: seen.port,
            purpose: purpose.clone(),
        }));
    }
    // Whatever such a server serves, it must reply: which answer is right is not ours to say.
    let question = if external { QuestionKind::External } else { QuestionKind::Internal };
    for ip in servers.iter().filter(|ip| known.insert(**ip)).take(SERVERS) {
        for transport in [Transport::Udp, Transport::Tcp] {
            let target = Target { kind: TargetKind::Upstream, ip: *ip };
            let path = PathKey { vantage: vantage.clone(), target, transport, question };
            items.push(ProbeItem { path, port: 53, purpose: Purpose::Diagnosis });
        }
    }
    items
}

pub(super) fn request(now: Mono, items: Vec<ProbeItem>) -> ProbeRequest {
    // Not one of the mind's own ids.
    ProbeRequest { id: RequestId::from("every-way"), items, deadline: now + Duration::from_secs(10) }
}
