//! A scenario: topology, faults on a timeline, what must be found, done and left alone, and within which time.

use std::path::{Path, PathBuf};

use nameward_config::Period;
use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::{Cause, Scope};
use serde::{Deserialize, Serialize};

mod action;
mod check;
mod incident;
pub(crate) mod line;
mod topology;

pub use self::action::{Action, Moment, Patch, Role, Step, Trouble};
pub use self::incident::ExpectIncident;
pub use self::topology::{Plane, Replicas, Topology};

/// The scenarios that come with the binary: every file of `scenarios/`, by name.
pub const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as `nameward simulate NAME` takes it.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// The data planes that it runs in: all, if it says nothing.
    #[serde(default = "all_planes")]
    pub planes: Vec<Plane>,
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

fn all_planes() -> Vec<Plane> {
    Plane::ALL.to_vec()
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
    /// Verdicts that may be found as well, for a stated reason: they are true, and whether they are told in time is chance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may: Vec<ExpectVerdict>,
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
    /// Some agent must have recorded that what failed healed before a cause was named.
    #[serde(default)]
    pub recorded: bool,
    /// Texts that must have stood in incidents: in their summaries or in lines of their ladders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<String>,
    /// What must stand in incidents in the end: refusals, calls, phases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incident: Vec<ExpectIncident>,
    /// So many incidents must stand in the end, before the faults are lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_incidents: Option<u8>,
    /// `nameward check` on the node of the one expected verdict must name it as well. False where one node cannot know.
    #[serde(default = "yes")]
    pub check: bool,
    /// In the end the faults are lifted, and then all must be well. False where that makes no sense.
    #[serde(default = "yes")]
    pub lifts: bool,
}

fn yes() -> bool {
    true
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
    /// Only in these data planes; in all of the scenario's if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planes: Vec<Plane>,
}

