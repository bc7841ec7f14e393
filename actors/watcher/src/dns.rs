//! What is to be probed.

use std::net::{IpAddr, SocketAddr};

use nameward_cluster::discovery;
use nameward_cluster::wire::{EndpointSlice, Pod, Service};
use nameward_messages::targets::Targets;

use crate::input::{Settings, Snapshot};

/// What targets are made of.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    pub(crate) service: Option<Snapshot<Service>>,
    pub(crate) slices: Option<Snapshot<EndpointSlice>>,
    pub(crate) kubernetes: (Vec<IpAddr>, Vec<SocketAddr>),
}

impl Dns {
    /// The targets, once Service and slices are known.
    pub(crate) fn targets(&self, settings: &Settings) -> Option<Targets> {
        let service = self.service.as_ref()?.values().next().map(|service| discovery::dns_service(service));
        let slices = self.slices.as_ref()?;
        let pods = service.as_ref().map_or_else(Vec::new, |service| {
            discovery::dns_pods(slices.values().map(AsRef::as_ref), service, settings.udp_port, settings.tcp_port)
        });
        let domain = if settings.cluster_domain.is_empty() { "cluster.local" } else { &settings.cluster_domain };
        Some(Targets {
            service,
            pods,
            cluster_domain: domain.to_owned(),
            kubernetes_service: self.kubernetes.0.clone(),
            api_endpoints: self.kubernetes.1.clone(),
        })
    }

    /// Whether a pod is one of cluster DNS: by the Service's selector, or as one of its endpoints.
    pub(crate) fn serves(&self, pod: &Pod, targets: Option<&Targets>) -> bool {
        let service = self.service.as_ref().and_then(|found| found.values().next());
        let selected = service.is_some_and(|service| {
            let selector = &service.spec.selector;
            let labels = &pod.metadata.labels;
            service.metadata.namespace == pod.metadata.namespace
                && !selector.is_empty()
                && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        });
        selected || targets.is_some_and(|targets| targets.pods.iter().any(|dns| dns.uid.0 == pod.metadata.uid))
    }
}
