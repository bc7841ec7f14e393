//! The threads of the process.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;

/// Threads for what actors spawn: the Kubernetes client, probes, the HTTP endpoint.
const WORKERS: usize = 2;
/// Most threads for blocking calls.
const BLOCKING: usize = 16;
/// Blocking calls that have not returned this long after the end are left behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// The runtime could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No threads or no epoll.
    #[error("cannot start the worker threads; look at the limits on processes and open files (ulimit -u, ulimit -n)")]
    Runtime(#[source] std::io::Error),
}

/// Runs `main` on this thread, which becomes the actors' thread, beside a runtime of two worker threads: inside,
/// [`crate::Supervisor::start`] puts actors on this thread, and `tokio::spawn` puts Send futures on the workers.
///
/// # Errors
/// When the runtime cannot be built.
pub fn run<T, F: Future<Output = T>>(main: impl FnOnce() -> F) -> Result<T, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_name("nameward-worker")
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let runtime = Arc::new(runtime);
    let system = System::with_tokio_rt(|| Arc::clone(&runtime));
    let output = system.block_on(async { main().await });
    // The system holds the actors; they end before the threads that serve them.
    drop(system);
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shutdown_timeout(PATIENCE);
    }
    Ok(output)
}
