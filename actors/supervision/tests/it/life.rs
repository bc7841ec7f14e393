//! Panics, restarts, budgets, deadlines, futures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nameward_messages::health::Stage;
use nameward_supervision::{HealthBoard, Outlet, RestartBudget, Supervisor, inbox};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::stage::{NAME, Probe, Saw, Say, paused, paused_clock};

struct Scene {
    supervisor: Supervisor,
    outlet: Outlet<Say>,
    saw: UnboundedReceiver<Saw>,
    board: HealthBoard,
    died: Arc<AtomicU32>,
}

fn scene(limits: RestartBudget, rehearse: &[u64]) -> Scene {
    let mut supervisor = Supervisor::with_clock(limits, paused_clock());
    supervisor.rehearse_panics(rehearse.iter().map(|nth| (NAME, *nth)).collect());
    let died = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&died);
    supervisor.on_dead(move |name| {
        assert_eq!(name, NAME);
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (outlet, inbox) = inbox(NAME, 64);
    let (tx, saw) = unbounded_channel();
    let board = supervisor.board();
    supervisor.start(inbox, move || Probe::new(&tx));
    Scene { supervisor, outlet, saw, board, died }
}

impl Scene {
    fn tell(&self, says: &[Say]) {
        for say in says {
            assert!(self.outlet.tell(say.clone()).accepted());
        }
    }

    async fn expect(&mut self, expected: &[Saw]) {
        for saw in expected {
            assert_eq!(self.saw.recv().await.as_ref(), Some(saw));
        }
    }

    fn counters(&self) -> (u64, u64, u64) {
        let health = &self.board.reports()[&NAME].health;
        (health.handled, health.restarts, health.lost)
    }
}

#[test]
fn a_panic_loses_one_message_and_keeps_the_inbox() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[]);
        scene.tell(&[Say::Word(1), Say::Panic, Say::Word(2), Say::Word(3)]);
        scene.expect(&[Saw::Started, Saw::Said(Say::Word(1)), Saw::Started]).await;
        scene.expect(&[Saw::Said(Say::Word(2)), Saw::Said(Say::Word(3))]).await;
        let drained = scene.supervisor.drain(Duration::from_secs(1)).await;
        assert!(drained.clean);
        let report = &scene.board.reports()[&NAME];
        assert_eq!((report.health.handled, report.health.restarts, report.health.lost), (3, 1, 1));
        assert_eq!(report.last_panic, "as told");
        assert!(scene.board.troubles().is_empty());
    });
}

#[test]
fn rehearsed_panics_happen_once() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[2]);
        scene.tell(&[Say::Word(1), Say::Word(2), Say::Word(3), Say::Word(4)]);
        scene.expect(&[Saw::Started, Saw::Said(Say::Word(1)), Saw::Started]).await;
        scene.expect(&[Saw::Said(Say::Word(3)), Saw::Said(Say::Word(4))]).await;
        scene.tell(&[Say::Word(5)]);
        scene.expect(&[Saw::Said(Say::Word(5))]).await;
        assert_eq!(scene.board.reports()[&NAME].health.lost, 1);
    });
}

#[test]
fn a_rebuilt_actor_is_told_what_was_retained() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[]);
        scene.tell(&[Say::Keep("a", 1), Say::Keep("b", 1), Say::Keep("a", 2), Say::Keep("c", 1), Say::Forget("c")]);
        scene.tell(&[Say::PanicKeeping("b"), Say::Word(1)]);
        scene.expect(&[Saw::Started]).await;
        for say in [Say::Keep("a", 1), Say::Keep("b", 1), Say::Keep("a", 2), Say::Keep("c", 1), Say::Forget("c")] {
            scene.expect(&[Saw::Said(say)]).await;
        }
        // The lost one is not told again, what it would have replaced is.
        scene.expect(&[Saw::Started, Saw::Said(Say::Keep("b", 1)), Saw::Said(Say::Keep("a", 2))]).await;
        scene.expect(&[Saw::Said(Say::Word(1))]).await;
    });
}

#[test]
fn a_spent_budget_is_death() {
    paused(async {
        let mut scene = scene(RestartBudget { max: 2, within: Duration::from_secs(60) }, &[]);
        scene.tell(&[Say::Panic, Say::Panic, Say::Panic, Say::Word(1)]);
        scene.expect(&[Saw::Started, Saw::Started, Saw::Started]).await;
        // The factory, and with it the sender, goes with the actor.
        assert_eq!(scene.saw.recv().await, None);
        assert_eq!(scene.died.load(Ordering::Relaxed), 1);
        assert_eq!(scene.counters(), (0, 2, 3));
        assert_eq!(scene.board.troubles(), ["diagnosis is dead after 2 restarts: as told"]);
        assert_eq!(scene.board.awaited(), ["diagnosis does not run"]);
        assert!(!scene.outlet.tell(Say::Word(2)).accepted(), "the dead accept nothing");
        assert!(!scene.supervisor.drain(Duration::from_secs(1)).await.clean);
    });
}

