//! The prober's shell in real namespaces: probes come from where they say, and a namespace that vanishes is no failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nameward_config::{Also, Config, Period};
use nameward_kernel::enter::{EnterPool, Netns};
use nameward_kernel::sockets::LocalSockets;
use nameward_messages::health::ActorName;
use nameward_messages::namespaces::{Namespace, NamespaceChanged, NamespaceSource, Resolv, Vantage};
use nameward_messages::probe::{
    NotAsked, Outcome, PathKey, ProbeItem, ProbeRequest, ProberTells, Purpose, QuestionKind,
};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::{DnsPod, DnsService, ServicePort, Target, TargetKind, Targets, Transport};
use nameward_messages::{ObjectKey, PodUid, RequestId};
use nameward_prober::actor::{ProberActor, ProberMessage, Wiring};
use nameward_supervision::{Listener, RestartBudget, Supervisor, clock, inbox};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

const INSIDE: &str = "NAMEWARD_TEST_INSIDE";
const SERVER: [u8; 4] = [10, 244, 1, 1];

/// Runs this test again inside private namespaces, as root or without privilege; `true` inside.
fn enter(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    let setup = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec \"$0\" \"$@\"";
    let status = command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare of util-linux is needed");
    assert!(status.success(), "the test failed inside its namespaces");
    false
}

fn run(line: &str) {
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
}

/// A server on the bridge, and two pods' namespaces behind veth pairs.
fn lay_out() {
    // With an address of its own: else the bridge takes another one when a port goes, and the neighbours lose it.
    run(
        "ip link add cni0 address 02:00:00:00:00:01 type bridge; ip addr add 10.244.1.1/24 dev cni0; ip link set cni0 up",
    );
    for n in [2, 3] {
        run(&format!(
            "ip netns add pod{n}; ip link add veth{n} type veth peer name eth0 netns pod{n}; \
             ip link set veth{n} master cni0 up; ip -n pod{n} addr add 10.244.1.{n}/24 dev eth0; \
             ip -n pod{n} link set eth0 up"
        ));
    }
}

fn namespace(pool: &EnterPool, n: u8) -> Namespace {
    let path = PathBuf::from(format!("/run/netns/pod{n}"));
    let cookie = pool.cookie_blocking(&Netns::open(&path).unwrap()).unwrap();
    Namespace {
        pod: PodUid(format!("pod-{n}")),
        key: ObjectKey::new("default", format!("web-{n}")),
        cookie,
        path,
        ips: vec![[10, 244, 1, n].into()],
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv::default(),
        source: NamespaceSource::Folder,
    }
}

fn targets() -> Arc<Targets> {
    let pod = DnsPod {
        uid: "dns-1".into(),
        key: ObjectKey::new("kube-system", "coredns-1"),
        node: Some("node1".into()),
        ips: vec![SERVER.into()],
        udp_port: Some(53),
        tcp_port: None,
        ready: true,
        terminating: false,
    };
    Arc::new(Targets {
        // The server stands for the Service too, with no rules in between.
        service: Some(DnsService {
            key: ObjectKey::new("kube-system", "kube-dns"),
            cluster_ips: vec![SERVER.into()],
            udp_port: Some(ServicePort { name: "dns".to_owned(), port: 53 }),
            tcp_port: None,
            internal_traffic_local: false,
        }),
        pods: vec![pod],
        cluster_domain: "cluster.local".to_owned(),
        kubernetes_service: vec![[10, 96, 0, 1].into()],
        ..Targets::default()
    })
}

/// Answers every question of type A, and says who asked.
async fn serve(socket: UdpSocket, seen: tokio::sync::mpsc::UnboundedSender<SocketAddr>) {
    let mut buffer = [0; 512];
    while let Ok((len, client)) = socket.recv_from(&mut buffer).await {
        let mut reply = buffer[..len].to_vec();
        reply[2] |= 0x80;
        reply[7] = 1;
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1]);
        let _ = socket.send_to(&reply, client).await;
        let _ = seen.send(client);
    }
}

/// The same over TCP, which resolvers fall back to: every query gets a connection of its own.
async fn serve_tcp(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Ok(len) = stream.read_u16().await else { continue };
        let mut reply = vec![0; len.into()];
        if stream.read_exact(&mut reply).await.is_err() {
            continue;
        }
        reply[2] |= 0x80;
        reply[7] = 1;
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1]);
        let framed = [&u16::try_from(reply.len()).unwrap().to_be_bytes()[..], &reply].concat();
        let _ = stream.write_all(&framed).await;
    }
}

async fn next(tells: &mut UnboundedReceiver<ProberTells>) -> ProberTells {
    timeout(Duration::from_secs(20), tells.recv()).await.expect("the prober tells nothing").unwrap()
}

#[test]
fn rounds_requests_and_a_namespace_that_vanishes() {
    if !enter("rounds_requests_and_a_namespace_that_vanishes") {
        return;
    }
    lay_out();
    nameward_supervision::run(scenario).unwrap();
}

