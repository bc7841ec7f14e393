//! Network namespaces with a path, and how code and programs get into one.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::error::LabError;
use super::private::loopback_up;

/// Where network namespaces are bound, as `ip netns` and container runtimes do.
const FOLDER: &str = "/run/netns";

/// A network namespace of the lab. Clones name the same namespace.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
}

impl Netns {
    /// The namespace that the calling process is in.
    pub(super) fn current(name: &str) -> Result<Self, LabError> {
        let path = "/proc/thread-self/ns/net";
        let file = File::open(path).map_err(LabError::file(path))?;
        Ok(Self { name: name.to_owned(), file: Arc::new(file) })
    }

    /// Makes a namespace, binds it to `/run/netns/<name>` and to every one of `also`, and brings its loopback up.
    pub(super) fn create(name: &str, also: &[PathBuf]) -> Result<Self, LabError> {
        let failed = |source: io::Error| LabError::Namespace { name: name.to_owned(), source };
        let paths: Vec<PathBuf> = std::iter::once(path_of(name)).chain(also.iter().cloned()).collect();
        for path in &paths {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(failed)?;
            }
            File::create_new(path).map_err(failed)?;
        }
        // On a thread that ends afterwards: the namespace of this thread is left alone.
        let made = std::thread::scope(|scope| {
            let maker = scope.spawn(|| -> io::Result<File> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let own = "/proc/thread-self/ns/net";
                for path in &paths {
                    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                }
                loopback_up()?;
                File::open(own)
            });
            maker.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        });
        let file = made.map_err(failed)?;
        Ok(Self { name: name.to_owned(), file: Arc::new(file) })
    }

    /// What keeps it in being.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` inside, on a thread of its own that ends with it. Sockets that it opens stay in this namespace.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered, or `work` panicked.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let failed = |source| LabError::Enter { name: self.name.clone(), source };
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                set_netns(self.file.as_raw_fd())?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the work panicked")))
        })
        .map_err(failed)
    }

    /// A command that will start inside this namespace; mounts are those of the caller.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.enter_on_start(&mut command);
        command
    }

    /// The same for a program of the system, in plain English and found where such programs are.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.env("LC_ALL", "C").env("PATH", system_path());
        command
    }

    /// Makes `command` start inside this namespace.
    #[expect(unsafe_code, reason = "pre_exec")]
    pub fn enter_on_start(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec the closure makes one system call, and allocates and locks nothing.
        unsafe { command.pre_exec(move || set_netns(file.as_raw_fd())) };
    }

    /// Starts `command` inside. The child ends with the simulation at the latest: it lives in its PID namespace.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(&self, mut command: Command) -> Result<Child, LabError> {
        self.enter_on_start(&mut command);
        let program = command.get_program().to_string_lossy().into_owned();
        command.spawn().map_err(|source| LabError::Spawn { program, namespace: self.name.clone(), source })
    }

    /// Runs a program of the system to its end with `input`, and gives back its output.
    ///
    /// # Errors
    ///
    /// If it cannot be started or reports failure; the error carries what it wrote.
    pub fn tool(&self, program: &str, args: &[&str], input: &str) -> Result<String, LabError> {
        let failed = |source| LabError::Spawn { program: program.to_owned(), namespace: self.name.clone(), source };
        let mut command = self.program(program);
        command.args(args);
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let feed = child.stdin.take();
        // These programs read all of their input before they write more than a pipe holds, except when they fail early:
        // then writing fails too, and what they say is worth more than that.
        let fed = feed.map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() || fed.is_err() {
            return Err(LabError::Tool {
                command: format!("{program} {}", args.join(" ")),
                namespace: self.name.clone(),
                stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `ip -batch -` with one command a line.
    pub(super) fn ip(&self, lines: &[String]) -> Result<(), LabError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.tool("ip", &["-batch", "-"], &(lines.join("\n") + "\n")).map(|_| ())
    }

    /// Writes sysctls by their path under `/proc/sys`. That folder shows the namespace of the reading thread.
    pub(super) fn sysctls(&self, values: &[(&str, &str)]) -> Result<(), LabError> {
        self.enter(|| {
            for (name, value) in values {
                let path = format!("/proc/sys/{name}");
                std::fs::write(&path, value).map_err(LabError::file(path))?;
            }
            Ok(())
        })?
    }
}

/// An ordinary user's PATH may lack the folders of `ip`, `nft` and `iptables`.
fn system_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// The path of a namespace by its name.
#[must_use]
pub fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Takes a namespace's paths away. The namespace itself goes when the last process and socket in it are gone.
pub(super) fn unbind(paths: &[PathBuf]) -> Result<(), LabError> {
    for path in paths {
        umount2(path, MntFlags::MNT_DETACH).map_err(|e| LabError::File { path: path.clone(), source: e.into() })?;
        std::fs::remove_file(path).map_err(LabError::file(path))?;
    }
    Ok(())
}

/// setns(2) for a network namespace: used on threads and in forked children that never come back from it.
#[expect(unsafe_code, reason = "setns by number, callable between fork and exec")]
fn set_netns(fd: i32) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is open; it changes the calling thread only.
    Errno::result(unsafe { libc::setns(fd, libc::CLONE_NEWNET) })?;
    Ok(())
}
