//! Starts probe pods, reads what they left, and removes them: also when it is interrupted, and when some could not be started.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use nameward_cluster::calls::{CallError, Cluster};
use nameward_cluster::failure::Class;
use nameward_messages::{NodeName, ObjectKey};
use tokio::time::{Instant, sleep, timeout_at};

use crate::asking::Plan;
use crate::pods::{DEADLINE_S, Probe, Run, index_of, leftovers, read};

/// How long answers are waited for: less than the pods' own deadline, so that a late one still can be read.
const PATIENCE: Duration = Duration::from_secs(DEADLINE_S as u64 - 10);
/// How often the pods are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// After this long without a pod it is asked what forbids one.
const NO_POD: Duration = Duration::from_secs(8);

/// What came of a run.
#[derive(Debug)]
pub struct Launched {
    /// By node: what its probe pod said.
    pub probes: Vec<(NodeName, Probe)>,
    /// It was interrupted.
    pub interrupted: bool,
    /// Jobs that could not be removed, and why: their time to live removes them.
    pub left: Vec<String>,
}

/// Removes what earlier runs of the same origin left. Gives their names.
///
/// # Errors
/// The Jobs cannot be listed.
pub async fn clean_up(cluster: &Cluster, run: &Run) -> Result<Vec<String>, CallError> {
    let jobs = cluster.list_jobs(&run.namespace, &run.selector_of_origin()).await?;
    let mut removed = Vec::new();
    for (key, uid) in leftovers(&jobs, run) {
        match cluster.delete_job(&key, &uid).await {
            Ok(()) => removed.push(key.name),
            // Its time to live was over.
            Err(error) if matches!(error.class, Class::NotFound | Class::Conflict) => {}
            Err(error) => tracing::debug!(error = error.explain(), "a leftover was not removed"),
        }
    }
    Ok(removed)
}

/// Probes from these nodes by one pod each. Whatever happens, the Jobs are removed before this returns; if it is dropped, their
/// deadline and time to live do it. `stop`: done when the run is to be ended early.
pub async fn launch(
    cluster: &Cluster,
    run: &Run,
    nodes: &[NodeName],
    plan: &Plan,
    stop: impl Future<Output = ()>,
) -> Launched {
    let mut probes: BTreeMap<usize, Probe> = BTreeMap::new();
    let mut made: BTreeMap<usize, (ObjectKey, String)> = BTreeMap::new();
    let created = join_all(nodes.iter().enumerate().map(|(index, node)| async move {
        let key = run.key(index);
        (index, cluster.create_job(&key, run.job(index, node, plan)).await, key)
    }))
    .await;
    let mut unsure = false;
    for (index, created, key) in created {
        match created {
            Ok(job) => drop(made.insert(index, (key, job.metadata.uid))),
            Err(error) => {
                unsure |= error.class == Class::OutcomeUnknown;
                probes.insert(index, Probe::Failed(error.explain()));
            }
        }
    }
    let interrupted = {
        let waiting = wait(cluster, run, nodes, plan, &made, &mut probes);
        tokio::select! {
            () = waiting => false,
            () = stop => true,
        }
    };
    let left = remove(cluster, run, made, unsure).await;
    let probe = |index: usize| probes.get(&index).cloned().unwrap_or(Probe::Waits(String::new()));
    let probes = nodes.iter().enumerate().map(|(index, node)| (node.clone(), probe(index))).collect();
    Launched { probes, interrupted, left }
}

/// Until every pod has ended, or patience has.
async fn wait(
    cluster: &Cluster,
    run: &Run,
    nodes: &[NodeName],
    plan: &Plan,
    made: &BTreeMap<usize, (ObjectKey, String)>,
    probes: &mut BTreeMap<usize, Probe>,
) {
    let began = Instant::now();
    let waits = |probe: Option<&Probe>| matches!(probe, None | Some(Probe::Waits(_)));
    let (mut tried, selector) = (false, run.selector());
    while made.keys().any(|index| waits(probes.get(index))) && began.elapsed() < PATIENCE {
        sleep(LOOK).await;
        let listed = cluster.list_probe_pods(&run.namespace, &selector);
        let Ok(listed) = timeout_at(began + PATIENCE, listed).await else { return };
        let pods = match listed {
            Ok(pods) => pods,
            Err(error) if error.class == Class::Unreachable => continue,
            Err(error) => {
                made.keys().for_each(|index| drop(probes.insert(*index, Probe::Failed(error.explain()))));
                return;
            }
        };
        for pod in &pods {
            // Labels can be anybody's; the owner is the Job that was made here.
            let ours = |index: &usize| {
                made.get(index).is_some_and(|(_, uid)| pod.metadata.controller().is_some_and(|job| job.uid == *uid))
            };
            if let Some(index) = index_of(pod).filter(ours) {
                probes.insert(index, read(pod, plan.asks.len()));
            }
        }
        // A Job whose pod is forbidden says so in Events alone; a dry run says it at once.
        let without: Vec<usize> = made.keys().copied().filter(|index| !probes.contains_key(index)).collect();
        if !tried && began.elapsed() > NO_POD && !without.is_empty() {
            tried = true;
            for index in without {
                let Some(node) = nodes.get(index) else { continue };
                if let Err(error) = cluster.try_pod(&run.namespace, run.pod(index, node, plan)).await
                    && error.class != Class::Unreachable
                {
                    probes.insert(index, Probe::Failed(format!("no pod was made: {}", error.explain())));
                }
            }
        }
    }
}

/// Removes the Jobs. Those whose creation had no trustworthy answer are looked for.
async fn remove(cluster: &Cluster, run: &Run, made: BTreeMap<usize, (ObjectKey, String)>, unsure: bool) -> Vec<String> {
    let mut jobs: BTreeMap<String, (ObjectKey, String)> =
        made.into_values().map(|(key, uid)| (key.name.clone(), (key, uid))).collect();
    if unsure && let Ok(listed) = cluster.list_jobs(&run.namespace, &run.selector()).await {
        for job in listed {
            jobs.insert(job.metadata.name.clone(), (job.metadata.key(), job.metadata.uid));
        }
    }
    let removed = join_all(jobs.into_values().map(|(key, uid)| async move {
        match cluster.delete_job(&key, &uid).await {
            Ok(()) => None,
            Err(error) if matches!(error.class, Class::NotFound | Class::Conflict) => None,
            Err(error) => Some(format!("{key}: {}", error.explain())),
        }
    }))
    .await;
    removed.into_iter().flatten().collect()
}
