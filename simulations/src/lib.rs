//! The simulation: a small cluster on one machine, real where it matters, in which incidents are rehearsed.
//!
//! [`lab`] makes nodes and pods of network namespaces, [`proxy`] writes kube-proxy's rules into them, [`dns`] stands in for
//! CoreDNS and can be made to fail, [`apiserver`] speaks the Kubernetes API, [`machinery`] plays controllers and kubelet. The
//! processes under test are the real ones. [`runner`] carries out a [`scenario`] and tells a [`result`].
//!
//! Invariants:
//! - Nothing outside the simulation's own namespaces is touched, and killing any of its processes leaves nothing behind.
//! - What was done and what was changed is read from the API server's log and from the kernel, never from what the
//!   processes under test say.

pub mod apiserver;
mod client;
pub mod dns;
pub mod faults;
pub mod lab;
pub mod machinery;
pub mod proxy;
pub mod result;
pub mod runner;
pub mod scenario;

use std::ffi::OsString;
use std::process::ExitCode;

/// What `deploy/` gives to a cluster and the simulated API server enforces: custom resources, rights and admission policies.
pub const DEPLOYED: &[(&str, &str)] = &[
    ("deploy/crds/nodeagents.nameward.dev.yaml", include_str!("../../deploy/crds/nodeagents.nameward.dev.yaml")),
    ("deploy/crds/dnsincidents.nameward.dev.yaml", include_str!("../../deploy/crds/dnsincidents.nameward.dev.yaml")),
    ("deploy/rbac/agent.yaml", include_str!("../../deploy/rbac/agent.yaml")),
    ("deploy/rbac/coordinator.yaml", include_str!("../../deploy/rbac/coordinator.yaml")),
    ("deploy/admission/agent.yaml", include_str!("../../deploy/admission/agent.yaml")),
    ("deploy/admission/coordinator-pods.yaml", include_str!("../../deploy/admission/coordinator-pods.yaml")),
    ("deploy/admission/coordinator-workload.yaml", include_str!("../../deploy/admission/coordinator-workload.yaml")),
];

/// What `deploy/` gives besides, to those whose configuration has a setting: the table, the key, and the file.
pub const OPTED_IN: &[(&[&str], &str, &str)] = &[
    (
        &["coordinator", "node_condition"],
        "deploy/rbac/optional/node-condition.yaml",
        include_str!("../../deploy/rbac/optional/node-condition.yaml"),
    ),
    (
        &["metrics", "open_state"],
        "deploy/rbac/optional/status-page.yaml",
        include_str!("../../deploy/rbac/optional/status-page.yaml"),
    ),
    (
        &["remedy", "modes", "restart-kube-proxy"],
        "deploy/rbac/optional/restart-kube-proxy.yaml",
        include_str!("../../deploy/rbac/optional/restart-kube-proxy.yaml"),
    ),
];

/// Runs a hidden command (a pod's holder, a DNS server, a scenario) and gives back its exit code; `None` if these
/// arguments, with the program's name at 0, are none. Call it first in `main`, before any thread exists.
#[must_use]
pub fn hidden(args: &[OsString]) -> Option<ExitCode> {
    if args.get(1).is_some_and(|command| command == runner::SCENARIO) {
        return Some(runner::scenario(args.get(1..).unwrap_or_default()));
    }
    lab::hidden(args)
}
