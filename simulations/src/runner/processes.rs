//! The processes under test: given a configuration and a kubeconfig, and nothing else.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{LabError, Netns, cni_results, netns_folder, node_folder, sandboxes, strays};

/// Where a developer wants the processes' logs kept; else they go with the simulation.
pub(super) const LOGS: &str = "NAMEWARD_SIMULATION_LOGS";
/// Where a developer wants another build under test than the one that simulates: its path.
const PROGRAM: &str = "NAMEWARD_SIMULATION_PROGRAM";
/// Of the first process in a namespace; the second coordinator's is the next one.
const METRICS: u16 = 9890;

/// The actors of an agent and of a coordinator that can be made to panic, each at its second message.
const AGENT_ACTORS: [&str; 7] = ["watcher", "netns", "prober", "diagnosis", "reporter", "node-remedy", "metrics"];
const COORDINATOR_ACTORS: [&str; 4] = ["watcher", "coordinator", "shared-remedy", "metrics"];

/// A running `nameward run`.
#[derive(Debug)]
pub(super) struct Process {
    /// `agent on node1` or `coordinator`.
    pub name: String,
    netns: Netns,
    child: Child,
    log: PathBuf,
    /// Whose it is: `node1`, `control` or `control-2`.
    home: String,
    metrics: u16,
}

/// What a process is told.
pub(super) struct Setup<'a> {
    /// `None` for a coordinator.
    pub node: Option<&'a str>,
    /// Which coordinator, from 1; of no meaning for an agent.
    pub coordinator: u8,
    /// Laid over the simulation's defaults.
    pub config: &'a toml::Table,
    /// Every actor panics once.
    pub panics: bool,
    /// Distinguishes the logs of scenarios.
    pub scenario: &'a str,
}

impl Setup<'_> {
    /// Its name among the hosts.
    fn home(&self) -> String {
        match (self.node, self.coordinator) {
            (Some(node), _) => node.to_owned(),
            (None, 1) => "control".to_owned(),
            (None, number) => format!("control-{number}"),
        }
    }

    fn metrics(&self) -> u16 {
        METRICS + u16::from(self.node.is_none()) * u16::from(self.coordinator.saturating_sub(1))
    }
}

impl Process {
    /// Writes its files and starts it.
    pub(super) fn start(netns: Netns, setup: &Setup<'_>) -> Result<Self, LabError> {
        let (role, server) = match setup.node {
            // An agent reaches the API as pods do: through kube-proxy's rules.
            Some(_) => ("agent", "http://10.96.0.1:443"),
            None => ("coordinator", "http://172.30.0.254:6443"),
        };
        let home = setup.home();
        let folder = node_folder(&home);
        let file = |path: &Path| LabError::file(path.to_owned());
        std::fs::create_dir_all(&folder).map_err(file(&folder))?;
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_text(server, &token_of(&home))).map_err(file(&kubeconfig))?;
        let config = folder.join("nameward.toml");
        let text = config_text(setup, &kubeconfig);
        std::fs::write(&config, text).map_err(file(&config))?;

        let logs = std::env::var_os(LOGS).map_or_else(|| folder.clone(), PathBuf::from);
        let log = logs.join(format!("{}-{home}.log", setup.scenario.replace('/', "-")));
        let out = File::create(&log).map_err(file(&log))?;
        let err = out.try_clone().map_err(file(&log))?;
        let mut command = Command::new(std::env::var_os(PROGRAM).unwrap_or_else(|| "/proc/self/exe".into()));
        command.args(["run", "--role", role, "--config"]).arg(&config);
        if setup.panics {
            let actors: &[&str] = if setup.node.is_some() { &AGENT_ACTORS } else { &COORDINATOR_ACTORS };
            for actor in actors {
                command.arg("--rehearse-panic").arg(format!("{actor}=2"));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::from(out)).stderr(Stdio::from(err));
        let child = netns.spawn(command)?;
        let name = match (setup.node, setup.coordinator) {
            (Some(node), _) => format!("agent on {node}"),
            (None, 1) => "coordinator".to_owned(),
            (None, number) => format!("coordinator {number}"),
        };
        Ok(Self { name, netns, child, log, home, metrics: setup.metrics() })
    }

