//! Probe pods on behalf of a person: chosen, started, read, removed.

use nameward_cluster::connect::Connection;
use nameward_config::settings::Config;
use nameward_messages::NodeName;
use nameward_outside::asking::Plan;
use nameward_outside::launch::{Launched, clean_up, launch};
use nameward_outside::look::Scene;
use nameward_outside::pods::{Aim, ChooseError, Run, aims, choose, origin};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Output, Outside};
use crate::exit::Failure;
use crate::output;

/// What probe pods found.
pub(crate) struct Probed {
    pub(crate) aims: Vec<Aim>,
    pub(crate) launched: Launched,
    pub(crate) namespace: String,
}

/// Starts them and waits for what they find.
pub(crate) async fn probe(
    connection: &Connection,
    config: &Config,
    scene: &Scene,
    from: &Outside,
    form: Output,
) -> Result<Probed, Failure> {
    let progress = |text: &str| {
        if form == Output::Text {
            output::error(&format!("nameward: {text}"));
        }
    };
    let run = run(config, from);
    let nodes = choose(&scene.nodes, &scene.pods, &from.from_node).map_err(|error| match error {
        ChooseError::Unknown { .. } | ChooseError::TooMany(_) if !scene.nodes.is_empty() => Failure::usage_by(&error),
        _ => Failure::could_not(
            "probe pods cannot be started; this user must be allowed to list nodes, and one must be ready",
            error,
        ),
    })?;
    let (plan, aims) = planned(scene, config);
    if let Ok(removed) = clean_up(&connection.cluster, &run).await
        && !removed.is_empty()
    {
        progress(&format!("an earlier run left {}: removed", removed.join(", ")));
    }
    let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
    progress(&format!("probe pods are started in {} on {}", run.namespace, names.join(", ")));
    let listen = |kind| signal(kind).map_err(|e| Failure::could_not("signals cannot be listened for", e));
    let (mut int, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let stop = async move {
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
    };
    let launched = launch(&connection.cluster, &run, &nodes, &plan, stop).await;
    for left in &launched.left {
        progress(&format!("not removed, the control plane will within minutes: {left}"));
    }
    if launched.interrupted {
        return Err(Failure::could_not("interrupted: the probe pods were removed", "a signal came"));
    }
    Ok(Probed { aims, launched, namespace: run.namespace })
}

/// A new run.
pub(crate) fn run(config: &Config, from: &Outside) -> Run {
    Run {
        namespace: config.kubernetes.namespace.clone(),
        image: from.probe_image.clone(),
        origin: here(),
        id: random(),
    }
}

/// What a pod is given to ask.
pub(crate) fn planned(scene: &Scene, config: &Config) -> (Plan, Vec<Aim>) {
    let mut plan = Plan::new(config, scene.questions.clone());
    let aims = aims(&mut plan, &scene.service, &scene.pods);
    (plan, aims)
}

/// Stands for this machine and user in a label.
fn here() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let machine = read("/etc/machine-id").filter(|id| !id.is_empty()).or_else(|| read("/proc/sys/kernel/hostname"));
    let user = std::env::var("USER").or_else(|_| std::env::var("HOME")).unwrap_or_default();
    origin(&machine.unwrap_or_default(), &user)
}

/// Eight digits that no other run has.
fn random() -> String {
    let now = nameward_supervision::clock::now().wall.as_nanosecond();
    let seed = format!("{now} {}", std::process::id());
    origin(&seed, "run").chars().take(8).collect()
}
