//! Threads that are not where they belong: invariant I19, looked at from outside.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Netns;

/// Namespaces that no thread of Nameward ever leaves.
const NEVER_LEFT: [&str; 5] = ["mnt", "pid", "user", "ipc", "uts"];

/// A thread in a namespace that is not its process's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stray {
    /// Its name, as in `/proc/PID/task/TID/comm`.
    pub name: String,
    /// The kind of the namespace, as in `/proc/PID/task/TID/ns`.
    pub namespace: &'static str,
}

/// The threads of a process that are in another network namespace than `home`, or in another namespace of any other kind than
/// its main thread. One that is in another network namespace for the moment of its work is among them.
///
/// # Errors
///
/// If the process is gone, or `/proc` may not be read. A thread that ended meanwhile is no stray.
pub fn strays(pid: u32, home: &Netns) -> io::Result<Vec<Stray>> {
    let home = fs::metadata(format!("/proc/self/fd/{}", home.file().as_raw_fd()))?.ino();
    let process = Path::new("/proc").join(pid.to_string());
    let main = |kind: &str| fs::metadata(process.join("ns").join(kind)).map(|file| file.ino());
    let mut belongs = vec![("net", home)];
    for kind in NEVER_LEFT {
        belongs.push((kind, main(kind)?));
    }
    let mut found = Vec::new();
    for task in fs::read_dir(process.join("task"))? {
        let task = task?.path();
        for (namespace, inode) in &belongs {
            let Ok(file) = fs::metadata(task.join("ns").join(namespace)) else { break };
            if file.ino() != *inode {
                let name = fs::read_to_string(task.join("comm")).unwrap_or_default().trim_end().to_owned();
                found.push(Stray { name, namespace });
            }
        }
    }
    Ok(found)
}
