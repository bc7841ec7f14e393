//! The commands as a new user meets them: help, lists, files with mistakes, exit statuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use support::{Home, ran, text};

/// Subcommands by the help text itself.
fn subcommands(help: &str) -> Vec<String> {
    let Some((_, rest)) = help.split_once("Commands:\n") else { return Vec::new() };
    let listed = rest.lines().take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|n| *n != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let home = Home::new();
    let mut waiting = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let said = ran(home.nameward(&args)).succeeds().says(&["Example", "nameward "]);
        assert!(said.out.lines().all(|line| line.chars().count() <= 110), "{}", said.out);
        waiting.extend(subcommands(&said.out).into_iter().map(|name| [path.clone(), vec![name]].concat()));
        seen += 1;
    }
    assert!(seen >= 9, "{seen} commands");
}

#[test]
fn version_and_wrong_usage() {
    let home = Home::new();
    let said = ran(home.nameward(&["--version"])).succeeds();
    assert_eq!(said.out, format!("nameward {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["chekc"][..], &[], &["simulate"], &["run", "--role", "boss"], &["check", "--udp-port", "99999"]] {
        let said = ran(home.nameward(args)).says(&["--help"]);
        assert_eq!(said.code, Some(2), "{said:?}");
    }
    ran(home.nameward(&["chekc"])).says(&["'check'"]);
}

#[test]
fn completions_for_the_shells() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = ran(home.nameward(&["completions", shell])).succeeds();
        said.says(&["nameward", "simulate", "check", "kubeconfig"]);
    }
    let script = home.write("complete.bash", &ran(home.nameward(&["completions", "bash"])).out);
    assert!(Command::new("bash").arg("-n").arg(script).status().unwrap().success());
}

#[test]
fn scenarios_are_listed() {
    let home = Home::new();
    let people = ran(home.nameward(&["simulate", "--list"])).succeeds();
    let programs = ran(home.nameward(&["simulate", "--list", "--output", "json"])).succeeds();
    let of_line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let names: Vec<String> =
        programs.out.lines().map(of_line).map(|o| o["scenario"].as_str().unwrap().to_owned()).collect();
    assert!(names.len() >= 14 && names.iter().any(|n| n == "udp-dead"), "{names:?}");
    for (name, line) in names.iter().zip(people.out.lines()) {
        assert!(line.starts_with(name.as_str()), "{line}");
    }
}

#[test]
fn a_scenario_that_does_not_exist_or_has_a_typo() {
    let home = Home::new();
    ran(home.nameward(&["simulate", "udp-daed"])).fails(2, &["`udp-daed`", "did you mean `udp-dead`?", "--list"]);
    ran(home.nameward(&["simulate", "./nowhere.toml"])).fails(2, &["./nowhere.toml", "No such file"]);
    home.write("mine.toml", "name = \"mine\"\nsummary = \"y\"\n[topology]\ncorednss = 2\n[expect]\n");
    ran(home.nameward(&["simulate", "mine.toml"])).fails(2, &["mine.toml:4:1: unknown field `corednss`", "`coredns`"]);
    home.write("step.toml", "name = \"x\"\nsummary = \"y\"\n[[inject]]\ndo = \"explode\"\n[expect]\n");
    ran(home.nameward(&["simulate", "step.toml"])).fails(2, &["step.toml:", "explode"]);
}

const BAD: &str =
    "[probe]\ninterval = \"3s\"\ntimeout = \"4s\"\ntimout = \"1s\"\n[remedy]\nmode = \"ac\"\n[log]\nlevel = \"inof\"\n";
const WRONG: [&str; 4] = [
    "bad.toml:3:11: probe.timeout: must be shorter than probe.interval",
    "bad.toml:4:1: probe.timout: unknown key; did you mean `timeout`?",
    "bad.toml:6:8: remedy.mode: `ac` is not one of off, observe, act",
    "bad.toml:8:9: log.level: `inof` is not one of",
];

#[test]
fn every_mistake_in_a_configuration_is_told_at_once() {
    let home = Home::new();
    home.write("bad.toml", BAD);
    for args in
        [&["config", "check", "bad.toml"][..], &["run", "--config", "bad.toml"], &["check", "--config", "bad.toml"]]
    {
        ran(home.nameward(args)).fails(2, &["bad.toml", "4 problems"]).says(&WRONG);
    }
    let said = ran(home.nameward(&["config", "check", "--output", "json", "bad.toml"]));
    assert_eq!((said.code, said.json()["ok"].as_bool()), (Some(2), Some(false)), "{said:?}");
    assert_eq!(said.json()["problems"][1]["place"], "bad.toml:4:1");
    ran(home.nameward(&["config", "print", "bad.toml"])).fails(2, &WRONG);
    ran(home.nameward(&["config", "check", "nowhere.toml"])).fails(2, &["nowhere.toml"]).says(&["No such file"]);
    home.write("syntax.toml", "[probe\n");
    ran(home.nameward(&["run", "--config", "syntax.toml"])).fails(2, &["syntax.toml:1:"]);
    home.write("syntax.toml", "[log]\nlevl = \"info\"\n[probe\ninterval = \"5s\"\n");
    let said = ran(home.nameward(&["config", "check", "syntax.toml"]));
    said.fails(2, &["2 problems"]).says(&["syntax.toml:2:1: log.levl", "syntax.toml:3:"]);
}

