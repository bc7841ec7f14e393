#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_cluster::lease;
use nameward_messages::verdict::Cause;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-03-01T12:00:00Z";

fn agent(name: &str, written: &str, status: &str, verdicts: &Value) -> AgentObject {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {},
        "status": {
            "sequence": 3, "writtenAt": written, "version": "0.1.0", "selfCheck": true, "namespaces": 7,
            "matrix": {"rows": [{"target": "service", "ip": "10.96.0.10", "transport": "udp", "question": "internal",
                                 "from": "pod", "good": 6, "bad": 1}]},
            "verdicts": verdicts,
            "conditions": [{"type": "Healthy", "status": status, "reason": "X", "message": "what it says",
                            "lastTransitionTime": written}],
        },
    }))
    .unwrap()
}

fn well(name: &str) -> AgentObject {
    agent(name, "2026-03-01T11:58:00Z", "True", &json!([]))
}

fn old(name: &str) -> AgentObject {
    agent(name, "2026-03-01T11:00:00Z", "True", &json!([]))
}

fn sick(name: &str) -> AgentObject {
    let verdict = json!([{
        "cause": "veth-down", "scope": "pod", "subject": {"kind": "Pod", "namespace": "shop", "name": "cart"},
        "confidence": "certain", "evidence": [], "since": "2026-03-01T11:50:00Z",
    }]);
    agent(name, "2026-03-01T11:59:00Z", "False", &verdict)
}

fn incident(name: &str, phase: &str, opened: &str) -> IncidentObject {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"cause": "coredns-udp-dead", "scope": "coredns-pod",
                 "subject": {"kind": "Pod", "namespace": "kube-system", "name": "coredns-1"}},
        "status": {"phase": phase, "summary": "it is deaf", "openedAt": opened, "nodes": ["a"]},
    }))
    .unwrap()
}

fn read(agents: Vec<AgentObject>, nodes: Option<&[&str]>) -> Read {
    let record = lease::Record {
        holder: "a_1".into(),
        renewed_at: Some("2026-03-01T11:59:58Z".parse().unwrap()),
        ..lease::Record::default()
    };
    Read {
        now: NOW.parse().unwrap(),
        agents,
        incidents: Vec::new(),
        nodes: nodes.map(|all| all.iter().map(|n| (*n).to_owned()).collect()),
        lease: LeaseRead::Record(record),
        switch: Switch::Off,
        switch_unread: None,
    }
}

fn summary(read: &Read) -> Summary {
    sum_up(read, &Config::default())
}

#[test]
fn a_table_of_clusters() {
    let of = |names: &'static [&'static str]| Some(names);
    let abc = of(&["a", "b", "c"]);
    for (what, agents, nodes, wanted) in [
        ("all are well", vec![well("a"), well("b"), well("c")], abc, Some(true)),
        ("one is sick", vec![well("a"), sick("b"), well("c")], abc, Some(false)),
        ("one of three is silent", vec![well("a"), well("b"), old("c")], abc, Some(true)),
        ("two of three are silent", vec![well("a"), old("b"), old("c")], abc, None),
        (
            "what a silent one said is not believed",
            vec![agent("a", "2026-03-01T11:00:00Z", "False", &json!([]))],
            of(&["a"]),
            None,
        ),
        ("one has no agent", vec![well("a"), well("b")], abc, Some(true)),
        ("most have no agent", vec![well("a")], abc, None),
        ("a node is gone, its object lingers", vec![well("a"), well("b"), well("c"), sick("d")], abc, Some(true)),
        ("nobody", vec![], of(&[]), None),
        ("nodes may not be listed", vec![well("a")], None, Some(true)),
    ] {
        let summary = summary(&read(agents, nodes));
        assert_eq!(summary.healthy, wanted, "{what}: {}", summary.headline);
    }
}

#[test]
fn the_worst_comes_first_and_says_why() {
    let summary = summary(&read(vec![well("a"), old("b"), sick("c")], Some(&["a", "b", "c", "d"])));
    let lines: Vec<(&str, &str, &str)> =
        summary.nodes.iter().map(|n| (n.node.as_str(), n.state.label(), n.because.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("c", "unhealthy", "what it says"),
            ("b", "silent", "the last report is 60 min old"),
            ("d", "no agent", "no agent has reported for this node"),
            ("a", "healthy", "what it says"),
        ]
    );
    let sick = &summary.nodes[0];
    assert_eq!((sick.paths, sick.pods, sick.reported_s_ago), (Paths { good: 6, bad: 1 }, 7, Some(60)));
    assert_eq!((sick.causes[0].cause, sick.causes[0].subject.as_str()), (Cause::VethDown, "pod shop/cart"));
}

#[test]
fn open_incidents_come_first_and_make_a_cluster_unhealthy() {
    let mut read = read(vec![well("a")], Some(&["a"]));
    read.incidents =
        (0..9).map(|n| incident(&format!("r{n}"), "Resolved", &format!("2026-03-01T0{n}:00:00Z"))).collect();
    assert_eq!(summary(&read).healthy, Some(true), "what is over is over");
    read.incidents.push(incident("e", "Escalated", "2026-03-01T01:00:00Z"));
    read.incidents.push(
        serde_json::from_value(json!({"metadata": {"name": "new"}, "spec": {"cause": "not-known-yet"}})).unwrap(),
    );
    let summary = summary(&read);
    assert_eq!(summary.healthy, Some(false));
    let names: Vec<&str> = summary.incidents.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["e", "r8", "r7", "r6", "r5", "r4"]);
    assert!(summary.notes.iter().any(|n| n.contains("1 incidents are of another version")), "{:?}", summary.notes);
    assert!(summary.headline.contains("0 of 1 nodes unhealthy, 1 open incident"), "{}", summary.headline);
}

#[test]
fn who_leads_and_what_stops_changes_is_said() {
    let mut read = read(vec![well("a")], None);
    read.switch = Switch::On;
    read.lease = LeaseRead::Record(lease::Record {
        renewed_at: Some("2026-03-01T11:00:00Z".parse().unwrap()),
        holder: "x".into(),
        ..lease::Record::default()
    });
    let notes = summary(&read).notes.join("\n");
    for said in ["x has not renewed its Lease for 60 min", "the kill switch is on", "nodes may not be listed"] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    read.lease = LeaseRead::Absent;
    assert!(summary(&read).notes.iter().any(|n| n.contains("no coordinator leads")));
    for (value, wanted) in
        [(None, Switch::Off), (Some("false"), Switch::Off), (Some(" True "), Switch::On), (Some("?"), Switch::On)]
    {
        assert_eq!(Switch::said(value), wanted, "{value:?}");
    }
}
