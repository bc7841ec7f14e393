//! The binary as a user runs it: a clean environment, a deadline, and what it said.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nameward_supervision::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

/// Longest time for anything that is not itself about time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` gives something.
pub(crate) fn awaited<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = clock::now().mono;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::now().mono.since(began) < within, "not within {within:?}: {what}");
        std::thread::park_timeout(LOOK);
    }
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Checks the exit status, and what standard error says; nothing may have panicked.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.err.starts_with("nameward: "), "{self:#?}");
        self.says(words)
    }

    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        let all = format!("{}{}", self.out, self.err);
        for word in words {
            assert!(all.contains(word), "`{word}` is missing: {self:#?}");
        }
        assert!(!all.contains("panicked") && !all.contains("RUST_BACKTRACE"), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.says(&[])
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// A folder of one's own, in which a command runs; readable by everybody.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A kubeconfig for a server at this address.
    pub(crate) fn kubeconfig(&self, server: SocketAddr) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters:\n- name: lab\n  cluster: {{server: \"http://{server}\"}}\n\
             users:\n- name: lab\n  user: {{token: someone}}\ncontexts:\n- name: lab\n  context: {{cluster: lab, user: lab}}\n"
        );
        self.write("kubeconfig", &text)
    }

    /// The binary, here, where the user `nobody` can reach it too.
    pub(crate) fn binary(&self) -> PathBuf {
        let copy = self.path("nameward");
        if !copy.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_nameward"), &copy).unwrap();
        }
        copy
    }

    fn dress(&self, command: &mut Command) {
        heed_interrupts();
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// `nameward` with these arguments.
    pub(crate) fn nameward(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nameward"));
        self.dress(&mut command);
        command.args(args);
        command
    }

    /// The same without any power: as `nobody` where the tests run as root, else as whoever runs them.
    pub(crate) fn powerless(&self, args: &[&str]) -> Command {
        if !nix::unistd::geteuid().is_root() {
            return self.nameward(args);
        }
        self.under(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], args)
    }

    /// Under another program, such as `unshare`.
    pub(crate) fn under(&self, program: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(installed(program[0]));
        self.dress(&mut command);
        command.args(&program[1..]).arg(self.binary()).args(args);
        command
    }
}

/// Lets what is started from here be interrupted even where the tests run behind a shell's `&`, which has SIGINT ignored: an
/// ignored signal stays ignored in a new program, one with a handler does not.
fn heed_interrupts() {
    static HEEDED: Once = Once::new();
    HEEDED.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        if ignored & (1 << (Signal::SIGINT as u64 - 1)) != 0 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            let _context = runtime.enter();
            let _heard = signal(SignalKind::interrupt()).unwrap();
        }
    });
}

/// By path, so that the command's own PATH may be anything.
fn installed(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed"))
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn ran(mut command: Command) -> Said {
    let mut child = Killed(command.spawn().unwrap());
    let (out, err) = (collect(child.0.stdout.take()), collect(child.0.stderr.take()));
    let status = ended(&mut child.0, PATIENCE);
    Said { code: status.code(), out: out.recv().unwrap(), err: err.recv().unwrap() }
}

#[track_caller]
pub(crate) fn ended(child: &mut Child, within: Duration) -> ExitStatus {
    awaited("the end of the command", within, || child.try_wait().unwrap())
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    let mut stream = stream.unwrap();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let _gone = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

/// A command that runs on, and its lines as they come.
pub(crate) struct Running {
    child: Killed,
    lines: Receiver<String>,
    /// Every line so far.
    pub(crate) seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = Killed(command.spawn().unwrap());
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.0.stdout.take().unwrap()), Box::new(child.0.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.0.id().cast_signed())
    }

    /// Waits for a line with this text, from now on.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> String {
        let began = clock::now().mono;
        loop {
            let left = PATIENCE.saturating_sub(clock::now().mono.since(began));
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|e| panic!("it did not say `{text}` ({e}): {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end, and gives back the status with the lines not seen yet.
    #[track_caller]
    pub(crate) fn ends(mut self, within: Duration) -> (ExitStatus, Vec<String>) {
        let status = ended(&mut self.child.0, within);
        (status, self.lines.iter().collect())
    }
}

/// Status and body of a page.
pub(crate) fn get(address: SocketAddr, page: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

/// A loopback address where nobody listens. The port was free a moment ago.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Both must be the same, told with a name.
#[track_caller]
pub(crate) fn same<T: PartialEq + Debug>(what: &str, before: &T, after: &T) {
    assert_eq!(before, after, "{what} differ");
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
