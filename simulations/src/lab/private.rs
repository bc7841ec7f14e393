//! What process 1 of a private world does before the program starts in it: mounts and loopback.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::isolate::{IsolateError, refused};

/// Folders that are masked if the machine has them: nothing of the machine's own pods is seen or changed.
const MASKED: [&str; 3] = ["/var/lib/cni", "/var/lib/containerd", "/var/lib/docker"];

/// Mounts and loopback of the new namespaces.
pub(super) fn furnish() -> Result<(), IsolateError> {
    // The first thing that needs power over the namespaces: where user namespaces are given without it, it fails here.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| refused("making mounts private", e))?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), quiet, None::<&str>).map_err(|e| refused("mounting /proc", e))?;
    let own = |folder: &str| {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("simulation"), folder, Some("tmpfs"), flags, Some("mode=0755"))
    };
    own("/run").map_err(IsolateError::step("mount an own /run"))?;
    if std::fs::symlink_metadata("/var/run").is_ok_and(|m| m.is_dir()) {
        mount(Some("/run"), "/var/run", None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(IsolateError::step("bind /run to /var/run"))?;
    }
    for folder in MASKED {
        if Path::new(folder).is_dir() {
            own(folder).map_err(IsolateError::step("mask the machine's container state"))?;
        }
    }
    std::fs::create_dir_all("/run/netns").map_err(|source| IsolateError::Step { step: "make /run/netns", source })?;
    loopback_up().map_err(|source| IsolateError::Step { step: "bring loopback up", source })
}

/// Brings `lo` up in the namespace of the calling thread.
#[expect(unsafe_code, reason = "ioctl has no safe form here")]
pub(super) fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid ifreq: integers, arrays and null pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = (*from).cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads one ifreq, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}
