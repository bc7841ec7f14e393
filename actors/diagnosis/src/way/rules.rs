//! The steps through packet filters: rule by rule, as the walker of `nameward_kernel::filter` follows a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nameward_kernel::facts::{Netfilter, Topology};
use nameward_kernel::filter::{Device, Filters, Ground, Packet, Step as Met, Verdict, Walk, Way, answer, journey};
use nameward_messages::targets::Transport;
use serde::Serialize;

use super::{Hop, Known, Passes, Step, Steps, links};

/// Most rules that one step lists.
const MOST: usize = 64;

/// One rule that the packet met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Where it stands and what it says.
    pub rule: String,
    /// What it does.
    pub does: String,
    /// Its counter, if it has one.
    pub packets: Option<u64>,
    /// Why it is not certain that the packet meets it.
    pub doubt: Option<String>,
}

/// A packet on its way through the node, once for each destination that it may be sent to.
pub(super) struct Trip {
    way: Way,
    packet: Packet,
}

impl Trip {
    /// From the vantage to an address.
    pub(super) fn new(known: &Known<'_>, to: IpAddr, transport: Transport) -> Self {
        let v4 = to.is_ipv4();
        match known.namespace {
            Some(namespace) => {
                let from = namespace.ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
                let packet = Packet::new(transport, from.unwrap_or_else(|| unknown(v4)), to, 53);
                let device = links::enters_by(known, namespace).map_or(Device::Unknown, Device::Named);
                Self { way: Way::Through { iif: device }, packet }
            }
            None => {
                let from = known.host().and_then(|host| own_address(host, to)).unwrap_or_else(|| unknown(v4));
                // Probes are sent by root: entering a namespace needs it.
                Self { way: Way::Out, packet: Packet { uid: Some(0), ..Packet::new(transport, from, to, 53) } }
            }
        }
    }

    /// Follows it through the node's rules.
    pub(super) fn walks(&self, known: &Known<'_>) -> Vec<Walk> {
        journey(Filters::of(&known.sample.host.netfilter), ground(known), &self.way, self.packet.clone())
    }

    /// The steps of one walk, and of the answer if it loses that.
    pub(super) fn steps(&self, known: &Known<'_>, walk: &Walk, steps: &mut Steps) {
        let at = format!("{} rules", known.node);
        add(walk, &at, steps);
        if steps.ended {
            return;
        }
        let filters = Filters::of(&known.sample.host.netfilter);
        if let Some(back) = answer(filters, ground(known), &self.way, walk).filter(|back| back.fate.is_loss()) {
            let mut lost = Steps::default();
            add(&back, &format!("{} rules, for the answer", known.node), &mut lost);
            lost.all.pop().into_iter().for_each(|step| steps.add(step));
        }
    }
}

/// What the rules of the pod's own namespace do with what it sends.
pub(super) fn own(known: &Known<'_>, filters: &Netfilter, topology: &Topology, trip: &Trip, steps: &mut Steps) {
    let Some(namespace) = known.namespace else { return };
    let packet = Packet { uid: Some(0), ..trip.packet.clone() };
    let ground = Ground { topology: Some(topology) };
    for walk in journey(Filters::of(filters), ground, &Way::Out, packet) {
        // Most pods have no rules: then there is nothing to tell.
        if walk.place.is_some() || walk.translated.is_some() {
            add(&walk, &format!("{} rules", namespace.key), steps);
        }
    }
}

/// One step per hook and table that had something to say.
fn add(walk: &Walk, at: &str, steps: &mut Steps) {
    let mut groups: Vec<Vec<&Met>> = Vec::new();
    for met in &walk.steps {
        match groups.last_mut() {
            Some(group) if group.first().is_some_and(|first| together(first, met)) => group.push(met),
            _ => groups.push(vec![met]),
        }
    }
    let last = groups.len().saturating_sub(1);
    for (n, group) in groups.iter().enumerate() {
        let Some(first) = group.first() else { continue };
        let lost = walk.fate.is_loss() && n == last;
        let doubts = group.iter().any(|met| met.doubt.is_some());
        let dnat =
            matches!(&walk.translated, Some((Verdict::Dnat { .. }, place)) if group.iter().any(|m| m.place == *place));
        let passes = match (lost, walk.certain()) {
            (true, true) => Passes::No,
            (true, false) => Passes::Unknown,
            // Which endpoint is chosen is left to chance, and no doubt.
            (false, certain) if certain || dnat || !doubts => Passes::Yes,
            (false, _) => Passes::Unknown,
        };
        let hop = if dnat { Hop::Dnat } else { Hop::Rules };
        let at = format!("{at}: {} {}", first.hook.chain(), first.place.table);
        let says = match &walk.place {
            Some(place) if lost => format!("{} by {place}", walk.fate),
            _ => told(group),
        };
        steps.add(Step { rules: rules(group), ..Step::new(hop, at, passes, says) });
    }
    if walk.fate.is_loss() && !steps.ended {
        let says = walk.place.as_ref().map_or_else(|| walk.fate.to_string(), |place| format!("{}: {place}", walk.fate));
        let passes = if walk.certain() { Passes::No } else { Passes::Unknown };
        steps.add(Step::new(Hop::Rules, at, passes, says));
    }
    if let Some(doubt) = walk.not_understood() {
        steps.add(Step::new(Hop::Rules, at, Passes::Unknown, doubt));
    }
}

fn together(a: &Met, b: &Met) -> bool {
    (a.hook, a.place.backend, &a.place.table) == (b.hook, b.place.backend, &b.place.table)
}

/// The chains that were passed, and what was done in the end.
fn told(group: &[&Met]) -> String {
    let mut chains: Vec<&str> = Vec::new();
    for met in group {
        if !chains.contains(&met.place.chain.as_str()) {
            chains.push(&met.place.chain);
        }
    }
    let does: Vec<&str> = group
        .iter()
        .map(|met| met.does.as_str())
        .filter(|does| !does.starts_with("jump") && !does.starts_with("goto"))
        .collect();
    let does = if does.is_empty() { "goes on".to_owned() } else { does.join(", ") };
    let counter =
        group.last().and_then(|met| met.packets).map_or_else(String::new, |n| format!(" ({n} packets so far)"));
    format!("{}: {does}{counter}", chains.join(" > "))
}

fn rules(group: &[&Met]) -> Vec<Rule> {
    let rule = |met: &&Met| Rule {
        rule: met.place.to_string(),
        does: met.does.clone(),
        packets: met.packets,
        doubt: met.doubt.clone(),
    };
    group.iter().take(MOST).map(rule).collect()
}

fn ground<'a>(known: &Known<'a>) -> Ground<'a> {
    Ground { topology: known.sample.host.topology.value() }
}

fn own_address(host: &Topology, to: IpAddr) -> Option<IpAddr> {
    let Device::Named(name) = (Ground { topology: Some(host) }).device_to(to) else { return None };
    let link = host.link(&name)?.index;
    host.addresses.iter().find(|a| a.link == link && a.ip.is_ipv4() == to.is_ipv4()).map(|a| a.ip)
}

fn unknown(v4: bool) -> IpAddr {
    if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
}
