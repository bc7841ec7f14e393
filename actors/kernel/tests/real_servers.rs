//! The exchange against Debian's Knot, BIND and Unbound on the loopback of a private namespace, and against servers that
//! misbehave. A server that is not installed fails the test.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nameward_kernel::exchange::udp::Line;
use nameward_kernel::exchange::{Ask, Query, Talk, tcp, udp};
use nameward_kernel::sockets::open_one;
use nameward_messages::probe::{Expect, Outcome, QueryType, Question, QuestionKind};
use nameward_messages::targets::{Family, Transport};
use private::Server;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};

const PATIENCE: Duration = Duration::from_millis(700);
const INTERNAL: &str = "kubernetes.default.svc.cluster.local.";

fn query(name: &str, expect: Expect, edns: Option<u16>) -> (Arc<Query>, Arc<Expect>) {
    let question =
        Question { kind: QuestionKind::Internal, name: name.to_owned(), qtype: QueryType::A, expect: expect.clone() };
    (Arc::new(Query::new(&question, edns).unwrap()), Arc::new(expect))
}

fn ask(to: SocketAddr, name: &str, expect: Expect, edns: Option<u16>) -> Ask {
    let (query, expect) = query(name, expect, edns);
    Ask { to, query, expect, id: 0x4242 }
}

fn internal(to: SocketAddr) -> Ask {
    ask(to, INTERNAL, Expect::Addresses(vec![[10, 96, 0, 1].into()]), None)
}

fn family(to: SocketAddr) -> Family {
    Family::of(to.ip())
}

async fn over_udp(ask: &Ask) -> Talk {
    udp::exchange(open_one(Transport::Udp, family(ask.to)).unwrap(), ask, PATIENCE).await
}

async fn over_tcp(ask: &Ask) -> Talk {
    tcp::exchange(open_one(Transport::Tcp, family(ask.to)).unwrap(), ask, PATIENCE).await
}

fn lo(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

/// Asks until somebody listens there; ten seconds at most.
async fn ready(to: SocketAddr) {
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..200 {
        beat.tick().await;
        if over_udp(&ask(to, INTERNAL, Expect::AnyReply, None)).await.outcome == Outcome::Answered {
            return;
        }
    }
    panic!("no server at {to}");
}

fn zone() -> String {
    let mut zone = "$TTL 5\n@ IN SOA ns.cluster.local. root.cluster.local. 1 60 60 60 5\n@ IN NS ns\n\
                    ns IN A 127.0.0.1\nkubernetes.default.svc IN A 10.96.0.1\n\
                    alias IN CNAME kubernetes.default.svc\n"
        .to_owned();
    for last in 1..=100 {
        writeln!(zone, "big IN A 10.1.0.{last}").unwrap();
    }
    zone
}

fn knot(folder: &Path) -> Server {
    let path = folder.display();
    std::fs::write(folder.join("zone"), zone()).unwrap();
    let conf = format!(
        "server:\n  rundir: {path}\n  listen: [127.0.0.1@5301, ::1@5301]\ndatabase:\n  storage: {path}\n\
         zone:\n  - domain: cluster.local\n    file: {path}/zone\n    journal-content: none\n    zonefile-sync: -1\n"
    );
    std::fs::write(folder.join("conf"), conf).unwrap();
    Server::start("/usr/sbin/knotd", &["-c", &format!("{path}/conf")], folder)
}

fn bind(folder: &Path) -> Server {
    let path = folder.display();
    std::fs::write(folder.join("zone"), zone()).unwrap();
    let conf = format!(
        "options {{ directory \"{path}\"; pid-file none; listen-on port 5302 {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
         recursion no; allow-query {{ any; }}; session-keyfile \"{path}/key\"; dnssec-validation no; }};\ncontrols {{ }};\n\
         zone \"cluster.local\" {{ type primary; file \"{path}/zone\"; allow-query {{ none; }}; }};\n\
         zone \"open.example\" {{ type primary; file \"{path}/zone\"; }};\n"
    );
    std::fs::write(folder.join("conf"), conf).unwrap();
    Server::start("/usr/sbin/named", &["-g", "-n", "1", "-c", &format!("{path}/conf")], folder)
}

fn unbound(folder: &Path) -> Server {
    let conf = "server:\n  interface: 127.0.0.1@5303\n  access-control: 127.0.0.0/8 refuse\n  username: \"\"\n  chroot: \"\"\n\
                directory: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n";
    std::fs::write(folder.join("conf"), conf).unwrap();
    let path = folder.join("conf").display().to_string();
    Server::start("/usr/sbin/unbound", &["-d", "-c", &path], folder)
}

#[test]
fn servers_of_debian() {
    if !private::enter("servers_of_debian") {
        return;
    }
    runtime().block_on(async {
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir_in("/run").unwrap()).collect();
        let _servers = [knot(folders[0].path()), bind(folders[1].path()), unbound(folders[2].path())];
        let (knot, bind, unbound) = (lo(1, 5301), lo(1, 5302), lo(1, 5303));
        for server in [knot, bind, unbound] {
            ready(server).await;
        }
        let knot_v6: SocketAddr = "[::1]:5301".parse().unwrap();
        for to in [knot, knot_v6] {
            let talk = over_udp(&internal(to)).await;
            assert_eq!(talk.outcome, Outcome::Answered);
            assert!(talk.latency > Duration::ZERO && talk.latency < PATIENCE && talk.connect.is_none());
            let talk = over_tcp(&internal(to)).await;
            assert_eq!(talk.outcome, Outcome::Answered);
            assert!(talk.connect.is_some_and(|connect| connect <= talk.latency));
        }
        let alias = ask(knot, "alias.cluster.local.", Expect::Addresses(vec![[10, 96, 0, 1].into()]), None);
        assert_eq!(over_udp(&alias).await.outcome, Outcome::Answered);
        let missing = ask(knot, "missing.cluster.local.", Expect::SomeAddress, None);
        assert_eq!(over_udp(&missing).await.outcome, Outcome::Rcode { rcode: 3 });
        assert_eq!(over_tcp(&missing).await.outcome, Outcome::Rcode { rcode: 3 });
        let empty = ask(knot, "svc.cluster.local.", Expect::NoError, None);
        assert_eq!(over_udp(&empty).await.outcome, Outcome::Answered);
        let other = ask(knot, INTERNAL, Expect::Addresses(vec![[10, 96, 0, 9].into()]), None);
        let got = vec![IpAddr::from([10, 96, 0, 1])];
        assert_eq!(over_udp(&other).await.outcome, Outcome::WrongAnswer { got });

        let big = |edns| ask(knot, "big.cluster.local.", Expect::SomeAddress, edns);
        assert_eq!(over_udp(&big(None)).await.outcome, Outcome::Truncated);
        assert_eq!(over_udp(&big(Some(4096))).await.outcome, Outcome::Truncated, "Knot sends 1232 octets at most");
        assert_eq!(over_tcp(&big(None)).await.outcome, Outcome::Answered);

        for refusing in [bind, unbound] {
            assert_eq!(over_udp(&internal(refusing)).await.outcome, Outcome::Rcode { rcode: 5 }, "{refusing}");
            assert_eq!(over_tcp(&internal(refusing)).await.outcome, Outcome::Rcode { rcode: 5 }, "{refusing}");
        }
        let open = ask(bind, "big.open.example.", Expect::SomeAddress, None);
        assert_eq!(over_udp(&open).await.outcome, Outcome::Truncated);
    });
}

