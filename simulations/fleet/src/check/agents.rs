//! What a node's own remedy may rest on: a kill switch that it can read (I20), and a permit that has not run out (I2).

use std::time::Duration;

use nameward_messages::Mono;
use nameward_messages::report::NodeOrders;

use super::Invariant;
use crate::world::World;

/// From the switch to the last mutation, with what its watch takes.
const SWITCH: Duration = Duration::from_secs(5);
/// For as long as this it may be unreadable.
const UNREAD: Duration = Duration::from_secs(60);
/// A permit is seen to come so long after it was given: by the watch, and where the API was away a while later.
const SEEN: Duration = Duration::from_secs(15);

/// What an agent was told, by the API server's word.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// When the permit with this number was given.
    granted: Option<(u64, Mono)>,
    /// The permit that the agent's watch brought last: when it was given, and for how long.
    permit: Option<(Mono, Duration)>,
    /// Since when the policy ConfigMap cannot be read.
    unread: Option<Mono>,
}

impl World {
    /// Orders reach the API server: a new number is a new permit.
    pub(super) fn note_granted(&mut self, n: usize, orders: &NodeOrders) {
        let now = self.now;
        let granted = &mut self.check.heard.entry(n).or_default().granted;
        *granted = match (&orders.permit, *granted) {
            (Some(permit), Some((serial, at))) if permit.serial == serial => Some((serial, at)),
            (Some(permit), _) => Some((permit.serial, now)),
            (None, _) => None,
        };
    }

    /// The agent's watch brings its orders.
    pub(crate) fn note_heard(&mut self, n: usize, orders: &NodeOrders) {
        let heard = self.check.heard.entry(n).or_default();
        let given = orders.permit.as_ref().zip(heard.granted);
        heard.permit = given.map(|(permit, (_, at))| (at, Duration::from_secs(u64::from(permit.valid_s))));
    }

    /// The agent can read the policy ConfigMap, or cannot.
    pub(crate) fn note_agent_read(&mut self, n: usize, lost: bool) {
        let now = self.now;
        let unread = &mut self.check.heard.entry(n).or_default().unread;
        *unread = lost.then(|| unread.unwrap_or(now));
    }

    /// Something is written on a node, a repair or its undo: I20.
    pub(crate) fn check_agent_switch(&mut self, n: usize) {
        let now = self.now;
        let unread = self.check.heard.get(&n).and_then(|heard| heard.unread);
        let on = self.check.policy_on.filter(|since| now.since(*since) > SWITCH);
        let says = match (on, unread) {
            (_, Some(lost)) if now.since(lost) > UNREAD + SWITCH => {
                format!("node {n} is changed, and its switch is unreadable for {} s", now.since(lost).as_secs())
            }
            // Who could read it again a moment ago has not heard of it yet.
            (Some(since), None) if self.agents[n].cut_until + SWITCH < now && self.ways.down_until + SWITCH < now => {
                format!("node {n} is changed {} s after the switch", now.since(since).as_secs())
            }
            _ => return,
        };
        self.violate(Invariant::I20, says);
    }

    /// A change is made: the permit that the agent holds is young enough.
    pub(super) fn check_permit_age(&mut self, n: usize) {
        let now = self.now;
        let permit = self.check.heard.get(&n).and_then(|heard| heard.permit);
        if let Some((given, valid)) = permit.filter(|(given, valid)| now.since(*given) > *valid + SEEN) {
            let (age, valid) = (now.since(given).as_secs(), valid.as_secs());
            let says = format!("node {n} repairs itself on a permit that is {age} s old and was given for {valid} s");
            self.violate(Invariant::I2, says);
        }
    }
}
