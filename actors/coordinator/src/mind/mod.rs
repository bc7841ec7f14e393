//! The mind of the coordinator: one incident per cause and subject, one shared remedy at a time.

mod aside;
mod begin;
mod book;
mod breaker;
mod complaints;
mod condition;
mod doubt;
mod incident;
mod located;
pub(crate) mod memory;
mod moved;
mod nodes;
mod notes;
mod orders;
mod proxy;
mod repaired;
mod replica;
mod rest;
mod shared;
mod turns;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::guarding::{Breaker, RefusalReason};
use nameward_messages::plan::{IncidentSpec, IncidentStatus, LeaseState, Plan, SharedRemedyTells};
use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::remedy::RemedyRecord;
use nameward_messages::report::NodeOrders;
use nameward_messages::verdict::{Subject, VerdictKey};
use nameward_messages::{Mono, NodeName, Now};

pub use nodes::NodeState;
pub use proxy::ProxyPod;

use crate::judge::claims::Claims;
use crate::judge::quorum::{Freshness, Quorum};

/// What the mind is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The cluster.
    View(Arc<ClusterView>),
    /// The Lease, after every try to take or renew it.
    Lease(LeaseState),
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// Whether the local file of the kill switch is there.
    PausedHere(bool),
    /// A kill for want of memory.
    OomKilled(ContainerOomKilled),
    /// What the shared executor did.
    Shared(SharedRemedyTells),
    /// What [`Output::ReadNode`] brought; `None` when the node could not be read.
    NodeRead {
        /// Which.
        node: NodeName,
        /// What was read.
        state: Option<NodeState>,
    },
    /// What [`Output::FindKubeProxy`] brought; `None` when there is none, or it could not be read.
    KubeProxyRead {
        /// The node.
        node: NodeName,
        /// Its kube-proxy pod.
        pod: Option<ProxyPod>,
    },
    /// A write of [`Output`] ended; a failed one is not tried again at once.
    Wrote {
        /// Which.
        what: Written,
        /// It was carried out.
        done: bool,
    },
    /// New settings.
    Configure(Arc<Config>),
    /// The deadline passed.
    Tick,
}

/// Which object a write was about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    /// An incident, by name.
    Incident(String),
    /// A node's orders.
    Orders(NodeName),
}

/// What the mind wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Create an incident with its status. A conflict means that it is there already.
    OpenIncident {
        /// Its object name.
        name: String,
        /// What it is about.
        spec: IncidentSpec,
        /// Its status.
        status: Box<IncidentStatus>,
    },
    /// Write an incident's whole status, if it is still at `resource_version`.
    UpdateIncident {
        /// Its object name.
        name: String,
        /// Precondition.
        resource_version: String,
        /// Its status.
        status: Box<IncidentStatus>,
    },
    /// Delete an incident that was closed long ago.
    DeleteIncident {
        /// Its object name.
        name: String,
        /// Precondition.
        uid: String,
    },
    /// Write a node's orders. Without a precondition on the version, which every report of the agent changes.
    WriteOrders {
        /// The node.
        node: NodeName,
        /// The orders.
        orders: Box<NodeOrders>,
    },
    /// Read whether a node is ready, and tell [`Input::NodeRead`].
    ReadNode(NodeName),
    /// Look for the kube-proxy pod of a node, and tell [`Input::KubeProxyRead`].
    FindKubeProxy(NodeName),
    /// Write the condition `ClusterDNSHealthy` of a node, if it is not that already.
    NodeCondition {
        /// The node.
        node: NodeName,
        /// `True` or `False`.
        healthy: bool,
        /// One CamelCase word.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// A breaker opened or closed: to metrics.
    Breaker {
        /// Which.
        breaker: Breaker,
        /// It is open.
        open: bool,
    },
    /// To the shared executor.
    Plan(Plan),
    /// An Event on the object concerned.
    Event {
        /// The object.
        subject: Subject,
        /// `Warning`, else `Normal`.
        warning: bool,
        /// One CamelCase word.
        reason: &'static str,
        /// For people.
        note: String,
    },
    /// One more line of an incident's ladder that the coordinator itself wrote: to metrics and people.
    Record {
        /// The incident.
        incident: String,
        /// The line.
        record: RemedyRecord,
        /// Why it was refused, if it was.
        reason: Option<RefusalReason>,
    },
}

