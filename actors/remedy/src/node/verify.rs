//! What is asked to find out whether a repair helped, and what the answers say.

use std::collections::{BTreeMap, BTreeSet};

use nameward_kernel::repair::Change;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::probe::{Observation, PathKey, ProbeItem, ProbeRequest, Purpose, QuestionKind};
use nameward_messages::targets::{Target, TargetKind, Targets, Transport};
use nameward_messages::verdict::{Subject, SubjectKind};
use nameward_messages::{Mono, PodUid, RequestId};

/// Most pods that are asked from when the node is the subject.
const VANTAGES: usize = 4;
/// Most CoreDNS pods that are asked.
const SERVERS: usize = 4;

/// What the answers of one look say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Every path that can be judged answers, and there is one at least.
    Good,
    /// Some path does not, though it does from elsewhere.
    Bad,
    /// Nothing can be concluded.
    Unclear,
}

/// Vantages whose paths the repair was for.
fn vantages(subject: &Subject, namespaces: &BTreeMap<PodUid, Namespace>) -> Vec<Vantage> {
    let of = |n: &Namespace| Vantage::Pod { uid: n.pod.clone(), key: n.key.clone(), cookie: n.cookie };
    match (&subject.kind, &subject.uid) {
        (SubjectKind::Pod, Some(uid)) => namespaces.get(uid).map(of).into_iter().collect(),
        _ => namespaces.values().take(VANTAGES).map(of).collect(),
    }
}

/// The paths to ask. The host's own, which come last, tell what is not the repair's fault.
pub(super) fn request(
    id: RequestId,
    deadline: Mono,
    subject: &Subject,
    change: &Change,
    namespaces: &BTreeMap<PodUid, Namespace>,
    targets: &Targets,
) -> ProbeRequest {
    let mut servers: Vec<Target> = Vec::new();
    for ip in targets.service.iter().flat_map(|s| &s.cluster_ips).take(2) {
        servers.push(Target { kind: TargetKind::Service, ip: *ip });
    }
    for pod in targets.pods.iter().filter(|pod| pod.ready && !pod.terminating).take(SERVERS) {
        let kind = TargetKind::Pod { uid: pod.uid.clone(), key: pod.key.clone(), node: pod.node.clone() };
        servers.extend(pod.ips.first().map(|ip| Target { kind, ip: *ip }));
    }
    let purpose = Purpose::Verify { request: id.clone() };
    let mut items = Vec::new();
    for vantage in vantages(subject, namespaces).into_iter().chain([Vantage::Host]) {
        for target in &servers {
            let mut ask = |transport, question| {
                let path = PathKey { vantage: vantage.clone(), target: target.clone(), transport, question };
                items.push(ProbeItem { path, port: 0, purpose: purpose.clone() });
            };
            ask(Transport::Udp, QuestionKind::Internal);
            ask(Transport::Tcp, QuestionKind::Internal);
            // A stale entry is felt from a kept port alone.
            if target.kind == TargetKind::Service && matches!(change, Change::DropFlows { .. }) {
                ask(Transport::Udp, QuestionKind::Held);
            }
        }
    }
    ProbeRequest { id, items, deadline }
}

/// Whether the subject's paths answer. A path that fails from the host too is not counted, unless the repair was the node's
/// own; from a CoreDNS pod to itself nothing passes the link.
pub(super) fn sight(subject: &Subject, observations: &[Observation]) -> Sight {
    let of_pod = subject.kind == SubjectKind::Pod;
    let key = |path: &PathKey| (path.target.clone(), path.transport);
    let lost_from_host: BTreeSet<(Target, Transport)> = observations
        .iter()
        .filter(|o| o.path.vantage == Vantage::Host && o.outcome.good() == Some(false))
        .map(|o| key(&o.path))
        .collect();
    let mut good = 0;
    for o in observations {
        let from_subject = match &o.path.vantage {
            Vantage::Pod { uid, .. } => !of_pod || subject.uid.as_ref() == Some(uid),
            // A CoreDNS pod that is the subject must be reached from the host, too.
            Vantage::Host => match &o.path.target.kind {
                TargetKind::Pod { uid, .. } => subject.uid.as_ref() == Some(uid),
                _ => !of_pod,
            },
        };
        let to_itself = matches!((&o.path.vantage, &o.path.target.kind),
            (Vantage::Pod { uid: from, .. }, TargetKind::Pod { uid: to, .. }) if from == to);
        if !from_subject || to_itself {
            continue;
        }
        match o.outcome.good() {
            Some(true) => good += 1,
            Some(false) if of_pod && o.path.vantage != Vantage::Host && lost_from_host.contains(&key(&o.path)) => {}
            Some(false) => return Sight::Bad,
            None => {}
        }
    }
    if good > 0 { Sight::Good } else { Sight::Unclear }
}
