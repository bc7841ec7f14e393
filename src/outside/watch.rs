//! `nameward run` from outside: the coordinator as anywhere, and instead of an agent a look again and again. One line per change.

use std::sync::Arc;
use std::time::Duration;

use nameward_cluster::connect::Connection;
use nameward_config::settings::Config;
use nameward_outside::judge::{Found, Told, overall};
use nameward_outside::launch::{clean_up, launch};
use nameward_outside::look::look;
use nameward_outside::pods::choose;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::Outside;

use super::{probes, scene_of};

/// Between two looks, at least.
const LOOK: Duration = Duration::from_secs(30);
/// Looks between two runs of probe pods: five minutes at least.
const PODS_EVERY: u32 = 10;

/// Looks until the process ends.
pub(crate) async fn watch(connection: Connection, config: Arc<Config>, from: Outside) {
    let mut timer = interval(LOOK.max(config.probe.interval.0));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
    let (mut trouble, mut probed) = (None, None);
    for round in 0_u32.. {
        timer.tick().await;
        let scene = match scene_of(&connection, &config).await {
            Ok(scene) => scene,
            Err(failure) => {
                let line = failure.line();
                if trouble.as_ref() != Some(&line) {
                    tracing::warn!("cluster DNS is not looked at from outside: {line}");
                }
                trouble = Some(line);
                continue;
            }
        };
        trouble = None;
        let judgement = look(&scene, &config).await;
        if let Some(news) = told.news(&judgement) {
            match judgement.found {
                Found::Healthy => tracing::info!("{news}"),
                Found::Unhealthy | Found::NotReached => tracing::warn!("{news}"),
            }
        }
        if from.allow_pods && round.is_multiple_of(PODS_EVERY) {
            let run = probes::run(&config, &from);
            let Ok(nodes) = choose(&scene.nodes, &scene.pods, &from.from_node)
                .inspect_err(|error| tracing::warn!(%error, "no probe pods are started"))
            else {
                continue;
            };
            let _ = clean_up(&connection.cluster, &run).await;
            let (plan, _) = probes::planned(&scene, &config);
            // What an end of this process leaves, the Jobs' deadline and time to live remove.
            let launched = launch(&connection.cluster, &run, &nodes, &plan, std::future::pending()).await;
            let found = overall(Found::NotReached, Some(&launched.probes));
            if probed.replace(found) != Some(found) {
                for (node, probe) in &launched.probes {
                    tracing::info!(%node, "the probe pod {probe}");
                }
                match found {
                    Found::Healthy => tracing::info!("cluster DNS answers the probe pods"),
                    Found::Unhealthy => tracing::warn!("cluster DNS does not answer the probe pods"),
                    Found::NotReached => tracing::warn!("no probe pod has answered"),
                }
            }
        }
    }
}
