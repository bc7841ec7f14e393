//! What the containers of CoreDNS pods do, as their status says.

use nameward_cluster::discovery;
use nameward_cluster::wire::{ContainerStatus, Pod, PodCondition, Terminated, Waiting};
use nameward_messages::workload::{CorednsPodState, Ended, HeldUp, Said};
use nameward_messages::{NodeName, PodUid};

/// Most pods that are told of.
pub(crate) const MOST: usize = 64;

/// One pod, reduced.
pub(crate) fn state(pod: &Pod) -> CorednsPodState {
    let container = discovery::dns_container_among(&pod.spec.containers).map_or("", |found| found.name.as_str());
    let status = pod.status.container_statuses.iter().find(|status| status.name == container);
    CorednsPodState {
        pod: PodUid(pod.metadata.uid.clone()),
        key: pod.metadata.key(),
        node: pod.spec.node_name.as_deref().filter(|name| !name.is_empty()).map(NodeName::from),
        phase: pod.status.phase.clone(),
        ready: pod.ready(),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        created_at: pod.metadata.creation_timestamp,
        container: container.to_owned(),
        restarts: status.map_or(0, |status| status.restart_count),
        running_since: status.and_then(|s| s.state.running.as_ref()).and_then(|running| running.started_at),
        waiting: status.and_then(|s| s.state.waiting.as_ref()).map(said),
        ended: status.and_then(last_end).map(ended),
        held_up: held_up(&pod.status.conditions),
    }
}

fn last_end(status: &ContainerStatus) -> Option<&Terminated> {
    status.state.terminated.as_ref().or(status.last_state.terminated.as_ref())
}

fn said(waiting: &Waiting) -> Said {
    Said { reason: waiting.reason.clone(), message: waiting.message.clone() }
}

fn ended(terminated: &Terminated) -> Ended {
    Ended {
        reason: terminated.reason.clone(),
        message: terminated.message.clone(),
        exit_code: terminated.exit_code,
        started_at: terminated.started_at,
        finished_at: terminated.finished_at,
    }
}

/// The scheduler's word comes first: without a node there is no sandbox.
fn held_up(conditions: &[PodCondition]) -> Option<HeldUp> {
    ["PodScheduled", "PodReadyToStartContainers"].into_iter().find_map(|wanted| {
        let found = conditions.iter().find(|c| c.r#type == wanted && c.status == "False")?;
        Some(HeldUp {
            condition: wanted.to_owned(),
            reason: found.reason.clone(),
            message: found.message.clone(),
            since: found.since,
        })
    })
}
