//! Which Service, which pods and which workload are cluster DNS, without settings on the usual distributions.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use nameward_messages::cluster_view::WorkloadKind;
use nameward_messages::targets::{DnsPod, DnsService, ServicePort};
use nameward_messages::{NodeName, ObjectKey, PodUid};

use crate::wire::{Endpoint, EndpointSlice, Pod, Service, SlicePort, Workload};

/// Where cluster DNS lives, most frequent first. Who keeps to which:
///
/// - `kube-system/kube-dns`, label `k8s-app=kube-dns`: kubeadm and kind (kubernetes/kubernetes
///   `cmd/kubeadm/app/phases/addons/dns/manifests.go`), k3s (k3s-io/k3s `manifests/coredns.yaml`), EKS (EKS user guide,
///   "Manage CoreDNS"), GKE (kubernetes/kubernetes `cluster/addons/dns`), AKS (AKS docs, "Customize CoreDNS").
/// - `kube-system/rke2-coredns-rke2-coredns`: RKE2 (rancher/rke2-charts `charts/rke2-coredns`, a Helm release of the
///   chart under its own name).
/// - `openshift-dns/dns-default`: OpenShift (openshift/cluster-dns-operator `pkg/operator/controller/names.go`); its pods
///   listen on 5353, its target ports are names and its workload is a DaemonSet.
pub const KNOWN: [(&str, &str); 3] =
    [("kube-system", "kube-dns"), ("kube-system", "rke2-coredns-rke2-coredns"), ("openshift-dns", "dns-default")];

/// The label of cluster DNS on nearly every distribution.
pub const LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// Carries [`LABEL`] too, but is the way of NodeLocal DNSCache to cluster DNS, not what pods ask
/// (kubernetes/kubernetes `cluster/addons/dns/nodelocaldns/nodelocaldns.yaml`).
const NOT_IT: &str = "kube-dns-upstream";

/// No Service looks like cluster DNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The configured one does not exist.
    #[error("there is no Service {0}, which discovery.service names; correct it, or empty it to have it found")]
    Configured(ObjectKey),
    /// `discovery.service` is not `namespace/name`.
    #[error("discovery.service is {0:?}, which is not of the form namespace/name")]
    Malformed(String),
    /// None was found.
    #[error(
        "no DNS Service found: tried {}, and label k8s-app=kube-dns; saw {saw}; set discovery.service to namespace/name",
        tried()
    )]
    NotFound {
        /// What was there.
        saw: String,
    },
    /// The label fits several and no name decides.
    #[error("several Services carry the label k8s-app=kube-dns: {0}; set discovery.service to one of them")]
    Ambiguous(String),
}

fn tried() -> String {
    KNOWN.map(|(namespace, name)| format!("{namespace}/{name}")).join(", ")
}

/// Parses `namespace/name`; empty is `None`.
///
/// # Errors
/// The text is neither empty nor of that form.
pub fn configured(text: &str) -> Result<Option<ObjectKey>, DiscoveryError> {
    match text.trim().split_once('/') {
        None if text.trim().is_empty() => Ok(None),
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Some(ObjectKey::new(namespace, name)))
        }
        _ => Err(DiscoveryError::Malformed(text.to_owned())),
    }
}

/// The DNS Service among those listed: the configured one, else a well-known one, else the only one with the label.
///
/// # Errors
/// None fits, or several do; the error says what was tried and what to set.
pub fn choose(services: &[Service], setting: Option<&ObjectKey>) -> Result<ObjectKey, DiscoveryError> {
    if let Some(key) = setting {
        let found = services.iter().any(|service| service.metadata.key() == *key);
        return if found { Ok(key.clone()) } else { Err(DiscoveryError::Configured(key.clone())) };
    }
    // One that has lost a port is cluster DNS still, and somebody must say what is wrong with it.
    let serves = |service: &&Service| {
        service.metadata.name != NOT_IT && [true, false].iter().any(|udp| dns_port(service, *udp).is_some())
    };
    let known = KNOWN.iter().find_map(|(namespace, name)| {
        services.iter().filter(serves).find(|s| s.metadata.namespace == *namespace && s.metadata.name == *name)
    });
    if let Some(service) = known {
        return Ok(service.metadata.key());
    }
    let mut labelled: Vec<ObjectKey> = services
        .iter()
        .filter(serves)
        .filter(|service| service.metadata.labels.get(LABEL.0).is_some_and(|value| value == LABEL.1))
        .map(|service| service.metadata.key())
        .collect();
    labelled.sort();
    labelled.dedup();
    match labelled.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let saw: Vec<String> = services.iter().take(8).map(|s| s.metadata.key().to_string()).collect();
            let saw = if saw.is_empty() { "no Service at all".to_owned() } else { saw.join(", ") };
            Err(DiscoveryError::NotFound { saw })
        }
        several => {
            Err(DiscoveryError::Ambiguous(several.iter().map(ObjectKey::to_string).collect::<Vec<_>>().join(", ")))
        }
    }
}

fn dns_port(service: &Service, udp: bool) -> Option<ServicePort> {
    let mut ports: Vec<_> =
        service.spec.ports.iter().filter(|port| if udp { port.udp() } else { port.tcp() }).collect();
    // Port 53 first, then a port that says dns; metrics ports are TCP and neither.
    ports.sort_by_key(|port| (port.port != 53, !port.name.contains("dns")));
    let best = ports.first().filter(|port| port.port == 53 || port.name.contains("dns"))?;
    Some(ServicePort { name: best.name.clone(), port: best.port })
}

