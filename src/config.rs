//! `nameward config`: checks, prints and describes the configuration.

use std::path::Path;

use nameward_config::{Loaded, Problems, json_schema, load};

use crate::cli::{ConfigArgs, ConfigCommand, Output};
use crate::exit::{Failure, Found};
use crate::output;

pub(crate) fn config(args: &ConfigArgs) -> Result<Found, Failure> {
    match &args.command {
        ConfigCommand::Check { file, output } => match (load(Some(file), std::env::vars()), output) {
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
            let loaded = load(file.as_deref(), std::env::vars()).map_err(|p| Failure::Usage(p.to_string()))?;
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

fn refused(file: &Path, problems: &Problems) -> Failure {
    let n = problems.problems.len();
    let s = if n == 1 { "" } else { "s" };
    Failure::Usage(format!("{}: {n} problem{s}; `nameward config print` shows the defaults", file.display()))
}