/// The coordinator's mind.
#[derive(Debug)]
pub struct CoordinatorMind {
    config: Arc<Config>,
    lease: LeaseState,
    switch: Option<KillSwitch>,
    paused_here: bool,
    view: Option<Arc<ClusterView>>,
    freshness: Freshness,
    claims: Claims,
    nodes: nodes::Nodes,
    located: located::LocatedBook,
    kills: memory::Kills,
    movements: moved::Movements,
    book: BTreeMap<String, incident::Incident>,
    active: Option<shared::Active>,
    storms: breaker::Storms,
    repaired: repaired::Repaired,
    conditions: condition::Conditions,
    aside: aside::Aside,
    proxies: proxy::Proxies,
    /// CoreDNS is well as a whole since then.
    well_since: Option<Mono>,
    permits: orders::Permits,
    turns: turns::Turns,
    pace: orders::OrdersPace,
    /// Just resolved: a verdict that has not ended yet does not open it again before this moment.
    quiet: BTreeMap<VerdictKey, Mono>,
    /// No write about this object before this moment.
    hold: BTreeMap<Written, Mono>,
    /// The cool-down runs from here: the start, the Lease gained, the last moment without quorum or with a rollout,
    /// or a CoreDNS pod that was new and became ready.
    calm_since: Option<Mono>,
    /// The last act made things worse: no shared remedy until then.
    breaker_until: Option<Mono>,
    /// Acts that made things worse and are in the ladders: when each was written down, by its writer's clock.
    worse_seen: BTreeSet<jiff::Timestamp>,
    /// Seconds on the wall clock make request ids unique over restarts; this within a second.
    requests: u32,
    asked_before: usize,
    /// Deciding again before this moment would find nothing to do ([`rest`]), unless something is told.
    rest_until: Option<Mono>,
    /// It is decided at every tick all the same.
    restless: bool,
    due: Option<Mono>,
}

/// A view older than this is no ground to decide on.
const VIEW_STALE: Duration = Duration::from_secs(60);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A write is not repeated before this time, unless the view shows its effect.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
/// A failed write waits this long.
const WRITE_FAILED: Duration = Duration::from_secs(5);

