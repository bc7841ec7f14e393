//! Ports that are held from request to request: what a stale conntrack entry does shows on an old port alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nameward_kernel::exchange::udp::Line;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::PathKey;
use nameward_messages::{Mono, NetnsCookie};

/// Most ports held at once; the one that was used longest ago makes room. Enough for the namespaces of a node and what
/// diagnosis asks beside.
const MOST: usize = 1024;

/// The held ports. A port is lent to one probe at a time.
#[derive(Clone, Debug, Default)]
pub struct Held {
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    lines: BTreeMap<PathKey, (Mono, Line)>,
    /// `false`: its namespace went meanwhile, it is not to come back.
    lent: BTreeMap<PathKey, bool>,
}

/// The right to give a line back.
#[derive(Debug)]
pub struct Loan {
    held: Held,
    path: PathKey,
}

impl Held {
    /// Lends the line of a path, if there is one (`None` within the pair: open one and give it back). `None`: the path's
    /// line is lent already, use another.
    #[must_use]
    pub fn lend(&self, path: &PathKey) -> Option<(Loan, Option<Line>)> {
        let mut shelf = self.lock();
        if shelf.lent.contains_key(path) {
            return None;
        }
        shelf.lent.insert(path.clone(), true);
        let line = shelf.lines.remove(path).map(|(_, line)| line);
        drop(shelf);
        Some((Loan { held: self.clone(), path: path.clone() }, line))
    }

    /// Closes every line in a namespace; one that is lent is closed when its probe ends.
    pub fn close(&self, cookie: NetnsCookie) {
        let there = |path: &PathKey| matches!(&path.vantage, Vantage::Pod { cookie: c, .. } if *c == cookie);
        let mut shelf = self.lock();
        shelf.lines.retain(|path, _| !there(path));
        for (path, wanted) in &mut shelf.lent {
            *wanted &= !there(path);
        }
    }

    /// How many lines are held and not lent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// None is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // Nothing panics under the lock.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loan {
    /// Gives a line back to be held, unless its namespace is gone.
    pub fn give_back(self, line: Line, now: Mono) {
        let mut shelf = self.held.lock();
        if shelf.lent.get(&self.path) != Some(&true) {
            return;
        }
        if shelf.lines.len() >= MOST
            && let Some(oldest) = shelf.lines.iter().min_by_key(|(_, (used, _))| *used).map(|(path, _)| path.clone())
        {
            shelf.lines.remove(&oldest);
        }
        shelf.lines.insert(self.path.clone(), (now, line));
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.held.lock().lent.remove(&self.path);
    }
}
