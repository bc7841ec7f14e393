//! `check` and `run` where this machine is no node of the cluster: what is reachable is asked, and probe pods if they are allowed.

mod probes;
mod report;
pub(crate) mod watch;

use std::path::Path;

use nameward_cluster::connect::Connection;
use nameward_cluster::failure::Class;
use nameward_config::settings::Config;
use nameward_outside::judge::{Found as Reach, overall};
use nameward_outside::look::{Scene, look, scene};
use nameward_outside::place::{Place, Signs, place};

use crate::cli::{Output, Outside};
use crate::exit::{Failure, Found};
use crate::{output, run};

use report::Report;

/// A pod's own token: whoever has it stands in a pod.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where this process stands. One call to the API, and none where the node is stated.
pub(crate) async fn stands(connection: &Connection, config: &Config, from: &Outside) -> Place {
    let named = std::env::var("NODE_NAME").is_ok_and(|name| !name.is_empty());
    let mut signs = Signs {
        asked: from.outside || from.allow_pods,
        node_stated: named || !config.kubernetes.node_name.is_empty(),
        in_pod: config.kubernetes.kubeconfig.is_empty()
            && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            && Path::new(TOKEN).exists(),
        node_known: None,
    };
    if let (false, Ok(node)) = (signs.asked || signs.node_stated || signs.in_pod, run::node_name(config)) {
        signs.node_known = match connection.cluster.get_node(node.as_str()).await {
            Ok(_) => Some(true),
            Err(error) if error.class == Class::NotFound => Some(false),
            Err(_) => None,
        };
    }
    place(signs)
}

/// `nameward check` from outside.
pub(crate) async fn check(
    connection: &Connection,
    config: &Config,
    form: Output,
    from: &Outside,
) -> Result<Found, Failure> {
    let scene = scene_of(connection, config).await?;
    if form == Output::Text {
        scene.losses.iter().for_each(|loss| output::error(&format!("nameward: {loss}")));
    }
    let judgement = look(&scene, config).await;
    let probed =
        if from.allow_pods { Some(probes::probe(connection, config, &scene, from, form).await?) } else { None };
    let found = overall(judgement.found, probed.as_ref().map(|p| p.launched.probes.as_slice()));
    let report = Report { scene: &scene, judgement: &judgement, probed: probed.as_ref(), found };
    match form {
        Output::Json => output::json(&report.json()),
        Output::Text => output::line(&report.text()),
    }
    match found {
        Reach::Healthy => Ok(Found::Healthy),
        Reach::Unhealthy => Ok(Found::Unhealthy),
        Reach::NotReached => {
            let (what, why) = report.not_reached();
            Err(Failure::could_not(what, why).told())
        }
    }
}

/// What the API says.
pub(crate) async fn scene_of(connection: &Connection, config: &Config) -> Result<Scene, Failure> {
    scene(&connection.cluster, config).await.map_err(|error| {
        let what = format!(
            "what cluster DNS is cannot be read at {}; check the user's rights and `discovery.service`",
            connection.server
        );
        Failure::could_not(what, error)
    })
}
