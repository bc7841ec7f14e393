//! `nameward completions`: shell completions.

use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::{Failure, Found};

#[allow(clippy::unnecessary_wraps)] // Every command has the same shape.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Found, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nameward", &mut text);
    crate::output::line(String::from_utf8_lossy(&text).trim_end());
    Ok(Found::Healthy)
}
