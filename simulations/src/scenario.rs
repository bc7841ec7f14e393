//! A scenario: topology, faults on a timeline, what must be found, done and left alone, and within which time.

use std::path::{Path, PathBuf};

use nameward_config::Period;
use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::{Cause, Scope};
use serde::{Deserialize, Serialize};

/// The scenarios that come with the binary, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("healthy", include_str!("../scenarios/healthy.toml")),
    ("udp-dead", include_str!("../scenarios/udp-dead.toml")),
    ("udp-stuck", include_str!("../scenarios/udp-stuck.toml")),
    ("hung", include_str!("../scenarios/hung.toml")),
    ("oom-killed", include_str!("../scenarios/oom-killed.toml")),
    ("service-rules-missing", include_str!("../scenarios/service-rules-missing.toml")),
    ("service-rules-missing-nft", include_str!("../scenarios/service-rules-missing-nft.toml")),
    ("pod-route-missing", include_str!("../scenarios/pod-route-missing.toml")),
    ("veth-off-bridge", include_str!("../scenarios/veth-off-bridge.toml")),
    ("forward-drop", include_str!("../scenarios/forward-drop.toml")),
    ("wrong-nameserver", include_str!("../scenarios/wrong-nameserver.toml")),
    ("upstream-dead", include_str!("../scenarios/upstream-dead.toml")),
    ("rolling-update", include_str!("../scenarios/rolling-update.toml")),
    ("api-down", include_str!("../scenarios/api-down.toml")),
];

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as `nameward simulate NAME` takes it.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// The cluster.
    #[serde(default)]
    pub topology: Topology,
    /// Laid over the configuration of every Nameward process.
    #[serde(default)]
    pub config: toml::Table,
    /// Faults, in order.
    #[serde(default)]
    pub inject: Vec<Step>,
    /// What must come of it.
    pub expect: Expect,
}

/// The simulated cluster: two nodes, `node1` and `node2`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topology {
    /// The data plane.
    pub proxy: Proxy,
    /// CoreDNS replicas; they are spread over the nodes.
    pub coredns: u32,
    /// Client pods on each node.
    pub clients_per_node: u32,
}

impl Default for Topology {
    fn default() -> Self {
        Self { proxy: Proxy::Iptables, coredns: 2, clients_per_node: 2 }
    }
}

/// kube-proxy's modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proxy {
    /// iptables mode by the nft backend.
    #[default]
    Iptables,
    /// iptables mode by the legacy backend.
    IptablesLegacy,
    /// nftables mode.
    Nftables,
}

/// A fault at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Time after the cluster was found healthy.
    #[serde(default = "at_once")]
    pub at: Period,
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
}

fn at_once() -> Period {
    Period::secs(0)
}

/// What can be done to the cluster. Pods are named `coredns@node1`, `client-1@node2`: as they stood at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// A command for a CoreDNS stand-in, such as `udp close`, `udp stuck`, `servfail`.
    Dns {
        /// Which pod.
        pod: String,
        /// The command.
        command: String,
    },
    /// SIGSTOP to a CoreDNS stand-in.
    Hang {
        /// Which pod.
        pod: String,
    },
    /// Every CoreDNS process needs this much memory from now on; over its limit it is OOM-killed.
    MemoryDemand {
        /// How much.
        bytes: nameward_config::Bytes,
    },
    /// kube-proxy's service rules are flushed on a node, and stay so.
    FlushServiceRules {
        /// Which node.
        node: String,
    },
    /// A pod's default route is deleted.
    DeleteDefaultRoute {
        /// Which pod.
        pod: String,
    },
    /// The host end of a pod's veth pair is taken off its bridge.
    DetachVeth {
        /// Which pod.
        pod: String,
    },
    /// The FORWARD policy of a node becomes DROP.
    ForwardDrop {
        /// Which node.
        node: String,
    },
    /// A pod's resolv.conf names another server.
    WrongNameserver {
        /// Which pod.
        pod: String,
        /// Which server.
        nameserver: std::net::IpAddr,
    },
    /// The upstream resolver stops answering.
    StopUpstream {},
    /// The CoreDNS Deployment's template changes: a rolling update.
    RollingUpdate {},
    /// The API server refuses every connection.
    ApiDown {},
    /// And accepts them again.
    ApiUp {},
}

