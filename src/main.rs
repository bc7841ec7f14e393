//! `nameward`: keeps Kubernetes cluster DNS answering.
//!
//! One file per command; `wiring` says who tells whom. No decision is taken in this crate.

mod ask;
mod check;
mod cli;
mod completions;
mod config;
mod diagnose;
mod exit;
mod logging;
mod output;
mod outside;
mod plugin;
mod report;
mod run;
mod simulate;
mod status;
mod visitors;
mod wiring;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The processes of a simulation's lab (pod holders, DNS servers) are this binary under other names;
    // they and the simulation itself change namespaces, which must happen before any thread exists.
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(code) = nameward_simulations::hidden(&args) {
        return code;
    }
    let cli = match plugin::parsed(args) {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let outcome = match &cli.command {
        cli::Command::Run(args) => run::run(args),
        cli::Command::Check(args) => check::check(args),
        cli::Command::Status(args) => status::status(args),
        cli::Command::Ask(args) => ask::ask(args),
        cli::Command::Diagnose(args) => diagnose::diagnose(args),
        cli::Command::Simulate(args) => simulate::simulate(args),
        cli::Command::Config(args) => config::config(args),
        cli::Command::Completions(args) => completions::completions(args),
    };
    exit::code(outcome)
}
