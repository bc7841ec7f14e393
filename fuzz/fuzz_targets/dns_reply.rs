//! A reply to our question, from anybody who can send to our port.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nameward_kernel::exchange::{Query, Reply, judge};
use nameward_messages::probe::{Expect, QueryType, Question, QuestionKind};
use nameward_messages::targets::Transport;

const NAME: &str = "kubernetes.default.svc.cluster.local.";

// The first byte chooses the type that was asked for; the message follows.
fuzz_target!(|data: &[u8]| {
    let Some((choice, reply)) = data.split_first() else { return };
    let qtype = [QueryType::A, QueryType::Aaaa, QueryType::Ptr, QueryType::Txt][usize::from(choice % 4)];
    let question =
        Question { kind: QuestionKind::Internal, name: NAME.to_owned(), qtype, expect: Expect::SomeAddress };
    let Ok(query) = Query::new(&question, Some(1232)) else { return };
    if let Reply::Valid(said) = query.read(0x4e57, reply) {
        for expect in [Expect::SomeAddress, Expect::SomeRecord, Expect::NoSuchName, Expect::NoError, Expect::AnyReply] {
            let _ = judge(&expect, Transport::Udp, &said);
        }
    }
});
