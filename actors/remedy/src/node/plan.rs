//! From a verdict and what was read afresh to typed changes: the precondition of every repair. What it says is needed is still
//! wrong; what is written comes from what was recorded of the pod when it was made, never from a guess. Whatever is not
//! known, or not quite as it was judged, is a reason to leave it to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nameward_kernel::facts::{Link, Reading, Sysctls, Topology};
use nameward_kernel::repair::{Change, FlowId, LinkId, MAX_FLOWS, Place, Seen, Sysctl, Wanted};
use nameward_messages::PodUid;
use nameward_messages::namespaces::Namespace;
use nameward_messages::targets::Targets;
use nameward_messages::verdict::{Cause, Verdict};

/// Most pods that are read for one repair.
const PODS: usize = 16;
/// Most devices whose sysctl one repair writes.
const DEVICES: usize = 3;
/// NUD_INCOMPLETE and NUD_FAILED: nobody has answered.
const UNRESOLVED: u16 = 0x01 | 0x20;

/// What this node knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) namespaces: &'a BTreeMap<PodUid, Namespace>,
    pub(super) targets: &'a Targets,
}

/// Why nothing is to be changed, for people.
type Why = String;

/// The namespace of a pod as a place.
pub(super) fn place(namespace: &Namespace) -> Place {
    Place::Pod { pod: namespace.pod.clone(), cookie: namespace.cookie, path: namespace.path.clone() }
}

