//! Which hooks a packet passes, by where it comes from and where it goes.

use std::net::IpAddr;

use super::walk::Walker;
use super::xtables::within;
use super::{Device, Filters, Hook, Packet, State, Walk};
use crate::facts::{RouteKind, Topology};

/// The main routing table, and that of the own addresses (`RT_TABLE_MAIN`, `RT_TABLE_LOCAL` of `linux/rtnetlink.h`).
const MAIN: u32 = 254;

/// What a namespace knows of addresses and devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ground<'a> {
    /// Its links, addresses and routes, if they were read.
    pub topology: Option<&'a Topology>,
}

impl Ground<'_> {
    /// Whether an address is one of the namespace's own; `None`: not known.
    #[must_use]
    pub fn is_local(&self, ip: IpAddr) -> Option<bool> {
        if ip.is_loopback() {
            return Some(true);
        }
        let topology = self.topology.filter(|t| !t.addresses.is_empty())?;
        Some(topology.addresses.iter().any(|a| a.ip == ip))
    }

    /// The device that a packet to an address leaves by, by the longest prefix of the main table.
    #[must_use]
    pub fn device_to(&self, ip: IpAddr) -> Device {
        if ip.is_loopback() {
            return Device::Named("lo".to_owned());
        }
        let Some(topology) = self.topology else { return Device::Unknown };
        let best = topology
            .routes
            .iter()
            .filter(|r| r.table == MAIN && r.v4 == ip.is_ipv4() && r.kind == RouteKind::Unicast)
            .filter(|r| r.destination.is_none_or(|(net, bits)| within(ip, net, u32::from(bits))))
            .max_by_key(|r| r.destination.map_or(0, |(_, bits)| u32::from(bits) + 1));
        best.and_then(|r| topology.link_at(r.out_link?))
            .map_or(Device::Unknown, |link| Device::Named(link.name.clone()))
    }
}

/// The way of a packet through a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It comes in by a device; routing decides whether it goes through or stays.
    Through {
        /// The device, or for a bridged packet the bridge.
        iif: Device,
    },
    /// It is sent by a socket of the namespace.
    Out,
    /// It comes in for a socket of the namespace.
    In {
        /// The device.
        iif: Device,
    },
}

/// Walks a packet through a namespace: one walk for each destination that it may be sent to.
#[must_use]
pub fn journey(filters: Filters<'_>, ground: Ground<'_>, way: &Way, mut packet: Packet) -> Vec<Walk> {
    let hooks: &[Hook] = match way {
        Way::Through { iif } => {
            packet.iif = iif.clone();
            &[Hook::Prerouting, Hook::Forward, Hook::Postrouting]
        }
        Way::Out => &[Hook::Output, Hook::Postrouting],
        Way::In { iif } => {
            packet.iif = iif.clone();
            &[Hook::Prerouting, Hook::Input]
        }
    };
    let mut walks = Vec::new();
    Walker::new(filters, ground, packet).go(hooks, &mut walks);
    walks
}

/// Walks the answer to a packet that got through, back the same way.
#[must_use]
pub fn answer(filters: Filters<'_>, ground: Ground<'_>, way: &Way, asked: &Walk) -> Option<Walk> {
    let there = &asked.packet;
    let back = Packet {
        source: there.destination,
        source_port: there.destination_port,
        destination: there.source,
        destination_port: there.source_port,
        state: State::Established,
        mark: Some(0),
        iif: Device::Unknown,
        oif: Device::Unknown,
        uid: None,
        ..there.clone()
    };
    let way = match way {
        Way::Through { .. } => Way::Through { iif: ground.device_to(back.source) },
        Way::Out => Way::In { iif: ground.device_to(back.source) },
        Way::In { .. } => Way::Out,
    };
    journey(filters, ground, &way, back).into_iter().next()
}
