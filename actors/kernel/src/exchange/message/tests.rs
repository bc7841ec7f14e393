#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use nameward_messages::probe::{Expect, QuestionKind};
use proptest::prelude::*;

use super::*;

fn question(name: &str, qtype: QueryType) -> Question {
    Question { kind: QuestionKind::Internal, name: name.to_owned(), qtype, expect: Expect::SomeAddress }
}

fn query() -> Query {
    Query::new(&question("kubernetes.default.svc.cluster.local.", QueryType::A), None).unwrap()
}

/// A reply as a server makes it, changed by `change`.
fn reply(query: &Query, id: u16, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(&query.bytes(id)).unwrap();
    message.metadata.message_type = MessageType::Response;
    let name = message.queries[0].name().clone();
    message.add_answer(Record::from_rdata(name, 5, RData::A(A(Ipv4Addr::new(10, 96, 0, 1)))));
    change(&mut message);
    message.to_vec().unwrap()
}

#[test]
fn a_query_is_a_standard_one() {
    let bytes = query().bytes(0x1234);
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.recursion_desired);
    assert_eq!(message.queries.len(), 1);
    assert_eq!(message.queries[0].name().to_string(), "kubernetes.default.svc.cluster.local.");
    assert!(message.edns.is_none());
}

#[test]
fn edns_is_sent_when_asked_for() {
    let query = Query::new(&question("a.example.", QueryType::Aaaa), Some(4096)).unwrap();
    let message = Message::from_vec(&query.bytes(1)).unwrap();
    assert_eq!(message.edns.as_ref().map(Edns::max_payload), Some(4096));
    let plain = Query::new(&question("a.example.", QueryType::Aaaa), None).unwrap();
    assert_eq!(query.question_ends, plain.bytes.len());
}

#[test]
fn a_name_without_its_final_dot_is_absolute_all_the_same() {
    let one = Query::new(&question("a.example", QueryType::A), None).unwrap();
    let other = Query::new(&question("a.example.", QueryType::A), None).unwrap();
    assert_eq!(one, other);
}

#[test]
fn a_bad_name_is_an_error() {
    let long = format!("{}.example.", "a".repeat(64));
    for name in ["a..b.", &long] {
        assert!(Query::new(&question(name, QueryType::A), None).is_err(), "{name}");
    }
}

#[test]
fn a_valid_reply_is_read() {
    let query = query();
    let said = Said { rcode: 0, truncated: false, addresses: vec![IpAddr::from([10, 96, 0, 1])], records: 1 };
    assert_eq!(query.read(7, &reply(&query, 7, |_| {})), Reply::Valid(said));
}

#[test]
fn the_case_of_the_name_does_not_matter() {
    let query = query();
    let mut bytes = reply(&query, 7, |_| {});
    bytes[HEADER + 1] = b'K';
    assert!(matches!(query.read(7, &bytes), Reply::Valid(_)));
}

#[test]
fn aliases_are_followed_and_other_types_left_out() {
    let query = query();
    let bytes = reply(&query, 7, |m| {
        let (name, alias) = (m.queries[0].name().clone(), Name::from_ascii("b.example.").unwrap());
        m.answers.clear();
        m.add_answer(Record::from_rdata(name, 5, RData::CNAME(CNAME(alias.clone()))));
        m.add_answer(Record::from_rdata(alias.clone(), 5, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))));
        m.add_answer(Record::from_rdata(alias, 5, RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))));
    });
    let Reply::Valid(said) = query.read(7, &bytes) else { panic!("ignored") };
    assert_eq!(said.addresses, [IpAddr::from([192, 0, 2, 1])]);
}

#[test]
fn what_is_not_a_reply_is_ignored_for_its_reason() {
    let query = query();
    let other = Query::new(&question("other.example.", QueryType::A), None).unwrap();
    let aaaa = Query::new(&question("kubernetes.default.svc.cluster.local.", QueryType::Aaaa), None).unwrap();
    let whole = reply(&query, 7, |_| {});
    let table = [
        ("nothing", Vec::new(), Ignored::Malformed),
        ("half a header", whole[..9].to_vec(), Ignored::Malformed),
        ("cut in its answer", whole[..whole.len() - 1].to_vec(), Ignored::Malformed),
        ("another id", reply(&query, 8, |_| {}), Ignored::OtherId),
        ("the query itself", query.bytes(7), Ignored::NotAReply),
        ("another opcode", reply(&query, 7, |m| m.metadata.op_code = OpCode::Status), Ignored::NotAReply),
        ("another name", reply(&other, 7, |_| {}), Ignored::OtherQuestion),
        ("another type", reply(&aaaa, 7, |_| {}), Ignored::OtherQuestion),
        (
            "no question",
            reply(&query, 7, |m| {
                m.queries.clear();
            }),
            Ignored::OtherQuestion,
        ),
    ];
    for (name, bytes, reason) in table {
        assert_eq!(query.read(7, &bytes), Reply::Ignore(reason), "{name}");
    }
}

#[test]
fn a_refusal_need_not_repeat_the_question() {
    let query = query();
    let bare = |code| {
        let bytes = reply(&query, 7, |m| {
            m.queries.clear();
            m.answers.clear();
            m.metadata.response_code = code;
        });
        query.read(7, &bytes)
    };
    for code in [ResponseCode::FormErr, ResponseCode::ServFail, ResponseCode::NotImp, ResponseCode::Refused] {
        assert_eq!(bare(code), Reply::Valid(Said { rcode: code.into(), ..Said::default() }), "{code}");
    }
    for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
        assert_eq!(bare(code), Reply::Ignore(Ignored::OtherQuestion), "{code}");
    }
}

#[test]
fn truncated_in_the_middle_of_a_record_is_truncated() {
    let query = query();
    let bytes = reply(&query, 7, |m| m.metadata.truncation = true);
    let Reply::Valid(said) = query.read(7, &bytes[..bytes.len() - 2]) else { panic!("ignored") };
    assert!(said.truncated);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), id: u16) {
        let _ = query().read(id, &bytes);
    }

    #[test]
    fn no_change_to_a_reply_makes_it_panic(at in 0usize..120, to: u8, cut in 0usize..120) {
        let query = query();
        let mut bytes = reply(&query, 7, |_| {});
        let len = bytes.len();
        bytes[at % len] = to;
        bytes.truncate(len - cut % len);
        let _ = query.read(7, &bytes);
    }
}
