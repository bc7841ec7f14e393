#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::*;
use nameward_messages::namespaces::{NamespaceSource, Resolv};
use nameward_messages::verdict::{Confidence, Scope};
use nameward_messages::{NetnsCookie, ObjectKey};

fn at(s: u64) -> Now {
    Now::at(Duration::from_secs(s))
}

fn verdict() -> Verdict {
    Verdict {
        cause: Cause::PodRouteMissing,
        scope: Scope::Pod,
        subject: Subject::pod(&ObjectKey::new("shop", "web-1"), &"uid-1".into()),
        confidence: Confidence::Certain,
        evidence: vec![],
        ruled_out: vec![],
        since: at(100),
        at: at(100),
    }
}

fn namespace() -> Namespace {
    Namespace {
        pod: "uid-1".into(),
        key: ObjectKey::new("shop", "web-1"),
        cookie: NetnsCookie(7),
        path: "/run/netns/cni-1".into(),
        ips: vec![],
        gateway: Some([10, 244, 1, 1].into()),
        host_veth: Some("veth1".into()),
        bridge: Some("cni0".into()),
        resolv: Resolv::default(),
        source: NamespaceSource::CniCache,
    }
}

fn permit(serial: u64) -> NodeOrders {
    NodeOrders { permit: Some(Permit { serial, valid_s: 600 }), ..NodeOrders::default() }
}

fn told(mode: Mode, inputs: Vec<(u64, Input)>) -> Vec<RemedyRecord> {
    let mut config = Config::default();
    config.remedy.mode = mode;
    let mut mind = NodeMind::new(Arc::new(config));
    let mut out = vec![];
    for (s, input) in inputs {
        mind.step(at(s), input, &mut out);
    }
    out.into_iter().map(|Output::Tell(record)| record).collect()
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
    let cases: Vec<(Mode, Vec<Input>, &str)> = vec![
        (Mode::Observe, vec![], "no permit"),
        (Mode::Observe, vec![Input::Orders(permit(1)), Input::PausedHere(true)], "the kill switch"),
        (Mode::Observe, vec![Input::Orders(permit(1)), Input::KillSwitch(KillSwitch::On)], "the kill switch"),
        (Mode::Act, vec![Input::Orders(permit(1))], "not in this release"),
    ];
    for (mode, before, reason) in cases {
        let mut inputs: Vec<(u64, Input)> = before.into_iter().map(|i| (50, i)).collect();
        inputs.extend([(101, stands()), (140, Input::Tick), (150, Input::Tick)]);
        let records = told(mode, inputs);
        assert_eq!(records.len(), 1, "{reason}");
        assert_eq!(records[0].outcome, RemedyOutcome::Refused);
        assert!(records[0].detail.starts_with(reason), "{}", records[0].detail);
    }
}

#[test]
fn off_says_nothing_and_an_expired_permit_is_none() {
    assert_eq!(told(Mode::Off, vec![(101, stands()), (200, Input::Tick)]), vec![]);
    // The serial was first seen at 50: at 700 it is 650 s old, whatever is told in between.
    let inputs = vec![(50, Input::Orders(permit(1))), (640, Input::Orders(permit(1))), (700, stands())];
    let records = told(Mode::Observe, inputs);
    assert!(records[0].detail.starts_with("no permit"));
}
