//! The simulated API server answers what kube-apiserver answered: every pair of both recorded transcripts is asked again,
//! and status, content type and the whole body are compared but for uids, resource versions and times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod first;
mod second;
mod support;
