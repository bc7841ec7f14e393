//! Typed configuration: one TOML file, an environment overlay, every error reported at once with line and column.
//!
//! [`Config::default`] is what runs without a file; `config/nameward.toml` spells the same values with notes.

pub mod settings;
pub mod text;

pub use settings::Config;
pub use text::{Bytes, Period};
