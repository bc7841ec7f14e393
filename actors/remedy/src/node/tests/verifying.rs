//! What is concluded from what is seen after a repair.

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::QuestionKind;
use nameward_messages::targets::Transport;

use super::*;

fn row(from: VantageKind, bad: u32) -> MatrixRow {
    MatrixRow {
        target: "service".into(),
        pod: None,
        ip: [10, 96, 0, 10].into(),
        transport: Transport::Udp,
        question: QuestionKind::Internal,
        from,
        good: 0,
        bad,
        outcome: None,
        latency_us: None,
    }
}

fn matrix(rows: Vec<MatrixRow>) -> Input {
    Input::Diagnosis(DiagnosisTells::Matrix(MatrixDigest { rows }))
}

fn new(cause: Cause, subject: Subject, confidence: Confidence) -> Input {
    Input::Diagnosis(DiagnosisTells::Stands(Verdict { confidence, ..facts::verdict(cause, subject) }))
}

fn beside() -> Subject {
    Subject::pod(&nameward_messages::ObjectKey::new("shop", "web-2"), &"uid-2".into())
}

fn elsewhere() -> Input {
    let mut other = facts::namespaces().remove(1);
    other.bridge = Some("cni7".into());
    Input::Namespace(NamespaceChanged::Found(other))
}

fn done(rig: &Rig) -> bool {
    rig.told.iter().any(|r| r.outcome == RemedyOutcome::Done)
}

fn asked(rig: &Rig) -> bool {
    done(rig) && rig.waiting()
}

/// What happens on a node while a repair is verified, and whether it can be the repair's doing.
fn meanwhile() -> Vec<(&'static str, Vec<Input>, bool)> {
    use Confidence::{Certain, Probable};
    let coredns = || Subject::pod(&nameward_messages::ObjectKey::new("kube-system", "coredns-1"), &"dns-1".into());
    vec![
        ("a fault of the node", vec![new(Cause::ReversePathFilter, facts::node_subject(), Certain)], true),
        ("a probable one", vec![new(Cause::ReversePathFilter, facts::node_subject(), Probable)], false),
        ("a CoreDNS pod", vec![new(Cause::CorednsHung, coredns(), Certain)], false),
        ("the upstream", vec![new(Cause::UpstreamDead, coredns(), Certain)], false),
        ("something that has no name", vec![new(Cause::Unexplained, facts::node_subject(), Certain)], false),
        ("another pod's resolv.conf", vec![new(Cause::LoopbackNameserver, beside(), Certain)], false),
        ("a link on the same bridge", vec![new(Cause::DuplicateMac, beside(), Certain)], true),
        ("a link on another bridge", vec![elsewhere(), new(Cause::DuplicateMac, beside(), Certain)], false),
        ("seven pods lose the Service", vec![matrix(vec![row(VantageKind::Pod, 7)])], true),
        ("one pod does", vec![matrix(vec![row(VantageKind::Pod, 1)])], false),
        ("the host loses it as well", vec![matrix(vec![row(VantageKind::Host, 1), row(VantageKind::Pod, 7)])], false),
        ("the host alone loses it", vec![matrix(vec![row(VantageKind::Host, 9)])], false),
    ]
}

#[test]
fn only_what_the_repair_may_have_done_is_worse() {
    let case = cases().remove(0);
    for (name, inputs, worse) in meanwhile() {
        let mut rig = Rig::new(&case);
        rig.dns_good = false;
        rig.run_until(done);
        inputs.into_iter().for_each(|input| rig.tell(input));
        rig.run(100);
        let end = rig.told.iter().find(|r| r.outcome == RemedyOutcome::Ineffective).unwrap();
        assert_eq!(end.detail.starts_with("something got worse"), worse, "{name}: {}", end.detail);
        assert_eq!(rig.journalled().iter().any(|e| e.worse), worse, "{name}");
        assert_eq!(rig.mind.breaker.is_some(), worse, "{name}");
    }
}

#[test]
fn what_failed_before_is_not_worse_for_failing_still() {
    let case = cases().remove(0);
    let mut rig = Rig::quiet(&case, Mode::Act);
    rig.tell(matrix(vec![row(VantageKind::Host, 1), row(VantageKind::Pod, 7)]));
    rig.tell(Input::Diagnosis(DiagnosisTells::Stands(case.verdict.clone())));
    rig.dns_good = false;
    rig.run_until(done);
    // The host is answered again: that is better, not worse.
    rig.tell(matrix(vec![row(VantageKind::Pod, 8)]));
    rig.run(100);
    assert!(rig.mind.breaker.is_none(), "{:?}", rig.told);
}

