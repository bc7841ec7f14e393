//! The agent ends at every point of every repair, and is started again.

use proptest::prelude::*;

use super::super::*;
use super::bench::Rig;
use super::facts::cases;

#[test]
fn a_crash_at_every_point_leaves_nothing_half_done() {
    let mut points = 0;
    for case in cases() {
        for dns_good in [true, false] {
            for crash_at in 0.. {
                let mut rig = Rig::new(&case);
                rig.dns_good = dns_good;
                rig.crash_at = Some(crash_at);
                rig.run(100);
                if !rig.crashed {
                    break;
                }
                points += 1;
                let name = format!("{} at point {crash_at}, DNS good: {dns_good}", case.name);
                let (touched, before) = (rig.kernel.clone(), rig.applied_at.len());
                rig.restart();
                assert!(rig.kernel == touched, "{name}: opening the journal changes nothing");
                // The verdict is not told again: only what was begun is brought to an end.
                rig.run(300);
                assert_eq!(rig.applied_at.len(), before, "{name}: nothing is done twice");
                assert!(rig.journalled().iter().all(|e| !e.state.open()), "{name}: {:?}", rig.journalled());
                assert!(rig.mind.work.is_none(), "{name}");
                if dns_good {
                    assert!(rig.one_or_the_other(), "{name}: {:?}", rig.kernel);
                } else {
                    assert!(rig.as_before(), "{name}: {:?}", rig.kernel);
                }
                // And a second restart finds nothing to do.
                let stands = rig.kernel.clone();
                rig.restart();
                rig.run(100);
                assert!(rig.kernel == stands && rig.mind.work.is_none(), "{name}");
            }
        }
    }
    assert!(points > 150, "{points} points were tried");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Crashes, switches and permits in any order: what is there is what was, or what is written down; no more than one
    /// repair in ten minutes and three in all.
    #[test]
    fn whatever_happens(
        which in 0_usize..10,
        dns_good in any::<bool>(),
        events in proptest::collection::vec((0_u8..6, 1_u64..120), 0..12),
        crash in proptest::option::of(0_usize..30),
    ) {
        let all = cases();
        let case = &all[which % all.len()];
        let mut rig = Rig::new(case);
        rig.dns_good = dns_good;
        rig.crash_at = crash;
        for (event, seconds) in events {
            rig.run(seconds);
            if rig.crashed {
                rig.restart();
                rig.tell(Input::Diagnosis(DiagnosisTells::Stands(case.verdict.clone())));
            }
            let halted = match event {
                0 => { rig.tell(Input::KillSwitch(KillSwitch::On)); true }
                1 => { rig.tell(Input::KillSwitch(KillSwitch::Off)); false }
                2 => { rig.tell(Input::Orders(NodeOrders::default())); false }
                3 => {
                    let permit = Some(Permit { serial: seconds, valid_s: 600, causes: Cause::ALL.to_vec() });
                    rig.tell(Input::Orders(NodeOrders { permit, ..NodeOrders::default() }));
                    false
                }
                4 => { rig.dns_good = !rig.dns_good; false }
                _ => {
                    let key = case.verdict.key();
                    rig.tell(Input::Diagnosis(DiagnosisTells::Ended { key, at: Now::at(rig.now.0), recovered: true }));
                    rig.tell(Input::Diagnosis(DiagnosisTells::Stands(case.verdict.clone())));
                    false
                }
            };
            if halted {
                let (kernel, busy) = (rig.kernel.clone(), !rig.jobs.is_empty());
                rig.run(seconds);
                prop_assert!(busy || rig.kernel == kernel, "the kill switch is thrown");
            }
            prop_assert!(rig.one_or_the_other());
        }
        let firsts: Vec<u64> = rig.journalled().iter().filter(|e| e.id == e.repair).map(|e| e.began_ms / 1000).collect();
        prop_assert!(firsts.len() <= 3);
        prop_assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] >= 600), "{:?}", firsts);
    }
}
