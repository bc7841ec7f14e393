//! The simulated API server and its machinery, as the real Kubernetes client meets them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod admission;
mod bench;
mod faults;
mod machinery;
mod power;
mod reviews;
mod watching;
