//! The steps over links: out of a pod's namespace, over the bridge, into another pod's.

use std::net::IpAddr;

use nameward_kernel::facts::{Link, Topology};
use nameward_messages::namespaces::Namespace;
use nameward_messages::targets::DnsPod;

use super::rules::{self, Trip};
use super::{Hop, Known, Passes, Step, Steps, link_state, routes};
use crate::record::PodReadings;

/// From the pod to where the node takes over.
pub(super) fn out_of(known: &Known<'_>, namespace: &Namespace, trip: &Trip, to: IpAddr, steps: &mut Steps) {
    let at = namespace.key.to_string();
    let Some(own) = known.own() else {
        steps.add(Step::new(Hop::Namespace, at, Passes::Unknown, "its namespace was not read"));
        return;
    };
    let Some(topology) = own.topology.value() else {
        steps.add(Step::unread(Hop::Namespace, at, &own.topology));
        return;
    };
    let route = routes::find(topology, to);
    let link = route.and_then(|r| topology.link_at(r.out_link?)).or_else(|| outer(topology));
    let addresses: Vec<String> = topology
        .addresses
        .iter()
        .filter(|a| link.is_some_and(|link| link.index == a.link))
        .map(|a| format!("{}/{}", a.ip, a.prefix))
        .collect();
    match link {
        None => steps.add(Step::new(Hop::Namespace, at.clone(), Passes::No, "has no link but lo")),
        Some(link) => {
            let trouble = link_state(link);
            let says = format!(
                "{} {} with {}, mtu {}",
                link.name,
                trouble.unwrap_or("is up"),
                if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") },
                link.mtu
            );
            let passes = if trouble.is_some() || addresses.is_empty() { Passes::No } else { Passes::Yes };
            steps.add(Step::new(Hop::Namespace, at.clone(), passes, says));
        }
    }
    steps.add(routes::step(topology, to, &at));
    rules::own(known, &own.filters, topology, trip, steps);
    if namespace.ips.contains(&to) {
        return;
    }
    let Some(host) = known.host() else {
        steps.add(Step::unread(Hop::Veth, known.node.to_string(), &known.sample.host.topology));
        return;
    };
    match host_end(host, topology, namespace) {
        Some(veth) => {
            let gateway = route.and_then(|route| route.gateway).or(namespace.gateway);
            port(host, veth, &at, gateway, steps);
        }
        None => steps.add(Step::new(
            Hop::Veth,
            known.node.to_string(),
            Passes::Unknown,
            format!("the host end of {at} is not known"),
        )),
    }
}

/// The host end of a pod's veth pair, and the bridge that it is on, or that its gateway is.
fn port(host: &Topology, veth: &Link, of: &str, gateway: Option<IpAddr>, steps: &mut Steps) {
    let on_bridge = veth.master.and_then(|index| host.link_at(index));
    let is_bridge = |index: u32| host.link_at(index).filter(|link| link.kind.as_deref() == Some("bridge"));
    let meant = host.addresses.iter().filter(|a| Some(a.ip) == gateway).find_map(|a| is_bridge(a.link));
    let (passes, says) = match (link_state(veth), on_bridge, meant) {
        (Some(trouble), ..) => (Passes::No, format!("host end of {of}, {trouble}")),
        (None, Some(bridge), _) => (Passes::Yes, format!("host end of {of}, on {}", bridge.name)),
        (None, None, Some(bridge)) => {
            (Passes::No, format!("host end of {of}, on no bridge, while its gateway is {}", bridge.name))
        }
        (None, None, None) => (Passes::Yes, format!("host end of {of}, on no bridge")),
    };
    steps.add(Step::new(Hop::Veth, veth.name.clone(), passes, says));
    let Some(bridge) = on_bridge else { return };
    let state = veth.port.map(|port| (port.state, port.isolated));
    let (passes, says) = match (link_state(bridge), state) {
        (Some(trouble), _) => (Passes::No, trouble.to_owned()),
        (None, Some((state @ (0 | 4), _))) => {
            let name = if state == 0 { "disabled" } else { "blocking" };
            (Passes::No, format!("port {} is {name}", veth.name))
        }
        (None, port) => {
            let addresses: Vec<String> = host
                .addresses
                .iter()
                .filter(|a| a.link == bridge.index)
                .map(|a| format!("{}/{}", a.ip, a.prefix))
                .collect();
            let own = if addresses.is_empty() { "without an address".to_owned() } else { addresses.join(", ") };
            let isolated = if port.is_some_and(|(_, isolated)| isolated) { ", port isolated" } else { "" };
            (Passes::Yes, format!("forwards; {own}{isolated}"))
        }
    };
    steps.add(Step::new(Hop::Bridge, bridge.name.clone(), passes, says));
}

