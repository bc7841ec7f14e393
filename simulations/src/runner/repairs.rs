//! Repairs of nodes, as the kernel shows them: snapshots of the namespaces concerned when they were whole, when they were
//! broken, and since. The agents are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nameward_messages::remedy::RemedyKind;

use super::processes::journal;
use super::world::{CLUSTER_DNS, State, World, WorldError};
use crate::lab::{Snapshot, diff};
use crate::scenario::Scenario;

/// What is watched.
#[derive(Debug, Default)]
pub(super) struct Watched {
    places: BTreeMap<String, Place>,
    /// Nodes whose conntrack is watched, and whether entries that lead nowhere were seen since the fault.
    flows: BTreeMap<String, bool>,
}

#[derive(Debug)]
struct Place {
    /// The subject that the scenario names.
    subject: String,
    whole: Snapshot,
    sick: Option<Snapshot>,
    /// What was repaired, and how it was when it broke.
    repaired: Option<(RemedyKind, Snapshot)>,
}

/// A repair that the kernel shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repaired {
    pub(super) kind: RemedyKind,
    pub(super) subject: String,
    /// It is there no more: the kernel's state is as it was when it broke.
    pub(super) taken_back: bool,
}

/// The repairs of nodes that a scenario expects.
pub(super) fn repairs_of(scenario: &Scenario) -> Vec<(RemedyKind, String)> {
    let of_node = |kind: RemedyKind| !kind.shared() && kind != RemedyKind::RestartKubeProxy;
    scenario.expect.remedy.iter().filter(|r| of_node(r.kind)).map(|r| (r.kind, r.subject.clone())).collect()
}

impl World {
    /// Remembers how the namespaces are that will be repaired: the pod's and its node's, or the node's.
    pub(super) fn watch_over(&self, repairs: &[(RemedyKind, String)]) -> Result<(), WorldError> {
        let mut watched = Watched::default();
        for (kind, subject) in repairs {
            let node = subject.rsplit('@').next().unwrap_or(subject).to_owned();
            if *kind == RemedyKind::DropConntrack {
                watched.flows.insert(node, false);
                continue;
            }
            let mut names = vec![node];
            if subject.contains('@') {
                names.push(self.key(subject)?);
            }
            for name in names {
                let whole = self.netns(&name)?.snapshot()?;
                watched.places.insert(name, Place { subject: subject.clone(), whole, sick: None, repaired: None });
            }
        }
        self.state().watched = watched;
        Ok(())
    }

    /// What was broken and is whole again since the last time this was asked, and what was so and was taken back.
    pub(super) fn repaired(&self) -> Result<Vec<Repaired>, WorldError> {
        let mut state = self.state();
        let mut found = Vec::new();
        let mut watched = std::mem::take(&mut state.watched);
        for (name, place) in &mut watched.places {
            if place.sick.is_none() && place.repaired.is_none() {
                continue;
            }
            let Ok(netns) = state.lab.netns(name) else { continue };
            let now = netns.snapshot()?;
            let subject = place.subject.clone();
            let seen = match (&place.sick, &place.repaired) {
                (Some(sick), _) if now == place.whole => {
                    let kind = kind(&diff(sick, &now));
                    place.repaired = kind.zip(place.sick.take());
                    kind.map(|kind| Repaired { kind, subject, taken_back: false })
                }
                (None, Some((kind, sick))) if now == *sick => {
                    let kind = *kind;
                    place.sick = place.repaired.take().map(|(_, sick)| sick);
                    Some(Repaired { kind, subject, taken_back: true })
                }
                _ => continue,
            };
            found.extend(seen);
            // From here on this is what nobody may change.
            if let Some(baseline) = state.baseline.get_mut(name) {
                *baseline = now;
            }
        }
        for (node, sick) in &mut watched.flows {
            let stale = state.stale_flows(node)?;
            if *sick && !stale {
                let kind = RemedyKind::DropConntrack;
                found.push(Repaired { kind, subject: node.clone(), taken_back: false });
            }
            *sick = stale;
        }
        state.watched = watched;
        Ok(found)
    }