    /// Stops it where it stands (SIGSTOP), or lets it go on.
    pub(super) fn hold(&self, stop: bool) -> std::io::Result<()> {
        let signal = if stop { Signal::SIGSTOP } else { Signal::SIGCONT };
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// The pod that its token is bound to.
    pub(super) fn pod(&self) -> &str {
        &self.home
    }

    /// Which coordinator it is, by the number of its [`Setup`]; `None`: it is none.
    pub(super) fn coordinator(&self) -> Option<u8> {
        match self.home.strip_prefix("control")? {
            "" => Some(1),
            rest => rest.strip_prefix('-')?.parse().ok(),
        }
    }

    /// Whether the holder of a Lease is it, in this life or an earlier one.
    pub(super) fn is(&self, holder: &str) -> bool {
        holder.rsplit_once('_').is_some_and(|(host, _)| host == self.home)
    }

    /// Whose its status page is, and where.
    pub(super) fn page(&self) -> (String, (Netns, u16)) {
        (self.home.clone(), (self.netns.clone(), self.metrics))
    }

    /// The agent of a node.
    pub(super) fn is_agent_of(&self, node: &str) -> bool {
        self.home == node
    }

    /// SIGKILL, and the same again with the files that it left.
    pub(super) fn kill_and_start(&mut self, setup: &Setup<'_>) -> Result<(), LabError> {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        *self = Self::start(self.netns.clone(), setup)?;
        Ok(())
    }

    /// How it ended, if it has, with the last lines of its log.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Some(format!("{} ended ({status}): {}", self.name, tail.join(" | ")))
    }

