use std::collections::BTreeMap;
use std::io::Write;

use nameward_messages::remedy::{Mode, RemedyKind};
use proptest::prelude::*;

use crate::text::{Bytes, Period};
use crate::{ANNOTATED, Config, Reload, Source, json_schema, load_text};

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load_text("f.toml", text, env(variables)) {
        Ok(_) => Vec::new(),
        Err(p) => p.problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_annotated_file_equals_the_defaults() {
    let loaded = load_text("nameward.toml", ANNOTATED, []).unwrap();
    assert_eq!(loaded.config, Config::default());
    // And it names every key, so that nobody has to look elsewhere.
    let written: toml::Table = toml::from_str(ANNOTATED).unwrap();
    assert_eq!(written, toml::Table::try_from(Config::default()).unwrap());
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let text = "[probe]\nintervall = \"5s\"\ntimeout = 700\nconfirm_after = \"soon\"\n\n[remedy]\nmode = \"force\"\n\
                [remedy.modes]\nevict = \"act\"\n[nosuch]\nx = 1\n[metrics]\nlisten = \"9890\"\n";
    assert_eq!(
        problems(text, &[("NAMEWARD_PROBE_BUDGET_PER_POD", "many")]),
        [
            "f.toml:2:1: probe.intervall: unknown key; did you mean `interval`?",
            "f.toml:3:11: probe.timeout: must be a string, not a whole number",
            "f.toml:4:17: probe.confirm_after: `soon` is not a duration such as 700ms, 10s, 5m or 1m30s",
            "f.toml:7:8: remedy.mode: `force` is not one of off, observe, act",
            "f.toml:9:1: remedy.modes.evict: unknown key; did you mean `evict-pod`?",
            "f.toml:10:2: nosuch: unknown key; known here: coordinator, diagnosis, discovery, kubernetes, log, metrics, netns, probe, remedy",
            "f.toml:13:10: metrics.listen: `9890` is not an address with port such as 127.0.0.1:9890 or [::]:9890",
            "NAMEWARD_PROBE_BUDGET_PER_POD: probe.budget_per_pod: `many` is not a whole number",
        ]
    );
}

#[test]
fn syntax_errors_have_a_place() {
    let found = problems("[probe\ninterval = \"5s\"", &[]);
    assert!(found.iter().any(|p| p.starts_with("f.toml:1:")), "{found:?}");
}

#[test]
fn settings_are_checked_against_each_other() {
    let table = [
        (
            "[probe]\ninterval = \"2s\"\ntimeout = \"3s\"",
            "f.toml:3:11: probe.timeout: must be shorter than probe.interval (2s)",
        ),
        (
            "[remedy]\nshared_per_hour = 60",
            "f.toml:2:19: remedy.shared_per_hour: must be from 1 to 3: a ceiling that no configuration can lift",
        ),
        (
            "[coordinator]\nlease_duration = \"5s\"",
            "f.toml:2:18: coordinator.lease_duration: must be longer than coordinator.renew_deadline (10s)",
        ),
        (
            "[probe]\nexternal_name = \"example.com\"",
            "f.toml:2:17: probe.external_name: `example.com` is not an absolute DNS name: labels of 1 to 63 characters, and a final dot",
        ),
        ("[discovery]\nservice = \"kube-dns\"", "f.toml:2:11: discovery.service: `kube-dns` is not `namespace/name`"),
        (
            "[coordinator]\nquorum_percent = 50",
            "f.toml:2:18: coordinator.quorum_percent: must be from 60 to 100: a ceiling that no configuration can lift",
        ),
        (
            "[remedy]\ncool_down = \"0s\"",
            "f.toml:2:13: remedy.cool_down: must be at least twice probe.interval (10s): what is new must have been seen twice",
        ),
        (
            "[remedy]\nwait = \"0s\"",
            "f.toml:2:8: remedy.wait: must be at least probe.interval (10s): what is gone by the next round needs no remedy",
        ),
        (
            "[coordinator]\nstale_after = \"24h\"",
            "f.toml:2:15: coordinator.stale_after: must be at most 15m: a ceiling that no configuration can lift",
        ),
        (
            "[remedy]\nshared_every = \"1m\"",
            "f.toml:2:16: remedy.shared_every: must be at least 5m: a ceiling that no configuration can lift",
        ),
        (
            "[remedy.ladders]\ncoredns-hung = [\"raise-memory\"]",
            "f.toml:2:16: remedy.ladders.coredns-hung: `raise-memory` is no remedy for coredns-hung; its rungs are evict-pod, add-replica",
        ),
        (
            "[remedy.ladders]\nupstream-dead = [\"evict-pod\"]",
            "f.toml:2:17: remedy.ladders.upstream-dead: `evict-pod` is no remedy for upstream-dead, which only a person can mend",
        ),
        (
            "[remedy.ladders]\ncoredns-huge = []",
            "f.toml:2:1: remedy.ladders.coredns-huge: unknown key; did you mean `coredns-hung`?",
        ),
        (
            "[remedy.ladders]\ncoredns-hung = [\"evict-pod\", \"reboot\"]",
            "f.toml:2:30: remedy.ladders.coredns-hung: `reboot` is not one of evict-pod, raise-memory, add-replica, drop-conntrack, restore-route, set-link-up, attach-veth, fix-neighbour, restore-bridge-address, write-sysctl, restart-kube-proxy, call-person",
        ),
        (
            "[remedy.ladders]\ncoredns-hung = [\"call-person\", \"evict-pod\"]",
            "f.toml:2:16: remedy.ladders.coredns-hung: `call-person` is the end of every ladder: nothing can follow it",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(problems(text, &[]), [expected], "{text}");
    }
}

#[test]
fn an_unknown_key_does_not_hide_what_does_not_fit_together() {
    let text = "[probe]\ntimeout = \"4s\"\ninterval = \"3s\"\ntimout = \"1s\"\n[remedy]\nshared_per_hour = 9\n[log]\nlevel = \"inof\"\n";
    let found = problems(text, &[]);
    let places: Vec<&str> = found.iter().map(|p| p.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["f.toml:2:11", "f.toml:4:1", "f.toml:6:19", "f.toml:8:9"], "{found:#?}");
    // What is wrong by itself is not held against the rest: the interval may have been meant to fit.
    let found = problems("[probe]\ntimeout = \"4s\"\ninterval = 3\n", &[]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(problems("[log]\nlevel = \"info,nameward_prober=debug, hyper=off\"\n", &[]).is_empty());
}

#[test]
fn the_environment_lies_over_the_file() {
    let variables = [
        ("NAMEWARD_PROBE_INTERVAL", "3s"),
        ("NAMEWARD_PROBE_EXTRA_NAMES", "a.example., b.example."),
        ("NAMEWARD_REMEDY_MODES_EVICT_POD", "act"),
        ("NAMEWARD_METRICS_OPEN_STATE", "true"),
        // Links that Kubernetes makes for Services named nameward and nameward-metrics.
        ("NAMEWARD_SERVICE_HOST", "10.96.3.4"),
        ("NAMEWARD_METRICS_PORT_9890_TCP_ADDR", "10.96.3.5"),
        ("NAMEWARD_METRICS_PORT", "tcp://10.96.3.5:9890"),
    ];
    let loaded = load_text("f.toml", "[probe]\ninterval = \"5s\"", env(&variables)).unwrap();
    assert_eq!(loaded.config.probe.interval, Period::secs(3));
    assert_eq!(loaded.config.probe.extra_names, ["a.example.", "b.example."]);
    assert_eq!(loaded.config.remedy.mode_of(RemedyKind::EvictPod), Mode::Act);
    assert_eq!(loaded.config.remedy.mode_of(RemedyKind::RaiseMemory), Mode::Observe);
    assert!(loaded.config.metrics.open_state);
    assert_eq!(
        problems("", &[("NAMEWARD_PROBE_INTERVAL", "soon"), ("NAMEWARD_PROBE_INTERVALL", "5s")]),
        [
            "NAMEWARD_PROBE_INTERVAL: probe.interval: `soon` is not a duration such as 700ms, 10s, 5m or 1m30s",
            "NAMEWARD_PROBE_INTERVALL: probe.intervall: unknown key; did you mean `interval`?",
        ]
    );
    // A rule that an environment variable breaks is blamed on the variable.
    assert_eq!(
        problems("", &[("NAMEWARD_REMEDY_SHARED_PER_HOUR", "9")]),
        [
            "NAMEWARD_REMEDY_SHARED_PER_HOUR: remedy.shared_per_hour: must be from 1 to 3: a ceiling that no configuration can lift"
        ]
    );
}

#[test]
fn restarting_kube_proxy_is_off_unless_named() {
    let mut config = Config::default();
    config.remedy.mode = Mode::Act;
    assert_eq!(config.remedy.mode_of(RemedyKind::RestartKubeProxy), Mode::Off);
    config.remedy.modes = BTreeMap::from([(RemedyKind::RestartKubeProxy, Mode::Act)]);
    assert_eq!(config.remedy.mode_of(RemedyKind::RestartKubeProxy), Mode::Act);
}

#[test]
fn a_bad_file_is_refused_and_the_old_one_stays() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "[probe]\ninterval = \"5s\"").unwrap();
    let (mut source, first) = Source::open(Some(file.path().to_owned()), Vec::new()).unwrap();
    assert_eq!(source.reload(), Reload::Same);

    std::fs::write(file.path(), "[probe]\ninterval = \"often\"").unwrap();
    assert!(matches!(source.reload(), Reload::Bad(_)));
    assert_eq!(source.reload(), Reload::Same, "the same problems are told once");

    std::fs::write(file.path(), "[probe]\ninterval = \"7s\"").unwrap();
    let Reload::Changed(second) = source.reload() else { panic!("not changed") };
    assert_ne!(first.hash, second.hash);
    assert_eq!(second.config.probe.interval, Period::secs(7));

    std::fs::remove_file(file.path()).unwrap();
    assert!(matches!(source.reload(), Reload::Bad(_)), "a lost file is a problem, not the defaults");
}

#[test]
fn the_schema_describes_every_key() {
    let schema = json_schema();
    let defs = schema["$defs"].as_object().unwrap();
    for section in schema["properties"].as_object().unwrap().keys() {
        let name = schema["properties"][section]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        for (key, value) in defs[name]["properties"].as_object().unwrap() {
            assert!(value.get("description").is_some(), "{section}.{key} has no description");
        }
    }
}

proptest! {
    #[test]
    fn periods_round_trip(ms in 0u64..10_000_000_000) {
        let period = Period::millis(ms);
        prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
    }

    #[test]
    fn bytes_round_trip(n in any::<u64>()) {
        prop_assert_eq!(Bytes(n).to_string().parse::<Bytes>().unwrap(), Bytes(n));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = load_text("f.toml", &text, []);
        let _ = text.parse::<Period>();
        let _ = text.parse::<Bytes>();
    }

    #[test]
    fn mangled_files_never_panic(at in 0usize..ANNOTATED.len(), len in 0usize..40, with in "[a-z0-9\"\\[\\]=.\n ]{0,12}") {
        let mut bytes = ANNOTATED.as_bytes().to_vec();
        let end = (at + len).min(bytes.len());
        bytes.splice(at..end, with.into_bytes());
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = load_text("f.toml", &text, []);
        }
    }
}