    /// Whether anything that was broken is not as it was when it broke.
    pub(super) fn repair_began(&self) -> Result<bool, WorldError> {
        let state = self.state();
        for (name, place) in &state.watched.places {
            let Some(sick) = &place.sick else { continue };
            if state.lab.netns(name)?.snapshot()? != *sick {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is neither whole nor, where it was not repaired, as it was when it broke.
    pub(super) fn not_whole(&self) -> Result<Vec<String>, WorldError> {
        let state = self.state();
        let mut left = Vec::new();
        for (name, place) in &state.watched.places {
            let Ok(netns) = state.lab.netns(name) else { continue };
            let now = netns.snapshot()?;
            if now != place.whole && place.sick.as_ref() != Some(&now) {
                left.extend(diff(&place.whole, &now).into_iter().map(|line| format!("{name} is not whole: {line}")));
            }
        }
        Ok(left)
    }
}

impl State {
    /// After a fault: what differs from what was whole is sick from now on.
    pub(super) fn fall_sick(&mut self) -> Result<(), WorldError> {
        let mut watched = std::mem::take(&mut self.watched);
        for (name, place) in &mut watched.places {
            let Ok(netns) = self.lab.netns(name) else { continue };
            let now = netns.snapshot()?;
            if now != place.whole {
                place.sick = Some(now);
                place.repaired = None;
            }
        }
        self.watched = watched;
        Ok(())
    }

    /// Whether entries over UDP of those who asked the DNS Service lead to no CoreDNS pod of now.
    fn stale_flows(&self, node: &str) -> Result<bool, WorldError> {
        let running = self.pods.values().filter(|pod| pod.coredns).filter_map(|pod| self.lab.pod(&pod.key).ok());
        let living: BTreeSet<Ipv4Addr> = running.map(|pod| pod.address).collect();
        let service = CLUSTER_DNS.to_string();
        let which = ["-L", "-p", "udp", "--orig-dst", &service, "--orig-port-dst", "53"];
        let listed = self.lab.netns(node)?.tool("conntrack", &which, "")?;
        // Who is to reply: the second `src=` of a line.
        let replier = |line: &str| -> Option<Ipv4Addr> {
            line.split_whitespace().filter_map(|word| word.strip_prefix("src=")).nth(1)?.parse().ok()
        };
        Ok(listed.lines().filter_map(replier).any(|from| !living.contains(&from)))
    }
}

/// Which repair does what differs. The first that fits: with a link that goes down its routes go, too.
fn kind(differences: &[String]) -> Option<RemedyKind> {
    let in_section =
        |section: &str| differences.iter().any(|line| line.get(2..).is_some_and(|l| l.starts_with(section)));
    let links = |word: &str| differences.iter().any(|line| line.starts_with("+ links:") && line.contains(word));
    let masters = |sign: &str| differences.iter().filter(|l| l.starts_with(sign) && l.contains(" master ")).count();
    if in_section("addresses:") || links(" bridge up") {
        Some(RemedyKind::RestoreBridgeAddress)
    } else if masters("+ links:") > masters("- links:") {
        Some(RemedyKind::AttachVeth)
    } else if in_section("links:") {
        Some(RemedyKind::SetLinkUp)
    } else if in_section("routes:") {
        Some(RemedyKind::RestoreRoute)
    } else if in_section("permanent neighbours:") {
        Some(RemedyKind::FixNeighbour)
    } else if in_section("sysctls:") {
        Some(RemedyKind::WriteSysctl)
    } else {
        None
    }
}

/// What is wrong with the journal of a node: a change that is open at the end, or any at all where none was expected.
pub(super) fn journal_left(node: &str, repairs: bool) -> Vec<String> {
    let text = std::fs::read_to_string(journal(node)).unwrap_or_default();
    let mut states: BTreeMap<u64, String> = BTreeMap::new();
    for line in text.lines() {
        let entry = line.get(9..).and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
        let Some(entry) = entry else {
            return vec![format!("a line of the journal of {node} is not whole")];
        };
        let state = entry["state"].as_str().unwrap_or_default().to_owned();
        states.insert(entry["id"].as_u64().unwrap_or_default(), state);
    }
    if !repairs && !states.is_empty() {
        return vec![format!("{node} has {} changes in its journal, and none was expected", states.len())];
    }
    let open = states.iter().filter(|(_, state)| matches!(state.as_str(), "intended" | "applied"));
    open.map(|(id, state)| format!("change {id} in the journal of {node} is still {state}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_tells_the_repair() {
        for (differences, wanted) in [
            (vec!["+ routes: default gateway 10.244.1.1 dev eth0"], Some(RemedyKind::RestoreRoute)),
            (
                vec!["- links: eth0 veth down mtu 1500", "+ links: eth0 veth up mtu 1500", "+ routes: default"],
                Some(RemedyKind::SetLinkUp),
            ),
            (
                vec!["- links: veth1 veth up", "+ links: veth1 veth up master cni0 hairpin true"],
                Some(RemedyKind::AttachVeth),
            ),
            (
                vec!["- links: veth1 veth down master cni0", "+ links: veth1 veth up master cni0"],
                Some(RemedyKind::SetLinkUp),
            ),
            (vec!["- links: cni0 bridge down", "+ links: cni0 bridge up"], Some(RemedyKind::RestoreBridgeAddress)),
            (
                vec!["+ addresses: 10.244.1.1 on cni0", "+ routes: 10.244.1.0/24"],
                Some(RemedyKind::RestoreBridgeAddress),
            ),
            (vec!["- permanent neighbours: 10.244.1.1 dev eth0"], Some(RemedyKind::FixNeighbour)),
            (vec!["- sysctls: a = 0", "+ sysctls: a = 1"], Some(RemedyKind::WriteSysctl)),
            (vec!["+ iptables-nft filter FORWARD: policy ACCEPT"], None),
        ] {
            let lines: Vec<String> = differences.into_iter().map(str::to_owned).collect();
            assert_eq!(kind(&lines), wanted, "{lines:?}");
        }
    }
}
