//! What is told to people besides incidents: what agents say of repairs of their own nodes (agents hold no right to write
//! Events, so that a node that was taken over cannot forge them), and how CoreDNS is covered by disruption budgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nameward_messages::cluster_view::{BudgetView, ClusterView, WorkloadKind, WorkloadView};
use nameward_messages::remedy::RemedyOutcome;
use nameward_messages::report::NodeReport;
use nameward_messages::verdict::SubjectKind;
use nameward_messages::{Mono, NodeName, Now, PodUid};

use super::breaker::subject_of_many;
use super::incident::Incident;
use super::{CoordinatorMind, Output, notes};

/// Events about repairs of nodes in a minute; what is beyond stands in the nodes' reports. A fault of many nodes is told by
/// its one incident.
const PER_MINUTE: u32 = 60;
/// Lines that are read of one report at most, whatever stands in it.
const RECORDS: usize = 16;
/// Budgets must have stood like this for so long: workload and budgets come by watches of their own.
const SETTLED: Duration = Duration::from_secs(60);

/// How budgets cover CoreDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    /// One for every pod, or it does not matter.
    Fine,
    /// None for some pod.
    None,
    /// More than one for some pod.
    Overlap,
}

/// What was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside {
    /// Every agent's report as it was last looked at.
    reports: BTreeMap<NodeName, Option<Arc<NodeReport>>>,
    minute: Mono,
    written: u32,
    /// Since when budgets cover CoreDNS like this.
    cover: Option<(Cover, Mono)>,
    /// What was told of budgets last: once, and again only after it was otherwise in between.
    told: Option<Cover>,
}

impl Aside {
    /// Another leads, or led: what stands in reports was told by whoever led then.
    pub(super) fn forget_reports(&mut self) {
        self.reports.clear();
    }

    /// When time alone brings the next word.
    pub(super) fn next_word(&self, now: Mono) -> Option<Mono> {
        let (cover, since) = self.cover?;
        (self.told != Some(cover)).then(|| since + SETTLED).filter(|at| *at > now)
    }
}

impl CoordinatorMind {
    /// `kubectl describe` finds Events by the uid of their object, which a subject need not have; and what is no object of the
    /// API (an upstream), or is no Deployment, is told on the DNS Service.
    pub(super) fn place_events(&self, out: &mut [Output]) {
        let Some(view) = &self.view else { return };
        for output in out {
            let Output::Event { subject, .. } = output else { continue };
            let no_deployment = view.workload.as_ref().is_some_and(|w| w.kind == WorkloadKind::DaemonSet);
            let elsewhere = match subject.kind {
                SubjectKind::Upstream => true,
                SubjectKind::Deployment => no_deployment,
                SubjectKind::Pod | SubjectKind::Node | SubjectKind::Service => false,
            };
            if let Some(service) = subject_of_many(view).filter(|_| elsewhere) {
                *subject = service;
            }
            if subject.uid.is_some() {
                continue;
            }
            let workload = view.workload.as_ref().filter(|w| Some(&w.key.namespace) == subject.namespace.as_ref());
            let uid = match subject.kind {
                // As kubelets do it: `kubectl describe node` looks for the name, too.
                SubjectKind::Node => Some(subject.name.as_str()),
                SubjectKind::Service => Some(view.service_uid.as_str()),
                SubjectKind::Deployment => workload.filter(|w| w.key.name == subject.name).map(|w| w.uid.as_str()),
                SubjectKind::Pod | SubjectKind::Upstream => None,
            };
            subject.uid = uid.filter(|uid| !uid.is_empty()).map(PodUid::from);
        }
    }

    pub(super) fn tell_aside(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        self.tell_node_records(now, view, out);
        self.tell_budgets(now, view, out);
    }

    /// Each new line that an agent has written of its repairs.
    fn tell_node_records(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let mut aside = std::mem::take(&mut self.aside);
        let storms = self.stormy_nodes(view);
        for agent in &view.agents {
            let Some(before) = aside.reports.get(&agent.name) else { continue };
            let same = match (before, &agent.report) {
                (Some(before), Some(report)) => Arc::ptr_eq(before, report),
                (None, None) => true,
                _ => false,
            };
            let Some(report) = agent.report.as_ref().filter(|_| !same) else { continue };
            let known = before.as_ref().map_or(&[][..], |report| &report.remedies);
            let stormy = storms.has(&agent.name);
            let lines = report.remedies.iter().take(RECORDS).filter(|r| !r.kind.shared() && r.subject.plausible());
            for record in lines.filter(|record| !known.contains(record)) {
                let of_many = stormy && matches!(record.outcome, RemedyOutcome::Refused | RemedyOutcome::WouldAct);
                if now.mono.since(aside.minute) >= Duration::from_secs(60) {
                    (aside.minute, aside.written) = (now.mono, 0);
                }
                if of_many || aside.written >= PER_MINUTE {
                    continue;
                }
                aside.written += 1;
                let about = |incident: &&Incident| incident.open() && incident.spec.subject == record.subject;
                out.push(notes::node_record(&agent.name, self.book.values().find(about), record));
            }
        }
        aside.reports = view.agents.iter().map(|agent| (agent.name.clone(), agent.report.clone())).collect();
        self.aside = aside;
    }

    fn tell_budgets(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let Some(workload) = &view.workload else { return };
        let cover = cover(workload, view);
        let since = match self.aside.cover {
            Some((known, since)) if known == cover => since,
            _ => now.mono,
        };
        self.aside.cover = Some((cover, since));
        if self.aside.told == Some(cover) || now.mono.since(since) < SETTLED {
            return;
        }
        self.aside.told = Some(cover);
        match cover {
            Cover::Fine => {}
            Cover::None => {
                let selector: Vec<String> = view.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
                out.push(notes::no_budget(workload, &selector.join(",")));
            }
            Cover::Overlap => {
                let over = |budget: &&BudgetView| budget.matches.iter().any(|pod| budgets_of(view, pod) > 1);
                let budgets: Vec<&BudgetView> = view.budgets.iter().filter(over).collect();
                out.push(notes::overlapping_budgets(workload, &budgets));
            }
        }
    }
}

fn budgets_of(view: &ClusterView, pod: &PodUid) -> usize {
    view.budgets.iter().filter(|budget| budget.matches.contains(pod)).count()
}

/// One replica needs no budget: it would only stop drains. A drain leaves a DaemonSet's pods alone.
fn cover(workload: &WorkloadView, view: &ClusterView) -> Cover {
    let mut counts = view.pods.iter().filter(|pod| !pod.terminating).map(|pod| budgets_of(view, &pod.uid));
    if counts.clone().any(|count| count > 1) {
        Cover::Overlap
    } else if workload.kind == WorkloadKind::Deployment
        && workload.replicas > 1
        && !view.selector.is_empty()
        && counts.any(|count| count == 0)
    {
        Cover::None
    } else {
        Cover::Fine
    }
}
