//! The way of a packet as understood: from its namespace over veth, bridge, rules and routes to the far end. For people:
//! no rule is judged by it, and a step that could not be read says so.

use std::net::IpAddr;

use nameward_kernel::facts::{Link, Reading, Topology};
use nameward_kernel::filter::Filters;
use nameward_kernel::kubeproxy::{Expected, Mode, PathState};
use nameward_messages::NodeName;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::targets::{DnsPod, Family, Target, TargetKind, Targets, Transport};
use serde::Serialize;

use crate::record::{PodReadings, Sample};
use crate::rules::unmodelled;

mod links;
mod routes;
mod rules;

pub use rules::Rule;

/// Most destinations that are followed: a Service with more endpoints is shown by the first ones.
const ENDS: usize = 8;

/// Where a step lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hop {
    /// The pod's own network namespace: links and addresses.
    Namespace,
    /// A choice of route.
    Route,
    /// The other end of the pod's veth pair.
    Veth,
    /// The bridge that it is on.
    Bridge,
    /// Forwarding between links of the node.
    Forwarding,
    /// Packet filters and kube-proxy's rules.
    Rules,
    /// Where the rules translate to.
    Dnat,
    /// The server.
    FarEnd,
}

/// Whether a packet gets on, as far as the step shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passes {
    /// It does.
    Yes,
    /// It ends here.
    No,
    /// It could not be read, or is not modelled.
    Unknown,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What kind of step.
    pub hop: Hop,
    /// Where: a namespace, a link, a table.
    pub at: String,
    /// What is there, in one line.
    pub says: String,
    /// Whether a packet gets on.
    pub passes: Passes,
    /// For packet filters: the rules that it meets, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Step {
    fn new(hop: Hop, at: impl Into<String>, passes: Passes, says: impl Into<String>) -> Self {
        Self { hop, at: at.into(), says: says.into(), passes, rules: Vec::new() }
    }

    fn unread<T>(hop: Hop, at: impl Into<String>, reading: &Reading<T>) -> Self {
        Self::new(hop, at, Passes::Unknown, reading.missing().unwrap_or("not read"))
    }
}

/// What the way is read from.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// What the API says; empty without it.
    pub targets: &'a Targets,
    /// Where the packet starts.
    pub vantage: &'a Vantage,
    /// The vantage's namespace; `None`: the host's.
    pub namespace: Option<&'a Namespace>,
    /// The newest sample.
    pub sample: &'a Sample,
}

impl Known<'_> {
    fn own(&self) -> Option<&PodReadings> {
        self.sample.pods.get(&self.namespace?.pod)
    }

    fn host(&self) -> Option<&Topology> {
        self.sample.host.topology.value()
    }

    fn is_pod(&self) -> bool {
        matches!(self.vantage, Vantage::Pod { .. })
    }
}

