//! Who is let in from elsewhere, once the page is opened: whoever shows a token that the API server knows and whose owner may read
//! the page by its word.
//!
//! Invariants:
//! 1. No answer, an error or no reviewer is a refusal: nothing is open because something is broken.
//! 2. What is remembered is bounded in number and time, and holds no token, only its digest.
//! 3. Strangers cannot make this process ask the API server more than so often.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nameward_messages::Mono;
use nameward_supervision::clock;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::pages::Page;

/// The audience that a token must be made for.
pub const AUDIENCE: &str = "nameward";
/// A right that was taken away ends after this.
const GOOD: Duration = Duration::from_secs(30);
/// One that was given begins after this.
const BAD: Duration = Duration::from_secs(10);
/// Most visitors that are remembered.
const MOST: usize = 256;
/// Reviews under way at once.
const AT_ONCE: usize = 4;
/// Reviews begun in [`WINDOW`].
const BEGUN: usize = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// No token of Kubernetes is longer.
const LONGEST: usize = 8 << 10;

/// What the API server says of a visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// The token is none, or is not made for [`AUDIENCE`].
    Unknown,
    /// It is his, and he may not.
    Forbidden {
        /// Who he is.
        name: String,
    },
    /// He may.
    Allowed,
}

/// A review under way: the visitor, or why none could be had.
pub type Reviewing = Pin<Box<dyn Future<Output = Result<Visitor, String>> + Send>>;

/// Asks the API server. Bounded in time by whoever implements it.
pub trait Review: Send + Sync {
    /// Whom a token belongs to, and whether he may read a path.
    fn review(&self, token: &str, path: &'static str) -> Reviewing;
}

type Key = [u8; 32];

#[derive(Debug, Default)]
struct Visitors {
    known: BTreeMap<Key, (Visitor, Mono)>,
    begun: VecDeque<Mono>,
}

impl Visitors {
    fn remembered(&mut self, now: Mono, key: &Key) -> Option<Visitor> {
        self.known.retain(|_, (visitor, at)| now.since(*at) < if *visitor == Visitor::Allowed { GOOD } else { BAD });
        self.known.get(key).map(|(visitor, _)| visitor.clone())
    }

    fn remember(&mut self, now: Mono, key: Key, visitor: Visitor) {
        if self.known.len() >= MOST {
            // Strangers that were refused make room first, then whoever came longest ago.
            let first = self.known.iter().min_by_key(|(_, (visitor, at))| (*visitor == Visitor::Allowed, *at));
            if let Some(first) = first.map(|(key, _)| *key) {
                self.known.remove(&first);
            }
        }
        self.known.insert(key, (visitor, now));
    }

    fn may_begin(&mut self, now: Mono) -> bool {
        while self.begun.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            self.begun.pop_front();
        }
        let room = self.begun.len() < BEGUN;
        if room {
            self.begun.push_back(now);
        }
        room
    }
}

/// The gate.
pub(crate) struct Gate {
    review: OnceLock<Arc<dyn Review>>,
    visitors: Mutex<Visitors>,
    under_way: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { review: OnceLock::new(), visitors: Mutex::default(), under_way: Semaphore::new(AT_ONCE) }
    }
}

impl Gate {
    /// Who asks the API server from now on. The first one counts.
    pub(crate) fn reviewed_by(&self, review: Arc<dyn Review>) {
        let _ = self.review.set(review);
    }

    fn visitors(&self) -> MutexGuard<'_, Visitors> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a visitor in, or says why not.
    pub(crate) async fn admit(&self, token: Option<&str>, path: &'static str) -> Result<(), Page> {
        let token = token.filter(|token| !token.is_empty() && token.len() <= LONGEST).ok_or_else(nobody)?;
        let Some(review) = self.review.get().cloned() else { return Err(unasked("this process has no API server")) };
        let key: Key = Sha256::new().chain_update(token).chain_update([0]).chain_update(path).finalize().into();
        if let Some(visitor) = self.visitors().remembered(clock::now().mono, &key) {
            return judged(visitor, path);
        }
        let Ok(_permit) = self.under_way.try_acquire() else { return Err(busy()) };
        if !self.visitors().may_begin(clock::now().mono) {
            return Err(busy());
        }
        let visitor = review.review(token, path).await.map_err(|because| unasked(&because))?;
        self.visitors().remember(clock::now().mono, key, visitor.clone());
        judged(visitor, path)
    }
}

fn judged(visitor: Visitor, path: &str) -> Result<(), Page> {
    match visitor {
        Visitor::Allowed => Ok(()),
        Visitor::Unknown => Err(nobody()),
        Visitor::Forbidden { name } => Err(Page::text(
            403,
            format!("{name} may not `get` the path {path}: bind the ClusterRole nameward-viewer to it.\n"),
        )),
    }
}

fn nobody() -> Page {
    Page::text(
        401,
        format!(
            "This page answers from elsewhere to those who show a token for it: kubectl create token ACCOUNT --audience {AUDIENCE}, and then \
             the header `Authorization: Bearer TOKEN`. Tokens for the API server itself are not taken.\n"
        ),
    )
}

fn unasked(because: &str) -> Page {
    Page::text(503, format!("Who you are cannot be found out, so this page stays shut: {because}\n"))
}

fn busy() -> Page {
    Page::text(429, "Too many strangers ask at once: try again in ten seconds.\n".to_owned())
}

#[cfg(test)]
mod tests;
