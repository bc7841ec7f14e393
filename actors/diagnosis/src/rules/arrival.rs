//! Packets that get lost while they arrive on this node: queries of other nodes, of which they complain, or replies to what
//! this node asked of others.

use std::collections::BTreeSet;

use nameward_kernel::facts::Counters;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Outcome, PathKey, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::Evidence;

use crate::finding::{View, probe_line};
use crate::matrix::Pick;
use crate::record::{EvidenceRecord, Held, Sample};

/// What gets lost.
pub(crate) struct Lost {
    /// Other nodes complain: their queries arrive here, at their own pace.
    pub(crate) complained: bool,
    /// Over which transports.
    pub(crate) transports: BTreeSet<Transport>,
    /// What is seen of it.
    pub(crate) seen: Vec<Evidence>,
    /// Failing paths of this node's own that it explains.
    pub(crate) explains: BTreeSet<PathKey>,
}

/// What gets lost between this node and others, if anything does.
pub(crate) fn lost(view: &View<'_>) -> Option<Lost> {
    let record = view.record;
    let mut lost = Lost { complained: false, transports: BTreeSet::new(), seen: Vec::new(), explains: BTreeSet::new() };
    for (pod, complaint) in record.complained() {
        // What this very node cannot reach either gets lost in the pod, and not on its way here.
        let internal = Some(QuestionKind::Internal);
        let here = Pick { from: Some(VantageKind::Host), pod: Some(&pod.uid), question: internal, ..Pick::default() };
        if view.bad(here).next().is_some() {
            continue;
        }
        lost.complained = true;
        lost.transports.extend(&complaint.transports);
        let from: Vec<&str> = complaint.from.iter().take(4).map(|node| node.as_str()).collect();
        let says = format!("cannot reach {}: {}", pod.key, complaint.because);
        lost.seen.push(Evidence::new(format!("probes of {}", from.join(", ")), says));
    }
    let far = |path: &PathKey| match &path.target.kind {
        TargetKind::Pod { node, .. } => node.as_ref().is_some_and(|node| *node != record.node),
        TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => false,
    };
    let internal = Pick { question: Some(QuestionKind::Internal), ..Pick::default() };
    let silent: Vec<_> = view
        .bad(internal)
        .filter(|(path, s)| {
            far(path) && matches!(s.failing.as_ref().unwrap_or(&s.last), Outcome::Timeout | Outcome::ConnectedOnly)
        })
        .collect();
    if let Some((path, state)) = silent.first() {
        lost.seen.push(probe_line(path, state.failing.as_ref().unwrap_or(&state.last)));
        for (path, _) in &silent {
            lost.transports.insert(path.transport);
            if let TargetKind::Pod { uid, .. } = &path.target.kind {
                lost.explains.extend(view.explained(&[Pick { pod: Some(uid), ..Pick::default() }]));
            }
        }
        lost.explains.extend(view.explained(&[Pick { service: true, ..Pick::default() }]));
    }
    (!lost.seen.is_empty()).then_some(lost)
}

impl Lost {
    /// Whether something moved between samples. What others send comes at their pace: it is looked for further back.
    pub(crate) fn moved(&self, record: &EvidenceRecord, check: impl Fn(&Sample, &Sample) -> Option<bool>) -> Held {
        if self.complained { record.moved_lately(check) } else { record.moved(check) }
    }

    /// The older of the two samples that [`Self::moved`] compares.
    pub(crate) fn since<'a>(&self, record: &'a EvidenceRecord) -> Option<&'a Sample> {
        let earlier = record.earlier.as_deref().filter(|_| self.complained);
        earlier.or(record.previous.as_deref())
    }
}

/// By how much a counter rose; `None` when either was not read.
pub(crate) fn rose(before: Option<&Counters>, after: Option<&Counters>, name: &str) -> Option<u64> {
    Some(after?.get(name)?.saturating_sub(before?.get(name)?))
}
