//! The one place that writes to the terminal.

use std::io::{IsTerminal, Write};

use comfy_table::Table;
use serde::Serialize;

/// A line for people or a document for programs, on standard output. A closed pipe ends the output silently.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A message on standard error.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// One JSON document on a line.
pub(crate) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(e) => error(&format!("nameward: the result cannot be written as JSON: {e}")),
    }
}

/// Whether people look at standard output, and colours are wanted (<https://no-color.org>).
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Columns as people set them, else those of the terminal up to what is still easily read, else (a file, a pipe) 110.
pub(crate) fn width() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal =
        || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0).min(140));
    set.or_else(terminal).filter(|n| *n >= 40).unwrap_or(110)
}

/// A table without lines.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header);
    table
}

/// The text of a table, without the blanks around its lines.
pub(crate) fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    let lines: Vec<&str> =
        text.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line.trim_end())).collect();
    lines.join("\n")
}
