//! What a rebuilt actor is told again.

use std::collections::BTreeMap;

use crate::message::{Message, Retain};

/// Most keys that are kept for one actor.
pub(crate) const MOST_KEYS: usize = 4096;

/// Copies of the state-bearing messages that were handled, newest per key, in the order in which they were handled.
pub(crate) struct Retained<M> {
    next: u64,
    order: BTreeMap<u64, (String, M)>,
    keys: BTreeMap<String, u64>,
}

/// What a message will change once it is handled.
pub(crate) enum Change<M> {
    Nothing,
    Keep(String, M),
    Forget(String),
}

impl<M: Message> Change<M> {
    /// Asked before the message is handed over.
    pub(crate) fn of(message: &M) -> Self {
        match message.retain() {
            Retain::No => Self::Nothing,
            Retain::Keep(key) => message.duplicate().map_or(Self::Nothing, |copy| Self::Keep(key, copy)),
            Retain::Forget(key) => Self::Forget(key),
        }
    }
}

impl<M: Message> Retained<M> {
    pub(crate) fn new() -> Self {
        Self { next: 0, order: BTreeMap::new(), keys: BTreeMap::new() }
    }

    /// The message was handled. `false`: there was no room to keep it.
    pub(crate) fn handled(&mut self, change: Change<M>) -> bool {
        match change {
            Change::Nothing => true,
            Change::Forget(key) => {
                self.forget(&key);
                true
            }
            Change::Keep(key, copy) => {
                self.forget(&key);
                if self.order.len() >= MOST_KEYS {
                    return false;
                }
                self.keys.insert(key.clone(), self.next);
                self.order.insert(self.next, (key, copy));
                self.next += 1;
                true
            }
        }
    }

    /// The message was lost to a panic. What was kept before it stays, except that what it voided is void all the same:
    /// the rebuilt actor does not know it, and will not be told that it is gone.
    pub(crate) fn lost(&mut self, change: &Change<M>) {
        if let Change::Forget(key) = change {
            self.forget(key);
        }
    }

    pub(crate) fn forget(&mut self, key: &str) {
        if let Some(number) = self.keys.remove(key) {
            self.order.remove(&number);
        }
    }

    /// Copies of all, in order, with their keys.
    pub(crate) fn replay(&self) -> Vec<(String, M)> {
        self.order.values().filter_map(|(key, message)| Some((key.clone(), message.duplicate()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::WhenFull;

    #[derive(Clone, Debug, PartialEq)]
    enum Pod {
        Here(u32, u32),
        Gone(u32),
    }

    impl Message for Pod {
        fn when_full(&self) -> WhenFull {
            WhenFull::DropOldest
        }
        fn retain(&self) -> Retain {
            match self {
                Self::Here(id, _) => Retain::Keep(id.to_string()),
                Self::Gone(id) => Retain::Forget(id.to_string()),
            }
        }
        fn duplicate(&self) -> Option<Self> {
            Some(self.clone())
        }
    }

    fn told(retained: &Retained<Pod>) -> Vec<Pod> {
        retained.replay().into_iter().map(|(_, pod)| pod).collect()
    }

    #[test]
    fn newest_per_key_in_order() {
        let mut retained = Retained::new();
        for pod in [Pod::Here(1, 0), Pod::Here(2, 0), Pod::Here(3, 0), Pod::Here(1, 1), Pod::Gone(2)] {
            assert!(retained.handled(Change::of(&pod)));
        }
        assert_eq!(told(&retained), [Pod::Here(3, 0), Pod::Here(1, 1)]);
    }

    #[test]
    fn a_lost_message_keeps_the_one_before_and_still_voids() {
        let mut retained = Retained::new();
        retained.handled(Change::of(&Pod::Here(1, 0)));
        retained.lost(&Change::of(&Pod::Here(1, 1)));
        assert_eq!(told(&retained), [Pod::Here(1, 0)]);
        retained.lost(&Change::of(&Pod::Gone(1)));
        assert_eq!(told(&retained), []);
    }

    #[test]
    fn bounded() {
        let mut retained = Retained::new();
        for id in 0..u32::try_from(MOST_KEYS).unwrap_or(u32::MAX) {
            assert!(retained.handled(Change::of(&Pod::Here(id, 0))));
        }
        assert!(!retained.handled(Change::of(&Pod::Here(1_000_000, 0))));
        assert!(retained.handled(Change::of(&Pod::Here(7, 1))), "a known key is replaced");
        assert_eq!(told(&retained).len(), MOST_KEYS);
    }
}
