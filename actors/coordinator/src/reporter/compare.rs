//! When the report is made: to be written, or to see whether it must be. On a quiet node that is once per heartbeat.

use nameward_messages::Now;
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::report::NodeReport;
use nameward_messages::verdict::DiagnosisTells;

use super::content::Shape;
use super::{Input, ReporterMind, STARVED};

impl ReporterMind {
    /// Whether an input may change what stands in the report.
    pub(super) fn touches(&self, input: &Input) -> bool {
        match input {
            Input::Diagnosis(DiagnosisTells::Matrix(matrix)) => self.matrix.as_ref() != Some(matrix),
            Input::Namespace(NamespaceChanged::Found(ns)) => !self.vantages.contains_key(&ns.pod),
            Input::Diagnosis(DiagnosisTells::Recovered(_) | DiagnosisTells::Way { .. })
            | Input::Targets(_)
            | Input::Tick => false,
            _ => true,
        }
    }

    /// Compares what would be written with what was, if either may have changed. What was made for that is given back.
    pub(super) fn compare(&mut self, now: Now) -> Option<(NodeReport, Shape)> {
        let starved = self.starved(now);
        if !self.touched && starved == self.was_starved {
            return None;
        }
        let made = self.shaped(now);
        self.differs = made.1.differs_from(self.written.as_ref());
        (self.touched, self.was_starved) = (false, starved);
        Some(made)
    }

    pub(super) fn shaped(&mut self, now: Now) -> (NodeReport, Shape) {
        let report = self.report(now);
        let shape = Shape::of(&report);
        (report, shape)
    }

    /// The process got too little of the processor a moment ago.
    pub(super) fn starved(&self, now: Now) -> bool {
        self.starved_at.is_some_and(|at| now.mono.since(at) < STARVED)
    }
}
