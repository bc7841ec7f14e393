#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use nameward_diagnosis::way::{Hop, Step};
use nameward_messages::probe::QuestionKind;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Evidence, RuledOut, Scope, Subject};

use super::super::reads::Read;
use super::super::report::{About, Api, Rung};
use super::*;

fn row(target: &str, transport: Transport, way: &'static str, outcome: OutcomeKind) -> Row {
    let bad = outcome != OutcomeKind::Answered;
    Row {
        target: target.to_owned(),
        kind: "pod",
        address: "10.244.1.4".parse().unwrap(),
        port: 53,
        transport,
        question: QuestionKind::Internal,
        way,
        outcome,
        says: outcome.label().to_owned(),
        asked: if way == "plain" { 5 } else { 1 },
        failed: if bad { 5 } else { 0 },
        slowest_ms: 1.25,
        suspected: bad,
    }
}

fn step(at: &str, passes: Passes, says: &str) -> Step {
    Step { hop: Hop::Route, at: at.to_owned(), says: says.to_owned(), passes, rules: Vec::new() }
}

fn report(outcome: OutcomeKind) -> Report {
    let target = "coredns-6d-abcde (10.244.1.4)";
    Report {
        healthy: Some(outcome == OutcomeKind::Answered),
        node: "node1".to_owned(),
        subject: About {
            kind: "pod",
            namespace: Some("shop".to_owned()),
            name: "cart".to_owned(),
            netns: Some("/run/netns/cni-1".to_owned()),
            addresses: vec!["10.244.1.3".parse().unwrap()],
            resolv: None,
        },
        api: Api { server: Some("https://10.96.0.1".to_owned()), missing: None },
        matrix: vec![
            row(target, Transport::Udp, "edns", outcome),
            row(target, Transport::Udp, "plain", outcome),
            row(target, Transport::Tcp, "plain", outcome),
        ],
        ways: vec![Way {
            to: target.to_owned(),
            transports: vec![Transport::Udp, Transport::Tcp],
            steps: vec![step("shop/cart", Passes::Yes, "a route"), step("veth1", Passes::No, "is down")],
        }],
        causes: Vec::new(),
        ruled_out: Vec::new(),
        deferred: Vec::new(),
        recovered: BTreeSet::new(),
        elsewhere: Vec::new(),
        read: vec![
            Read { of: "node1".into(), what: "sysctls", status: "read", why: None },
            Read {
                of: "node1".into(),
                what: "iptables-nft-save",
                status: "not-permitted",
                why: Some("grant it".into()),
            },
        ],
        losses: Vec::new(),
        notes: Vec::new(),
    }
}

fn named(rungs: &[(&'static str, Mode, &'static str)]) -> Named {
    let rung = |(remedy, mode, by): &(&'static str, Mode, &'static str)| Rung { remedy, mode: *mode, by };
    let uid = "u1".into();
    Named {
        cause: Cause::VethDown,
        fault: "F34",
        scope: Scope::Pod,
        subject: Subject::pod(&nameward_messages::ObjectKey::new("shop", "cart"), &uid),
        says: "has its veth down",
        confidence: Confidence::Certain,
        evidence: vec![Evidence::new("node1 rtnetlink links", "veth1 is down")],
        ruled_out: vec![RuledOut { what: "veth-off-bridge".to_owned(), because: "it is on cni0".to_owned() }],
        remedy: rungs.first().map(|(remedy, ..)| *remedy),
        mode: rungs.first().map(|(_, mode, _)| *mode),
        ladder: rungs.iter().map(rung).collect(),
        command: "ip link set veth1 up".to_owned(),
        worse: &["restarting CoreDNS"],
        runbook: "https://example.com/veth-down.md".to_owned(),
    }
}

#[test]
fn a_server_is_named_once_and_the_plain_way_comes_first() {
    let said = text(&report(OutcomeKind::Answered), 110);
    assert_eq!(said.matches("coredns-6d-abcde (10.244.1.4)").count(), 2, "in the table and for its way: {said}");
    assert!(said.find("  plain").unwrap() < said.find("  edns").unwrap(), "{said}");
    assert!(said.ends_with("DNS answers shop/cart: 3 ways of asking, all well."), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 110 && line == line.trim_end()), "{said}");
}

#[test]
fn a_failure_tells_how_often_where_it_ends_and_what_was_not_read() {
    let mut report = report(OutcomeKind::Timeout);
    report.causes.push(named(&[("set-link-up", Mode::Observe, "agent")]));
    let said = text(&report, 110);
    for part in [
        "timeout 5/5",
        "X veth1: is down",
        "Cause: veth-down",
        "pod shop/cart has its veth down (certain",
        "read     node1 rtnetlink links: veth1 is down",
        "not      veth-off-bridge: it is on cni0",
        "remedy   set-link-up: Nameward records",
        "by hand  ip link set veth1 up",
        "never    restarting CoreDNS",
        "more     https://example.com/veth-down.md",
        "node1: sysctls",
        "node1: iptables-nft-save not permitted: grant it",
        "DNS fails shop/cart on 2 paths: see the cause above.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    report.causes = vec![named(&[("evict-pod", Mode::Act, "coordinator"), ("add-replica", Mode::Off, "coordinator")])];
    let said = text(&report, 110);
    assert!(said.contains("remedy   evict-pod: the coordinator does it"), "{said}");
    assert!(said.contains("or       add-replica: switched off"), "{said}");
    report.causes = vec![named(&[])];
    assert!(text(&report, 110).contains("a person must act"));
}

#[test]
fn without_a_cause_and_without_an_answer_it_says_so() {
    let mut silent = report(OutcomeKind::Timeout);
    assert!(text(&silent, 110).ends_with("no cause is named from here: see above."));
    silent.healthy = None;
    silent.matrix.clear();
    let said = text(&silent, 110);
    assert!(said.ends_with("Nothing could be asked from shop/cart.") && !said.contains("What was asked"), "{said}");
}

#[test]
fn long_lines_are_broken_between_words() {
    let lines = folded("never    ", &"word ".repeat(40), 60);
    assert!(lines.len() > 3 && lines.iter().all(|line| line.chars().count() <= 56), "{lines:#?}");
    assert!(lines[0].starts_with("never    word") && lines[1].starts_with("         word"), "{lines:#?}");
    assert_eq!(folded("a: ", "b", 60), ["a: b"]);
}
