#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::cluster_view::DnsPodView;
use nameward_messages::report::MatrixRow;

use super::*;

/// What a node says of a pod: deaf, well, or nothing; and from how many namespaces.
#[derive(Clone, Copy)]
enum Says {
    Deaf(u32),
    Well,
    Nothing,
}
use Says::{Deaf, Nothing, Well};

fn rows(uid: &str, says: Says) -> Vec<MatrixRow> {
    let (deaf, namespaces) = match says {
        Deaf(n) => (true, n),
        Well => (false, 2),
        Nothing => return vec![],
    };
    let row = |transport, from, count: u32, fails: bool| MatrixRow {
        target: "pod".into(),
        pod: Some(uid.into()),
        ip: [10, 244, 1, 2].into(),
        transport,
        question: QuestionKind::Internal,
        from,
        good: if fails { 0 } else { count },
        bad: if fails { count } else { 0 },
        outcome: None,
        latency_us: None,
    };
    vec![
        row(Transport::Udp, VantageKind::Host, 1, deaf),
        row(Transport::Udp, VantageKind::Pod, namespaces, deaf),
        row(Transport::Tcp, VantageKind::Host, 1, false),
        row(Transport::Tcp, VantageKind::Pod, namespaces, false),
    ]
}

fn pod(uid: &str, ready: bool) -> DnsPodView {
    DnsPodView { ready, ..crate::testing::pod(uid, "node1") }
}

/// `says[n]`: what node n+1 says of the suspect `a` and of the other pod `b`; `None`: no answer.
fn judge(says: &[Option<(Says, Says)>], other_ready: bool) -> Result<Agreement, Doubt> {
    judge_in(u32::try_from(says.len()).unwrap(), says, other_ready)
}

/// The same in a cluster where so many nodes are expected to speak.
fn judge_in(expected: u32, says: &[Option<(Says, Says)>], other_ready: bool) -> Result<Agreement, Doubt> {
    let view = ClusterView { pods: vec![pod("a", true), pod("b", other_ready)], ..ClusterView::default() };
    let names: Vec<NodeName> = (1..=says.len()).map(|n| NodeName(format!("node{n}"))).collect();
    let answer = |(name, said): (&NodeName, &Option<(Says, Says)>)| {
        let (a, b) = (*said)?;
        let rows = [rows("a", a), rows("b", b)].concat();
        Some((name.clone(), RequestAnswer { id: "q".into(), rows }))
    };
    let answers: BTreeMap<NodeName, RequestAnswer> = names.iter().zip(says).filter_map(answer).collect();
    let asked: BTreeSet<NodeName> = names.into_iter().collect();
    corroborate(&view, &"a".into(), &"node1".into(), &asked, &answers, expected)
}

#[test]
fn agreement_needs_every_part_of_the_evidence() {
    let deaf = Some((Deaf(2), Well));
    let agreed = Agreement { fail: 3, namespaces: 6, good_pods: 1 };
    assert_eq!(judge(&[deaf, deaf, deaf], true), Ok(agreed));
    assert_eq!(judge(&[None, None, None], true), Err(Doubt::NoAnswers));
    assert_eq!(judge(&[None, deaf, deaf], true), Err(Doubt::OwnNodeSilent("node1".into())));
    let well = Some((Well, Well));
    assert_eq!(judge(&[well, deaf, deaf], true), Err(Doubt::OwnNodeSeesItGood("node1".into())));
    let nothing = Some((Nothing, Well));
    assert_eq!(judge(&[nothing, deaf, deaf], true), Err(Doubt::OwnNodeSeesItGood("node1".into())));
    assert_eq!(judge(&[deaf, well, well], true), Err(Doubt::MostSeeItGood { good: 2, fail: 1 }));
    assert_eq!(judge(&[deaf, deaf, nothing], true), Err(Doubt::TooFewNodes { fail: 2, need: 3 }));
    let from_hosts = Some((Deaf(0), Well));
    let one = Some((Deaf(1), Well));
    assert_eq!(judge(&[one, from_hosts, from_hosts], true), Err(Doubt::TooFewNamespaces { fail: 1 }));
}

#[test]
fn a_node_that_loses_what_the_others_reach_is_no_witness_against_one_pod() {
    let (deaf, well, blind) = (Some((Deaf(2), Well)), Some((Well, Well)), Some((Deaf(2), Deaf(2))));
    let agreed = Agreement { fail: 3, namespaces: 6, good_pods: 1 };
    for (says, judged) in [
        // Two nodes that reach nothing and one that lost its query do not outvote two that reach the pod.
        (vec![deaf, blind, blind, well, well], Err(Doubt::MostSeeItGood { good: 2, fail: 1 })),
        (vec![blind, deaf, deaf, deaf, deaf], Err(Doubt::OwnNodeLosesMost("node1".into()))),
        (vec![deaf, deaf, blind, blind, well], Err(Doubt::TooFewNodes { fail: 2, need: 3 })),
        (vec![deaf, deaf, deaf, blind, blind], Ok(agreed)),
    ] {
        assert_eq!(judge(&says, true), judged);
    }
}

#[test]
fn in_a_large_cluster_a_few_that_are_silent_or_lie_stop_no_eviction_and_more_do() {
    use super::super::quorum::ASKED;
    let (deaf, lies) = (Some((Deaf(2), Well)), Some((Well, Well)));
    // Of sixteen that are asked, how many are silent, and how many say that it is well.
    for (silent, lying, agreed) in
        [(0, 0, true), (1, 0, true), (0, 1, true), (2, 2, true), (4, 0, true), (5, 0, false), (0, 5, false)]
    {
        let mut says = vec![deaf; ASKED];
        says.iter_mut().rev().take(silent).for_each(|said| *said = None);
        says.iter_mut().skip(1).take(lying).for_each(|said| *said = lies);
        let judged = judge_in(5000, &says, true);
        assert_eq!(judged.is_ok(), agreed, "{silent} silent, {lying} lie: {judged:?}");
    }
}

#[test]
fn without_another_good_pod_nothing_is_evicted() {
    let deaf = Some((Deaf(2), Well));
    assert_eq!(judge(&[deaf, deaf, deaf], false), Err(Doubt::NoGoodPod { asked: 3 }));
    // Good for one of three asked: silence counts against it.
    assert_eq!(judge(&[deaf, None, None], true), Err(Doubt::NoGoodPod { asked: 3 }));
    let both = Some((Deaf(2), Deaf(2)));
    assert_eq!(judge(&[both, both, both], true), Err(Doubt::AllBad));
}

#[test]
fn a_single_pod_that_fails_for_reasons_of_its_own_does_not_make_a_coredns_pod_bad() {
    let mut answer = RequestAnswer { id: "q".into(), rows: rows("b", Well) };
    answer.rows[1].good = 7;
    answer.rows[1].bad = 1;
    assert!(Seen::of(&answer, &"b".into()).good());
    answer.rows[0].good = 0;
    answer.rows[0].bad = 1;
    assert!(!Seen::of(&answer, &"b".into()).good());
}
