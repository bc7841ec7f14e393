//! Whose conntrack entries are to be read: the DNS Service's, those of other servers that pods name, and the upstreams'.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use nameward_messages::targets::TargetKind;

use super::DiagnosisMind;

/// Most destinations that are looked at.
const MOST: usize = 16;

impl DiagnosisMind {
    /// The Services that a judgement is about: kube-proxy's rules for others, of which a large cluster has tens of thousands,
    /// are not kept. Empty while the DNS Service is not known: then nothing is left out.
    pub(super) fn services(&self) -> BTreeSet<IpAddr> {
        let Some(service) = self.targets.service.as_ref().or(self.last_service.as_ref()) else {
            return BTreeSet::new();
        };
        let asked = self.matrix.suspected().map(|(path, _)| path.target.ip);
        service.cluster_ips.iter().chain(&self.targets.kubernetes_service).copied().chain(asked).collect()
    }

    /// Addresses and ports, the Service's first.
    pub(super) fn destinations(&self) -> Vec<SocketAddr> {
        let mut found: Vec<SocketAddr> = Vec::new();
        if let Some(service) = &self.targets.service {
            let ports: BTreeSet<u16> =
                [&service.udp_port, &service.tcp_port].into_iter().flatten().map(|port| port.port).collect();
            found
                .extend(service.cluster_ips.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port))));
        }
        let named = self
            .matrix
            .suspected()
            .filter(|(path, _)| matches!(path.target.kind, TargetKind::Nameserver))
            .map(|(path, state)| SocketAddr::new(path.target.ip, state.port));
        let local = self.targets.pods.iter().filter(|pod| pod.node.as_ref() == Some(&self.node));
        let upstreams = local
            .filter_map(|pod| self.namespaces.get(&pod.uid))
            .flat_map(|namespace| &namespace.resolv.nameservers)
            .filter(|ip| !ip.is_loopback())
            .map(|ip| SocketAddr::new(*ip, 53));
        found.extend(named.chain(upstreams));
        let mut seen = BTreeSet::new();
        found.retain(|destination| seen.insert(*destination));
        found.truncate(MOST);
        found
    }
}
