//! Exit statuses and how errors are printed.

use std::error::Error;
use std::process::ExitCode;

use crate::output;

/// What a command found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Status 0: healthy, passed, done.
    Healthy,
    /// Status 1: unhealthy or failed.
    Unhealthy,
}

/// Why a command could not find out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Status 2: usage or configuration.
    #[error("{0}")]
    Usage(String),
    /// Status 3: something outside stood in the way.
    #[error("{what}")]
    CouldNot {
        /// What could not be done, and the next step.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl Failure {
    /// Status 3 with its cause.
    pub(crate) fn could_not(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::CouldNot { what: what.into(), source: Some(source.into()) }
    }
}

/// Prints the failure with its chain of causes and gives the exit status.
pub(crate) fn code(outcome: Result<Found, Failure>) -> ExitCode {
    match outcome {
        Ok(Found::Healthy) => ExitCode::SUCCESS,
        Ok(Found::Unhealthy) => ExitCode::from(1),
        Err(failure) => {
            let mut text = format!("nameward: {failure}");
            let mut cause = failure.source();
            while let Some(inner) = cause {
                text.push_str(&format!("\n  because: {inner}"));
                cause = inner.source();
            }
            output::error(&text);
            ExitCode::from(match failure {
                Failure::Usage(_) => 2,
                Failure::CouldNot { .. } => 3,
            })
        }
    }
}

/// clap's own errors: help and version are successes, the rest is status 2.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let failed = error.use_stderr();
    // A closed pipe is no reason for another status.
    let _ = error.print();
    if failed { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
