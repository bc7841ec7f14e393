//! Policy rules, FIB lookups, bridge tables, sysctls per device and the neighbour table, against the kernel and `ip`.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nameward_kernel::collect::{self, Limits};
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::facts::{FibQuery, FibResult, Reading, RouteKind, Topology};
use nameward_kernel::rtnl;
use serde_json::Value;

const LIMITS: Limits = Limits { within: Duration::from_secs(20), bytes: 16 << 20 };

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn read<T: std::fmt::Debug>(reading: Reading<T>) -> T {
    match reading {
        Reading::Read(value) => value,
        other => panic!("{other:?}"),
    }
}

fn json(line: &str) -> Vec<Value> {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn survey(pool: &EnterPool, namespace: &Netns, queries: &[FibQuery]) -> Topology {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    read(runtime.block_on(rtnl::survey(pool, namespace, queries, LIMITS.within)))
}

const NETWORK: &str = "
    ip netns add pod && ip netns add other
    ip link add cni0 type bridge && ip link set cni0 up && ip addr add 10.244.1.1/24 dev cni0
    for pod in pod other; do
        ip link add veth$pod type veth peer name eth0 netns $pod
        ip link set veth$pod master cni0 up && ip -n $pod link set eth0 up && ip -n $pod link set lo up
    done
    ip -n pod addr add 10.244.1.5/24 dev eth0 && ip -n other addr add 10.244.1.6/24 dev eth0
    ip -n pod route add default via 10.244.1.1";

#[test]
fn the_kernel_says_which_way_it_would_send() {
    if !private::enter("the_kernel_says_which_way_it_would_send") {
        return;
    }
    private::run(NETWORK);
    private::run(
        "ip route add blackhole 10.9.0.0/16 && ip route add unreachable 10.8.0.0/16 && ip route add prohibit 10.7.0.0/16
         ip route add 10.244.2.0/24 via 10.244.1.7 && ip route add 10.6.0.0/16 via 10.244.1.9 table 77
         ip rule add fwmark 0x10 table 77 priority 100 && ip rule add from 10.244.1.5 iif cni0 table 77 priority 101
         sysctl -q net.ipv4.ip_forward=1",
    );
    let pool = EnterPool::new(1, 4).unwrap();
    let marked = FibQuery { mark: Some(0x10), ..FibQuery::to(ip("10.6.1.1")) };
    let forwarded =
        FibQuery { source: Some(ip("10.244.1.5")), iif: Some("cni0".to_owned()), ..FibQuery::to(ip("10.6.1.1")) };
    let other = FibQuery { source: Some(ip("10.244.1.6")), ..forwarded.clone() };
    let no_link = FibQuery { iif: Some("none".to_owned()), ..forwarded.clone() };
    let plain = ["10.9.1.1", "10.8.1.1", "10.7.1.1", "10.244.2.21", "10.244.1.6", "10.244.1.1", "10.6.1.1"];
    let mut queries: Vec<FibQuery> = plain.iter().map(|to| FibQuery::to(ip(to))).collect();
    queries.extend([marked, forwarded, other, no_link]);
    let host = survey(&pool, pool.home(), &queries);

    let nowhere = |kind| Some(FibResult::Nowhere { kind });
    assert_eq!(host.lookup(ip("10.9.1.1")).cloned(), nowhere(RouteKind::Blackhole));
    assert_eq!(host.lookup(ip("10.8.1.1")).cloned(), nowhere(RouteKind::Unreachable));
    assert_eq!(host.lookup(ip("10.7.1.1")).cloned(), nowhere(RouteKind::Prohibit));
    assert_eq!(host.lookup(ip("10.6.1.1")), Some(&FibResult::NoRoute));
    let bridge = host.link("cni0").unwrap().index;
    let route = |matched: (&str, u8), gateway: Option<&str>, table| FibResult::Route {
        kind: RouteKind::Unicast,
        matched: Some((ip(matched.0), matched.1)),
        gateway: gateway.map(ip),
        out_link: Some(bridge),
        table,
    };
    assert_eq!(host.lookup(ip("10.244.2.21")), Some(&route(("10.244.2.0", 24), Some("10.244.1.7"), 254)));
    assert_eq!(host.lookup(ip("10.244.1.6")), Some(&route(("10.244.1.0", 24), None, 254)));
    assert!(matches!(host.lookup(ip("10.244.1.1")), Some(FibResult::Route { kind: RouteKind::Local, .. })));
    let answers: Vec<&Reading<FibResult>> = host.lookups[plain.len()..].iter().map(|l| &l.result).collect();
    assert_eq!(answers[0], &Reading::Read(route(("10.6.0.0", 16), Some("10.244.1.9"), 77)), "by its mark");
    assert_eq!(answers[1], &Reading::Read(route(("10.6.0.0", 16), Some("10.244.1.9"), 77)), "by source and link");
    assert!(matches!(answers[2], Reading::Read(FibResult::NoRoute | FibResult::Nowhere { .. })), "{:?}", answers[2]);
    assert!(matches!(answers[3], Reading::NotPresent(_)), "{:?}", answers[3]);

    let theirs: BTreeSet<(u64, String)> = json("ip -j rule show")
        .iter()
        .map(|r| (r["priority"].as_u64().unwrap(), r["table"].as_str().unwrap().to_owned()))
        .collect();
    let rules = read(host.rules.clone());
    let name = |table| match table {
        255 => "local".to_owned(),
        254 => "main".to_owned(),
        253 => "default".to_owned(),
        other => other.to_string(),
    };
    let ours: BTreeSet<(u64, String)> =
        rules.iter().filter(|r| r.v4).map(|r| (u64::from(r.priority), name(r.table))).collect();
    assert_eq!(ours, theirs);
    let by_mark = rules.iter().find(|r| r.priority == 100).unwrap();
    assert_eq!((by_mark.mark, by_mark.kind), (Some((0x10, u32::MAX)), RouteKind::Unicast));
    let by_source = rules.iter().find(|r| r.priority == 101).unwrap();
    assert_eq!((by_source.source, by_source.iif.as_deref()), (Some((ip("10.244.1.5"), 32)), Some("cni0")));

    let namespace = Netns::open(Path::new("/run/netns/pod")).unwrap();
    let pod = survey(&pool, &namespace, &[FibQuery::to(ip("10.96.0.10"))]);
    let found = pod.lookup(ip("10.96.0.10")).unwrap();
    let gateway = Some(ip("10.244.1.1"));
    assert!(matches!(found, FibResult::Route { matched: None, gateway: g, .. } if *g == gateway), "{found:?}");
}

/// What `bridge` says of the forwarding table, without the groups: address, port, whether permanent.
fn forwarding_table() -> BTreeSet<(String, String, bool)> {
    json("bridge -j fdb show")
        .iter()
        .filter(|e| e["master"].is_string() && !e["mac"].as_str().unwrap().starts_with("33:33"))
        .filter(|e| !e["mac"].as_str().unwrap().starts_with("01:00"))
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap().to_owned();
            (text("mac"), text("ifname"), e["state"] == "permanent")
        })
        .collect()
}

