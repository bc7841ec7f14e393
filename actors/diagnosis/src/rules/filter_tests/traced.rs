//! What nftrace changes of a judgement: what was in doubt becomes certain, or is none of it.

use nameward_kernel::trace::{Dropped, Followed};

use super::*;
use crate::record::{EvidenceRecord, Traced};
use crate::rules::traced::{Need, wanted};

const DOUBT: &[&str] = &[
    "-A FORWARD -p udp -m set --match-set blocked src -j DROP",
    "-A FORWARD -p udp -m recent --rcheck --name x -j DROP",
];
const STRANGE: &str = r#"{"match": {"op": "==", "left": {"socket": {"key": "wildcard"}}, "right": 0}}, {"drop": null}"#;

fn path() -> PathKey {
    PathKey {
        vantage: pod_vantage(CLIENT),
        target: service(),
        transport: Transport::Udp,
        question: QuestionKind::Internal,
    }
}

/// How many rules the chain FORWARD has.
fn length(record: &EvidenceRecord) -> u32 {
    let current = record.current.as_ref().unwrap();
    let rules = &current.host.netfilter.iptables_nft.value().unwrap().chain("filter", "FORWARD").unwrap().rules;
    u32::try_from(rules.len()).unwrap()
}

fn dropped(family: &str, table: &str, chain: &str, position: Option<(u32, u32)>) -> Option<Dropped> {
    let (family, table, chain) = (family.to_owned(), table.to_owned(), chain.to_owned());
    Some(Dropped { family, table, chain, handle: Some(3), position, answer: false })
}

/// So many traces, a second and more apart, with this end.
fn traces(times: &[u64], inside: Option<&str>, dropped: Option<Dropped>) -> Vec<Traced> {
    let one = |ms: &u64| Traced {
        at: at(*ms),
        path: path(),
        inside: inside.map(uid),
        followed: Followed { events: 9, dropped: dropped.clone(), ..Followed::default() },
    };
    times.iter().map(one).collect()
}

fn in_doubt() -> EvidenceRecord {
    on_node(one_client(UDP, &Outcome::Timeout), In::Nft, "filter", DOUBT).record()
}

fn judged(mut record: EvidenceRecord, traces: Vec<Traced>) -> Judgement {
    record.traces = traces;
    judge(&record)
}

#[test]
fn two_traces_make_one_of_two_doubts_certain() {
    let record = in_doubt();
    let here = dropped("ip", "filter", "FORWARD", Some((1, length(&record))));
    let rows: Vec<(&str, Vec<Traced>, Confidence)> = vec![
        ("none", Vec::new(), Confidence::Probable),
        ("one", traces(&[98_000], None, here.clone()), Confidence::Probable),
        ("two at once", traces(&[98_000, 98_300], None, here.clone()), Confidence::Probable),
        ("two", traces(&[98_000, 99_100], None, here.clone()), Confidence::Certain),
    ];
    for (name, traces, confidence) in rows {
        let traced = !traces.is_empty();
        let mut record = record.clone();
        record.samples = 5;
        let judgement = judged(record, traces);
        assert_eq!(causes(&judgement), [Cause::PacketFilterDrop], "{name}: {judgement:#?}");
        let found = &judgement.findings[0];
        assert_eq!(found.confidence, confidence, "{name}");
        let lines: Vec<_> = found.evidence.iter().filter(|line| line.read == "node1 nftrace").collect();
        assert_eq!(!lines.is_empty(), traced, "{name}: {found:#?}");
        if traced {
            assert!(found.evidence[0].says.contains("--rcheck --name x"), "{name}: {found:#?}");
        }
    }
    // The chain is another one by now: the rule is named as the kernel names it.
    let gone = dropped("ip", "filter", "FORWARD", Some((1, 99)));
    let judgement = judged(record, traces(&[98_000, 99_100], None, gone));
    assert!(judgement.findings[0].evidence[0].says.contains("rule with handle 3"), "{judgement:#?}");
}

