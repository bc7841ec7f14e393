//! Which CoreDNS processes are to be read.

use std::net::SocketAddr;

use super::DiagnosisMind;
use crate::process::WantProcess;

/// The `kubernetes` Service listens here on every cluster (its port is fixed by the API server).
const API_PORT: u16 = 443;
/// API servers that are tried besides the Service.
const API_SERVERS: usize = 2;
/// CoreDNS processes of one node that are read.
const MOST: usize = 4;

impl DiagnosisMind {
    /// Those of this node: whatever fails, what they say of themselves tells where the queries got to.
    pub(super) fn processes(&self) -> Vec<WantProcess> {
        let local = self.targets.pods.iter().filter(|pod| pod.node.as_ref() == Some(&self.node));
        local
            .filter_map(|pod| {
                let namespace = self.namespaces.get(&pod.uid)?;
                let ip = *pod.ips.first()?;
                let service = self.targets.kubernetes_service.iter().find(|to| to.is_ipv4() == ip.is_ipv4());
                let service = service.map(|to| SocketAddr::new(*to, API_PORT));
                let servers = self.targets.api_endpoints.iter().filter(|to| to.is_ipv4() == ip.is_ipv4());
                Some(WantProcess {
                    uid: pod.uid.clone(),
                    path: namespace.path.clone(),
                    ip,
                    places: self.settings.places.clone(),
                    api: service.into_iter().chain(servers.take(API_SERVERS).copied()).collect(),
                })
            })
            .take(MOST)
            .collect()
    }
}