#[test]
fn bridges_and_identities() {
    if !private::enter("bridges_and_identities") {
        return;
    }
    private::run(NETWORK);
    private::run("bridge fdb add 02:00:00:00:00:09 dev vethpod master static");
    let pool = EnterPool::new(1, 4).unwrap();
    // The bridge learns addresses as the devices' own first packets arrive: what it says twice in a row did not move in between.
    let (before, host) = loop {
        let (before, host) = (forwarding_table(), survey(&pool, pool.home(), &[]));
        if before == forwarding_table() {
            break (before, host);
        }
    };
    let fdb = read(host.fdb.clone());
    let port = |index| host.link_at(index).unwrap().name.clone();
    let ours: BTreeSet<(String, String, bool)> =
        fdb.iter().map(|e| (e.mac.clone(), port(e.port), e.permanent)).collect();
    assert!(before.len() >= 3 && before.is_subset(&ours), "{ours:?}\n{before:?}");
    assert!(fdb.iter().any(|e| e.mac == "02:00:00:00:00:09" && port(e.port) == "vethpod" && port(e.bridge) == "cni0"));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let namespace = Netns::open(Path::new("/run/netns/pod")).unwrap();
    let identity = read(runtime.block_on(rtnl::identity(&pool, &namespace, LIMITS.within)));
    let pod = survey(&pool, &namespace, &[]);
    assert_eq!(identity.links, [pod.link("eth0").unwrap().clone()]);
    assert!(identity.addresses.contains(&(ip("10.244.1.5"), 24)), "{identity:?}");
    assert!(identity.addresses.iter().all(|(ip, _)| !ip.is_loopback()), "{identity:?}");
}

#[test]
fn sysctls_of_devices_and_the_neighbour_table() {
    if !private::enter("sysctls_of_devices_and_the_neighbour_table") {
        return;
    }
    private::run(NETWORK);
    private::run("sysctl -q net.ipv4.ip_forward=1 net.ipv4.conf.cni0.forwarding=0 net.ipv4.conf.cni0.rp_filter=2");
    let pool = EnterPool::new(1, 4).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sysctls = read(runtime.block_on(collect::sysctls(&pool, pool.home(), LIMITS)));
    assert_eq!(sysctls.ip_forward, Some(1));
    assert_eq!((sysctls.forwarding.get("cni0"), sysctls.forwarding.get("vethpod")), (Some(&0), Some(&1)));
    assert_eq!(sysctls.rp_filter.get("cni0"), Some(&2));
    assert_eq!(sysctls.rp_filter.get("all").copied(), sysctls.rp_filter_all);
    // The table is the kernel's: its counters and its limits are the initial namespace's.
    let stat = runtime.block_on(collect::neighbour_stat(&pool, pool.home(), LIMITS));
    assert!(matches!(stat, Reading::NotPresent(_)), "{stat:?}");
    let namespace = Netns::open(Path::new("/run/netns/pod")).unwrap();
    let inside = read(runtime.block_on(collect::sysctls(&pool, &namespace, LIMITS)));
    assert_eq!((inside.gc_thresh3, inside.forwarding.contains_key("cni0")), (None, false));
}
