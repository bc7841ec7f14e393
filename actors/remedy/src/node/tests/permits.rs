//! How old a permit is: only the agent that saw it come knows.

use proptest::prelude::*;

use super::*;

const VALID: u64 = 600;

/// Coordinator and agents of one node.
struct World {
    now: u64,
    mind: NodeMind,
    orders: NodeOrders,
    /// When the permit that stands in the orders was given.
    given: Option<u64>,
    /// The API is away for this node.
    away: bool,
}

impl World {
    fn new() -> Self {
        let mind = NodeMind::new(Arc::new(Config::default()));
        Self { now: 1000, mind, orders: NodeOrders::default(), given: None, away: false }
    }

    fn tell(&mut self, input: Input) {
        self.mind.step(at(self.now), input, &mut vec![]);
    }

    /// Its watch brings the orders, unless it is cut.
    fn told_orders(&mut self) {
        if !self.away {
            self.tell(Input::Orders(self.orders.clone()));
        }
    }

    fn cut(&mut self) {
        if !std::mem::replace(&mut self.away, true) {
            self.tell(Input::KillSwitch(KillSwitch::UnreadableSince(at(self.now).mono)));
        }
    }

    /// The watches are back, one before the other.
    fn back(&mut self, switch_first: bool) {
        if !std::mem::replace(&mut self.away, false) {
            return;
        }
        if switch_first {
            self.tell(Input::KillSwitch(KillSwitch::Off));
            self.now += 30;
        }
        self.told_orders();
        if !switch_first {
            self.now += 30;
            self.tell(Input::KillSwitch(KillSwitch::Off));
        }
    }

    fn grant(&mut self) {
        let serial = self.orders.permit.as_ref().map_or(0, |permit| permit.serial) + 1;
        (self.orders, self.given) = (permit(serial), Some(self.now));
    }

    /// The process ends, or the actor is rebuilt: the orders as they stand are the first that it is told.
    fn restart(&mut self) {
        self.mind = NodeMind::new(Arc::new(Config::default()));
        self.told_orders();
    }

    fn permitted(&self) -> bool {
        self.mind.permitted(at(self.now).mono)
    }
}

#[test]
fn a_permit_that_is_found_at_the_start_is_none_until_it_is_renewed() {
    let mut world = World::new();
    world.told_orders();
    world.grant();
    world.told_orders();
    assert!(world.permitted());
    // The coordinator is away for days; the orders stay as they are.
    world.now += 3 * 24 * 3600;
    assert!(!world.permitted());
    world.restart();
    assert!(!world.permitted(), "it ran out days ago");
    world.now += 60;
    world.told_orders();
    assert!(!world.permitted(), "told again, it is no younger");
    world.grant();
    world.told_orders();
    assert!(world.permitted(), "it was renewed");
    world.now += VALID;
    assert!(!world.permitted());
}

#[test]
fn a_permit_that_was_given_while_the_api_was_away_is_as_old_as_that() {
    for switch_first in [false, true] {
        for (away, valid) in [(100, true), (1200, false)] {
            let mut world = World::new();
            world.told_orders();
            world.cut();
            world.grant();
            // And then there was no coordinator any more.
            world.now += away;
            world.back(switch_first);
            assert_eq!(world.permitted(), valid, "{away} s, {switch_first}");
            world.now += 300;
            world.grant();
            world.told_orders();
            assert!(world.permitted(), "this one was seen to come");
        }
    }
}

#[test]
fn a_switch_that_was_not_read_yet_makes_no_permit_older() {
    let mut world = World::new();
    world.tell(Input::KillSwitch(KillSwitch::UnreadableSince(Mono::default())));
    world.now += 2;
    world.tell(Input::KillSwitch(KillSwitch::Off));
    world.told_orders();
    world.now += 5;
    world.grant();
    world.told_orders();
    assert!(world.permitted());
}

#[test]
fn a_node_that_had_none_takes_the_first() {
    let mut world = World::new();
    world.restart();
    world.grant();
    world.told_orders();
    assert!(world.permitted());
}

#[test]
fn nothing_is_repaired_on_a_permit_of_another_process() {
    let case = cases().remove(0);
    let mut rig = Rig::new(&case);
    rig.run(20);
    assert!(rig.applied_at.is_empty());
    rig.restart_unrenewed();
    rig.tell(Input::Diagnosis(DiagnosisTells::Stands(case.verdict.clone())));
    rig.run(2000);
    assert!(rig.applied_at.is_empty(), "{:?}", rig.told);
    assert!(rig.told.last().unwrap().detail.starts_with("no permit"), "{:?}", rig.told);
}

proptest! {
    /// Whatever is granted, withdrawn, told again or told late, and however often the agent starts: no permit is valid for longer than
    /// it was given for, counted from when it could be seen first.
    #[test]
    fn no_permit_outlives_what_it_was_given_for(
        events in proptest::collection::vec((0_u8..8, 1_u64..900), 1..40),
    ) {
        let mut world = World::new();
        for (event, seconds) in events {
            match event {
                0 => { world.grant(); world.told_orders(); }
                // Of what is withdrawn while the API is away the node cannot know.
                1 => {
                    (world.orders, world.given) = (NodeOrders::default(), world.given.filter(|_| world.away));
                    world.told_orders();
                }
                // Which finds the API, or waits for it.
                2 => { world.away = false; world.restart(); }
                3 => world.told_orders(),
                4 => world.cut(),
                5 | 6 => world.back(event == 5),
                _ => world.tell(Input::Tick),
            }
            for wait in [0, seconds] {
                world.now += wait;
                let age = world.given.map(|at| world.now - at);
                prop_assert!(!world.permitted() || age.is_some_and(|age| age < VALID), "{:?} s old", age);
            }
        }
    }
}
