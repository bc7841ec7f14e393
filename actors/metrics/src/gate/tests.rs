#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn at(seconds: u64) -> Mono {
    nameward_messages::Now::at(Duration::from_secs(seconds)).mono
}

fn key(n: usize) -> Key {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    key
}

#[test]
fn a_good_word_is_good_for_half_a_minute_and_a_bad_one_for_ten_seconds() {
    let mut visitors = Visitors::default();
    visitors.remember(at(0), key(1), Visitor::Allowed);
    visitors.remember(at(0), key(2), Visitor::Unknown);
    visitors.remember(at(0), key(3), Visitor::Forbidden { name: "eve".into() });
    assert_eq!(visitors.remembered(at(9), &key(1)), Some(Visitor::Allowed));
    assert_eq!(visitors.remembered(at(9), &key(2)), Some(Visitor::Unknown));
    assert_eq!(visitors.remembered(at(10), &key(2)), None);
    assert_eq!(visitors.remembered(at(10), &key(3)), None);
    assert_eq!(visitors.remembered(at(29), &key(1)), Some(Visitor::Allowed));
    assert_eq!(visitors.remembered(at(30), &key(1)), None);
    assert!(visitors.known.is_empty());
}

#[test]
fn strangers_push_out_strangers_and_not_who_is_known() {
    let mut visitors = Visitors::default();
    visitors.remember(at(0), key(0), Visitor::Allowed);
    for n in 1..=3 * MOST {
        visitors.remember(at(1), key(n), Visitor::Unknown);
        assert!(visitors.known.len() <= MOST);
    }
    assert_eq!(visitors.remembered(at(2), &key(0)), Some(Visitor::Allowed));
}

#[test]
fn no_more_than_so_many_reviews_are_begun_in_ten_seconds() {
    let mut visitors = Visitors::default();
    let begun = (0..1000).filter(|_| visitors.may_begin(at(5))).count();
    assert_eq!(begun, BEGUN);
    assert!(!visitors.may_begin(at(14)));
    assert!(visitors.may_begin(at(15)));
}