/// The way of a question to a server. It ends with the step at which the packet does.
#[must_use]
pub fn way(known: &Known<'_>, target: &Target, transport: Transport) -> Vec<Step> {
    let mut steps = Steps::default();
    let to = target.ip;
    let trip = rules::Trip::new(known, to, transport);
    let at = format!("{} (host)", known.node);
    match known.namespace {
        Some(namespace) => links::out_of(known, namespace, &trip, to, &mut steps),
        None => match known.host() {
            // Routing comes before the rules: without a route to the Service nothing is ever translated.
            Some(host) => steps.add(routes::step(host, to, &at)),
            None => steps.add(Step::unread(Hop::Route, at.clone(), &known.sample.host.topology)),
        },
    }
    let is_self = known.namespace.is_some_and(|own| own.ips.contains(&to));
    if is_self {
        far_end(known, to, target, transport, &mut steps);
        return steps.all;
    }
    let service = target.kind == TargetKind::Service;
    if service {
        compare(known, to, transport, &mut steps);
    }
    let filters = &known.sample.host.netfilter;
    let unread = Filters::unread(filters);
    let all_read = unread.is_empty();
    for missing in unread {
        steps.add(Step::new(Hop::Rules, format!("{} rules", known.node), Passes::Unknown, missing));
    }
    let bridged = !service && known.is_pod() && links::bridged(known, to);
    if bridged && links::bridge_filter_off(known) {
        let says = "net.bridge.bridge-nf-call-iptables is not 1: rules do not see what stays on the bridge";
        steps.add(Step::new(Hop::Rules, format!("{} sysctls", known.node), Passes::Yes, says));
        far_end(known, to, target, transport, &mut steps);
        return steps.all;
    }
    if known.is_pod() && !bridged {
        links::forwarding(known, &mut steps);
    }
    for walk in trip.walks(known).iter().take(ENDS) {
        // Each endpoint is a way of its own: one that ends does not end the others.
        let mut branch = steps.branch();
        trip.steps(known, walk, &mut branch);
        let end = walk.packet.destination;
        if service && end == to && !branch.ended {
            let says = if all_read {
                format!("{to} is not translated: it is routed as it is")
            } else {
                format!("whether {to} is translated could not be read")
            };
            branch.add(Step::new(Hop::Rules, format!("{} rules", known.node), Passes::Unknown, says));
        }
        if service && known.is_pod() && links::bridged(known, end) && links::bridge_filter_off(known) {
            let says = "net.bridge.bridge-nf-call-iptables is not 1: replies on the bridge are not translated back";
            branch.add(Step::new(Hop::Rules, format!("{} sysctls", known.node), Passes::No, says));
        }
        if known.is_pod() || end != to {
            match known.host() {
                Some(host) => branch.add(routes::step(host, end, &at)),
                None => branch.add(Step::unread(Hop::Route, at.clone(), &known.sample.host.topology)),
            }
        }
        far_end(known, end, target, transport, &mut branch);
        steps.join(branch);
    }
    steps.all
}

/// Steps up to the one that ends the way.
#[derive(Debug, Default)]
struct Steps {
    all: Vec<Step>,
    ended: bool,
}

impl Steps {
    fn add(&mut self, step: Step) {
        if !self.ended {
            self.ended = step.passes == Passes::No;
            self.all.push(step);
        }
    }

    fn branch(&self) -> Self {
        Self { all: Vec::new(), ended: self.ended }
    }

    fn join(&mut self, branch: Self) {
        // Rules that were met on the way to another endpoint are not told again.
        let again = |step: &Step| matches!(step.hop, Hop::Rules | Hop::Dnat) && self.all.contains(step);
        let fresh: Vec<Step> = branch.all.into_iter().filter(|step| !again(step)).collect();
        self.all.extend(fresh);
    }
}