#[test]
fn nobody_and_misbehaving_servers() {
    if !private::enter("nobody_and_misbehaving_servers") {
        return;
    }
    runtime().block_on(async {
        nobody().await;
        routes().await;
        tcp_servers().await;
        udp_servers().await;
        one_socket_for_many().await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn nobody() {
    for to in [lo(1, 9), "[::1]:9".parse().unwrap()] {
        let talk = over_udp(&internal(to)).await;
        assert_eq!(talk.outcome, Outcome::Refused { by: Some(to.ip()) }, "the offender of the ICMP error");
        assert!(talk.latency < PATIENCE / 2, "it is known at once");
        let talk = over_tcp(&internal(to)).await;
        assert_eq!((talk.outcome, talk.connect), (Outcome::Refused { by: Some(to.ip()) }, None));
    }
}

/// What routing and netfilter of the own namespace say.
async fn routes() {
    private::run(
        "ip route add blackhole 198.51.100.1; ip route add prohibit 198.51.100.2; ip route add unreachable 198.51.100.3",
    );
    private::run("iptables -A OUTPUT -p udp --dport 5399 -j DROP");
    private::run("iptables -A OUTPUT -p udp --dport 5398 -j REJECT --reject-with icmp-admin-prohibited");
    let to = |last| SocketAddr::from(([198, 51, 100, last], 53));
    for ask in [internal(to(9)), internal(to(1)), internal(to(2))] {
        assert_eq!(over_udp(&ask).await.outcome, Outcome::NetworkUnreachable, "{}", ask.to);
        assert_eq!(over_tcp(&ask).await.outcome, Outcome::NetworkUnreachable, "{}", ask.to);
    }
    let plain = Outcome::HostUnreachable { by: None, icmp_type: None, icmp_code: None };
    assert_eq!(over_udp(&internal(to(3))).await.outcome, plain);
    assert_eq!(over_tcp(&internal(to(3))).await.outcome, plain);
    assert_eq!(over_udp(&internal(lo(1, 5399))).await.outcome, Outcome::NotPermitted);
    let prohibited =
        Outcome::HostUnreachable { by: Some([127, 0, 0, 1].into()), icmp_type: Some(3), icmp_code: Some(13) };
    assert_eq!(over_udp(&internal(lo(1, 5398))).await.outcome, prohibited);
}

async fn tcp_servers() {
    let hung = TcpListener::bind(lo(1, 0)).await.unwrap();
    let talk = over_tcp(&internal(hung.local_addr().unwrap())).await;
    assert_eq!(talk.outcome, Outcome::ConnectedOnly);
    assert!(talk.connect.is_some_and(|connect| connect < PATIENCE) && talk.latency >= PATIENCE);

    for reset in [false, true] {
        let closing = TcpListener::bind(lo(1, 0)).await.unwrap();
        let to = closing.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = closing.accept().await.unwrap();
            // Closing with data unread makes it a reset.
            if !reset {
                let _ = stream.read(&mut [0; 512]).await;
            }
        });
        let talk = over_tcp(&internal(to)).await;
        assert_eq!(talk.outcome, Outcome::Closed);
        assert!(talk.connect.is_some());
        server.await.unwrap();
    }
}

/// A right reply to a query's bytes.
fn right(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    // An answer whose name points at the question's, type A, class IN, time to live 5, 4 octets.
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1]);
    reply
}

