//! A question's bytes, and whether some bytes are a reply to it.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query as Asked};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use nameward_messages::probe::{QueryType, Question};

/// Length of a message's header, RFC 1035 section 4.1.1.
const HEADER: usize = 12;

/// A name that no DNS message can carry.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` cannot be asked for")]
pub struct BadName {
    /// The name.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub source: hickory_proto::ProtoError,
}

/// An encoded question. It is encoded once and sent any number of times under fresh ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    bytes: Vec<u8>,
    /// Where the question section ends.
    question_ends: usize,
    qtype: QueryType,
}

/// What some bytes are to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A well-formed reply to it.
    Valid(Said),
    /// Something else: keep waiting.
    Ignore(Ignored),
}

/// What a valid reply says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The response code with EDNS's upper bits.
    pub rcode: u16,
    /// The bit TC.
    pub truncated: bool,
    /// The addresses of the asked type in its answer section, whatever their owner (aliases lead elsewhere).
    pub addresses: Vec<IpAddr>,
    /// How many records of the asked type there are.
    pub records: usize,
}

/// Why some bytes are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Not a DNS message.
    Malformed,
    /// A query, or not a standard one.
    NotAReply,
    /// Another id.
    OtherId,
    /// Another question, or none.
    OtherQuestion,
}

impl Query {
    /// Encodes a question, with EDNS and this payload size (octets, at least 512) if one is given.
    ///
    /// # Errors
    /// [`BadName`]: the name is no domain name.
    pub fn new(question: &Question, edns: Option<u16>) -> Result<Self, BadName> {
        let bad = |source| BadName { name: question.name.clone(), source };
        let mut name = Name::from_ascii(&question.name).map_err(bad)?;
        name.set_fqdn(true);
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Asked::query(name, record_type(question.qtype)));
        let question_ends = message.to_vec().map_err(bad)?.len();
        if let Some(size) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        Ok(Self { bytes: message.to_vec().map_err(bad)?, question_ends, qtype: question.qtype })
    }

    /// The message under an id.
    #[must_use]
    pub fn bytes(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(field) = bytes.first_chunk_mut() {
            *field = id.to_be_bytes();
        }
        bytes
    }

    /// The type that is asked for.
    #[must_use]
    pub fn qtype(&self) -> QueryType {
        self.qtype
    }

    /// What `reply` is to this question under `id`. Any bytes may be given.
    #[must_use]
    pub fn read(&self, id: u16, reply: &[u8]) -> Reply {
        let read = self.try_read(id, reply);
        read.map_or_else(Reply::Ignore, Reply::Valid)
    }

    fn try_read(&self, id: u16, reply: &[u8]) -> Result<Said, Ignored> {
        let mut decoder = BinDecoder::new(reply);
        let header = Header::read(&mut decoder).map_err(|_| Ignored::Malformed)?;
        let meta = header.metadata;
        if meta.id != id {
            return Err(Ignored::OtherId);
        }
        if meta.message_type != MessageType::Response || meta.op_code != OpCode::Query {
            return Err(Ignored::NotAReply);
        }
        let rcode = u16::from(meta.response_code);
        if header.counts.queries == 0 && !matches!(rcode, 0 | 3) {
            // A server that says that it will not look at the question need not repeat it: Unbound's REFUSED is a bare
            // header. What speaks of a name (NOERROR, NXDOMAIN) must name it.
            return Ok(Said { rcode, ..Said::default() });
        }
        self.same_question(header.counts.queries, reply)?;
        let malformed = |_| Ignored::Malformed;
        decoder.read_slice(self.question_ends - HEADER).map_err(malformed)?;
        let mut read = |count, last| {
            Message::read_records(&mut decoder, usize::from(count), last, OpCode::Query).map_err(malformed)
        };
        if meta.truncation {
            // Some servers cut in the middle of a record: what came whole counts, the rest is not held against them.
            let answers = read(header.counts.answers, false).map(|(answers, ..)| answers).unwrap_or_default();
            let (addresses, records) = (self.addresses(&answers), self.records(&answers));
            return Ok(Said { rcode, truncated: true, addresses, records });
        }
        let (answers, ..) = read(header.counts.answers, false)?;
        read(header.counts.authorities, false)?;
        let (_, edns, _) = read(header.counts.additionals, true)?;
        let upper = edns.map_or(0, |edns| u16::from(edns.rcode_high()) << 4);
        let (addresses, records) = (self.addresses(&answers), self.records(&answers));
        Ok(Said { rcode: rcode | upper, truncated: false, addresses, records })
    }

    /// The question comes first in a message, so that its name cannot be compressed: its bytes are compared.
    fn same_question(&self, count: u16, reply: &[u8]) -> Result<(), Ignored> {
        let section = HEADER..self.question_ends;
        let (Some(asked), Some(echoed)) = (self.bytes.get(section.clone()), reply.get(section)) else {
            return Err(Ignored::OtherQuestion);
        };
        // Octets of lengths, types and classes lie below the letters, so that ignoring case touches names alone.
        if count == 1 && asked.eq_ignore_ascii_case(echoed) { Ok(()) } else { Err(Ignored::OtherQuestion) }
    }

    /// How many answers are of the type that was asked for.
    fn records(&self, answers: &[Record]) -> usize {
        answers.iter().filter(|record| record.record_type() == record_type(self.qtype)).count()
    }

    fn addresses(&self, answers: &[Record]) -> Vec<IpAddr> {
        answers
            .iter()
            .filter_map(|record| match (&record.data, self.qtype) {
                (RData::A(a), QueryType::A) => Some(IpAddr::V4(a.0)),
                (RData::AAAA(a), QueryType::Aaaa) => Some(IpAddr::V6(a.0)),
                _ => None,
            })
            .collect()
    }
}

fn record_type(qtype: QueryType) -> RecordType {
    match qtype {
        QueryType::A => RecordType::A,
        QueryType::Aaaa => RecordType::AAAA,
        QueryType::Ptr => RecordType::PTR,
        QueryType::Txt => RecordType::TXT,
    }
}

#[cfg(test)]
mod tests;
