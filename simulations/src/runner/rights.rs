//! Which rights a run used, kept beside the logs: together all runs must use every right of `deploy/rbac`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::processes::LOGS;
use crate::apiserver::Handle;
use crate::scenario::Scenario;

/// Appends to `SCENARIO.rights`, one line per right, if a developer wants logs kept.
pub(super) fn keep(api: &Handle, scenario: &Scenario) -> io::Result<()> {
    let Some(folder) = std::env::var_os(LOGS).map(PathBuf::from) else { return Ok(()) };
    let file = folder.join(format!("{}.rights", scenario.name.replace('/', "-")));
    let lines: String = api.rights().iter().map(|right| format!("{right}\n")).collect();
    OpenOptions::new().create(true).append(true).open(file)?.write_all(lines.as_bytes())
}
