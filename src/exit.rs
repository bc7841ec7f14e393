//! Exit statuses and how errors are printed.

use std::error::Error;
use std::process::ExitCode;

use crate::output;

/// What a command found out.
///
/// | command | 0 | 1 | 3 |
/// |---|---|---|---|
/// | `check` on a node | every path answers | a path fails and was confirmed | no API, nothing to ask, nothing could be asked |
/// | `check` from outside | every way that is reached answers | a way that a reply has proven fails, or a probe pod's path does | nothing is reached; or probe pods were asked for and none answered |
/// | `status` | no open incident, no unhealthy node | an open incident or an unhealthy node | no API, not installed, or fewer than 60 % of the nodes say how they are |
/// | `diagnose` | nothing fails | a cause, or a failing path | what decides could not be read |
/// | `simulate` | all passed | one did not | could not be run |
///
/// 2 is usage or configuration, in every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Status 0: healthy, passed, done.
    Healthy,
    /// Status 1: unhealthy or failed.
    Unhealthy,
}

/// Why a command could not find out.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    status: u8,
    what: String,
    causes: Vec<String>,
    /// Its JSON object was written already.
    told: bool,
}

impl Failure {
    /// Status 2: usage or configuration. Says what is wrong, where, and what to do.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { status: 2, what: what.into(), causes: Vec::new(), told: false }
    }

    /// Status 2, told by an error and its causes.
    pub(crate) fn usage_by(error: &(dyn Error + 'static)) -> Self {
        Self { status: 2, what: error.to_string(), causes: causes(error), told: false }
    }

    /// Status 3: something outside stood in the way, told by an error and its causes.
    pub(crate) fn outside(error: &(dyn Error + 'static)) -> Self {
        Self { status: 3, ..Self::usage_by(error) }
    }

    /// Status 3: what could not be done and the next step, and why.
    pub(crate) fn could_not(what: impl Into<String>, why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let why: Box<dyn Error + Send + Sync> = why.into();
        let mut all = vec![why.to_string()];
        all.extend(causes(&*why));
        Self { status: 3, what: what.into(), causes: all, told: false }
    }

    /// In one line, for where it is a note beside something else.
    pub(crate) fn line(&self) -> String {
        let all: Vec<&str> =
            std::iter::once(self.what.as_str()).chain(self.causes.iter().map(String::as_str)).collect();
        all.join(": ").replace('\n', " ")
    }

    /// The same, whose JSON object was written already.
    pub(crate) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// Writes the one object that programs get in any case, unless that was done.
    pub(crate) fn tell(&self) {
        if !self.told {
            output::json(&serde_json::json!({"healthy": null, "error": self.json()}));
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({"what": self.what, "because": self.causes})
    }
}

fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(inner) = next {
        causes.push(inner.to_string());
        next = inner.source();
    }
    causes
}

/// Prints the failure with its chain of causes and gives the exit status.
pub(crate) fn code(outcome: Result<Found, Failure>) -> ExitCode {
    match outcome {
        Ok(Found::Healthy) => ExitCode::SUCCESS,
        Ok(Found::Unhealthy) => ExitCode::from(1),
        Err(failure) => {
            let mut text = format!("nameward: {}", indented(&failure.what));
            for cause in &failure.causes {
                text.push_str(&format!("\n  because: {}", indented(cause)));
            }
            output::error(&text);
            ExitCode::from(failure.status)
        }
    }
}

/// Further lines stand under the first.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}

/// clap's own errors: help and version are successes, the rest is status 2.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let failed = error.use_stderr();
    // A closed pipe is no reason for another status.
    let _ = error.print();
    if failed { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
