//! Supervision through its public face.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drain;
mod inbox_model;
mod life;
mod stage;
