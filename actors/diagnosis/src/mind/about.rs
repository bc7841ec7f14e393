//! What to read for a command that asks about certain pods, whether they fail or not.

use std::net::SocketAddr;

use nameward_messages::PodUid;

use super::DiagnosisMind;
use super::asking::{HEALTH_PORT, Want, WantPod};

impl DiagnosisMind {
    /// What to read for the paths that fail now, and of these pods and the node's packet filters in any case.
    #[must_use]
    pub fn want_about(&self, id: u64, pods: &[PodUid]) -> Want {
        let mut want = self.want(id);
        want.netfilter = true;
        for uid in pods {
            let Some(namespace) = self.namespaces.get(uid).filter(|_| !want.pods.iter().any(|p| &p.uid == uid)) else {
                continue;
            };
            let dns = self.targets.pods.iter().find(|p| &p.uid == uid && p.node.as_ref() == Some(&self.node));
            want.pods.push(WantPod {
                uid: uid.clone(),
                key: namespace.key.clone(),
                path: namespace.path.clone(),
                health: dns.and_then(|pod| pod.ips.first()).map(|ip| SocketAddr::new(*ip, HEALTH_PORT)),
                filters: true,
            });
        }
        want
    }
}
