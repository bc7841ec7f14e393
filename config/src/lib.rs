//! Typed configuration: one TOML file, an environment overlay, every error reported at once with line and column.
//!
//! [`Config::default`] is what runs without a file; `config/nameward.toml` spells the same values with notes.

pub mod ceilings;
mod env;
pub mod ladders;
pub mod load;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod reference;
mod rules;
mod schema;
pub mod settings;
pub mod source;
pub mod text;

#[cfg(test)]
mod tests;

pub use load::{Loaded, Problem, Problems, load, load_text};
pub use schema::json_schema;
pub use settings::{Also, Config};
pub use source::{Reload, Source};
pub use text::{Bytes, Period};

/// The annotated configuration file that equals [`Config::default`].
pub const ANNOTATED: &str = include_str!("../nameward.toml");
