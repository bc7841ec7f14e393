//! CPU of one sweep (100 namespaces, 3 servers, UDP) beside the floor: what the kernel alone costs, measured by
//! `bench/limit.c` in the same run against the same answering servers; then once more with the Service asked as well, from a
//! fresh source port and from the one that is kept.
//!
//! `cargo bench -p nameward-prober --features actor`. Runs as root or without privilege: it moves into private user,
//! network, mount and PID namespaces first. `SWEEPS` sets how many sweeps are measured (200).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nameward_config::{Also, Config};
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::sockets::LocalSockets;
use nameward_messages::namespaces::{Namespace, NamespaceChanged, NamespaceSource, Resolv};
use nameward_messages::probe::{Observation, Outcome, ProberTells};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::{DnsPod, DnsService, ServicePort, Targets, Transport};
use nameward_messages::{Now, ObjectKey, PodUid};
use nameward_prober::held::Held;
use nameward_prober::sweep::{Tools, shoot};
use nameward_prober::{Input, Memory, Output, ProberMind};

const NAMESPACES: usize = 100;
const SERVERS: [[u8; 4]; 3] = [[10, 77, 255, 1], [10, 77, 255, 2], [10, 77, 255, 3]];
/// The Service in the second measurement.
const SERVICE: [u8; 4] = [10, 77, 255, 4];
const INSIDE: &str = "NAMEWARD_BENCH_INSIDE";
const PREFIX: &str = "p";

fn main() {
    match std::env::var(INSIDE).as_deref() {
        Err(_) => outside(),
        Ok("serve") => serve(),
        Ok(_) => inside(),
    }
}

fn outside() {
    let limit = build_limit();
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    let setup = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec \"$0\"";
    let status = command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "bench")
        .env("LIMIT", limit)
        .status()
        .expect("unshare of util-linux is needed");
    assert!(status.success());
}

fn build_limit() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/bench/limit.c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("limit");
    let status = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(&source).status().expect("cc is needed");
    assert!(status.success(), "{} does not compile", source.display());
    program
}

