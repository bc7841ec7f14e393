//! Runs a test again inside namespaces of its own, as root or without privilege.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

const INSIDE: &str = "NAMEWARD_TEST_INSIDE";

/// `true` inside. Outside it runs the named test of this binary inside private user (when unprivileged), network, mount
/// and PID namespaces, with an own /run and `lo` up, and says `false` once that has passed.
pub(crate) fn enter(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap() == 0;
    let mut command = Command::new("unshare");
    if !root {
        // In two steps: files below /proc/net belong to the root of a user namespace only if its map was there first.
        command.args(["--user", "--map-root-user", "--", "unshare"]);
    }
    let inside = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec \"$0\" \"$@\"";
    let status = command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare of util-linux is needed");
    assert!(status.success(), "the test failed inside its namespaces");
    false
}

/// Runs a command that must succeed.
pub(crate) fn run(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status().unwrap();
    assert!(status.success(), "{line}");
}

/// A program that ends with the test.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it. A program that is not installed fails the test.
    pub(crate) fn start(program: &str, args: &[&str], folder: &Path) -> Self {
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(program)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(child.unwrap_or_else(|e| panic!("{program} is needed and cannot be started: {e}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
