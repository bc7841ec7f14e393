//! What a simulation leaves when it is killed, seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};

use nameward_simulations::dns::{DnsControl, Options};
use nameward_simulations::lab::Private;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::two_nodes_six_pods;

/// A scene: a lab with a server in it, standing until it is killed.
pub fn stand(private: Private) -> ExitCode {
    let lab = two_nodes_six_pods(private);
    let _server = DnsControl::start(&lab.pod("kube-system/coredns-a").unwrap().netns, &Options::coredns()).unwrap();
    println!("standing");
    std::io::stdout().flush().unwrap();
    loop {
        nix::unistd::pause();
    }
}

/// A scene: ends with code 42 at once, or by SIGTERM when it comes.
pub fn end(_private: Private) -> ExitCode {
    if std::env::args().any(|a| a == "wait") {
        println!("waiting");
        std::io::stdout().flush().unwrap();
        loop {
            nix::unistd::pause();
        }
    }
    ExitCode::from(42)
}

fn scene(args: &[&str]) -> Child {
    Command::new("/proc/self/exe").args(args).stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Parent of every process.
fn parents() -> BTreeMap<i32, i32> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let parent = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let behind_name = stat.rsplit_once(')')?.1;
        Some((pid, behind_name.split_whitespace().nth(1)?.parse().ok()?))
    };
    numbers.filter_map(parent).collect()
}

fn descendants(of: i32) -> Vec<i32> {
    let parents = parents();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, p)| **p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or an error.
    #[expect(unsafe_code, reason = "no safe form")]
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(fd >= 0, "pidfd of {pid}");
        OwnedFd::from_raw_fd(i32::try_from(fd).unwrap())
    }
}

/// Namespaces (net, mnt, pid) that these processes are in.
fn namespaces(of: &[i32]) -> BTreeSet<String> {
    let links = |pid: i32| ["net", "mnt", "pid"].map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok());
    of.iter().copied().flat_map(links).flatten().map(|link| link.display().to_string()).collect()
}

pub fn killing_any_process_leaves_nothing() {
    // The processes of a simulation in order: outer, init, inside. Any of them may be the one that is killed.
    for victim in 0..3 {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut child = scene(&["--scene=stand"]);
        assert_eq!(first_line(&mut child), "standing");
        let processes = descendants(i32::try_from(child.id()).unwrap());
        assert!(processes.len() > 3 + 6, "outer, init, inside, six holders, a server: {processes:?}");
        let me = namespaces(&[i32::try_from(std::process::id()).unwrap()]);
        let own: BTreeSet<String> = namespaces(&processes).difference(&me).cloned().collect();
        // Others run on this machine too, and numbers of namespaces are used again at once: only who is here now is asked later.
        let others: Vec<i32> = parents().into_keys().filter(|pid| !processes.contains(pid)).collect();
        assert!(own.len() > 3 + 6, "it has namespaces of its own: {own:?}");
        let watched: Vec<OwnedFd> = processes.iter().map(|pid| pidfd(*pid)).collect();
        kill(Pid::from_raw(processes[victim]), Signal::SIGKILL).unwrap();
        for (pid, fd) in processes.iter().zip(&watched) {
            let mut one = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            let ended = poll(&mut one, PollTimeout::from(10_000_u16)).unwrap();
            assert_eq!(ended, 1, "process {pid} outlives the killing of process {victim}");
        }
        child.wait().unwrap();
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts, "mounts are as before");
        let left: Vec<String> = namespaces(&others).intersection(&own).cloned().collect();
        assert_eq!(left, Vec::<String>::new(), "no namespace is left in use");
    }
}

pub fn signals_and_codes_pass() {
    assert_eq!(scene(&["--scene=end"]).wait().unwrap().code(), Some(42));
    let mut child = scene(&["--scene=end", "wait"]);
    assert_eq!(first_line(&mut child), "waiting");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + Signal::SIGTERM as i32), "the program ended by it");
}

/// With no namespaces left to have, the error says which setting it is and what to do.
pub fn refusal_names_the_next_step() {
    // In a user namespace of its own, where the limit can be set for it alone.
    let text = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" --scene=end"])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(text.status.code(), Some(77), "{said} {}", String::from_utf8_lossy(&text.stderr));
    assert!(said.contains("max_user_namespaces") && said.contains("sysctl -w"), "{said}");
}
