//! A simulation that is killed leaves no process, no mount and no namespace, as root and as an ordinary user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use support::{Home, PATIENCE, Running, awaited, same};

/// Processes by pid: parent, start time.
fn processes() -> BTreeMap<i32, (i32, String)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().map_while(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        all.insert(pid, (fields[1].parse().unwrap(), fields[19].to_owned()));
    }
    all
}

/// `root` and all that descend from it, each with its start time: a pid may be given again.
fn family(root: i32) -> BTreeSet<(i32, String)> {
    let all = processes();
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, (parent, _))| found.contains(parent) && !found.contains(pid))
            .map(|(p, _)| *p)
            .collect();
        if more.is_empty() {
            return found.into_iter().filter_map(|pid| Some((pid, all.get(&pid)?.1.clone()))).collect();
        }
        found.extend(more);
    }
}

/// Processes that were given this mark, wherever they are now: who starts another hands its environment down.
fn marked(mark: &str) -> BTreeSet<i32> {
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    processes().into_keys().filter(has).collect()
}

/// What `ip netns` would list.
fn named() -> BTreeSet<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten();
    entries.map_while(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

/// Kills the outer process with this signal once `line` was told, and looks at what is left.
///
/// A namespace lives as long as a process is in it or a mount names it, so those are looked for; numbers of namespaces are
/// given again at once, and tell nothing.
fn left_after(mut command: Command, line: &str, signal: Signal) {
    static KILLED: AtomicU32 = AtomicU32::new(0);
    let mark = format!("{}.{}", std::process::id(), KILLED.fetch_add(1, Ordering::Relaxed));
    command.env("KILLED", &mark);
    let mark = format!("KILLED={mark}");
    let (mounts_before, named_before) = (mounts(), named());
    let mut running = Running::start(command);
    let outer = running.pid().as_raw();
    if line.is_empty() {
        awaited("a first child", PATIENCE, || (family(outer).len() > 1).then_some(()));
    } else {
        running.says(line);
        assert!(marked(&mark).len() >= 8, "the marks are seen: {:?}", marked(&mark));
    }
    let family = family(outer);
    running.signal(signal);
    let (status, lines) = running.ends(PATIENCE);
    assert!(!status.success(), "{lines:#?}");

    awaited("the end of every process of the simulation", PATIENCE, || {
        let all = processes();
        let alive = |(pid, start): &(i32, String)| all.get(pid).is_some_and(|(_, now)| now == start);
        (!family.iter().any(alive) && marked(&mark).is_empty()).then_some(())
    });
    same("the mounts", &mounts_before, &mounts());
    same("the named namespaces", &named_before, &named());
}

const UP: &str = "the agents are up";

#[test]
fn nothing_is_left_of_a_killed_simulation() {
    let home = Home::new();
    left_after(home.nameward(&["simulate", "healthy", "--watch"]), "", Signal::SIGKILL);
    left_after(home.nameward(&["simulate", "healthy", "--watch"]), UP, Signal::SIGKILL);
    left_after(home.nameward(&["simulate", "healthy", "--watch"]), UP, Signal::SIGINT);
}

#[test]
fn nothing_is_left_of_a_killed_simulation_of_an_ordinary_user() {
    let home = Home::new();
    left_after(home.powerless(&["simulate", "healthy", "--watch"]), UP, Signal::SIGKILL);
}
