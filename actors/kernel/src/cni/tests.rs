#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use proptest::prelude::*;

use super::*;

fn recorded() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(crate::recordings().join("cni-results"))
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn every_recorded_entry() {
    let mut pods = Vec::new();
    for (name, bytes) in recorded() {
        let entry = parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(entry.is_none(), name.starts_with("cni-loopback"), "{name}");
        pods.extend(entry);
    }
    assert_eq!(pods.len(), 4);
    let client = pods.iter().find(|p| p.key.name == "client-lvgd5").unwrap();
    assert_eq!(client.uid, Some("435f460d-11a3-4c44-bf46-b2849c968f06".into()));
    assert_eq!(client.key.namespace, "default");
    assert_eq!(client.netns, PathBuf::from("/var/run/netns/cni-106b2de4-cab9-5fb2-ead1-e8174f2dd74e"));
    assert_eq!((client.bridge.as_deref(), client.host_veth.as_deref()), (Some("cni0"), Some("vethf8f4717e")));
    assert_eq!(client.ips, ["10.244.1.60".parse::<IpAddr>().unwrap()]);
    assert_eq!(client.gateway, Some("10.244.1.1".parse().unwrap()));
    assert_eq!(client.dns_servers, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
    assert_eq!((client.dns_search.len(), client.dns_options.as_slice()), (3, ["ndots:5".to_owned()].as_slice()));
    let coredns = pods.iter().find(|p| p.key.name == "coredns-6f6df4dc97-rv8rs").unwrap();
    assert_eq!(coredns.dns_servers, ["172.30.0.254".parse::<IpAddr>().unwrap()]);
    assert!(coredns.dns_search.is_empty());
}

#[test]
fn other_plugins_and_other_entries() {
    let entry = |body: &str| {
        parse(format!(r#"{{"kind":"cniCacheV1","ifName":"eth0","netns":"/run/netns/x","cniArgs":[["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","b"]],{body}}}"#).as_bytes())
    };
    // A routed plugin has a host end and no bridge; its result may name DNS servers.
    let calico = entry(
        r#""result":{"interfaces":[{"name":"cali1"}],"ips":[{"address":"10.1.0.2/32"},{"address":"fd00::2/128"}],"dns":{"nameservers":["1.1.1.1"]}}"#,
    );
    let calico = calico.unwrap().unwrap();
    assert_eq!((calico.uid, calico.bridge, calico.host_veth.as_deref()), (None, None, Some("cali1")));
    assert_eq!((calico.ips.len(), calico.dns_servers.len(), calico.gateway), (2, 1, None));
    // A configuration that hides the bridge (flannel delegates): the first of two is the bridge.
    let flannel = entry(
        r#""result":{"interfaces":[{"name":"cni0"},{"name":"veth1"},{"name":"eth0","sandbox":"/x"}],"ip4":{"ip":"10.1.0.3/24","gateway":"10.1.0.1"}}"#,
    );
    let flannel = flannel.unwrap().unwrap();
    assert_eq!((flannel.bridge.as_deref(), flannel.host_veth.as_deref()), (Some("cni0"), Some("veth1")));
    assert_eq!((flannel.ips.len(), flannel.gateway.is_some()), (1, true));

    assert!(matches!(entry(r#""result":null"#), Err(CniError::Missing { field: "result" })));
    assert!(matches!(parse(b"{}"), Err(CniError::Kind { .. })));
    assert!(parse(b"{").is_err());
    assert!(parse(br#"{"kind":"cniCacheV1","ifName":"eth0","cniArgs":null}"#).unwrap().is_none());
    assert!(matches!(parse(&vec![b' '; MAX_BYTES + 1]), Err(CniError::TooLong)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = base64(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mangled_entries_never_panic(which in 0usize..8, at in 0usize..1800, with in any::<u8>()) {
        let mut bytes = recorded().swap_remove(which).1;
        let at = at.min(bytes.len() - 1);
        bytes[at] = with;
        let _ = parse(&bytes);
    }
}
