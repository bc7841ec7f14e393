//! Files that a pod can write, read as hostile input: links, FIFOs, devices, endless files and file systems that do not
//! answer. Nothing but a regular file is ever opened for reading.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use tokio::sync::{Semaphore, oneshot};

/// Longest file, bytes.
pub const MAX_BYTES: u64 = 64 * 1024;
/// Longest wait for one file.
pub const WITHIN: Duration = Duration::from_secs(1);
/// Most readers at once: a file system that does not answer keeps its reader.
const READERS: usize = 16;

static PLACES: std::sync::LazyLock<Arc<Semaphore>> = std::sync::LazyLock::new(|| Arc::new(Semaphore::new(READERS)));

/// Why a pod's file was not read. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PodFileError {
    /// It is not there.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// Which file.
        path: PathBuf,
    },
    /// We may not read it.
    #[error("{} may not be read; grant the agent access to the folder", path.display())]
    NotPermitted {
        /// Which file.
        path: PathBuf,
    },
    /// It is a symlink, or leads out of the pod's root.
    #[error("{} is a symlink that is not followed; look at the pod that owns it", path.display())]
    Symlink {
        /// Which file.
        path: PathBuf,
    },
    /// It is a folder, a FIFO, a socket or a device.
    #[error("{} is {kind} and no regular file; look at the pod that owns it", path.display())]
    NotRegular {
        /// Which file.
        path: PathBuf,
        /// `a folder`, `a FIFO`, …
        kind: &'static str,
    },
    /// It is longer than [`MAX_BYTES`].
    #[error("{} is longer than {MAX_BYTES} bytes; look at the pod that owns it", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// The file system did not answer within [`WITHIN`].
    #[error("{} was not read within {WITHIN:?}; look at the file system below it", path.display())]
    TimedOut {
        /// Which file.
        path: PathBuf,
    },
    /// All readers wait for file systems that do not answer.
    #[error("{} was not read: {READERS} other reads hang; look at the file systems of the pods", path.display())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// Any other error.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads a file of the container runtime's folder. Its last part is not followed when it is a symlink.
