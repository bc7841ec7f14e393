//! Names and mind, without any runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod docs;
mod html;
mod mind;
mod names;
mod promql;
mod queries;
mod status;