#[test]
fn a_rule_that_counts_nothing_is_named_by_traces_alone() {
    let record = || {
        let native = native("forward", "accept", &[STRANGE]);
        let world = one_client(UDP, &Outcome::Timeout);
        world.both(move |s| s.host.netfilter.native = Reading::Read(native.clone())).record()
    };
    assert_eq!(causes(&judge(&record())), []);
    let judgement = judged(record(), traces(&[98_000, 99_100], None, dropped("inet", "fw", "c", None)));
    assert_eq!(causes(&judgement), [Cause::PacketFilterDrop], "{judgement:#?}");
    assert_eq!(judgement.findings[0].confidence, Confidence::Certain);
}

#[test]
fn what_traced_probes_pass_is_not_blamed() {
    let one: &[&str] = &["-A FORWARD -p udp -m set --match-set blocked src -j DROP"];
    let internal = |p: &PathKey| (*p == path()).then_some(Outcome::Timeout);
    let record = on_node(World::healthy().paths(internal), In::Nft, "filter", one).record();
    assert_eq!(causes(&judge(&record)), [Cause::PacketFilterDrop]);
    assert_eq!(causes(&judged(record.clone(), traces(&[98_000, 99_100], None, None))), []);
    // Once is not twice, and one that was answered was lucky.
    assert_eq!(causes(&judged(record.clone(), traces(&[98_000], None, None))), [Cause::PacketFilterDrop]);
    let mut lucky = traces(&[98_000, 99_100], None, None);
    lucky[0].followed.answered = true;
    assert_eq!(causes(&judged(record.clone(), lucky)), [Cause::PacketFilterDrop]);
    // Legacy rules are not told of.
    let legacy = on_node(World::healthy().paths(internal), In::Legacy, "filter", one).record();
    assert_eq!(causes(&judged(legacy.clone(), traces(&[98_000, 99_100], None, None))), [Cause::PacketFilterDrop]);
    assert_eq!(wanted(&legacy, &judge(&legacy)), []);
}

#[test]
fn a_doubt_is_worth_a_trace_until_it_is_settled() {
    let record = in_doubt();
    let needs = wanted(&record, &judge(&record));
    assert!(needs.contains(&Need { path: path(), port: 53, inside: None }), "{needs:#?}");
    assert!(needs.iter().all(|need| need.path.question == QuestionKind::Internal));
    let mut settled = record.clone();
    let here = dropped("ip", "filter", "FORWARD", Some((1, length(&record))));
    settled.traces = traces(&[98_000, 99_100], None, here);
    let judgement = judge(&settled);
    let needs = wanted(&settled, &judgement);
    assert!(needs.iter().all(|need| need.path != path()), "{needs:#?}");
    // What is understood needs none.
    let plain = on_node(one_client(UDP, &Outcome::Timeout), In::Nft, "filter", ONE).record();
    assert_eq!(wanted(&plain, &judge(&plain)), []);
}

#[test]
fn a_pods_own_rules_are_traced_in_its_namespace() {
    let rules: &[&str] = &["-A OUTPUT -p udp -m set --match-set blocked dst -j DROP"];
    let record = inside(one_client(UDP, &Outcome::NotPermitted), CLIENT, In::Nft, "filter", rules).record();
    let judgement = judge(&record);
    assert_eq!(judgement.findings[0].confidence, Confidence::Probable, "{judgement:#?}");
    let needs = wanted(&record, &judgement);
    assert!(needs.iter().any(|need| need.inside == Some(uid(CLIENT))), "{needs:#?}");
    let end = dropped("ip", "filter", "OUTPUT", Some((0, 1)));
    let judgement = judged(record, traces(&[98_000, 99_100], Some(CLIENT), end));
    assert_eq!(causes(&judgement), [Cause::PodFilterDrop], "{judgement:#?}");
    assert_eq!(judgement.findings[0].confidence, Confidence::Certain, "{judgement:#?}");
}
