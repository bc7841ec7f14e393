#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use proptest::prelude::*;

use super::*;
use crate::recordings;

#[test]
fn a_recorded_node_in_nftables_mode() {
    let json = std::fs::read(recordings().join("nftables/node2.nft-ruleset.json")).unwrap();
    let set = parse(&json).unwrap();
    let table = set.kube_proxy.unwrap();
    let dns = "service-FY5PMXPG-kube-system/kube-dns/udp/dns";
    assert!(table.service_ips.contains(&("10.96.0.10".parse().unwrap(), Transport::Udp, 53, dns.to_owned())));
    assert_eq!(table.service_ips.len(), 4);
    assert_eq!(table.endpoints[dns], ["10.244.1.56:53".parse().unwrap(), "10.244.2.21:53".parse().unwrap()]);
    assert_eq!(table.endpoints.len(), 4);
    assert_eq!(table.base_chains["nat-prerouting"], ["services"]);
    assert_eq!(table.base_chains["nat-output"], ["services"]);
    assert_eq!(table.base_chains["filter-forward"], ["service-endpoints-check", "cluster-ips-check"]);
    assert_eq!(table.lookups["services"], ["service-ips", "service-nodeports"]);
    assert_eq!(table.cluster_ips.len(), 2);
    assert!(table.no_endpoint_services.is_empty());
    assert!(set.kube_proxy6.unwrap().service_ips.is_empty());
    assert!(set.other_base_chains.is_empty(), "{:?}", set.other_base_chains);
}

#[test]
fn a_recorded_node_in_iptables_mode_has_no_such_table() {
    let json = std::fs::read(recordings().join("iptables/node1.nft-ruleset.json")).unwrap();
    let set = parse(&json).unwrap();
    let native = Native { iptables: true, ..Native::default() };
    assert_eq!(set, Ruleset { native, ..Ruleset::default() });
}

#[test]
fn elements_with_comments_older_chains_and_foreign_chains() {
    // As nft 1.0.6 prints an element with a comment, an endpoint chain of older releases, and firewalld's table.
    let json = br#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
      {"table": {"family": "ip", "name": "kube-proxy", "handle": 1}},
      {"map": {"family": "ip", "name": "no-endpoint-services", "table": "kube-proxy", "elem": [
        [{"elem": {"val": {"concat": ["10.96.0.10", "tcp", 53]}, "comment": "kube-system/kube-dns:dns-tcp"}}, {"goto": {"target": "reject-chain"}}],
        [{"elem": {"val": {"concat": ["10.96.0.11", "udp", 53]}, "comment": "x"}}, {"drop": null}],
        [{"concat": ["10.96.0.11", "sctp", 53]}, {"drop": null}]]}},
      {"rule": {"family": "ip", "table": "kube-proxy", "chain": "endpoint-A-x__10.1.1.1/53", "expr": [{"dnat": {"addr": "10.1.1.1", "port": 53}}]}},
      {"rule": {"family": "ip", "table": "kube-proxy", "chain": "service-OLD-a/b", "expr": [{"vmap": {"key": {"numgen": {}}, "data": {"set": [[0, {"goto": {"target": "endpoint-A-x__10.1.1.1/53"}}]]}}}]}},
      {"chain": {"family": "inet", "table": "firewalld", "name": "filter_FORWARD", "type": "filter", "hook": "forward", "prio": 10, "policy": "accept"}},
      {"chain": {"family": "inet", "table": "firewalld", "name": "no_hook"}},
      {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward"}}]}"#;
    let set = parse(json).unwrap();
    let table = set.kube_proxy.unwrap();
    assert_eq!(
        table.no_endpoint_services,
        [
            ("10.96.0.10".parse().unwrap(), Transport::Tcp, 53, "reject-chain".to_owned()),
            ("10.96.0.11".parse().unwrap(), Transport::Udp, 53, "drop".to_owned())
        ]
    );
    assert_eq!(table.endpoints["service-OLD-a/b"], ["10.1.1.1:53".parse().unwrap()]);
    assert_eq!(set.other_base_chains, ["inet firewalld filter_FORWARD forward"]);
}

#[test]
fn what_is_not_nfts_json_is_refused() {
    assert_eq!(parse(b" \n").unwrap(), Ruleset::default());
    assert!(parse(b"{}").is_err());
    assert!(parse(b"[]").is_err());
    assert!(parse(b"{\"nftables\": [{}").is_err());
    assert!(parse(b"{\"nftables\": []} x").is_err());
    let deep = format!("{{\"nftables\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(parse(deep.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn mangled_dumps_never_panic(at in 0usize..41_000, with in any::<u8>()) {
        let mut json = std::fs::read(recordings().join("nftables/node2.nft-ruleset.json")).unwrap();
        let at = at.min(json.len() - 1);
        json[at] = with;
        let _ = parse(&json);
    }
}
