#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::repair::Seen;
use nameward_messages::guarding::RefusalReason;
use nameward_messages::report::{MatrixDigest, MatrixRow};

use super::*;
use crate::journal::{Entry, Found, State};

mod bench;
mod crashes;
mod facts;
mod permits;
mod planning;
mod spending;
mod verifying;

use bench::Rig;
use facts::{cases, namespace, pod_subject};

fn at(s: u64) -> Now {
    Now::at(Duration::from_secs(s))
}

fn verdict() -> Verdict {
    facts::verdict(Cause::PodRouteMissing, pod_subject())
}

fn permit(serial: u64) -> NodeOrders {
    NodeOrders { permit: Some(Permit { serial, valid_s: 600, causes: Cause::ALL.to_vec() }), ..NodeOrders::default() }
}

fn told(mode: Mode, inputs: Vec<(u64, Input)>) -> Vec<RemedyRecord> {
    told_with_reasons(mode, inputs).0
}

fn told_with_reasons(mode: Mode, inputs: Vec<(u64, Input)>) -> (Vec<RemedyRecord>, Vec<RefusalReason>) {
    let mut config = Config::default();
    config.remedy.mode = mode;
    let mut mind = NodeMind::new(Arc::new(config)).on(&"n1".into());
    let mut out = vec![];
    if let Some((s, _)) = inputs.first() {
        mind.step(at(*s), Input::Orders(NodeOrders::default()), &mut out);
    }
    for (s, input) in inputs {
        mind.step(at(s), input, &mut out);
    }
    let (mut records, mut reasons) = (vec![], vec![]);
    for output in out {
        match output {
            Output::Tell(record) => records.push(record),
            Output::Refused { reason, .. } => reasons.push(reason),
            other => panic!("nothing is to be done: {other:?}"),
        }
    }
    (records, reasons)
}

fn stands() -> Input {
    Input::Diagnosis(DiagnosisTells::Stands(verdict()))
}

#[test]
fn it_tells_once_what_it_would_run_when_the_verdict_has_stood() {
    let found = Input::Namespace(NamespaceChanged::Found(namespace()));
    let inputs = vec![(90, found), (91, Input::Orders(permit(1))), (101, stands()), (129, Input::Tick)];
    assert_eq!(told(Mode::Observe, inputs.clone()), vec![]);
    let more = [(130, Input::Tick), (140, stands()), (150, Input::Tick)];
    let records = told(Mode::Observe, inputs.into_iter().chain(more).collect());
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].outcome, RemedyOutcome::WouldAct);
    assert_eq!(
        records[0].detail,
        "would run: nsenter --net=/run/netns/cni-1 ip route add default via 10.244.1.1 dev eth0"
    );
}

#[test]
fn every_reason_not_to_is_named_once() {
    let off = || Input::KillSwitch(KillSwitch::Off);
    let journal = |found: Result<Found, String>| Input::Journal { boot: "b".into(), found };
    let probable = || {
        let verdict = Verdict { confidence: Confidence::Probable, ..verdict() };
        Input::Diagnosis(DiagnosisTells::Stands(verdict))
    };
    let open = || journal(Ok(Found::default()));
    let found = |worse| {
        let entry = Entry { worse, ..facts::entry(1, 60, State::Confirmed) };
        journal(Ok(Found { entries: vec![entry], ..Found::default() }))
    };
    use RefusalReason as Why;
    let cases: Vec<(Mode, Vec<Input>, &str, Why)> = vec![
        (Mode::Observe, vec![stands()], "no permit", Why::NoPermit),
        (
            Mode::Observe,
            vec![stands(), Input::Orders(permit(1)), Input::PausedHere(true)],
            "the kill switch stops",
            Why::KillSwitch,
        ),
        (
            Mode::Observe,
            vec![stands(), Input::Orders(permit(1)), Input::KillSwitch(KillSwitch::On)],
            "the kill switch",
            Why::KillSwitch,
        ),
        (
            Mode::Act,
            vec![stands(), Input::Orders(permit(1)), open()],
            "the kill switch has not been read",
            Why::KillSwitch,
        ),
        (Mode::Act, vec![stands(), off(), open()], "no permit", Why::NoPermit),
        (
            Mode::Act,
            vec![probable(), off(), open(), Input::Orders(permit(1))],
            "the cause is only probable",
            Why::Probable,
        ),
        (Mode::Act, vec![stands(), off(), Input::Orders(permit(1))], "the journal has not been opened", Why::NoJournal),
        (
            Mode::Act,
            vec![stands(), off(), Input::Orders(permit(1)), journal(Err("read-only".into()))],
            "without a journal nothing is changed: read-only",
            Why::NoJournal,
        ),
        (
            Mode::Act,
            vec![stands(), off(), Input::Orders(permit(1)), found(false)],
            "the last node repair was less",
            Why::Spacing,
        ),
        (
            Mode::Act,
            vec![stands(), off(), Input::Orders(permit(1)), found(true)],
            "the last repair made something worse",
            Why::BreakerOpen,
        ),
        (
            Mode::Act,
            vec![stands(), off(), Input::Orders(permit(1)), open()],
            "the pod's network namespace is not known",
            Why::Unfit,
        ),
    ];
    for (mode, before, reason, label) in cases {
        let mut inputs: Vec<(u64, Input)> = before.into_iter().map(|i| (101, i)).collect();
        inputs.extend([(170, Input::Tick), (180, Input::Tick), (185, Input::Tick)]);
        let (records, reasons) = told_with_reasons(mode, inputs);
        assert_eq!(records.len(), 1, "{reason}: {records:?}");
        assert_eq!(reasons, [label], "{reason}");
        assert_eq!(records[0].outcome, RemedyOutcome::Refused);
        assert!(records[0].detail.starts_with(reason), "{}", records[0].detail);
    }
}

