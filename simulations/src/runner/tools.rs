//! What a scenario runs and writes in the world's namespaces.

use std::process::Stdio;

use super::inject::Done;
use super::lift::{Program, Undo};
use super::world::{CLUSTER_DNS, State, World, WorldError};
use crate::lab::{CONTROL, Netns};
use crate::scenario::line::{self, Placeholder};

impl World {
    /// A text with its placeholders replaced, and the pods (`namespace/name`) that it speaks of.
    pub(super) fn expand(&self, text: &str) -> Result<(String, Vec<String>), WorldError> {
        self.state().expand(text)
    }

    /// Runs commands one after the other.
    pub(super) fn tool(&self, place: &str, run: &[String], undo: &[String], input: &str) -> Result<Done, WorldError> {
        let own = |line: &String| line.split_whitespace().next() == Some(line::CLIENT);
        if undo.is_empty() && run.iter().all(own) {
            return self.visit(place, run);
        }
        self.change(|state| {
            let (netns, pod) = state.place(place)?;
            let input = state.expand(input)?.0;
            let (mut did, mut commands, mut about) = (Vec::new(), Vec::new(), Vec::new());
            // What takes it back is made first: it speaks of pods as they stand now.
            for text in undo {
                let (text, pods) = state.expand(text)?;
                commands.push(line::words(&text).map_err(WorldError::Line)?);
                about.extend(pods);
            }
            for text in run {
                let text = state.expand(text)?.0;
                command(&netns, &line::words(&text).map_err(WorldError::Line)?, &input)?;
                did.push(format!("{text}    # on {place}"));
            }
            Ok(Done { did, undo: Undo::Tool { netns, pod, about, commands } })
        })
    }

    /// The same with the helper alone, which changes nothing in the kernel: meanwhile the world goes on, whom it may ask included.
    fn visit(&self, place: &str, run: &[String]) -> Result<Done, WorldError> {
        let mut did = Vec::new();
        for text in run {
            let (netns, text) = {
                let state = self.state();
                (state.place(place)?.0, state.expand(text)?.0)
            };
            command(&netns, &line::words(&text).map_err(WorldError::Line)?, "")?;
            did.push(format!("{text}    # on {place}"));
        }
        Ok(Done { did, undo: Undo::Nothing })
    }

    /// Runs commands that are already in words; all of them, and tells the first failure.
    pub(super) fn commands(&self, netns: &Netns, commands: &[Vec<String>]) -> Result<(), WorldError> {
        self.change(|_| {
            let done = commands.iter().map(|words| command(netns, words, ""));
            done.fold(Ok(()), Result::and)
        })
    }

    /// Starts programs in the background.
    pub(super) fn run(&self, place: &str, run: &[String]) -> Result<Done, WorldError> {
        let (mut did, mut programs) = (Vec::new(), Vec::new());
        self.change(|state| {
            let netns = state.place(place)?.0;
            for text in run {
                let text = state.expand(text)?.0;
                let words = line::words(&text).map_err(WorldError::Line)?;
                let mut command = prepared(&netns, &words);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                let child =
                    command.spawn().map_err(|e| WorldError::Line(format!("`{text}` cannot be started: {e}")))?;
                did.push(format!("{text} &    # on {place}"));
                programs.push(Program { line: text, child });
            }
            Ok(())
        })?;
        Ok(Done { did, undo: Undo::Programs(programs) })
    }

    /// Overwrites a file that the runtime made for a pod.
    pub(super) fn write_file(&self, pod: &str, path: &str, text: &str) -> Result<Done, WorldError> {
        let key = self.key(pod)?;
        let state = self.state();
        let text = state.expand(text)?.0;
        let conf = state.lab.pod(&key)?.resolv_conf.clone();
        let name = path.rsplit('/').next().unwrap_or_default();
        let file = conf.with_file_name(name);
        let old = std::fs::read_to_string(&file)?;
        // Over the old one: the pod has it bound.
        std::fs::write(&file, &text)?;
        let did = text.lines().map(|line| format!("{path}: {line}")).collect();
        Ok(Done { did, undo: Undo::File { pod: key, path: file, text: old } })
    }

