//! Threads that enter namespaces.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nameward_messages::NetnsCookie;
use tokio::sync::{Semaphore, oneshot};

use super::{EnterError, Netns, Place, cookie_here, set};

/// What a thread is given: it says whether the thread is still at home.
type Job = Box<dyn FnOnce(&Netns) -> AtHome + Send>;

/// Whether a thread is in the home namespace after a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtHome {
    Yes,
    Lost,
}

/// A small number of threads that enter namespaces, with a bounded queue. Clones share the threads; they end when the
/// last clone is dropped and the queue is empty.
#[derive(Clone, Debug)]
pub struct EnterPool {
    inner: Arc<Handle>,
}

/// Ends the threads when the last pool is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// One permit per place in the queue.
    places: Arc<Semaphore>,
}

struct Shared {
    home: Netns,
    wanted: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    made: usize,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("home", &self.home).field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl EnterPool {
    /// `threads` threads whose home is the namespace of the calling thread, and room for `queue` waiting jobs.
    ///
    /// # Errors
    /// [`EnterError::Open`] if the home namespace cannot be named, [`EnterError::Thread`] if no thread can be made.
    pub fn new(threads: usize, queue: usize) -> Result<Self, EnterError> {
        let shared = Arc::new(Shared {
            home: Netns::own()?,
            wanted: threads.max(1),
            state: Mutex::new(State::default()),
            work: Condvar::new(),
        });
        shared.fill()?;
        let places = Arc::new(Semaphore::new(queue.max(1)));
        Ok(Self { inner: Arc::new(Handle { shared, places }) })
    }

    /// The namespace that the threads return to: the node's own.
    #[must_use]
    pub fn home(&self) -> &Netns {
        &self.inner.shared.home
    }

    /// Runs `work` inside `namespace` on a thread of the pool. Waits for a place in the queue without blocking.
    ///
    /// `work` must end by itself: it holds its thread until then, even when the caller stops waiting. For the home
    /// namespace no `setns` is called, so that a process without privilege can do what needs none.
    ///
    /// # Errors
    /// [`EnterError::Enter`] if `setns` failed; then `work` was not run. [`EnterError::Panicked`] if it panicked.
    pub async fn run<T, F>(&self, namespace: &Netns, work: F) -> Result<T, EnterError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let namespace = namespace.clone();
        // The namespace is let go of before the answer: whoever waits may count on it.
        self.submit(move |home| inside(&namespace, home, work)).await?
    }

    /// Runs `work(0)` in the first place, `work(1)` in the second and so on, on one thread, which goes from one
    /// namespace straight to the next: one `setns` for each and one to come home. The files are opened on that thread,
    /// and none is kept.
    ///
    /// # Errors
    /// [`EnterError::Panicked`] if any of the work panicked, [`EnterError::Closed`], [`EnterError::Thread`]. What
    /// concerns one place is that place's own error.
    pub async fn visit<T, F>(&self, places: Vec<Place>, mut work: F) -> Result<Vec<Result<T, EnterError>>, EnterError>
    where
        T: Send + 'static,
        F: FnMut(usize) -> T + Send + 'static,
    {
        self.submit(move |home| {
            let mut away = false;
            let mut one = |at: usize, place: &Place| {
                match place {
                    Place::Home if away => set(home).map_err(EnterError::Enter)?,
                    Place::Home => {}
                    Place::At(path) => set(&Netns::open(path)?).map_err(EnterError::Enter)?,
                }
                // Not reached by a step that failed: then the thread is still where it was.
                away = matches!(place, Place::At(_));
                Ok(work(at))
            };
            let result =
                catch_unwind(AssertUnwindSafe(|| places.iter().enumerate().map(|(at, p)| one(at, p)).collect()));
            (result.map_err(|_| EnterError::Panicked), if away { return_home(home) } else { AtHome::Yes })
        })
        .await?
    }

