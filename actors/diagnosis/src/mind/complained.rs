//! Complaints of other nodes: a CoreDNS pod of this node that they cannot reach, though nothing may fail from here.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::namespaces::VantageKind;
use nameward_messages::report::Complaint;
use nameward_messages::verdict::DiagnosisTells;
use nameward_messages::{Mono, Now, PodUid};

use super::{DiagnosisMind, Output};
use crate::judge::Judgement;
use crate::matrix::Pick;
use crate::record::EvidenceRecord;

/// Most complaints that are looked into.
const MOST: usize = 8;
/// A complaint is looked into for this long at least before it is said that nothing was found.
const LONG_ENOUGH: Duration = Duration::from_secs(4);
/// A rule that still waits for evidence is waited for no longer than this.
const PATIENCE: Duration = Duration::from_secs(12);

/// The complaints as the coordinator last told them.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    list: Vec<Complaint>,
    /// Since when each pod is complained of.
    since: BTreeMap<PodUid, Mono>,
    /// What was told.
    examined: Vec<PodUid>,
}

impl DiagnosisMind {
    pub(super) fn take_complaints(&mut self, now: Now, mut list: Vec<Complaint>) {
        list.truncate(MOST);
        let news = list.iter().any(|c| !self.complaints.since.contains_key(&c.pod));
        self.complaints.since.retain(|pod, _| list.iter().any(|c| c.pod == *pod));
        for complaint in &list {
            self.complaints.since.entry(complaint.pod.clone()).or_insert(now.mono);
        }
        self.complaints.list = list;
        if let Some(case) = self.case.as_mut().filter(|_| news) {
            case.hurry(now);
        }
    }

    /// The complaints about CoreDNS pods that are here and neither start nor end.
    pub(super) fn complaints_here(&self) -> Vec<Complaint> {
        let here = |complaint: &&Complaint| {
            self.targets
                .pods
                .iter()
                .any(|p| p.uid == complaint.pod && p.node.as_ref() == Some(&self.node) && !p.terminating)
        };
        self.complaints.list.iter().filter(here).cloned().collect()
    }

    /// Says of which pods nothing was found here that explains the complaints.
    pub(super) fn tell_examined(
        &mut self,
        now: Now,
        judged: Option<(&EvidenceRecord, &Judgement)>,
        out: &mut Vec<Output>,
    ) {
        let examined: Vec<PodUid> = match judged {
            Some((record, judgement)) => {
                let done = |c: &&Complaint| self.is_examined(now, &c.pod, record, judgement);
                record.complaints.iter().filter(done).map(|c| c.pod.clone()).collect()
            }
            None => Vec::new(),
        };
        if examined != self.complaints.examined {
            self.complaints.examined.clone_from(&examined);
            out.push(Output::Tell(DiagnosisTells::Examined(examined)));
        }
    }

    fn is_examined(&self, now: Now, pod: &PodUid, record: &EvidenceRecord, judgement: &Judgement) -> bool {
        let Some(since) = self.complaints.since.get(pod).copied() else { return false };
        let waited = now.mono.since(since);
        // Both samples were taken since the complaint.
        let twice = record.two_samples() && record.previous.as_ref().is_some_and(|p| p.at >= since);
        let waiting = !judgement.waiting.is_empty() && waited < PATIENCE;
        // What stands is not taken back because one reading did not confirm it.
        let named = self.ledger.names(pod);
        let from_host = Pick { from: Some(VantageKind::Host), pod: Some(pod), ..Pick::default() };
        let fails_here = record.matrix.bad(from_host).next().is_some();
        twice && waited >= LONG_ENOUGH && !waiting && !named && !fails_here
    }
}
