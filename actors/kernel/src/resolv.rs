//! `resolv.conf`, as glibc reads it: bounded, and blind to what it does not know. The file is hostile input.

use std::net::IpAddr;

use nameward_messages::namespaces::Resolv;

/// Longest file that is parsed, bytes. What follows is not looked at.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most nameservers kept (a resolver uses the first three).
pub const MAX_NAMESERVERS: usize = 16;
/// Most search domains and options kept.
pub const MAX_WORDS: usize = 64;
/// Longest search domain or option, bytes.
pub const MAX_WORD: usize = 256;

/// What a `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver`, in order.
    pub nameservers: Vec<IpAddr>,
    /// The last `search` or `domain`.
    pub search: Vec<String>,
    /// Every `options`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// With the place it was read from.
    #[must_use]
    pub fn read_from(self, place: impl Into<String>) -> Resolv {
        let Self { nameservers, search, options } = self;
        Resolv { nameservers, search, options, read_from: Some(place.into()), trouble: None }
    }
}

/// Parses a `resolv.conf`. Nothing is an error: lines that mean nothing are passed over, as a resolver does.
#[must_use]
pub fn parse(bytes: &[u8]) -> ResolvConf {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]);
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        // A comment starts in the first column; a keyword does, too.
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") if conf.nameservers.len() < MAX_NAMESERVERS => {
                conf.nameservers.extend(words.next().and_then(address));
            }
            Some("search") => conf.search = kept(words),
            Some("domain") => conf.search = kept(words.take(1)),
            Some("options") => {
                let room = MAX_WORDS.saturating_sub(conf.options.len());
                conf.options.extend(kept(words).into_iter().take(room));
            }
            Some(_) | None => {}
        }
    }
    conf
}

/// An address; the zone of a link-local one is dropped.
fn address(word: &str) -> Option<IpAddr> {
    word.split('%').next()?.parse().ok()
}

fn kept<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.filter(|w| w.len() <= MAX_WORD).take(MAX_WORDS).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_recorded_files() {
        for folder in ["iptables", "nftables"] {
            let read = |file: &str| parse(&std::fs::read(crate::recordings().join(folder).join(file)).unwrap());
            let client = read("pod-client.resolv.conf");
            assert_eq!(client.nameservers, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
            assert_eq!(client.search, ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
            assert_eq!(client.options, ["ndots:5"]);
            let coredns = read("pod-coredns.resolv.conf");
            assert_eq!((coredns.nameservers.len(), coredns.search.len()), (1, 0));
        }
    }

    #[test]
    fn the_last_search_wins_and_garbage_is_passed_over() {
        let conf = parse(
            b"# nameserver 1.1.1.1\n; x\nnameserver\nnameserver example.org\nnameserver fe80::1%eth0\nnameserver\t9.9.9.9 trailing\n\
              search a b\noptions ndots:5\r\ndomain c d\nsearch e\noptions edns0\nsortlist 1.2.3.4\n\xff\xfe nameserver 8.8.8.8\n",
        );
        assert_eq!(conf.nameservers, ["fe80::1".parse::<IpAddr>().unwrap(), "9.9.9.9".parse().unwrap()]);
        assert_eq!((conf.search, conf.options), (vec!["e".to_owned()], vec!["ndots:5".to_owned(), "edns0".to_owned()]));
        assert_eq!(parse(b"search a\ndomain b\n").search, ["b"]);
    }

    #[test]
    fn it_is_bounded() {
        let conf = parse(&b"nameserver 1.1.1.1\noptions x y z\n".repeat(1000));
        assert_eq!((conf.nameservers.len(), conf.options.len()), (MAX_NAMESERVERS, MAX_WORDS));
        assert!(parse(format!("search {}", "x".repeat(60_000)).as_bytes()).search.is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let conf = parse(&bytes);
            prop_assert!(conf.nameservers.len() <= MAX_NAMESERVERS);
        }
    }
}