/// kube-proxy's rules for the Service against what the API says.
fn compare(known: &Known<'_>, ip: IpAddr, transport: Transport, steps: &mut Steps) {
    let node = known.node;
    let at = format!("{node} rules");
    let Some(service) = known.targets.service.as_ref().filter(|_| ip.is_ipv4()) else {
        let says =
            if ip.is_ipv4() { "the API's word on the Service is missing" } else { "rules for IPv6 are not read" };
        steps.add(Step::new(Hop::Rules, at, Passes::Unknown, says));
        return;
    };
    let expected = Expected::of(known.targets, Family::of(ip), node);
    let verdict = unmodelled::judged(service, &expected, known.sample);
    let at = format!("{at}, kube-proxy ({})", verdict.mode.label());
    let (hook, jump) =
        if known.is_pod() { ("PREROUTING", verdict.prerouting_jump) } else { ("OUTPUT", verdict.output_jump) };
    let foreign = matches!(verdict.of(transport), PathState::Unknown { .. });
    if !matches!(verdict.mode, Mode::Unknown | Mode::Absent | Mode::Ipvs) && !foreign && !jump {
        let says = format!("{hook} has no jump to the rules of Services");
        steps.add(Step::new(Hop::Rules, at.clone(), Passes::No, says));
    }
    let list = |all: &[std::net::SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (passes, says) = match verdict.of(transport) {
        PathState::Present => (Passes::Yes, format!("for {ip} {transport} they are what the API says")),
        PathState::Missing { what } => (Passes::No, format!("{what} is missing")),
        PathState::Stale { extra, missing } => {
            let mut says = Vec::new();
            if !extra.is_empty() {
                says.push(format!("they send to {}, which the API does not name", list(extra)));
            }
            if !missing.is_empty() {
                says.push(format!("they leave out {}", list(missing)));
            }
            (Passes::Unknown, says.join(" and "))
        }
        PathState::NoEndpoints { action } => {
            (Passes::No, format!("{action}: the Service has no endpoints, and the API says the same"))
        }
        PathState::NotServed => (Passes::No, format!("the Service has no port for {transport}")),
        PathState::Unknown { why } => (Passes::Unknown, why.clone()),
    };
    steps.add(Step::new(Hop::Rules, at.clone(), passes, says));
    let telling = |hint: &&String| hint.contains("not modelled") || hint.contains("as well");
    for hint in verdict.hints.iter().filter(telling) {
        steps.add(Step::new(Hop::Rules, at.clone(), Passes::Unknown, hint.clone()));
    }
}

/// The server itself, as far as it is on this node.
fn far_end(known: &Known<'_>, ip: IpAddr, target: &Target, transport: Transport, steps: &mut Steps) {
    let node = known.node;
    let dns = known.targets.pods.iter().find(|pod| pod.ips.contains(&ip));
    let readings = dns.and_then(|pod| known.sample.pods.get(&pod.uid));
    let is_self = known.namespace.is_some_and(|own| own.ips.contains(&ip));
    match (dns, readings) {
        (Some(pod), Some(readings)) => {
            if !is_self {
                links::into(known, pod, readings, steps);
            }
            steps.add(listener(pod, readings, transport));
        }
        (Some(pod), None) => {
            let says = match &pod.node {
                Some(on) if on == node => format!("{} on this node was not read", pod.key),
                Some(on) => format!("{} on {on}: what happens there its own agent sees", pod.key),
                None => format!("{} on an unknown node", pod.key),
            };
            steps.add(Step::new(Hop::FarEnd, ip.to_string(), Passes::Unknown, says));
        }
        (None, _) => {
            let says = match target.kind {
                TargetKind::Service => "the API names no CoreDNS pod with this address",
                TargetKind::Pod { .. } | TargetKind::Nameserver | TargetKind::Upstream => "outside of what is read",
            };
            steps.add(Step::new(Hop::FarEnd, ip.to_string(), Passes::Unknown, says));
        }
    }
}

/// Whether somebody listens where the packet arrives.
fn listener(pod: &DnsPod, readings: &PodReadings, transport: Transport) -> Step {
    let at = pod.key.to_string();
    let port = match transport {
        Transport::Udp => pod.udp_port,
        Transport::Tcp => pod.tcp_port,
    };
    let port = port.unwrap_or(53);
    let Some(sockets) = readings.sockets.value() else { return Step::unread(Hop::FarEnd, at, &readings.sockets) };
    let found = match transport {
        Transport::Udp => sockets.udp_on(port).next(),
        Transport::Tcp => sockets.tcp_on(port).next(),
    };
    match found {
        None => Step::new(Hop::FarEnd, at, Passes::No, format!("nobody listens on {transport} {port}")),
        Some(socket) => {
            let waiting = match (transport, socket.rx_queue, socket.drops) {
                (Transport::Udp, 0, 0) | (Transport::Tcp, 0, _) => "nothing waits to be read".to_owned(),
                (Transport::Udp, bytes, drops) => {
                    format!("{bytes} bytes wait to be read, {drops} datagrams were dropped")
                }
                (Transport::Tcp, connections, _) => format!("{connections} connections wait to be accepted"),
            };
            let says = format!("listens on {transport} {port}; {waiting}");
            Step::new(Hop::FarEnd, at, Passes::Yes, says)
        }
    }
}

fn link_state(link: &Link) -> Option<&'static str> {
    match (link.up, link.carrier) {
        (false, _) => Some("is down"),
        (true, false) => Some("has no carrier: its other end is down"),
        (true, true) => None,
    }
}

#[cfg(test)]
mod tests;
