//! The parent's side: starts a server in a namespace, tells it what to do, stops it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Command, Options};
use crate::lab::Netns;
use crate::lab::hidden::DNS;

/// Milliseconds that a server has for starting or for one command. It needs about one; a busy machine may take long.
const PATIENCE: u16 = 10_000;

/// Why a server could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// It could not be started.
    #[error("could not start the DNS server in {namespace}")]
    Start {
        /// Where.
        namespace: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Its pipes are closed, or it said nothing in time: it has ended or is stopped.
    #[error("the DNS server in {namespace} does not listen to `{command}`")]
    Silent {
        /// Where.
        namespace: String,
        /// What it was told.
        command: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It could not do what it was told.
    #[error("the DNS server in {namespace} answered `{command}` by: {said}")]
    Refused {
        /// Where.
        namespace: String,
        /// What it was told.
        command: String,
        /// Its answer.
        said: String,
    },
    /// A signal could not be sent.
    #[error("could not send {signal} to the DNS server in {namespace}")]
    Signal {
        /// Where.
        namespace: String,
        /// Which.
        signal: Signal,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct DnsControl {
    namespace: String,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl DnsControl {
    /// Starts a server in a namespace and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it cannot be started or cannot bind its ports.
    pub fn start(netns: &Netns, options: &Options) -> Result<Self, DnsError> {
        let namespace = netns.name().to_owned();
        let failed = |source| DnsError::Start { namespace: namespace.clone(), source };
        let options = serde_json::to_string(options).map_err(io::Error::other).map_err(failed)?;
        let mut command = netns.command("/proc/self/exe");
        command.arg(DNS).arg(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("no pipes")));
        };
        let mut control = Self { namespace: namespace.clone(), child, stdin, stdout };
        match control.hear() {
            Ok(said) if said == "ready" => Ok(control),
            Ok(said) => Err(DnsError::Refused { namespace, command: "start".into(), said }),
            Err(source) => Err(DnsError::Start { namespace, source }),
        }
    }

    /// Tells the server something and waits until it has done it.
    ///
    /// # Errors
    ///
    /// If it has ended, is stopped, or cannot do it.
    pub fn tell(&mut self, command: &Command) -> Result<(), DnsError> {
        let (namespace, text) = (self.namespace.clone(), command.to_string());
        let told = writeln!(self.stdin, "{text}").and_then(|()| self.hear());
        match told {
            Ok(said) if said == "ok" => Ok(()),
            Ok(said) => Err(DnsError::Refused { namespace, command: text, said }),
            Err(source) => Err(DnsError::Silent { namespace, command: text, source }),
        }
    }

    /// One line of its output.
    fn hear(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let mut watched = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
            if poll(&mut watched, PollTimeout::from(PATIENCE))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut byte = [0_u8];
            if self.stdout.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match byte {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).into_owned()),
                [other] => line.push(other),
            }
        }
    }

    /// Sends a signal: SIGSTOP is a hang, SIGCONT its end.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), DnsError> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).map_err(|errno| DnsError::Signal {
            namespace: self.namespace.clone(),
            signal,
            source: errno.into(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// If the kernel cannot tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If the kernel cannot tell.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for DnsControl {
    fn drop(&mut self) {
        let _already_dead = self.kill();
    }
}