#[test]
fn what_helped_stays_whatever_else_happens() {
    for case in cases() {
        for (name, inputs, _) in meanwhile() {
            // Before the first look is answered, between the two, while the second is on its way.
            for moment in 0..3 {
                let mut rig = Rig::new(&case);
                rig.run_until(asked);
                if moment > 0 {
                    rig.run_until(|rig| !asked(rig));
                }
                if moment > 1 {
                    rig.run_until(asked);
                }
                let stands = rig.kernel.clone();
                inputs.iter().for_each(|input| rig.tell(input.clone()));
                rig.run(100);
                let name = format!("{}: {name} at {moment}", case.name);
                assert!(rig.outcomes().contains(&RemedyOutcome::Verified), "{name}: {:?}", rig.told);
                assert!(rig.kernel == stands && rig.undone == 0, "{name}");
            }
        }
    }
}

/// Nothing can be asked, or nothing follows from what is answered.
fn blind(rig: &mut Rig, how: u8) {
    match how {
        0 => rig.tell(Input::Targets(Arc::default())),
        _ => (rig.dns_good, rig.host_good) = (false, false),
    }
}

#[test]
fn what_could_not_be_asked_is_not_taken_back() {
    for case in cases() {
        // That the host loses it too says nothing of a pod, and something of the node.
        let ways = if case.verdict.subject.uid.is_some() { 0..2 } else { 0..1 };
        for how in ways {
            for (after, helped) in [(20, true), (300, true), (300, false), (2000, true)] {
                let name = format!("{}, {how}, {after} s, {helped}", case.name);
                let mut rig = Rig::new(&case);
                rig.run_until(done);
                let stands = rig.kernel.clone();
                blind(&mut rig, how);
                rig.run(after);
                assert!(rig.kernel == stands && rig.undone == 0, "{name}: nobody said that it did not help");
                (rig.dns_good, rig.host_good) = (helped, true);
                rig.tell(Input::Targets(Arc::new(facts::targets())));
                rig.run(100);
                let wanted = match (after, helped) {
                    (2000, _) => vec![RemedyOutcome::Done, RemedyOutcome::Unknown, RemedyOutcome::Escalated],
                    (_, true) => vec![RemedyOutcome::Done, RemedyOutcome::Verified],
                    (_, false) => vec![RemedyOutcome::Done, RemedyOutcome::Ineffective, RemedyOutcome::Escalated],
                };
                assert_eq!(rig.outcomes(), wanted, "{name}: {:?}", rig.told);
                assert!(if helped { rig.kernel == stands } else { rig.as_before() }, "{name}");
                assert!(rig.journalled().iter().all(|e| !e.state.open()), "{name}");
                assert!(rig.mind.work.is_none(), "{name}");
            }
        }
    }
}

#[test]
fn a_pod_that_is_gone_needs_no_person() {
    let case = cases().remove(0);
    let mut rig = Rig::new(&case);
    rig.run_until(done);
    let gone = NamespaceChanged::Gone { pod: "uid-1".into(), cookie: nameward_messages::NetnsCookie(1) };
    rig.tell(Input::Namespace(gone));
    rig.tell(Input::Targets(Arc::default()));
    rig.run(1000);
    assert_eq!(rig.outcomes(), [RemedyOutcome::Done, RemedyOutcome::Unknown], "{:?}", rig.told);
}

#[test]
fn a_restart_while_the_api_is_away_takes_nothing_back() {
    for case in cases().iter().filter(|case| case.reversible()) {
        let mut rig = Rig::new(case);
        rig.run_until(done);
        let stands = rig.kernel.clone();
        rig.restart();
        rig.tell(Input::Targets(Arc::default()));
        rig.tell(Input::KillSwitch(KillSwitch::UnreadableSince(rig.now)));
        rig.run(400);
        assert!(rig.kernel == stands && rig.undone == 0, "{}: {:?}", case.name, rig.told);
        rig.tell(Input::Targets(Arc::new(facts::targets())));
        rig.tell(Input::KillSwitch(KillSwitch::Off));
        rig.run(100);
        assert_eq!(rig.outcomes().last(), Some(&RemedyOutcome::Verified), "{}: {:?}", case.name, rig.told);
        assert!(rig.kernel == stands && rig.undone == 0, "{}", case.name);
    }
}

#[test]
fn an_undo_that_was_held_back_looks_again_first() {
    for case in cases().iter().filter(|case| case.reversible()) {
        for recovers in [true, false] {
            let name = format!("{}, recovers: {recovers}", case.name);
            let mut rig = Rig::new(case);
            rig.dns_good = false;
            rig.run_until(done);
            rig.run(30);
            let stands = rig.kernel.clone();
            rig.tell(Input::KillSwitch(KillSwitch::On));
            rig.run(200);
            let held = rig.told.last().unwrap();
            assert!(held.detail.contains("the kill switch stops the undo"), "{name}: {}", held.detail);
            rig.dns_good = recovers;
            rig.tell(Input::KillSwitch(KillSwitch::Off));
            rig.run(100);
            if recovers {
                assert!(rig.outcomes().contains(&RemedyOutcome::Verified), "{name}: {:?}", rig.told);
                assert!(rig.kernel == stands && rig.undone == 0, "{name}");
            } else {
                assert!(rig.outcomes().contains(&RemedyOutcome::Ineffective), "{name}: {:?}", rig.told);
                assert!(rig.as_before(), "{name}");
            }
        }
    }
}
