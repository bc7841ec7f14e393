#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use nameward_kernel::repair::Sysctl;
use nameward_messages::verdict::SubjectKind;
use proptest::prelude::*;

use super::simulated::SimulatedDisk;
use super::*;

const BOOT: &str = "boot-1";

pub(crate) fn entry(id: u64, state: State) -> Entry {
    Entry {
        id,
        repair: id,
        boot: BOOT.to_owned(),
        kind: RemedyKind::WriteSysctl,
        cause: Cause::IpForwardOff,
        subject: Subject { kind: SubjectKind::Node, namespace: None, name: "node1".into(), uid: None },
        change: Change::Sysctl { name: Sysctl::IpForward, value: 1 },
        before: Image::Value(0),
        wrote: Image::Value(1),
        state,
        worse: false,
        care: false,
        began_ms: id * 1000,
        at: Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

fn open(disk: &SimulatedDisk) -> (Journal<SimulatedDisk>, Found) {
    Journal::open(disk.clone(), BOOT).unwrap()
}

#[test]
fn what_was_written_is_found_as_it_last_stood() {
    let disk = SimulatedDisk::default();
    let (mut journal, found) = open(&disk);
    assert_eq!(found, Found::default());
    for state in [State::Intended, State::Applied, State::Confirmed] {
        journal.write(entry(1, state)).unwrap();
        journal.write(entry(2, State::Intended)).unwrap();
        let (_, found) = open(&disk.after_power_failure());
        assert_eq!(found.entries, [entry(1, state), entry(2, State::Intended)]);
    }
}

#[test]
fn another_boot_is_void() {
    let disk = SimulatedDisk::default();
    open(&disk).0.write(entry(1, State::Applied)).unwrap();
    let (mut journal, found) = Journal::open(disk.clone(), "boot-2").unwrap();
    assert_eq!((found.entries.len(), found.void), (0, 1));
    assert!(disk.durable().is_empty(), "what is void is not kept");
    journal.write(Entry { boot: "boot-2".into(), ..entry(2, State::Intended) }).unwrap();
    let (_, found) = Journal::open(disk, "boot-2").unwrap();
    assert_eq!((found.entries.len(), found.void), (1, 0));
}

#[test]
fn the_power_may_fail_at_every_operation() {
    // With room in the file, and when it must be written anew.
    for full in [false, true] {
        for torn in [0, 1, 9, 40, 4000] {
            for fails in 0..12 {
                let disk = SimulatedDisk::default().tearing(torn);
                let (mut journal, _) = open(&disk);
                journal.write(entry(1, State::Confirmed)).unwrap();
                if full {
                    journal.torn = true;
                }
                disk.fail_after(Some(fails));
                let mut safe = vec![];
                for id in 2..5 {
                    if journal.write(entry(id, State::Intended)).is_ok() {
                        safe.push(id);
                    }
                }
                let (_, found) = open(&disk.after_power_failure());
                let ids: Vec<u64> = found.entries.iter().map(|e| e.id).collect();
                assert_eq!(ids.first(), Some(&1), "what was safe before stays: {ids:?}");
                for id in safe {
                    assert!(ids.contains(&id), "{id} was said to be safe, and {ids:?} is there");
                }
            }
        }
    }
}

#[test]
fn after_a_write_that_failed_the_end_is_made_good() {
    let disk = SimulatedDisk::default();
    let (mut journal, _) = open(&disk);
    // The bytes are appended, and cannot be synced; then half of them go.
    disk.fail_after(Some(1));
    assert!(journal.write(entry(1, State::Intended)).is_err());
    disk.fail_after(None);
    disk.corrupt(|bytes| bytes.extend(b"0000abcd {\"half"));
    journal.write(entry(2, State::Intended)).unwrap();
    let (_, found) = open(&disk.after_power_failure());
    assert_eq!(found.damaged, 0);
    assert!(found.entries.iter().any(|e| e.id == 2));
}

/// After a roll-back of Nameward the newer one's changes are still there.
#[test]
fn lines_of_another_release_are_kept_until_the_next_boot() {
    let disk = SimulatedDisk::default();
    let text = |boot: &str| format!(r#"{{"id":7,"boot":"{boot}","change":{{"of":"tomorrow"}}}}"#);
    let foreign = |boot: &str| format!("{:08x} {}\n", crc32(text(boot).as_bytes()), text(boot));
    disk.corrupt(|bytes| bytes.extend((foreign(BOOT) + &foreign("another")).as_bytes()));
    let (mut journal, found) = open(&disk);
    assert_eq!((found.foreign, found.void, found.damaged, found.entries.len()), (1, 1, 0, 0));
    for id in 1..3000 {
        journal.write(entry(id, State::Intended)).unwrap();
        journal.write(entry(id, State::Undone)).unwrap();
    }
    let (_, again) = open(&disk.after_power_failure());
    assert_eq!((again.foreign, again.void, again.damaged), (1, 0, 0));
}

#[test]
fn it_stays_small() {
    let disk = SimulatedDisk::default();
    let (mut journal, _) = open(&disk);
    journal.write(entry(1, State::Applied)).unwrap();
    for id in 2..3000 {
        journal.write(entry(id, State::Intended)).unwrap();
        journal.write(entry(id, State::Undone)).unwrap();
        assert!(disk.durable().len() <= MAX_BYTES);
    }
    journal.torn = true;
    journal.write(entry(3000, State::Intended)).unwrap();
    let (_, found) = open(&disk);
    assert_eq!(found.entries.len(), KEEP + 2, "what is over is forgotten, the oldest first");
    assert_eq!(found.entries[0], entry(1, State::Applied), "what is open is not");
    let big = Entry {
        subject: Subject { name: "x".repeat(MAX_BYTES), ..entry(1, State::Intended).subject },
        ..entry(4000, State::Intended)
    };
    assert!(matches!(journal.write(big), Err(JournalError::TooBig(_))));
}

#[test]
fn replay_compares() {
    let gone = RepairError::Gone("link x".into());
    let broken = RepairError::Failed("x".into());
    for (now, wanted) in [
        (Ok(Image::Value(0)), Replay::Nothing),
        (Ok(Image::Value(1)), Replay::Verify),
        (Ok(Image::Value(2)), Replay::LeaveAlone(Image::Value(2))),
        (Err(gone), Replay::Gone),
        (Err(broken.clone()), Replay::Unread(broken)),
    ] {
        for state in [State::Intended, State::Applied] {
            assert_eq!(replay(&entry(1, state), now.clone()), wanted);
        }
    }
    let flows = Entry {
        change: Change::DropFlows { flows: vec![] },
        before: Image::Flows(vec![]),
        wrote: Image::Flows(vec![]),
        ..entry(1, State::Intended)
    };
    assert_eq!(replay(&flows, Ok(Image::Flows(vec![]))), Replay::Over, "there is nothing to take back");
}

proptest! {
    /// Any bytes may stand in the file: it opens, and what is whole is found.
    #[test]
    fn any_damage_is_survived(at in 0_usize..2000, by in proptest::collection::vec(any::<u8>(), 0..40), cut in any::<bool>()) {
        let disk = SimulatedDisk::default();
        let (mut journal, _) = open(&disk);
        for id in 1..4 {
            journal.write(entry(id, State::Applied)).unwrap();
        }
        disk.corrupt(|bytes| {
            let at = at % bytes.len();
            let end = (at + by.len()).min(bytes.len());
            bytes.splice(at..end, by.clone());
            if cut { bytes.truncate(at + by.len()); }
        });
        let (mut journal, found) = open(&disk);
        prop_assert!(found.entries.len() <= 3);
        prop_assert!(found.entries.iter().all(|e| *e == entry(e.id, State::Applied)), "nothing is made up");
        journal.write(entry(9, State::Intended)).unwrap();
        let (_, again) = open(&disk.after_power_failure());
        prop_assert_eq!(again.damaged, 0);
        prop_assert!(again.entries.iter().any(|e| e.id == 9));
        prop_assert_eq!(again.entries.len(), found.entries.len() + 1);
    }
}
