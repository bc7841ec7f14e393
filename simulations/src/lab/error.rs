//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;

/// A failed operation on the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A network namespace could not be made or bound to its path.
    #[error("could not make network namespace {name}")]
    Namespace {
        /// Its name.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A namespace could not be entered.
    #[error("could not enter namespace {name}")]
    Enter {
        /// Its name or path.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A program could not be started.
    #[error("could not start {program} in namespace {namespace}")]
    Spawn {
        /// The program.
        program: String,
        /// Where.
        namespace: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A program of the system reported failure.
    #[error("`{command}` failed in namespace {namespace}: {stderr}")]
    Tool {
        /// The command line.
        command: String,
        /// Where.
        namespace: String,
        /// What it wrote to its error output.
        stderr: String,
    },
    /// A file of the lab could not be read or written.
    #[error("could not access {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A name that the lab does not know.
    #[error("the lab has no {kind} {name}")]
    Unknown {
        /// `node`, `pod`, …
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The lab as described cannot be.
    #[error("the lab cannot be built so: {0}")]
    Spec(String),
    /// A process of the lab did not do as told.
    #[error("{process}: {why}")]
    Process {
        /// Which.
        process: String,
        /// What it did.
        why: String,
    },
}

impl LabError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
