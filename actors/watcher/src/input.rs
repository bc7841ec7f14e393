//! What the watcher is told.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nameward_cluster::wire::{
    AgentObject, Budget, ConfigMap, DaemonSet, Deployment, EndpointSlice, IncidentObject, NamespaceObject, NodeObject,
    Pod, Service,
};

/// What one watch holds, by name (`namespace/name` where names may repeat).
pub type Snapshot<T> = Arc<BTreeMap<String, Arc<T>>>;

/// Which parts of the work this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One node.
    Agent,
    /// Across nodes.
    Coordinator,
    /// Both.
    All,
}

impl Role {
    /// Whether it works for its own node.
    #[must_use]
    pub fn agent(self) -> bool {
        matches!(self, Self::Agent | Self::All)
    }

    /// Whether it judges across nodes.
    #[must_use]
    pub fn coordinator(self) -> bool {
        matches!(self, Self::Coordinator | Self::All)
    }

    /// The watches that it needs.
    pub fn watches(self) -> impl Iterator<Item = Watch> {
        Watch::ALL.into_iter().filter(move |watch| match watch {
            Watch::LocalPods | Watch::OwnAgent => self.agent(),
            Watch::Service | Watch::Slices | Watch::Policy => true,
            Watch::DnsPods
            | Watch::Workload
            | Watch::Budgets
            | Watch::Nodes
            | Watch::Namespaces
            | Watch::Agents
            | Watch::Incidents => self.coordinator(),
        })
    }
}

/// The watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// Pods of this node.
    LocalPods,
    /// The DNS Service.
    Service,
    /// Its EndpointSlices.
    Slices,
    /// This node's NodeAgent.
    OwnAgent,
    /// The policy ConfigMap.
    Policy,
    /// The pods behind the DNS Service.
    DnsPods,
    /// Deployments (or DaemonSets) in its namespace.
    Workload,
    /// Disruption budgets in its namespace.
    Budgets,
    /// Nodes, by their metadata.
    Nodes,
    /// Namespaces, by their metadata.
    Namespaces,
    /// All NodeAgents.
    Agents,
    /// All DnsIncidents.
    Incidents,
}

impl Watch {
    /// Every watch.
    pub const ALL: [Self; 12] = [
        Self::LocalPods,
        Self::Service,
        Self::Slices,
        Self::OwnAgent,
        Self::Policy,
        Self::DnsPods,
        Self::Workload,
        Self::Budgets,
        Self::Nodes,
        Self::Namespaces,
        Self::Agents,
        Self::Incidents,
    ];

    /// For people and for merge keys.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::LocalPods => "pods of this node",
            Self::Service => "DNS Service",
            Self::Slices => "EndpointSlices of the DNS Service",
            Self::OwnAgent => "NodeAgent of this node",
            Self::Policy => "policy ConfigMap",
            Self::DnsPods => "CoreDNS pods",
            Self::Workload => "DNS workload",
            Self::Budgets => "disruption budgets",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
            Self::Agents => "NodeAgents",
            Self::Incidents => "DnsIncidents",
        }
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Whether a watch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The API server accepted it.
    Good,
    /// It does not stand; why.
    Lost(String),
}

/// What the watcher is told. Every snapshot is complete when it is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Pods of this node.
    LocalPods(Snapshot<Pod>),
    /// The DNS Service: one or none.
    Service(Snapshot<Service>),
    /// Its slices.
    Slices(Snapshot<EndpointSlice>),
    /// This node's NodeAgent: one or none.
    OwnAgent(Snapshot<AgentObject>),
    /// The policy ConfigMap: one or none.
    Policy(Snapshot<ConfigMap>),
    /// The pods behind the DNS Service.
    DnsPods(Snapshot<Pod>),
    /// Deployments in its namespace.
    Deployments(Snapshot<Deployment>),
    /// DaemonSets in its namespace, where CoreDNS is one.
    DaemonSets(Snapshot<DaemonSet>),
    /// Disruption budgets in its namespace.
    Budgets(Snapshot<Budget>),
    /// Nodes.
    Nodes(Snapshot<NodeObject>),
    /// Namespaces: which are to be left alone.
    Namespaces(Snapshot<NamespaceObject>),
    /// All NodeAgents.
    Agents(Snapshot<AgentObject>),
    /// All DnsIncidents.
    Incidents(Snapshot<IncidentObject>),
    /// `default/kubernetes` as read from time to time: cluster addresses and the endpoints behind them.
    Kubernetes {
        /// `spec.clusterIPs`.
        service: Vec<IpAddr>,
        /// `address:port` of the API server.
        endpoints: Vec<SocketAddr>,
    },
    /// A watch stands or is lost.
    Link(Watch, Link),
    /// Cluster DNS has not been found; why.
    NotFound(String),
    /// The configuration changed.
    Settings(Settings),
    /// Time passed.
    Tick,
}

/// What of the configuration matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The cluster domain; empty: `cluster.local`.
    pub cluster_domain: String,
    /// Overrides the slices' UDP port when not 0.
    pub udp_port: u16,
    /// Overrides the slices' TCP port when not 0.
    pub tcp_port: u16,
    /// `namespace/name` of the DNS workload; empty: found.
    pub workload: String,
}

impl Settings {
    /// From the configuration.
    #[must_use]
    pub fn of(config: &nameward_config::Config) -> Self {
        let discovery = &config.discovery;
        Self {
            cluster_domain: discovery.cluster_domain.trim_end_matches('.').to_owned(),
            udp_port: discovery.udp_port,
            tcp_port: discovery.tcp_port,
            workload: discovery.workload.trim().to_owned(),
        }
    }
}