#[test]
fn a_permit_that_comes_back_begins_a_cool_down() {
    let mut inputs = vec![(50, Input::KillSwitch(KillSwitch::Off)), (50, Input::Orders(permit(1)))];
    inputs.push((50, Input::Journal { boot: "b".into(), found: Ok(Found::default()) }));
    inputs.extend([(120, Input::Orders(NodeOrders::default())), (130, stands()), (140, Input::Orders(permit(2)))]);
    inputs.push((199, Input::Tick));
    let records = told(Mode::Act, inputs);
    let reasons: Vec<&str> = records.iter().map(|r| r.detail.split([';', ':']).next().unwrap()).collect();
    assert_eq!(reasons, ["no permit", "cool-down after the start, or after permits were withheld"]);
}

#[test]
fn off_says_nothing_and_an_expired_permit_is_none() {
    assert_eq!(told(Mode::Off, vec![(101, stands()), (200, Input::Tick)]), vec![]);
    // The serial was first seen at 50: at 700 it is 650 s old, whatever is told in between.
    let inputs = vec![(50, Input::Orders(permit(1))), (640, Input::Orders(permit(1))), (700, stands())];
    let records = told(Mode::Observe, inputs);
    assert!(records[0].detail.starts_with("no permit"));
}

#[test]
fn each_repair_is_done_verified_and_written_down() {
    for case in cases() {
        let mut rig = Rig::new(&case);
        rig.run(300);
        assert_eq!(rig.outcomes(), [RemedyOutcome::Done, RemedyOutcome::Verified], "{}: {:?}", case.name, rig.told);
        assert_eq!(rig.commands(), case.commands, "{}", case.name);
        assert!(rig.repaired(), "{}", case.name);
        assert!(rig.journalled().iter().all(|e| e.state == State::Confirmed), "{}", case.name);
        assert!(rig.mind.work.is_none());
        // And that was it, whatever the verdict says: it is diagnosis' to end.
        rig.run(2000);
        assert_eq!(rig.outcomes().len(), 2, "{}: {:?}", case.name, rig.told);
    }
}

#[test]
fn what_does_not_help_is_taken_back_three_times_at_most() {
    for case in cases() {
        let mut rig = Rig::new(&case);
        rig.dns_good = false;
        rig.run(200);
        let wanted = [RemedyOutcome::Done, RemedyOutcome::Ineffective, RemedyOutcome::Escalated];
        assert_eq!(rig.outcomes()[..3], wanted, "{}: {:?}", case.name, rig.told);
        assert!(rig.as_before(), "{}", case.name);
        rig.run(7000);
        let done = rig.outcomes().iter().filter(|o| **o == RemedyOutcome::Done).count();
        assert_eq!(done, if case.reversible() { 3 } else { 1 }, "{}: {:?}", case.name, rig.told);
        let last = rig.told.last().unwrap();
        let reason = if case.reversible() { "this target had its 3 tries" } else { plan::NOT_SO };
        assert!(last.detail.starts_with(reason), "{}: {}", case.name, last.detail);
        let began: Vec<u64> = rig.applied_at.clone();
        let first: Vec<u64> = began.iter().step_by(case.commands.len()).copied().collect();
        assert!(first.windows(2).all(|pair| pair[1] - pair[0] >= 600), "{}: {began:?}", case.name);
    }
}