    /// Whether a pod (`namespace/name`) is not there any more.
    pub(super) fn gone(&self, key: &str) -> bool {
        self.state().lab.pod(key).is_err()
    }
}

impl State {
    /// A namespace, and the pod (`namespace/name`) if it is a pod's.
    fn place(&self, place: &str) -> Result<(Netns, Option<String>), WorldError> {
        if place == "wire" {
            return Ok((self.lab.wire().clone(), None));
        }
        let pod = if place.contains('@') { Some(self.key(place)?) } else { None };
        let netns = self.lab.netns(pod.as_deref().unwrap_or(place))?.clone();
        Ok((netns, pod))
    }

    fn key(&self, alias: &str) -> Result<String, WorldError> {
        self.aliases.key(alias).map(str::to_owned).ok_or_else(|| WorldError::Nothing(alias.to_owned()))
    }

    fn expand(&self, text: &str) -> Result<(String, Vec<String>), WorldError> {
        let mut about = Vec::new();
        let expanded = line::expand(text, |placeholder| {
            let of_pod = |alias: &str| {
                let key = self.key(alias).map_err(|e| e.to_string())?;
                self.lab.pod(&key).map_err(|e| e.to_string()).map(|pod| (key, pod))
            };
            let of_node = |node: &str| self.lab.node(node).map_err(|e| e.to_string());
            let (key, value) = match placeholder {
                Placeholder::Ip(alias) => of_pod(alias).map(|(key, pod)| (Some(key), pod.address.to_string()))?,
                Placeholder::Veth(alias) => of_pod(alias).map(|(key, pod)| (Some(key), pod.host_veth.clone()))?,
                Placeholder::Mac(alias) => {
                    of_pod(alias).map(|(key, pod)| (Some(key), self.lab.mac(&format!("{}/eth0", pod.spec.uid))))?
                }
                Placeholder::HostMac(alias) => {
                    of_pod(alias).map(|(key, pod)| (Some(key), self.lab.mac(&format!("{}/host", pod.spec.uid))))?
                }
                Placeholder::Gateway(node) => (None, of_node(node)?.gateway.to_string()),
                Placeholder::BridgeMac(node) => (None, of_node(node)?.bridge_mac.clone()),
                Placeholder::NodeMac(node) => (None, self.lab.mac(&format!("{}/eth0", of_node(node)?.name))),
                Placeholder::Range(node) => (None, of_node(node)?.pod_range.clone()),
                Placeholder::Node(node) => (None, of_node(node)?.address.to_string()),
                Placeholder::Iptables => {
                    (None, self.lab.proxy("node1").map_err(|e| e.to_string())?.mode().program().to_owned())
                }
                Placeholder::Service => (None, CLUSTER_DNS.to_string()),
                Placeholder::Upstream => (None, CONTROL.to_string()),
            };
            about.extend(key);
            Ok(value)
        });
        Ok((expanded.map_err(WorldError::Line)?, about))
    }
}

/// A program, or the own helper, ready to start in a namespace.
fn prepared(netns: &Netns, words: &[String]) -> std::process::Command {
    let (program, args) = words.split_first().map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
    let own = program == line::CLIENT;
    let mut command = netns.program(if own { "/proc/self/exe" } else { program });
    if own {
        command.arg(crate::lab::hidden::CLIENT);
    }
    command.args(args);
    command
}

fn command(netns: &Netns, words: &[String], input: &str) -> Result<(), WorldError> {
    if words.first().is_some_and(|program| program == line::CLIENT) {
        let status = prepared(netns, words).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        return if status.success() {
            Ok(())
        } else {
            Err(WorldError::Line(format!("`{}`: {status}", words.join(" "))))
        };
    }
    let args: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    netns.tool(words.first().map_or("", String::as_str), &args, input)?;
    Ok(())
}