async fn udp_servers() {
    // Silence.
    let silent = UdpSocket::bind(lo(1, 0)).await.unwrap();
    let talk = over_udp(&internal(silent.local_addr().unwrap())).await;
    assert_eq!(talk.outcome, Outcome::Timeout);
    assert!(talk.latency >= PATIENCE);

    // The right words from the wrong mouth.
    let (asked, other) = (UdpSocket::bind(lo(1, 0)).await.unwrap(), UdpSocket::bind(lo(2, 0)).await.unwrap());
    let (to, from) = (asked.local_addr().unwrap(), other.local_addr().unwrap());
    let also_right = tokio::spawn(async move {
        let mut buffer = [0; 512];
        for both in [false, true] {
            let (len, client) = asked.recv_from(&mut buffer).await.unwrap();
            other.send_to(&right(&buffer[..len]), client).await.unwrap();
            if both {
                asked.send_to(&right(&buffer[..len]), client).await.unwrap();
            }
        }
    });
    assert_eq!(over_udp(&internal(to)).await.outcome, Outcome::WrongSource { from });
    assert_eq!(over_udp(&internal(to)).await.outcome, Outcome::Answered, "a valid reply counts, whatever came before");
    also_right.await.unwrap();

    // Garbage first.
    let garbage = UdpSocket::bind(lo(1, 0)).await.unwrap();
    let to = garbage.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (len, client) = garbage.recv_from(&mut buffer).await.unwrap();
        let reply = right(&buffer[..len]);
        let mut other_id = reply.clone();
        other_id[0] ^= 0xff;
        for bytes in [&b""[..], b"x", &[0xff; 300], &reply[..reply.len() - 3], &other_id, &buffer[..len], &reply] {
            garbage.send_to(bytes, client).await.unwrap();
        }
    });
    assert_eq!(over_udp(&internal(to)).await.outcome, Outcome::Answered);
    server.await.unwrap();
}

async fn one_socket_for_many() {
    let server = UdpSocket::bind(lo(1, 0)).await.unwrap();
    let good = server.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((len, client)) = server.recv_from(&mut buffer).await {
            server.send_to(&right(&buffer[..len]), client).await.unwrap();
        }
    });
    let nobody = lo(1, 9);
    let refused = Outcome::Refused { by: Some(nobody.ip()) };
    let line = Line::new(open_one(Transport::Udp, Family::Ipv4).unwrap()).unwrap();
    let with_id = |id, to| Ask { id, ..internal(to) };
    // The error of one surfaces while the others are sent, and is blamed on that one alone.
    let asks = [with_id(1, nobody), with_id(2, good), with_id(3, nobody), with_id(4, good)];
    let outcomes: Vec<_> = line.exchange(&asks, PATIENCE).await.into_iter().map(|talk| talk.outcome).collect();
    assert_eq!(outcomes, [refused.clone(), Outcome::Answered, refused.clone(), Outcome::Answered]);
    // A held port after a refusal.
    for _ in 0..3 {
        let talks = line.exchange(&[with_id(5, nobody)], PATIENCE).await;
        assert_eq!(talks[0].outcome, refused);
        let talks = line.exchange(&[with_id(6, good)], PATIENCE).await;
        assert_eq!(talks[0].outcome, Outcome::Answered);
    }
    serving.abort();
}
