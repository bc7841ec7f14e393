//! What a message says of itself: what to drop, what to merge, what to tell again after a restart.

use std::sync::Arc;

/// A message of an actor.
pub trait Message: Send + 'static {
    /// What to do when the inbox is full.
    fn when_full(&self) -> WhenFull;

    /// Messages with the same key coalesce: a waiting one is replaced, in its place in the queue, by the newer one.
    fn merge_key(&self) -> Option<String> {
        None
    }

    /// Whether the message carries state that a rebuilt actor must be told again.
    fn retain(&self) -> Retain {
        Retain::No
    }

    /// A copy, for retaining. Must be `Some` where [`Message::retain`] is [`Retain::Keep`].
    fn duplicate(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
}

/// What to do with a message that meets a full inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The new message is dropped.
    DropNewest,
    /// The oldest waiting message that carries no state makes room. If all carry state: the oldest of them when the new
    /// one carries state too, else the new one is dropped. A message without state never displaces one with state.
    DropOldest,
}

/// Whether a message carries state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retain {
    /// No.
    No,
    /// It replaces what was kept under this key.
    Keep(String),
    /// What was kept under this key is void.
    Forget(String),
}

/// What became of a told message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It waits in the inbox (another may have made room for it).
    Queued,
    /// It replaced a waiting message with the same key.
    Merged,
    /// It was dropped, since the inbox is full. Counted.
    Shed,
    /// Nobody will handle it: the actor is dead, or draining. Dropped.
    Closed,
}

impl Told {
    /// Whether the message waits to be handled.
    #[must_use]
    pub fn accepted(self) -> bool {
        matches!(self, Self::Queued | Self::Merged)
    }
}

/// Who hears what an actor tells, without either knowing the other's type. Must be quick: it is called on the actors' thread.
pub type Listener<T> = Arc<dyn Fn(T) + Send + Sync>;

/// Tells every listener; the last one gets the value itself instead of a copy.
pub fn fan_out<T: Clone>(listeners: &[Listener<T>], tell: T) {
    if let Some((last, others)) = listeners.split_last() {
        for listener in others {
            listener(tell.clone());
        }
        last(tell);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn every_listener_is_told() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = |name: &'static str| -> Listener<u8> {
            let heard = Arc::clone(&heard);
            Arc::new(move |tell| heard.lock().unwrap().push((name, tell)))
        };
        fan_out(&[listener("a"), listener("b")], 7);
        fan_out(&[], 8);
        assert_eq!(*heard.lock().unwrap(), [("a", 7), ("b", 7)]);
    }
}