/// What must come of it. What is not named here must not happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The first expected verdict must stand within this time of the first fault.
    #[serde(default)]
    pub detect_within: Option<Period>,
    /// DNS must answer on every path again within this time of the first fault. None: nothing heals it.
    #[serde(default)]
    pub recover_within: Option<Period>,
    /// Verdicts that must be found; no others may be.
    #[serde(default)]
    pub verdict: Vec<ExpectVerdict>,
    /// Remedies that must be done; no others may be.
    #[serde(default)]
    pub remedy: Vec<ExpectRemedy>,
    /// How long the cluster is watched after everything expected has happened, for what must not.
    #[serde(default = "settle")]
    pub settle: Period,
    /// Rounds must go on during the faults (the agents' own count grows).
    #[serde(default)]
    pub probing_goes_on: bool,
    /// DNS itself may be disturbed by the scenario without a verdict (a rolling update).
    #[serde(default)]
    pub disturbance: bool,
}

fn settle() -> Period {
    Period::secs(6)
}

/// A verdict that must be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectVerdict {
    /// Its cause.
    pub cause: Cause,
    /// Its scope.
    pub scope: Scope,
    /// Its subject: `coredns@node1`, `client-1@node2`, `node1`, `upstream` or `deployment coredns`.
    pub subject: String,
}

/// A remedy that must be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRemedy {
    /// Which.
    pub kind: RemedyKind,
    /// On what, named as in a verdict.
    pub subject: String,
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither a built-in name nor a file.
    #[error("no scenario `{name}`{}; `nameward simulate --list` names them, a file is given by its path", hint(.near))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest name.
        near: Option<&'static str>,
    },
    /// The file cannot be read.
    #[error("the scenario file {} cannot be read", .file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a scenario.
    #[error("{place}: {what}")]
    Bad {
        /// `file:line:column`.
        place: String,
        /// What is wrong.
        what: String,
    },
}

fn hint(near: &Option<&'static str>) -> String {
    near.map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default()
}

