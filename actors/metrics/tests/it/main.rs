//! The pages, over HTTP, with the actor alive behind them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod exposition;
mod gate;
mod pages;
