//! The request handler: faults first, then the zone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::Role;
use super::command::{Aaaa, Code, Command};
use super::process::Process;
use super::zone::{self, Answer};

/// What is wrong with the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub udp_drop: bool,
    pub delay: Option<Duration>,
    pub code: Option<Code>,
    pub wrong: Option<IpAddr>,
    pub truncate: bool,
    pub garbage: bool,
    pub instead: BTreeMap<String, IpAddr>,
    pub wildcard: Option<IpAddr>,
    pub zone: Option<String>,
    pub aaaa: Option<Aaaa>,
    pub bufsize: Option<u16>,
    pub forgotten: BTreeSet<String>,
    pub no_reverse: bool,
    pub large: BTreeMap<String, u16>,
    pub forward: Vec<IpAddr>,
}

/// What handlers, listeners and the HTTP side share.
#[derive(Debug)]
pub(super) struct Shared {
    role: Mutex<Role>,
    faults: Mutex<Faults>,
    /// A second descriptor of the UDP socket, for what is no DNS message.
    pub udp: Mutex<Option<Arc<UdpSocket>>>,
    pub health: AtomicU16,
    pub ready: AtomicU16,
    pub counts: Counts,
    pub process: Process,
    /// Queries forwarded, for upstreams that are asked in turn.
    turn: AtomicUsize,
}

fn response(code: Code) -> ResponseCode {
    match code {
        Code::ServFail => ResponseCode::ServFail,
        Code::Refused => ResponseCode::Refused,
        Code::NxDomain => ResponseCode::NXDomain,
    }
}

/// What `/metrics` tells.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub udp: AtomicU64,
    pub tcp: AtomicU64,
    pub responses: Mutex<BTreeMap<String, u64>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-changed under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role: Mutex::new(role),
            faults: Mutex::default(),
            udp: Mutex::default(),
            health: AtomicU16::new(200),
            ready: AtomicU16::new(200),
            counts: Counts::default(),
            process: Process::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Takes in what is not about sockets.
    pub(super) fn obey(&self, command: &Command) {
        let mut faults = lock(&self.faults);
        match command {
            Command::Ok => {
                *faults = Faults::default();
                self.process.heal();
                self.health.store(200, Ordering::Relaxed);
                self.ready.store(200, Ordering::Relaxed);
            }
            Command::UdpDrop => faults.udp_drop = true,
            Command::UdpOpen => faults.udp_drop = false,
            Command::Delay(ms) => faults.delay = Some(Duration::from_millis(*ms)),
            Command::Code(code) => faults.code = Some(*code),
            Command::Wrong(ip) => faults.wrong = Some(*ip),
            Command::Truncate => faults.truncate = true,
            Command::Garbage => faults.garbage = true,
            Command::Instead(name, ip) => {
                faults.instead.insert(name.clone(), *ip);
            }
            Command::Wildcard(ip) => faults.wildcard = Some(*ip),
            Command::Zone(name) => faults.zone = Some(name.clone()),
            Command::Aaaa(what) => faults.aaaa = Some(*what),
            Command::Forget(name) => {
                faults.forgotten.insert(name.clone());
            }
            Command::NoReverse => faults.no_reverse = true,
            Command::BufSize(octets) => faults.bufsize = Some(*octets),
            Command::Large(name, count) => {
                faults.large.insert(name.clone(), *count);
            }
            Command::Forward(servers) => faults.forward.clone_from(servers),
            Command::Process(fault) => self.process.obey(*fault),
            Command::Health(code) => self.health.store(*code, Ordering::Relaxed),
            Command::Ready(code) => self.ready.store(*code, Ordering::Relaxed),
            Command::Record(name, ip) => {
                if let Role::Cluster { records, .. } = &mut *lock(&self.role) {
                    let addresses = records.entry(name.to_lowercase()).or_default();
                    if !addresses.contains(ip) {
                        addresses.push(*ip);
                    }
                }
            }
            Command::UdpClose | Command::UdpStuck | Command::TcpClose | Command::TcpOpen | Command::Exit(_) => {}
        }
    }

    async fn answer(&self, faults: &Faults, request: &Request) -> Answer {
        let Ok(info) = request.request_info() else { return Answer::code(ResponseCode::FormErr) };
        let (name, kind) = (info.query.original().name().clone(), info.query.query_type());
        if let Some(code) = faults.code {
            return Answer::code(response(code));
        }
        if let (Some(Aaaa::Code(code)), RecordType::AAAA) = (faults.aaaa, kind) {
            return Answer::code(response(code));
        }
        let text = name.to_ascii().to_lowercase();
        if let Some(ip) = faults.wrong.or(faults.instead.get(&text).copied()) {
            return Answer::addresses(&name, kind, &[ip]);
        }
        if faults.forgotten.contains(&text) {
            return zone::missing();
        }
        if let Some(count) = faults.large.get(&text) {
            // Documentation's addresses, RFC 5737 and RFC 2544.
            let ip = |n: u16| IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + u32::from(n)));
            return Answer::addresses(&name, kind, &(0..*count).map(ip).collect::<Vec<_>>());
        }
        let (ours, upstream) = match &*lock(&self.role) {
            Role::Cluster { records, upstream } => {
                let falls_through = faults.no_reverse && kind == RecordType::PTR;
                let served = || zone::served(faults.zone.as_deref(), records, &name, kind);
                let mut ours = if falls_through { None } else { served() };
                if let (Some(ip), Some(ResponseCode::NXDomain)) = (faults.wildcard, ours.as_ref().map(|a| a.code)) {
                    ours = Some(Answer::addresses(&name, kind, &[ip]));
                }
                (ours, Some(self.next_upstream(faults, *upstream)))
            }
            Role::Upstream { answer } => (Some(zone::internet(IpAddr::V4(*answer), &name, kind)), None),
        };
        match (ours, upstream) {
            (Some(_), Some(_)) if self.process.unsynced() => Answer::code(ResponseCode::ServFail),
            (None, Some(_)) if self.process.rejects() => Answer::code(ResponseCode::Refused),
            (Some(answer), _) => answer,
            (None, Some(upstream)) => zone::forward(upstream, request.as_slice()).await,
            (None, None) => Answer::code(ResponseCode::Refused),
        }
    }

    fn next_upstream(&self, faults: &Faults, usual: SocketAddr) -> SocketAddr {
        let count = faults.forward.len().max(1);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        faults.forward.get(turn).map_or(usual, |ip| SocketAddr::new(*ip, usual.port()))
    }

    /// Bytes behind the query's id that are no DNS message: 65535 of everything, and then the end.
    fn send_garbage(&self, request: &Request) {
        let mut bytes = request.as_slice().get(..2).unwrap_or_default().to_vec();
        bytes.extend([0xff; 21]);
        if let Some(socket) = &*lock(&self.udp) {
            // Lost if the buffer is full, as any datagram.
            let _lost = socket.send_to(&bytes, request.src());
        }
    }
}

