//! The DNS server, asked over plain sockets.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use nameward_simulations::dns::{Command, DnsControl, Options};
use nameward_simulations::lab::{Lab, LabSpec, Netns, PodSpec, Private};
use nix::sys::signal::Signal;

pub const KUBERNETES: &str = "kubernetes.default.svc.cluster.local.";

/// Longer than any delay in these tests, except where a time-out is expected.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Answered {
        code: ResponseCode,
        addresses: Vec<IpAddr>,
        truncated: bool,
    },
    /// Bytes that are no DNS message.
    Garbage,
    Failed(io::ErrorKind),
}

impl Asked {
    pub fn ip(ip: &str) -> Self {
        Self::Answered { code: ResponseCode::NoError, addresses: vec![ip.parse().unwrap()], truncated: false }
    }

    pub fn code(code: ResponseCode) -> Self {
        Self::Answered { code, addresses: vec![], truncated: false }
    }
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn parse(bytes: &[u8]) -> Asked {
    match Message::from_vec(bytes) {
        Ok(message) => Asked::Answered {
            code: message.metadata.response_code,
            truncated: message.metadata.truncation,
            addresses: message
                .answers
                .iter()
                .filter_map(|r| match &r.data {
                    RData::A(a) => Some(IpAddr::V4(a.0)),
                    _ => None,
                })
                .collect(),
        },
        Err(_) => Asked::Garbage,
    }
}

/// A blocking socket reports its time-out as `WouldBlock`.
fn failed(error: &io::Error) -> Asked {
    Asked::Failed(match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut,
        other => other,
    })
}

/// From a connected socket, so that a refusal is an error.
pub fn ask_udp(from: &Netns, server: SocketAddr, name: &str, patience: Duration) -> Asked {
    let ask = || -> io::Result<Asked> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(patience))?;
        socket.connect(server)?;
        socket.send(&query(name))?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer)?;
        Ok(parse(&buffer[..length]))
    };
    from.enter(ask).unwrap().unwrap_or_else(|e| failed(&e))
}

pub fn ask_tcp(from: &Netns, server: SocketAddr, name: &str, patience: Duration) -> Asked {
    let ask = || -> io::Result<Asked> {
        let mut stream = TcpStream::connect_timeout(&server, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let bytes = query(name);
        stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())?;
        stream.write_all(&bytes)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply)?;
        Ok(parse(&reply))
    };
    from.enter(ask).unwrap().unwrap_or_else(|e| failed(&e))
}

/// CoreDNS and the upstream server in one namespace each.
fn servers(private: Private) -> (Lab, DnsControl, DnsControl) {
    let mut lab = Lab::build(private, LabSpec { nodes: 1, ..LabSpec::default() }).unwrap();
    lab.add_pods([
        PodSpec::coredns("node1", "coredns", "uid-coredns"),
        PodSpec::client("node1", "default", "client", "uid-client"),
    ])
    .unwrap();
    let upstream = DnsControl::start(lab.control(), &Options::upstream()).unwrap();
    let coredns = DnsControl::start(&lab.pod("kube-system/coredns").unwrap().netns, &Options::coredns()).unwrap();
    (lab, coredns, upstream)
}

/// How long is waited for an answer that must not come.
const SHORT: Duration = Duration::from_millis(300);

struct Client<'a> {
    netns: &'a Netns,
    server: SocketAddr,
}

impl<'a> Client<'a> {
    fn new(lab: &'a Lab) -> Self {
        let netns = lab.netns("default/client").unwrap();
        Self { netns, server: (lab.pod("kube-system/coredns").unwrap().address, 53).into() }
    }

    fn udp(&self, name: &str) -> Asked {
        ask_udp(self.netns, self.server, name, PATIENCE)
    }

    fn tcp(&self, name: &str) -> Asked {
        ask_tcp(self.netns, self.server, name, PATIENCE)
    }

    fn udp_in_vain(&self) -> Asked {
        ask_udp(self.netns, self.server, KUBERNETES, SHORT)
    }

    fn get(&self, port: u16, path: &str) -> String {
        let server = SocketAddr::new(self.server.ip(), port);
        let fetch = || -> io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        self.netns.enter(fetch).unwrap().unwrap()
    }
}

