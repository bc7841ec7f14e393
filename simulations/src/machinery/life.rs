//! The life of one pod as the kubelet knows it, and the status it states of it.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::conditions::of_pod;
use super::runtime::ExitReason;
use crate::apiserver::{at, int, list, put, text};

/// Where a pod stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stage {
    /// Waits for its turn.
    Pending { until: Instant },
    /// The runtime is starting it.
    Starting,
    /// Runs; becomes ready by itself at a moment, if one is given.
    Running { ready_at: Option<Instant> },
    /// Its container ended a moment ago.
    Ended { until: Instant },
    /// Its container ended and is not started again (`restartPolicy: Never`).
    Over,
    /// Waits to be started again.
    BackOff { until: Instant, delay: Duration },
    /// The runtime is stopping it.
    Stopping,
    /// It is gone from its node; its object may go too.
    Stopped,
}

/// A pod's life.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) stage: Stage,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    /// Number of containers made so far, which name them.
    pub(crate) made: u32,
    /// When the running container was started.
    pub(crate) started: Option<(Instant, String)>,
    /// How the latest container ended.
    pub(crate) ended: Option<Value>,
    /// How the one before it ended.
    pub(crate) last: Option<Value>,
    /// It ended before the runtime had said that it was started.
    pub(crate) early_exit: Option<(ExitReason, i32)>,
    /// The last words of the container that ends.
    pub(crate) words: String,
    /// Its readiness was told before the runtime had said that it was started.
    pub(crate) early_ready: Option<bool>,
    /// Resources in force, per container.
    pub(crate) resources: Vec<Value>,
    /// When the pod was first seen.
    pub(crate) seen: String,
}

impl Life {
    pub(crate) fn new(pod: &Value, until: Instant, stamp: &str) -> Self {
        Self {
            stage: Stage::Pending { until },
            ip: None,
            ready: false,
            restarts: 0,
            made: 0,
            started: None,
            ended: None,
            last: None,
            early_exit: None,
            words: String::new(),
            early_ready: None,
            resources: resources(pod),
            seen: stamp.to_owned(),
        }
    }

