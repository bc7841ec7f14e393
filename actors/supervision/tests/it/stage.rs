//! An actor that tells a test what happens to it.

use std::time::Duration;

use nameward_messages::health::ActorName;
use nameward_messages::{Mono, Now};
use nameward_supervision::clock::Clock;
use nameward_supervision::{Actor, Context, Message, Retain, WhenFull};
use tokio::sync::mpsc;

pub(crate) const NAME: ActorName = ActorName::Diagnosis;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Say {
    Word(u32),
    Keep(&'static str, u32),
    Forget(&'static str),
    Panic,
    PanicKeeping(&'static str),
    SpawnForever,
    SpawnPanic,
    TickAt(Mono),
    PanicInTick,
}

impl Message for Say {
    fn when_full(&self) -> WhenFull {
        WhenFull::DropNewest
    }
    fn retain(&self) -> Retain {
        match self {
            Self::Keep(key, _) | Self::PanicKeeping(key) => Retain::Keep((*key).to_owned()),
            Self::Forget(key) => Retain::Forget((*key).to_owned()),
            _ => Retain::No,
        }
    }
    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Saw {
    Started,
    Said(Say),
    Ticked(Duration),
    Draining,
    FutureEnded,
    LastFuture,
}

pub(crate) struct Probe {
    pub(crate) saw: mpsc::UnboundedSender<Saw>,
    pub(crate) due: Option<Mono>,
    pub(crate) panic_in_tick: bool,
    pub(crate) last_words: bool,
}

impl Probe {
    pub(crate) fn new(saw: &mpsc::UnboundedSender<Saw>) -> Self {
        Self { saw: saw.clone(), due: None, panic_in_tick: false, last_words: false }
    }

    fn see(&self, saw: Saw) {
        self.saw.send(saw).ok();
    }
}

/// Tells when it is dropped, that is when its future is aborted.
struct Ends(mpsc::UnboundedSender<Saw>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.send(Saw::FutureEnded).ok();
    }
}

impl Actor for Probe {
    type Message = Say;

    fn started(&mut self, _: &Context<Self>) {
        self.see(Saw::Started);
    }

    fn handle(&mut self, say: Say, ctx: &Context<Self>) {
        match &say {
            Say::Panic | Say::PanicKeeping(_) => panic!("as told"),
            Say::SpawnForever => {
                let ends = Ends(self.saw.clone());
                ctx.spawn(async move {
                    let _ends = ends;
                    std::future::pending::<()>().await;
                });
            }
            Say::SpawnPanic => {
                let ends = Ends(self.saw.clone());
                ctx.spawn(async move {
                    let _ends = ends;
                    panic!("in a future");
                });
            }
            Say::TickAt(at) => self.due = Some(*at),
            Say::PanicInTick => {
                self.due = Some(ctx.now().mono);
                self.panic_in_tick = true;
            }
            Say::Word(_) | Say::Keep(..) | Say::Forget(_) => {}
        }
        self.see(Saw::Said(say));
    }

    fn deadline(&self) -> Option<Mono> {
        self.due
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        assert!(!self.panic_in_tick, "in a tick");
        self.due = None;
        self.see(Saw::Ticked(ctx.now().mono.0));
    }

    fn draining(&mut self, ctx: &Context<Self>) {
        assert!(ctx.draining());
        self.see(Saw::Draining);
        if self.last_words {
            let saw = self.saw.clone();
            ctx.spawn(async move {
                tokio::task::yield_now().await;
                saw.send(Saw::LastFuture).ok();
            });
        }
    }
}

/// A clock that follows tokio's paused time.
pub(crate) fn paused_clock() -> Clock {
    let origin = tokio::time::Instant::now();
    Clock::new(move || Now::at(origin.elapsed() + Duration::from_secs(1000)))
}

/// Runs a test on a paused clock and one thread, on which actors and workers live together.
pub(crate) fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        // Virtual time: an idle hour passes at once.
        tokio::time::timeout(Duration::from_secs(3600), test).await.expect("hangs");
    });
}