#[test]
fn what_is_printed_is_good_and_says_what_is_in_force() {
    let home = Home::new();
    let mut command = home.nameward(&["config", "print"]);
    command.env("NAMEWARD_PROBE_INTERVAL", "7s");
    let said = ran(command).succeeds().says(&["interval = \"7s\""]);
    let file = home.write("printed.toml", &said.out);
    ran(home.nameward(&["config", "check", text(&file)])).succeeds().says(&["printed.toml: good"]);
    let said = ran(home.nameward(&["config", "check", "--output", "json", text(&file)])).succeeds();
    assert_eq!(said.json()["ok"], true);
    let schema = ran(home.nameward(&["config", "schema"])).succeeds().json();
    assert!(schema["properties"]["probe"].is_object(), "{schema}");
}

#[test]
fn a_bad_variable_is_named_and_a_foreign_one_harms_nothing() {
    let home = Home::new();
    let mut command = home.nameward(&["config", "print"]);
    command.env("NAMEWARD_PROBE_INTERVAL", "soon").env("NAMEWARD_REMEDY_MODE", "ac");
    ran(command).fails(2, &["NAMEWARD_PROBE_INTERVAL", "`soon`", "NAMEWARD_REMEDY_MODE", "2 problems"]);
    let mut command = home.nameward(&["config", "print"]);
    command.env("FOREIGN", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    ran(command).succeeds();
}

#[test]
fn a_level_that_is_none_is_refused_before_anything_starts() {
    let home = Home::new();
    for command in ["run", "check", "status"] {
        ran(home.nameward(&[command, "--log-level", "inof"]))
            .fails(2, &["the command line", "--log-level: ", "`inof`"]);
    }
}

#[test]
fn a_closed_pipe_is_no_disaster() {
    let home = Home::new();
    let mut command = home.nameward(&["config", "schema"]);
    command.stdout(Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap()));
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn causes_are_listed_with_what_is_done_about_them() {
    let home = Home::new();
    let people = ran(home.nameward(&["diagnose", "--list-causes"])).succeeds();
    let programs = ran(home.nameward(&["diagnose", "--list-causes", "--output", "json"])).succeeds();
    let listed: Vec<serde_json::Value> = programs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(listed.len() >= 60, "{} causes", listed.len());
    for one in &listed {
        let cause = one["cause"].as_str().unwrap();
        assert!(people.out.contains(cause), "{cause}");
        for field in ["fault", "scope", "says", "command", "runbook"] {
            assert!(one[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {one}");
        }
        assert!(one["worse"].as_array().is_some_and(|list| !list.is_empty()), "{one}");
        assert!(one["runbook"].as_str().unwrap().ends_with(&format!("docs/runbooks/{cause}.md")), "{one}");
    }
    assert!(people.out.lines().all(|line| line.chars().count() <= 110), "{}", people.out);
}

#[test]
fn on_a_narrow_terminal_the_causes_stand_one_below_the_other() {
    let home = Home::new();
    let mut command = home.nameward(&["diagnose", "--list-causes", "-o", "text"]);
    command.env("COLUMNS", "60");
    let said = ran(command).succeeds();
    assert!(said.out.lines().any(|line| line == "coredns-udp-dead (F01a, coredns-pod; evict-pod)"), "{}", said.out);
    let page = |line: &&str| line.contains("https://");
    assert!(said.out.lines().filter(|line| !page(line)).all(|line| line.chars().count() <= 60), "{}", said.out);
}

#[test]
fn what_is_to_be_diagnosed_must_be_one_thing_that_is_there() {
    let home = Home::new();
    let wrong = [
        &["diagnose"][..],
        &["diagnose", "a", "--host"],
        &["diagnose", "--host", "--list-causes"],
        &["diagnose", "a", "b"],
    ];
    for args in wrong {
        let said = ran(home.nameward(args)).says(&["--help"]);
        assert_eq!(said.code, Some(2), "{said:?}");
    }
    ran(home.nameward(&["diagnose", "a/b/c"])).fails(2, &["`a/b/c`", "namespace/name", "/run/netns/"]);
    ran(home.nameward(&["diagnose", "--host", "--config", "nowhere.toml"])).fails(2, &["nowhere.toml"]);
}

#[test]
fn without_power_the_namespace_of_a_pod_is_not_entered_and_it_says_what_is_missing() {
    let home = Home::new();
    let said = ran(home.powerless(&["diagnose", "shop/cart", "--output", "json"]));
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.json()["healthy"].is_null(), "{said:?}");
    said.says(&["shop/cart", "run it as root", "CAP_SYS_ADMIN", "--host"]);
}

#[test]
fn a_path_that_is_no_namespace() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    let file = home.write("plain", "not a namespace");
    ran(home.nameward(&["diagnose", text(&file)])).fails(2, &["is no network namespace", "/run/netns"]);
    ran(home.nameward(&["diagnose", "/run/netns/nowhere"])).fails(3, &["/run/netns/nowhere", "cannot be opened"]);
}

#[test]
fn without_an_api_the_node_is_asked_with_what_it_knows_itself() {
    let home = Home::new();
    let kubeconfig = home.kubeconfig(support::nobody());
    let said = ran(home.nameward(&["diagnose", "--host", "--kubeconfig", text(&kubeconfig), "--output", "json"]));
    // Whether the machine's own resolver answers is the machine's matter: it is asked, or there is none to ask.
    assert!(matches!(said.code, Some(0 | 1 | 3)), "{said:?}");
    assert!(said.err.contains("going on without the API"), "{said:?}");
    let told = said.json();
    assert!(told["api"]["missing"].is_string() || told["error"]["what"].is_string(), "{said:?}");
}
