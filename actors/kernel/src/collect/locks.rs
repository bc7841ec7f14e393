//! The lock that iptables-legacy takes while it writes, read and never taken.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use super::{Limits, unread};
use crate::facts::Reading;
use crate::locks::{self, FileLock};

/// Where iptables-legacy locks, unless `XTABLES_LOCKFILE` says otherwise (iptables(8)).
pub const XTABLES_LOCK: &str = "/run/xtables.lock";
const LOCKS: &str = "/proc/locks";
/// The inode of the first PID namespace (PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether a program holds the xtables lock.
///
/// The kernel shows the locks of the reader's PID namespace: outside the host's, a lock that is not seen may be held all the
/// same, and [`FileLock::partial`] says so.
pub async fn xtables_lock(limits: Limits) -> Reading<FileLock> {
    let read = tokio::task::spawn_blocking(move || read(limits.bytes));
    match tokio::time::timeout(limits.within, read).await {
        Ok(Ok(reading)) => reading,
        Ok(Err(error)) => Reading::Failed(format!("{LOCKS}: {error}")),
        Err(_) => Reading::Failed(format!("{LOCKS} was not read within {:?}", limits.within)),
    }
}

fn read(bytes: u64) -> Reading<FileLock> {
    let file = match std::fs::metadata(XTABLES_LOCK) {
        Ok(file) => file,
        Err(error) => return unread(XTABLES_LOCK, &error),
    };
    let mut text = String::new();
    let whole = File::open(LOCKS).and_then(|from| from.take(bytes).read_to_string(&mut text));
    if let Err(error) = whole {
        return unread(LOCKS, &error);
    }
    let device = (libc::major(file.dev()), libc::minor(file.dev()));
    let mut lock = locks::parse(&text, (u64::from(device.0), u64::from(device.1)), file.ino());
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    lock.partial = own.as_os_str() != FIRST_PID_NAMESPACE;
    Reading::Read(lock)
}
