//! Jobs of one pod: made, bounded by their deadline, and removed when their time to live is over.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Pass;
use super::pods::{controller, from_template};
use crate::apiserver::{int, list, put, text};

const MANAGER: &str = "job-controller";

/// One pass over all Jobs. Gives when the next one is due.
pub(crate) fn step(pass: &Pass<'_>) -> Option<Instant> {
    let pods = pass.handle.list("Pod", "", "");
    let jobs = pass.handle.list("Job", "", "");
    jobs.into_iter()
        .filter(|job| text(job, &["metadata", "deletionTimestamp"]).is_empty())
        .filter_map(|job| one(pass, job, &pods))
        .min()
}

fn one(pass: &Pass<'_>, mut job: Value, pods: &[Value]) -> Option<Instant> {
    let uid = text(&job, &["metadata", "uid"]);
    let mine: Vec<&Value> = pods.iter().filter(|pod| controller(pod) == uid).collect();
    let ended = list(&job, &["status", "conditions"])
        .iter()
        .find(|c| ["Complete", "Failed"].contains(&text(c, &["type"])))
        .map(|c| text(c, &["lastTransitionTime"]).to_owned());
    if let Some(ended) = ended {
        let due = due(pass, &ended, int(&job, &["spec", "ttlSecondsAfterFinished"])?);
        if due.is_none() {
            delete(pass, "Job", &job);
        }
        return due;
    }
    let started = text(&job, &["status", "startTime"]).to_owned();
    if started.is_empty() {
        put(&mut job, &["status", "startTime"], pass.stamp.clone());
        if let Err(error) = pass.handle.machinery(MANAGER).create(from_template(&job, None)) {
            tracing::warn!(%error, "no pod was created");
            return None;
        }
        pass.write(MANAGER, job);
        return None;
    }
    let phase = mine.first().map_or("", |pod| text(pod, &["status", "phase"]));
    match phase {
        "Succeeded" => end(pass, job, "Complete", ""),
        "Failed" => end(pass, job, "Failed", "BackoffLimitExceeded"),
        _ => {
            let due = due(pass, &started, int(&job, &["spec", "activeDeadlineSeconds"])?);
            if due.is_none() {
                mine.iter().for_each(|pod| delete(pass, "Pod", pod));
                end(pass, job, "Failed", "DeadlineExceeded");
            }
            return due;
        }
    }
    None
}

/// When so many seconds after `since` are over; `None`: they are.
fn due(pass: &Pass<'_>, since: &str, seconds: i64) -> Option<Instant> {
    let since: Timestamp = since.parse().ok()?;
    let whole = pass.settings.scaled(Duration::from_secs(seconds.unsigned_abs()));
    let passed = Duration::try_from(pass.wall.duration_since(since)).unwrap_or_default();
    whole.checked_sub(passed).filter(|left| !left.is_zero()).map(|left| pass.now + left)
}

fn end(pass: &Pass<'_>, mut job: Value, kind: &str, reason: &str) {
    let condition = json!([{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": pass.stamp}]);
    put(&mut job, &["status", "conditions"], condition);
    pass.write(MANAGER, job);
}

fn delete(pass: &Pass<'_>, kind: &str, object: &Value) {
    let (namespace, name) = (text(object, &["metadata", "namespace"]), text(object, &["metadata", "name"]));
    if let Err(error) = pass.handle.machinery(MANAGER).delete(kind, namespace, name) {
        tracing::debug!(%error, kind, "was gone already");
    }
}