/// The Service as probes need it.
#[must_use]
pub fn dns_service(service: &Service) -> DnsService {
    let spec = &service.spec;
    let mut cluster_ips: Vec<IpAddr> = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.parse::<IpAddr>());
    }
    DnsService {
        key: service.metadata.key(),
        cluster_ips,
        udp_port: dns_port(service, true),
        tcp_port: dns_port(service, false),
        internal_traffic_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
    }
}

/// The CoreDNS pods behind the Service: all slices of every address family merged by pod, sorted by name.
/// `udp_port` and `tcp_port` override the slices' ports when not 0.
#[must_use]
pub fn dns_pods<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    service: &DnsService,
    udp_port: u16,
    tcp_port: u16,
) -> Vec<DnsPod> {
    let set = |port: u16| (port != 0).then_some(port);
    let mut pods: BTreeMap<PodUid, DnsPod> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| slice.address_type != "FQDN") {
        let udp = set(udp_port).or_else(|| slice_port(&slice.ports, "UDP", service.udp_port.as_ref()));
        let tcp = set(tcp_port).or_else(|| slice_port(&slice.ports, "TCP", service.tcp_port.as_ref()));
        for endpoint in &slice.endpoints {
            let Some((uid, key)) = identity(endpoint, &service.key.namespace) else { continue };
            let pod = pods.entry(uid.clone()).or_insert_with(|| DnsPod {
                uid,
                key,
                node: endpoint.node_name.as_deref().map(NodeName::from),
                ips: Vec::new(),
                udp_port: udp,
                tcp_port: tcp,
                ready: false,
                terminating: false,
            });
            pod.ips.extend(endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()));
            // While slices are rewritten a pod may stand in two of them: the more hopeful one is the newer.
            pod.ready |= endpoint.conditions.ready.unwrap_or(true);
            pod.terminating |= endpoint.conditions.terminating.unwrap_or(false);
            pod.udp_port = pod.udp_port.or(udp);
            pod.tcp_port = pod.tcp_port.or(tcp);
        }
    }
    let mut pods: Vec<DnsPod> = pods.into_values().collect();
    for pod in &mut pods {
        pod.ips.sort();
        pod.ips.dedup();
    }
    pods.sort_by(|a, b| (&a.key, &a.uid).cmp(&(&b.key, &b.uid)));
    pods
}

/// Endpoints that somebody wrote by hand name no pod: they are known by their address.
fn identity(endpoint: &Endpoint, namespace: &str) -> Option<(PodUid, ObjectKey)> {
    match endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod" && !target.uid.is_empty()) {
        Some(pod) => Some((PodUid(pod.uid.clone()), ObjectKey::new(pod.namespace.clone(), pod.name.clone()))),
        None => {
            let address = endpoint.addresses.first()?;
            Some((PodUid(format!("address:{address}")), ObjectKey::new(namespace, address.clone())))
        }
    }
}

fn slice_port(ports: &[SlicePort], protocol: &str, wanted: Option<&ServicePort>) -> Option<u16> {
    let wanted = wanted?;
    let same = |port: &&SlicePort| port.protocol.as_deref().unwrap_or("TCP") == protocol;
    ports.iter().filter(same).find(|port| port.name == wanted.name)?.port
}

/// `address:port` of the API server, from the slices of `default/kubernetes`. Sorted.
#[must_use]
pub fn api_endpoints<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().find(|port| port.name == "https").or_else(|| slice.ports.first());
        let Some(port) = port.and_then(|port| port.port) else { continue };
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready.unwrap_or(true));
        let addresses = ready.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| address.parse().ok());
        all.extend(addresses.map(|ip: IpAddr| SocketAddr::new(ip, port)));
    }
    all.sort();
    all.dedup();
    all
}

/// The workload that a CoreDNS pod belongs to, by its controller. A ReplicaSet is named after its Deployment and the
/// pod's `pod-template-hash`, which saves the right to read ReplicaSets.
#[must_use]
pub fn workload_of(pod: &Pod) -> Option<(WorkloadKind, ObjectKey)> {
    let owner = pod.metadata.controller()?;
    let named = |name: &str| ObjectKey::new(pod.metadata.namespace.clone(), name);
    match owner.kind.as_str() {
        "DaemonSet" => Some((WorkloadKind::DaemonSet, named(&owner.name))),
        "ReplicaSet" => {
            let hash = pod.metadata.labels.get("pod-template-hash")?;
            let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            Some((WorkloadKind::Deployment, named(name)))
        }
        _ => None,
    }
}

/// The container that answers DNS: `coredns`, else the one that has UDP port 53, else the only one.
#[must_use]
pub fn dns_container(workload: &Workload) -> Option<&crate::wire::Container> {
    dns_container_among(&workload.spec.template.spec.containers)
}

/// The same among a pod's own containers.
#[must_use]
pub fn dns_container_among(containers: &[crate::wire::Container]) -> Option<&crate::wire::Container> {
    let only = if let [only] = containers { Some(only) } else { None };
    let udp = |container: &&crate::wire::Container| {
        container.ports.iter().any(|port| port.protocol == "UDP" && [53, 5353].contains(&port.container_port))
    };
    let named = containers.iter().find(|container| container.name == "coredns");
    named.or_else(|| containers.iter().find(udp)).or(only)
}

#[cfg(test)]
mod tests;