impl CoordinatorMind {
    /// A mind that knows nothing yet, and decides nothing.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            lease: LeaseState::default(),
            switch: None,
            paused_here: false,
            view: None,
            freshness: Freshness::default(),
            claims: Claims::default(),
            nodes: nodes::Nodes::default(),
            located: located::LocatedBook::default(),
            kills: memory::Kills::default(),
            movements: moved::Movements::default(),
            book: BTreeMap::new(),
            active: None,
            storms: breaker::Storms::default(),
            repaired: repaired::Repaired::default(),
            conditions: condition::Conditions::default(),
            aside: aside::Aside::default(),
            proxies: proxy::Proxies::default(),
            well_since: None,
            permits: orders::Permits::default(),
            turns: turns::Turns::default(),
            pace: orders::OrdersPace::default(),
            quiet: BTreeMap::new(),
            hold: BTreeMap::new(),
            calm_since: None,
            breaker_until: None,
            worse_seen: BTreeSet::new(),
            requests: 0,
            asked_before: 0,
            rest_until: None,
            restless: false,
            due: None,
        }
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Takes one input.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.calm_since.get_or_insert(now.mono);
        if self.passed_over(now, &input) {
            return;
        }
        if !matches!(input, Input::Tick) {
            self.rest_until = None;
        }
        match input {
            Input::View(view) => self.learn(now, view),
            Input::Lease(lease) => {
                if lease.leading != self.lease.leading {
                    // What another leader did meanwhile is in the view, not in this memory.
                    self.book.clear();
                    self.active = None;
                    self.conditions = condition::Conditions::default();
                    self.aside.forget_reports();
                    self.well_since = None;
                    self.permits = orders::Permits::default();
                    self.turns = turns::Turns::default();
                    self.hold.clear();
                    self.quiet.clear();
                    self.calm_since = Some(now.mono);
                }
                self.lease = lease;
            }
            Input::KillSwitch(switch) => self.switch = Some(switch),
            Input::PausedHere(paused) => self.paused_here = paused,
            Input::OomKilled(kill) => self.kills.told(now, &kill),
            Input::Shared(tells) => self.shared_tells(now, tells, out),
            Input::NodeRead { node, state } => {
                self.nodes.learn(now.mono, node, state);
                if let Some(view) = &mut self.view {
                    self.nodes.complete(now.mono, Arc::make_mut(view));
                }
            }
            Input::KubeProxyRead { node, pod } => self.proxies.learn(now.mono, node, pod),
            Input::Configure(config) => self.config = config,
            Input::Tick | Input::Wrote { .. } => {}
        }
        self.decide(now, out);
        self.place_events(out);
        self.due = Some(now.mono + LOOK);
    }

    fn learn(&mut self, now: Now, mut view: Arc<ClusterView>) {
        if self.nodes.knows_any() {
            self.nodes.complete(now.mono, Arc::make_mut(&mut view));
        }
        ClusterView::forget_what_is_over(&mut view);
        let stale_after = self.config.coordinator.stale_after.0;
        if view.complete {
            self.freshness.learn(now.mono, &view.agents);
            self.claims.learn(now.mono, &view, stale_after);
            self.kills.learn(now, &view);
            self.repaired.learn(now, &view);
            let quorum = Quorum::count(now.mono, &view, &self.freshness, stale_after);
            let moved = self.movements.learn(now.mono, self.view.as_deref(), &view);
            let storm = quorum.expected > 0 && !listened(&view, now.mono, stale_after);
            self.take_breaker(now, &view);
            if view.rollout.in_progress || moved || storm {
                self.calm_since = Some(now.mono);
            }
        }
        self.view = Some(view);
    }

    fn decide(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(view) = self.view.clone() else { return };
        let usable = view.complete && now.mono.since(view.fresh_as_of) <= VIEW_STALE;
        if !usable {
            // Blind: what is seen afterwards settles first.
            self.calm_since = Some(now.mono);
            return;
        }
        if !self.lease.may_act(now.mono) {
            return;
        }
        if self.rest_until.is_some_and(|until| now.mono < until) && !self.restless {
            self.located.still_explained(now.mono);
            return;
        }
        let told = out.len();
        self.hold.retain(|_, until| now.mono < *until);
        self.sync(now, &view);
        self.read_nodes(now, &view, out);
        self.locate(now, &view);
        self.watch_breakers(now, &view, out);
        self.watch_health(now, &view);
        self.open_and_close(now, &view, out);
        self.drive(now, &view, out);
        self.write_incidents(now, out);
        self.write_orders(now, &view, out);
        self.write_conditions(now, &view, out);
        self.tell_aside(now, &view, out);
        self.rest_until = if out.len() == told { self.rest(now, &view) } else { None };
    }

    /// No shared remedy, and no permit for node repairs.
    fn halted(&self, now: Mono) -> bool {
        self.paused_here || !self.switch.is_some_and(|switch| switch.allows(now))
    }

    /// Whether a write about this object may be made now; if so it counts as made.
    fn may_write(&mut self, now: Mono, what: Written) -> bool {
        if self.hold.contains_key(&what) {
            return false;
        }
        self.hold.insert(what, now + WRITE_AGAIN);
        true
    }
}

/// Whether most nodes can be listened to at all: when they cannot, it is a storm, and the cool-down begins when it ends.
fn listened(view: &ClusterView, now: Mono, stale_after: Duration) -> bool {
    let heard = view.agents.iter().filter(|a| crate::judge::quorum::listened_to(now, a, stale_after)).count();
    let nodes = view.nodes.iter().filter(|n| !n.terminating).count();
    heard * 100 >= nodes * 60
}
