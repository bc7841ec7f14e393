//! What is answered when nothing is wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// Seconds that an answer may be kept, as in the recorded Corefile.
const TTL: u32 = 30;

/// How long the upstream server is waited for, as CoreDNS's `forward` does.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer before it is put into a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub code: ResponseCode,
    pub authoritative: bool,
    pub truncated: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
}

impl Answer {
    pub(super) fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    /// The addresses of the family that `kind` asks for.
    pub(super) fn addresses(name: &Name, kind: RecordType, addresses: &[IpAddr]) -> Self {
        let data = addresses.iter().filter_map(|ip| match (kind, ip) {
            (RecordType::A, IpAddr::V4(ip)) => Some(RData::A(A(*ip))),
            (RecordType::AAAA, IpAddr::V6(ip)) => Some(RData::AAAA(AAAA(*ip))),
            _ => None,
        });
        let answers = data.map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
        Self { authoritative: true, answers, ..Self::default() }
    }
}

/// `cluster.local.`'s SOA, as CoreDNS sends it beside an empty or negative answer.
fn soa() -> Vec<Record> {
    let (Ok(zone), Ok(server), Ok(person)) = (
        Name::from_ascii("cluster.local."),
        Name::from_ascii("ns.dns.cluster.local."),
        Name::from_ascii("hostmaster.cluster.local."),
    ) else {
        return Vec::new();
    };
    vec![Record::from_rdata(zone, TTL, RData::SOA(SOA::new(server, person, 1, 7200, 1800, 86400, TTL)))]
}

/// A name of the cluster that does not exist.
pub(super) fn missing() -> Answer {
    Answer { authoritative: true, authorities: soa(), ..Answer::code(ResponseCode::NXDomain) }
}

/// From the records of the cluster; `None` if the name is not for us but for the upstream server.
pub(super) fn cluster(records: &BTreeMap<String, Vec<IpAddr>>, name: &Name, kind: RecordType) -> Option<Answer> {
    let text = name.to_ascii().to_lowercase();
    if kind == RecordType::PTR {
        let (owner, _) = records.iter().find(|(_, ips)| ips.iter().any(|ip| is_reverse(name, *ip)))?;
        let answers = vec![Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(Name::from_ascii(owner).ok()?)))];
        return Some(Answer { authoritative: true, answers, ..Answer::default() });
    }
    if text != "cluster.local." && !text.ends_with(".cluster.local.") {
        return None;
    }
    let mut answer = match records.get(&text) {
        Some(addresses) => Answer::addresses(name, kind, addresses),
        // A name between the zone and a record exists and has nothing.
        None if text == "cluster.local." || records.keys().any(|owner| owner.ends_with(&format!(".{text}"))) => {
            Answer { authoritative: true, ..Answer::default() }
        }
        None => missing(),
    };
    if answer.answers.is_empty() {
        answer.authorities = soa();
    }
    Some(answer)
}

/// As [`cluster`], when another zone than `cluster.local.` is served: the same names under it, and none of the usual ones.
pub(super) fn served(
    zone: Option<&str>,
    records: &BTreeMap<String, Vec<IpAddr>>,
    name: &Name,
    kind: RecordType,
) -> Option<Answer> {
    let Some(zone) = zone.filter(|_| kind != RecordType::PTR) else { return cluster(records, name, kind) };
    let text = name.to_ascii().to_lowercase();
    let within = text.strip_suffix(zone).filter(|rest| rest.is_empty() || rest.ends_with('.'))?;
    let usual = Name::from_ascii(format!("{within}cluster.local.")).ok()?;
    let mut answer = cluster(records, &usual, kind)?;
    answer.answers.iter_mut().for_each(|record| record.name = name.clone());
    Some(answer)
}

fn is_reverse(name: &Name, ip: IpAddr) -> bool {
    Name::from(ip).eq_ignore_root(name)
}

/// As a resolver of the internet.
pub(super) fn internet(answer: IpAddr, name: &Name, kind: RecordType) -> Answer {
    let text = name.to_ascii().to_lowercase();
    let unknown = ["invalid.", "local.", "arpa."].iter().any(|end| text == *end || text.ends_with(&format!(".{end}")));
    if unknown {
        return Answer::code(ResponseCode::NXDomain);
    }
    Answer { authoritative: false, ..Answer::addresses(name, kind, &[answer]) }
}

/// Asks the upstream server by UDP; SERVFAIL if it does not answer in time.
pub(super) async fn forward(upstream: SocketAddr, query: &[u8]) -> Answer {
    match tokio::time::timeout(PATIENCE, ask(upstream, query)).await {
        Ok(Ok(message)) => Answer {
            code: message.metadata.response_code,
            authoritative: false,
            truncated: message.metadata.truncation,
            answers: message.answers,
            authorities: message.authorities,
        },
        Ok(Err(_)) | Err(_) => Answer::code(ResponseCode::ServFail),
    }
}

async fn ask(upstream: SocketAddr, query: &[u8]) -> std::io::Result<Message> {
    let any: SocketAddr = if upstream.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut buffer = vec![0_u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let reply = buffer.get(..length).unwrap_or_default();
        // The id is the client's: unique enough on a socket of its own.
        if reply.get(..2) == query.get(..2)
            && let Ok(message) = Message::from_vec(reply)
        {
            return Ok(message);
        }
    }
}