/// A remedy that must be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRemedy {
    /// Which.
    pub kind: RemedyKind,
    /// On what, named as in a verdict.
    pub subject: String,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Period>,
    /// It must be taken back within this time of the first fault: the kernel's state is then as it was when it broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back_within: Option<Period>,
    /// Only in these data planes; in all of the scenario's if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planes: Vec<Plane>,
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
    /// A built-in scenario by name, or a file by path. `NAME@PLANE` is the scenario in that plane alone.
    ///
    /// # Errors
    /// [`ScenarioError`], with the nearest name or with line and column.
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        if let Some((name, plane)) = name.rsplit_once('@').and_then(|(n, p)| Some((n, p.parse::<Plane>().ok()?))) {
            return Self::find(name).map(|scenario| Self { planes: vec![plane], ..scenario });
        }
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
        check::check(&scenario, file, text)?;
        Ok(scenario)
    }

    /// The scenario as it runs in one data plane, named `NAME@PLANE`, with what is only for others left out.
    #[must_use]
    pub fn in_plane(&self, plane: Plane) -> Self {
        let mut one = self.clone();
        one.name = format!("{}@{plane}", self.name);
        one.planes = vec![plane];
        let here = |planes: &[Plane]| planes.is_empty() || planes.contains(&plane);
        one.inject.retain(|step| here(&step.planes));
        one.expect.verdict.retain(|verdict| here(&verdict.planes));
        one.expect.may.retain(|verdict| here(&verdict.planes));
        one.expect.remedy.retain(|remedy| here(&remedy.planes));
        one.expect.incident.retain(|incident| here(&incident.planes));
        one
    }

    /// The data plane that it runs in: the first.
    #[must_use]
    pub fn plane(&self) -> Plane {
        self.planes.first().copied().unwrap_or_default()
    }

    fn check_node(&self, node: &str) -> Result<(), String> {
        let known = self.topology.names();
        if known.iter().any(|n| n == node) { Ok(()) } else { Err(format!("`{node}` is none of {}", known.join(", "))) }
    }

    fn check_pod(&self, pod: &str) -> Result<(), String> {
        let wanted = || format!("`{pod}` is no pod: write coredns@node1 or client-1@node2");
        let (name, node) = pod.split_once('@').ok_or_else(wanted)?;
        let one_of = |n: &str, most: u32| n.parse::<u32>().is_ok_and(|n| (1..=most).contains(&n));
        let known = match name.split_once('-') {
            None => name == "coredns",
            Some(("client", n)) => one_of(n, self.topology.clients_per_node),
            Some(("coredns", n)) => one_of(n, self.topology.coredns.count()),
            Some(_) => false,
        };
        if known && self.check_node(node).is_ok() { Ok(()) } else { Err(wanted()) }
    }

    /// Pods that come later have names, too, which cannot be checked.
    fn check_subject(&self, subject: &str) -> Result<(), String> {
        subject.split_once('@').map_or(Ok(()), |(_, node)| self.check_node(node))
    }

    /// Whether the cluster is afterwards what it was before, so that another scenario may follow in it.
    #[must_use]
    pub fn leaves_no_trace(&self) -> bool {
        let expect = &self.expect;
        let told = !expect.told.is_empty() || !expect.incident.is_empty();
        let meddled = told || self.inject.iter().any(|step| step.once.is_some());
        expect.lifts && expect.remedy.is_empty() && expect.recover_within.is_none() && !expect.disturbance && !meddled
    }

    /// Whether two scenarios want the same cluster and the same configuration.
    #[must_use]
    pub fn same_cluster(&self, other: &Self) -> bool {
        (self.plane(), &self.topology, &self.config) == (other.plane(), &other.topology, &other.config)
    }

    /// Whether the data plane makes a difference: it is named, or a step writes what kube-proxy or the kubelet write.
    #[must_use]
    pub fn plane_matters(&self) -> bool {
        let stated = self.planes.len() < Plane::ALL.len();
        let expected = self.expect.verdict.iter().any(|v| !v.planes.is_empty())
            || self.expect.remedy.iter().any(|r| !r.planes.is_empty());
        stated || expected || self.inject.iter().any(|step| !step.planes.is_empty() || step.action.of_plane())
    }

    /// The same with remedies off: the same is found, nothing is done and nothing recovers.
    /// None where no remedy is expected in the first place.
    #[must_use]
    pub fn with_remedies_off(&self) -> Option<Self> {
        // A remedy that does not begin cannot be cut off.
        let cut_off = self
            .inject
            .iter()
            .any(|step| step.once.is_some() || matches!(step.action, Action::KillAgentInRepair { .. }));
        if self.expect.remedy.is_empty() || cut_off {
            return None;
        }
        let mut off = self.clone();
        off.name = format!("{}/remedies-off", self.name);
        off.expect.remedy.clear();
        // What is told of remedies is not told then.
        off.expect.told.clear();
        off.expect.incident.clear();
        off.expect.open_incidents = None;
        off.expect.recover_within = None;
        off.expect.settle = Period::secs(15);
        // Kills for want of memory are remembered for longer than the fault lasts.
        off.expect.lifts &= off.expect.verdict.iter().all(|v| v.cause != Cause::CorednsOomKilled);
        // And what only the remedy takes back stays.
        let stays = |action: &Action| matches!(action, Action::Tool { undo, .. } if undo.is_empty());
        off.expect.lifts &= !off.inject.iter().any(|step| stays(&step.action));
        let remedy = off.config.entry("remedy").or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(table) = remedy.as_table_mut() {
            table.insert("mode".to_owned(), "off".into());
            table.remove("modes");
        }
        Some(off)
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
        assert!(error.starts_with("my.toml:5: ") && error.contains("coredns@node9"), "{error}");
    }

    #[test]
    fn what_cannot_be_done_is_named_with_its_line() {
        let head = "name='x'\nsummary='y'\n[expect]\n[[inject]]\ndo='hang'\npod='coredns@node1'\n[[inject]]\n";
        let said = |step: &str| Scenario::parse("my.toml", &format!("{head}{step}\n")).unwrap_err().to_string();
        for (step, wanted) in [
            ("do='tool'\nin='node1'\nrun=['ip link set {veth client-9@node1} down']", "my.toml:10: `client-9@node1`"),
            ("do='tool'\nin='node1'\nrun=[\n'ip link',\n'sh -c true',\n]", "my.toml:12: `sh`"),
            ("do='tool'\nin='node1'\nrun=['ip link']\nundo=['ip {what}']", "my.toml:11: `{what}`"),
            ("do='tool'\nin='node7'\nrun=['ip link']", "my.toml:9: `node7`"),
            ("do='run'\nin='pod-1@node1'\nrun=['client hold --port 53']", "my.toml:9: `pod-1@node1`"),
            ("do='file'\npod='client-1@node1'\npath='/etc/passwd'\ntext=''", "my.toml:10: `/etc/passwd`"),
            ("do='upstream'\ncommand='sleep'", "my.toml:9: `sleep`"),
            ("do='api'\nkind='Service'\nname='x'\npatch='[]'", "my.toml:7: a patch is an object"),
            ("do='hang'\npod='coredns@node1'\nplanes=['ipvs']", "my.toml:"),
        ] {
            assert!(said(step).starts_with(wanted), "{}", said(step));
        }
    }

    #[test]
    fn a_scenario_in_a_plane_has_what_is_for_it() {
        let text = "name='x'\nsummary='y'\nplanes=['nftables','iptables']\n[[inject]]\nplanes=['iptables']\ndo='api-down'\n\
                    [expect]\n[[expect.verdict]]\nplanes=['nftables']\ncause='coredns-hung'\nscope='coredns-pod'\n\
                    subject='coredns@node1'\n";
        let scenario = Scenario::parse("x.toml", text).unwrap();
        assert_eq!(scenario.plane(), Plane::Nftables);
        let (nft, tables) = (scenario.in_plane(Plane::Nftables), scenario.in_plane(Plane::Iptables));
        assert_eq!((nft.name.as_str(), tables.name.as_str()), ("x@nftables", "x@iptables"));
        assert_eq!((nft.inject.len(), nft.expect.verdict.len()), (0, 1));
        assert_eq!((tables.inject.len(), tables.expect.verdict.len()), (1, 0));
        assert_eq!(Scenario::find("udp-dead@iptables-legacy").unwrap().planes, [Plane::IptablesLegacy]);
    }

    #[test]
    fn replicas_are_counted_or_placed() {
        let head = "name='x'\nsummary='y'\n[expect]\n[topology]\n";
        let parse = |topology: &str| Scenario::parse("x.toml", &format!("{head}{topology}\n"));
        let placed = parse("nodes=3\ncoredns=['node3','node3']").unwrap().topology;
        assert_eq!((placed.coredns.count(), placed.coredns.placement().len()), (2, 2));
        assert_eq!(parse("coredns=3").unwrap().topology.coredns, Replicas::Spread(3));
        for bad in ["coredns=['node3']", "nodes=5", "coredns=0", "coredns='node1'"] {
            assert!(parse(bad).unwrap_err().to_string().starts_with("x.toml:"), "{bad}");
        }
    }

    #[test]
    fn where_the_data_plane_makes_a_difference_is_known() {
        let matters = |name: &str| Scenario::find(name).unwrap().plane_matters();
        assert!(matters("service-rules-missing") && matters("forward-drop") && matters("quiet-network-policy"));
        assert!(!matters("udp-dead") && !matters("veth-down") && !matters("upstream-dead"));
    }

    #[test]
    fn controls_expect_less() {
        let scenario = Scenario::find("udp-dead").unwrap();
        let off = scenario.with_remedies_off().unwrap();
        assert!(off.expect.remedy.is_empty() && off.expect.verdict == scenario.expect.verdict);
        assert!(Scenario::find("healthy").unwrap().with_remedies_off().is_none());
    }
}
