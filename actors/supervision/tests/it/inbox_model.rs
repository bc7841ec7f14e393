//! The inbox against a plain model.

use nameward_messages::health::ActorName;
use nameward_supervision::{Message, Retain, Told, WhenFull, inbox};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Note {
    id: u32,
    key: Option<u8>,
    state: bool,
    oldest: bool,
}

impl Message for Note {
    fn when_full(&self) -> WhenFull {
        if self.oldest { WhenFull::DropOldest } else { WhenFull::DropNewest }
    }
    fn merge_key(&self) -> Option<String> {
        self.key.map(|key| key.to_string())
    }
    fn retain(&self) -> Retain {
        if self.state { Retain::Keep("x".to_owned()) } else { Retain::No }
    }
}

fn model(waiting: &mut Vec<Note>, capacity: usize, note: Note) -> Told {
    if note.key.is_some()
        && let Some(same) = waiting.iter_mut().find(|w| w.key == note.key)
    {
        *same = note;
        return Told::Merged;
    }
    if waiting.len() == capacity {
        let stateless = waiting.iter().position(|w| !w.state);
        match (note.oldest, stateless, note.state) {
            (true, Some(at), _) => drop(waiting.remove(at)),
            (true, None, true) => drop(waiting.remove(0)),
            _ => return Told::Shed,
        }
    }
    waiting.push(note);
    Told::Queued
}

fn notes() -> impl Strategy<Value = Vec<Option<(Option<u8>, bool, bool)>>> {
    let note = (prop::option::of(0..4_u8), any::<bool>(), any::<bool>());
    prop::collection::vec(prop::option::weighted(0.7, note), 0..200)
}

proptest! {
    #[test]
    fn holds_what_the_model_holds(capacity in 1..8_usize, steps in notes()) {
        let (outlet, inbox) = inbox(ActorName::Netns, capacity);
        let mut waiting = Vec::new();
        for (id, step) in (0..).zip(steps) {
            if let Some((key, state, oldest)) = step {
                let note = Note { id, key, state, oldest };
                prop_assert_eq!(outlet.tell(note.clone()), model(&mut waiting, capacity, note));
            } else {
                let expected = if waiting.is_empty() { None } else { Some(waiting.remove(0)) };
                prop_assert_eq!(inbox.try_take(), expected);
            }
            prop_assert!(waiting.len() <= capacity);
        }
        while let Some(note) = inbox.try_take() {
            prop_assert_eq!(note, waiting.remove(0));
        }
        prop_assert!(waiting.is_empty());
    }
}
