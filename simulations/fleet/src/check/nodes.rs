//! Nodes: storms and permits (I2), and what their own remedies do.

use std::time::Duration;

use nameward_messages::Mono;
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::verdict::{Cause, Layer};

use super::Invariant;
use crate::world::World;

/// A report's way into a view, and the orders' way back.
const WAYS: Duration = Duration::from_secs(15);
/// A storm that has stood for so long is known to whoever leads, also where another has taken over meanwhile.
const LONG: Duration = Duration::from_secs(60);
/// Longest time from a repair's first change to its last.
const REPAIR: Duration = Duration::from_secs(120);
/// A permit runs out by itself.
const PERMIT: Duration = Duration::from_secs(615);
/// Repairs begun in a minute on all nodes together: one in ten seconds, and turns that several agents had to let wait.
const PER_MINUTE: usize = 12;

impl World {
    /// Who names which fault of a node's layer.
    pub(super) fn note_alike(&mut self, n: usize, report: &NodeReport) {
        let node_layer = |cause: &Cause| matches!(cause.about().layer, Layer::Node | Layer::Pod);
        let mut causes: Vec<Cause> = report.verdicts.iter().map(|v| v.cause).filter(node_layer).collect();
        if !report.self_check {
            causes.clear();
        }
        for nodes in self.check.alike.values_mut() {
            nodes.remove(&n);
        }
        for cause in causes {
            self.check.alike.entry(cause).or_default().insert(n);
        }
        let most = self.check.alike.values().map(std::collections::BTreeSet::len).max().unwrap_or(0);
        let storm = most >= 3 && most * 5 > self.nodes.len();
        self.check.storm_since = if storm { self.check.storm_since.or(Some(self.now)) } else { None };
    }

    /// Orders reach the API server: no new permit during a storm that whoever wrote them can see.
    pub(crate) fn check_orders(&mut self, n: usize, orders: &NodeOrders) {
        for request in &orders.requests {
            self.note_question(n, &request.id);
        }
        self.note_granted(n, orders);
        if orders.permit.is_some() {
            self.check.unpermitted.remove(&n);
        } else {
            let now = self.now;
            self.check.unpermitted.entry(n).or_insert(now);
        }
        let turn = |orders: &NodeOrders| orders.permit.as_ref().is_some_and(|permit| !permit.causes.is_empty());
        if turn(orders) || turn(&self.api.agents[n].orders) {
            self.check.turns.insert(n, self.now);
        }
        let serial = orders.permit.as_ref().map(|permit| permit.serial);
        let before = self.api.agents[n].orders.permit.as_ref().map(|permit| permit.serial);
        let good = self.processes.iter().filter(|process| process.alive).map(|process| process.watch.good_at).min();
        if serial > before
            && let (Some(since), Some(good)) = (self.check.storm_since, good)
            && since + WAYS < good
        {
            let node = self.nodes[n].name.clone();
            self.violate(
                Invariant::I2,
                format!("{node} is granted a permit {} s into a storm", self.now.since(since).as_secs()),
            );
        }
    }

    /// A node repair changes its machine: I2 and I11.
    pub(crate) fn check_node_act(&mut self, n: usize) {
        let now = self.now;
        let acts = self.check.node_acts.entry(n).or_default();
        // The agents' clocks are nearly right; a crash in the middle of a repair does not make two of it.
        let lately = acts.last().is_some_and(|at| now.since(*at) < Duration::from_secs(590) && now.since(*at) > REPAIR);
        let begins = acts.last().is_none_or(|at| now.since(*at) > REPAIR);
        acts.push(now);
        if lately {
            self.violate(Invariant::I11, format!("node {n} repairs twice within ten minutes"));
        }
        if begins {
            self.check_begins(n);
        }
        self.check_permit_age(n);
        let permit = self.api.agents[n].orders.permit.is_some();
        let standing = self.check.storm_since.filter(|since| now.since(*since) > PERMIT);
        if standing.is_some() || (!permit && self.agents[n].cut_until <= now && self.check.no_permit(n, now)) {
            self.violate(
                Invariant::I2,
                format!("node {n} repairs itself without a permit, or on one that must have run out"),
            );
        }
    }
}

impl World {
    /// A repair begins: I11 for all nodes together, and on whose word.
    fn check_begins(&mut self, n: usize) {
        let now = self.now;
        let begins = &mut self.check.node_begins;
        begins.retain(|at| now.since(*at) < Duration::from_secs(60));
        begins.push(now);
        let many = begins.len();
        if many > PER_MINUTE {
            self.violate(Invariant::I11, format!("{many} repairs of nodes begin within a minute"));
        }
        let bears = |orders: &NodeOrders| orders.permit.as_ref().is_some_and(|permit| !permit.causes.is_empty());
        let turn = self.check.turns.get(&n).is_some_and(|at| now.since(*at) < PERMIT);
        if !turn && !bears(&self.api.agents[n].orders) {
            self.violate(Invariant::I2, format!("node {n} repairs itself and had no turn"));
        }
        // Whoever leads has seen the storm for long, and the node hears.
        let good = self.processes.iter().filter(|process| process.alive).map(|process| process.watch.good_at).min();
        let hears = self.agents[n].cut_until + WAYS <= now;
        if let (Some(since), Some(good), true) = (self.check.storm_since, good, hears)
            && since + LONG < good
        {
            let says = format!("node {n} begins a repair {} s into a storm", now.since(since).as_secs());
            self.violate(Invariant::I2, says);
        }
    }
}

impl super::Checker {
    /// The node has had no permit for longer than its withdrawal is on its way.
    fn no_permit(&self, n: usize, now: Mono) -> bool {
        self.unpermitted.get(&n).is_some_and(|since| now.since(*since) > WAYS)
    }
}
