#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::filter::Filters;
use crate::{iptables, nft};

/// What a kernel (6.18) told of a UDP query that an iptables-nft rule dropped, as `recv` brought it.
const DROPPED: &[u8] = include_bytes!("../../../../fuzz/corpus/nftrace/dropped");
/// Of a TCP segment that the policy of a chain dropped.
const POLICY: &[u8] = include_bytes!("../../../../fuzz/corpus/nftrace/policy");
/// The rules of a chain.
const RULES: &[u8] = include_bytes!("../../../../fuzz/corpus/nftrace/rules");

fn events(bytes: &[u8]) -> Vec<Event> {
    let event = |message| if let Message::Event(event) = message { Some(event) } else { None };
    parse(bytes).into_iter().filter_map(event).collect()
}

fn follow(bytes: &[u8], own: u16, rules: &[u64]) -> Followed {
    let mut found = Followings::new(own, TABLE);
    for event in events(bytes) {
        found.take(&event);
    }
    found.finish(rules)
}

#[test]
fn what_the_kernel_told_is_understood() {
    let told = events(DROPPED);
    let last = told.last().unwrap();
    assert_eq!((last.family.as_str(), last.table.as_str(), last.chain.as_str()), ("ip", "filter", "FORWARD"));
    assert_eq!((last.kind, last.verdict.as_ref()), (Kind::Rule, Some(&Decision::Drop)));
    assert_eq!(told.first().unwrap().table, TABLE);
    let own = told.iter().find_map(|event| event.ports).unwrap().0;
    let followed = follow(DROPPED, own, &[1, last.handle.unwrap(), 9]);
    let dropped = followed.dropped.unwrap();
    assert_eq!((dropped.position, dropped.answer), (Some((1, 3)), false));
    // What others trace is none of ours.
    assert_eq!(follow(DROPPED, own.wrapping_add(1), &[]), Followed::default());
}

#[test]
fn a_policy_has_no_handle() {
    let own = events(POLICY).iter().find_map(|event| event.ports).unwrap().0;
    let dropped = follow(POLICY, own, &[]).dropped.unwrap();
    assert_eq!((dropped.chain.as_str(), dropped.handle), ("FORWARD", None));
    assert!(dropped.name().ends_with("chain FORWARD: policy"), "{}", dropped.name());
}

#[test]
fn rules_come_in_order_and_end() {
    let read = parse(RULES);
    let handles: Vec<u64> =
        read.iter().filter_map(|m| if let Message::Rule { handle } = m { Some(*handle) } else { None }).collect();
    assert_eq!(handles.len(), 2);
    assert!(handles.is_sorted());
}

#[test]
fn any_bytes_are_survived() {
    for bytes in [DROPPED, POLICY, RULES] {
        for cut in 0..bytes.len().min(600) {
            let _ = parse(&bytes[..cut]);
            let mut flipped = bytes.to_vec();
            flipped[cut] ^= 0xff;
            let _ = parse(&flipped);
        }
    }
}

#[test]
fn no_more_than_so_many_events_are_taken() {
    let mut found = Followings::new(7, TABLE);
    let one = Event {
        family: "ip".to_owned(),
        table: "filter".to_owned(),
        chain: "x".to_owned(),
        kind: Kind::Rule,
        handle: Some(1),
        verdict: Some(Decision::Continue),
        packet: 1,
        ports: Some((7, 53)),
    };
    let taken = (0..MAX_EVENTS + 5).filter(|_| !found.take(&one)).count();
    let followed = found.finish(&[]);
    assert_eq!((taken, followed.more), (MAX_EVENTS, true));
}

#[test]
fn a_place_is_found_only_in_the_rules_that_were_traced() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -j ACCEPT\n-A FORWARD -p udp -j DROP\nCOMMIT\n";
    let set = iptables::parse(text).unwrap();
    let json = br#"{"nftables": [
        {"table": {"family": "inet", "name": "fw", "handle": 1}},
        {"chain": {"family": "inet", "table": "fw", "name": "c", "handle": 1, "type": "filter", "hook": "forward",
            "prio": 0, "policy": "accept"}},
        {"rule": {"family": "inet", "table": "fw", "chain": "c", "handle": 7, "expr": [{"drop": null}]}}]}"#;
    let native = nft::parse(json).unwrap().native;
    let filters = Filters { iptables_nft: Some(&set), native: Some(&native), ..Filters::default() };
    let at = |family, table, chain, handle, position| filters.place_at(family, table, chain, handle, position);
    let found = at("ip", "filter", "FORWARD", Some(9), Some((1, 2))).unwrap();
    assert_eq!(found.rule.as_deref(), Some("-p udp -j DROP"));
    // There was another rule then.
    assert_eq!(at("ip", "filter", "FORWARD", Some(9), Some((1, 3))), None);
    assert_eq!(at("ip", "filter", "FORWARD", Some(9), None), None);
    assert_eq!(at("ip", "filter", "FORWARD", None, None).unwrap().rule, None);
    assert_eq!(at("ip6", "filter", "FORWARD", None, None), None);
    assert!(at("inet", "fw", "c", Some(7), None).unwrap().rule.is_some());
    assert_eq!(at("inet", "fw", "c", Some(8), None), None);
}
