#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use proptest::prelude::*;

use super::*;
use crate::recordings;

fn dumps() -> Vec<(String, String)> {
    ["iptables", "nftables", "faults"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(recordings().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with("tables-save.txt"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn every_recording_is_parsed_and_comes_back() {
    let all = dumps();
    assert_eq!(all.len(), 6, "{all:?}");
    for (path, text) in all {
        let set = parse(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(set.tables.len(), 3, "{path}");
        let rules: usize = set.tables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum();
        assert_eq!(rules, text.lines().filter(|l| l.contains("-A ")).count(), "{path}");
        assert_eq!(parse(&set.render()).unwrap(), set, "{path}");
    }
}

#[test]
fn a_recorded_dns_path_is_read() {
    let text = std::fs::read_to_string(recordings().join("iptables/node1.iptables-save.txt")).unwrap();
    let set = parse(&text).unwrap();
    let services = set.chain("nat", "KUBE-SERVICES").unwrap();
    let udp = services.rules.iter().find(|r| r.has(&["-p", "udp"])).unwrap();
    assert_eq!(udp.arg("-d"), Some("10.96.0.10/32"));
    assert!(udp.is_to("10.96.0.10".parse().unwrap()));
    assert_eq!(udp.arg("--dport"), Some("53"));
    assert_eq!(udp.target.as_deref(), Some("KUBE-SVC-TCOU7JCQXEZGVUNU"));
    assert_eq!(udp.comment(), Some("kube-system/kube-dns:dns cluster IP"));
    let sep = set.chain("nat", "KUBE-SEP-YNCIU67N6VYVMDY3").unwrap();
    assert_eq!(sep.rules[1].dnat_to(), Some("10.244.1.53:53".parse().unwrap()));
    assert_eq!(sep.rules[0].dnat_to(), None);
    let prerouting = set.chain("nat", "PREROUTING").unwrap();
    assert_eq!((prerouting.policy.as_deref(), prerouting.rules[0].packets), (Some("ACCEPT"), 268));
    assert!(prerouting.jumps_to("KUBE-SERVICES"));
}

#[test]
fn negation_and_comments_do_not_deceive() {
    let words = split_words(r#"! -s 10.0.0.0/8 -m comment --comment "-d 1.2.3.4" -p udp -j X"#, 1).unwrap();
    let rule = Rule::from_words(0, words);
    assert_eq!(rule.arg("-s"), None);
    assert_eq!(rule.arg("-d"), None);
    assert_eq!(rule.comment(), Some("-d 1.2.3.4"));
    let rule = Rule::from_words(0, split_words("-m comment --comment -j -j REAL", 1).unwrap());
    assert_eq!(rule.target.as_deref(), Some("REAL"));
    assert!(!rule.has(&["-j", "-j"]));
}

#[test]
fn errors_name_the_line() {
    assert_eq!(
        parse("*nat\n:A - [0:0]\n-A B -j X\nCOMMIT\n"),
        Err(ParseError::UnknownChain { line: 3, chain: "B".into() })
    );
    assert_eq!(parse("*nat\n:A - [0]\nCOMMIT\n"), Err(ParseError::BadCounters { line: 2 }));
    assert_eq!(parse("-A B -j X\n"), Err(ParseError::NoTable { line: 1 }));
    assert_eq!(parse("*nat\n:A - [0:0]\n-A A --comment \"x\nCOMMIT\n"), Err(ParseError::OpenQuote { line: 3 }));
    assert_eq!(parse("*nat\n:A - [0:0]\n"), Err(ParseError::NotCommitted { line: 2, table: "nat".into() }));
    assert_eq!(parse("hello\n"), Err(ParseError::Unknown { line: 1 }));
    assert_eq!(parse_bytes(b"*nat\nCOMMIT\n\xff\n"), Err(ParseError::NotUtf8 { line: 3 }));
    assert_eq!(parse(&"x".repeat(MAX_LINE + 1)), Err(ParseError::LineTooLong { line: 1 }));
}

#[test]
fn what_iptables_cannot_show_is_kept() {
    let set = parse("# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n").unwrap();
    assert_eq!(set.incompatible.len(), 1);
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("-d".to_owned()),
        Just("!".to_owned()),
        Just("-j".to_owned()),
        Just("--comment".to_owned()),
        "[ -~]{0,12}",
        "\\PC{0,6}",
    ]
    .prop_filter("control characters end lines", |w| !w.chars().any(char::is_control))
}

fn rule_set() -> impl Strategy<Value = RuleSet> {
    let rule = (any::<u64>(), prop::collection::vec(word(), 0..8)).prop_map(|(n, words)| Rule::from_words(n, words));
    let chain = (prop::option::of("ACCEPT|DROP"), any::<u64>(), prop::collection::vec(rule, 0..4));
    let table =
        ("[a-z]{1,8}", prop::collection::btree_map("[A-Z][A-Z0-9-]{0,20}", chain, 0..4)).prop_map(|(name, chains)| {
            let chains = chains.into_iter().map(|(name, (policy, policy_packets, rules))| Chain {
                name,
                policy,
                policy_packets,
                rules,
            });
            Table { name, chains: chains.collect() }
        });
    prop::collection::vec(table, 0..3).prop_map(|tables| RuleSet { tables, incompatible: Vec::new() })
}

proptest! {
    #[test]
    fn what_is_rendered_is_parsed_back(set in rule_set()) {
        prop_assert_eq!(parse(&set.render()).unwrap(), set);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_bytes(&bytes);
    }

    #[test]
    fn mangled_dumps_never_panic(cut in 0usize..8000, junk in "\\PC{0,20}") {
        let text = std::fs::read_to_string(recordings().join("iptables/node1.iptables-save.txt")).unwrap();
        let cut = cut.min(text.len());
        let _ = parse(&format!("{}{junk}{}", &text[..cut], &text[cut..]));
    }
}
