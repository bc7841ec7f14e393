//! Every agent's orders: its share of the queries, its permit for node repairs, the question under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::cluster_view::{ClusterView, NodeAgentView};
use nameward_messages::plan::Permit;
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::report::NodeOrders;
use nameward_messages::{Mono, NodeName, Now, RequestId};

use super::complaints::settled;
use super::{CoordinatorMind, Output, Written};
use crate::judge::quorum::Quorum;

/// A permit's validity, in seconds.
const VALID_S: u32 = 600;
/// It is renewed when it is this old.
pub(super) const RENEW: Duration = Duration::from_secs(300);

/// When each node's permit was granted, by this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Permits {
    granted: BTreeMap<NodeName, (Permit, Mono)>,
    /// The question that each node was asked last.
    asked: BTreeMap<NodeName, RequestId>,
    /// When each node was last told of complaints out of turn.
    complained: BTreeMap<NodeName, Mono>,
}

/// A node is told of complaints out of turn no more often than this.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(30);

/// Orders per second, however often the mind is told something: a large cluster is told over minutes.
const PER_SECOND: usize = 50;

/// How many orders were written lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OrdersPace {
    since: Mono,
    written: usize,
}

impl OrdersPace {
    fn look(&mut self, now: Mono) {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, written: 0 };
        }
    }

    fn spent(&self) -> bool {
        self.written >= PER_SECOND
    }

    fn note(&mut self) {
        self.written += 1;
    }
}

/// Each agent's share, in thousandths of a query per second to each CoreDNS pod; together never above the budget. Beyond
/// sixteen nodes their number is rounded up by an eighth at most: a node that comes or goes does not rewrite every other's
/// orders.
pub(super) fn share(budget_per_pod: u32, nodes: usize) -> u64 {
    let nodes = u64::try_from(nodes).unwrap_or(u64::MAX).clamp(1, 1 << 32);
    let step = 1_u64 << nodes.ilog2().saturating_sub(3);
    let counted = if nodes <= 16 { nodes } else { nodes.next_multiple_of(step) };
    (u64::from(budget_per_pod) * 1000 / counted).max(1)
}

/// What may be done about permits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    /// Grant and renew.
    Grant,
    /// Leave them as they are: they run out by themselves.
    Keep,
    /// Withdraw them.
    Withdraw,
}