impl<'a> Known<'a> {
    fn subject(&self, verdict: &Verdict) -> Result<&'a Namespace, Why> {
        let uid = verdict.subject.uid.as_ref().ok_or("the verdict names no pod")?;
        self.namespaces.get(uid).ok_or_else(|| "the pod's network namespace is not known on this node".to_owned())
    }

    /// What is to be read.
    pub(super) fn wanted(&self, verdict: &Verdict) -> Result<Wanted, Why> {
        let own = |uid: &PodUid| verdict.subject.uid.as_ref() == Some(uid);
        let pods = match verdict.cause {
            Cause::PodRouteMissing | Cause::WrongGateway | Cause::VethDown => vec![place(self.subject(verdict)?)],
            Cause::WrongNeighbour | Cause::VethOffBridge => {
                let others = self.namespaces.values().filter(|n| !own(&n.pod)).take(PODS - 1);
                std::iter::once(self.subject(verdict)?).chain(others).map(place).collect()
            }
            Cause::BridgeDown => {
                self.namespaces.values().filter(|n| n.bridge.is_some()).take(PODS).map(place).collect()
            }
            _ => Vec::new(),
        };
        let flows_to = if verdict.cause == Cause::StaleConntrack { self.services() } else { Vec::new() };
        Ok(Wanted { pods, flows_to })
    }

    /// The changes, in their order. Each is made, read back and journalled before the next.
    pub(super) fn changes(&self, verdict: &Verdict, seen: &Seen) -> Result<Vec<Change>, Why> {
        let changes = match verdict.cause {
            Cause::PodRouteMissing | Cause::WrongGateway => self.route(verdict, seen)?,
            Cause::VethDown => self.links_up(verdict, seen)?,
            Cause::VethOffBridge => self.attach(verdict, seen)?,
            Cause::WrongNeighbour => self.neighbour(verdict, seen)?,
            Cause::BridgeDown => self.bridge(seen)?,
            Cause::IpForwardOff => self.forwarding(seen)?,
            Cause::BridgeFilterOff => bridge_filter(seen)?,
            Cause::ReversePathFilter => reverse_path(seen)?,
            Cause::StaleConntrack => self.flows(seen, |_| true)?,
            Cause::ConntrackFull | Cause::NeighbourTableFull => {
                return Err("how big the table shall be is not recorded anywhere: a person chooses".to_owned());
            }
            _ => return Err("this repair is not carried out in this release".to_owned()),
        };
        if changes.is_empty() { Err(NOT_SO.to_owned()) } else { Ok(changes) }
    }

    fn gateway(&self, namespace: &Namespace) -> Result<Ipv4Addr, Why> {
        match namespace.gateway {
            Some(IpAddr::V4(gateway)) => Ok(gateway),
            Some(IpAddr::V6(_)) => Err("its gateway is an IPv6 address: such routes are not repaired".to_owned()),
            None => Err("no CNI result names its gateway".to_owned()),
        }
    }

    fn route(&self, verdict: &Verdict, seen: &Seen) -> Result<Vec<Change>, Why> {
        let namespace = self.subject(verdict)?;
        let (inside, own) = inside(seen, namespace)?;
        if !own.up {
            return Err("the pod's own link is down: routes cannot be there".to_owned());
        }
        let missing = inside.default_routes(true).next().is_none();
        if missing != (verdict.cause == Cause::PodRouteMissing) {
            return Err(NOT_SO.to_owned());
        }
        let gateway = self.gateway(namespace)?;
        if inside.default_routes(true).any(|r| r.gateway == Some(gateway.into())) {
            return Err(NOT_SO.to_owned());
        }
        usable(seen, inside, own, gateway)?;
        Ok(vec![Change::DefaultRoute { place: place(namespace), link: id(own), gateway }])
    }

    fn links_up(&self, verdict: &Verdict, seen: &Seen) -> Result<Vec<Change>, Why> {
        let namespace = self.subject(verdict)?;
        let (inside, own) = inside(seen, namespace)?;
        let veth = host_end(seen, namespace, own)?;
        let mut changes = Vec::new();
        if !veth.up {
            changes.push(Change::LinkUp { place: Place::Host, link: id(veth) });
        }
        if !own.up {
            changes.push(Change::LinkUp { place: place(namespace), link: id(own) });
            // Its routes went with it: the connected one comes back by itself, the default route does not.
            // One that leads by another link of the pod is somebody's choice.
            if inside.default_routes(true).next().is_none() {
                let gateway = self.gateway(namespace)?;
                usable(seen, inside, own, gateway)?;
                changes.push(Change::DefaultRoute { place: place(namespace), link: id(own), gateway });
            }
        }
        Ok(changes)
    }

    fn attach(&self, verdict: &Verdict, seen: &Seen) -> Result<Vec<Change>, Why> {
        let namespace = self.subject(verdict)?;
        let (_, own) = inside(seen, namespace)?;
        let veth = host_end(seen, namespace, own)?;
        if veth.master.is_some() {
            let off = veth.port.is_some_and(|port| port.isolated || matches!(port.state, 0 | 4));
            let why =
                if off { "it is on a bridge, and its port is off or isolated: somebody set that" } else { NOT_SO };
            return Err(why.to_owned());
        }
        let bridge = bridge(seen, namespace.bridge.as_deref().ok_or("no CNI result names its bridge")?)?;
        let host = read(&seen.host, "the host's links")?;
        let ports: Vec<&Link> = host.links.iter().filter(|l| l.master == Some(bridge.index)).collect();
        // A port comes back without its own settings, and then the pod could reach whom it must not.
        if ports.iter().any(|l| l.port.is_none_or(|port| port.isolated)) {
            return Err(format!(
                "ports of {} are isolated, or not known not to be: its own must be set by hand",
                bridge.name
            ));
        }
        if bridge.vlan_filtering != Some(false) {
            return Err(format!("{} filters VLANs, or is not known not to: its port must be set by hand", bridge.name));
        }
        let mut changes = vec![Change::AttachVeth { veth: id(veth), bridge: id(bridge) }];
        // A port loses its mode with its bridge. All the others have it: so had this one.
        if !ports.is_empty() && ports.iter().all(|l| l.port.is_some_and(|port| port.hairpin)) {
            changes.push(Change::Hairpin { veth: id(veth) });
        }
        Ok(changes)
    }

    fn neighbour(&self, verdict: &Verdict, seen: &Seen) -> Result<Vec<Change>, Why> {
        let namespace = self.subject(verdict)?;
        let (inside, own) = inside(seen, namespace)?;
        let host = read(&seen.host, "the host's neighbours")?;
        let veth = host_end(seen, namespace, own)?;
        let wrong = |table: &Topology, links: &[u32], ip: IpAddr, real: &str| {
            let entry = table
                .neighbours
                .iter()
                .find(|n| n.ip == ip && links.contains(&n.link) && n.state & UNRESOLVED == 0 && n.mac.is_some())?;
            let mac = entry.mac.clone().filter(|mac| mac != real)?;
            Some((id(table.link_at(entry.link)?), mac))
        };
        // The node's entry for the pod.
        let links: Vec<u32> = std::iter::once(veth.index).chain(veth.master).collect();
        for ip in namespace.ips.iter().filter(|ip| inside.addresses.iter().any(|a| a.ip == **ip && a.link == own.index))
        {
            if let Some((link, mac)) = wrong(host, &links, *ip, &own.mac) {
                return Ok(vec![Change::DropNeighbour { place: Place::Host, link, ip: *ip, mac }]);
            }
        }
        // The pod's entry for its gateway, which is the bridge's address.
        let master = veth.master.and_then(|index| host.link_at(index));
        if let (Some(gateway), Some(bridge)) = (namespace.gateway, master) {
            let is_its = host.addresses.iter().any(|a| a.ip == gateway && a.link == bridge.index);
            if let Some((link, mac)) = wrong(inside, &[own.index], gateway, &bridge.mac).filter(|_| is_its) {
                return Ok(vec![Change::DropNeighbour { place: place(namespace), link, ip: gateway, mac }]);
            }
        }
        // The pod's entry for a pod beside it.
        for other in self.namespaces.values().filter(|other| other.pod != namespace.pod) {
            let Ok((_, theirs)) = self::inside(seen, other) else { continue };
            for ip in &other.ips {
                if let Some((link, mac)) = wrong(inside, &[own.index], *ip, &theirs.mac) {
                    return Ok(vec![Change::DropNeighbour { place: place(namespace), link, ip: *ip, mac }]);
                }
            }
        }
        Ok(Vec::new())
    }

    fn bridge(&self, seen: &Seen) -> Result<Vec<Change>, Why> {
        let host = read(&seen.host, "the host's links")?;
        let names: BTreeSet<&str> = self.namespaces.values().filter_map(|n| n.bridge.as_deref()).collect();
        for name in names {
            let on_it: Vec<&Namespace> =
                self.namespaces.values().filter(|n| n.bridge.as_deref() == Some(name)).collect();
            let link = bridge(seen, name)?;
            let mut changes = Vec::new();
            if !link.up {
                changes.push(Change::LinkUp { place: Place::Host, link: id(link) });
            }
            let gateways: BTreeSet<IpAddr> = on_it.iter().filter_map(|n| n.gateway).filter(IpAddr::is_ipv4).collect();
            let lost = gateways.iter().any(|gateway| host.addresses.iter().all(|a| a.ip != *gateway));
            if lost {
                changes.push(address(seen, link, &on_it, &gateways)?);
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
        Ok(Vec::new())
    }

    fn forwarding(&self, seen: &Seen) -> Result<Vec<Change>, Why> {
        let sysctls = read(&seen.sysctls, "the sysctls")?;
        // To write ip_forward writes every device (inet_forward_change() in net/ipv4/devinet.c), and to take it back would stop those that forward.
        if sysctls.ip_forward == Some(0) && !sysctls.forwarding.values().any(|on| *on != 0) {
            return Ok(vec![Change::Sysctl { name: Sysctl::IpForward, value: 1 }]);
        }
        let host = read(&seen.host, "the host's links")?;
        let mut devices: BTreeSet<String> = self.namespaces.values().filter_map(|n| n.bridge.clone()).collect();
        devices.extend(host.default_routes(true).filter_map(|r| Some(host.link_at(r.out_link?)?.name.clone())));
        devices.retain(|device| sysctls.forwarding.get(device) == Some(&0));
        few(devices.into_iter().map(|device| Change::Sysctl { name: Sysctl::Forwarding(device), value: 1 }))
    }

    /// What is to be read to care for those who asked a CoreDNS pod that is gone.
    pub(super) fn wanted_after(&self) -> Wanted {
        Wanted { pods: Vec::new(), flows_to: self.services() }
    }

    /// Entries over UDP that lead to an address that was a CoreDNS pod's and is none any more.
    pub(super) fn changes_after(&self, gone: &BTreeSet<IpAddr>, seen: &Seen) -> Result<Vec<Change>, Why> {
        let changes = self.flows(seen, |flow| gone.contains(&flow.reply.source.ip()))?;
        if changes.is_empty() { Err(NOT_SO.to_owned()) } else { Ok(changes) }
    }

    fn services(&self) -> Vec<SocketAddr> {
        let service = self.targets.service.iter();
        let port = |s: &nameward_messages::targets::DnsService| s.udp_port.as_ref().map(|p| p.port);
        service.flat_map(|s| s.cluster_ips.iter().filter_map(move |ip| Some(SocketAddr::new(*ip, port(s)?)))).collect()
    }

    /// Entries over UDP of those who asked the Service that lead to no CoreDNS pod of today. Ready or not: one that ceased to
    /// be ready is still what the entry means.
    fn flows(&self, seen: &Seen, meant: impl Fn(&FlowId) -> bool) -> Result<Vec<Change>, Why> {
        let found = read(&seen.flows, "conntrack")?;
        let living: BTreeSet<IpAddr> = self.targets.pods.iter().flat_map(|pod| pod.ips.iter().copied()).collect();
        if !self.targets.pods.iter().any(|pod| pod.ready) {
            return Err("no CoreDNS pod is known to be ready: which address is dead cannot be told".to_owned());
        }
        let services = self.services();
        let dead = |flow: &&FlowId| {
            services.contains(&flow.original.destination)
                && (flow.reply.source == flow.original.destination || !living.contains(&flow.reply.source.ip()))
        };
        let flows: Vec<FlowId> =
            found.iter().filter(|flow| dead(flow) && meant(flow)).take(MAX_FLOWS).copied().collect();
        Ok(if flows.is_empty() { Vec::new() } else { vec![Change::DropFlows { flows }] })
    }
}

/// Why a repair is not needed any more.
pub(super) const NOT_SO: &str = "what was judged is not so any more";

fn read<'a, T>(reading: &'a Reading<T>, what: &str) -> Result<&'a T, Why> {
    reading.value().ok_or_else(|| format!("{what} cannot be read: {}", reading.missing().unwrap_or_default()))
}

