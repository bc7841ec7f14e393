//! CoreDNS processes that end by themselves as soon as they have started, and nodes that have no address left for a pod.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::world::{World, WorldError};
use crate::machinery::PodEvent;

/// How often processes that are to end are looked for: sooner than a started container is ready.
const LOOK: Duration = Duration::from_millis(100);

/// How CoreDNS processes end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    /// `namespace/name` of the one pod; `None`: all, those that are made later too.
    pub pod: Option<String>,
    /// The exit status.
    pub exit_code: u8,
    /// The termination message.
    pub message: String,
}

/// What the world knows of it.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    pub(super) plan: Option<Crash>,
    /// Uids of pods that have ended so.
    pub(super) crashed: Vec<String>,
    /// Nodes on which no sandbox can be made.
    pub(super) without_addresses: Vec<String>,
}

impl World {
    /// CoreDNS processes end from now on, at once and whenever they are started; or no more.
    pub(super) fn crash(&self, plan: Option<Crash>) {
        self.state().crashes.plan = plan;
    }

    /// Pods that have crashed, by uid, once no more are to; they are forgotten.
    fn over(&self) -> Vec<String> {
        let crashes = &mut self.state().crashes;
        if crashes.plan.is_none() { std::mem::take(&mut crashes.crashed) } else { Vec::new() }
    }

    /// No sandbox can be made on a node, or they can again.
    pub(super) fn without_addresses(&self, node: &str, without: bool) {
        let nodes = &mut self.state().crashes.without_addresses;
        nodes.retain(|known| known != node);
        if without {
            nodes.push(node.to_owned());
        }
    }

    /// The CNI plugin's word when a node has no address left.
    pub(super) fn has_addresses(&self, node: &str) -> Result<(), WorldError> {
        match self.state().crashes.without_addresses.iter().any(|known| known == node) {
            true => Err(WorldError::Line("no IP addresses available in range set".to_owned())),
            false => Ok(()),
        }
    }

    /// Ends the processes that are to end; gives back their pods, with the plan.
    fn reap_crashing(&self) -> Vec<(String, Crash)> {
        let mut state = self.state();
        let Some(plan) = state.crashes.plan.clone() else { return Vec::new() };
        let mut ended = Vec::new();
        for (uid, pod) in &mut state.pods {
            let meant = plan.pod.as_ref().is_none_or(|key| *key == pod.key);
            if pod.coredns && meant && pod.server.take().is_some() {
                ended.push((uid.clone(), plan.clone()));
            }
        }
        for (uid, _) in &ended {
            if !state.crashes.crashed.contains(uid) {
                state.crashes.crashed.push(uid.clone());
            }
        }
        ended
    }
}

/// Looks after processes that end by themselves.
pub(super) async fn crash_as_planned(events: mpsc::Sender<PodEvent>, world: Arc<World>) {
    loop {
        tokio::time::sleep(LOOK).await;
        for (uid, crash) in world.reap_crashing() {
            let event = PodEvent::Failed { uid, exit_code: i32::from(crash.exit_code), message: crash.message };
            if events.send(event).await.is_err() {
                return;
            }
        }
        for uid in world.over() {
            if events.send(PodEvent::Again { uid }).await.is_err() {
                return;
            }
        }
    }
}