#[test]
fn somebody_elses_change_is_left_alone() {
    for case in cases().iter().filter(|case| case.reversible()) {
        let mut rig = Rig::new(case);
        rig.dns_good = false;
        rig.foreign = true;
        rig.run(200);
        let foreign = rig.kernel.clone();
        assert!(rig.told.iter().any(|r| r.outcome == RemedyOutcome::Escalated), "{}: {:?}", case.name, rig.told);
        rig.run(500);
        assert_eq!(rig.kernel, foreign, "{}: what somebody else wrote is his", case.name);
    }
}

#[test]
fn a_thing_that_got_worse_opens_the_breaker() {
    let case = cases().remove(0);
    for by_verdict in [false, true] {
        let mut rig = Rig::new(&case);
        rig.dns_good = false;
        rig.run_until(|rig| rig.told.iter().any(|r| r.outcome == RemedyOutcome::Done));
        if by_verdict {
            let other = facts::verdict(Cause::BridgeDown, facts::node_subject());
            rig.tell(Input::Diagnosis(DiagnosisTells::Stands(other)));
        } else {
            let row = MatrixRow {
                target: "service".into(),
                pod: None,
                ip: [10, 96, 0, 10].into(),
                transport: nameward_messages::targets::Transport::Udp,
                question: nameward_messages::probe::QuestionKind::Internal,
                from: nameward_messages::namespaces::VantageKind::Pod,
                good: 0,
                bad: 7,
                outcome: None,
                latency_us: None,
            };
            rig.tell(Input::Diagnosis(DiagnosisTells::Matrix(MatrixDigest { rows: vec![row] })));
        }
        rig.run(20);
        assert!(rig.as_before());
        let ineffective = rig.told.iter().find(|r| r.outcome == RemedyOutcome::Ineffective).unwrap();
        assert!(ineffective.detail.starts_with("something got worse"), "{}", ineffective.detail);
        assert!(rig.journalled().iter().all(|e| e.worse && e.state == State::Undone));
        assert!(rig.told.last().unwrap().detail.starts_with("the last repair made something worse"), "{:?}", rig.told);
    }
}

#[test]
fn no_change_is_made_after_the_switch_or_without_the_permit() {
    for case in cases() {
        // At every step of the repair.
        for step in 0..40 {
            for revoke in [true, false] {
                let mut rig = Rig::new(&case);
                rig.dns_good = false;
                if !rig.run_steps(step) {
                    continue;
                }
                let applied = rig.applied_at.len();
                if revoke {
                    rig.tell(Input::Orders(NodeOrders::default()));
                } else {
                    rig.tell(Input::KillSwitch(KillSwitch::On));
                }
                // What is on its way to the kernel arrives.
                let under_way = rig.jobs.iter().filter(|(_, job)| matches!(job, Job::Apply { .. })).count();
                let stood = rig.undone;
                rig.run(300);
                let name = format!("{} at step {step}, revoke: {revoke}", case.name);
                assert!(rig.applied_at.len() <= applied + under_way, "{name}");
                if revoke {
                    assert!(rig.as_before(), "{name}: the undo goes on");
                } else {
                    assert!(rig.undone <= stood + 1, "{name}: nothing is changed, not even back");
                    rig.tell(Input::KillSwitch(KillSwitch::Off));
                    rig.tell(Input::Orders(NodeOrders::default()));
                    rig.run(100);
                    assert!(rig.as_before(), "{name}: the undo waited");
                }
            }
        }
    }
}

