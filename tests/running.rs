//! `nameward run` against the simulated API server: ready, reloaded, drained, and one actor's panic survived.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use nameward_simulations::DEPLOYED;
use nameward_simulations::apiserver::{ApiServer, Handle, Options, User, parse_manifests};
use nameward_simulations::machinery::{ClusterPlan, seed_cluster};
use nix::sys::signal::Signal;
use support::{Home, PATIENCE, Running, awaited, get, text};
use tokio::runtime::Runtime;

/// An API server on loopback, whose DNS Service is on loopback too: no packet leaves this machine.
struct Cluster {
    _runtime: Runtime,
    _api: Handle,
    address: SocketAddr,
}

impl Cluster {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (api, address) = runtime.block_on(async {
            let manifests = DEPLOYED.iter().flat_map(|(name, yaml)| parse_manifests(Path::new(name), yaml).unwrap());
            let mut options = Options { manifests: manifests.collect(), ..Options::default() };
            options.tokens.insert("someone".into(), User::admin());
            let api = ApiServer::new(options).unwrap();
            let plan = ClusterPlan { dns_service: "127.0.0.10".into(), ..ClusterPlan::default() };
            seed_cluster(&api, &plan).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = api.clone();
            tokio::spawn(async move { server.serve(listener).await });
            (api, address)
        });
        Self { _runtime: runtime, _api: api, address }
    }
}

const CONFIG: &str = "[kubernetes]\nnode_name = \"node1\"\n[probe]\ninterval = \"2s\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
                      [log]\nlevel = \"info\"\n";

fn begin(home: &Home, cluster: &Cluster, config: &str, more: &[&str]) -> (Running, String) {
    let kubeconfig = home.kubeconfig(cluster.address);
    let config = home.write("nameward.toml", config);
    let args = ["run", "--kubeconfig", text(&kubeconfig), "--config", text(&config)];
    let mut running = Running::start(home.nameward(&[&args, more].concat()));
    let line = running.says("nameward starts");
    (running, line)
}

fn start(home: &Home, cluster: &Cluster, more: &[&str]) -> (Running, SocketAddr) {
    let (running, line) = begin(home, cluster, CONFIG, more);
    let address = line.split("metrics=").nth(1).unwrap().trim().parse().unwrap();
    (running, address)
}

/// The value of one series.
fn metric(address: SocketAddr, series: &str) -> Option<f64> {
    let (_, page) = get(address, "/metrics")?;
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn metric_is(address: SocketAddr, series: &str, wanted: impl Fn(f64) -> bool) {
    awaited(series, PATIENCE, || metric(address, series).filter(|value| wanted(*value)));
}

#[test]
fn a_changed_configuration_takes_effect_and_a_bad_one_does_not() {
    let (home, cluster) = (Home::new(), Cluster::start());
    let (mut running, address) = start(&home, &cluster, &[]);
    awaited("ready", PATIENCE, || get(address, "/readyz").filter(|(status, _)| *status == 200));

    home.write("nameward.toml", &CONFIG.replace("2s", "3s").replace("info", "debug"));
    running.says("the configuration changed and is in force");
    running.says("DEBUG");
    metric_is(address, "nameward_config_reloads_total{result=\"ok\"}", |n| n >= 1.0);
    metric_is(address, "nameward_config_last_reload_successful", |n| n > 0.0);
    let hash = |address| {
        let state: serde_json::Value = serde_json::from_str(&get(address, "/state")?.1).ok()?;
        state["config"]["hash"].as_str().map(str::to_owned)
    };
    let good = awaited("the hash in /state", PATIENCE, || hash(address));

    home.write("nameward.toml", &CONFIG.replace("\"2s\"", "2").replace("info", "inof"));
    let line = running.says("is bad, the old one stays in force");
    assert!(line.contains("ERROR") && line.contains("nameward.toml:4:12: probe.interval"), "{line}");
    metric_is(address, "nameward_config_last_reload_successful", |n| n < 1.0);
    awaited("the problem in /state", PATIENCE, || {
        get(address, "/state").filter(|(_, b)| b.contains("nameward.toml:4:12"))
    });
    assert_eq!(hash(address), Some(good), "the old one stays");

    // With errors alone logged, the end is no longer told.
    home.write("nameward.toml", &CONFIG.replace("info", "error"));
    metric_is(address, "nameward_config_last_reload_successful", |n| n > 0.0);
    running.signal(Signal::SIGTERM);
    let (status, lines) = running.ends(PATIENCE);
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("nameward ends")), "{lines:#?}");
}

#[test]
fn a_level_on_the_command_line_lies_over_the_file_and_stays_when_that_changes() {
    let (home, cluster) = (Home::new(), Cluster::start());
    let (mut running, address) = start(&home, &cluster, &["--log-level", "info,nameward=debug"]);
    // What the file says now would silence this line and the last one.
    home.write("nameward.toml", &CONFIG.replace("info", "error"));
    running.says("the configuration changed and is in force");
    metric_is(address, "nameward_config_last_reload_successful", |n| n > 0.0);
    running.signal(Signal::SIGTERM);
    let (status, lines) = running.ends(PATIENCE);
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("nameward ends")), "{lines:#?}");
}

#[test]
fn sigterm_drains_and_ends_well() {
    let (home, cluster) = (Home::new(), Cluster::start());
    let (running, address) = start(&home, &cluster, &[]);
    awaited("ready", PATIENCE, || get(address, "/readyz").filter(|(status, _)| *status == 200));
    running.signal(Signal::SIGTERM);
    let (status, lines) = running.ends(PATIENCE);
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("nameward ends") && line.contains("clean=true")), "{lines:#?}");
}

#[test]
fn a_panic_is_a_line_of_the_log_and_the_process_goes_on() {
    let (home, cluster) = (Home::new(), Cluster::start());
    let (mut running, address) = start(&home, &cluster, &["--rehearse-panic", "prober=2"]);
    let line = running.says("panicked");
    assert!(line.contains("ERROR") && line.contains("place="), "{line}");
    metric_is(address, "nameward_actor_restarts_total{actor=\"prober\"}", |n| n >= 1.0);
    assert_eq!(get(address, "/healthz").unwrap().0, 200);
    running.signal(Signal::SIGTERM);
    let (status, lines) = running.ends(PATIENCE);
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.starts_with("thread '") || line.contains("RUST_BACKTRACE")), "{lines:#?}");
}

#[test]
fn the_log_is_json_where_that_is_asked_for_and_no_line_comes_with_every_round() {
    const ROUNDS: f64 = 12.0;
    let (home, cluster) = (Home::new(), Cluster::start());
    let config = format!(
        "{}format = \"json\"\n",
        CONFIG.replace("2s", "1s").replace("[metrics]", "timeout = \"100ms\"\n[metrics]")
    );
    let (running, line) = begin(&home, &cluster, &config, &[]);
    let first: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = first["fields"]["metrics"].as_str().unwrap().parse().unwrap();
    metric_is(address, "nameward_rounds_total", |rounds| rounds >= ROUNDS);
    running.signal(Signal::SIGTERM);
    let (status, lines) = running.ends(PATIENCE);
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let mut told: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
    for line in &lines {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string(), "{line}");
        *told.entry(line["fields"]["message"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(told.values().all(|times| f64::from(*times) < ROUNDS / 2.0), "{told:#?}");
}
