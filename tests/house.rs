//! The rules of the house, checked: purity of the minds, banned paths, documented modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOMS: [&str; 7] = ["watcher", "netns", "prober", "diagnosis", "coordinator", "remedy", "metrics"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "target" {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every file of Rust in the workspace, relative to its root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["src", "actors", "config", "simulations", "tests", "benches"] {
        let folder = root().join(folder);
        if folder.exists() {
            rust_files(&folder, &mut files);
        }
    }
    assert!(files.len() > 60, "only {} files found", files.len());
    files
        .into_iter()
        .map(|f| (f.strip_prefix(root()).unwrap().display().to_string(), fs::read_to_string(&f).unwrap()))
        .collect()
}

fn tree(package: &str, features: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            package,
            "-e",
            "normal",
            "--prefix",
            "none",
            "--no-default-features",
        ])
        .args(features)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|l| l.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn minds_are_pure_by_their_dependencies() {
    let impure =
        ["actix", "actix-rt", "tokio", "kube", "kube-client", "kube-runtime", "nix", "rtnetlink", "hickory-net"];
    let pure = ["messages", "kernel", "cluster", "outside"].into_iter().chain(ROOMS);
    for package in pure {
        let tree = tree(&format!("nameward-{package}"), &[]);
        let found: Vec<_> = tree.iter().filter(|c| impure.contains(&c.as_str())).collect();
        assert!(found.is_empty(), "nameward-{package} without features depends on {found:?}");
    }
    // The check itself can fail: with its shell a room does depend on them.
    let shell = tree("nameward-prober", &["--features", "actor"]);
    assert!(shell.iter().any(|c| c == "actix") && shell.iter().any(|c| c == "tokio"));
}

#[test]
fn no_room_depends_on_another() {
    for room in ROOMS {
        let tree = tree(&format!("nameward-{room}"), &["--features", "actor"]);
        let others: Vec<_> = ROOMS.iter().filter(|o| **o != room && tree.contains(&format!("nameward-{o}"))).collect();
        assert!(others.is_empty(), "{room} depends on {others:?}");
    }
}

/// Code lines, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, l)| (i + 1, l)).filter(|(_, l)| !l.trim_start().starts_with("//"))
}

#[test]
fn paths_that_do_not_follow_a_thread_into_a_namespace_are_not_read() {
    for (file, text) in sources() {
        if file.contains("tests/") || file.ends_with("tests.rs") {
            continue; // Their texts quote what evidence says.
        }
        for (line, text) in code(&text) {
            for banned in ["\"/proc/net", "\"/proc/self/net", "\"/sys/class/net"] {
                assert!(
                    !text.contains(banned),
                    "{file}:{line}: {banned}… shows the process's namespace, not the thread's"
                );
            }
        }
    }
}

#[test]
fn only_the_kernel_crate_enters_namespaces() {
    for (file, text) in sources() {
        // The simulation's lab makes namespaces of its own.
        let allowed =
            file.starts_with("actors/kernel/src/enter") || file.starts_with("simulations/") || file == "tests/house.rs";
        for (line, text) in code(&text) {
            let enters = text.contains("sched::setns") || text.contains("libc::setns");
            assert!(allowed || !enters, "{file}:{line}: setns belongs to kernel::enter");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (file, text) in sources() {
        let test = file.contains("/tests") || file.ends_with("tests.rs");
        assert!(test || text.starts_with("//!"), "{file}: begin with a //! line that says what the file is");
    }
}

#[test]
fn files_stay_small() {
    let mut lengths: Vec<(usize, String)> =
        sources().into_iter().map(|(file, text)| (text.lines().count(), file)).collect();
    lengths.sort();
    // The table of causes is read from top to bottom as one page.
    let table = |file: &str| file.ends_with("messages/src/causes.rs");
    let long: Vec<_> = lengths.iter().filter(|(n, file)| *n > 500 && !table(file)).collect();
    assert!(long.is_empty(), "longer than 500 lines, split them: {long:?}");
    let median = lengths[lengths.len() / 2].0;
    assert!(median <= 200, "the median file has {median} lines");
}

#[test]
fn nothing_is_left_open() {
    let (todo, unimplemented, ignore) =
        (["todo", "!("].concat(), ["unimplemented", "!("].concat(), ["#[igno", "re"].concat());
    for (file, text) in sources() {
        for (line, text) in code(&text) {
            for mark in [&todo, &unimplemented, &ignore] {
                assert!(!text.contains(mark.as_str()), "{file}:{line}: {mark}");
            }
        }
    }
}