fn id(link: &Link) -> LinkId {
    LinkId { index: link.index, name: link.name.clone() }
}

/// The pod's links, and the one of them that has the address that was recorded.
fn inside<'a>(seen: &'a Seen, namespace: &Namespace) -> Result<(&'a Topology, &'a Link), Why> {
    let reading = seen.pods.get(&namespace.pod).ok_or("the pod was not read")?;
    let topology = read(reading, "the pod's links")?;
    let own = topology.addresses.iter().find(|a| namespace.ips.contains(&a.ip)).and_then(|a| topology.link_at(a.link));
    let own =
        own.filter(|link| link.name != "lo").ok_or("no link of the pod has the address that was recorded for it")?;
    Ok((topology, own))
}

/// The host end of the pod's veth pair, by its recorded name and by the pod's own word.
fn host_end<'a>(seen: &'a Seen, namespace: &Namespace, own: &Link) -> Result<&'a Link, Why> {
    let host = read(&seen.host, "the host's links")?;
    let name = namespace.host_veth.as_deref().ok_or("no CNI result names the host end of its veth pair")?;
    let veth = host.link(name).ok_or_else(|| format!("there is no link {name}"))?;
    match own.peer {
        Some(peer) if peer != veth.index => Err(format!("{name} is not the other end of the pod's link any more")),
        _ if veth.kind.as_deref() != Some("veth") => Err(format!("{name} is no veth")),
        _ => Ok(veth),
    }
}

