//! What a node knows without the API: the CNI cache names pods and their namespaces, resolv.conf names servers.

use std::path::Path;

use nameward_kernel::enter::Netns;
use nameward_kernel::rtnl;
use nameward_messages::namespaces::{Namespace, NamespaceSource, Resolv};
use nameward_messages::pods::{DnsPolicy, LocalPod};
use nameward_messages::targets::Targets;
use nameward_messages::{NetnsCookie, ObjectKey};
use nameward_netns::{ScanRequest, WantedPod, Whose, pods_in_cache, scan};

use crate::wiring::Around;

/// The pods whose namespaces are here.
pub(super) async fn pods(around: &Around) -> Vec<(LocalPod, Namespace)> {
    let wanted = pods_in_cache(&around.config.netns).await;
    let request = ScanRequest { number: 1, pods: wanted.clone() };
    let found = scan(&around.pool, &around.config.netns, request).await;
    let owner = |whose: &Whose| -> Option<&WantedPod> {
        wanted.iter().find(|pod| match whose {
            Whose::Uid(uid) => *uid == pod.uid,
            Whose::Key(key) => *key == pod.key,
            Whose::Addresses => false,
        })
    };
    let known = found.sightings.iter().filter_map(|sighting| {
        let pod = owner(&sighting.whose)?;
        let local = LocalPod {
            uid: pod.uid.clone(),
            key: pod.key.clone(),
            ips: pod.ips.clone(),
            host_network: false,
            dns_policy: DnsPolicy::default(),
            dns_nameservers: Vec::new(),
            running: true,
            terminating: false,
            ignored: false,
        };
        Some((local, sighting.namespace_of(pod)))
    });
    known.collect()
}

/// A namespace of which nothing but its file is known.
pub(super) async fn by_file(around: &Around, path: &Path, cookie: NetnsCookie) -> Namespace {
    let within = around.config.diagnosis.collect_timeout.0;
    let read = match Netns::open(path) {
        Ok(netns) => rtnl::topology(&around.pool, &netns, within).await.value().cloned(),
        Err(_) => None,
    };
    let addresses = read.into_iter().flat_map(|topology| topology.addresses);
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Namespace {
        pod: path.display().to_string().as_str().into(),
        key: ObjectKey::new("netns", name),
        cookie,
        path: path.to_owned(),
        ips: addresses.map(|a| a.ip).filter(|ip| !ip.is_loopback()).collect(),
        gateway: None,
        host_veth: None,
        bridge: None,
        resolv: Resolv::default(),
        source: NamespaceSource::Folder,
    }
}

/// All that is known of the cluster without its API: the domain that the pod's search list names.
pub(super) fn targets(namespace: Option<&Namespace>) -> Targets {
    let search = namespace.map(|n| n.resolv.search.as_slice()).unwrap_or_default();
    let domain = search.iter().find_map(|s| s.trim_end_matches('.').strip_prefix("svc."));
    Targets { cluster_domain: domain.unwrap_or("cluster.local").to_owned(), ..Targets::default() }
}
