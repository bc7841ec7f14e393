//! Agents that lie: broken ones, and those in the hands of somebody else.

use std::sync::Arc;

use nameward_messages::PodUid;
use nameward_messages::report::{NodeReport, ReportedVerdict};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};

use crate::world::World;

/// What an agent says against the truth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    #[default]
    Honest,
    /// This CoreDNS pod is dead.
    Accuses(PodUid),
    /// Every CoreDNS pod is dead.
    AccusesAll,
    /// Every CoreDNS pod is well.
    Praises,
    /// Whatever a report has room for: pods of other workloads, pods of other nodes, answers that nobody asked for.
    Forges,
}

impl World {
    /// What a forger writes instead of its report.
    pub(crate) fn forged(&self, n: usize, mut report: NodeReport) -> NodeReport {
        if self.agents[n].lie != Lie::Forges {
            return report;
        }
        let verdict = |subject: Subject| ReportedVerdict {
            cause: Cause::CorednsUdpDead,
            scope: Scope::CorednsPod,
            subject,
            confidence: Confidence::Certain,
            evidence: vec![Evidence::new("forged", "kill it")],
            ruled_out: Vec::new(),
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        report.self_check = true;
        let pods = self.api.strangers.iter().chain(self.api.active());
        report.verdicts.extend(pods.map(|pod| verdict(Subject::pod(&pod.key, &pod.uid))));
        // As many words as it can, and an answer in the name of every question that it can see.
        let others = self.api.agents.iter().filter_map(|agent| agent.report.as_ref());
        let more: Vec<_> = others.map(Arc::clone).flat_map(|other| other.answers.clone()).take(4).collect();
        for answer in more {
            if !report.answers.iter().any(|own| own.id == answer.id) {
                report.answers.push(answer);
            }
        }
        report
    }
}
