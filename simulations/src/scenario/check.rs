//! Whether a scenario can be carried out, as far as that can be told before its cluster stands, with file and line.

use super::action::Named;
use super::line::{Placeholder, expand, words};
use super::{Scenario, ScenarioError};
use crate::dns;

/// Files that a runtime makes for a pod.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hostname"];

/// Checks everything that is named.
pub(super) fn check(scenario: &Scenario, file: &str, text: &str) -> Result<(), ScenarioError> {
    let bad = |line: Option<usize>, what: String| {
        let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        ScenarioError::Bad { place, what }
    };
    let of_topology = || line_after(text, 0, "[topology]");
    scenario.topology.check().map_err(|what| bad(of_topology(), what))?;
    if scenario.planes.is_empty() {
        return Err(bad(line_after(text, 0, "planes"), "planes: there is no data plane to run in".to_owned()));
    }
    for (index, step) in scenario.inject.iter().enumerate() {
        let head = header(text, "[[inject]]", index);
        for plane in &step.planes {
            if !scenario.planes.contains(plane) {
                let what = format!("`{plane}` is none of the scenario's planes");
                return Err(bad(line_after(text, head.unwrap_or(0), plane.name()).or(head), what));
            }
        }
        let patch = match &step.action {
            super::Action::Api { patch, .. } => patch.json().map(drop),
            _ => Ok(()),
        };
        patch.map_err(|what| bad(head, what))?;
        for named in step.action.named() {
            if let Err((needle, what)) = check_named(scenario, &named) {
                return Err(bad(line_after(text, head.unwrap_or(0), &needle).or(head), what));
            }
        }
    }
    for (index, verdict) in scenario.expect.verdict.iter().enumerate() {
        let head = header(text, "[[expect.verdict]]", index);
        scenario
            .check_subject(&verdict.subject)
            .map_err(|what| bad(line_after(text, head.unwrap_or(0), &verdict.subject).or(head), what))?;
    }
    for (index, verdict) in scenario.expect.may.iter().enumerate() {
        let head = header(text, "[[expect.may]]", index);
        scenario
            .check_subject(&verdict.subject)
            .map_err(|what| bad(line_after(text, head.unwrap_or(0), &verdict.subject).or(head), what))?;
    }
    for (index, remedy) in scenario.expect.remedy.iter().enumerate() {
        let head = header(text, "[[expect.remedy]]", index);
        scenario
            .check_subject(&remedy.subject)
            .map_err(|what| bad(line_after(text, head.unwrap_or(0), &remedy.subject).or(head), what))?;
    }
    for (index, incident) in scenario.expect.incident.iter().enumerate() {
        let head = header(text, "[[expect.incident]]", index);
        let Some(subject) = &incident.subject else { continue };
        scenario
            .check_subject(subject)
            .map_err(|what| bad(line_after(text, head.unwrap_or(0), subject).or(head), what))?;
    }
    Ok(())
}

/// The error, and what to look for in the file to find its line.
fn check_named(scenario: &Scenario, named: &Named<'_>) -> Result<(), (String, String)> {
    let find = |placeholder: Placeholder<'_>| {
        match placeholder {
            Placeholder::Ip(pod) | Placeholder::Veth(pod) | Placeholder::Mac(pod) | Placeholder::HostMac(pod) => {
                scenario.check_pod(pod)?;
            }
            Placeholder::Gateway(node)
            | Placeholder::BridgeMac(node)
            | Placeholder::NodeMac(node)
            | Placeholder::Range(node)
            | Placeholder::Node(node) => scenario.check_node(node)?,
            Placeholder::Iptables => return Ok("iptables".to_owned()),
            Placeholder::Service | Placeholder::Upstream => {}
        }
        Ok("x".to_owned())
    };
    let (needle, checked) = match named {
        Named::Pod(pod) => (*pod, scenario.check_pod(pod)),
        Named::Node(node) => (*node, scenario.check_node(node)),
        Named::Place(place @ ("control" | "wire")) => (*place, Ok(())),
        Named::Place(place) if place.contains('@') => (*place, scenario.check_pod(place)),
        Named::Place(place) => (*place, scenario.check_node(place)),
        Named::Line(line) => (*line, expand(line, find).and_then(|line| words(&line)).map(drop)),
        Named::Text(text) => (text.as_str(), expand(text, find).map(drop)),
        Named::Dns(command) => (*command, command.parse::<dns::Command>().map(drop).map_err(|e| e.to_string())),
        Named::Path(path) if FILES.contains(path) => (*path, Ok(())),
        Named::Path(path) => (*path, Err(format!("`{path}` is none of {}", FILES.join(", ")))),
    };
    checked.map_err(|what| (needle.to_owned(), what))
}

/// The line of the nth header.
fn header(text: &str, header: &str, index: usize) -> Option<usize> {
    text.lines().enumerate().filter(|(_, l)| l.trim() == header).nth(index).map(|(at, _)| at + 1)
}

/// The first line that contains something, from a line on. A string of several lines is found by its first.
fn line_after(text: &str, from: usize, needle: &str) -> Option<usize> {
    let needle = needle.lines().next().unwrap_or_default();
    let mut lines = text.lines().enumerate().skip(from.saturating_sub(1));
    lines.find(|(_, line)| line.contains(needle)).map(|(at, _)| at + 1)
}
