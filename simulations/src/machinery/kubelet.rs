//! The kubelets of all nodes: pods are started, watched, started again and stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::life::{Life, Stage, container_id, resources};
use super::runtime::{PodEvent, PodRuntime, StartPod, StartedPod};
use super::{ExitReason, Pass, Settings};
use crate::apiserver::{Handle, at, int, list, parse_units, put, stamp, text};

/// What the runtime has done.
#[derive(Debug)]
pub(crate) enum Finished {
    Started(String, Result<StartedPod, String>),
    Stopped(String),
}

/// Every node's kubelet.
pub(crate) struct Kubelet {
    runtime: Arc<dyn PodRuntime>,
    done: mpsc::Sender<Finished>,
    lives: BTreeMap<String, Life>,
    settings: Settings,
}

/// Between a container's end and its first restart, or its back-off.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries to make a sandbox.
const SANDBOX_AGAIN: Duration = Duration::from_secs(2);

impl Kubelet {
    pub(crate) fn new(runtime: Arc<dyn PodRuntime>, done: mpsc::Sender<Finished>) -> Self {
        Self { runtime, done, lives: BTreeMap::new(), settings: Settings::default() }
    }

    /// The runtime says what became of a pod.
    pub(crate) fn told(&mut self, event: &PodEvent, handle: &Handle) {
        let stamp = stamp(handle.now());
        match event {
            PodEvent::Exited { uid, reason, exit_code } => {
                if let Some(life) = self.lives.get_mut(uid) {
                    life.end(uid, *reason, *exit_code, Instant::now(), &stamp, self.settings.scaled(PAUSE));
                }
            }
            PodEvent::Failed { uid, exit_code, message } => {
                if let Some(life) = self.lives.get_mut(uid) {
                    life.words.clone_from(message);
                    let reason = if *exit_code == 0 { ExitReason::Completed } else { ExitReason::Error };
                    life.end(uid, reason, *exit_code, Instant::now(), &stamp, self.settings.scaled(PAUSE));
                }
            }
            PodEvent::Again { uid } => {
                if let Some(life) = self.lives.get_mut(uid)
                    && let Stage::BackOff { until, .. } = &mut life.stage
                {
                    *until = Instant::now();
                }
            }
            PodEvent::Ready { uid, ready } => {
                let Some(life) = self.lives.get_mut(uid) else { return };
                match &mut life.stage {
                    Stage::Running { ready_at } => {
                        *ready_at = None;
                        life.ready = *ready;
                    }
                    Stage::Starting => life.early_ready = Some(*ready),
                    _ => {}
                }
            }
        }
    }

