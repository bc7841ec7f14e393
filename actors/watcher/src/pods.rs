//! This node's pods: what changed since it was told.

use std::collections::BTreeMap;

use nameward_cluster::names::IGNORE;
use nameward_cluster::wire::Pod;
use nameward_messages::PodUid;
use nameward_messages::pods::{DnsPolicy, HostNetworkPod, LocalPod, PodChanged};

use crate::input::Snapshot;

/// The pods as told.
#[derive(Debug, Default)]
pub(crate) struct LocalPods {
    told: BTreeMap<PodUid, LocalPod>,
    synced: bool,
}

impl LocalPods {
    /// What changed: pods that went first (a name may come back under another uid), then those that came or changed.
    pub(crate) fn changes(&mut self, pods: &Snapshot<Pod>, ignored: &[String]) -> Vec<PodChanged> {
        let now: BTreeMap<PodUid, LocalPod> =
            pods.values().map(|pod| local(pod, ignored)).map(|pod| (pod.uid.clone(), pod)).collect();
        let mut changes: Vec<PodChanged> =
            self.told.keys().filter(|uid| !now.contains_key(*uid)).cloned().map(PodChanged::Gone).collect();
        let changed = now.values().filter(|pod| self.told.get(&pod.uid) != Some(*pod));
        changes.extend(changed.cloned().map(PodChanged::Applied));
        if !self.synced {
            self.synced = true;
            changes.push(PodChanged::Synced);
        }
        self.told = now;
        changes
    }
}

/// Most host-network pods that are told of.
pub(crate) const MOST_MISFITS: usize = 32;

/// A pod that gets the node's resolver and is told a name of the cluster.
pub(crate) fn misfit(pod: &Pod, ignored: &[String]) -> Option<HostNetworkPod> {
    let known = local(pod, ignored);
    let concerned = known.host_network
        && known.dns_policy == DnsPolicy::ClusterFirst
        && known.running
        && !known.terminating
        && !known.ignored;
    let mut told = pod.spec.containers.iter().filter(|_| concerned);
    let (container, name) = told.find_map(|c| Some((c.name.clone(), c.names_cluster()?.to_owned())))?;
    let (uid, key, dns_nameservers) = (known.uid, known.key, known.dns_nameservers);
    Some(HostNetworkPod { uid, key, dns_nameservers, container, name })
}

/// A pod, reduced; `ignored` are the namespaces that are left alone.
fn local(pod: &Pod, ignored: &[String]) -> LocalPod {
    let (spec, status) = (&pod.spec, &pod.status);
    LocalPod {
        uid: PodUid(pod.metadata.uid.clone()),
        key: pod.metadata.key(),
        ips: status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect(),
        host_network: spec.host_network,
        dns_policy: match spec.dns_policy.as_deref() {
            Some("ClusterFirstWithHostNet") => DnsPolicy::ClusterFirstWithHostNet,
            Some("Default") => DnsPolicy::Default,
            Some("None") => DnsPolicy::None,
            _ => DnsPolicy::ClusterFirst,
        },
        dns_nameservers: spec.dns_config.nameservers.iter().filter_map(|ip| ip.parse().ok()).collect(),
        running: status.phase == "Running",
        terminating: pod.metadata.deletion_timestamp.is_some(),
        ignored: pod.metadata.flagged(IGNORE) || ignored.contains(&pod.metadata.namespace),
    }
}
