//! Entering namespaces, for real.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private;

use std::path::{Path, PathBuf};

use nameward_kernel::capability::Capabilities;
use nameward_kernel::enter::{EnterError, EnterPool, Netns, cookie_here, cookie_of};
use nameward_kernel::sockets::{LocalSockets, NamedNetns, SocketSource, Wish};
use nameward_messages::NetnsCookie;
use nameward_messages::probe::NotAsked;
use nameward_messages::targets::{Family, Transport};
use std::os::fd::AsFd;

fn named(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

#[test]
fn in_and_out() {
    if !private::enter("in_and_out") {
        return;
    }
    private::run("ip netns add a; ip netns add b; ip -n a link add mark type bridge");
    let pool = EnterPool::new(2, 4).unwrap();
    let (a, b) = (Netns::open(&named("a")).unwrap(), Netns::open(&named("b")).unwrap());

    let cookies: Vec<NetnsCookie> = [&a, &b, pool.home()].map(|ns| pool.cookie_blocking(ns).unwrap()).into();
    assert!(cookies[0] != cookies[1] && cookies[1] != cookies[2] && cookies[0] != cookies[2]);
    assert_eq!(cookies[2], cookie_here().unwrap(), "this thread never left");

    // /proc/thread-self/net follows the thread.
    let devices =
        |ns: &Netns| pool.run_blocking(ns, || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    assert!(devices(&a).contains("mark") && !devices(&b).contains("mark") && !devices(pool.home()).contains("mark"));

    // A panic inside does not keep the thread there, and does not cost it.
    for _ in 0..8 {
        let failed = pool.run_blocking(&a, || assert_eq!(1, 2, "on purpose"));
        assert!(matches!(failed, Err(EnterError::Panicked)));
        assert_eq!(pool.run_blocking(pool.home(), cookie_here).unwrap().unwrap(), cookies[2]);
    }
    assert!(Capabilities::find(&pool).enter);
}

#[test]
fn what_is_no_namespace_is_not_opened() {
    if !private::enter("what_is_no_namespace_is_not_opened") {
        return;
    }
    private::run(
        "mkfifo /run/netns/fifo; touch /run/netns/file; mkdir /run/netns/dir; ln -s /dev/zero /run/netns/zero",
    );
    private::run("ln -s /proc/self/ns/mnt /run/netns/mount");
    for name in ["fifo", "file", "dir", "zero", "mount"] {
        let error = Netns::open(&named(name)).unwrap_err();
        assert!(matches!(error, EnterError::NotANamespace { .. }), "{name}: {error}");
        assert_eq!(error.not_asked(), NotAsked::NamespaceGone, "{name}");
    }
    let missing = Netns::open(&named("missing")).unwrap_err();
    assert_eq!(missing.not_asked(), NotAsked::NamespaceGone);
    assert!(Netns::own().unwrap().same(&Netns::open(Path::new("/proc/self/ns/net")).unwrap()));
}

#[test]
fn sockets_are_opened_where_they_are_wanted() {
    if !private::enter("sockets_are_opened_where_they_are_wanted") {
        return;
    }
    private::run("ip netns add a; ip netns add b; touch /run/netns/file");
    let pool = EnterPool::new(1, 4).unwrap();
    let cookie = |name: &str| pool.cookie_blocking(&Netns::open(&named(name)).unwrap()).unwrap();
    let place = |name: &str, cookie| Some(NamedNetns { path: named(name), cookie });
    let two = vec![(Transport::Udp, Family::Ipv4), (Transport::Tcp, Family::Ipv6)];
    let wish = |place| Wish { place, sockets: two.clone() };
    let (a, b) = (cookie("a"), cookie("b"));
    let wishes = vec![
        wish(place("a", a)),
        wish(None),
        wish(place("missing", a)),
        wish(place("file", a)),
        // The name was given to another namespace.
        wish(place("b", a)),
        wish(place("b", b)),
    ];
    let source = LocalSockets::new(pool.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let granted = runtime.block_on(source.open(wishes));
    let home = cookie_here().unwrap();
    let expected = [Ok(a), Ok(home), Err(()), Err(()), Err(()), Ok(b)];
    assert_eq!(granted.len(), expected.len());
    for (at, (granted, expected)) in granted.into_iter().zip(expected).enumerate() {
        match (granted, expected) {
            (Ok(sockets), Ok(cookie)) => {
                assert_eq!(sockets.len(), 2, "{at}");
                for socket in sockets {
                    assert_eq!(cookie_of(socket.unwrap().as_fd()).unwrap(), cookie, "{at}");
                }
            }
            (Err(why), Err(())) => assert_eq!(why, NotAsked::NamespaceGone, "{at}"),
            (granted, _) => panic!("{at}: {granted:?}"),
        }
    }
    assert_eq!(pool.run_blocking(pool.home(), cookie_here).unwrap().unwrap(), home, "the thread came home");
}
