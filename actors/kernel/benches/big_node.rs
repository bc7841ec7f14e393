//! Reading and comparing kube-proxy's rules of a node with 5,000 Services and 20,000 endpoints, spelled as the recordings spell
//! them: time and peak memory, beside what it costs only to look at the bytes (lines of a text; JSON without keeping it).
//!
//! `cargo bench -p nameward-kernel --bench big_node`. No privilege, no programs, no clock but its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]
#![allow(unsafe_code)] // An allocator cannot be written without it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nameward_kernel::facts::{Netfilter, Reading};
use nameward_kernel::kubeproxy::{self, Expected, PathState, nft_service_chain, sep_chain, svc_chain};
use nameward_kernel::{iptables, nft};
use nameward_messages::ObjectKey;
use nameward_messages::targets::{DnsService, ServicePort, Transport};
use serde_json::{Value, json};

const SERVICES: u32 = 5_000;
const ENDPOINTS: u32 = 4;
const RUNS: usize = 7;
const DNS: &str = "10.96.0.10";

/// Counts what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a piece of work took: the best of several times, and the most memory beyond what was there before.
struct Cost {
    time: Duration,
    peak: usize,
    kept: usize,
}

fn cost<T>(work: impl Fn() -> T) -> Cost {
    let mut best = Cost { time: Duration::MAX, peak: 0, kept: 0 };
    for _ in 0..RUNS {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let begun = Instant::now();
        let result = std::hint::black_box(work());
        best.time = best.time.min(begun.elapsed());
        best.peak = PEAK.load(Ordering::Relaxed) - before;
        best.kept = LIVE.load(Ordering::Relaxed) - before;
        drop(result);
    }
    best
}

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures")
}

struct Other {
    key: ObjectKey,
    ip: Ipv4Addr,
    ends: Vec<SocketAddr>,
}

fn address(first: u8, number: u32) -> Ipv4Addr {
    let [_, a, b, c] = number.to_be_bytes();
    Ipv4Addr::new(10, first + a, b, c)
}

fn others() -> Vec<Other> {
    let end = |n| SocketAddr::from((address(128, n + 2), 8080));
    (0..SERVICES)
        .map(|n| Other {
            key: ObjectKey::new(format!("team-{}", n % 97), format!("service-{n}")),
            ip: address(97, n + 1),
            ends: (0..ENDPOINTS).map(|e| end(n * ENDPOINTS + e)).collect(),
        })
        .collect()
}

