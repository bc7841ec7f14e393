//! When a probe is traced: where a rule that is not understood may have dropped it, twice, a second apart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nameward_kernel::trace::Followed;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Expect, PathKey, QueryType, Question, QuestionKind};
use nameward_messages::targets::Transport;
use nameward_messages::{Mono, Now, PodUid};

use super::{DiagnosisMind, Output};
use crate::judge::Judgement;
use crate::record::{APART, EvidenceRecord, Traced};
use crate::rules::traced;

/// Traces of one path in one place.
const TIMES: u32 = 2;
/// Most traces in one case.
const MOST: u32 = 8;
/// A trace that did not come back within this time is given up.
const LOST: Duration = Duration::from_secs(5);

/// A probe to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantTrace {
    /// Comes back with what was told.
    pub id: u64,
    /// The namespace that the probe is sent from; `None`: the node's own.
    pub from: Option<PathBuf>,
    /// The namespace whose packet filters it is traced in; `None`: the node's own.
    pub at: Option<PathBuf>,
    /// Whom to ask.
    pub to: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// What.
    pub question: Question,
}

/// What is traced in a case.
#[derive(Debug, Default)]
pub(super) struct Tracing {
    asked: BTreeMap<(PathKey, Option<PodUid>), u32>,
    total: u32,
    under_way: Option<(u64, Mono, PathKey, Option<PodUid>)>,
    next: Mono,
    done: Vec<Traced>,
}

impl Tracing {
    /// Takes in what came of a trace.
    pub(super) fn take(&mut self, now: Now, id: u64, followed: Option<Followed>) {
        let Some((asked, at, path, inside)) = self.under_way.take() else { return };
        if asked != id {
            self.under_way = Some((asked, at, path, inside));
            return;
        }
        self.next = now.mono.max(at + APART);
        if let Some(followed) = followed {
            self.done.push(Traced { at, path, inside, followed });
        }
    }

    /// What was told so far, oldest first.
    pub(super) fn done(&self) -> Vec<Traced> {
        self.done.clone()
    }

    fn may(&mut self, now: Now) -> bool {
        if self.under_way.as_ref().is_some_and(|(_, since, ..)| now.mono.since(*since) > LOST) {
            self.under_way = None;
        }
        self.under_way.is_none() && self.total < MOST && now.mono >= self.next
    }

    fn times(&self, path: &PathKey, inside: Option<&PodUid>) -> u32 {
        self.asked.get(&(path.clone(), inside.cloned())).copied().unwrap_or_default()
    }

    fn begin(&mut self, now: Now, id: u64, path: PathKey, inside: Option<PodUid>) {
        *self.asked.entry((path.clone(), inside.clone())).or_default() += 1;
        self.total += 1;
        self.under_way = Some((id, now.mono, path, inside));
    }
}

impl DiagnosisMind {
    /// Has the next probe traced, if one is wanted and the kill switch lets us.
    pub(super) fn trace(&mut self, now: Now, record: &EvidenceRecord, judgement: &Judgement, out: &mut Vec<Output>) {
        let allowed = self.settings.trace && self.switch.is_some_and(|switch| switch.allows(now.mono));
        let Some(case) = self.case.as_mut().filter(|_| allowed) else { return };
        if !record.two_samples() || !case.tracing.may(now) {
            return;
        }
        let wanted = traced::wanted(record, judgement);
        let next = wanted.into_iter().find(|need| case.tracing.times(&need.path, need.inside.as_ref()) < TIMES);
        let Some(need) = next else { return };
        let file = |uid: &PodUid| self.namespaces.get(uid).map(|namespace| namespace.path.clone());
        let from = match &need.path.vantage {
            Vantage::Host => None,
            Vantage::Pod { uid, .. } => match file(uid) {
                Some(file) => Some(file),
                None => return,
            },
        };
        let at = match need.inside.as_ref().map(file) {
            Some(None) => return,
            Some(file) => file,
            None => None,
        };
        self.serial += 1;
        case.tracing.begin(now, self.serial, need.path.clone(), need.inside);
        out.push(Output::Trace(WantTrace {
            id: self.serial,
            from,
            at,
            to: SocketAddr::new(need.path.target.ip, need.port),
            transport: need.path.transport,
            question: question(record, &need.path),
        }));
    }
}

/// The internal name, by the address type that failed.
fn question(record: &EvidenceRecord, path: &PathKey) -> Question {
    let v4 = record.targets.kubernetes_service.first().is_none_or(|ip| ip.is_ipv4());
    let other = path.question == QuestionKind::OtherType;
    let domain = record.targets.cluster_domain.trim_end_matches('.');
    Question {
        kind: path.question,
        name: format!("kubernetes.default.svc.{domain}."),
        qtype: if v4 == other { QueryType::Aaaa } else { QueryType::A },
        expect: Expect::AnyReply,
    }
}
