//! What changed since the last snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::health::Stage;
use nameward_messages::pods::{ContainerOomKilled, HostNetworkPod, PodChanged, RolloutObserved};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::Targets;
use nameward_messages::workload::CorednsPodState;
use nameward_messages::{Mono, Now};

use crate::dns::Dns;
use crate::input::{Input, Link, Role, Settings, Snapshot, Watch};
use crate::kills::SeenKills;
use crate::pods::{LocalPods, MOST_MISFITS, misfit};
use crate::policy::Policy;
use crate::view::Sources;
use crate::workload;
use nameward_cluster::wire::Pod;

/// A watch may be away for this long before anything is said about it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest time between two views.
const VIEW_EVERY: Duration = Duration::from_millis(250);
/// A view is told this often even when nothing changed, so that its age is known.
const VIEW_AT_LEAST: Duration = Duration::from_secs(5);

/// What the watcher tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Tell {
    /// What is to be probed, whole.
    Targets(Arc<Targets>),
    /// A pod of this node changed.
    Pod(PodChanged),
    /// A CoreDNS container was killed for want of memory.
    OomKilled(ContainerOomKilled),
    /// What the containers of this node's CoreDNS pods do, whole.
    Coredns(Arc<Vec<CorednsPodState>>),
    /// Pods of this node that get the node's resolver and need the cluster's, whole.
    Misfits(Arc<Vec<HostNetworkPod>>),
    /// A rollout of the DNS workload began, went on or ended.
    Rollout(RolloutObserved),
    /// This node's orders.
    Orders(NodeOrders),
    /// The kill switch.
    KillSwitch(KillSwitch),
    /// The coordinator's view, whole.
    View(Arc<ClusterView>),
    /// How the watcher stands.
    Stage(Stage),
}

#[derive(Clone, Debug, Default)]
struct Standing {
    synced: bool,
    lost: Option<(Mono, String)>,
}

/// The decision: told snapshots, it tells changes.
#[derive(Debug)]
pub struct WatcherMind {
    role: Role,
    settings: Settings,
    seen: SeenKills,
    standing: BTreeMap<Watch, Standing>,
    dns: Dns,
    pods: LocalPods,
    local: Snapshot<Pod>,
    policy: Policy,
    sources: Sources,
    not_found: Option<String>,
    told_targets: Option<Arc<Targets>>,
    told_coredns: Arc<Vec<CorednsPodState>>,
    told_misfits: Arc<Vec<HostNetworkPod>>,
    told_orders: Option<NodeOrders>,
    told_switch: Option<KillSwitch>,
    told_stage: Option<Stage>,
    told_rollout: Option<RolloutObserved>,
    view_due: Option<Mono>,
    last_view: Option<Mono>,
    /// The last moment at which every watch stood.
    fresh_as_of: Mono,
}

impl WatcherMind {
    /// Nothing known yet.
    #[must_use]
    pub fn new(role: Role, settings: Settings, seen: SeenKills) -> Self {
        Self {
            role,
            settings,
            seen,
            standing: role.watches().map(|watch| (watch, Standing::default())).collect(),
            dns: Dns::default(),
            pods: LocalPods::default(),
            local: Arc::default(),
            policy: Policy::default(),
            sources: Sources::default(),
            not_found: None,
            told_targets: None,
            told_coredns: Arc::default(),
            told_misfits: Arc::default(),
            told_orders: None,
            told_switch: None,
            told_stage: None,
            told_rollout: None,
            view_due: None,
            last_view: None,
            fresh_as_of: Mono::default(),
        }
    }

