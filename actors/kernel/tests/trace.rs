//! nftrace against the kernel: the very rule that drops our probe is named, and nothing is left.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nameward_kernel::collect::{self, Limits, TraceProbe};
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::facts::Reading;
use nameward_kernel::filter::Filters;
use nameward_kernel::trace::Followed;
use nameward_messages::probe::{Expect, QueryType, Question, QuestionKind};
use nameward_messages::targets::Transport;

const LIMITS: Limits = Limits { within: Duration::from_secs(20), bytes: 16 << 20 };

/// A pod behind a bridge asks for another one over a second bridge, so that its packets are forwarded.
const NETWORK: &str = "
    sysctl -q net.ipv4.ip_forward=1
    for n in 1 2; do
        ip netns add pod$n && ip link add br$n type bridge && ip link set br$n up && ip addr add 10.244.$n.1/24 dev br$n
        ip link add veth$n type veth peer name eth0 netns pod$n && ip link set veth$n master br$n up
        ip -n pod$n link set lo up && ip -n pod$n link set eth0 up && ip -n pod$n addr add 10.244.$n.5/24 dev eth0
        ip -n pod$n route add default via 10.244.$n.1
    done";

fn probe(to: &str, transport: Transport) -> TraceProbe {
    let name = "kubernetes.default.svc.cluster.local.".to_owned();
    let question = Question { kind: QuestionKind::Internal, name, qtype: QueryType::A, expect: Expect::AnyReply };
    TraceProbe { to: to.parse().unwrap(), transport, question }
}

struct Bench {
    pool: EnterPool,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { pool: EnterPool::new(2, 4).unwrap(), runtime }
    }

    fn trace(&self, from: &Netns, at: &Netns, probe: TraceProbe) -> Followed {
        match self.runtime.block_on(collect::trace(&self.pool, from, at, probe)) {
            Reading::Read(followed) => followed,
            other => panic!("{other:?}"),
        }
    }

    /// Where the trace ended, as the rules of the node that are read by other means spell it.
    fn spelled(&self, followed: &Followed) -> Option<String> {
        let read = self.runtime.block_on(collect::netfilter(&self.pool, LIMITS));
        let place = followed.dropped.as_ref()?.place(&Filters::of(&read))?;
        Some(place.to_string())
    }
}

fn ruleset() -> String {
    let line = "(nft list ruleset; iptables-legacy-save) | sed -e 's/packets [0-9]* bytes [0-9]*//' -e '/^[:#]/d'";
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_rule_that_drops_is_named_and_nothing_is_left() {
    if !private::enter("the_rule_that_drops_is_named_and_nothing_is_left") {
        return;
    }
    private::run(NETWORK);
    // A rule before it that matches something else, and one whose match no model of rules knows.
    private::run(
        "iptables-nft -A FORWARD -p udp --dport 5353 -j DROP
         iptables-nft -A FORWARD -p udp --dport 53 -m u32 --u32 '0>>22&0x3C@8>>16&0xFFFF=0x4e57' -j DROP
         nft 'add table inet firewall; add chain inet firewall in { type filter hook forward priority 10; }
              add rule inet firewall in tcp dport 53 meta length > 20 drop'",
    );
    let before = ruleset();
    let bench = Bench::new();
    let (pod, home) = (Netns::open(Path::new("/run/netns/pod1")).unwrap(), bench.pool.home().clone());

    let followed = bench.trace(&pod, &home, probe("10.244.2.5:53", Transport::Udp));
    let dropped = followed.dropped.clone().unwrap_or_else(|| panic!("{followed:?}"));
    assert_eq!((dropped.table.as_str(), dropped.chain.as_str(), dropped.position), ("filter", "FORWARD", Some((1, 2))));
    assert!(!dropped.answer && !followed.answered && !followed.more);
    let spelled = bench.spelled(&followed).unwrap();
    assert!(spelled.contains("chain FORWARD") && spelled.contains("u32"), "{spelled}");

    let followed = bench.trace(&pod, &home, probe("10.244.2.5:53", Transport::Tcp));
    let spelled = bench.spelled(&followed).unwrap();
    assert!(spelled.starts_with("table inet firewall, chain in:"), "{spelled}");

    // What meets no such rule is followed to its end, and its refusal too.
    let followed = bench.trace(&pod, &home, probe("10.244.2.5:54", Transport::Udp));
    assert!(followed.dropped.is_none() && followed.refused && followed.events > 0, "{followed:?}");
    assert_eq!(ruleset(), before);
}

#[test]
fn a_policy_and_a_pods_own_rules_are_named_too() {
    if !private::enter("a_policy_and_a_pods_own_rules_are_named_too") {
        return;
    }
    private::run(NETWORK);
    private::run(
        "iptables-nft -P FORWARD DROP && ip netns exec pod1 iptables-nft -A OUTPUT -p tcp --dport 53 -j REJECT",
    );
    let bench = Bench::new();
    let (pod, home) = (Netns::open(Path::new("/run/netns/pod1")).unwrap(), bench.pool.home().clone());

    let followed = bench.trace(&pod, &home, probe("10.244.2.5:53", Transport::Udp));
    assert_eq!(bench.spelled(&followed).unwrap(), "table filter, policy of chain FORWARD", "{followed:?}");

    let followed = bench.trace(&pod, &pod, probe("10.244.2.5:53", Transport::Tcp));
    let dropped = followed.dropped.clone().unwrap_or_else(|| panic!("{followed:?}"));
    assert_eq!((dropped.chain.as_str(), dropped.position), ("OUTPUT", Some((0, 1))));
    private::run("test -z \"$(ip netns exec pod1 nft list tables | grep nameward)\"");
}

#[test]
fn two_traces_do_not_disturb_one_another_and_the_table_goes_with_its_socket() {
    if !private::enter("two_traces_do_not_disturb_one_another_and_the_table_goes_with_its_socket") {
        return;
    }
    private::run(NETWORK);
    // Nobody answers: the trace lasts as long as it may.
    private::run("iptables-legacy -A FORWARD -p udp --dport 53 -j DROP");
    let bench = Bench::new();
    let (pod, home) = (Netns::open(Path::new("/run/netns/pod1")).unwrap(), bench.pool.home().clone());
    let before = ruleset();
    let one = || collect::trace(&bench.pool, &pod, &home, probe("10.244.2.5:53", Transport::Udp));
    let (first, second) = bench.runtime.block_on(async { tokio::join!(one(), one()) });
    let (read, failed) = if matches!(first, Reading::Read(_)) { (first, second) } else { (second, first) };
    // iptables-legacy's rules are not told of: the trace ends without a verdict.
    let Reading::Read(followed) = read else { panic!("{read:?}") };
    assert!(followed.dropped.is_none() && !followed.answered && !followed.refused, "{followed:?}");
    assert!(matches!(failed, Reading::NotPermitted(_)), "{failed:?}");
    assert_eq!(ruleset(), before);
}
