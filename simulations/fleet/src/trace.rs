//! What happened, for people: the last lines of a history, or all of it.

use std::collections::VecDeque;
use std::fmt;

use nameward_messages::Mono;

/// Lines that are kept.
const TAIL: usize = 400;

/// The trace of a history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    lines: VecDeque<String>,
    /// Keep every line.
    pub(crate) whole: bool,
    /// Write nothing down: lines cost more than all the rest of a short history.
    pub(crate) off: bool,
}

impl Trace {
    /// One more line. The text is made only if it is kept.
    pub(crate) fn line(&mut self, at: Mono, who: impl fmt::Display, what: impl FnOnce() -> String) {
        if self.off {
            return;
        }
        if !self.whole && self.lines.len() >= TAIL {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>10.3}s  {who:<12} {}", at.0.as_secs_f64(), what()));
    }

    /// The lines.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
