//! Every collector by itself: with nothing read before it, each says what it read, that it is not there, or that it may not.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nameward_kernel::collect::{self, Health, Limits, Reach, TraceProbe};
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::facts::Reading;
use nameward_kernel::rtnl;
use nameward_messages::probe::{Expect, QueryType, Question, QuestionKind};
use nameward_messages::targets::Transport;

mod private;

const LIMITS: Limits = Limits { within: Duration::from_secs(20), bytes: 16 << 20 };
/// Set in the process that has lost its capabilities.
const BARE: &str = "NAMEWARD_TEST_BARE";
const SOMEBODY: &str = "10.96.0.10:53";

/// What became of a reading, in a word.
fn word<T>(reading: &Reading<T>) -> &'static str {
    match reading {
        Reading::NotRead => "not read",
        Reading::Read(_) => "read",
        Reading::NotPresent(why) | Reading::NotPermitted(why) | Reading::Failed(why) if why.is_empty() => "no reason",
        Reading::NotPresent(_) => "not present",
        Reading::NotPermitted(_) => "not permitted",
        Reading::Failed(_) => "failed",
    }
}

/// Runs every collector, one after another, each with threads of its own.
async fn all(at: &Path) -> Vec<(&'static str, &'static str)> {
    let pool = || EnterPool::new(1, 4).unwrap();
    let there = || Netns::open(at).unwrap();
    let to: SocketAddr = SOMEBODY.parse().unwrap();
    let mut said = vec![
        ("links, addresses, routes, neighbours", word(&rtnl::topology(&pool(), &there(), LIMITS.within).await)),
        ("addresses alone", word(&rtnl::identity(&pool(), &there(), LIMITS.within).await)),
        ("programs on links", word(&rtnl::programs(&pool(), &there(), LIMITS.within).await)),
        ("sockets", word(&collect::sockets(&pool(), &there(), LIMITS).await)),
        ("sockets on a port", word(&collect::sockets_on(&pool(), &there(), 53, LIMITS).await)),
        ("counters", word(&collect::counters(&pool(), &there(), LIMITS).await)),
        ("sysctls", word(&collect::sysctls(&pool(), &there(), LIMITS).await)),
        ("conntrack's counters", word(&collect::conntrack_stat(&pool(), &there(), LIMITS).await)),
        ("conntrack's entries", word(&collect::flows_to(&pool(), &there(), to, LIMITS).await)),
        ("conntrack's entries, grouped", word(&collect::flow_groups(&pool(), &there(), vec![to], LIMITS).await)),
        ("the neighbour table's counters", word(&collect::neighbour_stat(&pool(), &there(), LIMITS).await)),
        ("the lock of xtables", word(&collect::xtables_lock(LIMITS).await)),
        ("a cgroup", word(&collect::cgroup("/run/no-cgroups".into(), "9c5e0f1a".into(), LIMITS).await)),
    ];
    let inside = collect::netfilter_inside(&pool(), &there(), LIMITS).await;
    said.push(("iptables-nft inside", word(&inside.iptables_nft)));
    said.push(("iptables-legacy inside", word(&inside.iptables_legacy)));
    said.push(("nftables inside", word(&inside.native)));
    let node = collect::netfilter(&pool(), LIMITS).await;
    said.push(("iptables-nft", word(&node.iptables_nft)));
    said.push(("iptables-legacy", word(&node.iptables_legacy)));
    said.push(("nftables", word(&node.native)));
    said.push(("kube-proxy's nftables", word(&node.kube_proxy_nft)));
    let question = Question {
        kind: QuestionKind::Internal,
        name: "kubernetes.default.svc.cluster.local.".to_owned(),
        qtype: QueryType::A,
        expect: Expect::SomeAddress,
    };
    let probe = TraceProbe { to, transport: Transport::Udp, question };
    said.push(("a trace", word(&collect::trace(&pool(), &there(), &there(), probe).await)));
    said
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// What the packet filters of both namespaces hold, and which legacy tables are there.
fn filters() -> String {
    let line =
        "for at in '' 'ip netns exec pod'; do $at nft list ruleset; $at cat /proc/self/net/ip_tables_names; done";
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new("sh").args(["-ec", line]).env("PATH", path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn pod() -> &'static Path {
    private::run("ip netns add pod && ip -n pod link set lo up && ip -n pod addr add 10.96.0.10/32 dev lo");
    Path::new("/run/netns/pod")
}

#[test]
fn each_reads_or_says_that_it_is_not_there_and_leaves_nothing() {
    if !private::enter("each_reads_or_says_that_it_is_not_there_and_leaves_nothing") {
        return;
    }
    let pod = pod();
    let before = filters();
    let said = block_on(all(pod));
    for (what, word) in &said {
        assert!(matches!(*word, "read" | "not present"), "{what}: {word}\n{said:?}");
    }
    let absent: Vec<&str> = said.iter().filter(|(_, word)| *word == "not present").map(|(what, _)| *what).collect();
    for what in ["the lock of xtables", "a cgroup", "iptables-legacy", "kube-proxy's nftables", "iptables-nft inside"] {
        assert!(absent.contains(&what), "{what}\n{said:?}");
    }
    assert_eq!(filters(), before, "reading made something");
}

#[test]
fn each_says_that_it_may_not() {
    const TEST: &str = "each_says_that_it_may_not";
    if std::env::var_os(BARE).is_none() {
        if private::enter(TEST) {
            pod();
            let status = Command::new("setpriv")
                .args(["--bounding-set=-all", "--inh-caps=-all"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
                .env(BARE, "1")
                .status()
                .expect("setpriv of util-linux is needed");
            assert!(status.success(), "the test failed without capabilities");
        }
        return;
    }
    let said = block_on(all(Path::new("/run/netns/pod")));
    for (what, word) in &said {
        let expected = match *what {
            // Plain files, which need no capability.
            "the lock of xtables" | "a cgroup" => "not present",
            // No legacy table is in use, which the kernel tells everybody.
            "iptables-legacy" => "not present",
            _ => "not permitted",
        };
        assert_eq!(*word, expected, "{what}\n{said:?}");
    }
    // Two are answers by themselves.
    let pool = EnterPool::new(1, 4).unwrap();
    let there = Netns::open(Path::new("/run/netns/pod")).unwrap();
    let reach = block_on(collect::reach(&pool, &there, SOMEBODY.parse().unwrap(), Duration::from_secs(1)));
    assert!(matches!(&reach, Reach::NotTried { why } if why.contains("not permitted")), "{reach:?}");
    let health = block_on(collect::health(&pool, "127.0.0.1:1".parse().unwrap(), Duration::from_secs(1)));
    assert_eq!(health, Health::Refused);
}