fn tell(server: &mut DnsControl, command: &str) {
    server.tell(&command.parse().unwrap()).unwrap();
}

pub fn answers_and_forwards(private: Private) {
    let (lab, mut coredns, mut upstream) = servers(private);
    let client = Client::new(&lab);
    assert_eq!(client.udp(KUBERNETES), Asked::ip("10.96.0.1"));
    assert_eq!(client.tcp(KUBERNETES), Asked::ip("10.96.0.1"));
    assert_eq!(client.udp("kube-dns.kube-system.svc.cluster.local."), Asked::ip("10.96.0.10"));
    assert_eq!(client.udp("KUBERNETES.default.svc.Cluster.Local."), Asked::ip("10.96.0.1"));
    assert_eq!(client.udp("nothing.default.svc.cluster.local."), Asked::code(ResponseCode::NXDomain));
    assert_eq!(client.udp("default.svc.cluster.local."), Asked::code(ResponseCode::NoError), "a name between");
    assert_eq!(client.udp("example.org."), Asked::ip("192.0.2.1"), "forwarded");
    assert_eq!(client.udp("example.invalid."), Asked::code(ResponseCode::NXDomain), "forwarded");
    tell(&mut coredns, "record web.shop.svc.cluster.local. 10.96.7.7");
    assert_eq!(client.udp("web.shop.svc.cluster.local."), Asked::ip("10.96.7.7"));
    // The upstream server is gone: the kernel refuses; then it is silent.
    upstream.kill().unwrap();
    assert_eq!(client.udp("example.org."), Asked::code(ResponseCode::ServFail));
    assert_eq!(client.udp(KUBERNETES), Asked::ip("10.96.0.1"), "its own names are not touched");
    let mut upstream = DnsControl::start(lab.control(), &Options::upstream()).unwrap();
    tell(&mut upstream, "udp drop");
    assert_eq!(client.udp("example.org."), Asked::code(ResponseCode::ServFail));
    tell(&mut upstream, "ok");
    assert_eq!(client.udp("example.org."), Asked::ip("192.0.2.1"));
    let metrics = client.get(9153, "/metrics");
    assert!(metrics.contains("proto=\"udp\"") && metrics.contains("rcode=\"SERVFAIL\""), "{metrics}");
}

/// Rows of `/proc/net/udp6` with local port 53: inode and whether something waits to be read.
fn udp_rows(netns: &Netns) -> Vec<(String, bool)> {
    let text = netns.enter(|| std::fs::read_to_string("/proc/thread-self/net/udp6").unwrap()).unwrap();
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1)?.ends_with(":0035")).then(|| (words[9].to_owned(), !words[4].ends_with(":00000000")))
    });
    rows.collect()
}

pub fn sockets_fail_as_told(private: Private) {
    let (lab, mut coredns, _upstream) = servers(private);
    let client = Client::new(&lab);
    let pod = lab.netns("kube-system/coredns").unwrap();
    let good = Asked::ip("10.96.0.1");
    let others_well = |client: &Client<'_>| {
        assert_eq!(client.tcp(KUBERNETES), good, "TCP answers");
        assert!(client.get(8080, "/health").starts_with("HTTP/1.1 200"), "/health answers");
        assert!(client.get(8181, "/ready").starts_with("HTTP/1.1 200"), "/ready answers");
    };
    assert_eq!(udp_rows(pod).len(), 1);
    for _ in 0..2 {
        tell(&mut coredns, "udp close");
        assert_eq!(client.udp(KUBERNETES), Asked::Failed(io::ErrorKind::ConnectionRefused), "the kernel refuses");
        assert_eq!(udp_rows(pod), [], "no socket");
        others_well(&client);
        tell(&mut coredns, "udp open");
        assert_eq!(client.udp(KUBERNETES), good);

        let before = udp_rows(pod);
        tell(&mut coredns, "udp stuck");
        assert_eq!(client.udp_in_vain(), Asked::Failed(io::ErrorKind::TimedOut));
        let stuck = udp_rows(pod);
        assert_eq!((stuck.len(), &stuck[0].0), (1, &before[0].0), "the same socket");
        assert!(stuck[0].1, "what arrives waits in it");
        others_well(&client);
        tell(&mut coredns, "ok");
        assert_eq!(client.udp(KUBERNETES), good);

        tell(&mut coredns, "udp drop");
        assert_eq!(client.udp_in_vain(), Asked::Failed(io::ErrorKind::TimedOut));
        assert!(!udp_rows(pod)[0].1, "it is read");
        others_well(&client);
        tell(&mut coredns, "udp open");
        assert_eq!(client.udp(KUBERNETES), good);
    }
    tell(&mut coredns, "tcp close");
    assert_eq!(client.tcp(KUBERNETES), Asked::Failed(io::ErrorKind::ConnectionRefused));
    assert_eq!(client.udp(KUBERNETES), good);
    tell(&mut coredns, "tcp open");
    assert_eq!(client.tcp(KUBERNETES), good);
}