impl Scenario {
    /// A built-in scenario by name, or a file by path.
    ///
    /// # Errors
    /// [`ScenarioError`], with the nearest name or with line and column.
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(n, _)| *n == name) {
            return Self::parse(&format!("{name}.toml"), text);
        }
        let path = Path::new(name);
        let is_path = name.contains('/') || path.extension().is_some_and(|e| e == "toml");
        if !is_path {
            let near =
                BUILT_IN.iter().map(|(n, _)| *n).find(|n| n.contains(name) || name.contains(n) || close(n, name));
            return Err(ScenarioError::Unknown { name: name.to_owned(), near });
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Unreadable { file: path.to_owned(), source })?;
        Self::parse(name, &text)
    }

    /// From a text; `file` stands in messages.
    ///
    /// # Errors
    /// [`ScenarioError::Bad`] with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start);
            let before = text.get(..at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            ScenarioError::Bad { place: format!("{file}:{line}:{column}"), what: e.message().to_owned() }
        })?;
        let bad = |what: String| ScenarioError::Bad { place: file.to_owned(), what };
        let config = toml::to_string(&scenario.config).map_err(|e| bad(e.to_string()))?;
        nameward_config::load_text("[config]", &config, []).map_err(|p| bad(p.to_string()))?;
        if !(1..=4).contains(&scenario.topology.coredns) || !(1..=8).contains(&scenario.topology.clients_per_node) {
            return Err(bad("topology: 1 to 4 coredns and 1 to 8 clients_per_node".to_owned()));
        }
        for pod in scenario.inject.iter().filter_map(|s| s.action.pod()) {
            scenario.check_pod(pod).map_err(bad)?;
        }
        Ok(scenario)
    }

    fn check_pod(&self, pod: &str) -> Result<(), String> {
        let wanted = || format!("`{pod}` is no pod: write coredns@node1 or client-1@node2");
        let (name, node) = pod.split_once('@').ok_or_else(wanted)?;
        let known = match name.split_once('-') {
            None => name == "coredns",
            Some(("client", n)) => n.parse::<u32>().is_ok_and(|n| (1..=self.topology.clients_per_node).contains(&n)),
            Some(_) => false,
        };
        if known && (node == "node1" || node == "node2") { Ok(()) } else { Err(wanted()) }
    }

    /// The same without its faults: nothing may be found and nothing done.
    #[must_use]
    pub fn without_fault(&self) -> Self {
        let expect = Expect {
            detect_within: None,
            recover_within: None,
            verdict: Vec::new(),
            remedy: Vec::new(),
            settle: Period::secs(8),
            probing_goes_on: true,
            disturbance: false,
        };
        Self { name: format!("{}/without-fault", self.name), inject: Vec::new(), expect, ..self.clone() }
    }

    /// The same with remedies off: the same is found, nothing is done and nothing recovers.
    /// None where no remedy is expected in the first place.
    #[must_use]
    pub fn with_remedies_off(&self) -> Option<Self> {
        if self.expect.remedy.is_empty() {
            return None;
        }
        let mut off = self.clone();
        off.name = format!("{}/remedies-off", self.name);
        off.expect.remedy.clear();
        off.expect.recover_within = None;
        off.expect.settle = Period::secs(15);
        let remedy = off.config.entry("remedy").or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(table) = remedy.as_table_mut() {
            table.insert("mode".to_owned(), "off".into());
            table.remove("modes");
        }
        Some(off)
    }
}

impl Action {
    /// The pod it names.
    fn pod(&self) -> Option<&str> {
        match self {
            Self::Dns { pod, .. }
            | Self::Hang { pod }
            | Self::DeleteDefaultRoute { pod }
            | Self::DetachVeth { pod }
            | Self::WrongNameserver { pod, .. } => Some(pod),
            Self::MemoryDemand { .. }
            | Self::FlushServiceRules { .. }
            | Self::ForwardDrop { .. }
            | Self::StopUpstream {}
            | Self::RollingUpdate {}
            | Self::ApiDown {}
            | Self::ApiUp {} => None,
        }
    }
}

/// Whether two names differ in at most two places.
fn close(a: &str, b: &str) -> bool {
    a.len().abs_diff(b.len()) <= 2 && a.chars().zip(b.chars()).filter(|(x, y)| x != y).count() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_parses_under_its_name() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::parse(name, text).unwrap();
            assert_eq!(scenario.name, *name);
        }
    }

    #[test]
    fn a_typo_is_named_with_its_place() {
        let text = "name = \"x\"\nsummary = \"y\"\n[topology]\ncorednss = 2\n[expect]\n";
        let error = Scenario::parse("my.toml", text).unwrap_err().to_string();
        assert!(error.starts_with("my.toml:4:1: unknown field `corednss`"), "{error}");
        let error = Scenario::find("udp-daed").unwrap_err().to_string();
        assert!(error.contains("did you mean `udp-dead`"), "{error}");
        let text = "name='x'\nsummary='y'\n[[inject]]\ndo='hang'\npod='coredns@node9'\n[expect]\n";
        let error = Scenario::parse("my.toml", text).unwrap_err().to_string();
        assert!(error.contains("coredns@node9"), "{error}");
    }

    #[test]
    fn controls_expect_less() {
        let scenario = Scenario::find("udp-dead").unwrap();
        assert!(scenario.without_fault().inject.is_empty());
        let off = scenario.with_remedies_off().unwrap();
        assert!(off.expect.remedy.is_empty() && off.expect.verdict == scenario.expect.verdict);
        assert!(Scenario::find("healthy").unwrap().with_remedies_off().is_none());
    }
}