fn sweeps() -> u32 {
    std::env::var("SWEEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn inside() {
    lay_out();
    let _servers = Servers::start();
    let floor = floor();
    let (ours, good, all) = self::ours(false);
    let floor_again = self::floor();
    let mean = f64::midpoint(floor, floor_again);
    println!("floor: {floor:.2} ms and {floor_again:.2} ms of CPU per sweep");
    println!("nameward: {ours:.2} ms of CPU per sweep ({good} of {all} probes answered)");
    println!("ratio: {:.2}", ours / mean);
    assert_eq!(good, all, "probes failed: the figures mean nothing");
    let (more, good, all) = self::ours(true);
    let exchanges = f64::from(u32::try_from(all).unwrap()) / f64::from(sweeps());
    let floor = mean / f64::from(u32::try_from(NAMESPACES * SERVERS.len()).unwrap());
    let each = more / exchanges;
    println!("with the Service, fresh, held and over TCP: {more:.2} ms of CPU per sweep of {exchanges:.0} exchanges");
    println!("per exchange: {:.1} us, floor {:.1} us, ratio: {:.2}", each * 1000.0, floor * 1000.0, each / floor);
    assert_eq!(good, all, "probes failed: the figures mean nothing");
}

/// Namespaces on a bridge, and the servers' addresses on it.
fn lay_out() {
    let mut lines = "link add br0 type bridge\naddr add 10.77.254.1/16 dev br0\nlink set br0 up\n".to_owned();
    for server in SERVERS.into_iter().chain([SERVICE]) {
        writeln!(lines, "addr add {}/16 dev br0", IpAddr::from(server)).unwrap();
    }
    for n in 1..=NAMESPACES {
        writeln!(lines, "netns add {PREFIX}{n}").unwrap();
        writeln!(lines, "link add h{n} type veth peer name eth0 netns {PREFIX}{n}").unwrap();
        writeln!(lines, "link set h{n} master br0 up").unwrap();
    }
    batch(&["-batch", "-"], &lines);
    for n in 1..=NAMESPACES {
        let name = format!("{PREFIX}{n}");
        batch(&["-n", &name, "-batch", "-"], &format!("addr add 10.77.0.{n}/16 dev eth0\nlink set eth0 up\n"));
    }
}

fn batch(args: &[&str], lines: &str) {
    use std::io::Write as _;
    let mut ip = Command::new("ip").args(args).stdin(Stdio::piped()).spawn().expect("ip of iproute2 is needed");
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

/// The answering servers, in a process of their own so that their CPU is not ours.
struct Servers(Child);

impl Servers {
    fn start() -> Self {
        let mut child =
            Command::new(std::env::current_exe().unwrap()).env(INSIDE, "serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve() {
    let ips = SERVERS.into_iter().chain([SERVICE]);
    let sockets: Vec<UdpSocket> = ips.map(|ip| UdpSocket::bind((IpAddr::from(ip), 53)).unwrap()).collect();
    println!("ready");
    let threads: Vec<_> = sockets.into_iter().map(|socket| std::thread::spawn(move || answer(&socket))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn answer(socket: &UdpSocket) {
    let mut buffer = [0u8; 512];
    // An answer whose name points at the question's, type A, class IN, time to live 5, 10.96.0.1.
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1];
    while let Ok((len, client)) = socket.recv_from(&mut buffer) {
        let end = len + record.len();
        if len < 12 || end > buffer.len() {
            continue;
        }
        buffer[2] |= 0x80;
        buffer[7] = 1;
        buffer[len..end].copy_from_slice(&record);
        let _ = socket.send_to(&buffer[..end], client);
    }
}

/// Milliseconds of CPU per sweep of `limit.c`.
fn floor() -> f64 {
    let servers = SERVERS.map(|ip| IpAddr::from(ip).to_string());
    let output = Command::new(std::env::var("LIMIT").unwrap())
        .args([&NAMESPACES.to_string(), &sweeps().to_string(), PREFIX])
        .args(servers)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let figure = text.split_once("cpu/sweep=").and_then(|(_, rest)| rest.split_once("ms")).expect("limit's output").0;
    figure.parse().unwrap()
}

/// Milliseconds of CPU per sweep of ours, decision included; how many probes were answered, and how many were sent.
/// `service`: the Service is asked as well, from a fresh source port and from a held one.
fn ours(service: bool) -> (f64, usize, usize) {
    let pool = EnterPool::new(1, 64).unwrap();
    let mut config = Config::default();
    config.probe.budget_per_pod = 1_000_000;
    // The floor asks one question of each server from each namespace; so do we.
    config.probe.also.retain(|also| service && *also == Also::Held);
    let mut mind = ProberMind::new(Arc::new(config), "node1".into(), 1, Memory::default());
    let mut out = Vec::new();
    let mut now = Now::at(Duration::from_secs(1));
    let given = NodeOrders { share_milli_qps: Some(u64::MAX), ..NodeOrders::default() };
    mind.step(now, Input::Orders(given), &mut out);
    for n in 1..=NAMESPACES {
        mind.step(now, Input::Namespace(NamespaceChanged::Found(namespace(&pool, n))), &mut out);
    }
    mind.step(now, Input::Targets(Arc::new(targets(service))), &mut out);

    let tools = Tools { sockets: Arc::new(LocalSockets::new(pool)), held: Held::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut good, mut all, mut done, mut began) = (0, 0, 0, Duration::ZERO);
    let warm_up = 5;
    while done < sweeps() + warm_up {
        if done == warm_up {
            (good, all, began) = (0, 0, cpu());
        }
        now = now + mind.deadline().unwrap().since(now.mono);
        mind.step(now, Input::Tick, &mut out);
        while let Some(output) = out.pop() {
            match output {
                Output::Run(job) => {
                    let (tools, id) = (tools.clone(), job.id);
                    let sweep = runtime.spawn(async move { shoot(&tools, job).await });
                    let observations = runtime.block_on(sweep).unwrap();
                    mind.step(now, Input::Done { job: id, observations }, &mut out);
                }
                Output::Tell(ProberTells::Round(round)) => {
                    done += 1;
                    all += round.observations.len();
                    // A Service is asked over TCP too, whether it says that it has the port or not: nobody listens there.
                    let answered =
                        |one: &&Observation| one.outcome == Outcome::Answered || one.path.transport == Transport::Tcp;
                    good += round.observations.iter().filter(answered).count();
                }
                Output::Tell(_) | Output::Close(_) => {}
            }
        }
    }
    ((cpu() - began).as_secs_f64() * 1000.0 / f64::from(sweeps()), good, all)
}

/// CPU time of every thread of this process.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let spent = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_default()
    };
    Duration::from_nanos(threads.filter_map(Result::ok).map(spent).sum())
}

fn namespace(pool: &EnterPool, n: usize) -> Namespace {
    let path = PathBuf::from(format!("/run/netns/{PREFIX}{n}"));
    let cookie = pool.cookie_blocking(&Netns::open(&path).unwrap()).unwrap();
    Namespace {
        pod: PodUid(format!("9c5e0f1a-0000-4000-8000-{n:012}")),
        key: ObjectKey::new("default", format!("workload-{n}")),
        cookie,
        path,
        ips: vec![format!("10.77.0.{n}").parse().unwrap()],
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv::default(),
        source: NamespaceSource::Folder,
    }
}

fn targets(service: bool) -> Targets {
    let pods = SERVERS.iter().enumerate().map(|(n, ip)| DnsPod {
        uid: PodUid(format!("1b6a7c3d-0000-4000-8000-{n:012}")),
        key: ObjectKey::new("kube-system", format!("coredns-74c7b86f9f-{n}")),
        node: Some("node2".into()),
        ips: vec![IpAddr::from(*ip)],
        udp_port: Some(53),
        tcp_port: None,
        ready: true,
        terminating: false,
    });
    let service = service.then(|| DnsService {
        key: ObjectKey::new("kube-system", "kube-dns"),
        cluster_ips: vec![IpAddr::from(SERVICE)],
        udp_port: Some(ServicePort { name: "dns".to_owned(), port: 53 }),
        tcp_port: None,
        internal_traffic_local: false,
    });
    Targets {
        service,
        pods: pods.collect(),
        cluster_domain: "cluster.local".to_owned(),
        kubernetes_service: vec![[10, 96, 0, 1].into()],
        ..Targets::default()
    }
}
