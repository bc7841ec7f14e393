//! The ways of packets that are shown: to the Service and to each CoreDNS pod, each path once unless both transports differ.

use nameward_diagnosis::way::{Known, Step, way};
use nameward_messages::targets::{Target, TargetKind, Transport};
use serde::Serialize;

use super::survey::Surveyed;

/// Most CoreDNS pods to which the way is shown.
const PODS: usize = 4;

/// One way. Part of the documented output.
#[derive(Debug, Serialize)]
pub(super) struct Way {
    /// What is asked, for people.
    pub to: String,
    /// Over which transports it is the same.
    pub transports: Vec<Transport>,
    /// From the vantage to the far end, or to where the packet ends.
    pub steps: Vec<Step>,
}

impl Way {
    /// The same kinds of steps with the same ends.
    pub(super) fn like(&self, other: &Self) -> bool {
        let shape = |way: &Self| way.steps.iter().map(|step| (step.hop, step.passes)).collect::<Vec<_>>();
        shape(self) == shape(other)
    }
}

pub(super) fn ways(surveyed: &Surveyed) -> Vec<Way> {
    let Some(sample) = surveyed.samples.last() else { return Vec::new() };
    let known = Known {
        node: &surveyed.record.node,
        targets: &surveyed.record.targets,
        vantage: &surveyed.vantage,
        namespace: surveyed.namespace.as_ref(),
        sample,
    };
    let mut targets: Vec<&Target> = surveyed.asked.keys().map(|(path, _)| &path.target).collect();
    targets.sort_by_key(|target| (order(&target.kind), target.ip));
    targets.dedup();
    let (pods, others): (Vec<_>, Vec<_>) =
        targets.into_iter().partition(|target| matches!(target.kind, TargetKind::Pod { .. }));
    let mut all = Vec::new();
    for target in others.into_iter().chain(pods.into_iter().take(PODS)) {
        let [udp, tcp] = [Transport::Udp, Transport::Tcp].map(|transport| way(&known, target, transport));
        let to = target.to_string();
        if same(&udp, &tcp) {
            all.push(Way { to, transports: vec![Transport::Udp, Transport::Tcp], steps: udp });
        } else {
            all.push(Way { to: to.clone(), transports: vec![Transport::Udp], steps: udp });
            all.push(Way { to, transports: vec![Transport::Tcp], steps: tcp });
        }
    }
    all
}

/// The same but for the name of the transport.
fn same(udp: &[Step], tcp: &[Step]) -> bool {
    let plain = |text: &str| text.replace("tcp", "udp");
    udp.len() == tcp.len()
        && udp.iter().zip(tcp).all(|(a, b)| {
            (a.hop, a.passes, plain(&a.at), plain(&a.says)) == (b.hop, b.passes, plain(&b.at), plain(&b.says))
        })
}

fn order(kind: &TargetKind) -> u8 {
    match kind {
        TargetKind::Service => 0,
        TargetKind::Nameserver => 1,
        TargetKind::Upstream => 2,
        TargetKind::Pod { .. } => 3,
    }
}
