//! `nameward config`: checks, prints and describes the configuration.

use std::path::Path;

use nameward_config::settings::Config;
use nameward_config::{Loaded, Problems, Source, json_schema, load};

use crate::cli::{Cluster, ConfigArgs, ConfigCommand, Output};
use crate::exit::{Failure, Found};
use crate::output;

pub(crate) fn config(args: &ConfigArgs) -> Result<Found, Failure> {
    match &args.command {
        ConfigCommand::Check { file, output } => match (load(Some(file), environment()), output) {
            (Ok(loaded), Output::Json) => {
                output::json(&serde_json::json!({"ok": true, "hash": loaded.hash, "warnings": loaded.warnings}));
                Ok(Found::Healthy)
            }
            (Ok(loaded), Output::Text) => {
                warn(&loaded);
                output::line(&format!("{}: good (hash {})", file.display(), loaded.hash));
                Ok(Found::Healthy)
            }
            (Err(problems), Output::Json) => {
                let list: Vec<_> = problems
                    .problems
                    .iter()
                    .map(|p| serde_json::json!({"place": p.place, "key": p.key, "what": p.what}))
                    .collect();
                output::json(&serde_json::json!({"ok": false, "problems": list}));
                Err(refused(file, &problems))
            }
            (Err(problems), Output::Text) => {
                output::line(&problems.to_string());
                Err(refused(file, &problems))
            }
        },
        ConfigCommand::Print { file } => {
            let loaded = load(file.as_deref(), environment()).map_err(|p| told(file.as_deref(), &p))?;
            warn(&loaded);
            let text = toml::to_string(&loaded.config)
                .map_err(|e| Failure::could_not("the configuration cannot be written as TOML", e))?;
            output::line(text.trim_end());
            Ok(Found::Healthy)
        }
        ConfigCommand::Schema => {
            let text = serde_json::to_string_pretty(&json_schema())
                .map_err(|e| Failure::could_not("the schema cannot be written as JSON", e))?;
            output::line(&text);
            Ok(Found::Healthy)
        }
    }
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        output::error(&format!("nameward: warning: {warning}"));
    }
}

/// After the problems were printed.
fn refused(file: &Path, problems: &Problems) -> Failure {
    Failure::usage(format!(
        "{}: {}; `nameward config print` shows what is in force without it",
        file.display(),
        count(problems)
    ))
}

/// The problems themselves.
fn told(file: Option<&Path>, problems: &Problems) -> Failure {
    let by_flag = problems.problems.iter().all(|p| p.place.starts_with("--"));
    let place = match file {
        _ if by_flag => "the command line".to_owned(),
        Some(file) => file.display().to_string(),
        None => "the environment".to_owned(),
    };
    Failure::usage(format!("the configuration is bad, {} in {place}:\n{problems}", count(problems)))
}

fn count(problems: &Problems) -> String {
    let n = problems.problems.len();
    format!("{n} problem{}", if n == 1 { "" } else { "s" })
}

/// The environment as text. What is not UTF-8 is no setting, and must not stop anything.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        // These are the simulation's own.
        .filter(|(name, _)| !name.starts_with("NAMEWARD_SIMULATION_"))
        .collect()
}

/// The configuration of a command, with the command line laid over file and environment.
pub(crate) fn configure(cluster: &Cluster) -> Result<(Source, Config, Vec<String>), Failure> {
    let mut env = environment();
    let mut flags = Vec::new();
    let mut lay_over = |name: &'static str, flag: &'static str, value: Option<String>| {
        if let Some(value) = value {
            env.retain(|(n, _)| n != name);
            env.push((name.to_owned(), value));
            flags.push((name, flag));
        }
    };
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    lay_over("NAMEWARD_KUBERNETES_KUBECONFIG", "--kubeconfig", path(&cluster.kubeconfig));
    lay_over("NAMEWARD_KUBERNETES_CONTEXT", "--context", cluster.context.clone());
    lay_over("NAMEWARD_KUBERNETES_NAMESPACE", "--namespace", cluster.namespace.clone());
    lay_over("NAMEWARD_DISCOVERY_UDP_PORT", "--udp-port", cluster.udp_port.map(|p| p.to_string()));
    lay_over("NAMEWARD_LOG_LEVEL", "--log-level", cluster.log_level.clone());
    let file = cluster.config.clone();
    let (source, loaded) = Source::open(file.clone(), env).map_err(|mut problems| {
        // Whoever typed a flag knows of no variable.
        for problem in &mut problems.problems {
            if let Some((_, flag)) = flags.iter().find(|(name, _)| *name == problem.place) {
                problem.place = (*flag).to_owned();
            }
        }
        told(file.as_deref(), &problems)
    })?;
    Ok((source, loaded.config, loaded.warnings))
}
