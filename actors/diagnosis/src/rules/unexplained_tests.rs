//! After how long a leftover is called unexplained: it may be of the making of what is named, and end with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::Reading;
use nameward_messages::probe::Outcome;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::Cause;

use super::scenarios::{from, scenarios, to};
use crate::judge::judge;
use crate::testing::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Nothing,
    /// A cause that is named.
    Named,
    /// What another node must judge.
    Deferred,
    /// A rule that waits for a reading.
    Waiting,
}

/// The client reaches nothing, for no reason that can be read.
fn leftover(beside: Beside, seconds: u64) -> World {
    let world = match beside {
        Beside::Named => scenarios().remove(0).world,
        Beside::Nothing | Beside::Deferred | Beside::Waiting => World::healthy(),
    };
    let world = world.paths(|p| {
        let far = beside == Beside::Deferred && to(p, DNS_B) && p.transport == Transport::Udp;
        (from(p, CLIENT) || far).then_some(Outcome::Timeout)
    });
    let world = if beside == Beside::Waiting {
        // Only the newest reading shows that the veth has left its bridge.
        world.newest(|s| {
            if let Reading::Read(topology) = &mut s.host.topology {
                let link = topology.links.iter_mut().find(|l| l.name == "veth2fe33054").unwrap();
                (link.master, link.port) = (None, None);
            }
        })
    } else {
        world
    };
    world.failing_for(seconds)
}

#[test]
fn what_is_left_over_is_called_unexplained_after_its_time() {
    let rows = [
        (Beside::Nothing, 20, true),
        (Beside::Nothing, 19, false),
        (Beside::Waiting, 40, true),
        (Beside::Waiting, 39, false),
        (Beside::Named, 60, true),
        (Beside::Named, 59, false),
        (Beside::Deferred, 60, true),
        (Beside::Deferred, 59, false),
    ];
    for (beside, seconds, expected) in rows {
        let judgement = judge(&leftover(beside, seconds).record());
        let found: Vec<Cause> = judgement.findings.iter().map(|f| f.cause).collect();
        assert_eq!(found.contains(&Cause::Unexplained), expected, "{beside:?} for {seconds} s: {judgement:#?}");
        assert_eq!(found.contains(&Cause::CorednsUdpDead), beside == Beside::Named, "{beside:?}: {found:?}");
        assert_eq!(!judgement.deferred.is_empty(), beside == Beside::Deferred, "{beside:?}: {judgement:#?}");
        assert_eq!(!judgement.waiting.is_empty(), beside == Beside::Waiting, "{beside:?}: {judgement:#?}");
    }
}