    /// A counter or gauge from its `/metrics`, summed over labels that contain `label`.
    pub(super) fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let text = self.netns.enter(|| scrape(self.metrics)).ok().flatten()?;
        let values = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter(|line| line[name.len()..].starts_with([' ', '{']))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        let mut values = values.peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Threads that are where no thread may be, or stay where they may only be for a moment (I19).
    pub(super) async fn strays(&self) -> Vec<String> {
        /// Threads that enter network namespaces, for one look each.
        const ENTERS: &str = "netns-";
        /// So long may one of them be away without a break: a look is bounded to less.
        const AWAY: u32 = 300;
        let mut away = BTreeSet::new();
        for look in 0..AWAY {
            let found = match strays(self.child.id(), &self.netns) {
                Ok(found) => found,
                Err(error) => return vec![format!("the threads of the {} cannot be seen: {error}", self.name)],
            };
            let (visits, lost): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|stray| stray.namespace == "net" && stray.name.starts_with(ENTERS));
            if !lost.is_empty() {
                return vec![format!("threads of the {} are in foreign namespaces: {lost:?}", self.name)];
            }
            let visits: BTreeSet<String> = visits.into_iter().map(|stray| stray.name).collect();
            away = if look == 0 { visits } else { &away & &visits };
            if away.is_empty() {
                return Vec::new();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        vec![format!("threads of the {} stay in foreign namespaces: {away:?}", self.name)]
    }

    /// Actors that were made to panic and did not.
    pub(super) fn never_panicked(&self) -> Vec<String> {
        let actors: &[&str] = if self.coordinator().is_some() { &COORDINATOR_ACTORS } else { &AGENT_ACTORS };
        actors
            .iter()
            .filter(|actor| {
                let label = format!("actor=\"{actor}\"");
                self.metric("nameward_actor_restarts_total", &label).unwrap_or(0.0) < 1.0
            })
            .map(|actor| format!("{actor} of the {} did not panic", self.name))
            .collect()
    }
}

/// What `nameward check` (or another command that asks) says to a person on a node where an agent runs. The person's
/// kubeconfig names the API server itself, as an administrator's does, and not its service address.
pub(super) fn check(netns: &Netns, node: &str, command: &[&str]) -> Result<(Option<i32>, serde_json::Value), String> {
    let folder = node_folder(node);
    // Two may be asked at once.
    let kubeconfig = folder.join(format!("{}.kubeconfig", command.first().unwrap_or(&"person")));
    std::fs::write(&kubeconfig, kubeconfig_text("http://172.30.0.254:6443", &token_of(node)))
        .map_err(|e| e.to_string())?;
    let words = command;
    let mut command = netns.command("/proc/self/exe");
    command.args(words).args(["--output", "json", "--config"]).arg(folder.join("nameward.toml"));
    command.arg("--kubeconfig").arg(kubeconfig);
    let output = command.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    let said = serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | "))?;
    Ok((output.status.code(), said))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn scrape(port: u16) -> Option<String> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The journal of a node's repairs.
pub(super) fn journal(node: &str) -> PathBuf {
    node_folder(node).join("var-lib-nameward").join("journal")
}

/// The bearer token of a process at home in `node1`, `control` or `control-2`.
pub(super) fn token_of(home: &str) -> String {
    match home.strip_prefix("control") {
        Some(number) => format!("coordinator{number}"),
        None => format!("agent-{home}"),
    }
}

fn kubeconfig_text(server: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: simulation\nclusters:\n- name: simulation\n  cluster:\n    server: {server}\n\
         users:\n- name: simulation\n  user:\n    token: {token}\ncontexts:\n- name: simulation\n  context:\n    cluster: simulation\n    \
         user: simulation\n"
    )
}

/// The simulation's defaults: as the shipped ones, but quicker, acting, and with the lab's folders. Rounds come five times
/// as often, so they may send five times as much.
fn config_text(setup: &Setup<'_>, kubeconfig: &Path) -> String {
    let node = setup.home();
    let node = node.as_str();
    let folder = |path: PathBuf| toml::Value::String(path.display().to_string());
    let mut table = toml::toml! {
        [kubernetes]
        call_timeout = "2s"
        [netns]
        rescan = "2s"
        [probe]
        interval = "2s"
        external_name = "example.com."
        budget_per_pod = 150
        [remedy]
        mode = "act"
        wait = "5s"
        verify_within = "30s"
        cool_down = "4s"
        [remedy.modes]
        // A scenario that is about a repair of a node says so.
        drop-conntrack = "observe"
        restore-route = "observe"
        set-link-up = "observe"
        attach-veth = "observe"
        fix-neighbour = "observe"
        restore-bridge-address = "observe"
        write-sysctl = "observe"
        [coordinator]
        lease_duration = "6s"
        renew_deadline = "4s"
        retry_period = "1s"
        report_every = "30s"
        stale_after = "70s"
        answer_within = "8s"
        [metrics]
        listen = "127.0.0.1:9890"
        [log]
        level = "debug,hyper=info,tower=info,kube_client=info,h2=info,hickory_net=info"
    };
    for (path, value) in [
        (["kubernetes", "node_name"], toml::Value::String(node.to_owned())),
        (["kubernetes", "kubeconfig"], folder(kubeconfig.to_owned())),
        (["remedy", "journal"], folder(journal(node))),
        (["netns", "cni_results"], folder(cni_results(node))),
        (["netns", "folders"], toml::Value::Array(vec![folder(netns_folder(node))])),
        (["netns", "sandboxes"], toml::Value::Array(vec![folder(sandboxes(node))])),
    ] {
        if let Some(section) = table.get_mut(path[0]).and_then(toml::Value::as_table_mut) {
            section.insert(path[1].to_owned(), value);
        }
    }
    lay_over(&mut table, setup.config);
    if setup.metrics() != METRICS
        && let Some(metrics) = table.get_mut("metrics").and_then(toml::Value::as_table_mut)
    {
        metrics.insert("listen".to_owned(), format!("127.0.0.1:{}", setup.metrics()).into());
    }
    // A table of strings and numbers can always be written.
    toml::to_string(&table).unwrap_or_default()
}

fn lay_over(under: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay_over(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{BUILT_IN, Scenario};

    #[test]
    fn every_scenario_gives_a_good_configuration() {
        for (name, _) in BUILT_IN {
            let scenario = Scenario::find(name).unwrap();
            for (node, coordinator) in [(Some("node1"), 1), (None, 1), (None, 2)] {
                let setup = Setup { node, coordinator, config: &scenario.config, panics: false, scenario: name };
                let text = config_text(&setup, Path::new("/run/sim/x/kubeconfig"));
                let loaded = nameward_config::load_text("x.toml", &text, []).unwrap();
                let stated = scenario.config.get("probe").and_then(|probe| probe.get("interval"));
                let interval = stated.and_then(toml::Value::as_str).unwrap_or("2s");
                assert_eq!(loaded.config.probe.interval.to_string(), interval, "{name}");
                assert_eq!(loaded.config.metrics.listen.port(), 9890 + u16::from(coordinator) - 1, "{name}");
            }
        }
    }
}
