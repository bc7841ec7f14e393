//! Which rights a run used, kept beside the logs: together all runs must use every right of `deploy/rbac`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::processes::LOGS;
use crate::apiserver::Handle;
use crate::scenario::Scenario;

/// Names the folder for them; without it they are kept beside the logs.
const RIGHTS: &str = "NAMEWARD_SIMULATION_RIGHTS";

/// Appends to `SCENARIO.rights`, one line per right, if somebody wants them or logs kept.
pub(super) fn keep(api: &Handle, scenario: &Scenario) -> io::Result<()> {
    let Some(folder) = std::env::var_os(RIGHTS).or_else(|| std::env::var_os(LOGS)).map(PathBuf::from) else {
        return Ok(());
    };
    let file = folder.join(format!("{}.rights", scenario.name.replace('/', "-")));
    let lines: String = api.rights().iter().map(|right| format!("{right}\n")).collect();
    OpenOptions::new().create(true).append(true).open(file)?.write_all(lines.as_bytes())
}
