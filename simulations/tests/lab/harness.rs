//! A test runner whose binary starts itself again: in private namespaces, as another user, as a hidden command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nameward_simulations::lab::{Place, Private, isolate};

pub type Test = (&'static str, fn(Private));
pub type Scene = (&'static str, fn(Private) -> ExitCode);

/// Set when all tests run a second time, as an ordinary user.
const ORDINARY: &str = "NAMEWARD_TEST_ORDINARY";

/// `nobody`.
const NOBODY: u32 = 65534;

/// The recordings of a real cluster, beside the repository.
pub fn recordings() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures")
}

pub fn main(tests: &[Test], outside: &[(&str, fn())], scenes: &[Scene]) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = nameward_simulations::hidden(&args) {
        return code;
    }
    let words: Vec<String> = args.iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    if words.iter().any(|w| w == "--list") {
        for name in tests.iter().map(|t| t.0).chain(outside.iter().map(|t| t.0)) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(scene) = words.first().and_then(|w| w.strip_prefix("--scene=")) {
        let run = scenes.iter().find(|s| s.0 == scene).expect("a scene of that name").1;
        return match isolate(&args[1..]) {
            Ok(Place::Inside(private)) => run(private),
            Ok(Place::Ended(code)) => code,
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                println!("refused: {error}: {source}");
                ExitCode::from(77)
            }
        };
    }
    let wanted = |name: &str| {
        let filters: Vec<&String> = words.iter().filter(|w| !w.starts_with('-')).collect();
        filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()))
    };
    // What watches from outside runs before anything is unshared; the marker of the stage says on which side this is.
    let started_outside = std::env::var_os("NAMEWARD_SIMULATION_STAGE").is_none();
    let who = if std::env::var_os(ORDINARY).is_some() { "ordinary user" } else { "first user" };
    let mut failed = 0;
    if started_outside {
        for (name, test) in outside.iter().filter(|t| wanted(t.0)) {
            failed += report(who, name, test);
        }
        if nix::unistd::geteuid().is_root() && std::env::var_os(ORDINARY).is_none() {
            let mut again = Command::new("/proc/self/exe");
            again.args(&args[1..]).env(ORDINARY, "1").uid(NOBODY).gid(NOBODY);
            if !again.status().expect("the tests start as an ordinary user").success() {
                failed += 1;
            }
        }
    }
    match isolate(&args[1..]) {
        Ok(Place::Inside(private)) => {
            for (name, test) in tests.iter().filter(|t| wanted(t.0)) {
                failed += report(who, name, || test(private));
            }
        }
        // The tests inside have reported; the code says whether all passed.
        Ok(Place::Ended(code)) if failed == 0 => return code,
        Ok(Place::Ended(_)) => {}
        Err(error) => {
            println!("no private namespaces: {error}");
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(who: &str, name: &str, test: impl FnOnce()) -> u32 {
    let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
    println!("test {name} ({who}) ... {}", if passed { "ok" } else { "FAILED" });
    u32::from(!passed)
}