    /// The runtime has done what it was asked.
    pub(crate) fn finished(&mut self, result: Finished, handle: &Handle) {
        let (now, stamp) = (Instant::now(), stamp(handle.now()));
        match result {
            Finished::Stopped(uid) => {
                let Some(life) = self.lives.get_mut(&uid) else { return };
                life.stage = Stage::Stopped;
                life.ready = false;
                if let Some((_, began)) = life.started.take() {
                    let over = json!({
                        "exitCode": 0,
                        "reason": ExitReason::Completed.name(),
                        "startedAt": began,
                        "finishedAt": stamp,
                        "containerID": container_id(&uid, life.made),
                    });
                    life.last = life.ended.replace(over);
                }
            }
            Finished::Started(uid, result) => {
                let pause = self.settings.scaled(PAUSE);
                let ready_in = self.settings.scaled(self.settings.ready_delay);
                let Some(life) = self.lives.get_mut(&uid) else { return };
                if let Err(error) = &result
                    && life.ip.is_none()
                {
                    // Without a sandbox there is no container that could end: the pod stays as it is, and it is tried again.
                    tracing::debug!(uid, error, "a sandbox was not made");
                    life.stage = Stage::Pending { until: now + self.settings.scaled(SANDBOX_AGAIN) };
                    return;
                }
                let first = life.made == 0;
                life.made += 1;
                life.started = Some((now, stamp.clone()));
                life.restarts += u32::from(!first);
                life.stage = Stage::Running { ready_at: None };
                match result {
                    Ok(started) => {
                        life.ip = Some(started.ip);
                        life.stage = Stage::Running { ready_at: (!started.tells_ready).then(|| now + ready_in) };
                        if let Some(ready) = life.early_ready.take() {
                            life.stage = Stage::Running { ready_at: None };
                            life.ready = ready;
                        }
                        if let Some((reason, code)) = life.early_exit.take() {
                            life.end(&uid, reason, code, now, &stamp, pause);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(uid, error, "a pod was not started");
                        life.early_ready = None;
                        life.end(&uid, ExitReason::Error, 128, now, &stamp, pause);
                    }
                }
            }
        }
    }

    /// One pass over all pods. Gives when the next one is due.
    pub(crate) fn step(&mut self, pass: &Pass<'_>) -> Option<Instant> {
        self.settings = pass.settings.clone();
        let pods = pass.handle.list("Pod", "", "");
        let hosts = hosts(pass.handle);
        for pod in &pods {
            let (uid, node) = (text(pod, &["metadata", "uid"]), text(pod, &["spec", "nodeName"]));
            // What is over before its life was seen here is an object and nothing else.
            let over = matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
            if node.is_empty() || over && !self.lives.contains_key(uid) {
                continue;
            }
            let host = hosts.get(node).map_or("", String::as_str);
            let begin = pass.now + pass.settings.scaled(pass.settings.start_delay);
            let mut life = self.lives.remove(uid).unwrap_or_else(|| Life::new(pod, begin, &pass.stamp));
            self.advance(pass, pod, uid, &mut life);
            state(pass, pod, host, &life);
            if !matches!(life.stage, Stage::Stopped) {
                self.lives.insert(uid.to_owned(), life);
            }
        }
        let here: Vec<&str> = pods.iter().map(|pod| text(pod, &["metadata", "uid"])).collect();
        let gone: Vec<String> = self.lives.keys().filter(|uid| !here.contains(&uid.as_str())).cloned().collect();
        for uid in gone {
            // Removed by force: the node cleans up behind it.
            if let Some(life) = self.lives.remove(&uid)
                && !matches!(life.stage, Stage::Stopping | Stage::Stopped)
            {
                self.stop(&uid, Duration::ZERO);
            }
        }
        self.lives
            .values()
            .filter_map(|life| match life.stage {
                Stage::Pending { until } | Stage::Ended { until } | Stage::BackOff { until, .. } => Some(until),
                Stage::Running { ready_at } => ready_at,
                _ => None,
            })
            .min()
    }

    /// Moves a pod to its next stage, if it is time.
    fn advance(&mut self, pass: &Pass<'_>, pod: &Value, uid: &str, life: &mut Life) {
        let now = pass.now;
        if !text(pod, &["metadata", "deletionTimestamp"]).is_empty() {
            match life.stage {
                Stage::Stopping | Stage::Stopped | Stage::Starting => return,
                Stage::Pending { .. } | Stage::Over => life.stage = Stage::Stopped,
                _ => {
                    let grace = int(pod, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(30);
                    self.stop(uid, Duration::from_secs(grace.unsigned_abs()));
                    life.stage = Stage::Stopping;
                }
            }
            return;
        }
        match life.stage {
            Stage::Pending { until } if now >= until => self.start(pod, uid, life),
            Stage::Running { ready_at: Some(at) } if now >= at => {
                life.ready = true;
                life.stage = Stage::Running { ready_at: None };
            }
            Stage::Ended { .. } if text(pod, &["spec", "restartPolicy"]) == "Never" => life.stage = Stage::Over,
            Stage::Ended { until } if now >= until => {
                let cap = pass.settings.back_off_cap;
                let ran =
                    life.started.as_ref().map_or(Duration::ZERO, |(began, _)| now.saturating_duration_since(*began));
                if ran >= pass.settings.scaled(cap * 2) || life.restarts == 0 {
                    self.start(pod, uid, life);
                } else {
                    let doubled = 1_u32.checked_shl(life.restarts - 1).unwrap_or(u32::MAX);
                    let delay = pass.settings.back_off.saturating_mul(doubled).min(cap);
                    life.stage = Stage::BackOff { until: now + pass.settings.scaled(delay), delay };
                }
                life.started = None;
            }
            Stage::BackOff { until, .. } if now >= until => self.start(pod, uid, life),
            _ => {}
        }
        let wanted = resources(pod);
        if matches!(life.stage, Stage::Running { .. }) && life.resources != wanted {
            life.resources = wanted;
            let resized = self.runtime.resize(uid.to_owned(), memory_limit(pod));
            tokio::spawn(resized);
        }
    }

    fn start(&self, pod: &Value, uid: &str, life: &mut Life) {
        life.stage = Stage::Starting;
        life.resources = resources(pod);
        let labels = at(pod, &["metadata", "labels"]).and_then(Value::as_object).into_iter().flatten();
        let start = StartPod {
            uid: uid.to_owned(),
            namespace: text(pod, &["metadata", "namespace"]).into(),
            name: text(pod, &["metadata", "name"]).into(),
            node: text(pod, &["spec", "nodeName"]).into(),
            labels: labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().into())).collect(),
            memory_limit: memory_limit(pod),
            // A sandbox that was never made is made now.
            attempt: if life.ip.is_some() { life.made } else { 0 },
            object: pod.clone(),
        };
        let (starting, done, uid) = (self.runtime.start(start), self.done.clone(), uid.to_owned());
        tokio::spawn(async move {
            let result = starting.await;
            // The machinery is gone if nobody takes it.
            let _ = done.send(Finished::Started(uid, result)).await;
        });
    }

    fn stop(&self, uid: &str, grace: Duration) {
        let (stopping, done, uid) = (self.runtime.stop(uid.to_owned(), grace), self.done.clone(), uid.to_owned());
        tokio::spawn(async move {
            stopping.await;
            let _ = done.send(Finished::Stopped(uid)).await;
        });
    }
}

/// States what is so, and removes the object of a pod that is gone.
fn state(pass: &Pass<'_>, pod: &Value, host: &str, life: &Life) {
    let status = life.status(pod, host, &pass.stamp);
    let mut next = pod.clone();
    put(&mut next, &["status"], status);
    if next != *pod {
        pass.write("kubelet", next);
    }
    if matches!(life.stage, Stage::Stopped) {
        let (namespace, name) = (text(pod, &["metadata", "namespace"]), text(pod, &["metadata", "name"]));
        if let Err(error) = pass.handle.machinery("kubelet").remove("Pod", namespace, name) {
            tracing::debug!(%error, "the pod was gone already");
        }
    }
}

fn memory_limit(pod: &Value) -> Option<u64> {
    let container = list(pod, &["spec", "containers"]).first()?;
    parse_units(text(container, &["resources", "limits", "memory"]))
}

/// Node names and their addresses.
fn hosts(handle: &Handle) -> BTreeMap<String, String> {
    handle
        .list("Node", "", "")
        .iter()
        .map(|node| {
            let address = list(node, &["status", "addresses"])
                .iter()
                .find(|address| text(address, &["type"]) == "InternalIP")
                .map_or("", |address| text(address, &["address"]));
            (text(node, &["metadata", "name"]).to_owned(), address.to_owned())
        })
        .collect()
}