#[test]
fn what_is_not_so_any_more_or_not_known_is_not_repaired() {
    for case in cases() {
        let mut rig = Rig::new(&case);
        rig.seen = facts::healthy();
        rig.run(200);
        assert!(rig.applied_at.is_empty(), "{}", case.name);
        assert!(rig.told.last().unwrap().detail.starts_with(plan::NOT_SO), "{}: {:?}", case.name, rig.told);
        let told = rig.told.iter().filter(|r| !r.detail.starts_with("cool-down")).count();
        assert_eq!(told, 1, "{}: told once, however often it is looked at", case.name);

        let mut rig = Rig::new(&case);
        rig.seen = Seen::default();
        rig.run(200);
        assert!(rig.applied_at.is_empty(), "{}", case.name);
        let mut rig = Rig::new(&case);
        for mut unknown in facts::namespaces() {
            (unknown.gateway, unknown.bridge, unknown.host_veth) = (None, None, None);
            rig.tell(Input::Namespace(NamespaceChanged::Found(unknown)));
        }
        rig.run(200);
        let needs = !matches!(case.name, "ip-forward-off" | "stale-conntrack");
        assert_eq!(rig.applied_at.is_empty(), needs, "{}: nothing is guessed: {:?}", case.name, rig.told);
    }
}

#[test]
fn a_disk_that_fails_is_no_ground_to_change_anything() {
    for case in cases() {
        let mut rig = Rig::new(&case);
        rig.disk.fail_after(Some(0));
        rig.run(300);
        assert!(rig.applied_at.is_empty(), "{}", case.name);
        assert!(rig.told.iter().any(|r| r.detail.contains("the journal cannot be written")), "{:?}", rig.told);
    }
}

#[test]
fn a_deadline_is_never_in_the_past() {
    for case in cases() {
        let mut rig = Rig::new(&case);
        rig.run(1000);
        assert!(rig.steps < 2500, "{}: {} steps in 1000 s", case.name, rig.steps);
    }
}

#[test]
fn after_a_coredns_pod_is_gone_its_entries_go() {
    let case = cases().pop().unwrap();
    for (mode, wanted) in [
        (Mode::Act, vec![RemedyOutcome::Done, RemedyOutcome::Verified]),
        (Mode::Observe, vec![RemedyOutcome::WouldAct]),
        (Mode::Off, vec![]),
    ] {
        let mut rig = Rig::quiet(&case, mode);
        let mut before = facts::targets();
        before.pods.push(nameward_messages::targets::DnsPod {
            uid: "dns-9".into(),
            ips: vec![facts::dead_flow().reply.source.ip()],
            ..before.pods[0].clone()
        });
        rig.tell(Input::Targets(Arc::new(before)));
        rig.run(100);
        assert!(rig.told.is_empty(), "nobody is gone: {:?}", rig.told);
        rig.tell(Input::Targets(Arc::default()));
        rig.run(100);
        assert!(rig.told.is_empty(), "that none is known says nothing: {:?}", rig.told);
        // Where there was one pod, none is known until the next is there.
        rig.tell(Input::Targets(Arc::new(facts::targets())));
        rig.run(25);
        assert!(rig.told.is_empty(), "kube-proxy gets its time: {:?}", rig.told);
        rig.run(200);
        assert_eq!(rig.outcomes(), wanted, "{mode:?}: {:?}", rig.told);
        assert_eq!(rig.repaired(), mode == Mode::Act);
        assert!(rig.journalled().iter().all(|e| e.state == State::Confirmed));
    }
}

/// Nothing is told to people: what is felt of a stale entry is a verdict of its own.
#[test]
fn after_care_that_is_held_back_is_counted_once_for_each_reason_and_each_pod() {
    let targets = |ips: &[u8]| {
        let pod = |n: &u8| nameward_messages::targets::DnsPod {
            uid: format!("dns-{n}").as_str().into(),
            ips: vec![[10, 244, 1, *n].into()],
            ..facts::targets().pods[0].clone()
        };
        let pods = ips.iter().map(pod).collect();
        Input::Targets(Arc::new(nameward_messages::targets::Targets { pods, ..facts::targets() }))
    };
    let inputs = vec![
        (1, Input::KillSwitch(KillSwitch::Off)),
        (2, Input::Journal { boot: "b".into(), found: Ok(Found::default()) }),
        (4, targets(&[2, 3])),
        (5, targets(&[3])),
        (40, Input::Tick),
        (50, Input::Tick),
        (60, Input::PausedHere(true)),
        (70, Input::Tick),
        (1000, Input::Tick),
        (1001, targets(&[4])),
        (1040, Input::Tick),
    ];
    let (records, reasons) = told_with_reasons(Mode::Act, inputs);
    assert!(records.is_empty(), "{records:?}");
    assert_eq!(reasons, [RefusalReason::NoPermit, RefusalReason::KillSwitch, RefusalReason::KillSwitch]);
}
