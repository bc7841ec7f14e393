//! Whether a valid reply is the right answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nameward_messages::probe::{Expect, Outcome};
use nameward_messages::targets::Transport;

use super::message::Said;

/// Most addresses of a wrong answer that are kept.
const KEPT: usize = 8;
/// RFC 1035 section 4.1.1: the name does not exist.
const NXDOMAIN: u16 = 3;

/// Judges a reply. The response code counts before the bit TC: a refusal is a refusal, however short.
#[must_use]
pub fn judge(expect: &Expect, transport: Transport, said: &Said) -> Outcome {
    if *expect == Expect::AnyReply {
        return Outcome::Answered;
    }
    if *expect == Expect::NoSuchName {
        return match said.rcode {
            NXDOMAIN => Outcome::Answered,
            0 => Outcome::WrongAnswer { got: said.addresses.iter().take(KEPT).copied().collect() },
            rcode => Outcome::Rcode { rcode },
        };
    }
    if *expect == Expect::Settled && matches!(said.rcode, 0 | NXDOMAIN) {
        return Outcome::Answered;
    }
    if said.rcode != 0 {
        return Outcome::Rcode { rcode: said.rcode };
    }
    if said.truncated && transport == Transport::Udp && *expect != Expect::Arrives {
        return Outcome::Truncated;
    }
    let right = match expect {
        Expect::Addresses(expected) => set(expected) == set(&said.addresses),
        Expect::SomeAddress => !said.addresses.is_empty(),
        Expect::SomeRecord => said.records > 0,
        Expect::Arrives => said.truncated || said.records > 0,
        Expect::NoError | Expect::AnyReply | Expect::NoSuchName | Expect::Settled => true,
    };
    if right {
        Outcome::Answered
    } else {
        Outcome::WrongAnswer { got: said.addresses.iter().take(KEPT).copied().collect() }
    }
}

fn set(addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
    addresses.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 96, 0, last])
    }

    fn said(rcode: u16, truncated: bool, addresses: &[u8]) -> Said {
        Said { rcode, truncated, addresses: addresses.iter().map(|n| ip(*n)).collect(), records: addresses.len() }
    }

    #[test]
    fn a_table_of_judgements() {
        let exactly = |list: &[u8]| Expect::Addresses(list.iter().map(|n| ip(*n)).collect());
        let wrong = |list: &[u8]| Outcome::WrongAnswer { got: list.iter().map(|n| ip(*n)).collect() };
        let table = [
            ("the expected address", exactly(&[1]), said(0, false, &[1]), Outcome::Answered),
            ("in any order", exactly(&[1, 2]), said(0, false, &[2, 1]), Outcome::Answered),
            ("one missing", exactly(&[1, 2]), said(0, false, &[1]), wrong(&[1])),
            ("one too many", exactly(&[1]), said(0, false, &[1, 9]), wrong(&[1, 9])),
            ("another", exactly(&[1]), said(0, false, &[9]), wrong(&[9])),
            ("an empty answer", Expect::SomeAddress, said(0, false, &[]), wrong(&[])),
            ("some address", Expect::SomeAddress, said(0, false, &[7]), Outcome::Answered),
            ("empty is no error", Expect::NoError, said(0, false, &[]), Outcome::Answered),
            ("servfail", Expect::SomeAddress, said(2, false, &[]), Outcome::Rcode { rcode: 2 }),
            ("nxdomain", Expect::NoError, said(3, false, &[]), Outcome::Rcode { rcode: 3 }),
            ("refused and truncated", Expect::NoError, said(5, true, &[]), Outcome::Rcode { rcode: 5 }),
            ("truncated", exactly(&[1]), said(0, true, &[1]), Outcome::Truncated),
            ("does not exist, as it must not", Expect::NoSuchName, said(3, false, &[]), Outcome::Answered),
            ("exists, though it must not", Expect::NoSuchName, said(0, false, &[9]), wrong(&[9])),
            ("servfail where nothing is", Expect::NoSuchName, said(2, false, &[]), Outcome::Rcode { rcode: 2 }),
            ("no record", Expect::SomeRecord, said(0, false, &[]), wrong(&[])),
            ("made up its mind", Expect::Settled, said(3, false, &[]), Outcome::Answered),
            ("could not", Expect::Settled, said(2, false, &[]), Outcome::Rcode { rcode: 2 }),
            ("cut short is arrived", Expect::Arrives, said(0, true, &[]), Outcome::Answered),
            ("arrived empty", Expect::Arrives, said(0, false, &[]), wrong(&[])),
            ("any reply", Expect::AnyReply, said(5, true, &[]), Outcome::Answered),
        ];
        for (name, expect, said, outcome) in table {
            assert_eq!(judge(&expect, Transport::Udp, &said), outcome, "{name}");
        }
    }

    #[test]
    fn tc_means_nothing_over_tcp() {
        assert_eq!(judge(&Expect::SomeAddress, Transport::Tcp, &said(0, true, &[1])), Outcome::Answered);
    }

    #[test]
    fn a_wrong_answer_is_kept_short() {
        let many: Vec<u8> = (0..200).collect();
        let Outcome::WrongAnswer { got } =
            judge(&Expect::Addresses(vec![ip(1)]), Transport::Udp, &said(0, false, &many))
        else {
            panic!("not judged wrong");
        };
        assert_eq!(got.len(), KEPT);
    }
}