pub fn answers_fail_as_told(private: Private) {
    let (lab, mut coredns, _upstream) = servers(private);
    let client = Client::new(&lab);
    let good = Asked::ip("10.96.0.1");
    for (command, code) in
        [("servfail", ResponseCode::ServFail), ("refuse", ResponseCode::Refused), ("nxdomain", ResponseCode::NXDomain)]
    {
        tell(&mut coredns, command);
        assert_eq!(client.udp(KUBERNETES), Asked::code(code));
        assert_eq!(client.tcp("example.org."), Asked::code(code));
        tell(&mut coredns, "ok");
        assert_eq!(client.udp(KUBERNETES), good);
    }
    tell(&mut coredns, "wrong 203.0.113.9");
    assert_eq!(client.udp(KUBERNETES), Asked::ip("203.0.113.9"));
    assert_eq!(client.tcp(KUBERNETES), Asked::ip("203.0.113.9"));
    tell(&mut coredns, "ok");
    tell(&mut coredns, "truncate");
    let cut = Asked::Answered { code: ResponseCode::NoError, addresses: vec![], truncated: true };
    assert_eq!(client.udp(KUBERNETES), cut);
    assert_eq!(client.tcp(KUBERNETES), good);
    tell(&mut coredns, "ok");
    tell(&mut coredns, "garbage");
    assert_eq!(client.udp(KUBERNETES), Asked::Garbage);
    assert_eq!(client.tcp(KUBERNETES), good);
    tell(&mut coredns, "ok");
    tell(&mut coredns, "delay 400");
    let before = Instant::now();
    assert_eq!(client.udp(KUBERNETES), good);
    assert!(before.elapsed() >= Duration::from_millis(400));
    assert_eq!(client.udp_in_vain(), Asked::Failed(io::ErrorKind::TimedOut));
    tell(&mut coredns, "ok");
    tell(&mut coredns, "health 503");
    tell(&mut coredns, "ready 503");
    assert!(client.get(8080, "/health").starts_with("HTTP/1.1 503"));
    assert!(client.get(8181, "/ready").starts_with("HTTP/1.1 503"));
    assert!(coredns.tell(&Command::UdpOpen).is_ok());
}

pub fn hangs_and_exits(private: Private) {
    let (lab, mut coredns, _upstream) = servers(private);
    let client = Client::new(&lab);
    coredns.signal(Signal::SIGSTOP).unwrap();
    assert_eq!(client.udp_in_vain(), Asked::Failed(io::ErrorKind::TimedOut));
    // The kernel still completes the handshake; nobody answers.
    assert_eq!(ask_tcp(client.netns, client.server, KUBERNETES, SHORT), Asked::Failed(io::ErrorKind::TimedOut));
    coredns.signal(Signal::SIGCONT).unwrap();
    assert_eq!(client.udp(KUBERNETES), Asked::ip("10.96.0.1"));
    tell(&mut coredns, "exit 7");
    let code = loop {
        if let Some(status) = coredns.ended().unwrap() {
            break status.code();
        }
        std::thread::yield_now();
    };
    assert_eq!(code, Some(7));
    assert_eq!(client.udp(KUBERNETES), Asked::Failed(io::ErrorKind::ConnectionRefused));
    assert!(coredns.tell(&Command::Ok).is_err(), "a server that has ended does not listen");
}
