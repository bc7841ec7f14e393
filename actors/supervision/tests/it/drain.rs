//! The end.

use std::time::Duration;

use nameward_messages::health::ActorName;
use nameward_supervision::{Drained, RestartBudget, Supervisor, Told, inbox, run};
use tokio::sync::mpsc::unbounded_channel;

use crate::stage::{NAME, Probe, Saw, Say, paused, paused_clock};

#[test]
fn inboxes_empty_and_last_futures_end() {
    paused(async {
        let mut supervisor = Supervisor::with_clock(RestartBudget::default(), paused_clock());
        let (outlet, inbox) = inbox(NAME, 8);
        let (tx, mut saw) = unbounded_channel();
        let probe = tx.clone();
        supervisor.start(inbox, move || Probe { last_words: true, ..Probe::new(&probe) });
        outlet.tell(Say::SpawnForever);
        assert_eq!(saw.recv().await, Some(Saw::Started));
        assert_eq!(saw.recv().await, Some(Saw::Said(Say::SpawnForever)));
        outlet.tell(Say::Word(1));
        outlet.tell(Say::Word(2));
        let drained = supervisor.drain(Duration::from_secs(5)).await;
        assert_eq!(drained, Drained { clean: true, left: vec![] });
        assert_eq!(outlet.tell(Say::Word(3)), Told::Closed);
        drop(tx);
        let mut rest = Vec::new();
        saw.close();
        while let Some(saw) = saw.recv().await {
            rest.push(saw);
        }
        // The two kinds of futures end in any order.
        assert_eq!(rest[..3], [Saw::Draining, Saw::Said(Say::Word(1)), Saw::Said(Say::Word(2))]);
        assert!(rest[3..].contains(&Saw::FutureEnded) && rest[3..].contains(&Saw::LastFuture), "{rest:?}");
        assert_eq!(rest.len(), 5);
    });
}

#[test]
fn a_last_future_that_never_ends_is_cut_off_at_the_deadline() {
    struct Stubborn;
    impl nameward_supervision::Actor for Stubborn {
        type Message = Say;
        fn handle(&mut self, _: Say, _: &nameward_supervision::Context<Self>) {}
        fn draining(&mut self, ctx: &nameward_supervision::Context<Self>) {
            ctx.spawn(std::future::pending());
        }
    }
    paused(async {
        let mut supervisor = Supervisor::with_clock(RestartBudget::default(), paused_clock());
        let (_outlet, inbox) = inbox(NAME, 8);
        supervisor.start(inbox, || Stubborn);
        let began = tokio::time::Instant::now();
        let drained = supervisor.drain(Duration::from_secs(5)).await;
        assert_eq!(drained, Drained { clean: false, left: vec![] });
        assert!(began.elapsed() < Duration::from_millis(5100), "{:?}", began.elapsed());
    });
}

#[test]
fn what_is_left_is_said() {
    /// Gives up the thread for ever longer, in virtual time, by being rebuilt again and again.
    struct Clumsy;
    impl nameward_supervision::Actor for Clumsy {
        type Message = Say;
        fn handle(&mut self, _: Say, _: &nameward_supervision::Context<Self>) {
            panic!("always");
        }
    }
    paused(async {
        let mut supervisor =
            Supervisor::with_clock(RestartBudget { max: 2, within: Duration::from_secs(60) }, paused_clock());
        let (outlet, inbox) = inbox(ActorName::Prober, 8);
        for n in 0..8 {
            outlet.tell(Say::Word(n));
        }
        supervisor.start(inbox, || Clumsy);
        let drained = supervisor.drain(Duration::from_secs(5)).await;
        // Three were lost: two restarts, then death.
        assert_eq!(drained, Drained { clean: false, left: vec![(ActorName::Prober, 5)] });
    });
}

#[test]
fn real_threads() {
    let seen = run(|| async {
        let main = std::thread::current().id();
        let mut supervisor = Supervisor::new(RestartBudget::default());
        let (outlet, inbox) = inbox(NAME, 8);
        let (tx, mut seen) = unbounded_channel();
        struct Where(tokio::sync::mpsc::UnboundedSender<(bool, std::thread::ThreadId)>);
        impl nameward_supervision::Actor for Where {
            type Message = Say;
            fn handle(&mut self, _: Say, ctx: &nameward_supervision::Context<Self>) {
                self.0.send((true, std::thread::current().id())).ok();
                let tx = self.0.clone();
                ctx.spawn(async move {
                    tx.send((false, std::thread::current().id())).ok();
                });
            }
        }
        supervisor.start(inbox, move || Where(tx.clone()));
        outlet.tell(Say::Word(1));
        for _ in 0..2 {
            let (actor, thread) = seen.recv().await.unwrap();
            assert_eq!(actor, thread == main);
        }
        supervisor.drain(Duration::from_secs(5)).await.clean
    });
    assert!(seen.unwrap());
}