async fn scenario() {
    let pool = EnterPool::new(2, 16).unwrap();
    let namespaces = [namespace(&pool, 2), namespace(&pool, 3)];
    let (tell, mut tells) = unbounded_channel();
    let hears: Listener<ProberTells> = Arc::new(move |one| drop(tell.send(one)));
    let (seen, mut clients) = unbounded_channel();
    let server = tokio::spawn(serve(UdpSocket::bind((IpAddr::from(SERVER), 53)).await.unwrap(), seen));

    let by_tcp = tokio::spawn(serve_tcp(TcpListener::bind((IpAddr::from(SERVER), 53)).await.unwrap()));

    let mut config = Config::default();
    config.probe.interval = Period::secs(1);
    config.probe.also = vec![Also::Held];
    let wiring = Wiring::new("node1".into(), Arc::new(LocalSockets::new(pool)), vec![hears]);
    let (outlet, inbox) = inbox(ActorName::Prober, 64);
    let mut supervisor = Supervisor::new(RestartBudget::default());
    supervisor.start(inbox, move || ProberActor::new(&config, wiring.clone()));
    outlet.tell(ProberMessage::Orders(NodeOrders { share_milli_qps: Some(15_000), ..NodeOrders::default() }));
    for one in &namespaces {
        outlet.tell(ProberMessage::Namespace(NamespaceChanged::Found(one.clone())));
    }
    outlet.tell(ProberMessage::Targets(targets()));

    // A round from everywhere, and the server saw every vantage's own address.
    let ProberTells::Round(round) = next(&mut tells).await else { panic!("a round comes first") };
    assert_eq!(round.observations.len(), 12, "the pod, the Service by UDP and TCP, and from a held port, from each");
    assert!(round.observations.iter().all(|one| one.outcome == Outcome::Answered), "{round:?}");
    let mut first: Vec<SocketAddr> = Vec::new();
    while first.len() < 9 {
        first.push(clients.recv().await.unwrap());
    }
    let mut from: Vec<IpAddr> = first.iter().map(SocketAddr::ip).collect();
    from.sort_unstable();
    from.dedup();
    assert_eq!(from, [[10, 244, 1, 1], [10, 244, 1, 2], [10, 244, 1, 3]].map(IpAddr::from));

    // From each vantage one port is held from round to round; the others are fresh.
    let mut second: Vec<SocketAddr> = Vec::new();
    while second.len() < 9 {
        second.push(clients.recv().await.unwrap());
    }
    assert_eq!(second.iter().filter(|client| first.contains(client)).count(), 3, "{first:?} {second:?}");

    // A held port stays the same from request to request; the others are fresh.
    let vantage = |n: usize| Vantage::Pod {
        uid: namespaces[n].pod.clone(),
        key: namespaces[n].key.clone(),
        cookie: namespaces[n].cookie,
    };
    let key = ObjectKey::new("kube-system", "coredns-1");
    let kind = TargetKind::Pod { uid: "dns-1".into(), key, node: Some("node1".into()) };
    let target = Target { kind, ip: SERVER.into() };
    let item = |n, purpose| ProbeItem {
        path: PathKey {
            vantage: vantage(n),
            target: target.clone(),
            transport: Transport::Udp,
            question: QuestionKind::Internal,
        },
        port: 53,
        purpose,
    };
    let mut ports = Vec::new();
    for number in 0..2 {
        while clients.try_recv().is_ok() {}
        outlet.tell(ProberMessage::Request(ProbeRequest {
            id: RequestId(format!("held-{number}")),
            items: vec![item(0, Purpose::HeldPort), item(1, Purpose::Both), item(1, Purpose::Edns)],
            deadline: clock::now().mono + Duration::from_secs(5),
        }));
        let answer = loop {
            if let ProberTells::Answer(answer) = next(&mut tells).await {
                break answer;
            }
        };
        assert_eq!(answer.observations.len(), 3);
        let held = answer.observations.iter().find(|one| one.purpose == Purpose::HeldPort).unwrap();
        assert_eq!(held.outcome, Outcome::Answered);
        while let Ok(client) = clients.try_recv() {
            if client.ip() == IpAddr::from([10, 244, 1, 2]) {
                ports.push(client.port());
            }
        }
    }
    assert!(ports.iter().any(|port| ports.iter().filter(|other| *other == port).count() == 2), "{ports:?}");

    // A namespace vanishes without a word: that is no failure.
    run("ip netns del pod3");
    loop {
        let ProberTells::Round(round) = next(&mut tells).await else { panic!("only rounds are told") };
        let gone = Outcome::NotAsked { why: NotAsked::NamespaceGone };
        if round.observations.iter().any(|one| one.path.vantage == vantage(1) && one.outcome == gone) {
            break;
        }
    }
    outlet.tell(ProberMessage::Namespace(gone(&namespaces[1])));

    // The server dies: the remaining paths are suspected, each once.
    server.abort();
    by_tcp.abort();
    let mut suspected = Vec::new();
    while suspected.len() < 8 {
        match next(&mut tells).await {
            ProberTells::Suspected(one) => {
                assert!(one.observations.iter().filter(|o| o.outcome.good() == Some(false)).count() >= 3);
                assert_eq!(one.observations[0].outcome, Outcome::Refused { by: Some(SERVER.into()) }, "{one:?}");
                suspected.push(one.path.clone());
            }
            ProberTells::Round(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(suspected.iter().all(|path| path.vantage != vantage(1)));

    // And comes back.
    let (seen, _clients) = unbounded_channel();
    tokio::spawn(serve(UdpSocket::bind((IpAddr::from(SERVER), 53)).await.unwrap(), seen));
    let mut cleared = 0;
    while cleared < 6 {
        if let ProberTells::Cleared { recovered, .. } = next(&mut tells).await {
            assert!(recovered);
            cleared += 1;
        }
    }
    supervisor.drain(Duration::from_secs(5)).await;
}

fn gone(namespace: &Namespace) -> NamespaceChanged {
    NamespaceChanged::Gone { pod: namespace.pod.clone(), cookie: namespace.cookie }
}
