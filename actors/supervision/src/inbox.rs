//! The bounded inbox of one actor.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use nameward_messages::health::ActorName;
use tokio::sync::Notify;

use crate::cell::{Cell, add, lock};
use crate::message::{Message, Retain, Told, WhenFull};

/// An inbox for at most `capacity` messages (at least one), and the outlet through which it is filled.
#[must_use]
pub fn inbox<M: Message>(name: ActorName, capacity: usize) -> (Outlet<M>, Inbox<M>) {
    let shared = Arc::new(Shared {
        name,
        queue: Mutex::new(Queue::new(capacity)),
        arrived: Notify::new(),
        cell: Arc::new(Cell::new()),
    });
    (Outlet { shared: Arc::clone(&shared) }, Inbox { shared })
}

/// Where messages are told. Cheap to clone, usable from any thread.
pub struct Outlet<M> {
    shared: Arc<Shared<M>>,
}

/// Where messages wait. There is one, and whoever holds it handles the messages: usually [`crate::Supervisor::start`].
pub struct Inbox<M> {
    pub(crate) shared: Arc<Shared<M>>,
}

pub(crate) struct Shared<M> {
    pub(crate) name: ActorName,
    queue: Mutex<Queue<M>>,
    arrived: Notify,
    pub(crate) cell: Arc<Cell>,
}

impl<M: Message> Outlet<M> {
    /// Puts the message into the inbox. Never blocks, never awaits.
    pub fn tell(&self, message: M) -> Told {
        let entry = Entry::new(message);
        // What is displaced is dropped after the lock is released: its destructor is not ours.
        let (told, displaced) = {
            let mut queue = lock(&self.shared.queue);
            let done = queue.push(entry);
            self.shared.cell.waiting.store(queue.len(), Ordering::Relaxed);
            done
        };
        let cell = &self.shared.cell;
        match told {
            Told::Queued => {
                if displaced.is_some() {
                    add(&cell.shed, 1);
                }
                self.shared.arrived.notify_one();
            }
            Told::Merged => add(&cell.merged, 1),
            Told::Shed => add(&cell.shed, 1),
            Told::Closed => {}
        }
        drop(displaced);
        told
    }

    /// Whose inbox it is.
    #[must_use]
    pub fn name(&self) -> ActorName {
        self.shared.name
    }
}

impl<M> Clone for Outlet<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Outlet<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outlet").field(&self.shared.name).finish()
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&self.shared.name).finish()
    }
}

impl<M: Message> Inbox<M> {
    /// The next message, if one waits.
    #[must_use]
    pub fn try_take(&self) -> Option<M> {
        let mut queue = lock(&self.shared.queue);
        let message = queue.pop();
        self.shared.cell.waiting.store(queue.len(), Ordering::Relaxed);
        message
    }

    /// The next message, when one comes. Cancel-safe: a message is taken only when it is returned.
    pub async fn take(&self) -> M {
        loop {
            if let Some(message) = self.try_take() {
                return message;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// Waits until a message may be there.
    pub(crate) async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }

    /// Another outlet to this inbox.
    #[must_use]
    pub fn outlet(&self) -> Outlet<M> {
        Outlet { shared: Arc::clone(&self.shared) }
    }

    /// Whose it is.
    #[must_use]
    pub fn name(&self) -> ActorName {
        self.shared.name
    }
}

/// What a drain needs of an inbox, whatever its messages are.
pub(crate) trait Closable: Send + Sync {
    /// Accepts no more. What waits, stays.
    fn close(&self);
}

impl<M: Message> Closable for Shared<M> {
    fn close(&self) {
        lock(&self.queue).closed = true;
        self.arrived.notify_one();
    }
}

/// A message with what it says of itself, asked once and outside the lock.
pub(crate) struct Entry<M> {
    message: M,
    key: Option<String>,
    state: bool,
    when_full: WhenFull,
}

impl<M: Message> Entry<M> {
    pub(crate) fn new(message: M) -> Self {
        Self {
            key: message.merge_key(),
            state: message.retain() != Retain::No,
            when_full: message.when_full(),
            message,
        }
    }
}

/// The queue itself: pure, ordered by a running number.
pub(crate) struct Queue<M> {
    capacity: usize,
    closed: bool,
    next: u64,
    waiting: BTreeMap<u64, Entry<M>>,
    keys: BTreeMap<String, u64>,
}

impl<M> Queue<M> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), closed: false, next: 0, waiting: BTreeMap::new(), keys: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.waiting.len()).unwrap_or(u64::MAX)
    }

    /// What became of the message, and the message that was dropped or replaced.
    pub(crate) fn push(&mut self, entry: Entry<M>) -> (Told, Option<M>) {
        if self.closed {
            return (Told::Closed, Some(entry.message));
        }
        if let Some(number) = entry.key.as_ref().and_then(|key| self.keys.get(key)) {
            let old = self.waiting.insert(*number, entry);
            return (Told::Merged, old.map(|old| old.message));
        }
        let mut displaced = None;
        if self.waiting.len() >= self.capacity {
            match self.victim(&entry) {
                Some(number) => displaced = self.remove(number),
                None => return (Told::Shed, Some(entry.message)),
            }
        }
        if let Some(key) = &entry.key {
            self.keys.insert(key.clone(), self.next);
        }
        self.waiting.insert(self.next, entry);
        self.next += 1;
        (Told::Queued, displaced)
    }

    pub(crate) fn pop(&mut self) -> Option<M> {
        let first = *self.waiting.first_key_value()?.0;
        self.remove(first)
    }

    /// Who makes room for `entry`; `None`: nobody, `entry` itself is dropped.
    fn victim(&self, entry: &Entry<M>) -> Option<u64> {
        match entry.when_full {
            WhenFull::DropNewest => None,
            WhenFull::DropOldest => {
                let stateless = self.waiting.iter().find(|(_, waiting)| !waiting.state).map(|(number, _)| *number);
                let oldest = self.waiting.first_key_value().map(|(number, _)| *number);
                stateless.or(if entry.state { oldest } else { None })
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<M> {
        let entry = self.waiting.remove(&number)?;
        if let Some(key) = &entry.key {
            self.keys.remove(key);
        }
        Some(entry.message)
    }
}
