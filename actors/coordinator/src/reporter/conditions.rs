//! The conditions of a report, with the time of their last change.

use jiff::Timestamp;
use nameward_messages::health::Stage;
use nameward_messages::report::{Condition, NodeReport};

/// Remembers when each condition last changed.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    last: Vec<Condition>,
}

impl Conditions {
    /// Takes over the times of an earlier life.
    pub(super) fn adopt(&mut self, conditions: &[Condition]) {
        if self.last.is_empty() {
            self.last = conditions.iter().take(8).cloned().collect();
        }
    }

    /// The conditions of a report; `known`: a first sweep has ended.
    pub(super) fn of(
        &mut self,
        report: &NodeReport,
        known: bool,
        watcher: Option<&Stage>,
        at: Timestamp,
    ) -> Vec<Condition> {
        let mut all = vec![healthy(report, known)];
        if let Some(stage) = watcher {
            all.push(match stage {
                Stage::Ready => ("Watching", "True", "WatchesComplete", "the Kubernetes API is read".to_owned()),
                Stage::Starting(because) => ("Watching", "Unknown", "Starting", because.clone()),
                Stage::Degraded(because) => ("Watching", "False", "ApiUnreachable", because.clone()),
            });
        }
        let conditions = all.into_iter().map(|(kind, status, reason, message)| {
            let before = self.last.iter().find(|c| c.r#type == kind && c.status == status);
            Condition {
                r#type: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: super::content::clip(&message),
                last_transition_time: before.map_or(at, |c| c.last_transition_time),
            }
        });
        let conditions: Vec<Condition> = conditions.collect();
        self.last.clone_from(&conditions);
        conditions
    }
}

fn healthy(report: &NodeReport, known: bool) -> (&'static str, &'static str, &'static str, String) {
    let failing = report.matrix.rows.iter().filter(|row| row.bad > 0).count();
    if let Some(verdict) = report.verdicts.first() {
        let more = report.verdicts.len() - 1;
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        let says = format!("{} {} ({}){rest}", verdict.subject, verdict.cause.about().says, verdict.cause);
        ("Healthy", "False", "VerdictStands", says)
    } else if let Some(row) = report.matrix.rows.iter().find(|row| row.bad > 0) {
        let of = row.good.saturating_add(row.bad);
        let more = if failing > 1 { format!(" (and {} more rows of the matrix)", failing - 1) } else { String::new() };
        let says = format!(
            "{} {} does not answer {} of {of} vantages of this node over {}{more}; no cause is named yet",
            row.target, row.ip, row.bad, row.transport
        );
        ("Healthy", "False", "PathsFail", says)
    } else if !known {
        ("Healthy", "Unknown", "NotProbedYet", "no sweep has ended yet".to_owned())
    } else if !report.self_check {
        let trouble = report.troubles.first().map_or("see status.troubles", String::as_str);
        ("Healthy", "Unknown", "SelfCheckFails", format!("the agent cannot vouch for what it measures: {trouble}"))
    } else {
        ("Healthy", "True", "DnsAnswers", "DNS answers on every path of this node".to_owned())
    }
}
