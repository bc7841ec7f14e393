//! Names that Nameward gives to things in a cluster.

/// The API group of the custom resources.
pub const GROUP: &str = "nameward.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";
/// Our field manager, and the reporting controller of Events.
pub const MANAGER: &str = "nameward";
/// The ConfigMap that holds the kill switch, in the configured namespace.
pub const POLICY: &str = "nameward-policy";
/// Its key: `"true"` stops every change to cluster and nodes.
pub const POLICY_PAUSED: &str = "paused";
/// The annotation that takes a pod out of probing.
pub const IGNORE: &str = "nameward.dev/ignore";
/// The annotation that stops shared remedies on a workload.
pub const PAUSED: &str = "nameward.dev/paused";
/// The opt-in condition of nodes.
pub const DNS_CONDITION: &str = "ClusterDNSHealthy";
/// The label by which EndpointSlices name their Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// `User-Agent` of every request.
pub const USER_AGENT: &str = concat!("nameward/", env!("CARGO_PKG_VERSION"));