fn bridge<'a>(seen: &'a Seen, name: &str) -> Result<&'a Link, Why> {
    let link = read(&seen.host, "the host's links")?.link(name).ok_or_else(|| format!("there is no link {name}"))?;
    if link.kind.as_deref() == Some("bridge") { Ok(link) } else { Err(format!("{name} is no bridge")) }
}

/// A gateway is the node's, and on the network of the pod's link.
fn usable(seen: &Seen, inside: &Topology, own: &Link, gateway: Ipv4Addr) -> Result<(), Why> {
    let host = read(&seen.host, "the host's addresses")?;
    if !host.addresses.iter().any(|a| a.ip == IpAddr::V4(gateway)) {
        return Err(format!("{gateway}, the gateway that was recorded, is no address of the node"));
    }
    let on_link = inside.addresses.iter().any(|a| a.link == own.index && same_network(a.ip, gateway.into(), a.prefix));
    if on_link { Ok(()) } else { Err(format!("{gateway}, the gateway that was recorded, is not on the pod's network")) }
}

/// The bridge's address: the gateway that every pod on it was given, in the network that every pod on it has.
fn address(seen: &Seen, link: &Link, on_it: &[&Namespace], gateways: &BTreeSet<IpAddr>) -> Result<Change, Why> {
    let mut all = gateways.iter();
    let (Some(IpAddr::V4(gateway)), None) = (all.next(), all.next()) else {
        return Err("the CNI results of its pods name several gateways".to_owned());
    };
    let prefixes: BTreeSet<u8> = on_it
        .iter()
        .filter_map(|namespace| seen.pods.get(&namespace.pod)?.value().map(|t| (namespace, t)))
        .flat_map(|(namespace, t)| t.addresses.iter().filter(|a| namespace.ips.contains(&a.ip)))
        .filter(|a| a.ip.is_ipv4() && same_network(a.ip, IpAddr::V4(*gateway), a.prefix))
        .map(|a| a.prefix)
        .collect();
    let mut all = prefixes.into_iter();
    match (all.next(), all.next()) {
        (Some(prefix), None) => Ok(Change::BridgeAddress { bridge: id(link), ip: *gateway, prefix }),
        (None, _) => Err("the prefix of the pods' network is not known: none of its pods can be read".to_owned()),
        (Some(_), Some(_)) => Err("its pods have networks of several sizes".to_owned()),
    }
}