/// Over the bridge into a CoreDNS pod of this node.
pub(super) fn into(known: &Known<'_>, pod: &DnsPod, readings: &PodReadings, steps: &mut Steps) {
    let (Some(host), Some(topology)) = (known.host(), readings.topology.value()) else { return };
    let veth = outer(topology).and_then(|link| host.link_at(link.peer?));
    if let Some(veth) = veth {
        port(host, veth, &pod.key.to_string(), None, steps);
    }
    if let Some(trouble) = outer(topology).and_then(link_state) {
        steps.add(Step::new(Hop::FarEnd, pod.key.to_string(), Passes::No, format!("eth0 {trouble}")));
    }
}

/// The node's switches for forwarding.
pub(super) fn forwarding(known: &Known<'_>, steps: &mut Steps) {
    let at = format!("{} sysctls", known.node);
    let Some(sysctls) = known.sample.host.sysctls.value() else {
        steps.add(Step::unread(Hop::Forwarding, at, &known.sample.host.sysctls));
        return;
    };
    match sysctls.ip_forward {
        Some(0) => steps.add(Step::new(Hop::Forwarding, at, Passes::No, "net.ipv4.ip_forward is 0")),
        Some(n) => steps.add(Step::new(Hop::Forwarding, at, Passes::Yes, format!("net.ipv4.ip_forward is {n}"))),
        None => steps.add(Step::new(Hop::Forwarding, at, Passes::Unknown, "net.ipv4.ip_forward is not there")),
    }
}

/// The device that the node's rules see a pod's packets come in by: its bridge, else its veth.
pub(super) fn enters_by(known: &Known<'_>, namespace: &Namespace) -> Option<String> {
    let host = known.host();
    let veth = host.and_then(|host| host_end(host, known.own()?.topology.value()?, namespace));
    let master = veth.and_then(|veth| host?.link_at(veth.master?)).map(|bridge| bridge.name.clone());
    let named = || namespace.bridge.clone().or_else(|| namespace.host_veth.clone());
    master.or_else(|| veth.map(|veth| veth.name.clone())).or_else(named)
}

/// Whether what the pod sends to an address stays on its bridge.
pub(super) fn bridged(known: &Known<'_>, to: IpAddr) -> bool {
    let Some(host) = known.host() else { return false };
    let Some(own) = known.namespace.and_then(|namespace| enters_by(known, namespace)) else { return false };
    let link = routes::find(host, to).filter(|route| route.gateway.is_none()).and_then(|r| host.link_at(r.out_link?));
    link.is_some_and(|link| link.name == own && link.kind.as_deref() == Some("bridge"))
}

/// Whether packets on a bridge bypass iptables.
pub(super) fn bridge_filter_off(known: &Known<'_>) -> bool {
    known.sample.host.sysctls.value().is_some_and(|sysctls| sysctls.bridge_nf_call_iptables != Some(1))
}

/// By the pod's own word (its peer's index), else by the CNI result's.
fn host_end<'a>(host: &'a Topology, pod: &Topology, namespace: &Namespace) -> Option<&'a Link> {
    let by_pod = outer(pod).and_then(|own| host.link_at(own.peer?));
    by_pod
        .filter(|link| link.kind.as_deref().is_none_or(|kind| kind == "veth"))
        .or_else(|| host.link(namespace.host_veth.as_deref()?))
}

/// The pod's link to the outside.
fn outer(topology: &Topology) -> Option<&Link> {
    let veth = topology.links.iter().find(|link| link.kind.as_deref() == Some("veth") || link.name == "eth0");
    veth.or_else(|| topology.links.iter().find(|link| link.name != "lo"))
}