    /// One input in, what changed out.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Tell>) {
        let at = now.mono;
        // Until this moment everything stood, if it does.
        if self.all_good() {
            self.fresh_as_of = at;
        }
        match input {
            Input::LocalPods(pods) => {
                self.synced(Watch::LocalPods);
                out.extend(self.pods.changes(&pods, ignored(self.told_orders.as_ref())).into_iter().map(Tell::Pod));
                self.local = pods;
            }
            Input::Service(found) => {
                self.synced(Watch::Service);
                self.dns.service = Some(found);
                self.not_found = None;
            }
            Input::Slices(found) => {
                self.synced(Watch::Slices);
                self.dns.slices = Some(found);
            }
            Input::OwnAgent(found) => {
                self.synced(Watch::OwnAgent);
                let orders = found.values().next().and_then(|agent| agent.orders.clone()).unwrap_or_default();
                if self.told_orders.as_ref() != Some(&orders) {
                    let other = ignored(self.told_orders.as_ref()) != ignored(Some(&orders));
                    self.told_orders = Some(orders.clone());
                    out.push(Tell::Orders(orders));
                    // Before the first list of pods there is nothing to look at again.
                    if other && self.standing.get(&Watch::LocalPods).is_some_and(|standing| standing.synced) {
                        let pods = self.local.clone();
                        out.extend(
                            self.pods.changes(&pods, ignored(self.told_orders.as_ref())).into_iter().map(Tell::Pod),
                        );
                    }
                }
            }
            Input::Policy(found) => {
                self.synced(Watch::Policy);
                self.policy.read(&found);
                if self.stands(Watch::Policy) {
                    self.policy.good();
                }
            }
            Input::DnsPods(found) => {
                self.synced(Watch::DnsPods);
                self.sources.pods = found;
                self.view_changed(at);
            }
            Input::Deployments(found) => {
                self.synced(Watch::Workload);
                self.sources.deployments = found;
                self.view_changed(at);
            }
            Input::DaemonSets(found) => {
                self.synced(Watch::Workload);
                self.sources.daemon_sets = found;
                self.view_changed(at);
            }
            Input::Budgets(found) => {
                self.synced(Watch::Budgets);
                self.sources.budgets = found;
                self.view_changed(at);
            }
            Input::Nodes(found) => {
                self.synced(Watch::Nodes);
                self.sources.nodes = found;
                self.view_changed(at);
            }
            Input::Namespaces(found) => {
                self.synced(Watch::Namespaces);
                self.sources.namespaces = found;
                self.view_changed(at);
            }
            Input::Agents(found) => {
                self.synced(Watch::Agents);
                self.sources.agents = found;
                self.sources.note_reports(at);
                self.view_changed(at);
            }
            Input::Incidents(found) => {
                self.synced(Watch::Incidents);
                self.sources.incidents = found;
                self.view_changed(at);
            }
            Input::Kubernetes { service, endpoints } => {
                // Neither is ever believed to be empty: there is no API without them.
                let known = &mut self.dns.kubernetes;
                if !service.is_empty() {
                    known.0 = service;
                }
                if !endpoints.is_empty() {
                    known.1 = endpoints;
                }
            }
            Input::Link(watch, link) => self.link(at, watch, link),
            Input::NotFound(why) => self.not_found = Some(why),
            Input::Settings(settings) => {
                self.settings = settings;
                self.view_changed(at);
            }
            Input::Tick => {}
        }
        self.conclude(at, out);
    }

    /// When to step with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let lost = self.standing.values().filter_map(|standing| standing.lost.as_ref());
        let patience = lost.map(|(since, _)| *since + PATIENCE).filter(|_| !self.degraded()).min();
        let view = if self.role.coordinator() && self.complete() {
            let least = self.last_view.map(|last| last + VIEW_AT_LEAST);
            self.view_due.into_iter().chain(least).min()
        } else {
            None
        };
        patience.into_iter().chain(view).min()
    }

    fn synced(&mut self, watch: Watch) {
        if let Some(standing) = self.standing.get_mut(&watch) {
            standing.synced = true;
        }
    }

    fn stands(&self, watch: Watch) -> bool {
        self.standing.get(&watch).is_some_and(|standing| standing.lost.is_none())
    }

    fn link(&mut self, at: Mono, watch: Watch, link: Link) {
        let Some(standing) = self.standing.get_mut(&watch) else { return };
        match link {
            Link::Good => {
                standing.lost = None;
                if watch == Watch::Policy {
                    self.policy.good();
                }
            }
            Link::Lost(why) => {
                let since = standing.lost.as_ref().map_or(at, |(since, _)| *since);
                standing.lost = Some((since, why));
                if watch == Watch::Policy {
                    self.policy.lost(at);
                }
            }
        }
    }

    fn conclude(&mut self, at: Mono, out: &mut Vec<Tell>) {
        if let Some(targets) = self.dns.targets(&self.settings)
            && self.told_targets.as_deref() != Some(&targets)
        {
            let targets = Arc::new(targets);
            self.told_targets = Some(targets.clone());
            out.push(Tell::Targets(targets));
            self.view_changed(at);
        }
        self.tell_kills(out);
        self.tell_coredns(out);
        self.tell_misfits(out);
        let switch = self.policy.state();
        if self.told_switch != Some(switch) {
            self.told_switch = Some(switch);
            out.push(Tell::KillSwitch(switch));
        }
        self.tell_view(at, out);
        let stage = self.stage(at);
        if self.told_stage.as_ref() != Some(&stage) {
            self.told_stage = Some(stage.clone());
            out.push(Tell::Stage(stage));
        }
    }

    fn tell_kills(&mut self, out: &mut Vec<Tell>) {
        let targets = self.told_targets.as_deref();
        let local = self.local.values().filter(|pod| self.dns.serves(pod, targets));
        // Of one that its kubelet evicted it is the node that had too little, and no limit of its own says anything.
        for pod in local.chain(self.sources.pods.values()).filter(|pod| !pod.over()) {
            out.extend(self.seen.fresh(pod).into_iter().map(Tell::OomKilled));
        }
    }

    fn tell_coredns(&mut self, out: &mut Vec<Tell>) {
        let targets = self.told_targets.as_deref();
        let serves = |pod: &&Arc<Pod>| !pod.over() && self.dns.serves(pod, targets);
        let serving = self.local.values().filter(serves).take(workload::MOST);
        let now: Vec<CorednsPodState> = serving.map(|pod| workload::state(pod)).collect();
        if *self.told_coredns != now {
            self.told_coredns = Arc::new(now);
            out.push(Tell::Coredns(Arc::clone(&self.told_coredns)));
        }
    }

    fn tell_misfits(&mut self, out: &mut Vec<Tell>) {
        let ignored = ignored(self.told_orders.as_ref());
        let now = self.local.values().filter_map(|pod| misfit(pod, ignored));
        let now: Vec<HostNetworkPod> = now.take(MOST_MISFITS).collect();
        if *self.told_misfits != now {
            self.told_misfits = Arc::new(now);
            out.push(Tell::Misfits(Arc::clone(&self.told_misfits)));
        }
    }

    fn view_changed(&mut self, at: Mono) {
        if self.role.coordinator() && self.view_due.is_none() {
            self.view_due = Some(self.last_view.map_or(at, |last| (last + VIEW_EVERY).max(at)));
        }
    }

    fn tell_view(&mut self, at: Mono, out: &mut Vec<Tell>) {
        if !self.role.coordinator() || !self.complete() {
            return;
        }
        let changed = self.view_due.is_some_and(|due| due <= at);
        let stale = self.last_view.is_none_or(|last| at.since(last) >= VIEW_AT_LEAST);
        if !changed && !stale {
            return;
        }
        self.view_due = None;
        self.last_view = Some(at);
        let service = self.dns.service.as_ref().and_then(|found| found.values().next());
        let view = ClusterView {
            complete: true,
            fresh_as_of: if self.all_good() { at } else { self.fresh_as_of },
            targets: self.told_targets.clone().unwrap_or_default(),
            ..self.sources.view(service.map(AsRef::as_ref), &self.settings)
        };
        if self.told_rollout.as_ref() != Some(&view.rollout) {
            self.told_rollout = Some(view.rollout.clone());
            out.push(Tell::Rollout(view.rollout.clone()));
        }
        out.push(Tell::View(Arc::new(view)));
    }

    fn complete(&self) -> bool {
        self.standing.values().all(|standing| standing.synced)
    }

    fn all_good(&self) -> bool {
        self.standing.values().all(|standing| standing.synced && standing.lost.is_none())
    }

    fn degraded(&self) -> bool {
        matches!(self.told_stage, Some(Stage::Degraded(_)))
    }

    fn stage(&self, at: Mono) -> Stage {
        let away: BTreeSet<&str> = self
            .standing
            .values()
            .filter_map(|standing| standing.lost.as_ref())
            .filter(|(since, _)| at.since(*since) >= PATIENCE)
            .map(|(_, why)| why.as_str())
            .collect();
        let named = |wanted: &dyn Fn(&Standing) -> bool| {
            let names: Vec<&str> = self.standing.iter().filter(|(_, s)| wanted(s)).map(|(w, _)| w.label()).collect();
            names.join(", ")
        };
        if !away.is_empty() {
            let lost = named(&|standing| standing.lost.is_some());
            let why: Vec<&str> = away.into_iter().take(3).collect();
            return Stage::Degraded(format!(
                "the Kubernetes API does not serve {lost}: {}; what was last known is kept",
                why.join("; ")
            ));
        }
        if !self.complete() {
            let waiting = named(&|standing| !standing.synced);
            let why = self.not_found.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            return Stage::Starting(format!("waiting for {waiting}{why}"));
        }
        Stage::Ready
    }
}

/// Namespaces that are left alone, as the coordinator says.
fn ignored(orders: Option<&NodeOrders>) -> &[String] {
    orders.map_or(&[], |orders| orders.ignored_namespaces.as_slice())
}

#[cfg(test)]
mod tests;
