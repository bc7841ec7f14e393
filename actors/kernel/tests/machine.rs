//! The readers against the kernel: links, rules and sockets made here, in a namespace of this test's own.
//!
//! The test runs itself again below `unshare --user --map-root-user --net --mount`, so that it needs no privilege and
//! leaves nothing behind. Where that is not possible it fails; it is never skipped.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nameward_kernel::collect::{self, Limits};
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::facts::{Reading, RouteKind, Topology};
use nameward_kernel::{nft, rtnl};
use serde_json::Value;

const LIMITS: Limits = Limits { within: Duration::from_secs(20), bytes: 16 << 20 };
const INSIDE: &str = "NAMEWARD_TEST_INSIDE";

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures")
}

/// Runs one test of this file again in namespaces of its own.
fn inside(test: &str, body: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        sh("mount -t tmpfs none /run");
        sh("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(body());
        return;
    }
    let output = Command::new("unshare")
        // In two steps: files below /proc/net belong to the root of a user namespace only if its map was there first.
        .args(["--user", "--map-root-user", "--", "unshare"])
        .args(["--net", "--mount", "--fork", "--pid", "--mount-proc", "--kill-child", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .expect("util-linux' unshare is needed: apt-get install util-linux");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{test} inside its own namespaces:\n{text}");
}

fn sh(line: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new("sh").arg("-ec").arg(line).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pool() -> EnterPool {
    EnterPool::new(2, 16).unwrap()
}

fn read<T: std::fmt::Debug>(reading: Reading<T>) -> T {
    match reading {
        Reading::Read(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Our view and that of `ip -j`, compared item by item.
fn agrees(topology: &Topology, ip: impl Fn(&str) -> Vec<Value>) {
    let links = ip("-d link show");
    assert_eq!(topology.links.len(), links.len());
    for theirs in &links {
        let name = theirs["ifname"].as_str().unwrap();
        let ours = topology.link(name).unwrap();
        let flags: BTreeSet<&str> = theirs["flags"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        assert_eq!(u64::from(ours.index), theirs["ifindex"].as_u64().unwrap(), "{name}");
        assert_eq!((ours.up, ours.carrier), (flags.contains("UP"), flags.contains("LOWER_UP")), "{name}");
        assert_eq!(ours.mac, theirs["address"].as_str().unwrap(), "{name}");
        assert_eq!(u64::from(ours.mtu), theirs["mtu"].as_u64().unwrap(), "{name}");
        assert_eq!(ours.kind.as_deref(), theirs["linkinfo"]["info_kind"].as_str(), "{name}");
        let master = ours.master.map(|m| topology.link_at(m).unwrap().name.as_str());
        assert_eq!(master, theirs["master"].as_str(), "{name}");
        if let Some(port) = ours.port {
            let data = &theirs["linkinfo"]["info_slave_data"];
            let states = ["disabled", "listening", "learning", "forwarding", "blocking"];
            assert_eq!(states[usize::from(port.state)], data["state"].as_str().unwrap(), "{name}");
            assert_eq!((port.hairpin, port.isolated), (data["hairpin"] == true, data["isolated"] == true), "{name}");
        }
    }
    let theirs: BTreeSet<(IpAddr, u64)> = ip("addr show")
        .iter()
        .flat_map(|link| link["addr_info"].as_array().unwrap().clone())
        .map(|a| (a["local"].as_str().unwrap().parse().unwrap(), a["prefixlen"].as_u64().unwrap()))
        .collect();
    let ours: BTreeSet<(IpAddr, u64)> = topology.addresses.iter().map(|a| (a.ip, u64::from(a.prefix))).collect();
    assert_eq!(ours, theirs);

    let theirs: BTreeSet<(String, String)> = ip("-4 route show table main")
        .iter()
        .map(|r| (r["dst"].as_str().unwrap().to_owned(), r["gateway"].as_str().unwrap_or("-").to_owned()))
        .collect();
    let main = topology.routes.iter().filter(|r| r.v4 && r.table == 254);
    let ours: BTreeSet<(String, String)> = main
        .map(|r| {
            let to = match r.destination {
                None => "default".to_owned(),
                Some((ip, 32)) => ip.to_string(),
                Some((ip, prefix)) => format!("{ip}/{prefix}"),
            };
            (to, r.gateway.map_or("-".to_owned(), |g| g.to_string()))
        })
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn topology_agrees_with_ip() {
    inside("topology_agrees_with_ip", async || {
        sh("ip netns add pod
            ip link add cni0 type bridge && ip link set cni0 up && ip addr add 10.244.1.1/24 dev cni0
            ip link add vethpod type veth peer name eth0 netns pod
            ip link set vethpod master cni0 up && bridge link set dev vethpod hairpin on
            ip -n pod link set lo up && ip -n pod link set eth0 up && ip -n pod addr add 10.244.1.5/24 dev eth0
            ip -n pod route add default via 10.244.1.1
            ip route add blackhole 10.9.0.0/16 && ip route add 10.244.2.0/24 via 10.244.1.7
            ip route add unreachable 10.8.0.1/32 table 77
            ip neigh add 10.244.1.9 lladdr 02:00:00:00:00:09 dev cni0 nud permanent");
        let json = |command: String| -> Vec<Value> { serde_json::from_str(&sh(&command)).unwrap() };
        let pool = pool();

        let host = read(rtnl::topology(&pool, pool.home(), Duration::from_secs(10)).await);
        agrees(&host, |what| json(format!("ip -j {what}")));
        let veth = host.link("vethpod").unwrap();
        assert_eq!(veth.master, Some(host.link("cni0").unwrap().index));
        assert!(veth.port.unwrap().hairpin);
        let kind =
            |to: &str| host.routes.iter().find(|r| r.destination.is_some_and(|d| d.0.to_string() == to)).unwrap();
        assert_eq!((kind("10.9.0.0").kind, kind("10.9.0.0").table), (RouteKind::Blackhole, 254));
        assert_eq!((kind("10.8.0.1").kind, kind("10.8.0.1").table), (RouteKind::Unreachable, 77));
        assert_eq!(host.default_routes(true).count(), 0);
        let neighbour = host.neighbours.iter().find(|n| n.ip.to_string() == "10.244.1.9").unwrap();
        assert_eq!((neighbour.mac.as_deref(), neighbour.state), (Some("02:00:00:00:00:09"), 0x80));

        let namespace = Netns::open(Path::new("/run/netns/pod")).unwrap();
        let pod = read(rtnl::topology(&pool, &namespace, Duration::from_secs(10)).await);
        agrees(&pod, |what| json(format!("ip -n pod -j {what}")));
        assert_eq!(pod.link("eth0").unwrap().peer, Some(veth.index));
        assert_eq!(pod.default_routes(true).next().unwrap().gateway, Some("10.244.1.1".parse().unwrap()));

        sh("ip link set vethpod nomaster");
        let host = read(rtnl::topology(&pool, pool.home(), Duration::from_secs(10)).await);
        assert_eq!((host.link("vethpod").unwrap().master, host.link("vethpod").unwrap().port), (None, None));
    });
}

#[test]
fn iptables_rules_are_read_and_reading_makes_none() {
    inside("iptables_rules_are_read_and_reading_makes_none", async || {
        let pool = pool();
        let empty = collect::netfilter(&pool, LIMITS).await;
        assert_eq!(read(empty.iptables_nft).tables.len(), 0);
        assert!(matches!(empty.iptables_legacy, Reading::NotPresent(_)), "{:?}", empty.iptables_legacy);
        assert!(matches!(empty.kube_proxy_nft, Reading::NotPresent(_)), "{:?}", empty.kube_proxy_nft);
        assert_eq!(sh("nft list ruleset; cat /proc/thread-self/net/ip_tables_names 2>/dev/null || true").trim(), "");

        sh(r#"iptables-nft -P FORWARD DROP
            iptables-nft -t nat -N KUBE-SERVICES
            iptables-nft -t nat -A PREROUTING -m comment --comment "kubernetes \"service\" portals" -j KUBE-SERVICES
            iptables-nft -t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.1.5:53
            nft add table inet firewalld
            nft add chain inet firewalld filter_FORWARD '{ type filter hook forward priority 10; }'"#);
        let netfilter = collect::netfilter(&pool, LIMITS).await;
        let rules = read(netfilter.iptables_nft);
        assert_eq!(rules.chain("filter", "FORWARD").unwrap().policy.as_deref(), Some("DROP"));
        let jump = &rules.chain("nat", "PREROUTING").unwrap().rules[0];
        assert_eq!(jump.comment(), Some(r#"kubernetes "service" portals"#));
        let rule = &rules.chain("nat", "KUBE-SERVICES").unwrap().rules[0];
        assert_eq!(rule.dnat_to(), Some("10.244.1.5:53".parse().unwrap()));
        assert_eq!(read(netfilter.other_base_chains), ["inet firewalld filter_FORWARD forward"]);
        assert_eq!(read(collect::chain_policy("filter", "FORWARD", LIMITS).await), "DROP");
        assert!(matches!(collect::chain_policy("filter", "NO-SUCH", LIMITS).await, Reading::Failed(_)));
    });
}

#[test]
fn rules_inside_a_pod_are_its_own_and_reading_makes_none() {
    inside("rules_inside_a_pod_are_its_own_and_reading_makes_none", async || {
        sh("ip netns add pod; iptables-nft -P FORWARD DROP; nft add table inet host");
        let pool = pool();
        let namespace = Netns::open(Path::new("/run/netns/pod")).unwrap();
        let empty = collect::netfilter_inside(&pool, &namespace, LIMITS).await;
        assert!(matches!(empty.iptables_nft, Reading::NotPresent(_)), "{:?}", empty.iptables_nft);
        assert!(matches!(empty.iptables_legacy, Reading::NotPresent(_)), "{:?}", empty.iptables_legacy);
        assert_eq!(read(empty.native), nft::Native::default());
        let left = "nft list ruleset; cat /proc/thread-self/net/ip_tables_names 2>/dev/null || true";
        assert_eq!(sh(&format!("ip netns exec pod sh -c '{left}'")).trim(), "");

        sh(r#"ip netns exec pod iptables-nft -A INPUT -p udp --dport 53 -j DROP
            ip netns exec pod iptables-legacy -A OUTPUT -p udp --sport 53 -j DROP
            ip netns exec pod nft add table inet sidecar
            ip netns exec pod nft add chain inet sidecar in '{ type filter hook input priority 5; policy drop; }'
            ip netns exec pod nft add rule inet sidecar in udp dport 53 counter drop"#);
        let netfilter = collect::netfilter_inside(&pool, &namespace, LIMITS).await;
        assert_eq!(read(netfilter.iptables_nft).chain("filter", "INPUT").unwrap().rules.len(), 1);
        assert_eq!(read(netfilter.iptables_legacy).chain("filter", "OUTPUT").unwrap().rules.len(), 1);
        let native = read(netfilter.native);
        assert_eq!((native.tables.len(), native.iptables), (1, true));
        let chain = native.tables[0].chain("in").unwrap();
        assert_eq!(chain.rules[0].text, "udp dport 53 drop");
        assert_eq!(chain.base.as_ref().map(|b| (b.priority, b.drop)), Some((5, true)));
    });
}

#[test]
fn a_recorded_kube_proxy_table_is_read_back() {
    inside("a_recorded_kube_proxy_table_is_read_back", async || {
        let text = recordings().join("nftables/node2.nft-ruleset.txt");
        let text = std::fs::read_to_string(&text).unwrap_or_else(|e| panic!("{}: {e}", text.display()));
        // From `table ip kube-proxy` on; what stands before it was written by iptables.
        let ours =
            text.split_once("table ip kube-proxy {").map(|(_, rest)| format!("table ip kube-proxy {{{rest}")).unwrap();
        std::fs::write("/run/rules", ours).unwrap();
        sh("nft -f /run/rules");
        let recorded =
            nft::parse(&std::fs::read(recordings().join("nftables/node2.nft-ruleset.json")).unwrap()).unwrap();
        let pool = pool();
        let netfilter = collect::netfilter(&pool, LIMITS).await;
        assert_eq!(Some(read(netfilter.kube_proxy_nft)), recorded.kube_proxy);
        assert!(read(netfilter.other_base_chains).is_empty());

        // The recorded fault has no JSON: it is made from its text.
        let text = std::fs::read_to_string(recordings().join("faults/no-endpoints.nft-ruleset.txt")).unwrap();
        let ours =
            text.split_once("table ip kube-proxy {").map(|(_, rest)| format!("table ip kube-proxy {{{rest}")).unwrap();
        std::fs::write("/run/rules", ours).unwrap();
        sh("nft flush ruleset && nft -f /run/rules");
        let table = read(collect::netfilter(&pool, LIMITS).await.kube_proxy_nft);
        assert_eq!((table.service_ips.len(), table.no_endpoint_services.len()), (1, 3));
        assert!(table.no_endpoint_services.iter().all(|(.., verdict)| verdict == "reject-chain"));
    });
}

#[test]
fn sockets_counters_and_sysctls_are_those_of_the_namespace() {
    inside("sockets_counters_and_sysctls_are_those_of_the_namespace", async || {
        sh("ip netns add pod && ip -n pod link set lo up && ip netns exec pod sysctl -q net.ipv4.ip_forward=0
            sysctl -q net.ipv4.ip_forward=1");
        let pool = pool();
        let namespace = Netns::open(Path::new("/run/netns/pod")).unwrap();
        let (listener, tcp, sender) = pool
            .run(&namespace, || {
                let listener = UdpSocket::bind("127.0.0.1:53").unwrap();
                let tcp = std::net::TcpListener::bind("[::]:53").unwrap();
                (listener, tcp, UdpSocket::bind("127.0.0.1:0").unwrap())
            })
            .await
            .unwrap();
        // Nobody reads: the queue fills and what comes then is dropped.
        for _ in 0..2000 {
            sender.send_to(&[0; 1000], "127.0.0.1:53").unwrap();
        }
        let waiting = pool.run(&namespace, || std::net::TcpStream::connect("[::1]:53").unwrap()).await.unwrap();
        let sockets = read(collect::sockets(&pool, &namespace, LIMITS).await);
        let accept = sockets.tcp_on(53).next().unwrap();
        assert!(accept.ip.is_unspecified() && accept.rx_queue == 1 && accept.inode > 0, "{accept:?}");
        drop(waiting);
        let row = sockets.udp_on(53).next().unwrap();
        assert_eq!(row.ip, "127.0.0.1".parse::<IpAddr>().unwrap());
        assert!(row.rx_queue > 0 && row.drops > 0 && row.inode > 0, "{row:?}");
        assert_eq!(sockets.tcp_on(53).count(), 1);
        let at_home = read(collect::sockets(&pool, pool.home(), LIMITS).await);
        assert_eq!((at_home.udp_on(53).count(), at_home.tcp_on(53).count()), (0, 0));

        let counters = read(collect::counters(&pool, &namespace, LIMITS).await);
        assert_eq!(counters.get("Udp.RcvbufErrors"), Some(row.drops));
        assert!(counters.get("TcpExt.ListenDrops").is_some());
        let home = read(collect::counters(&pool, pool.home(), LIMITS).await);
        assert_eq!(home.get("Udp.RcvbufErrors"), Some(0));

        assert_eq!(read(collect::sysctls(&pool, &namespace, LIMITS).await).ip_forward, Some(0));
        assert_eq!(read(collect::sysctls(&pool, pool.home(), LIMITS).await).ip_forward, Some(1));
        let stat = collect::conntrack_stat(&pool, &namespace, LIMITS).await;
        assert!(matches!(&stat, Reading::Read(s) if s.0.contains_key("insert_failed")), "{stat:?}");
        drop((listener, tcp));
        let sockets = read(collect::sockets(&pool, &namespace, LIMITS).await);
        assert_eq!((sockets.udp_on(53).count(), sockets.tcp_on(53).count()), (0, 0));

        let gone = collect::sockets(&pool, &namespace, Limits { bytes: 10, ..LIMITS }).await;
        assert!(matches!(&gone, Reading::Failed(why) if why.contains("longer than 10 bytes")), "{gone:?}");
    });
}

#[test]
fn conntrack_says_where_packets_are_really_sent() {
    inside("conntrack_says_where_packets_are_really_sent", async || {
        sh("ip addr add 10.244.1.5/32 dev lo && ip addr add 10.96.0.10/32 dev lo
            iptables-nft -t nat -A OUTPUT -d 10.96.0.10/32 -p udp --dport 53 -j DNAT --to-destination 10.244.1.5:53");
        let pool = pool();
        let sender = UdpSocket::bind("10.244.1.5:5300").unwrap();
        let endpoint = UdpSocket::bind("10.244.1.5:53").unwrap();
        sender.send_to(b"?", "10.96.0.10:53").unwrap();
        let asked = "10.96.0.10:53".parse().unwrap();
        let flows = read(collect::flows_to(&pool, pool.home(), asked, LIMITS).await);
        assert_eq!(flows.len(), 1, "{flows:?}");
        assert_eq!(flows[0].original.source, "10.244.1.5:5300".parse().unwrap());
        assert_eq!((flows[0].reply.source, flows[0].replied), ("10.244.1.5:53".parse().unwrap(), false));
        let (_, from) = endpoint.recv_from(&mut [0; 8]).unwrap();
        endpoint.send_to(b"!", from).unwrap();
        let flows = read(collect::flows_to(&pool, pool.home(), asked, LIMITS).await);
        assert!(flows[0].replied, "{flows:?}");
        let none = read(collect::flows_to(&pool, pool.home(), "10.96.0.11:53".parse().unwrap(), LIMITS).await);
        assert!(none.is_empty());
    });
}
