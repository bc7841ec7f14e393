//! The narrow seam: sockets are opened here, inside a namespace, and talked over elsewhere.
//!
//! A privileged broker and an unprivileged prober can be split along [`SocketSource`]: what crosses it is a list of
//! wishes one way and descriptors the other way.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;

use nameward_messages::NetnsCookie;
use nameward_messages::probe::NotAsked;
use nameward_messages::targets::{Family, Transport};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use crate::enter::{EnterPool, Place, cookie_of};

/// Sockets that are wanted in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Where; `None` is the node's own namespace.
    pub place: Option<NamedNetns>,
    /// Which, in order.
    pub sockets: Vec<(Transport, Family)>,
}

/// A namespace by the name of its file, and by what it must turn out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNetns {
    /// Its file.
    pub path: PathBuf,
    /// The file may name another namespace by now; the cookie never does.
    pub cookie: NetnsCookie,
}

/// What came of one [`Wish`]: a socket per wanted one in order, or why there is none of them.
pub type Granted = Result<Vec<Result<OwnedFd, NotAsked>>, NotAsked>;

/// Opens sockets inside namespaces.
pub trait SocketSource: Send + Sync + 'static {
    /// One result per wish, in order. Sockets do not block and are closed on exec; UDP sockets report ICMP errors.
    fn open(&self, wishes: Vec<Wish>) -> Pin<Box<dyn Future<Output = Vec<Granted>> + Send + '_>>;
}

/// Sockets from this process's own threads.
#[derive(Clone, Debug)]
pub struct LocalSockets {
    pool: EnterPool,
}

impl LocalSockets {
    /// Over a pool.
    #[must_use]
    pub fn new(pool: EnterPool) -> Self {
        Self { pool }
    }
}

impl SocketSource for LocalSockets {
    fn open(&self, wishes: Vec<Wish>) -> Pin<Box<dyn Future<Output = Vec<Granted>> + Send + '_>> {
        Box::pin(async move {
            let count = wishes.len();
            let places = wishes
                .iter()
                .map(|wish| wish.place.as_ref().map_or(Place::Home, |named| Place::At(named.path.clone())))
                .collect();
            let opened = self.pool.visit(places, move |at| wishes.get(at).map_or(Err(NotAsked::LocalError), open_all));
            match opened.await {
                Ok(results) => results.into_iter().map(|one| one.unwrap_or_else(|e| Err(e.not_asked()))).collect(),
                Err(e) => std::iter::repeat_with(|| Err(e.not_asked())).take(count).collect(),
            }
        })
    }
}

/// Opens a wish's sockets in the namespace that the calling thread is in.
fn open_all(wish: &Wish) -> Granted {
    let mut opened = Vec::with_capacity(wish.sockets.len());
    let mut known = wish.place.is_none();
    for (transport, family) in &wish.sockets {
        let one = open_one(*transport, *family).map_err(|e| e.raw_os_error().map_or(NotAsked::LocalError, not_asked));
        if let (false, Ok(socket), Some(named)) = (known, &one, &wish.place) {
            // Another pod's namespace may have taken the name: then ours is gone.
            match cookie_of(socket.as_fd()) {
                Ok(cookie) if cookie == named.cookie => known = true,
                Ok(_) => return Err(NotAsked::NamespaceGone),
                Err(_) => return Err(NotAsked::LocalError),
            }
        }
        opened.push(one);
    }
    Ok(opened)
}

/// Opens one socket in the namespace that the calling thread is in.
///
/// # Errors
/// The error of the system call.
pub fn open_one(transport: Transport, family: Family) -> io::Result<OwnedFd> {
    let (domain, kind) = match (family, transport) {
        (Family::Ipv4, Transport::Udp) => (AddressFamily::Inet, SockType::Datagram),
        (Family::Ipv6, Transport::Udp) => (AddressFamily::Inet6, SockType::Datagram),
        (Family::Ipv4, Transport::Tcp) => (AddressFamily::Inet, SockType::Stream),
        (Family::Ipv6, Transport::Tcp) => (AddressFamily::Inet6, SockType::Stream),
    };
    let socket = socket(domain, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if transport == Transport::Udp {
        match family {
            Family::Ipv4 => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            Family::Ipv6 => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
    }
    Ok(socket)
}

/// What the failure of a local call (opening, entering) means for a probe: never a failure of DNS.
#[must_use]
pub fn not_asked(errno: i32) -> NotAsked {
    match errno {
        libc::EPERM | libc::EACCES => NotAsked::NoPermission,
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::ENOSPC => {
            NotAsked::NoResources
        }
        _ => NotAsked::LocalError,
    }
}