fn bridge_filter(seen: &Seen) -> Result<Vec<Change>, Why> {
    match read(&seen.sysctls, "the sysctls")?.bridge_nf_call_iptables {
        Some(1) => Ok(Vec::new()),
        Some(_) => Ok(vec![Change::Sysctl { name: Sysctl::BridgeNfCallIptables, value: 1 }]),
        None => Err("br_netfilter is not loaded: loading a module is left to a person".to_owned()),
    }
}

/// Loose (2) on those links that lead to other nodes and are strict.
fn reverse_path(seen: &Seen) -> Result<Vec<Change>, Why> {
    let (host, sysctls) = (read(&seen.host, "the host's links")?, read(&seen.sysctls, "the sysctls")?);
    let uplinks: Vec<&Link> = host.uplinks().collect();
    if uplinks.len() < 2 {
        return Ok(Vec::new());
    }
    let strict = uplinks.iter().filter(|l| setting(sysctls, &l.name) == 1);
    few(strict.map(|l| Change::Sysctl { name: Sysctl::RpFilter(l.name.clone()), value: 2 }))
}

/// The greater of `all` and the link's own counts (`Documentation/networking/ip-sysctl.rst`).
fn setting(sysctls: &Sysctls, link: &str) -> i64 {
    sysctls.rp_filter_all.unwrap_or_default().max(sysctls.rp_filter.get(link).copied().unwrap_or_default())
}

fn few(changes: impl Iterator<Item = Change>) -> Result<Vec<Change>, Why> {
    let changes: Vec<Change> = changes.take(DEVICES + 1).collect();
    if changes.len() > DEVICES {
        return Err(format!("more than {DEVICES} devices are concerned: a person looks first"));
    }
    Ok(changes)
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            prefix == 0 || (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(prefix)
        }
        _ => false,
    }
}