/// The recorded table nat with the others' rules put in where kube-proxy would put them.
fn iptables_dump(others: &[Other]) -> String {
    let text = std::fs::read_to_string(recordings().join("iptables/node1.iptables-save.txt")).unwrap();
    let (before, nat) = text.split_once("*nat\n").unwrap();
    let (mut declared, mut dispatch, mut rules) = (String::new(), String::new(), String::new());
    for Other { key, ip, ends } in others {
        let svc = svc_chain(key, "http", Transport::Tcp);
        let title = format!("{key}:http");
        let to_it = format!(r#"-d {ip}/32 -p tcp -m comment --comment "{title} cluster IP" -m tcp --dport 80"#);
        writeln!(declared, ":{svc} - [0:0]").unwrap();
        writeln!(dispatch, "[0:0] -A KUBE-SERVICES {to_it} -j {svc}").unwrap();
        writeln!(rules, "[0:0] -A {svc} ! -s 10.244.0.0/16 {to_it} -j KUBE-MARK-MASQ").unwrap();
        for (at, end) in ends.iter().enumerate() {
            let sep = sep_chain(key, "http", Transport::Tcp, *end);
            let chance = match ends.len() - at {
                1 => String::new(),
                left => format!(
                    " -m statistic --mode random --probability {:.10}",
                    1.0 / f64::from(u32::try_from(left).unwrap())
                ),
            };
            writeln!(declared, ":{sep} - [0:0]").unwrap();
            writeln!(rules, r#"[0:0] -A {svc} -m comment --comment "{title} -> {end}"{chance} -j {sep}"#).unwrap();
            writeln!(rules, r#"[0:0] -A {sep} -s {}/32 -m comment --comment "{title}" -j KUBE-MARK-MASQ"#, end.ip())
                .unwrap();
            writeln!(
                rules,
                r#"[0:0] -A {sep} -p tcp -m comment --comment "{title}" -m tcp -j DNAT --to-destination {end}"#
            )
            .unwrap();
        }
    }
    let first_rule = nat.find("\n[").unwrap() + 1;
    let (chains, own) = nat.split_at(first_rule);
    let own = own.replacen("COMMIT\n", &format!("{dispatch}{rules}COMMIT\n"), 1);
    format!("{before}*nat\n{chains}{declared}{own}")
}

/// The recorded table with the others' elements, chains and rules.
fn nft_dump(others: &[Other]) -> Vec<u8> {
    let mut dump: Value =
        serde_json::from_slice(&std::fs::read(recordings().join("nftables/node2.nft-ruleset.json")).unwrap()).unwrap();
    let list = dump["nftables"].as_array_mut().unwrap();
    list.retain(|o| o.as_object().unwrap().values().any(|b| b["table"] == "kube-proxy" || b["name"] == "kube-proxy"));
    list.retain(|o| o.as_object().unwrap().values().all(|b| b["family"] == "ip"));
    let template =
        list.iter().find(|o| o["rule"]["chain"].as_str().is_some_and(|c| c.contains("/tcp/dns-tcp"))).unwrap();
    let template = template.to_string();
    let (mut chains, mut rules) = (Vec::new(), Vec::new());
    for Other { key, ip, ends } in others {
        let chain = nft_service_chain(key, "http", Transport::Tcp);
        for object in list.iter_mut() {
            if object["map"]["name"] == "service-ips" {
                let element = json!([{"concat": [ip.to_string(), "tcp", 80]}, {"goto": {"target": chain}}]);
                object["map"]["elem"].as_array_mut().unwrap().push(element);
            } else if object["set"]["name"] == "cluster-ips" {
                object["set"]["elem"].as_array_mut().unwrap().push(ip.to_string().into());
            }
        }
        chains.push(json!({"chain": {"family": "ip", "table": "kube-proxy", "name": chain, "handle": 99}}));
        let mut rule: Value = serde_json::from_str(&template).unwrap();
        rule["rule"]["chain"] = chain.into();
        let to = ends.iter().enumerate().map(|(n, e)| json!([n, {"concat": [e.ip().to_string(), e.port()]}])).collect();
        for statement in rule["rule"]["expr"].as_array_mut().unwrap() {
            if let Some(set) = statement.pointer_mut("/dnat/addr/map/data/set") {
                *set = Value::Array(Vec::clone(&to));
            }
        }
        rules.push(rule);
    }
    let list = dump["nftables"].as_array_mut().unwrap();
    list.extend(chains);
    list.extend(rules);
    serde_json::to_vec(&dump).unwrap()
}

fn service() -> DnsService {
    let port = |name: &str| Some(ServicePort { name: name.to_owned(), port: 53 });
    DnsService {
        key: ObjectKey::new("kube-system", "kube-dns"),
        cluster_ips: vec![DNS.parse().unwrap()],
        udp_port: port("dns"),
        tcp_port: port("dns-tcp"),
        internal_traffic_local: false,
    }
}

fn compare(netfilter: &Netfilter, ends: [&str; 2]) {
    let list: Vec<SocketAddr> = ends.iter().map(|e| e.parse().unwrap()).collect();
    let expected = Expected { udp: list.clone(), tcp: list, tolerated: Vec::new() };
    let verdict = kubeproxy::judge(&service(), &expected, netfilter);
    assert_eq!((&verdict.udp, &verdict.tcp), (&PathState::Present, &PathState::Present));
}

fn line(what: &str, cost: &Cost, base: Option<&Cost>) {
    let mib = |bytes: usize| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let ratio = base.map_or_else(String::new, |b| format!("{:6.1}", cost.time.as_secs_f64() / b.time.as_secs_f64()));
    println!(
        "{what:58} {:8.1} ms {ratio:>6}  peak {:>6} MiB  kept {:>6} MiB",
        cost.time.as_secs_f64() * 1e3,
        mib(cost.peak),
        mib(cost.kept)
    );
}

fn main() {
    let others = others();
    let about: BTreeSet<IpAddr> = [DNS, "10.96.0.1"].iter().map(|ip| ip.parse().unwrap()).collect();
    let only = |iptables_nft| Netfilter {
        iptables_nft,
        kube_proxy_nft: Reading::NotPresent("there is no table ip kube-proxy".to_owned()),
        iptables_legacy: Reading::NotPresent("no legacy table is in use".to_owned()),
        other_base_chains: Reading::Read(Vec::new()),
        ..Netfilter::default()
    };

    let dump = iptables_dump(&others);
    println!("iptables-save: {} lines, {:.1} MiB", dump.lines().count(), dump.len() as f64 / f64::from(1 << 20));
    let base = cost(|| dump.lines().map(|l| l.split_ascii_whitespace().count()).sum::<usize>());
    line("  its lines split into words, and counted", &base, None);
    line("  parsed whole", &cost(|| iptables::parse(&dump).unwrap()), Some(&base));
    line(
        "  cut down to two Services, and parsed",
        &cost(|| iptables::parse_about(dump.as_bytes(), &about).unwrap()),
        Some(&base),
    );
    let whole = only(Reading::Read(iptables::parse(&dump).unwrap()));
    line(
        "  the whole compared with the API",
        &cost(|| compare(&whole, ["10.244.1.51:53", "10.244.1.53:53"])),
        Some(&base),
    );
    let cut = only(Reading::Read(iptables::parse_about(dump.as_bytes(), &about).unwrap()));
    line(
        "  what is left compared with the API",
        &cost(|| compare(&cut, ["10.244.1.51:53", "10.244.1.53:53"])),
        Some(&base),
    );

    let dump = nft_dump(&others);
    println!("nft -j list table ip kube-proxy: {:.1} MiB", dump.len() as f64 / f64::from(1 << 20));
    let base = cost(|| serde_json::from_slice::<serde::de::IgnoredAny>(&dump).unwrap());
    line("  read as JSON, nothing kept", &base, None);
    line("  read as serde_json::Value", &cost(|| serde_json::from_slice::<Value>(&dump).unwrap()), Some(&base));
    line("  parsed whole", &cost(|| nft::parse(&dump).unwrap()), Some(&base));
    line(
        "  parsed, two Services kept",
        &cost(|| nft::parse_parts([dump.as_slice()], Some(&about)).unwrap()),
        Some(&base),
    );
    let table = nft::parse_parts([dump.as_slice()], Some(&about)).unwrap().kube_proxy.unwrap();
    let cut = Netfilter { kube_proxy_nft: Reading::Read(table), ..only(Reading::NotPresent(String::new())) };
    line(
        "  what is left compared with the API",
        &cost(|| compare(&cut, ["10.244.1.56:53", "10.244.2.21:53"])),
        Some(&base),
    );
}