    /// Queues a job, waiting for a place without blocking, and waits for its result.
    async fn submit<T, F>(&self, job: F) -> Result<T, EnterError>
    where
        T: Send + 'static,
        F: FnOnce(&Netns) -> (T, AtHome) + Send + 'static,
    {
        let place = Arc::clone(&self.inner.places).acquire_owned().await.map_err(|_| EnterError::Closed)?;
        let (tell, answer) = oneshot::channel();
        self.inner.shared.push(Box::new(move |home| {
            let (result, at_home) = job(home);
            drop(place);
            // If nobody waits any more, the result is dropped here, at home.
            let _ = tell.send(result);
            at_home
        }))?;
        answer.await.map_err(|_| EnterError::Closed)
    }

    /// As [`EnterPool::run`], for a thread that may block: never call it on a runtime's worker.
    ///
    /// # Errors
    /// As [`EnterPool::run`].
    pub fn run_blocking<T, F>(&self, namespace: &Netns, work: F) -> Result<T, EnterError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        futures::executor::block_on(self.run(namespace, work))
    }

    /// A namespace's identity for its life.
    ///
    /// # Errors
    /// As [`EnterPool::run`], and [`EnterError::Cookie`].
    pub async fn cookie(&self, namespace: &Netns) -> Result<NetnsCookie, EnterError> {
        self.run(namespace, cookie_here).await?
    }

    /// As [`EnterPool::cookie`], for a thread that may block.
    ///
    /// # Errors
    /// As [`EnterPool::cookie`].
    pub fn cookie_blocking(&self, namespace: &Netns) -> Result<NetnsCookie, EnterError> {
        self.run_blocking(namespace, cookie_here)?
    }

    /// Calls `setns` with the home namespace, which changes nothing: whether it is allowed at all.
    ///
    /// # Errors
    /// [`EnterError::Enter`]: it is not (CAP_SYS_ADMIN is missing).
    pub fn try_setns(&self) -> Result<(), EnterError> {
        let home = self.inner.shared.home.clone();
        self.run_blocking(self.home(), move || set(&home))?.map_err(EnterError::Enter)
    }
}

/// Enters, works, returns. The closure's panic is caught, so that the way back is always taken.
fn inside<T>(namespace: &Netns, home: &Netns, work: impl FnOnce() -> T) -> (Result<T, EnterError>, AtHome) {
    let away = !namespace.same(home);
    if away && let Err(e) = set(namespace) {
        return (Err(EnterError::Enter(e)), AtHome::Yes);
    }
    let result = catch_unwind(AssertUnwindSafe(work)).map_err(|_| EnterError::Panicked);
    (result, if away { return_home(home) } else { AtHome::Yes })
}

fn return_home(home: &Netns) -> AtHome {
    match set(home) {
        Ok(()) => AtHome::Yes,
        Err(e) => {
            tracing::error!(error = %e, "a thread could not return to the home namespace and ends");
            AtHome::Lost
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, job: Job) -> Result<(), EnterError> {
        // Whoever calls is at home, so that a thread made here is at home as well.
        self.fill()?;
        let mut state = self.lock();
        if state.closed {
            return Err(EnterError::Closed);
        }
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Makes the threads that are missing. An error counts only if there is no thread at all.
    fn fill(self: &Arc<Self>) -> Result<(), EnterError> {
        let mut state = self.lock();
        while state.threads < self.wanted && !state.closed {
            let shared = Arc::clone(self);
            let name = format!("netns-{}", state.made);
            match std::thread::Builder::new().name(name).spawn(move || shared.serve()) {
                Ok(_) => {
                    state.threads += 1;
                    state.made += 1;
                }
                Err(e) if state.threads == 0 => return Err(EnterError::Thread(e)),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// A thread's life.
    fn serve(self: Arc<Self>) {
        let _count = Counted(&self);
        if let Err(e) = self.come_home() {
            tracing::error!(error = %e, "a new thread is not in the home namespace and ends");
            return;
        }
        while let Some(job) = self.next() {
            if job(&self.home) == AtHome::Lost {
                return;
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A thread begins in the namespace of the thread that made it: that it is home is checked, not assumed.
    fn come_home(&self) -> io::Result<()> {
        match Netns::own() {
            Ok(own) if own.same(&self.home) => Ok(()),
            _ => set(&self.home),
        }
    }
}

/// Takes a thread off the count when it ends, in whatever way.
struct Counted<'a>(&'a Shared);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.threads -= 1;
        if state.threads == 0 {
            // Their callers learn that nobody will do them; the next call makes new threads.
            state.jobs.clear();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}