impl CoordinatorMind {
    pub(super) fn write_orders(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let stance = self.stance(now, view);
        self.give_turns(now, view, stance == Stance::Grant);
        let storms = self.stormy_nodes(view);
        let share = share(self.config.probe.budget_per_pod, view.nodes.iter().filter(|n| !n.terminating).count());
        let asking = self.active.as_ref().and_then(|a| a.asking.clone());
        let mut complaints = self.complaints();
        self.pace.look(now.mono);
        // Questions first: they are waited for.
        let asked = |agent: &&NodeAgentView| asking.as_ref().is_some_and(|a| a.nodes.contains(&agent.name));
        // Then turns, given or taken back. Of both there are only few, so that they do not wait for all others.
        let turn = |agent: &&NodeAgentView| {
            let granted = self.permits.granted.get(&agent.name).map(|(permit, _)| permit);
            let repairs = |permit: &Permit| !permit.causes.is_empty();
            agent.orders.permit.iter().chain(granted).any(repairs) || !self.turns.of(&agent.name).is_empty()
        };
        let (first, rest): (Vec<_>, Vec<_>) = view.agents.iter().partition(asked);
        let (turns, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(turn);
        let names: BTreeSet<&NodeName> = view.agents.iter().map(|agent| &agent.name).collect();
        self.permits.granted.retain(|name, _| names.contains(name));
        self.permits.asked.retain(|name, _| names.contains(name));
        self.permits.complained.retain(|name, _| names.contains(name));
        let turns = turns.into_iter().map(|agent| (agent, true));
        let rest = rest.into_iter().map(|agent| (agent, false));
        for (agent, turn) in first.into_iter().map(|agent| (agent, true)).chain(turns).chain(rest) {
            let question = asking.as_ref().filter(|a| a.nodes.contains(&agent.name) && now.mono < a.until);
            let stance = if storms.has(&agent.name) { Stance::Withdraw } else { stance };
            let permit = self.permit(now.mono, agent, stance);
            let complaints = complaints.remove(&agent.name).unwrap_or_default();
            let orders = NodeOrders {
                share_milli_qps: Some(share),
                permit,
                requests: question.map(super::shared::Asking::order).into_iter().collect(),
                complaints: settled(&agent.orders.complaints, complaints),
                ignored_namespaces: view.ignored_namespaces.iter().take(NodeOrders::IGNORED).cloned().collect(),
            };
            // A question that is over alone is not worth a write to every asked node: the next orders leave it out.
            let stale_question = orders.requests.is_empty() && !agent.orders.requests.is_empty();
            let same = orders == agent.orders
                || (stale_question
                    && NodeOrders { requests: agent.orders.requests.clone(), ..orders.clone() } == agent.orders);
            // At most sixteen are asked at a time, and they are waited for.
            if same || (!turn && self.pace.spent()) {
                continue;
            }
            let what = Written::Orders(agent.name.clone());
            // The first complaint is waited for as well; later ones take their turn.
            if agent.orders.complaints.is_empty()
                && !orders.complaints.is_empty()
                && self.permits.may_complain(now.mono, &agent.name)
            {
                self.hold.remove(&what);
            }
            if orders.requests.first().is_some_and(|request| self.permits.first_time(&agent.name, &request.id)) {
                self.hold.remove(&what);
            }
            if self.may_write(now.mono, what) {
                self.pace.note();
                self.permits.note(now.mono, &agent.name, orders.permit.as_ref());
                out.push(Output::WriteOrders { node: agent.name.clone(), orders: Box::new(orders) });
            }
        }
    }

    fn permit(&self, now: Mono, agent: &NodeAgentView, stance: Stance) -> Option<Permit> {
        let standing = agent.orders.permit.clone();
        let serial = standing.as_ref().map_or(0, |p| p.serial);
        match stance {
            Stance::Withdraw => None,
            Stance::Keep => standing,
            Stance::Grant => {
                let causes = self.turns.of(&agent.name);
                // Where no agent may change anything, a standing permit is good for nothing.
                if causes.is_empty() && !self.nodes_act() {
                    return None;
                }
                let known = self.permits.granted.get(&agent.name);
                let serial = known.map_or(serial, |(granted, _)| serial.max(granted.serial));
                // Granted, and perhaps not in the view yet; else it is renewed, or says something else.
                let same = known.is_some_and(|(granted, at)| now.since(*at) < RENEW && granted.causes == causes);
                Some(Permit { serial: if same { serial } else { serial + 1 }, valid_s: VALID_S, causes })
            }
        }
    }

    /// Whether any remedy of the nodes' own acts.
    fn nodes_act(&self) -> bool {
        let acts = |kind: &RemedyKind| {
            !kind.shared() && *kind != RemedyKind::CallPerson && self.config.remedy.mode_of(*kind) == Mode::Act
        };
        RemedyKind::ALL.iter().any(acts)
    }

    fn stance(&self, now: Now, view: &ClusterView) -> Stance {
        let stale_after = self.config.coordinator.stale_after.0;
        let quorum = Quorum::count(now.mono, view, &self.freshness, stale_after);
        if self.halted(now.mono) {
            Stance::Withdraw
        } else if quorum.enough(self.config.coordinator.quorum_percent) {
            Stance::Grant
        } else {
            Stance::Keep
        }
    }
}

impl Permits {
    /// When the next permit is to be renewed.
    pub(super) fn next_renewal(&self, now: Mono) -> Option<Mono> {
        self.granted.values().map(|(_, at)| *at + RENEW).filter(|end| *end > now).min()
    }

    fn note(&mut self, now: Mono, node: &NodeName, permit: Option<&Permit>) {
        let known = self.granted.get(node);
        match permit {
            Some(permit) if known.is_none_or(|(known, _)| known.serial != permit.serial) => {
                self.granted.insert(node.clone(), (permit.clone(), now));
            }
            // Taken back: the number goes on, the turn does not.
            None => {
                if let Some((known, _)) = self.granted.get_mut(node) {
                    known.causes.clear();
                }
            }
            Some(_) => {}
        }
    }

    /// A complaint overtakes the pause between two writes, not more often than twice a minute.
    fn may_complain(&mut self, now: Mono, node: &NodeName) -> bool {
        let may = self.complained.get(node).is_none_or(|at| now.since(*at) >= COMPLAIN_AGAIN);
        if may {
            self.complained.insert(node.clone(), now);
        }
        may
    }

    /// A new question overtakes the pause between two writes, once.
    fn first_time(&mut self, node: &NodeName, request: &RequestId) -> bool {
        self.asked.insert(node.clone(), request.clone()).as_ref() != Some(request)
    }
}
