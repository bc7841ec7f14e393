//! A private world for each simulation: its own (when unprivileged) user, and always its own mount, PID, network, IPC and
//! host-name namespaces, with its own `/run`.
//!
//! The process starts itself again twice, before any thread or runtime exists:
//!
//! ```text
//! outer   unshares, starts `init`, passes signals on, hands back its exit code
//!  └ init     process 1 of the PID namespace: mounts, loopback, reaps orphans
//!     └ inside    the program: `isolate` returns `Place::Inside` here
//! ```
//!
//! `init` dies with `outer` (PR_SET_PDEATHSIG), and when process 1 of a PID namespace dies the kernel kills all in it; with the
//! last process go the mounts and the network namespaces. So SIGKILL of any of the three leaves nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getegid, geteuid, pipe2};

use super::private;

/// Where a process stands: `init:<network namespace>` or `inside:<network namespace>`, the inode of the outer network namespace.
const STAGE: &str = "NAMEWARD_SIMULATION_STAGE";

/// Signals that are passed on to the program.
const PASSED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Proof that this process runs in namespaces of its own: what builds a lab asks for it, so that no machine is ever changed.
#[derive(Clone, Copy, Debug)]
pub struct Private(());

/// Which of the processes this one is.
#[derive(Debug)]
pub enum Place {
    /// The program itself, in private namespaces: go on.
    Inside(Private),
    /// The program has run and ended with this code: return it from `main`.
    Ended(ExitCode),
}

/// Why a private world could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IsolateError {
    /// unshare(2) refused, or gave namespaces without power over them.
    #[error("private namespaces are refused here ({operation}): {hint}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The setting to blame and the next step.
        hint: String,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// A step inside the new namespaces failed.
    #[error("could not {step} in the private namespaces")]
    Step {
        /// The step.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another process could not be started.
    #[error("could not start this program again in the private namespaces")]
    Again(#[source] io::Error),
    /// The stage variable was set by hand, or copied out of a simulation.
    #[error("{STAGE} is set, but this process is not in namespaces of its own: unset it")]
    Marker,
}

impl IsolateError {
    pub(super) fn step(step: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Step { step, source: errno.into() }
    }
}

/// Puts this process into a private world. Call it first in `main`, before any thread, with the arguments of the process
/// (without the program's name).
///
/// # Errors
///
/// If namespaces are refused (the message names the setting and the next step) or cannot be furnished.
pub fn isolate(args: &[OsString]) -> Result<Place, IsolateError> {
    let stage = std::env::var(STAGE).unwrap_or_default();
    match stage.split_once(':') {
        None if stage.is_empty() => outer(args).map(Place::Ended),
        Some(("init", outside)) if differs(outside) => init(args, outside).map(Place::Ended),
        Some(("inside", outside)) if differs(outside) => Ok(Place::Inside(Private(()))),
        _ => Err(IsolateError::Marker),
    }
}

fn net_inode() -> Option<u64> {
    std::fs::metadata("/proc/thread-self/ns/net").ok().map(|m| m.ino())
}

fn differs(outside: &str) -> bool {
    matches!((outside.parse::<u64>(), net_inode()), (Ok(outside), Some(now)) if outside != now)
}

fn outer(args: &[OsString]) -> Result<ExitCode, IsolateError> {
    let outside = net_inode().unwrap_or(0);
    let rest = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let direct = if geteuid().is_root() { unshare(rest) } else { Err(Errno::EPERM) };
    match direct {
        Ok(()) => {}
        // An ordinary user, or a root whose powers were taken (a container): through a user namespace. Its map is written
        // before the network namespace is made, else files of that namespace under /proc/net would belong to nobody.
        Err(Errno::EPERM) => {
            let (uid, gid) = (geteuid(), getegid());
            unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| refused("unshare(CLONE_NEWUSER)", e))?;
            let map = |file: &str, line: String| {
                std::fs::write(format!("/proc/self/{file}"), line)
                    .map_err(|source| IsolateError::Step { step: "map this user to root", source })
            };
            map("setgroups", "deny".into())?;
            map("uid_map", format!("0 {uid} 1"))?;
            map("gid_map", format!("0 {gid} 1"))?;
            unshare(rest).map_err(|e| refused("unshare in a user namespace", e))?;
        }
        Err(other) => return Err(refused("unshare", other)),
    }
    let (signals, mask) = signals()?;
    // The pipe tells `init` that this process lives: it may have died before `init` asked to die with it.
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| IsolateError::Again(e.into()))?;
    let mut command = again(args, &format!("init:{outside}"));
    die_with_parent(&mut command, read, write.as_fd());
    unblock(&mut command, mask);
    let child = command.spawn().map_err(IsolateError::Again)?;
    let code = follow(&signals, Pid::from_raw(child.id().cast_signed()));
    drop(write);
    code
}