#[test]
fn a_budget_recovers_with_time() {
    paused(async {
        let mut scene = scene(RestartBudget { max: 1, within: Duration::from_secs(10) }, &[]);
        for _ in 0..5 {
            scene.expect(&[Saw::Started]).await;
            scene.tell(&[Say::Panic]);
            tokio::time::advance(Duration::from_secs(11)).await;
        }
        scene.expect(&[Saw::Started]).await;
        assert_eq!(scene.died.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_panic_in_a_tick_is_survived() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[]);
        scene.tell(&[Say::PanicInTick]);
        scene.expect(&[Saw::Started, Saw::Said(Say::PanicInTick), Saw::Started]).await;
        assert_eq!(scene.counters(), (1, 1, 0), "a tick is no message: nothing is lost");
    });
}

#[test]
fn a_panic_in_the_factory_is_survived() {
    paused(async {
        let mut supervisor = Supervisor::with_clock(RestartBudget::default(), paused_clock());
        let (_outlet, inbox) = inbox(NAME, 1);
        let (tx, mut saw) = unbounded_channel();
        let built = AtomicU32::new(0);
        supervisor.start(inbox, move || {
            assert!(built.fetch_add(1, Ordering::Relaxed) > 1, "not yet");
            Probe::new(&tx)
        });
        assert_eq!(saw.recv().await, Some(Saw::Started));
        assert_eq!(supervisor.board().reports()[&NAME].health.restarts, 2);
    });
}

#[test]
fn deadlines_are_kept() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[]);
        let at = paused_clock().now().mono + Duration::from_secs(300);
        scene.tell(&[Say::TickAt(at)]);
        scene.expect(&[Saw::Started, Saw::Said(Say::TickAt(at))]).await;
        let Some(Saw::Ticked(when)) = scene.saw.recv().await else { panic!("no tick") };
        assert!(when >= at.0 && when < at.0 + Duration::from_millis(10), "{when:?}");
    });
}

#[test]
fn futures_end_with_their_incarnation() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[]);
        scene.tell(&[Say::SpawnForever, Say::Panic]);
        scene.expect(&[Saw::Started, Saw::Said(Say::SpawnForever), Saw::FutureEnded, Saw::Started]).await;
    });
}

#[test]
fn a_panicking_future_is_counted_and_harmless() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[]);
        scene.tell(&[Say::SpawnPanic]);
        scene.expect(&[Saw::Started, Saw::Said(Say::SpawnPanic), Saw::FutureEnded]).await;
        scene.tell(&[Say::Word(1)]);
        scene.expect(&[Saw::Said(Say::Word(1))]).await;
        let report = &scene.board.reports()[&NAME];
        assert_eq!((report.future_panics, report.health.restarts), (1, 0));
    });
}

#[test]
fn an_actor_that_says_nothing_is_ready_once_started() {
    paused(async {
        let mut scene = scene(RestartBudget::default(), &[]);
        assert_eq!(scene.board.awaited().len(), 1);
        assert!(scene.board.troubles().is_empty(), "to start is not to be dead");
        scene.tell(&[Say::Word(1)]);
        scene.expect(&[Saw::Started, Saw::Said(Say::Word(1))]).await;
        assert_eq!(scene.board.reports()[&NAME].stage, Stage::Ready);
        assert!(scene.board.awaited().is_empty());
    });
}

#[test]
fn a_handler_that_does_not_return_is_called_stuck() {
    use std::sync::atomic::AtomicU64;

    use nameward_messages::Now;
    use nameward_supervision::clock::Clock;
    use nameward_supervision::{Actor, Context, STUCK_AFTER};

    /// Takes a minute over a message, and looks at the board as another thread would meanwhile.
    struct Slow {
        seconds: Arc<AtomicU64>,
        board: HealthBoard,
        troubles: tokio::sync::mpsc::UnboundedSender<Vec<String>>,
    }
    impl Actor for Slow {
        type Message = Say;
        fn handle(&mut self, _: Say, _: &Context<Self>) {
            self.troubles.send(self.board.troubles()).ok();
            self.seconds.fetch_add(60, Ordering::Relaxed);
            self.troubles.send(self.board.troubles()).ok();
        }
    }
    assert!(STUCK_AFTER < Duration::from_secs(60));
    paused(async {
        let seconds = Arc::new(AtomicU64::new(1));
        let read = Arc::clone(&seconds);
        let clock = Clock::new(move || Now::at(Duration::from_secs(read.load(Ordering::Relaxed))));
        let mut supervisor = Supervisor::with_clock(RestartBudget::default(), clock);
        let (outlet, inbox) = inbox(NAME, 1);
        let (troubles, mut told) = unbounded_channel();
        let board = supervisor.board();
        supervisor.start(inbox, move || Slow {
            seconds: Arc::clone(&seconds),
            board: board.clone(),
            troubles: troubles.clone(),
        });
        outlet.tell(Say::Word(1));
        assert_eq!(told.recv().await.unwrap(), Vec::<String>::new());
        assert_eq!(told.recv().await.unwrap(), ["diagnosis is stuck: its handler has been running for 60 s"]);
        outlet.tell(Say::Word(2));
        assert_eq!(told.recv().await.unwrap(), Vec::<String>::new(), "it returned");
    });
}
