//! What nf_tables tells of a traced packet, and the rules of a chain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nameward_kernel::trace::{Followings, Message, TABLE, parse};

fuzz_target!(|data: &[u8]| {
    let mut found = Followings::new(53, TABLE);
    let mut rules = Vec::new();
    for message in parse(data) {
        match message {
            Message::Event(event) => {
                found.take(&event);
            }
            Message::Rule { handle } => rules.push(handle),
            Message::Ack(_) | Message::Done => {}
        }
    }
    let _ = found.finish(&rules);
});
