//! What of links and routes is to be read beside the pods that are concerned.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use nameward_kernel::facts::FibQuery;
use nameward_messages::PodUid;

use super::DiagnosisMind;
use super::asking::WantPod;

/// Most pods whose addresses alone are read: more than any node's usual limit (110).
const MOST_OTHERS: usize = 256;
/// Most destinations that are looked up.
const MOST_LOOKUPS: usize = 32;

impl DiagnosisMind {
    /// The addresses of the Service and of every CoreDNS pod.
    pub(super) fn lookups(&self) -> Vec<FibQuery> {
        let service = self.targets.service.iter().flat_map(|s| &s.cluster_ips);
        let pods = self.targets.pods.iter().flat_map(|p| &p.ips);
        let mut all: Vec<IpAddr> = service.chain(pods).copied().collect();
        all.dedup();
        all.into_iter().take(MOST_LOOKUPS).map(FibQuery::to).collect()
    }

    /// What pods ask of CoreDNS pods of other nodes, as the node forwards it: from one pod of each bridge.
    pub(super) fn forwarded(&self) -> Vec<FibQuery> {
        let mut bridges: BTreeMap<&str, IpAddr> = BTreeMap::new();
        for namespace in self.namespaces.values() {
            let (Some(bridge), Some(ip)) = (&namespace.bridge, namespace.ips.iter().find(|ip| ip.is_ipv4())) else {
                continue;
            };
            bridges.entry(bridge).or_insert(*ip);
        }
        let remote = self.targets.pods.iter().filter(|p| p.node.as_ref().is_some_and(|node| *node != self.node));
        let to: Vec<IpAddr> = remote.flat_map(|p| &p.ips).copied().filter(IpAddr::is_ipv4).collect();
        bridges
            .into_iter()
            .flat_map(|(bridge, source)| {
                to.iter().map(move |ip| FibQuery {
                    source: Some(source),
                    iif: Some(bridge.to_owned()),
                    ..FibQuery::to(*ip)
                })
            })
            .take(MOST_LOOKUPS)
            .collect()
    }

    /// Pods of this node that are not read in full.
    pub(super) fn others(&self, read: &[WantPod]) -> Vec<(PodUid, PathBuf)> {
        self.namespaces
            .values()
            .filter(|n| !read.iter().any(|pod| pod.uid == n.pod))
            .take(MOST_OTHERS)
            .map(|n| (n.pod.clone(), n.path.clone()))
            .collect()
    }
}