fn init(args: &[OsString], outside: &str) -> Result<ExitCode, IsolateError> {
    private::furnish()?;
    let (signals, mask) = signals()?;
    let mut command = again(args, &format!("inside:{outside}"));
    unblock(&mut command, mask);
    let child = command.spawn().map_err(IsolateError::Again)?;
    follow(&signals, Pid::from_raw(child.id().cast_signed()))
}

fn again(args: &[OsString], stage: &str) -> Command {
    // Not by path: the file may be hidden by the new /run, or replaced by a build meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args(args).env(STAGE, stage);
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command
}

/// Makes the child die with this process: by signal, and at once if this process has already died.
#[expect(unsafe_code, reason = "pre_exec")]
fn die_with_parent(command: &mut Command, read: OwnedFd, write: BorrowedFd<'_>) {
    let write = write.as_raw_fd();
    let ask = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // Only the parent shall hold the other end; the child's copy goes.
        nix::unistd::close(write)?;
        let mut watched = [nix::poll::PollFd::new(read.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut watched, nix::poll::PollTimeout::ZERO)?;
        match watched[0].revents() {
            Some(events) if events.contains(nix::poll::PollFlags::POLLHUP) => Err(Errno::ESRCH.into()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure makes four system calls, and allocates and locks nothing.
    unsafe { command.pre_exec(ask) };
}

/// Gives the child the mask that this process had before it blocked signals: a mask is inherited.
#[expect(unsafe_code, reason = "pre_exec")]
fn unblock(command: &mut Command, mask: SigSet) {
    // SAFETY: between fork and exec the closure makes one system call, and allocates and locks nothing.
    unsafe { command.pre_exec(move || Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?)) };
}

/// Blocks the signals of interest and opens a descriptor that tells of them; also gives back the mask from before.
fn signals() -> Result<(SignalFd, SigSet), IsolateError> {
    let mut set = SigSet::from_iter(PASSED);
    set.add(Signal::SIGCHLD);
    let failed = IsolateError::step("listen for signals");
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).map_err(&failed)?;
    Ok((SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(&failed)?, before))
}

/// Passes signals on to `child`, reaps all that end, and returns when `child` has ended.
fn follow(signals: &SignalFd, child: Pid) -> Result<ExitCode, IsolateError> {
    let failed = IsolateError::step("wait for the program");
    loop {
        let told = match signals.read_signal() {
            Ok(Some(told)) => told,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        let signal = i32::try_from(told.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
        if let Some(signal) = signal.filter(|s| *s != Signal::SIGCHLD) {
            // What the terminal sends (code above 0: from the kernel) reaches the whole process group by itself.
            if told.ssi_code <= 0 {
                let _ended_meanwhile = kill(child, signal);
            }
            continue;
        }
        if let Some(code) = reap(child).map_err(&failed)? {
            return Ok(code);
        }
    }
}

fn reap(child: Pid) -> Result<Option<ExitCode>, Errno> {
    // One SIGCHLD may stand for several children.
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(ended) => {
                let Some(pid) = ended.pid() else { return Ok(None) };
                let status = waitpid(pid, None)?;
                if pid == child {
                    return Ok(Some(code(status)));
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn code(status: WaitStatus) -> ExitCode {
    ExitCode::from(match status {
        WaitStatus::Exited(_, code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        WaitStatus::Signaled(_, signal, _) => 128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0)),
        _ => u8::MAX,
    })
}

/// Why, as far as the usual settings tell, and what to do.
pub(super) fn refused(operation: &'static str, source: Errno) -> IsolateError {
    let is = |file: &str, value: &str| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let or_root = "; or run the simulation as root";
    let hint = if is("/proc/sys/user/max_user_namespaces", "0") {
        format!("user.max_user_namespaces is 0; `sysctl -w user.max_user_namespaces=15000`{or_root}")
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        format!("kernel.unprivileged_userns_clone is 0; `sysctl -w kernel.unprivileged_userns_clone=1`{or_root}")
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        format!(
            "kernel.apparmor_restrict_unprivileged_userns is 1; `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`{or_root}"
        )
    } else if source == Errno::ENOSPC {
        format!("a limit under /proc/sys/user/max_*_namespaces is reached; raise user.max_user_namespaces{or_root}")
    } else {
        "no sysctl explains it: a container's seccomp profile or a missing CAP_SYS_ADMIN may; run it on the machine itself, or \
         give the container `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`"
            .into()
    };
    IsolateError::Refused { operation, hint, source }
}
