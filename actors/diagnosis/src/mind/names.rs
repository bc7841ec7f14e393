//! What is asked apart about names and answers: a second word of what failed, and what tells the causes apart.

use std::net::IpAddr;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Transport};

use super::DiagnosisMind;
use crate::rules::resolver::READ;

/// Most paths.
const MOST: usize = 8;

impl DiagnosisMind {
    /// The node's own nameservers, while a pod gets them that would need the cluster's.
    fn host_resolver(&self) -> Vec<(PathKey, u16)> {
        let sample = self.case.as_ref().filter(|_| !self.misfits.is_empty()).and_then(|case| case.samples().1);
        let servers = sample.as_ref().and_then(|sample| sample.host.nameservers.value());
        let path = |ip: &IpAddr| PathKey {
            vantage: Vantage::Host,
            target: Target { kind: TargetKind::Nameserver, ip: *ip },
            transport: Transport::Udp,
            question: QuestionKind::Internal,
        };
        servers.into_iter().flatten().take(READ).map(|ip| (path(ip), 53)).collect()
    }

    /// Paths of other kinds than the internal name that fail, and the reverse name where the internal one does not exist.
    pub(super) fn name_paths(&self) -> Vec<(PathKey, u16)> {
        let mut paths = self.host_resolver();
        for (path, state) in self.matrix.suspected() {
            let failing = state.failing.as_ref().unwrap_or(&state.last);
            match path.question {
                QuestionKind::Absent => {
                    paths.push((path.clone(), state.port));
                    paths.push((PathKey { transport: Transport::Tcp, ..path.clone() }, state.port));
                }
                QuestionKind::OtherType => {
                    paths.push((path.clone(), state.port));
                    paths.push((PathKey { question: QuestionKind::Internal, ..path.clone() }, state.port));
                }
                QuestionKind::Large => {
                    paths.push((PathKey { transport: Transport::Udp, ..path.clone() }, state.port));
                    paths.push((PathKey { question: QuestionKind::Internal, ..path.clone() }, state.port));
                }
                QuestionKind::Internal
                    if path.vantage == Vantage::Host
                        && path.transport == Transport::Udp
                        && *failing == (Outcome::Rcode { rcode: 3 }) =>
                {
                    paths.push((PathKey { question: QuestionKind::Reverse, ..path.clone() }, state.port));
                }
                // Whether answers are cut decides whether a blocked TCP harms now.
                QuestionKind::Internal if path.transport == Transport::Tcp => {
                    let large = PathKey { question: QuestionKind::Large, transport: Transport::Udp, ..path.clone() };
                    if self.matrix.get(&large).is_some() {
                        paths.push((large, state.port));
                    }
                }
                QuestionKind::Internal
                | QuestionKind::External
                | QuestionKind::Extra
                | QuestionKind::Held
                | QuestionKind::Reverse => {}
            }
            if paths.len() >= MOST {
                break;
            }
        }
        paths
    }
}
