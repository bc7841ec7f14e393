//! Complaints of other nodes, and what heals before a cause is named.

use nameward_messages::report::Complaint;

use super::*;

fn complaint(pod: &str) -> Complaint {
    Complaint {
        pod: uid(pod),
        transports: vec![Transport::Udp],
        from: vec!["node2".into()],
        because: "time-out over udp from 3 of 3 vantages of node2".to_owned(),
    }
}

fn examined(tells: &[DiagnosisTells]) -> Option<Vec<&str>> {
    tells.iter().find_map(|t| match t {
        DiagnosisTells::Examined(pods) => Some(pods.iter().map(PodUid::as_str).collect()),
        _ => None,
    })
}

#[test]
fn a_complaint_is_looked_into_twice_and_not_before_four_seconds_is_it_said_that_nothing_was_found() {
    let mut play = Play::new();
    play.tell(Input::Complaints(vec![complaint(DNS_A)]));
    let read =
        |o: &Output| matches!(o, Output::Collect(w) if w.netfilter && w.pods.iter().any(|p| p.uid == uid(DNS_A)));
    assert!(play.out.iter().any(read), "{:?}", play.out);
    let (took, tells) = play.until_told(20_000, |_| {});
    assert_eq!(examined(&tells), Some(vec![DNS_A]), "{tells:?}");
    assert!((4_000..=8_000).contains(&took), "{took}");
    let (_, more) = play.until_told(60_000, |_| {});
    assert!(more.is_empty(), "{more:?}");
    play.tell(Input::Complaints(Vec::new()));
    let tells = play.answer(|_| {});
    assert_eq!(examined(&tells), Some(vec![]), "{tells:?}");
    assert!(play.mind.deadline().is_none(), "nothing is read any more");
}

#[test]
fn a_complaint_is_read_at_a_bounded_pace() {
    let mut play = Play::new();
    play.tell(Input::Complaints(vec![complaint(DNS_A)]));
    let mut collected = 0;
    for _ in 0..6_000 {
        collected += play.out.iter().filter(|o| matches!(o, Output::Collect(_))).count();
        play.answer(|_| {});
        // The coordinator tells its orders again and again.
        play.tell(Input::Complaints(vec![complaint(DNS_A)]));
        play.pass(100);
    }
    assert!((40..=90).contains(&collected), "{collected} samples in ten minutes");
}

#[test]
fn a_complaint_about_another_nodes_pod_or_an_unknown_one_opens_nothing() {
    let mut play = Play::new();
    play.tell(Input::Complaints(vec![complaint(DNS_B), complaint("nobody")]));
    assert!(play.out.is_empty() && play.mind.deadline().is_none(), "{:?}", play.out);
}

#[test]
fn a_cause_that_is_found_by_a_complaint_stands_until_the_complaint_ends() {
    let mut play = Play::new();
    play.tell(Input::Complaints(vec![complaint(DNS_A)]));
    let bad = std::cell::Cell::new(0);
    let damaged = |sample: &mut Sample| {
        bad.set(bad.get() + 4);
        testing::arrival::pod_counter("Udp.InCsumErrors", bad.get())(sample);
    };
    let (took, tells) = play.until_told(20_000, damaged);
    assert_eq!(stands(&tells).iter().map(|v| v.cause).collect::<Vec<_>>(), [Cause::ChecksumErrors], "{tells:?}");
    assert!(took <= 4_000, "{took}");
    // It is told again as it stands, it does not end between two rounds of the others, and nothing is said to be examined.
    for _ in 0..300 {
        let (_, more) = play.until_told(100, damaged);
        let bad = |t: &DiagnosisTells| matches!(t, DiagnosisTells::Ended { .. } | DiagnosisTells::Examined(_));
        assert!(!more.iter().any(bad), "{more:?}");
    }
    play.tell(Input::Complaints(Vec::new()));
    let tells = play.answer(damaged);
    assert!(matches!(&tells[..], [DiagnosisTells::Ended { recovered: true, .. }]), "{tells:?}");
}

fn client_to_service() -> PathKey {
    PathKey {
        vantage: testing::pod_vantage(CLIENT),
        target: testing::service(),
        transport: Transport::Udp,
        question: QuestionKind::Internal,
    }
}

#[test]
fn what_heals_before_a_cause_is_named_leaves_a_record_and_no_verdict() {
    let mut play = Play::new();
    play.suspect(&client_to_service(), &Outcome::Timeout);
    for _ in 0..50 {
        play.pass(100);
        let tells = play.answer(|_| {});
        assert!(tells.is_empty(), "{tells:?}");
    }
    play.clear(&client_to_service(), true);
    let tells = play.answer(|_| {});
    let [DiagnosisTells::Recovered(recovery)] = &tells[..] else { panic!("{tells:?}") };
    assert_eq!((recovery.paths.len(), recovery.more), (1, 0));
    assert!(recovery.samples >= 2 && recovery.ended > recovery.began, "{recovery:?}");
    let line = &recovery.paths[0];
    assert!(line.says.ends_with("then answers again"), "{line:?}");
}

#[test]
fn what_had_a_verdict_was_left_to_others_or_is_gone_leaves_no_record() {
    // A verdict.
    let mut play = Play::new();
    play.suspect(&host_to_a(), &refused());
    let (_, tells) = play.until_told(10_000, no_udp);
    assert_eq!(stands(&tells).len(), 1);
    play.clear(&host_to_a(), true);
    assert!(!play.answer(|_| {}).iter().any(|t| matches!(t, DiagnosisTells::Recovered(_))));
    // Another node's.
    let mut play = Play::new();
    let path = PathKey { target: dns(DNS_B), ..host_to_a() };
    play.suspect(&path, &Outcome::Timeout);
    play.until_told(3_000, |_| {});
    play.clear(&path, true);
    assert!(!play.answer(|_| {}).iter().any(|t| matches!(t, DiagnosisTells::Recovered(_))));
    // It went with its pod.
    let mut play = Play::new();
    play.suspect(&client_to_service(), &Outcome::Timeout);
    play.until_told(3_000, |_| {});
    play.clear(&client_to_service(), false);
    assert!(play.answer(|_| {}).is_empty());
}

#[test]
fn what_is_not_modelled_is_told_once() {
    let mut play = Play::new();
    play.suspect(&client_to_service(), &Outcome::Timeout);
    let cilium = |sample: &mut Sample| {
        let Reading::Read(topology) = &mut sample.host.topology else { panic!("no topology") };
        topology.links.push(nameward_kernel::facts::Link { name: "cilium_host".into(), ..Default::default() });
    };
    let (_, tells) = play.until_told(5_000, cilium);
    let [DiagnosisTells::Unmodelled(found)] = &tells[..] else { panic!("{tells:?}") };
    assert!(found[0].contains("eBPF"), "{found:?}");
    let (_, more) = play.until_told(15_000, cilium);
    assert!(more.is_empty(), "{more:?}");
}