///
/// # Errors
/// [`PodFileError`] names the file.
pub async fn read_sandbox_file(path: &Path) -> Result<Vec<u8>, PodFileError> {
    let path = path.to_owned();
    on_a_helper(path.clone(), move || {
        let named = open(&path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        finish(&path, named)
    })
    .await
}

/// Reads a file below a pod's root (`/proc/PID/root`), where symlinks are followed as the pod itself would: never out of
/// the root.
///
/// # Errors
/// [`PodFileError`] names the file.
pub async fn read_in_root(root: &Path, file: &str) -> Result<Vec<u8>, PodFileError> {
    let (root, file) = (root.to_owned(), file.trim_start_matches('/').to_owned());
    let whole = root.join(&file);
    on_a_helper(whole.clone(), move || {
        let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let named = open(&root, folder, Mode::empty()).and_then(|root| openat2(root.as_fd(), file.as_str(), how));
        finish(&whole, named)
    })
    .await
}

/// From the name to the content: O_PATH opened nothing yet.
fn finish(path: &Path, named: nix::Result<OwnedFd>) -> Result<Vec<u8>, PodFileError> {
    let failed = |errno: Errno| wrong(path, errno);
    let named = named.map_err(failed)?;
    let kind = SFlag::from_bits_truncate(fstat(&named).map_err(failed)?.st_mode) & SFlag::S_IFMT;
    let not_regular = |kind| Err(PodFileError::NotRegular { path: path.to_owned(), kind });
    match kind {
        SFlag::S_IFREG => {}
        SFlag::S_IFLNK => return Err(PodFileError::Symlink { path: path.to_owned() }),
        SFlag::S_IFDIR => return not_regular("a folder"),
        SFlag::S_IFIFO => return not_regular("a FIFO"),
        SFlag::S_IFSOCK => return not_regular("a socket"),
        _ => return not_regular("a device"),
    }
    // Through /proc the very file that was checked is opened, whatever the path names by now.
    let again = format!("/proc/thread-self/fd/{}", named.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(open(again.as_str(), flags, Mode::empty()).map_err(failed)?);
    let mut content = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut content);
    match read {
        Ok(length) if length as u64 > MAX_BYTES => Err(PodFileError::TooLong { path: path.to_owned() }),
        Ok(_) => Ok(content),
        Err(source) => Err(PodFileError::Io { path: path.to_owned(), source }),
    }
}

fn wrong(path: &Path, errno: Errno) -> PodFileError {
    let path = path.to_owned();
    match errno {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH => PodFileError::NotFound { path },
        Errno::EACCES | Errno::EPERM => PodFileError::NotPermitted { path },
        Errno::ELOOP | Errno::EXDEV => PodFileError::Symlink { path },
        other => PodFileError::Io { path, source: other.into() },
    }
}

/// Runs the reading on a thread that may hang without anybody else hanging.
async fn on_a_helper(
    path: PathBuf,
    read: impl FnOnce() -> Result<Vec<u8>, PodFileError> + Send + 'static,
) -> Result<Vec<u8>, PodFileError> {
    let waited = tokio::time::timeout(WITHIN, Arc::clone(&PLACES).acquire_owned()).await;
    let Ok(Ok(place)) = waited else { return Err(PodFileError::Busy { path }) };
    let (tell, answer) = oneshot::channel();
    let started = std::thread::Builder::new().name("podfile".to_owned()).spawn(move || {
        let result = read();
        drop(place);
        let _ = tell.send(result);
    });
    if let Err(source) = started {
        return Err(PodFileError::Io { path, source });
    }
    match tokio::time::timeout(WITHIN, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(PodFileError::TimedOut { path }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("root/etc")).unwrap();
        std::fs::write(folder.path().join("secret"), "nameserver 6.6.6.6\n").unwrap();
        folder
    }

    #[tokio::test]
    async fn a_regular_file_is_read() {
        let folder = folder();
        std::fs::write(folder.path().join("root/etc/resolv.conf"), "nameserver 10.96.0.10\n").unwrap();
        let whole = folder.path().join("root/etc/resolv.conf");
        assert_eq!(read_sandbox_file(&whole).await.unwrap(), b"nameserver 10.96.0.10\n");
        assert_eq!(
            read_in_root(&folder.path().join("root"), "etc/resolv.conf").await.unwrap(),
            b"nameserver 10.96.0.10\n"
        );
    }

    #[tokio::test]
    async fn links_stay_inside_the_root() {
        let folder = folder();
        let root = folder.path().join("root");
        symlink("../../secret", root.join("etc/up")).unwrap();
        symlink(folder.path().join("secret"), root.join("etc/absolute")).unwrap();
        symlink("/etc/inside", root.join("etc/resolv.conf")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("etc/magic")).unwrap();
        std::fs::write(root.join("etc/inside"), "inside").unwrap();
        assert_eq!(read_in_root(&root, "/etc/resolv.conf").await.unwrap(), b"inside");
        for out in ["etc/up", "etc/absolute", "etc/magic", "../secret"] {
            let error = read_in_root(&root, out).await.unwrap_err();
            assert!(matches!(error, PodFileError::NotFound { .. }), "{out}: {error}");
        }
        let error = read_sandbox_file(&root.join("etc/up")).await.unwrap_err();
        assert!(matches!(error, PodFileError::Symlink { .. }) && error.to_string().contains("etc/up"), "{error}");
        // A magic link is refused even when the root is the machine's own.
        let error = read_in_root(Path::new("/"), "proc/self/exe").await.unwrap_err();
        assert!(matches!(error, PodFileError::Symlink { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_named_and_never_waited_for() {
        let folder = folder();
        let etc = folder.path().join("root/etc");
        nix::unistd::mkfifo(&etc.join("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(etc.join("folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(etc.join("socket")).unwrap();
        for (file, kind) in [("fifo", "a FIFO"), ("folder", "a folder"), ("socket", "a socket")] {
            let error = read_sandbox_file(&etc.join(file)).await.unwrap_err();
            assert!(error.to_string().contains(kind), "{error}");
            let error = read_in_root(&folder.path().join("root"), &format!("etc/{file}")).await.unwrap_err();
            assert!(error.to_string().contains(kind), "{error}");
        }
        let error = read_sandbox_file(Path::new("/dev/zero")).await.unwrap_err();
        assert!(error.to_string().contains("a device"), "{error}");
    }

    #[tokio::test]
    async fn a_huge_file_and_a_missing_one() {
        let folder = folder();
        let huge = folder.path().join("huge");
        File::create(&huge).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(read_sandbox_file(&huge).await.unwrap_err(), PodFileError::TooLong { .. }));
        File::create(&huge).unwrap().set_len(MAX_BYTES).unwrap();
        assert_eq!(read_sandbox_file(&huge).await.unwrap().len() as u64, MAX_BYTES);
        let error = read_sandbox_file(&folder.path().join("no/such")).await.unwrap_err();
        assert!(matches!(error, PodFileError::NotFound { .. }));
    }

    #[tokio::test]
    async fn a_read_that_hangs_is_left_alone() {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let hang = on_a_helper("/hang".into(), move || {
            let _ = wait.recv();
            Ok(Vec::new())
        });
        assert!(matches!(hang.await.unwrap_err(), PodFileError::TimedOut { .. }));
        drop(end);
    }
}