/// One per listener; all share the same state.
pub(super) struct Handler(pub(super) Arc<Shared>);

/// For the server's log: an answer that was not sent.
fn silent(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let shared = &self.0;
        let udp = request.protocol() == Protocol::Udp;
        if udp { &shared.counts.udp } else { &shared.counts.tcp }.fetch_add(1, Ordering::Relaxed);
        let faults = lock(&shared.faults).clone();
        let aaaa = request.request_info().is_ok_and(|info| info.query.query_type() == RecordType::AAAA);
        if (udp && faults.udp_drop) || (aaaa && faults.aaaa == Some(Aaaa::Drop)) {
            return silent(request);
        }
        if shared.process.overrun() {
            return silent(request);
        }
        if let Some(delay) = faults.delay {
            tokio::time::sleep(delay).await;
        }
        if udp && faults.garbage {
            shared.send_garbage(request);
            return silent(request);
        }
        let mut answer = shared.answer(&faults, request).await;
        // A header, a question with its name, and 16 octets per address whose name is compressed.
        let length = 50 + 16 * answer.answers.len();
        let cut = faults.bufsize.is_some_and(|most| length > usize::from(most));
        if udp && (faults.truncate || cut) {
            answer = Answer { truncated: true, ..Answer::code(answer.code) };
        }
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative = answer.authoritative;
        metadata.truncation = answer.truncated;
        metadata.recursion_available = true;
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        *lock(&shared.counts.responses).entry(format!("{:?}", answer.code).to_uppercase()).or_default() += 1;
        let response = builder.build(metadata, &answer.answers, &answer.authorities, [], []);
        match respond.send_response(response).await {
            Ok(info) => info,
            // The client went away.
            Err(_) => silent(request),
        }
    }
}
