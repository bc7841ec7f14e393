//! The vocabulary: every type that crosses a boundary between actors, in the order in which it flows.
//!
//! watch ([`pods`], [`targets`]) → discover ([`namespaces`]) → probe ([`probe`]) → diagnose ([`verdict`]) →
//! decide ([`report`], [`plan`]) → remedy ([`remedy`]) → report ([`health`], [`status`]).
//!
//! Nothing here does I/O or knows a runtime. What is written to the Kubernetes API (`report`, parts of `plan`)
//! has a JSON schema behind the feature `schema` and is kept flat: a custom resource is read by people.

pub mod causes;
pub mod cluster_view;
pub mod guarding;
pub mod health;
pub mod ids;
pub mod namespaces;
pub mod plan;
pub mod pods;
pub mod probe;
pub mod remedy;
pub mod report;
pub mod status;
pub mod targets;
pub mod text;
pub mod time;
pub mod verdict;
pub mod workload;

pub use ids::{NetnsCookie, NodeName, ObjectKey, PodUid, RequestId};
pub use time::{Mono, Now};
