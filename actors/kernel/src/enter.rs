//! The one place where a network namespace is entered.
//!
//! A namespace is entered by a thread of the [`EnterPool`], for one synchronous closure, and left again before the
//! thread takes anything else. A thread that cannot return to the home namespace ends and is replaced: it is never
//! handed back. No runtime worker ever enters a namespace.
//!
//! A socket keeps the namespace that it was opened in: open it inside, wait on it outside.

mod pool;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nameward_messages::NetnsCookie;
use nameward_messages::probe::NotAsked;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statfs::{FsType, fstatfs};

pub use pool::EnterPool;

/// Why a namespace was not entered, or what was to be done there was not done.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The file could not be opened.
    #[error("cannot open the namespace file {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there, but it is not a network namespace (its bind mount is gone, or it never was one).
    #[error("{} is not a network namespace", path.display())]
    NotANamespace {
        /// Which file.
        path: PathBuf,
    },
    /// `setns` failed.
    #[error("cannot enter the network namespace")]
    Enter(#[source] io::Error),
    /// The cookie could not be read.
    #[error("cannot read the namespace's cookie")]
    Cookie(#[source] io::Error),
    /// No thread could be made.
    #[error("cannot start a thread that enters namespaces")]
    Thread(#[source] io::Error),
    /// What was to be done inside panicked.
    #[error("the work inside the namespace panicked")]
    Panicked,
    /// The pool is gone.
    #[error("the threads that enter namespaces have ended")]
    Closed,
}

impl EnterError {
    /// The error of the system call behind it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { source, .. } | Self::Enter(source) | Self::Cookie(source) | Self::Thread(source) => {
                source.raw_os_error()
            }
            Self::NotANamespace { .. } | Self::Panicked | Self::Closed => None,
        }
    }

    /// What it means for a probe that was to be sent from there.
    #[must_use]
    pub fn not_asked(&self) -> NotAsked {
        match (self, self.errno()) {
            (Self::NotANamespace { .. }, _) => NotAsked::NamespaceGone,
            (Self::Open { .. }, Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)) => NotAsked::NamespaceGone,
            (_, Some(errno)) => crate::sockets::not_asked(errno),
            (_, None) => NotAsked::LocalError,
        }
    }
}

/// An open network namespace. It holds the namespace in being: do not keep one beyond its use, a dead pod's
/// namespace would stay.
#[derive(Clone, Debug)]
pub struct Netns {
    file: Arc<OwnedFd>,
    /// Device and inode of the file: equal for two descriptors of one namespace while either is open.
    id: (u64, u64),
}

impl Netns {
    /// Opens a namespace file (`/run/netns/…`, `/proc/PID/ns/net`). It follows links, since `/proc` has nothing else;
    /// it never waits and never touches what turns out not to be a namespace, be it a FIFO or a device.
    ///
    /// # Errors
    /// [`EnterError::Open`] and [`EnterError::NotANamespace`].
    pub fn open(path: &Path) -> Result<Self, EnterError> {
        let failed = |source| EnterError::Open { path: path.to_owned(), source };
        // O_PATH opens nothing: it names the file, so that its kind is known before it is touched.
        let named =
            File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path).map_err(failed)?;
        let system = fstatfs(&named).map_err(|e| failed(e.into()))?;
        if system.filesystem_type() != FsType(libc::NSFS_MAGIC as _) {
            return Err(EnterError::NotANamespace { path: path.to_owned() });
        }
        // Through /proc the very file that was checked is opened, whatever the path names by now.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(format!("/proc/self/fd/{}", named.as_raw_fd()))
            .map_err(failed)?;
        if kind(file.as_fd()).map_err(failed)? != libc::CLONE_NEWNET {
            return Err(EnterError::NotANamespace { path: path.to_owned() });
        }
        Self::from_file(file).map_err(failed)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`EnterError::Open`] if `/proc` is not there.
    pub fn own() -> Result<Self, EnterError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    fn from_file(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self { id: (meta.dev(), meta.ino()), file: Arc::new(OwnedFd::from(file)) })
    }

    /// Whether both are the same namespace.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Where one step of [`EnterPool::visit`] is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the home namespace.
    Home,
    /// In the namespace of this file.
    At(PathBuf),
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The cookie of the namespace that the calling thread is in.
///
/// # Errors
/// [`EnterError::Cookie`]: no socket could be opened, or the kernel is older than 5.14.
pub fn cookie_here() -> Result<NetnsCookie, EnterError> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| EnterError::Cookie(e.into()))?;
    cookie_of(socket.as_fd()).map_err(EnterError::Cookie)
}

/// The cookie of the namespace that a socket was opened in.
///
/// # Errors
/// The error of `getsockopt(SO_NETNS_COOKIE)`.
#[allow(unsafe_code)]
pub fn cookie_of(socket: BorrowedFd<'_>) -> io::Result<NetnsCookie> {
    let mut cookie: u64 = 0;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `size` are live and of the size that is passed; the kernel writes at most `size` bytes.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if done == 0 { Ok(NetnsCookie(cookie)) } else { Err(io::Error::last_os_error()) }
}

/// `NS_GET_NSTYPE`: the `CLONE_NEW…` flag of a namespace file.
#[allow(unsafe_code)]
fn kind(file: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: the call takes no argument and touches no memory of ours.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

/// Moves the calling thread into a namespace.
#[expect(clippy::disallowed_methods, reason = "this is the one place where a namespace is entered")]
fn set(namespace: &Netns) -> io::Result<()> {
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}
