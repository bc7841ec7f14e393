//! Entry points that `--help` does not show: what the lab starts this program again for.

use std::ffi::OsString;
use std::process::ExitCode;

/// The holder of a pod: `__hold SANDBOX`.
pub(crate) const HOLD: &str = "__hold";

/// The fault-injecting DNS server: `__dns OPTIONS`, options as JSON.
pub(crate) const DNS: &str = "__dns";

/// The scenarios' helper: `__client query|hold|forward …`.
pub(crate) const CLIENT: &str = "__client";

/// Runs a hidden command and gives back its exit code; `None` if these arguments (with the program's name at 0) are none.
/// Call it first in `main`, before arguments are parsed and before any runtime.
#[must_use]
pub(crate) fn hidden(args: &[OsString]) -> Option<ExitCode> {
    let command = args.get(1)?.to_str()?;
    let rest = args.get(2..).unwrap_or_default();
    match command {
        HOLD => Some(super::hold::run(rest)),
        DNS => Some(crate::dns::run(rest)),
        CLIENT => Some(crate::client::run(rest)),
        _ => None,
    }
}