    /// The container ended.
    pub(crate) fn end(
        &mut self,
        uid: &str,
        reason: ExitReason,
        exit_code: i32,
        now: Instant,
        stamp: &str,
        pause: Duration,
    ) {
        if matches!(self.stage, Stage::Starting) {
            self.early_exit = Some((reason, exit_code));
            return;
        }
        if !matches!(self.stage, Stage::Running { .. }) {
            return;
        }
        let began = self.started.as_ref().map_or(stamp, |(_, began)| began).to_owned();
        let mut over = json!({
            "exitCode": exit_code,
            "reason": reason.name(),
            "startedAt": began,
            "finishedAt": stamp,
            "containerID": container_id(uid, self.made),
        });
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            put(&mut over, &["message"], words);
        }
        self.last = self.ended.replace(over);
        self.ready = false;
        self.stage = Stage::Ended { until: now + pause };
    }

    /// The status of this pod, as far as the kubelet decides it.
    pub(crate) fn status(&self, pod: &Value, host: &str, stamp: &str) -> Value {
        let generation = int(pod, &["metadata", "generation"]).unwrap_or(1);
        let old = list(pod, &["status", "conditions"]);
        let names: Vec<&str> = list(pod, &["spec", "containers"]).iter().map(|one| text(one, &["name"])).collect();
        let stopped = matches!(self.stage, Stage::Stopped);
        let unready = format!("containers with unready status: [{}]", names.join(" "));
        let why = if stopped { ("PodCompleted", "") } else { ("ContainersNotReady", unready.as_str()) };
        let why = (!self.ready).then_some(why);
        let condition = |kind: &str, holds, why| of_pod(old, kind, holds, why, generation, stamp);
        let mut conditions: Vec<Value> =
            old.iter().filter(|condition| text(condition, &["type"]) == "DisruptionTarget").cloned().collect();
        let sandbox = self.ip.is_some() && !stopped;
        conditions.extend([
            condition("PodReadyToStartContainers", sandbox, None),
            condition("Initialized", true, stopped.then_some(("PodCompleted", ""))),
            condition("Ready", self.ready, why),
            condition("ContainersReady", self.ready, why),
            condition("PodScheduled", true, None),
        ]);
        let failed = self.ended.as_ref().is_some_and(|over| over["exitCode"] != 0);
        let phase = match (stopped, self.made) {
            _ if matches!(self.stage, Stage::Over) && failed => "Failed",
            _ if matches!(self.stage, Stage::Over) => "Succeeded",
            (true, _) => "Succeeded",
            (false, 0) => "Pending",
            (false, _) => "Running",
        };
        let mut status = json!({
            "observedGeneration": generation,
            "phase": phase,
            "conditions": conditions,
            "hostIP": host,
            "hostIPs": [{"ip": host}],
            "startTime": self.seen,
            "qosClass": text(pod, &["status", "qosClass"]),
            "containerStatuses": self.containers(pod),
        });
        if let Some(ip) = self.ip.filter(|_| self.made > 0) {
            put(&mut status, &["podIP"], ip.to_string());
            put(&mut status, &["podIPs"], vec![json!({ "ip": ip.to_string() })]);
        }
        if let Some(first) = self.resources.first().filter(|first| first.as_object().is_some_and(|map| !map.is_empty()))
        {
            put(&mut status, &["resources"], first.clone());
            if let Some(requests) = first.get("requests") {
                put(&mut status, &["allocatedResources"], requests.clone());
            }
        }
        status
    }

    fn containers(&self, pod: &Value) -> Value {
        let uid = text(pod, &["metadata", "uid"]);
        let runs = matches!(self.stage, Stage::Running { .. } | Stage::Stopping) && self.started.is_some();
        list(pod, &["spec", "containers"])
            .iter()
            .enumerate()
            .map(|(index, container)| {
                let (state, last) = self.states(pod, container);
                let mut status = json!({
                    "name": text(container, &["name"]),
                    "state": state,
                    "lastState": last.map_or_else(|| json!({}), |over| json!({ "terminated": over })),
                    "ready": self.ready,
                    "restartCount": self.restarts,
                    "image": text(container, &["image"]),
                    "imageID": "",
                    "started": runs,
                });
                if self.made > 0 {
                    let image = "sha256:6039af8723b9ebebef51f713d41070ec356da7d02bc7225bd3c089fa695e1240";
                    put(&mut status, &["imageID"], image);
                    put(&mut status, &["containerID"], container_id(uid, self.made));
                    put(&mut status, &["user"], json!({"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}}));
                    if let Some(resources) = self.resources.get(index) {
                        put(&mut status, &["resources"], resources.clone());
                        if let Some(requests) = resources.get("requests") {
                            put(&mut status, &["allocatedResources"], requests.clone());
                        }
                    }
                }
                status
            })
            .collect()
    }

    /// `state`, and what `lastState` shows.
    fn states(&self, pod: &Value, container: &Value) -> (Value, Option<Value>) {
        let waiting = |reason: &str, message: Option<String>| {
            let mut waiting = json!({ "reason": reason });
            if let Some(message) = message {
                put(&mut waiting, &["message"], message);
            }
            json!({ "waiting": waiting })
        };
        match self.stage {
            Stage::Running { .. } | Stage::Stopping if self.started.is_some() => {
                let began = self.started.as_ref().map_or("", |(_, began)| began);
                (json!({"running": {"startedAt": began}}), self.ended.clone())
            }
            Stage::Stopped if self.made > 0 => {
                let over = self.ended.clone().unwrap_or_default();
                (json!({ "terminated": over }), self.last.clone())
            }
            Stage::Ended { .. } => (json!({"terminated": self.ended}), self.last.clone()),
            Stage::BackOff { delay, .. } => {
                let meta = |name: &str| text(pod, &["metadata", name]);
                let message = format!(
                    "back-off {} restarting failed container={} pod={}_{}({})",
                    spell(delay),
                    text(container, &["name"]),
                    meta("name"),
                    meta("namespace"),
                    meta("uid")
                );
                (waiting("CrashLoopBackOff", Some(message)), self.ended.clone())
            }
            _ if self.ended.is_some() => (json!({"terminated": self.ended}), self.last.clone()),
            _ => (waiting("ContainerCreating", None), None),
        }
    }
}

/// Go's spelling: `20s`, `1m20s`.
fn spell(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

/// Resources of each container as specified.
pub(crate) fn resources(pod: &Value) -> Vec<Value> {
    list(pod, &["spec", "containers"])
        .iter()
        .map(|container| at(container, &["resources"]).cloned().unwrap_or_else(|| json!({})))
        .collect()
}

/// A made-up container id, different for every container of a pod.
pub(crate) fn container_id(uid: &str, made: u32) -> String {
    let hex: String = uid.chars().filter(char::is_ascii_hexdigit).collect();
    format!("containerd://{hex}{made:0>32x}")
}
