//! The lab: a small cluster made of real network namespaces, on which the real agent runs.
//!
//! ```text
//!             wire 172.30.0.0/24 (a bridge)
//!   ┌──────────────┬────────────────┬───────────────┐
//!  control .254   node1 .11        node2 .12        …
//!  API server,     cni0 10.244.1.1  cni0 10.244.2.1
//!  upstream DNS     ├ vethXXXXXXXX ─ eth0 of a pod
//!                   └ …
//! ```
//!
//! Told: a [`LabSpec`], pods to add and remove, [`NetFault`]s. Tells: paths and addresses of what it made, and
//! [`Snapshot`]s of what the kernel holds. Invariants:
//! - nothing outside the private namespaces of [`isolate`] is touched: building asks for its proof, [`Private`];
//! - what Nameward reads of a node is spelled as on a real one (routes, links, CNI cache, `resolv.conf`, holders), with the
//!   files of a node under [`node_folder`];
//! - a fault changes what its description says and nothing else, and its undo restores exactly that.

mod build;
mod cni;
mod error;
mod fault;
pub(crate) mod hidden;
mod hold;
mod isolate;
mod netns;
mod pods;
mod private;
mod services;
mod snapshot;
mod spec;
mod strays;

pub use self::build::{Lab, Node};
pub use self::error::LabError;
pub use self::fault::{Injected, NetFault};
pub(crate) use self::hidden::hidden;
pub use self::isolate::{IsolateError, Place, Private, isolate};
pub use self::netns::{Netns, path_of};
pub use self::pods::Pod;
pub use self::snapshot::{Snapshot, diff};
pub use self::spec::{
    CONTROL, Dns, LabSpec, POD_CIDR, PodSpec, Qos, SERVICE_CIDR, cni_results, netns_folder, node_address, node_folder,
    pod_address, sandboxes,
};
pub use self::strays::{Stray, strays};
